"""A policy at work: filter, score, pick. One plugin's fault costs that plugin's opinion and nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeVar, cast

from routers.api import (
    Answer,
    Ask,
    Budget,
    Candidate,
    Choice,
    Encoder,
    Filter,
    Keeper,
    Learner,
    Need,
    NoCandidate,
    Opinion,
    Outcome,
    Pick,
    Picker,
    Planner,
    Reason,
    RouteRequest,
    Scored,
    Scorer,
    Task,
    Transcript,
)
from routers.expectation import expected_cost
from routers.scorers.cost import Cost

T = TypeVar("T")
Opinions = dict[str, dict[str, float]]
_ROUNDING = 1e-6
"""By so much the sum of a picker's chances may differ from 1."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """A scorer of a policy: under which name, and how much its opinion counts."""

    name: str
    scorer: Scorer
    weight: float = 1.0


class Policy:
    """How a route decides. `default`: serves when the policy itself cannot say. `encoder`: None unless a scorer reads embeddings.

    `needs`: what the scorers read beyond the counts. `instant`: a decision takes microseconds, so it may run on the event loop.
    `cacheable`: the same request would get the same choice a moment later. `artifacts`: hashes of what its scorers and its picker were
    loaded from.
    `learners`: its plugins that want to hear how it went, by name. `keepers`: those of them that keep what they learned.
    """

    __slots__ = (
        "artifacts",
        "cacheable",
        "default",
        "encoder",
        "filters",
        "instant",
        "keepers",
        "learners",
        "name",
        "needs",
        "picker",
        "planner",
        "revised",
        "scorers",
    )

    def __init__(
        self,
        name: str,
        filters: Sequence[tuple[str, Filter]],
        scorers: Sequence[Weighted],
        picker: Picker,
        planner: Planner,
        default: str,
        encoder: Encoder | None = None,
    ) -> None:
        self.name = name
        self.filters = tuple(filters)
        self.scorers = tuple(scorers)
        self.picker = picker
        self.planner = planner
        self.default = default
        self.encoder = encoder
        self.needs = frozenset[Need]().union(*(weighted.scorer.needs for weighted in scorers))
        self.instant = encoder is None and all(weighted.scorer.instant for weighted in scorers)
        self.cacheable = picker.deterministic and "load" not in self.needs
        loaded: list[object] = [*(weighted.scorer for weighted in scorers), picker, planner]
        self.artifacts = tuple(str(getattr(plugin, "artifact_hash", "")) for plugin in loaded)
        plugins: list[tuple[str, object]] = [*filters, *((w.name, w.scorer) for w in scorers), ("picker", picker), ("planner", planner)]
        hearing = [(name, plugin) for name, plugin in plugins if hasattr(plugin, "observe") and getattr(plugin, "learns", True)]
        self.learners: tuple[tuple[str, Learner], ...] = tuple((name, cast(Learner, plugin)) for name, plugin in hearing)
        self.keepers: tuple[tuple[str, Keeper], ...] = tuple((name, cast(Keeper, plugin)) for name, plugin in hearing if _keeps(plugin))
        self.revised: tuple[object, ...] = tuple(plugin for _, plugin in hearing if hasattr(plugin, "revision"))

    @property
    def revisions(self) -> tuple[str, ...]:
        """What was learned since the start, as far as opinions have changed by it."""
        return tuple(str(getattr(plugin, "revision", "")) for plugin in self.revised) if self.revised else ()

    def cost_weight(self, request: RouteRequest) -> float:
        """How much the opinion on cost counts in a decision on this request."""
        return sum(weighted.weight for weighted in _scorers(self, request) if weighted.scorer.predicts == "cost")

    def most_gain(self, request: RouteRequest) -> float:
        """No two candidates' scores are further apart than this."""
        return sum(weighted.weight for weighted in _scorers(self, request))


@dataclass(slots=True)
class _Notes:
    """What happened on the way to a choice."""

    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def call(self, name: str, plugin: Callable[[], T]) -> T | None:
        """What a plugin returns; None if it raises. The border of a plugin: nothing that it does may cost more than its opinion."""
        started = self.clock()
        try:
            return plugin()
        except Exception as error:
            self.errors[name] = f"raised {type(error).__name__}"
            return None
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self.clock() - started


def step(planner: Planner, task: Task, so_far: Transcript, left: Budget) -> Sequence[Ask] | Answer | None:
    """What a planner wants now; None if it broke, or wants what cannot be carried out."""
    wanted = _Notes(time.monotonic).call("planner", lambda: planner.next(task, so_far, left))
    if isinstance(wanted, Answer):
        return wanted if isinstance(wanted.text, str) else None
    if not isinstance(wanted, Sequence) or not all(isinstance(ask, Ask) and ask.models for ask in wanted):
        return None
    return None if len(wanted) > 1 and any(ask.final for ask in wanted) else wanted


def decide(
    policy: Policy, request: RouteRequest, candidates: Sequence[Candidate], rng: Random, clock: Callable[[], float], deadline: float
) -> Choice:
    """Who should serve. `deadline`: on `clock`, in seconds; past it the policy's default serves. Raises NoCandidate."""
    notes = _Notes(clock)
    left, rejected = _filter(policy, request, candidates, notes)
    if len(left) == 1:
        return _choice(policy, "only_candidate", [_unscored(request, left[0])], rejected, notes)
    opinions = _ask_scorers(policy, request, left, notes, deadline)
    if opinions is None:
        return _choice(policy, "deadline", _default_order(policy, request, left), rejected, notes)
    if not opinions:
        return _choice(policy, "no_opinion", _default_order(policy, request, left), rejected, notes)
    ranked = _rank(policy, request, left, opinions)
    picked = notes.call("picker", lambda: _checked_pick(policy.picker.pick(request, tuple(ranked), rng), ranked))
    if picked is None or isinstance(picked, str):
        notes.errors.setdefault("picker", picked or "returned something else than the candidates")
        return _choice(policy, "best_score", ranked, rejected, notes)
    shadow = None if picked.shadow is None else _shadow(picked.shadow, ranked, notes)
    return replace(_choice(policy, "best_score", picked, rejected, notes), shadow=shadow)


def rejection(policy: Policy, request: RouteRequest, candidate: Candidate) -> str | None:
    """Why a candidate must not serve; None if it may."""
    return _first_objection(policy, request, candidate, _Notes(time.perf_counter))


def tell(policy: Policy, outcome: Outcome) -> Mapping[str, str]:
    """Tells the policy's learners how a request went. Returns which of them failed, and how."""
    notes = _Notes(time.perf_counter)
    for name, learner in policy.learners:
        notes.call(name, lambda learner=learner: learner.observe(outcome))  # type: ignore[misc]
    return notes.errors


def default_choice(
    policy: Policy, request: RouteRequest, candidates: Sequence[Candidate], reason: Reason, clock: Callable[[], float]
) -> Choice:
    """The choice when the policy cannot say: its default, if it passes the filters, then the others, cheapest first. Raises NoCandidate."""
    notes = _Notes(clock)
    left, rejected = _filter(policy, request, candidates, notes)
    return _choice(policy, reason, _default_order(policy, request, left), rejected, notes)


def _keeps(plugin: object) -> bool:
    return hasattr(plugin, "keep") and hasattr(plugin, "snapshot_seconds")


def _choice(policy: Policy, reason: Reason, ranking: Sequence[Scored], rejected: Mapping[str, str], notes: _Notes) -> Choice:
    return Choice(policy.name, reason, tuple(ranking), rejected, notes.seconds, notes.errors)


def _filter(
    policy: Policy, request: RouteRequest, candidates: Sequence[Candidate], notes: _Notes
) -> tuple[list[Candidate], dict[str, str]]:
    """Who passes, and why the others do not: the first filter that objects names the reason."""
    left, rejected = [], {}
    for candidate in candidates:
        reason = _first_objection(policy, request, candidate, notes)
        if reason is None:
            left.append(candidate)
        else:
            rejected[candidate.name] = reason
    if not left:
        raise NoCandidate(rejected)
    return left, rejected


def _first_objection(policy: Policy, request: RouteRequest, candidate: Candidate, notes: _Notes) -> str | None:
    for name, rule in policy.filters:
        reason = notes.call(name, lambda rule=rule: rule.reject(request, candidate))  # type: ignore[misc]
        if reason is not None:
            return str(reason)
    return None


def _ask_scorers(policy: Policy, request: RouteRequest, candidates: Sequence[Candidate], notes: _Notes, deadline: float) -> Opinions | None:
    """Scorer -> model -> opinion, of those that have one; None if time ran out."""
    encoder = policy.encoder
    if encoder is not None:
        vectors = notes.call(encoder.name, lambda: encoder.encode([request.text]))
        if vectors is not None:
            request = replace(request, embedding=vectors[0])
    opinions: Opinions = {}
    for weighted in _scorers(policy, request):
        if notes.clock() > deadline:
            return None
        if "embedding" in weighted.scorer.needs and request.embedding is None:
            notes.errors[weighted.name] = "there is no embedding"
            continue
        found = notes.call(weighted.name, lambda scorer=weighted.scorer: _checked(scorer.score(request, candidates), candidates))  # type: ignore[misc]
        if isinstance(found, str):
            notes.errors[weighted.name] = found
        elif found:
            opinions[weighted.name] = found
    return None if notes.clock() > deadline else opinions


def _scorers(policy: Policy, request: RouteRequest) -> Sequence[Weighted]:
    """The policy's scorers, with the request's own `cost_weight` in place of the configured one."""
    weight = request.preferences.cost_weight
    if weight is None:
        return policy.scorers
    replaced = [Weighted(w.name, w.scorer, weight) if w.scorer.predicts == "cost" else w for w in policy.scorers]
    if not any(w.scorer.predicts == "cost" for w in replaced):
        replaced.append(Weighted("cost", Cost(), weight))
    return replaced


def _checked(opinion: object, candidates: Sequence[Candidate]) -> dict[str, float] | str:
    """An opinion clamped to [0, 1], or what is wrong with it."""
    if not isinstance(opinion, Mapping):
        return "returned no mapping"
    names = {candidate.name for candidate in candidates}
    checked: dict[str, float] = {}
    for name, value in opinion.items():
        if name not in names:
            return "named a model that is no candidate"
        if isinstance(value, str | bytes):
            return "returned a text instead of a number"
        number = float(value)
        if not math.isfinite(number):
            return "returned a number that is not finite"
        bounded = min(1.0, max(0.0, number))
        checked[name] = Opinion(bounded, value.spread) if isinstance(value, Opinion) else bounded
    return checked


def _rank(policy: Policy, request: RouteRequest, candidates: Sequence[Candidate], opinions: Opinions) -> list[Scored]:
    """Best first; of equals the cheaper, then the one that the route names first.

    Where a scorer has no opinion on a candidate, its mean over the others stands in: unknown is neither good nor bad.
    With `min_quality`, candidates that are expected to reach it come before those that are not.
    """
    scorers = [weighted for weighted in _scorers(policy, request) if weighted.name in opinions]
    means = {name: sum(found.values()) / len(found) for name, found in opinions.items()}
    ranked = []
    for candidate in candidates:
        own = {name: found[candidate.name] for name, found in opinions.items() if candidate.name in found}
        score = sum(weighted.weight * own.get(weighted.name, means[weighted.name]) for weighted in scorers)
        quality, uncertainty = _quality(scorers, own)
        plain = {name: float(value) for name, value in own.items()}
        ranked.append(Scored(candidate.name, score, plain, quality, expected_cost(request, candidate), uncertainty))
    floor = request.preferences.min_quality
    ranked.sort(key=lambda scored: (_misses(scored, floor), -scored.score, _known(scored.cost_usd)))
    return ranked


def _checked_pick(picked: Sequence[Scored], ranked: Sequence[Scored]) -> Pick | str:
    """What a picker returned, with each candidate's propensity where chance had a part; or what is wrong with it."""
    found = tuple(picked)
    if len(found) != len(ranked) or {id(scored) for scored in found} != {id(scored) for scored in ranked}:
        return "returned something else than the candidates"
    if not isinstance(picked, Pick):
        return Pick(found)
    if picked.chances is None:
        return picked
    chances = {name: float(chance) for name, chance in picked.chances.items()}
    impossible = not set(chances) <= {scored.name for scored in found} or not all(0 <= chance <= 1 for chance in chances.values())
    if impossible or abs(math.fsum(chances.values()) - 1) > _ROUNDING or not chances.get(found[0].name):
        return "returned chances that are none"
    return Pick((replace(scored, propensity=chances.get(scored.name, 0.0)) for scored in found), chances, picked.shadow)


def _shadow(ask: Callable[[], Sequence[Scored]], ranked: Sequence[Scored], notes: _Notes) -> str | None:
    """The model that another picker would have chosen; None if it failed."""
    found = notes.call("shadow", lambda: _checked_pick(ask(), ranked))
    if isinstance(found, str):
        notes.errors["shadow"] = found
    return found[0].name if isinstance(found, Pick) else None


def _quality(scorers: Sequence[Weighted], own: Mapping[str, float]) -> tuple[float | None, float | None]:
    """The weighted mean of what the scorers that predict quality say, and of how unsure they are; None if nobody says.

    Scorers that read the same prompt err together, so their uncertainties add up as they are.
    """
    known = [
        (weighted.weight, own[weighted.name]) for weighted in scorers if weighted.scorer.predicts == "quality" and weighted.name in own
    ]
    total = sum(weight for weight, _ in known)
    if total <= 0:
        return None, None
    spreads = [(weight, value.spread) for weight, value in known if isinstance(value, Opinion) and value.spread is not None]
    unsure = sum(weight * spread for weight, spread in spreads) / total if len(spreads) == len(known) else None
    return sum(weight * value for weight, value in known) / total, unsure


def _misses(scored: Scored, floor: float | None) -> bool:
    return floor is not None and scored.quality is not None and scored.quality < floor


def _known(cost: float | None) -> float:
    return math.inf if cost is None else cost


def _unscored(request: RouteRequest, candidate: Candidate) -> Scored:
    return Scored(candidate.name, 0.0, {}, None, expected_cost(request, candidate))


def _default_order(policy: Policy, request: RouteRequest, left: Sequence[Candidate]) -> list[Scored]:
    scored = [_unscored(request, candidate) for candidate in left]
    return sorted(scored, key=lambda one: (one.name != policy.default, _known(one.cost_usd)))
