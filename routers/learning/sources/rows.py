"""What every source is brought to: rows, models, and the rules for splits, tokens and costs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec

from routers.learning.outcomes import Split

TEST_BELOW, VALIDATION_BELOW = 40, 50
"""Of 100 places: those below the first are test, from there to below the second validation, the rest train."""
CHARACTERS_PER_TOKEN = 4
DIGITS = 12
"""Of a cost in USD: what lies below is noise of the arithmetic."""
Dollars: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Tokens: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class BadSource(ValueError):
    """A project's file that cannot be used. `path`: which; `where`: the row, line or entry, counted from 1, or "" for the whole file."""

    def __init__(self, path: Path, problem: str, where: str = "") -> None:
        super().__init__(f"{path}: {where}: {problem}" if where else f"{path}: {problem}")
        self.path = path
        self.where = where


@dataclass(frozen=True, slots=True)
class Row:
    """One answer: `score` in [0, 1], `cost_usd` in USD. Unknown is None, never 0."""

    query_id: str
    dataset: str
    prompt: str
    model: str
    score: float
    cost_usd: float | None
    tokens_in: int | None
    tokens_out: int | None


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a source. Prices: USD per 1M tokens. `price_basis`: `source`, the project's own, or `derived`, a list price of its time.

    What is not known is None.
    """

    name: str
    table: str
    family: str | None
    usd_per_1m_tokens_in: float | None
    usd_per_1m_tokens_out: float | None
    price_basis: str | None
    context_window: int | None
    description: str | None

    def cost(self, tokens_in: int, tokens_out: int) -> float | None:
        """USD; None where no price is known."""
        if self.usd_per_1m_tokens_in is None or self.usd_per_1m_tokens_out is None:
            return None
        return round((tokens_in * self.usd_per_1m_tokens_in + tokens_out * self.usd_per_1m_tokens_out) / 1e6, DIGITS)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader found. `notes`: what was left out, mended or not there, a sentence each."""

    rows: Sequence[Row]
    models: Sequence[Model]
    notes: Sequence[str]


def split_of(prompt: str) -> Split:
    """40 % test, 10 % validation, 50 % train, by the prompt alone, whatever its case and white space: equal prompts are never parted.

    h = sha256("router-v1:" + prompt) mod 100, the prompt lower-cased, with each run of white space as one space and none at its ends.
    """
    key = "router-v1:" + " ".join(prompt.lower().split())
    place = int(hashlib.sha256(key.encode()).hexdigest(), 16) % 100
    return "test" if place < TEST_BELOW else "validation" if place < VALIDATION_BELOW else "train"


def estimate_tokens(text: str) -> int:
    """A quarter of the characters, rounded up, and at least 1 (the end of an answer is a token too): for sources that did not count."""
    return max(1, math.ceil(len(text) / CHARACTERS_PER_TOKEN))


def check_score(score: float, path: Path, where: str) -> float:
    """The score itself. Raises BadSource if it is outside [0, 1] or NaN."""
    if not 0 <= score <= 1:
        raise BadSource(path, f"score {score:g} is outside [0, 1]", where)
    return float(score)
