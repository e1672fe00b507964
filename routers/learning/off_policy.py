"""What would another policy have been worth, told from the log of the one that served?

The log must hold, for each request, the probability with which the model was chosen (its propensity). Inverse propensity scores: Horvitz
and Thompson 1952; self-normalised: Swaminathan and Joachims 2015, https://papers.nips.cc/paper/5748; doubly robust: Dudík et al. 2011,
https://arxiv.org/abs/1103.4601; effective sample size: Kish 1965.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routers.learning.resampling import interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.learning.figures import Floats, Places

RESAMPLES = 1000
SEED = 20_264
_AT_ONCE = 4_000_000
"""Numbers of a batch of resamples that are held at a time: 32 MB."""


@dataclass(frozen=True, slots=True)
class Logged:
    """n requests as they were served, over m models. `chosen` (n,): which model; `propensities` (n,): the probability with which the policy
    that served chose it; `scores` (n,) in [0, 1]; `costs` (n,) in USD.
    """

    chosen: Places
    propensities: Floats
    scores: Floats
    costs: Floats


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a router expects of every model on the logged requests: scores and costs (USD), (n, m). It need not be right."""

    scores: Floats
    costs: Floats


def off_policy(logged: Logged, target: Floats, predicted: Predicted | None = None) -> dict[str, Any]:
    """Estimates of the mean score and the mean cost (USD a request) of a policy that would have chosen with probabilities `target` (n, m).

    Returns `requests`, `effective_sample_size` (as many requests served by the target itself would say as much), `matched` (share of
    requests where the target could have chosen as was done), and `score` and `cost_usd`, each with `ips`, `snips`, and with `predicted`
    also `dr`, as {"value", "interval_95"} over 1,000 resamples of the requests; `naive` is the mean of the log, for comparison: the value
    of the policy that served.

    IPS and doubly robust are unbiased if the propensities are right and no model that the target may choose had propensity 0; SNIPS is
    nearly so, and steadier. `snips` is NaN if nothing matches. Raises ValueError, with the records' places, for a propensity that is 0,
    unknown (NaN) or above 1, for a score or cost that is unknown, for a model that is none of the m, for target probabilities that do not
    add up to 1, for shapes that do not fit, and for an empty log.
    """
    _check(logged, target, predicted)
    rows = np.arange(len(logged.chosen))
    weights = target[rows, logged.chosen] / logged.propensities
    found: dict[str, Any] = {
        "requests": len(rows),
        "effective_sample_size": float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0,
        "matched": float((weights > 0).mean()),
    }
    sides = (
        ("score", logged.scores, None if predicted is None else predicted.scores),
        ("cost_usd", logged.costs, None if predicted is None else predicted.costs),
    )
    columns = [weights]
    for _, values, expected in sides:
        columns += [weights * values, values]
        if expected is not None:
            model = (target * expected).sum(axis=1)
            columns.append(model + weights * (values - expected[rows, logged.chosen]))
    table = np.stack(columns, axis=1)
    means, drawn = table.mean(axis=0), _resampled_means(table)
    place = 1
    for name, _, expected in sides:
        found[name] = {
            "ips": _estimate(means[place], drawn[:, place]),
            "snips": _estimate(_ratio(means[place], means[0]), _ratio(drawn[:, place], drawn[:, 0])),
            "naive": _estimate(means[place + 1], drawn[:, place + 1]),
        }
        if expected is not None:
            found[name]["dr"] = _estimate(means[place + 2], drawn[:, place + 2])
        place += 2 if expected is None else 3
    return found


def _ratio(part: Floats, whole: Floats) -> Floats:
    found: Floats = np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)
    return found


def _estimate(value: Floats | float, drawn: Floats) -> dict[str, Any]:
    return {"value": float(value), "interval_95": interval(drawn)}


def _resampled_means(table: Floats) -> Floats:
    """Means of columns (n, k) over RESAMPLES draws of n rows: (RESAMPLES, k), a batch at a time so that a long log fits into memory."""
    rng = np.random.default_rng(SEED)
    rows = len(table)
    batch = max(1, min(RESAMPLES, _AT_ONCE // rows))
    found = []
    for start in range(0, RESAMPLES, batch):
        counts = rng.multinomial(rows, np.full(rows, 1 / rows), size=min(batch, RESAMPLES - start))
        found.append(counts @ table / rows)
    return np.concatenate(found)


def _check(logged: Logged, target: Floats, predicted: Predicted | None) -> None:
    count = len(logged.chosen)
    if not count:
        raise ValueError("the log holds no request")
    if target.ndim != 2 or any(len(part) != count for part in (target, logged.propensities, logged.scores, logged.costs)):
        raise ValueError(f"{count} choices do not fit target probabilities of shape {target.shape} and the other columns")
    if predicted is not None and not predicted.scores.shape == predicted.costs.shape == target.shape:
        raise ValueError(f"predictions of shapes {predicted.scores.shape} and {predicted.costs.shape} do not fit {target.shape}")
    with np.errstate(invalid="ignore"):
        _refuse(~(logged.propensities > 0) | (logged.propensities > 1), "has a propensity that is 0, unknown or above 1")
        _refuse((logged.chosen < 0) | (logged.chosen >= target.shape[1]), f"chose a model that is none of the {target.shape[1]}")
        _refuse(~np.isfinite(logged.scores) | ~np.isfinite(logged.costs), "has an unknown score or cost")
        _refuse(~(np.abs(target.sum(axis=1) - 1) < 1e-6) | (target < 0).any(axis=1), "has target probabilities that do not add up to 1")


def _refuse(wrong: NDArray[np.bool_], what: str) -> None:
    places = np.flatnonzero(wrong)
    if len(places):
        named = ", ".join(map(str, places[:5].tolist())) + (f" and {len(places) - 5} more" if len(places) > 5 else "")
        raise ValueError(f"record {named} (counted from 0) {what}")
