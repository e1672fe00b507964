"""What a question says of its grading, field by field; whatever is wrong is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_MISSING = object()


class BadGrader(ValueError):
    """A grader that is not known, or fields that it cannot use. `field`: which."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Fields:
    """Takes the fields of a grader one by one; `done` refuses those that nobody asked for. Every method raises BadGrader."""

    def __init__(self, grader: str, answer: object, parameters: Mapping[str, object]) -> None:
        self.grader = grader
        self.answer = answer
        self._left = dict(parameters)
        self._known: list[str] = []

    def done(self) -> None:
        """Every field has been taken."""
        for name in self._left:
            known = ", ".join(self._known) or "none"
            raise BadGrader(name, f"the grader {self.grader!r} has no such field; known: {known}")

    def take(self, name: str, default: object = _MISSING) -> object:
        self._known.append(name)
        found = self._left.pop(name, default)
        if found is _MISSING:
            raise BadGrader(name, f"the grader {self.grader!r} needs it")
        return found

    def flag(self, name: str, default: bool) -> bool:
        found = self.take(name, default)
        if not isinstance(found, bool):
            raise BadGrader(name, "must be true or false")
        return found

    def number(self, name: str, default: float, least: float = 0.0, most: float = 1e12) -> float:
        found = self.take(name, default)
        if isinstance(found, bool) or not isinstance(found, int | float) or not least <= found <= most:
            raise BadGrader(name, f"must be a number from {least:g} to {most:g}")
        return float(found)

    def text(self, name: str, default: str | None = None) -> str:
        found = self.take(name) if default is None else self.take(name, default)
        if not isinstance(found, str) or (not found and default != ""):
            raise BadGrader(name, "must be a text")
        return found

    def texts(self, name: str, default: Sequence[str]) -> list[str]:
        """A list of texts, or one text alone."""
        return _texts(name, self.take(name, list(default)))

    def accepted(self) -> list[str]:
        """The right answers: `answer` is a text, a number, or a list of such. Any of them counts."""
        values = self.answer if isinstance(self.answer, list) else [self.answer]
        if not values or any(isinstance(value, bool) or not isinstance(value, str | int | float) for value in values):
            raise BadGrader("answer", f"the grader {self.grader!r} needs a text or a number, or a list of them")
        found = [str(value) for value in values]
        if not all(text.strip() for text in found):
            raise BadGrader("answer", "must not be empty")
        return found


def _texts(name: str, found: object) -> list[str]:
    values = [found] if isinstance(found, str) else found
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        raise BadGrader(name, "must be a text or a list of texts")
    return values
