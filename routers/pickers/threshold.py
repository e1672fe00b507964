"""The cheapest that is good enough, with a promise on how good that is. See `routers.learning.promise`."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Annotated

import numpy as np
from pydantic import Field

from routers import artifacts
from routers.api import RouteRequest, Scored
from routers.learning.promise import ROUNDING, Held, Promise
from routers.learning.promise import promise as calibrate

KEPT = 256
GRID = 200
"""Wanted qualities are rounded up to 1/200, so that requests cannot ask for ever new calibrations."""


class Threshold:
    """The cheapest candidate whose expected quality, less z times its uncertainty, reaches `min_quality`; if none does, the best one.

    z is read off the calibration in `artifact`, so that the mean quality of the answers is at least `min_quality` with probability
    `confidence`. A request's own `min_quality` stands in for the configured one. Where no z keeps that promise (`promise` says so), the
    greatest expected quality serves. The promise is worked out for the candidates at hand, cheapest first; it speaks of the artifact's own
    router, which so should be the only scorer of quality, and of traffic like its questions. Candidates that the artifact does not know
    come last.

    Raises BadArtifact where the artifact keeps no calibration, or one that does not fit.
    """

    deterministic = True

    def __init__(
        self,
        min_quality: Annotated[float, Field(gt=0, lt=1)],
        artifact: Path,
        confidence: Annotated[float, Field(gt=0, lt=1)] = 0.9,
    ) -> None:
        loaded = artifacts.load(artifact)
        self._held = read(loaded)
        self._columns = {name: column for column, name in enumerate(loaded.manifest.models[: len(self._held.costs)])}
        self._min_quality = min_quality
        self._alpha = 1 - confidence
        self._lock = threading.Lock()
        self._made: OrderedDict[tuple[float, tuple[int, ...]], Promise] = OrderedDict()
        self.artifact_hash = loaded.hash
        self.promise(min_quality)  # now, since else the first request would wait for it

    def promise(self, q: float, models: Sequence[str] | None = None) -> Promise:
        """What is promised for a mean quality of q among these models, cheapest first; None: all of the artifact's, by their mean costs.

        Its `z` is None where nothing can be promised. Raises KeyError for a model that the artifact does not know.
        """
        columns = self._held.order if models is None else tuple(self._columns[name] for name in models)
        key = (min(1.0, max(1, math.ceil(q * GRID - ROUNDING)) / GRID), columns)
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = calibrate(self._held, key[0], self._alpha, columns)
        with self._lock:
            self._made[key] = made
            if len(self._made) > KEPT:
                self._made.popitem(last=False)
        return made

    def pick(self, request: RouteRequest, ranked: Sequence[Scored], rng: Random) -> Sequence[Scored]:
        wish = request.preferences.min_quality
        known = sorted((scored for scored in ranked if self._knows(scored)), key=self._cost)
        others = sorted((scored for scored in ranked if not self._knows(scored)), key=_quality, reverse=True)
        if not known:
            return others
        found = self.promise(self._min_quality if wish is None else wish, [scored.name for scored in known])
        able = [scored for scored in known if found.z is not None and _lower(scored, found.z) >= found.q - ROUNDING]
        # Sorting is stable, so that of equals the cheaper one comes first, as in the calibration.
        rest = sorted((scored for scored in known if scored not in able), key=_quality, reverse=True)
        return [*able, *rest, *others]

    def _knows(self, scored: Scored) -> bool:
        return scored.name in self._columns and scored.quality is not None and scored.uncertainty is not None

    def _cost(self, scored: Scored) -> tuple[float, float]:
        usual = float(self._held.costs[self._columns[scored.name]])
        return (math.inf if scored.cost_usd is None else scored.cost_usd, usual)


def read(loaded: artifacts.Artifact) -> Held:
    """The calibration that an artifact keeps, of its first models: those behind them that have no cost are newcomers, of which nothing is
    known. Raises BadArtifact if it has none, or if its arrays do not fit.
    """
    arrays = []
    for name in ("mean", "spread", "scores", "costs"):
        found = loaded.tensors.get(f"promise/{name}")
        if found is None:
            raise artifacts.BadArtifact(loaded.folder, f"{artifacts.TENSORS}: tensor 'promise/{name}' is missing: it keeps no calibration")
        if found.dtype != np.float32:
            raise artifacts.BadArtifact(loaded.folder, f"{artifacts.TENSORS}: tensor 'promise/{name}' is {found.dtype}, expected float32")
        arrays.append(found.astype(np.float64))
    known = int((~np.isnan(arrays[-1])).sum()) if np.isnan(arrays[-1]).any() else None
    try:
        held = Held(*(array[..., :known] for array in arrays))
    except ValueError as error:
        raise artifacts.BadArtifact(loaded.folder, f"{artifacts.TENSORS}: promise/{error}") from None
    if len(arrays[-1]) != len(loaded.manifest.models):
        what = f"promise/costs has {len(arrays[-1])} models, the manifest {len(loaded.manifest.models)}"
        raise artifacts.BadArtifact(loaded.folder, f"{artifacts.TENSORS}: {what}")
    return held


def _quality(scored: Scored) -> float:
    return -1.0 if scored.quality is None else scored.quality


def _lower(scored: Scored, z: float) -> float:
    """The bound that the calibration looks at; nobody reaches an infinitely careful one."""
    if math.isinf(z):
        return -math.inf
    return (scored.quality or 0.0) - z * (scored.uncertainty or 0.0)
