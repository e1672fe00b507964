"""The grader `json_schema`: does the answer hold JSON that fits a schema? (JSON Schema 2020-12, checked by jsonschema-rs.)"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import NoReturn

import regex

from routers.learning.grading.parameters import BadGrader, Fields
from routers.learning.grading.texts import LONGEST

_FENCED = regex.compile(r"(?:```|~~~)[^\n`]*\n(.*?)(?:```|~~~)", regex.DOTALL)
MOST_STARTS = 200
"""Places in an answer's prose where JSON may begin that are tried."""


def fits(answer: str, valid: Callable[[object], bool], *, strict: bool = False) -> float:
    """1 if some JSON in the answer is valid, else 0: the whole of it, a fenced block, or the last object or list within prose.

    `strict`: the whole answer must be JSON and nothing else.
    """
    text = answer[-LONGEST:].strip()
    if strict:
        return float(any(valid(value) for value in _decoded(text)))
    for value in _documents(text):
        return float(valid(value))
    return 0.0


def _documents(text: str) -> Iterator[object]:
    """What the answer may mean by its JSON; the best guess first."""
    yield from _decoded(text)
    for block in reversed(_FENCED.findall(text)):
        yield from _decoded(block.strip())
    yield from reversed(_within(text))


def _decoded(text: str) -> Iterator[object]:
    try:
        yield json.loads(text)
    except (ValueError, RecursionError):
        return


def _within(text: str) -> list[object]:
    """Every outermost object or list that stands within prose, in its order."""
    found: list[object] = []
    decoder, place = json.JSONDecoder(), 0
    for _ in range(MOST_STARTS):
        start = min((at for at in (text.find("{", place), text.find("[", place)) if at >= 0), default=-1)
        if start < 0:
            break
        try:
            value, place = decoder.raw_decode(text, start)
            found.append(value)
        except (ValueError, RecursionError):
            place = start + 1
    return found


def read_validator(fields: Fields) -> Callable[[object], bool]:
    """The field `schema` as a test of a value. Nothing is fetched: a `$ref` may lead only within the schema.

    Raises BadGrader; ImportError without jsonschema-rs.
    """
    import jsonschema_rs

    schema = fields.take("schema")
    if not isinstance(schema, dict):
        raise BadGrader("schema", "must be a JSON object")

    def refuse(uri: str) -> NoReturn:
        raise ValueError(f"{uri} is outside of the schema")

    try:
        validator = jsonschema_rs.Draft202012Validator(schema, retriever=refuse, validate_formats=True)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise BadGrader("schema", f"is no JSON schema: {str(error).splitlines()[0]}") from None

    def valid(value: object) -> bool:
        try:
            return bool(validator.is_valid(value))
        except ValueError:  # a number or a depth that it cannot take
            return False

    return valid
