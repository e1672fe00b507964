"""How well each model does in the prompt's language; where little is known of a language, its family speaks, and then all of them.

(Experts by language family: Zheng et al., "Efficiently Democratizing Medical LLMs for 50 Languages", arXiv 2410.10626)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from routers.languages import language
from routers.learned import Expected, LearnedScorer, Lessons, Prompts, Stored

if TYPE_CHECKING:
    from routers.artifacts import Tensor
    from routers.learned import Floats

KNOBS = (20.0,)
"""Questions that the wider table counts for in the narrower one."""

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("en", "de", "nl", "sv", "da", "no"), "germanic"),
        **dict.fromkeys(("fr", "es", "it", "pt", "ro", "ca"), "romance"),
        **dict.fromkeys(("ru", "uk", "pl", "cs", "bg", "sr", "sk"), "slavic"),
        **dict.fromkeys(("zh", "ja", "ko"), "east asian"),
        **dict.fromkeys(("hi", "bn", "ur", "mr", "pa", "gu"), "indo-aryan"),
        **dict.fromkeys(("ta", "te", "kn", "ml"), "dravidian"),
        **dict.fromkeys(("ar", "he", "am"), "semitic"),
        **dict.fromkeys(("tr", "az", "kk"), "turkic"),
        **dict.fromkeys(("fi", "hu", "et"), "uralic"),
    }
)
"""A language that is not here is a family of its own."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Beta posteriors by language. `names`: l languages. `right`, `wrong`: float32 (l + 1, m); the last row is for all other languages."""

    names: tuple[str, ...]
    right: Floats
    wrong: Floats

    def expect(self, prompts: Prompts) -> Expected:
        places = {name: place for place, name in enumerate(self.names)}
        rows = [self._row(places, language(text)) for text in prompts.texts]
        right, total = self.right[rows], (self.right + self.wrong)[rows]
        mean = right / total
        return Expected(mean.astype(np.float32), np.sqrt(mean * (1 - mean) / (total + 1)).astype(np.float32))

    def _row(self, places: Mapping[str, int], name: str) -> int:
        return places.get(name, places.get(f"family {_family(name)}", len(self.names)))

    def tensors(self) -> Mapping[str, Tensor]:
        return {"right": self.right, "wrong": self.wrong}

    def settings(self) -> Mapping[str, object]:
        return {"languages": list(self.names)}


def _family(name: str) -> str:
    return FAMILIES.get(name, name)


def fit(lessons: Lessons, knob: float, seed: int = 0) -> Tables:
    """Tables of all prompts, of each family on top of that, and of each language on top of its family; each wider table weighs `knob`."""
    languages = np.array([language(text) for text in lessons.prompts.texts])
    families = np.array([_family(name) for name in languages.tolist()])
    everything = _counts(lessons, np.ones(len(lessons), dtype=bool)) + np.stack([lessons.means, 1 - lessons.means])
    tables: dict[str, Floats] = {}
    for family in sorted(set(families.tolist())):
        tables[f"family {family}"] = _counts(lessons, families == family) + _prior(everything, knob)
        for name in sorted(set(languages[families == family].tolist())):
            tables[name] = _counts(lessons, languages == name) + _prior(tables[f"family {family}"], knob)
    kept = np.stack([*tables.values(), everything]).astype(np.float32)
    return Tables(tuple(tables), np.maximum(kept[:, 0], 1e-3), np.maximum(kept[:, 1], 1e-3))


def _counts(lessons: Lessons, where: Tensor) -> Floats:
    """(2, m): scores and what is missing to 1, summed over the questions where they are known."""
    scores = lessons.scores[where]
    known = ~np.isnan(scores)
    right = np.where(known, scores, 0).sum(axis=0)
    found: Floats = np.stack([right, known.sum(axis=0) - right]).astype(np.float32)
    return found


def _prior(table: Floats, weight: float) -> Floats:
    found: Floats = (weight * table / np.maximum(table.sum(axis=0), 1e-9)).astype(np.float32)
    return found


def read(stored: Stored) -> Tables:
    """Raises BadArtifact."""
    names = stored.names("languages")
    right, wrong = (stored.array(name, len(names) + 1, len(stored.models)) for name in ("right", "wrong"))
    return Tables(names, np.maximum(right, 1e-3), np.maximum(wrong, 1e-3))


class Language(LearnedScorer):
    """Each model's record in the prompt's language, or its family's. `artifact`: made by `pointsman train language`."""

    kind = "language"

    @classmethod
    def read(cls, stored: Stored) -> Tables:
        return read(stored)
