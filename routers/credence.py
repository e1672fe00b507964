"""How likely is each answer right, given which model said what? Learned from recorded answers by `pointsman train cascade`.

Trees see, of each different answer, who backs it, who was asked, who settled on nothing, what is expected of each model on this question,
how much longer than usual its answer is, and how the option looks that it names. Unlike a sum of weights they can learn that two models
err together, that one's word counts for more where it is alone, and for less where those who guess would say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from routers import artifacts, record, trees
from routers.artifacts import Artifact, BadArtifact
from routers.learned import Prompts, Stored, encoder_of, gathered, logit, sigmoid
from routers.looks import LOOKS
from routers.stages import KIND
from routers.trees import Trees

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from routers.api import Embedding, Encoder
    from routers.artifacts import Tensor
    from routers.learned import Floats
    from routers.record import Record

    Flags = NDArray[np.bool_]
    Places = NDArray[np.int64]
    Votes = NDArray[np.int32]

NO_VOTE = -1
MOST_LONG = 3.0


@dataclass(frozen=True, slots=True)
class Said:
    """What was said to b questions by m models. `votes`: int32, equal numbers are equal answers, NO_VOTE settles on nothing; `asked`;
    `lengths`: float32, tokens, NaN where unknown; `expected`: float32, the models' expected scores: all (b, m). `looks`: float32
    (b, v, LOOKS), by the number of an answer, how the option looks that it names.
    """

    votes: Votes
    asked: Flags
    lengths: Floats
    expected: Floats
    looks: Floats


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of each model's usual answers: mean and standard deviation of log(1 + tokens), (m,)."""

    mean: Floats
    spread: Floats

    def long(self, lengths: Floats) -> Floats:
        """How much longer than usual answers (b, m) are, in standard deviations; 0 where unknown."""
        found: Floats = np.clip((np.log1p(lengths) - self.mean) / self.spread, -MOST_LONG, MOST_LONG).astype(np.float32)
        return np.nan_to_num(found)


@dataclass(frozen=True, slots=True)
class Claims:
    """The different answers to b questions, c in all. `owner` (c,): whose question. `backers` (c, m): who gave it. `rows` (c, inputs(m)):
    what the trees read.
    """

    owner: Places
    backers: Flags
    rows: Floats


def inputs(models: int) -> int:
    """How many numbers the trees read of one answer."""
    return 5 * models + 5 + LOOKS


def claims(said: Said, usual: Lengths) -> Claims:
    """The answers to questions, each with what speaks for and against it."""
    counted = np.where(said.asked, said.votes, NO_VOTE)
    voted = counted != NO_VOTE
    agree = (counted[:, :, None] == counted[:, None, :]) & voted[:, :, None] & voted[:, None, :]
    first = voted & ~np.tril(agree, -1).any(axis=2)
    owner, speaker = np.nonzero(first)
    backers = agree[owner, speaker]
    against = voted[owner] & ~backers
    odds = logit(said.expected)[owner]
    size = backers.sum(axis=1)
    sums = ((backers * odds).sum(axis=1), (against * odds).sum(axis=1))
    alone = np.stack([size, *sums, _largest_other(owner, size, len(voted)), first.sum(axis=1)[owner]], axis=1)
    asked = said.asked[owner]
    long = np.where(asked, usual.long(said.lengths)[owner], 0)
    looks = said.looks[owner, counted[owner, speaker]]
    parts = (backers, asked, asked & ~voted[owner], odds, long, alone, looks)
    return Claims(owner, backers, np.concatenate([part.astype(np.float32) for part in parts], axis=1))


def _largest_other(owner: Places, size: Places, questions: int) -> Places:
    """(c,): how many back the answer with the most backers among the others to the same question."""
    order = np.lexsort((-size, owner))
    place = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
    top, second = np.zeros((2, questions), dtype=np.int64)
    top[owner[order][place == 0]] = order[place == 0]
    largest = np.zeros(questions, dtype=np.int64)
    largest[owner[order][place == 0]] = size[order][place == 0]
    second[owner[order][place == 1]] = size[order][place == 1]
    return np.where(top[owner] == np.arange(len(owner)), second[owner], largest[owner])


@dataclass(frozen=True, slots=True)
class Credence:
    """What an artifact of the kind `cascade` knows of m models' answers. `question`: what is expected of them before anyone is asked.

    `slope`, `shift`: of the logistic by which the trees' sum becomes a chance, fitted on questions that they never saw.
    """

    models: tuple[str, ...]
    question: Record
    trees: Trees
    lengths: Lengths
    slope: float
    shift: float

    def expect(self, embedding: Embedding | None, text: str) -> Floats:
        """(m,): expected scores on one question. `embedding`: of its encoder, unit length."""
        if embedding is None:
            return self.question.near.means
        found: Floats = self.question.expect(Prompts(embedding[None], (text,))).mean[0]
        return found

    def claims(self, said: Said) -> Claims:
        return claims(said, self.lengths)

    def chances(self, of: Claims) -> Floats:
        """(c,): the chance that each answer is right."""
        return sigmoid(self.slope * self.trees.apply(of.rows) + self.shift)

    def tensors(self) -> Mapping[str, Tensor]:
        lengths = {"mean": self.lengths.mean, "spread": self.lengths.spread}
        return {**gathered({"question": self.question.tensors(), "lengths": lengths}), **self.trees.tensors("trees")}

    def settings(self) -> Mapping[str, object]:
        return {"question": dict(self.question.settings()), "slope": self.slope, "shift": self.shift}

    @classmethod
    def read(cls, stored: Stored) -> Self:
        """Raises BadArtifact."""
        count = len(stored.models)
        found = cls(
            stored.models,
            record.read(stored.part("question")),
            trees.read(stored, "trees", inputs(count)),
            Lengths(stored.array("lengths/mean", count), stored.array("lengths/spread", count)),
            stored.number("slope", 0.0, 100.0),
            stored.number("shift", -100.0, 100.0),
        )
        if (found.lengths.spread <= 0).any():
            raise BadArtifact(stored.folder, f"{artifacts.TENSORS}: a spread of lengths is not above 0")
        return found


@dataclass(frozen=True, slots=True)
class Loaded:
    """A credence with the artifact that it comes from, and the encoder that made its vectors."""

    credence: Credence
    artifact: Artifact
    encoder: Encoder

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises BadArtifact; ImportError without the extra that its encoder needs."""
        found = artifacts.load(folder, KIND)
        stored = Stored(found.folder, found.manifest.models, found.tensors, found.settings)
        encoder = encoder_of(found)
        credence = Credence.read(stored.part("credence"))
        try:
            credence.expect(encoder.encode([""])[0], "")
        except (ValueError, IndexError) as error:
            raise BadArtifact(folder, f"{artifacts.TENSORS}: the tensors do not fit together: {error}") from None
        return cls(credence, found, encoder)
