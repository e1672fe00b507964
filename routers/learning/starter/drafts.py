"""What a maker of questions works with: texts in six languages, and the draft that it hands back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from types import MappingProxyType
from typing import Any

LANGUAGES = ("en", "de", "fr", "es", "zh", "hi")


@dataclass(frozen=True, slots=True)
class Draft:
    """A question before it has its place in the set. `answer` earns the full score from its own grader."""

    prompt: str
    grader: str
    answer: object
    parameters: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts that ship with the set. `templates`: name -> language -> a text with places; `vocabulary`, `knowledge`: see the files."""

    templates: Mapping[str, Mapping[str, str]]
    vocabulary: Mapping[str, Any]
    knowledge: Mapping[str, Sequence[Sequence[str]]]

    def say(self, template: str, language: str, places: Mapping[str, object] = MappingProxyType({})) -> str:
        """A template with its places filled."""
        return self.templates[template][language].format_map(places)


def load_texts() -> Texts:
    """Reads the texts from the package."""
    folder = files(__package__ or "routers.learning.starter")
    loaded = [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("templates", "vocabulary", "knowledge")]
    return Texts(*loaded)
