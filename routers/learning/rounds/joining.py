"""A model of which little is known joins a policy that was trained without it. No net is trained: what nets see of a model are its traits
and what is expected of it, and of a newcomer these are estimated from a few outcomes and from the models that are known.

Whoever takes fifty outcomes at their word asks the newcomer where it was lucky: on mmlupro-peers4 that costs 0.011 of AIQ. So everything
is drawn to what is usual among the known models, by as much as so few outcomes leave it open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from routers import artifacts
from routers.learned import Prompts, gathered, sigmoid
from routers.learning.rounds.ground import KNOWN
from routers.rounds import kin
from routers.rounds.experience import KIND, joined
from routers.rounds.standing import NO_VOTE, TRAITS, Traits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from routers.api import Embeddings
    from routers.learning.answers import Recorded
    from routers.rounds.experience import Experience
    from routers.rounds.kin import Kin
    from routers.rounds.standing import Floats

    Doubles = NDArray[np.float64]

FEWEST = 10
"""Questions that the newcomer and all known models must have answered."""
SHIFT = 0.3
"""How far models' log-odds lie apart, as a standard deviation, where nothing is known of it: so much better or worse than the others a
newcomer may be. It counts as much as two models of the pool, which say how far they themselves lie apart.
"""
POOLS = 2.0
SLOPE = 0.1
"""The same for how much it takes after each of them: of those that were tried this predicted best what models of mmlupro do."""
STEPS = 25
KNOWN_TOGETHER = 60.0
"""So many questions on which both were wrong, and did as is usual, are added to those by which the newcomer is compared with each model:
of fifty outcomes about ten are left for that, and models of mmlupro-peers4 differ by less than 0.03.
"""


@dataclass(frozen=True, slots=True)
class Joined:
    """`known`: with the newcomer as its last model. `outcomes`: how many were learned from. `score`: their mean."""

    known: Experience
    newcomer: str
    outcomes: int
    score: float


def join(known: Experience, newcomer: str, recorded: Recorded, vectors: Embeddings) -> Joined:
    """The same policy with one more model. `recorded`: questions that the newcomer and all known models answered, in any order of models;
    `vectors` (n, d): of these questions. Deterministic.

    Raises ValueError for a newcomer that is known already, and for fewer than FEWEST questions.
    """
    if newcomer in known.models:
        raise ValueError(f"{newcomer} is known to the policy already; it knows {', '.join(known.models)}")
    if known.policy.manners is None:
        raise ValueError("the policy was trained before models could join it later: train it again")
    if len(recorded) < FEWEST:
        raise ValueError(
            f"{newcomer} and all of {', '.join(known.models)} answered {len(recorded)} questions; at least {FEWEST} are needed"
        )
    held = recorded.of([*known.models, newcomer])
    asked, old = known.question, known.policy.traits
    count = len(known.models) - known.newcomers
    before = asked.kin if asked.kin is not None else kin.nobody(old.score[:count])
    usual = asked.known(Prompts(vectors, held.prompts))
    weights, doubt = fit(before, before.seen(usual).astype(np.float64), _fair(held.scores, usual.mean[:, :count]))
    later = before.joined(weights, doubt)
    traits = _with(old, held, known.unit, float(sigmoid(weights[-1:])[0]))
    policy = replace(known.policy, traits=traits, late=(*(known.policy.late or (False,) * len(known.models)), True))
    models = (*known.models, newcomer)
    grown = replace(known, models=models, question=replace(asked, kin=later), policy=policy, hash="", newcomers=known.newcomers + 1)
    return Joined(grown, newcomer, len(held), float(held.scores[:, -1].mean()))


def fit(before: Kin, rows: Doubles, scores: Doubles) -> tuple[Floats, Floats]:
    """A newcomer's weights (e + 1,) and their covariance: logistic, with a normal prior about the mean of the known models (Laplace).

    `rows` (n, e + 1): by `Kin.seen`, of the questions that it answered with these `scores` (n,).
    """
    centre = before.centre.astype(np.float64)
    apart = (np.square(centre - centre.mean()).sum() + POOLS * SHIFT**2) / (len(centre) - 1 + POOLS)
    middle = np.append(np.full(len(centre), 1 / len(centre)), centre.mean())
    firmness = np.append(np.full(len(centre), SLOPE**-2), 1 / apart)
    weights = middle.copy()
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-rows @ weights))
        curvature = (rows * (chance * (1 - chance))[:, None]).T @ rows + np.diag(firmness)
        weights = weights + np.linalg.solve(curvature, rows.T @ (scores - chance) - firmness * (weights - middle))
    return weights.astype(np.float32), np.linalg.inv(curvature).astype(np.float32)


def _fair(scores: Doubles, expected: Floats) -> Doubles:
    """The newcomer's scores (n,), less what it owes to questions on which the others too did better than was `expected` (n, e) of them.

    How much of it that is, the known models tell of each other. `scores` (n, >= e): theirs first, the newcomer's last.
    """
    count = expected.shape[1]
    surprise = scores[:, :count] - expected
    shared = surprise.mean(axis=1)
    if count < 2:
        return scores[:, -1]
    others = (surprise.sum(axis=1, keepdims=True) - surprise) / (count - 1)
    slope = float((surprise * others).sum() / max(float(np.square(others).sum()), 1e-9))
    found: Doubles = scores[:, -1] - min(max(slope, 0.0), 1.0) * shared
    return found


def _with(old: Traits, held: Recorded, unit: float, score: float) -> Traits:
    """The traits of one more model, the last column of `held`. `score`: its mean as it is estimated."""
    lengths = held.lengths[:, -1]
    logs = np.log1p(lengths[np.isfinite(lengths)])
    length = _drawn(logs, float(old.length.mean()))
    new = {
        "score": score,
        "cost": float(held.costs[:, -1].mean()) / unit,
        "silent": _drawn(held.votes[:, -1] == NO_VOTE, float(old.silent.mean())),
        "length": length,
        "length_spread": max(_drawn((logs - length) ** 2, float(np.square(old.length_spread).mean())), 1e-2) ** 0.5,
    }
    grown = {name: np.append(getattr(old, name), np.float32(new[name])) for name in TRAITS if name != "together"}
    pairs = _together(old, held)
    together = np.block([[old.together, pairs[:-1, None]], [pairs[None]]]).astype(np.float32)
    return Traits(**grown, together=together)


def _drawn(values: NDArray[np.generic], usual: float) -> float:
    """Their mean, drawn to what is usual by KNOWN values of it."""
    return float((values.sum() + KNOWN * usual) / (len(values) + KNOWN))


def _together(old: Traits, held: Recorded) -> Doubles:
    """How often the newcomer says the same as each model, itself last, where both are wrong: drawn to how often the others do."""
    e = len(old.score)
    usual = float(old.together[~np.eye(e, dtype=bool)].mean()) if e > 1 else float(old.together.mean())
    wrong = (held.scores < 0.5) & (held.votes != NO_VOTE)
    both = wrong & wrong[:, -1:]
    same = both & (held.votes == held.votes[:, -1:])
    found: Doubles = (same.sum(axis=0) + KNOWN_TOGETHER * usual) / (both.sum(axis=0) + KNOWN_TOGETHER)
    return found


def keep(folder: Path, base: Path, found: Joined, created: datetime) -> str:
    """Writes the artifact with its newcomer and returns its hash. `base`: the artifact that it joined, whose other parts stay as they are.

    Raises what artifacts.write raises, and BadArtifact.
    """
    loaded = artifacts.load(base, KIND)
    told = [*joined(loaded), {"model": found.newcomer, "outcomes": found.outcomes, "score": found.score, "of": loaded.hash}]
    tensors = {**loaded.tensors, **_changed(found.known)}
    settings = {**loaded.settings, "joined": told}
    settings["question"] = {**loaded.settings["question"], "kin": {}}
    manifest = loaded.manifest
    origin = artifacts.Origin(KIND, found.known.models, manifest.data_hash, created, manifest.encoder, manifest.metrics)
    return artifacts.write(folder, origin, tensors, settings)


def _changed(known: Experience) -> Mapping[str, NDArray[np.generic]]:
    later = known.question.kin
    parts = {"question/kin": later.tensors() if later is not None else {}, "policy": known.policy.traits.tensors()}
    return gathered(parts)
