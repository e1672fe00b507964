"""Why a model was chosen, in one sentence for whoever reads the log."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.account.records import Record
from routers.api import Choice

_OUT: Mapping[str, str] = {
    "not_allowed": "not allowed",
    "no_capability": "cannot do what is asked",
    "context_length": "its context window is too small",
    "max_cost": "dearer than the request allows",
    "budget": "dearer than the budget allows",
    "unhealthy": "out of service",
}
_REMEMBERED: Mapping[str, str] = {"hit": "; decided before, for the same prompt", "pin": "; decided before, in this conversation"}
MOST_NAMED = 4
"""Models that a sentence names of those that were out."""


def in_words(choice: Choice) -> str:
    """Why the policy chose whom it chose. Names models and scorers, and nothing that a plugin or a caller has written."""
    model, reason = choice.model, choice.reason
    if reason == "named":
        return f"the request names {model}"
    if reason == "only_candidate":
        said = f"{model} is the only candidate left"
    elif reason == "no_opinion":
        said = f"no scorer has an opinion, so the default {model} serves"
    elif reason == "deadline":
        said = f"deciding took too long, so the default {model} serves"
    elif reason == "policy_error":
        said = f"the policy failed, so the default {model} serves"
    elif reason == "pinned":
        said = f"the conversation stays with {model}"
    else:
        said = _by_score(choice)
    if choice.rejected:
        out = [f"{name}: {_OUT.get(why, 'a filter is against it')}" for name, why in choice.rejected.items()]
        said += f"; out are {', '.join(out[:MOST_NAMED])}" + (f" and {len(out) - MOST_NAMED} more" if len(out) > MOST_NAMED else "")
    if choice.errors:
        said += f"; without {', '.join(choice.errors)}, which failed"
    return said


def _by_score(choice: Choice) -> str:
    first, *others = choice.ranking
    if not others:
        return f"{first.name} scores {first.score:.3g}"
    best = max(others, key=lambda scored: scored.score)
    if best.score <= first.score:
        said = f"{first.name} scores {first.score:.3g}, {best.name} {best.score:.3g}"
    else:
        said = f"{first.name} was picked with {first.score:.3g}, though {best.name} scores {best.score:.3g}"
    if len(others) > 1:
        said += f", best of {len(choice.ranking)}" if best.score <= first.score else f", of {len(choice.ranking)}"
    return said if first.propensity is None else f"{said}; drawn with a chance of {first.propensity:.3g}"


def what_followed(record: Record) -> str:
    """What has to be added to the reason: where the choice came from, and who answered instead. Begins with "; ", or is empty."""
    decision = record.decision
    said = _REMEMBERED.get(decision.cache, "") if decision.route is not None else ""
    if decision.single is not None:
        said += f"; one call alone: {decision.single}"
    if record.planned is None and record.model is not None and record.model != decision.choice.model:
        said += f"; {record.model} answered in its place"
    return said
