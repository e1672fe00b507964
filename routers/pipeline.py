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
from routers.ranking import known, rank
from routers.scorers.cost import Cost

T = TypeVar("T")
Opinions = dict[str, dict[str, float]]
_ROUNDING = 1e-6
"""By so much the sum of a picker's chances may differ from 1."""
_TEXTS = (str, bytes)
SHORT = 2_000
"""Characters of a text on which a `quick` policy decides on the event loop: of words that nobody ever wrote, so many take milliseconds."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """A scorer of a policy: under which name, and how much its opinion counts."""

    name: str
    scorer: Scorer
    weight: float = 1.0


class Policy:
    """How a route decides. `default`: serves when the policy itself cannot say. `encoder`: None unless a scorer reads embeddings.

    `needs`: what the scorers read beyond the counts. `instant`: a decision takes microseconds, so it may run on the event loop. `quick`: on
    a short text it takes a few hundred, and through a thread a good deal more.
    `cacheable`: the same request would get the same choice a moment later. `artifacts`: hashes of what its scorers and its picker were
    loaded from.
    `rules`: its filters, each with what says that it objects to nobody (None: it cannot say).
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
        "quick",
        "revised",
        "rules",
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
        self.rules = tuple((name, rule, getattr(rule, "is_idle", None)) for name, rule in filters)
        self.scorers = tuple(scorers)
        self.picker = picker
        self.planner = planner
        self.default = default
        self.encoder = encoder
        self.needs = frozenset[Need]().union(*(weighted.scorer.needs for weighted in scorers))
        self.instant = encoder is None and all(weighted.scorer.instant for weighted in scorers)
        self.quick = _is_quick(encoder) and all(one.scorer.instant or _is_quick(one.scorer) for one in scorers)
        self.cacheable = picker.deterministic and "load" not in self.needs
        loaded: list[object] = [*(weighted.scorer for weighted in scorers), picker, planner]
        self.artifacts = tuple(str(getattr(plugin, "artifact_hash", "")) for plugin in loaded)
        plugins: list[tuple[str, object]] = [*filters, *((w.name, w.scorer) for w in scorers), ("picker", picker), ("planner", planner)]
        hearing = [(name, plugin) for name, plugin in plugins if hasattr(plugin, "observe") and getattr(plugin, "learns", True)]
        self.learners: tuple[tuple[str, Learner], ...] = tuple((name, cast(Learner, plugin)) for name, plugin in hearing)
        self.keepers: tuple[tuple[str, Keeper], ...] = tuple((name, cast(Keeper, plugin)) for name, plugin in hearing if _keeps(plugin))
        self.revised: tuple[object, ...] = tuple(plugin for _, plugin in hearing if hasattr(plugin, "revision"))

    def at_once(self, request: RouteRequest) -> bool:
        """Whether a decision on this request takes so little that it may run on the event loop."""
        return self.instant or (self.quick and len(request.text) <= SHORT)

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
    ranked = tuple(rank(_scorers(policy, request), request, left, opinions))
    picked = notes.call("picker", lambda: _checked_pick(policy.picker.pick(request, ranked, rng), ranked))
    if picked is None or isinstance(picked, str):
        notes.errors.setdefault("picker", picked or "returned something else than the candidates")
        return _choice(policy, "best_score", ranked, rejected, notes)
    shadow = None if picked.shadow is None else _shadow(picked.shadow, ranked, notes)
    return _choice(policy, "best_score", picked, rejected, notes, shadow)


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


def _is_quick(plugin: object) -> bool:
    return plugin is None or bool(getattr(plugin, "quick", False))


def _keeps(plugin: object) -> bool:
    return hasattr(plugin, "keep") and hasattr(plugin, "snapshot_seconds")


def _choice(
    policy: Policy, reason: Reason, ranking: Sequence[Scored], rejected: Mapping[str, str], notes: _Notes, shadow: str | None = None
) -> Choice:
    return Choice(policy.name, reason, tuple(ranking), rejected, notes.seconds, notes.errors, shadow)


def _filter(
    policy: Policy, request: RouteRequest, candidates: Sequence[Candidate], notes: _Notes
) -> tuple[list[Candidate], dict[str, str]]:
    """Who passes, and why the others do not: the first filter that objects names the reason. A filter is timed once for all candidates."""
    left, reasons = list(candidates), dict[str, str]()
    for name, rule, is_idle in policy.rules:
        if is_idle is not None and is_idle(request):
            continue
        found = _objections(name, rule, request, left, notes)
        if found.count(None) < len(found):
            reasons.update((one.name, str(reason)) for one, reason in zip(left, found, strict=True) if reason is not None)
            left = [one for one, reason in zip(left, found, strict=True) if reason is None]
    rejected = {one.name: reasons[one.name] for one in candidates if one.name in reasons} if reasons else reasons
    if not left:
        raise NoCandidate(rejected)
    return left, rejected


def _objections(name: str, rule: Filter, request: RouteRequest, candidates: Sequence[Candidate], notes: _Notes) -> list[str | None]:
    """What a filter says of each candidate; of one at which it raises, nothing."""
    found: list[str | None] = []

    def ask() -> None:
        for candidate in candidates[len(found) :]:
            found.append(rule.reject(request, candidate))

    while len(found) < len(candidates):
        notes.call(name, ask)
        if len(found) < len(candidates):
            found.append(None)
    return found


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
            request = request.reading(request.text, vectors[0])
    opinions: Opinions = {}
    names = frozenset([candidate.model.name for candidate in candidates])
    for weighted in _scorers(policy, request):
        if notes.clock() > deadline:
            return None
        if "embedding" in weighted.scorer.needs and request.embedding is None:
            notes.errors[weighted.name] = "there is no embedding"
            continue
        found = notes.call(weighted.name, lambda scorer=weighted.scorer: _checked(scorer.score(request, candidates), names))  # type: ignore[misc]
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


def _checked(opinion: object, names: frozenset[str]) -> dict[str, float] | str:
    """An opinion on candidates of these names, clamped to [0, 1], or what is wrong with it."""
    if not isinstance(opinion, Mapping):
        return "returned no mapping"
    checked: dict[str, float] = {}
    for name, value in opinion.items():
        if name not in names:
            return "named a model that is no candidate"
        if isinstance(value, _TEXTS):
            return "returned a text instead of a number"
        number = float(value)
        if not math.isfinite(number):
            return "returned a number that is not finite"
        bounded = 0.0 if number <= 0 else 1.0 if number > 1 else number
        checked[name] = Opinion(bounded, value.spread) if isinstance(value, Opinion) else bounded
    return checked


def _checked_pick(picked: Sequence[Scored], ranked: Sequence[Scored]) -> Pick | str:
    """What a picker returned, with each candidate's propensity where chance had a part; or what is wrong with it."""
    if picked is ranked:
        return Pick(ranked)
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


def _unscored(request: RouteRequest, candidate: Candidate) -> Scored:
    return Scored(candidate.name, 0.0, {}, None, expected_cost(request, candidate))


def _default_order(policy: Policy, request: RouteRequest, left: Sequence[Candidate]) -> list[Scored]:
    scored = [_unscored(request, candidate) for candidate in left]
    return sorted(scored, key=lambda one: (one.name != policy.default, known(one.cost_usd)))
