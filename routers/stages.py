"""What `pointsman train cascade` found out for a cascade: whom to ask in which order, and from when on an answer is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeGuard

from routers import artifacts
from routers.artifacts import SETTINGS, Artifact, BadArtifact

KIND = "cascade"


@dataclass(frozen=True, slots=True)
class Step:
    """One way to set up a cascade: whom to ask in which order, and at which confidence to stop; above 1: never before the end."""

    order: tuple[str, ...]
    threshold: float


@dataclass(frozen=True, slots=True)
class Stages:
    """`order`: models in the order in which they are asked, a part of `models`, which are all that were looked at. `thresholds`: one for
    each of them: with that many answers, from which confidence on to stop. `frontier`: the ways that nothing cheaper was better than when
    it was fitted, from the cheapest up. `hash`: of the artifact.
    """

    models: tuple[str, ...]
    order: tuple[str, ...]
    thresholds: tuple[float, ...]
    frontier: tuple[Step, ...]
    hash: str

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises BadArtifact."""
        return cls.of(artifacts.load(folder, KIND))

    @classmethod
    def of(cls, loaded: Artifact) -> Self:
        """Raises BadArtifact."""
        models, settings = loaded.manifest.models, loaded.settings
        order, thresholds = settings.get("order"), settings.get("thresholds")
        if not _are_models(order, models, 2):
            raise BadArtifact(loaded.folder, f"{SETTINGS}: order must name at least two of the artifact's models")
        numbers = thresholds if isinstance(thresholds, list) else []
        if len(numbers) != len(order) or not all(isinstance(t, int | float) and 0 <= t <= 2 for t in numbers):
            raise BadArtifact(loaded.folder, f"{SETTINGS}: thresholds must be {len(order)} numbers from 0 to 2, one for each stage")
        return cls(models, tuple(order), tuple(float(t) for t in numbers), _frontier(loaded), loaded.hash)

    def threshold(self, answers: int) -> float:
        """From which confidence on to stop, with so many answers; above 1: never."""
        return self.thresholds[min(answers, len(self.thresholds)) - 1]


def _frontier(loaded: Artifact) -> tuple[Step, ...]:
    """Raises BadArtifact."""
    steps, found = loaded.settings.get("frontier"), []
    for step in steps if isinstance(steps, list) else []:
        order, threshold = (step.get("order"), step.get("threshold")) if isinstance(step, dict) else (None, None)
        if not _are_models(order, loaded.manifest.models, 1) or not isinstance(threshold, int | float) or not 0 <= threshold <= 2:
            raise BadArtifact(loaded.folder, f"{SETTINGS}: frontier must list orders of the artifact's models with thresholds from 0 to 2")
        found.append(Step(tuple(order), float(threshold)))
    if not found:
        raise BadArtifact(loaded.folder, f"{SETTINGS}: frontier must list at least one order with its threshold")
    return tuple(found)


def _are_models(names: object, models: Sequence[str], least: int) -> TypeGuard[list[str]]:
    """Whether this is a list of at least so many different ones of the models."""
    if not isinstance(names, list) or len(names) < least or not all(isinstance(name, str) for name in names):
        return False
    return len(set(names)) == len(names) and set(names) <= set(models)
