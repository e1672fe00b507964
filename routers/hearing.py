"""The answers of a transcript as a credence hears them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Self

import numpy as np

from routers.answers import Form, groups, point
from routers.credence import NO_VOTE, Claims, Credence, Loaded, Said
from routers.looks import Options

if TYPE_CHECKING:
    from pathlib import Path

    from routers.api import Encoder, RouteRequest, Turn
    from routers.learned import Floats

MOST_CASES = 150
"""Ways in which those who are still out may answer that are looked at; where there are more, nothing counts as decided."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Answers of models that the credence knows. `turns`: theirs. `columns`: of each turn's model. `count`: of different answers. `said`
    has looks for what has not been said as well.
    """

    credence: Credence
    turns: tuple[Turn, ...]
    columns: tuple[int, ...]
    said: Said
    count: int

    @classmethod
    def of(cls, credence: Credence, answers: Sequence[Turn], request: RouteRequest, form: Form) -> Self:
        """`answers`: turns with a text. `form`: what answers are compared as."""
        place = {name: column for column, name in enumerate(credence.models)}
        turns = tuple(turn for turn in answers if turn.ask.models[0] in place)
        columns = tuple(place[turn.ask.models[0]] for turn in turns)
        offer = Options.of(request.text)
        points = [point(turn.text or "", form, offer.letters) for turn in turns]
        found = groups(points)
        votes = np.full((1, len(place)), NO_VOTE, dtype=np.int32)
        asked = np.zeros(votes.shape, dtype=bool)
        lengths = np.full(votes.shape, np.nan, dtype=np.float32)
        for column, turn in zip(columns, turns, strict=True):
            asked[0, column] = True
            lengths[0, column] = np.nan if turn.tokens_out is None else turn.tokens_out
        for number, group in enumerate(found):
            votes[0, [columns[member] for member in group]] = number
        said = [one.text if one is not None and one.kind == "choice" else "" for one in (points[group[0]] for group in found)]
        expected = credence.expect(request.embedding, request.text)[None]
        heard = Said(votes, asked, lengths, expected, offer.said(said, len(place))[None])
        return cls(credence, turns, columns, heard, len(found))

    def best(self) -> tuple[Turn, float] | None:
        """The likeliest answer, in the words of the model of which most is expected, and its chance; None if nobody settled on anything."""
        claims = self.credence.claims(self.said)
        if not len(claims.owner):
            return None
        chances = self.credence.chances(claims)
        first = int(chances.argmax())
        speakers = [place for place, column in enumerate(self.columns) if claims.backers[first, column]]
        speaker = max(speakers, key=lambda place: float(self.said.expected[0, self.columns[place]]))
        return self.turns[speaker], float(chances[first])

    def decided(self, out: Sequence[str]) -> bool:
        """Whether the likeliest answer stays the same whatever the models in `out` say, in answers of their usual length. They may say what
        has been said, something new, the same new thing as each other, or nothing that counts.
        """
        columns = [self.credence.models.index(name) for name in out if name in self.credence.models]
        if not columns:
            return True
        ways = [NO_VOTE, *range(self.count + len(columns))]
        if not self.count or len(ways) ** len(columns) > MOST_CASES:
            return False
        cases = np.array(list(product(ways, repeat=len(columns))), dtype=np.int32)
        one, many = self.said, len(cases)
        votes, asked = one.votes.repeat(many, axis=0), one.asked.repeat(many, axis=0)
        votes[:, columns], asked[:, columns] = cases, True
        said = Said(votes, asked, *(array.repeat(many, axis=0) for array in (one.lengths, one.expected, one.looks)))
        claims = self.credence.claims(said)
        winners = _winners(claims, self.credence.chances(claims), said)
        return bool((winners == winners[0]).all() and winners[0] < self.count)


@dataclass(frozen=True, slots=True)
class Hearing:
    """A credence with its encoder, and what answers are compared as. `hash`: of the artifact that it comes from."""

    credence: Credence
    encoder: Encoder
    hash: str
    form: Form

    @classmethod
    def load(cls, artifact: Path, form: Form) -> Self:
        """Raises BadArtifact; ImportError without the extra that its encoder needs."""
        loaded = Loaded.load(artifact)
        return cls(loaded.credence, loaded.encoder, loaded.artifact.hash, form)

    def hear(self, answers: Sequence[Turn], request: RouteRequest) -> Heard:
        return Heard.of(self.credence, answers, request, self.form)


def _winners(claims: Claims, chances: Floats, said: Said) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """(b,): the number of each question's likeliest answer."""
    order = np.lexsort((-chances, claims.owner))
    first = order[np.unique(claims.owner[order], return_index=True)[1]]
    backer = claims.backers[first].argmax(axis=1)
    found: np.ndarray[tuple[int], np.dtype[np.int32]] = said.votes[claims.owner[first], backer]
    return found
