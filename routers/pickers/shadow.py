"""Serves by one picker and writes down what another would have done."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import cast

from routers.api import Learner, Outcome, Pick, Picker, RouteRequest, Scored


class Shadow:
    """Serves by one picker, and records which model another one would have chosen: `shadow` in the decision, in the ledger, in explain.

    `serve`, `shadow`: pickers with their parameters, as {type: …}. What the shadow breaks costs no request anything. Both hear of
    outcomes if they learn; the shadow, too, hears of what was served and not of what it would have chosen.
    """

    def __init__(self, serve: Picker, shadow: Picker) -> None:
        self._serve = serve
        self._shadow = shadow
        self.deterministic = serve.deterministic and shadow.deterministic
        self.artifact_hash = "+".join(str(getattr(picker, "artifact_hash", "")) for picker in (serve, shadow))
        learners = [cast(Learner, picker) for picker in (serve, shadow) if hasattr(picker, "observe")]
        if learners:
            # Whoever has this method is told of every outcome, which costs something: so only where somebody listens.
            self.observe = _Telling(learners)

    def pick(self, request: RouteRequest, ranked: Sequence[Scored], rng: Random) -> Sequence[Scored]:
        served = self._serve.pick(request, ranked, rng)
        chances = served.chances if isinstance(served, Pick) else None
        return Pick(served, chances, lambda: self._shadow.pick(request, ranked, rng))


class _Telling:
    """Tells several learners, one after the other."""

    def __init__(self, learners: Sequence[Learner]) -> None:
        self._learners = tuple(learners)

    def __call__(self, outcome: Outcome) -> None:
        for learner in self._learners:
            learner.observe(outcome)
