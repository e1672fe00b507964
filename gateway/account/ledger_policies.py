"""What the policy that serves is worth, and what others would have been, from the ledger: scores that people gave, and the probabilities
with which models were chosen. See `routers.learning.off_policy`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gateway.account.ledger import Entry, RequestEntry

if TYPE_CHECKING:
    from routers.learning.figures import Floats, Places

LeftOut = Literal["without_score", "without_cost", "named", "pinned", "dropped"]
LEFT_OUT: Mapping[LeftOut, str] = {
    "without_score": "requests without a score",
    "without_cost": "scored requests of unknown cost",
    "named": "scored requests that named a model",
    "pinned": "scored turns whose conversation had its model already",
    "dropped": "scored requests of which a model was dropped after the choice",
}
_ROUNDING = 1e-6


class NothingLogged(ValueError):
    """A ledger of which nothing can be told."""


@dataclass(frozen=True, slots=True)
class Judgeable:
    """Records by route, each with its score, in the order of the ledger; and how many were left out, and why."""

    routes: Mapping[str, Sequence[tuple[float, RequestEntry]]]
    left_out: Mapping[LeftOut, int] = field(default_factory=dict)


def gather(entries: Iterable[Entry], scores: Mapping[str, float]) -> Judgeable:
    """Sorts records by route. `scores`: decision -> its newest score."""
    routes: dict[str, list[tuple[float, RequestEntry]]] = defaultdict(list)
    left_out: Counter[LeftOut] = Counter()
    seen: set[str] = set()
    for entry in entries:
        if not isinstance(entry, RequestEntry) or entry.decision_id in seen:
            continue
        seen.add(entry.decision_id)
        reason = _objection(entry, scores)
        if reason is not None:
            left_out[reason] += 1
        elif entry.route is not None:
            routes[entry.route].append((scores[entry.decision_id], entry))
    return Judgeable(dict(routes), {reason: left_out[reason] for reason in LEFT_OUT})


def judge(found: Judgeable) -> dict[str, Any]:
    """For each route the policy that served (`logging`: mean score and cost as they came), and `always` each model, with 95 % intervals.

    "Always m" is told from the records where chance might have chosen m, and speaks of requests like these; what follows a model's
    failure (fallbacks, retries) counts as that model's. A pick without a propensity had probability 1: it says what was served, and
    nothing of any other model. What cannot be known is None. Raises NothingLogged if no record has both a score and a propensity.
    """
    drawn = sum(entry.propensity is not None for records in found.routes.values() for _, entry in records)
    if not drawn:
        total = sum(len(records) for records in found.routes.values())
        raise NothingLogged(f"no record has both a score and a propensity ({total} have a score, all of picks without chance)")
    return {
        "records": sum(len(records) for records in found.routes.values()),
        "drawn": drawn,
        "left_out": dict(found.left_out),
        "routes": {route: _route(records) for route, records in sorted(found.routes.items())},
    }


def _objection(entry: RequestEntry, scores: Mapping[str, float]) -> LeftOut | None:
    if entry.decision_id not in scores:
        return "without_score"
    if entry.route is None:
        return "named"
    if entry.reason == "pinned":
        return "pinned"
    if entry.cost_usd is None:
        return "without_cost"
    if entry.propensity is not None and abs(sum(_chances(entry).values()) - 1) > _ROUNDING:
        return "dropped"
    return None


def _chances(entry: RequestEntry) -> dict[str, float]:
    """Model -> probability with which it was chosen, of all that could have been."""
    if entry.propensity is None:
        return {entry.chosen: 1.0}
    return {one.model: one.propensity for one in entry.candidates if isinstance(one.propensity, float) and one.propensity > 0}


def _route(records: Sequence[tuple[float, RequestEntry]]) -> dict[str, Any]:
    import numpy as np

    from routers.learning.off_policy import Logged, off_policy

    models = sorted({model for _, entry in records for model in _chances(entry)})
    chances = np.array([[_chances(entry).get(model, 0.0) for model in models] for _, entry in records])
    chances /= chances.sum(axis=1, keepdims=True)
    chosen = np.array([models.index(entry.chosen) for _, entry in records])
    scores, costs = np.array([score for score, _ in records]), np.array([entry.cost_usd for _, entry in records], dtype=np.float64)
    drawn = np.array([entry.propensity is not None for _, entry in records])

    def told(target: Floats, rows: Places) -> dict[str, Any]:
        log = Logged(chosen[rows], chances[rows, chosen[rows]], scores[rows], costs[rows])
        found: dict[str, Any] = _plain(off_policy(log, target[rows]))
        return found

    served = told(chances, np.arange(len(records)))
    always: dict[str, Any] = {}
    for place, model in enumerate(models):
        only = np.zeros_like(chances)
        only[:, place] = 1.0
        rows = np.flatnonzero(drawn & (chances[:, place] > 0))
        always[model] = told(only, rows) if len(rows) else None
    shares = dict(zip(models, (np.bincount(chosen, minlength=len(models)) / len(records)).tolist(), strict=True))
    logging = {"requests": len(records), "drawn": int(drawn.sum()), "shares": shares}
    return {"logging": {**logging, "score": served["score"]["naive"], "cost_usd": served["cost_usd"]["naive"]}, "always": always}


def _plain(found: Any) -> Any:
    """As JSON can hold it: what is not defined is None."""
    if isinstance(found, dict):
        return {name: _plain(part) for name, part in found.items()}
    if isinstance(found, list):
        return [_plain(part) for part in found]
    return None if isinstance(found, float) and math.isnan(found) else found
