"""What `pointsman train cascade` found out for a cascade: whom to ask in which order, and from when on an answer is good enough."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from routers import artifacts
from routers.artifacts import SETTINGS, Artifact, BadArtifact

KIND = "cascade"


@dataclass(frozen=True, slots=True)
class Stages:
    """`order`: models in the order in which they are asked, a part of `models`, which are all that were looked at. `thresholds`: one for
    each of them: with that many answers, from which confidence on to stop. `hash`: of the artifact.
    """

    models: tuple[str, ...]
    order: tuple[str, ...]
    thresholds: tuple[float, ...]
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
        if not isinstance(order, list) or len(order) < 2 or len(set(order)) != len(order) or not set(order) <= set(models):
            raise BadArtifact(loaded.folder, f"{SETTINGS}: order must name at least two of the artifact's models")
        numbers = thresholds if isinstance(thresholds, list) else []
        if len(numbers) != len(order) or not all(isinstance(t, int | float) and 0 <= t <= 2 for t in numbers):
            raise BadArtifact(loaded.folder, f"{SETTINGS}: thresholds must be {len(order)} numbers from 0 to 2, one for each stage")
        return cls(models, tuple(order), tuple(float(t) for t in numbers), loaded.hash)

    def threshold(self, answers: int) -> float:
        """From which confidence on to stop, with so many answers; above 1: never."""
        return self.thresholds[min(answers, len(self.thresholds)) - 1]
