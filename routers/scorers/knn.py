"""How well did each model do on the prompts that were most like this one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field

from routers import artifacts
from routers.api import Candidate, Encoder, Need, RouteRequest
from routers.embedding import ENCODERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routers.api import Embedding, Embeddings

    Scores: TypeAlias = NDArray[np.float32]

KIND = "knn"
K = 20
SHRINK = 2.0


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Prompts whose outcomes are known. `vectors`: float32 (n, d), unit length. `scores`: float32 (n, m) in [0, 1], NaN is unknown.

    `means`: float32 (m,), each model's mean over what is known of it. `models`: m names.
    """

    vectors: Embeddings
    scores: Scores
    means: Scores
    models: tuple[str, ...]

    def expect(self, embedding: Embedding, k: int, shrink: float) -> Scores:
        """Expected outcome of each model: its mean over the k most similar prompts, float32 (m,).

        Neighbours where a model's outcome is unknown do not count for it. The mean is shrunk to the model's overall mean, as if
        `shrink` more neighbours had had that outcome: few neighbours say little.
        """
        similarity = self.vectors @ embedding
        nearest = np.argpartition(-similarity, k - 1)[:k] if k < len(similarity) else slice(None)
        found = self.scores[nearest]
        known = np.count_nonzero(~np.isnan(found), axis=0)
        total = np.nansum(found, axis=0)
        expected: Scores = np.where(known > 0, (total + shrink * self.means) / np.maximum(known + shrink, 1e-9), self.means)
        return expected.astype(np.float32)


def fit(vectors: Embeddings, scores: Scores, models: Sequence[str]) -> Neighbours:
    """Neighbours from vectors (n, d) of unit length and scores (n, m), NaN where unknown. Raises ValueError if they don't fit together."""
    vectors, scores = np.asarray(vectors, dtype=np.float32), np.asarray(scores, dtype=np.float32)
    if vectors.ndim != 2 or not len(vectors) or scores.shape != (len(vectors), len(models)):
        raise ValueError(f"vectors {vectors.shape} and scores {scores.shape} do not fit {len(models)} models")
    if len(set(models)) != len(models):
        raise ValueError("a model is named twice")
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3):
        raise ValueError("the vectors are not all of unit length")
    known = ~np.isnan(scores)
    silent = [name for name, count in zip(models, np.count_nonzero(known, axis=0).tolist(), strict=True) if not count]
    if silent:
        raise ValueError(f"no outcome at all is known of {', '.join(silent)}")
    if not ((scores[known] >= 0) & (scores[known] <= 1)).all():
        raise ValueError("a score is outside [0, 1]")
    means: Scores = np.asarray(np.nanmean(scores, axis=0, dtype=np.float64), dtype=np.float32)
    return Neighbours(vectors, scores, means, tuple(models))


@dataclass(frozen=True, slots=True)
class Making:
    """What is written down with an artifact. `metrics`: figures on held-out data."""

    encoder: Encoder
    data_hash: str
    created: datetime
    metrics: Mapping[str, float]


def write(folder: Path, neighbours: Neighbours, making: Making, k: int = K, shrink: float = SHRINK) -> str:
    """Writes neighbours as an artifact and returns its hash. Raises what artifacts.write raises."""
    encoder = artifacts.EncoderId.of(making.encoder)
    origin = artifacts.Origin(KIND, neighbours.models, making.data_hash, making.created, encoder, making.metrics)
    tensors = {"vectors": neighbours.vectors, "scores": neighbours.scores}
    return artifacts.write(folder, origin, tensors, {"k": k, "shrink": shrink})


class Knn:
    """The mean outcome of each model on the k most similar prompts of an artifact. Models that it does not know get no opinion.

    `artifact`: a folder made by `pointsman train knn`. `k`, `shrink`: as in the artifact unless given. Exact search by cosine.
    """

    needs: frozenset[Need] = frozenset({"text", "embedding"})
    instant = False
    predicts: Literal["quality"] = "quality"

    def __init__(
        self,
        artifact: Path,
        k: Annotated[int, Field(ge=1)] | None = None,
        shrink: Annotated[float, Field(ge=0, le=1e6)] | None = None,
    ) -> None:
        loaded = artifacts.load(artifact, KIND)
        self._neighbours = _neighbours(loaded)
        self._k = min(int(_setting(loaded, "k", 1)) if k is None else k, len(self._neighbours.vectors))
        self._shrink = _setting(loaded, "shrink", 0) if shrink is None else shrink
        self.encoder = _encoder(loaded)
        self.artifact_hash = loaded.hash

    @property
    def models(self) -> tuple[str, ...]:
        """The models whose outcomes it knows."""
        return self._neighbours.models

    def expect(self, vectors: Embeddings, models: Sequence[str]) -> NDArray[np.float64]:
        """Expected outcomes (n, m) of these models on prompts with these vectors (n, d), as `score` gives them."""
        columns = [self.models.index(name) for name in models]
        return np.stack([self._neighbours.expect(vector, self._k, self._shrink)[columns] for vector in vectors]).astype(np.float64)

    def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        if request.embedding is None:
            return {}
        expected = self._neighbours.expect(request.embedding, self._k, self._shrink)
        wanted = {candidate.name for candidate in candidates}
        return {name: float(value) for name, value in zip(self._neighbours.models, expected, strict=True) if name in wanted}


def _neighbours(loaded: artifacts.Artifact) -> Neighbours:
    try:
        return fit(loaded.tensors["vectors"], loaded.tensors["scores"], loaded.manifest.models)
    except KeyError as missing:
        raise artifacts.BadArtifact(loaded.folder, f"{artifacts.TENSORS}: tensor {missing} is missing") from None
    except ValueError as error:
        raise artifacts.BadArtifact(loaded.folder, f"{artifacts.TENSORS}: {error}") from None


def _setting(loaded: artifacts.Artifact, name: str, least: float) -> float:
    value = loaded.settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 1e6:
        raise artifacts.BadArtifact(loaded.folder, f"{artifacts.SETTINGS}: {name} must be a number from {least} to 1e6")
    return value


def _encoder(loaded: artifacts.Artifact) -> Encoder:
    """The encoder that made the artifact's vectors; vectors of any other one mean nothing beside them."""
    needed = loaded.manifest.encoder
    if needed is None or needed.name not in ENCODERS:
        named = "no encoder" if needed is None else f"the encoder {needed.name!r}"
        raise artifacts.BadArtifact(loaded.folder, f"names {named}; known: {', '.join(ENCODERS)}")
    encoder = ENCODERS[needed.name]()
    if encoder.hash != needed.hash:
        raise artifacts.BadArtifact(loaded.folder, f"was made with another version of the encoder {needed.name!r}; train it again")
    return encoder
