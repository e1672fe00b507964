"""An artifact of `pointsman train rl-rounds`, read back and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from routers import artifacts
from routers.learned import Prompts, Stored, encoder_of
from routers.rounds import policy, question
from routers.rounds.standing import NO_VOTE, Sides, Standing

if TYPE_CHECKING:
    from routers.api import Encoder
    from routers.rounds.policy import Policy
    from routers.rounds.question import Question
    from routers.rounds.standing import Floats

KIND = "rl_rounds"
LEAST_UNIT = 1e-12


@dataclass(frozen=True, slots=True)
class Experience:
    """`models`: the columns of all that follows. `unit`: USD of one unit of cost. `hash`: of the artifact. `newcomers`: how many of the
    models, the last ones, joined after the policy was trained.
    """

    models: tuple[str, ...]
    question: Question
    policy: Policy
    unit: float
    encoder: Encoder
    hash: str
    newcomers: int = 0

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises BadArtifact."""
        loaded = artifacts.load(folder, KIND)
        stored = Stored(loaded.folder, loaded.manifest.models, loaded.tensors, loaded.settings)
        newcomers, count = len(joined(loaded)), len(loaded.manifest.models)
        found = cls(
            loaded.manifest.models,
            question.read(stored.part("question"), newcomers),
            policy.read(stored.part("policy"), tuple(place >= count - newcomers for place in range(count)) if newcomers else ()),
            float(stored.number("unit_usd", LEAST_UNIT)),
            encoder_of(loaded),
            loaded.hash,
            newcomers,
        )
        found.try_out(loaded.folder)
        return found

    def costs(self, prompts: Prompts) -> Floats:
        """In units, (n, m): what answers cost when the policy was trained."""
        means = self.policy.traits.cost
        found: Floats = self.question.bill.costs(prompts, means * np.float32(self.unit)) / np.float32(self.unit)
        return found

    def try_out(self, folder: Path) -> None:
        """Raises BadArtifact if its parts do not fit each other or the encoder's vectors."""
        count = len(self.models)
        try:
            nothing = Prompts(self.encoder.encode([""]), ("",))
            known = self.question.expect(nothing)
            asked, free = np.eye(1, count, dtype=bool), np.ones(1, dtype=np.float32)
            votes, lengths = np.full((1, count), NO_VOTE, dtype=np.int32), np.ones((1, count), dtype=np.float32)
            standing = Standing(known.mean, known.spread, self.costs(nothing), 4 * free, asked, votes, lengths, free, free)
            view = self.policy.look(standing)
            finite = np.isfinite(self.policy.further(view, standing.affordable)).all() and np.isfinite(view.chances).all()
        except (ValueError, IndexError) as error:
            raise artifacts.BadArtifact(folder, f"{artifacts.TENSORS}: the tensors do not fit together: {error}") from None
        if not finite or Sides.of(standing).first.sum() != 1:
            raise artifacts.BadArtifact(folder, f"{artifacts.TENSORS}: what it expects is not finite")


def joined(loaded: artifacts.Artifact) -> list[dict[str, object]]:
    """What an artifact says of the models that joined later, in order: `model`, `outcomes`, `score`. Raises BadArtifact."""
    found: list[dict[str, object]] = loaded.settings.get("joined", [])
    named = isinstance(found, list) and all(isinstance(one, dict) for one in found)
    if not named or [one.get("model") for one in found] != list(loaded.manifest.models[len(loaded.manifest.models) - len(found) :]):
        raise artifacts.BadArtifact(loaded.folder, f"{artifacts.SETTINGS}: joined must name the last of the models")
    if found and len(found) == len(loaded.manifest.models):
        raise artifacts.BadArtifact(loaded.folder, f"{artifacts.SETTINGS}: not all models can have joined later")
    return found
