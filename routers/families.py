"""Every family of learned routers: how it is fitted, with which knobs, and the scorer that serves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from routers import artifacts
from routers.learned import LearnedScorer, Lessons, Predictor
from routers.scorers import (
    adapter,
    blend,
    clusters,
    gbm,
    graph,
    knn,
    language,
    latent,
    matrix_factorization,
    mlp,
    pilot,
    prior,
    two_step,
)


@dataclass(frozen=True, slots=True)
class Family:
    """`fit`: lessons, a knob and a seed to a predictor. `knobs`: what validation chooses among. `scorer`: serves its artifacts."""

    fit: Callable[[Lessons, float, int], Predictor]
    knobs: tuple[float, ...]
    scorer: type[LearnedScorer]


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "knn": Family(knn.fit, knn.KNOBS, knn.Knn),
        "clusters": Family(clusters.fit, clusters.KNOBS, clusters.Clusters),
        "pilot": Family(pilot.fit, pilot.KNOBS, pilot.Pilot),
        "two_step": Family(two_step.fit, two_step.KNOBS, two_step.TwoStep),
        "matrix_factorization": Family(matrix_factorization.fit, matrix_factorization.KNOBS, matrix_factorization.MatrixFactorization),
        "latent": Family(latent.fit, latent.KNOBS, latent.Latent),
        "mlp": Family(mlp.fit, mlp.KNOBS, mlp.Mlp),
        "gbm": Family(gbm.fit, gbm.KNOBS, gbm.Gbm),
        "graph": Family(graph.fit, graph.KNOBS, graph.GraphScorer),
        "adapter": Family(adapter.fit, adapter.KNOBS, adapter.Adapter),
        "language": Family(language.fit, language.KNOBS, language.Language),
        "prior": Family(prior.fit, prior.KNOBS, prior.Prior),
        "blend": Family(blend.fit, blend.KNOBS, blend.BlendScorer),
    }
)


def serve(folder: Path) -> LearnedScorer:
    """The scorer of whatever family an artifact is. Raises BadArtifact."""
    kind = artifacts.load(folder).manifest.kind
    family = FAMILIES.get(kind)
    if family is None:
        raise artifacts.BadArtifact(folder, f"{artifacts.MANIFEST}: kind is {kind!r}, known: {', '.join(FAMILIES)}")
    return family.scorer(folder)
