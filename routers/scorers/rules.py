"""Rules that people write down: if the request looks like this, these models suit it so well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import regex
from pydantic import BaseModel, ConfigDict, Field, field_validator

from routers import cues
from routers.api import Candidate, Need, RouteRequest

PATTERN_SECONDS = 0.002
PATTERN_CHARACTERS = 20_000


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
    one that takes longer does not match), min/max_prompt_tokens, code, maths, json, tools (bool), language (ISO 639-1 codes).
    """

    needs: frozenset[Need] = frozenset({"text"})
    instant = True
    predicts: Literal["preference"] = "preference"

    def __init__(self, rules: Annotated[list[Rule], Field(min_length=1)]) -> None:
        self._rules = [(rule, _compiled(rule.when)) for rule in rules]

    def score(self, request: RouteRequest, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        for rule, patterns in self._rules:
            if _holds(rule.when, patterns, request):
                return {candidate.name: rule.prefer.get(candidate.name, 0.0) for candidate in candidates}
        return {}


def _compiled(when: When) -> list[regex.Pattern[str]]:
    patterns = []
    if when.keywords is not None:
        words = "|".join(regex.escape(word) for word in when.keywords)
        patterns.append(regex.compile(rf"(?<!\w)(?:{words})(?!\w)", regex.IGNORECASE))
    if when.pattern is not None:
        patterns.append(regex.compile(when.pattern))
    return patterns


def _holds(when: When, patterns: Sequence[regex.Pattern[str]], request: RouteRequest) -> bool:
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
    if when.language is not None and cues.language(text) not in when.language:
        return False
    return all(_found(pattern, text) for pattern in patterns)


def _found(pattern: regex.Pattern[str], text: str) -> bool:
    try:
        return pattern.search(text[:PATTERN_CHARACTERS], timeout=PATTERN_SECONDS) is not None
    except TimeoutError:
        return False
