"""Makes expected outcomes come true on average, on questions that the router was not fitted to. (Platt 1999, with a Gaussian prior)"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from routers.learned import Calibration, Expected, logit, sigmoid

if TYPE_CHECKING:
    from routers.learned import Floats

SLOPE_SD, SHIFT_SD = 0.5, 0.15
"""How far slope and shifts may be from 1 and 0 before it takes more than a few questions to believe it."""
ROUNDS = 20
BINS = 10
SPREADS = (0.3, 10.0)


def calibrate(found: Expected, scores: Floats) -> Calibration:
    """A calibration of expectations (n, m) against what came, `scores` (n, m), NaN where unknown or where there is no opinion."""
    models = scores.shape[1]
    usable = ~(np.isnan(scores) | np.isnan(found.mean))
    x, y, owner = logit(found.mean)[usable], scores[usable], np.nonzero(usable)[1]
    if not len(x):
        return Calibration.none(models)
    design = np.zeros((len(x), models + 1))
    design[:, 0] = x
    design[np.arange(len(x)), owner + 1] = 1
    prior = 1 / np.array([SLOPE_SD**2, *[SHIFT_SD**2] * models])
    centre = np.array([1.0, *[0.0] * models])
    values = centre.copy()
    for _ in range(ROUNDS):
        chances = sigmoid((design @ values).astype(np.float32)).astype(np.float64)
        gradient = design.T @ (chances - y) + prior * (values - centre)
        hessian = (design * (chances * (1 - chances))[:, None]).T @ design + np.diag(prior)
        step = np.linalg.solve(hessian, gradient)
        values = values - step
        if np.abs(step).max() < 1e-6:
            break
    slope = max(0.05, float(values[0]))
    mended = Calibration(slope, values[1:].astype(np.float32))
    return Calibration(slope, mended.shifts, _spread(mended.apply(found), scores))


def _spread(found: Expected, scores: Floats) -> float:
    """The factor that makes the spreads as large as what the expectations are off by, in bins of like expectations of each model."""
    off, said = 0.0, 0.0
    for model in range(scores.shape[1]):
        known = ~(np.isnan(scores[:, model]) | np.isnan(found.mean[:, model]))
        mean, spread, came = found.mean[known, model], found.spread[known, model], scores[known, model]
        for rows in np.array_split(np.argsort(mean, kind="stable"), min(BINS, max(1, len(mean) // 20))):
            if len(rows) > 1:
                chance = came[rows].var(ddof=1) / len(rows)
                off += max(0.0, float((came[rows].mean() - mean[rows].mean()) ** 2 - chance))
                said += float((spread[rows] ** 2).mean())
    return float(np.clip(np.sqrt(off / said), *SPREADS)) if said > 0 else 1.0
