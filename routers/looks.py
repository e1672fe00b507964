"""How the option looks that an answer names, beside the question's other options, in numbers.

Models that know nothing prefer some places and lengths to others, and so do those who write questions: what an option looks like says how
much its backers' word is worth.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from routers.answers import ALPHABET, offered

if TYPE_CHECKING:
    from routers.learned import Floats

LOOKS = 8
"""Numbers that say how an option looks: its place; its length in shares of the options' mean; the share of it that is digits; where its
number stands among the options' numbers, from 0, the least, to 1; and of the question, how many options it has, their mean length and mean
share of digits, and its own length. Lengths are in characters.
"""
UNKNOWN = -1.0
FEWEST_NUMBERS = 4
"""Options that must hold a number before their order says anything."""
LONGEST = 400
"""Characters of an option that are looked at."""
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a question. `letters`: such as "ABCD". `looks`: float32 (o + 1, LOOKS), the last of an answer that is none of them."""

    letters: str
    looks: Floats

    @classmethod
    def of(cls, question: str) -> Self:
        texts = [text[:LONGEST] for text in offered(question)]
        found = np.full((len(texts) + 1, LOOKS), UNKNOWN, dtype=np.float32)
        found[:, 7] = len(question)
        if texts:
            lengths = [len(text) for text in texts]
            digits = [len(_DIGIT.findall(text)) / max(1, length) for text, length in zip(texts, lengths, strict=True)]
            mean = sum(lengths) / len(texts)
            parts = (range(len(texts)), [length / max(1.0, mean) for length in lengths], digits, _standing(texts))
            found[:-1, :4] = list(zip(*parts, strict=True))
            found[:, 4:7] = len(texts), mean, sum(digits) / len(texts)
        return cls(ALPHABET[: len(texts)], found)

    def named(self, letters: Sequence[str]) -> Floats:
        """(k, LOOKS): how the options with these letters look; what is no letter of an option is none of them."""
        place = {letter: row for row, letter in enumerate(self.letters)}
        found: Floats = self.looks[[place.get(letter, len(self.letters)) for letter in letters]]
        return found

    def said(self, letters: Sequence[str], more: int) -> Floats:
        """(k + more, LOOKS): of the options with these letters, and of `more` that may still be named: those that were not, in their order,
        and no option at all where these do not suffice.
        """
        rest = [letter for letter in self.letters if letter not in letters]
        return self.named([*letters, *[*rest, *[""] * more][:more]])


def _standing(texts: Sequence[str]) -> list[float]:
    """Where each option's first number stands among those of the others."""
    numbers = [_NUMBER.search(text.replace(",", "")) for text in texts]
    known = sorted((float(number[0]), place) for place, number in enumerate(numbers) if number is not None)
    found = [UNKNOWN] * len(texts)
    if len(known) >= FEWEST_NUMBERS:
        for rank, (_, place) in enumerate(known):
            found[place] = rank / (len(known) - 1)
    return found
