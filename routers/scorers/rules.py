"""Rules that people write down: if the request looks like this, these models suit it so well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import regex
from pydantic import BaseModel, ConfigDict, Field, field_validator

from routers import cues
from routers.api import Candidate, Need, RouteRequest
from routers.languages import language

PATTERN_SECONDS = 0.002
PATTERN_CHARACTERS = 20_000
LATE_PATTERNS = 3
"""After so many patterns of one request ran out of time the others are not tried, so that many rules cannot hold up the event loop."""


class When(BaseModel):
    """The conditions of a rule; all that are given must hold. No condition: always."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keywords: list[str] | None = Field(None, min_length=1)
    pattern: str | None = None
    min_prompt_tokens: int | None = Field(None, ge=0)
    max_prompt_tokens: int | None = Field(None, ge=0)
    code: bool | None = None
    maths: bool | None = None
    wants_json: bool | None = Field(None, alias="json")
    tools: bool | None = None
    language: list[str] | None = Field(None, min_length=1)

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise ValueError(f"is no regular expression: {error}") from None
        return pattern


class Rule(BaseModel):
    """What a request looks like, and the opinion on each model then."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    when: When = When()
    prefer: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1)


class Rules:
    """The first rule that matches gives its opinions, and 0 to models that it does not name; if none matches, there is no opinion.

    Conditions: keywords (any, whole words, any case), pattern (regular expression, at most 2 ms over the first 20,000 characters;
    one that takes longer does not match, and after three such none is tried any more), min/max_prompt_tokens, code, maths, json,
    tools (bool), language (ISO 639-1 codes).
    """

    needs: frozenset[Need] = frozenset({"text"})
    instant = True
    predicts: Literal["preference"] = "preference"

    def __init__(self, rules: Annotated[list[Rule], Field(min_length=1)]) -> None:
        self._rules = [(rule, _compiled(rule.when)) for rule in rules]

    def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        search = _Search(request.text[:PATTERN_CHARACTERS])
        for rule, patterns in self._rules:
            if _holds(rule.when, patterns, request, search):
                return {candidate.name: rule.prefer.get(candidate.name, 0.0) for candidate in candidates}
        return {}


class _Search:
    """Patterns over the text of one request, within bounds of time."""

    __slots__ = ("_late", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._late = 0

    def finds(self, pattern: regex.Pattern[str]) -> bool:
        if self._late >= LATE_PATTERNS:
            return False
        try:
            return pattern.search(self._text, timeout=PATTERN_SECONDS) is not None
        except TimeoutError:
            self._late += 1
            return False


def _compiled(when: When) -> list[regex.Pattern[str]]:
    patterns = []
    if when.keywords is not None:
        words = "|".join(regex.escape(word) for word in when.keywords)
        patterns.append(regex.compile(rf"(?<!\w)(?:{words})(?!\w)", regex.IGNORECASE))
    if when.pattern is not None:
        patterns.append(regex.compile(when.pattern))
    return patterns


def _holds(when: When, patterns: Sequence[regex.Pattern[str]], request: RouteRequest, search: _Search) -> bool:
    if when.min_prompt_tokens is not None and request.prompt_tokens < when.min_prompt_tokens:
        return False
    if when.max_prompt_tokens is not None and request.prompt_tokens > when.max_prompt_tokens:
        return False
    if when.tools is not None and ("tools" in request.needs) != when.tools:
        return False
    text = request.text
    if when.wants_json is not None and (cues.asks_for_json(text) or "json_schema" in request.needs) != when.wants_json:
        return False
    if when.code is not None and cues.is_code(text) != when.code:
        return False
    if when.maths is not None and cues.is_maths(text) != when.maths:
        return False
    if when.language is not None and language(text) not in when.language:
        return False
    return all(search.finds(pattern) for pattern in patterns)
