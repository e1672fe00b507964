"""Questions with a way to grade their answers: what `pointsman calibrate` asks every model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from routers.learning.grading import BadGrader, Grade, prepare
from routers.learning.outcomes import Split

_SPACE = re.compile(r"\s+")
_OWN = ("id", "prompt", "messages", "grader", "answer", "dataset", "language", "parameters")
_ROLES = ("system", "developer", "user", "assistant")
SHOWN = 20
"""Problems named in one complaint."""


class BadQuestions(ValueError):
    """Questions that cannot be asked. `problems`: each with its line, counted from 1, and the field."""

    def __init__(self, problems: Sequence[str]) -> None:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        super().__init__("\n".join([*problems[:SHOWN], *more]))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Question:
    """`id`: the table's query_id. `prompt`: what routers see of it, the newest turn of the user; `messages`: all that is sent.

    `answer` and `parameters`: the grader's fields, see `grading`. `language`: ISO 639-1, "" if not known.
    """

    id: str
    dataset: str
    prompt: str
    grader: str
    answer: object = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    messages: Sequence[Mapping[str, Any]] = ()
    language: str = ""

    @property
    def chat(self) -> list[Mapping[str, Any]]:
        """The messages to send."""
        return list(self.messages) or [{"role": "user", "content": self.prompt}]

    def grade(self) -> Grade:
        """How to grade an answer. Raises BadGrader; ImportError for a missing extra."""
        return prepare(self.grader, self.answer, self.parameters)

    def digest(self) -> str:
        """16 hex digits of all that an outcome depends on: it changes if the messages or the grading do."""
        parts = [self.chat, self.grader, self.answer, dict(self.parameters)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode(errors="replace")).hexdigest()[:16]


def normal(prompt: str) -> str:
    """A prompt but for case and white space: two that are equal so are one question."""
    return _SPACE.sub(" ", prompt.lower()).strip()


def split_of(prompt: str) -> Split:
    """40 % test, 10 % validation, 50 % train, by the prompt alone: the same today and tomorrow, here and in other tables made so."""
    place = int(hashlib.sha256(f"router-v1:{normal(prompt)}".encode(errors="replace")).hexdigest(), 16) % 100
    return "test" if place < 40 else "validation" if place < 50 else "train"


def name_of(prompt: str) -> str:
    """16 hex digits that name a prompt."""
    return hashlib.sha256(normal(prompt).encode(errors="replace")).hexdigest()[:16]


def read_questions(lines: Iterable[str]) -> list[Question]:
    """The questions of a JSONL text; empty lines are skipped. Every grader has been prepared once, so all of them can be used.

    Raises BadQuestions with every problem: no JSON, a missing or wrong field, a grader that cannot be, an id or a prompt for the second
    time. ImportError for a missing extra.
    """
    found: list[Question] = []
    problems: list[str] = []
    first: dict[tuple[str, str], int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            question = _read(line)
            question.grade()
        except BadGrader as error:
            problems.append(f"line {number}: {error}")
            continue
        for what, key in (("id", question.id), ("prompt", _conversation(question))):
            if first.setdefault((what, key), number) != number:
                problems.append(f"line {number}: {what}: is that of line {first[what, key]} already")
                break
        else:
            found.append(question)
    if not found and not problems:
        problems.append("there is no question")
    if problems:
        raise BadQuestions(problems)
    return found


def _conversation(question: Question) -> str:
    return "\0".join(f"{turn['role']} {normal(turn['content'])}" for turn in question.chat)


def _read(line: str) -> Question:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadGrader("JSON", f"cannot be read: {error}") from None
    if not isinstance(row, dict):
        raise BadGrader("JSON", "must be an object")
    prompt, messages = _asked(row)
    grader, parameters = _grader(row)
    identity = row.get("id", name_of(prompt if not messages else json.dumps(messages, sort_keys=True)))
    texts = {"id": identity, "dataset": row.get("dataset", "prompts"), "language": row.get("language", "")}
    for name, value in texts.items():
        if not isinstance(value, str) or (not value and name != "language"):
            raise BadGrader(name, "must be a text")
    return Question(identity, texts["dataset"], prompt, grader, row.get("answer"), parameters, messages, texts["language"])


def _asked(row: Mapping[str, Any]) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    """The prompt, and the messages if they are given."""
    if ("prompt" in row) == ("messages" in row):
        raise BadGrader("prompt", "either `prompt` or `messages` must be given")
    if "prompt" in row:
        if not isinstance(row["prompt"], str) or not row["prompt"].strip():
            raise BadGrader("prompt", "must be a text")
        return row["prompt"], ()
    messages = row["messages"]
    if not isinstance(messages, list) or not all(isinstance(one, dict) and one.get("role") in _ROLES for one in messages):
        raise BadGrader("messages", f"must be a list of objects with a role ({', '.join(_ROLES)}) and a content")
    if not all(isinstance(one.get("content"), str) for one in messages):
        raise BadGrader("messages", "every content must be a text")
    newest = next((str(one["content"]) for one in reversed(messages) if one["role"] == "user"), "")
    if not newest.strip():
        raise BadGrader("messages", "there must be a turn of the user")
    return newest, tuple(messages)


def _grader(row: Mapping[str, Any]) -> tuple[str, dict[str, object]]:
    """A grader's name and its fields. They stand beside the other fields, or in `parameters`, or with `type` in `grader`."""
    given = row.get("grader")
    inner = dict(given) if isinstance(given, dict) else {}
    name = inner.pop("type", None) if isinstance(given, dict) else given
    if not isinstance(name, str):
        raise BadGrader("grader", "must be a name, or an object with a `type`")
    more = row.get("parameters", {})
    if not isinstance(more, dict):
        raise BadGrader("parameters", "must be an object")
    return name, {**{key: value for key, value in row.items() if key not in _OWN}, **more, **inner}
