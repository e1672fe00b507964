"""The tags in which the policy model thinks, asks and answers, read piece by piece. (Router-R1: Zhang et al., arXiv 2506.09033)

    <think>…</think>   <search>MODEL: question</search>   <answer>…</answer>

A move is a search or an answer. Thoughts may stand before it, and nothing but white space between tags. `<information>` is never the
policy's to write: experts' answers stand there, and a policy that writes one makes up what it should ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import regex

Tag = Literal["think", "search", "answer", "information"]
TAGS: tuple[Tag, ...] = ("think", "search", "answer", "information")
STOPS = ("</search>", "</answer>")
"""Where generation stops. Backends leave the stop text out of what they return; `complete` puts it back."""
_OPENING = {f"<{tag}>": tag for tag in TAGS}
_PAD = r"[\s\p{Cf}]*"
_NAMES = "|".join(_PAD.join(tag) for tag in TAGS)
_LIKE_A_TAG = regex.compile(rf"[<＜﹤](?={_PAD}[/／]?{_PAD}(?:{_NAMES})(?!\w))", regex.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of what was written, as soon as it is known. `kind`: of the tag that it stands in."""

    kind: Tag
    text: str


@dataclass(frozen=True, slots=True)
class Search:
    """The policy asks an expert. `name`: as it wrote it."""

    name: str
    question: str


@dataclass(frozen=True, slots=True)
class Final:
    """The policy's answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Broken:
    """What was written keeps to no grammar. `why`: told to the policy."""

    why: str


Move = Search | Final | Broken


class Parser:
    """Reads one turn of the policy as it comes. What it finds does not depend on where the text is cut into pieces."""

    def __init__(self) -> None:
        self._rest = ""
        self._inside: Tag | None = None
        self._body: list[str] = []
        self._move: Move | None = None

    @property
    def move(self) -> Move | None:
        """The turn's search or answer, or why there can be none any more; None as long as nobody knows. It never changes again."""
        return self._move

    def feed(self, text: str) -> list[Piece]:
        """Reads on. Returns the pieces of thoughts, searches and answers that are certain now. Beyond the move nothing is read."""
        pieces: list[Piece] = []
        self._rest += text
        while self._move is None and self._step(pieces):
            pass
        if self._move is not None:
            self._rest = ""
        return pieces

    def end(self) -> Move:
        """The text has ended."""
        if self._move is None:
            where = f"<{self._inside}> is never closed" if self._inside else "there is neither <search> nor <answer>"
            if self._rest.strip() and self._inside is None:
                where = f"{_shown(self._rest)} stands outside of every tag"
            self._move = Broken(where)
        return self._move

    def _step(self, pieces: list[Piece]) -> bool:
        """One tag further; False if more text is needed for that."""
        return self._open() if self._inside is None else self._close(self._inside, pieces)

    def _open(self) -> bool:
        self._rest = self._rest.lstrip()
        for opening, tag in _OPENING.items():
            if self._rest.startswith(opening):
                self._rest = self._rest[len(opening) :]
                if tag == "information":
                    self._move = Broken("<information> is written by others")
                    return False
                self._inside, self._body = tag, []
                return True
        if self._rest and not any(opening.startswith(self._rest) for opening in _OPENING):
            self._move = Broken(f"{_shown(self._rest)} stands outside of every tag")
        return False

    def _close(self, tag: Tag, pieces: list[Piece]) -> bool:
        closing = f"</{tag}>"
        body, closed, rest = self._rest.partition(closing)
        if not closed:
            body, rest = _held_back(self._rest, closing)
        if body:
            self._body.append(body)
            pieces.append(Piece(tag, body))
        self._rest = rest
        if not closed:
            return False
        self._inside = None
        whole = "".join(self._body)
        if tag != "think":
            self._move = _move(tag, whole)
        elif any(opening in whole for opening in _OPENING):
            self._move = Broken("a tag stands within <think>")
        return True


def read(text: str) -> Move:
    """The move of a whole turn."""
    parser = Parser()
    parser.feed(text)
    return parser.end()


def complete(text: str, finish: str | None = None) -> str:
    """What was written, up to its move, and with the stop text at which generation ended. `finish`: why it ended; `length`: it was cut."""
    places = [place + len(stop) for stop in STOPS if (place := text.find(stop)) >= 0]
    if places:
        return text[: min(places)]
    place, tag = max((text.rfind(f"<{tag}>"), tag) for tag in TAGS)
    if place < 0 or finish == "length" or tag not in ("search", "answer"):
        return text
    return f"{text}</{tag}>"


def neutral(text: str) -> str:
    """A text of others in which no tag of the grammar is left: "<search>" becomes "‹search>".

    What a lenient reader would take for a tag counts as one: in any case, with white space or invisible signs in it, with attributes, with
    the wide brackets of other scripts, and without its closing bracket.
    """
    return _LIKE_A_TAG.sub("‹", text)


def _move(tag: Tag, body: str) -> Move:
    if tag == "answer":
        return Final(body.strip()) if body.strip() else Broken("<answer> is empty")
    if any(opening in body for opening in _OPENING):
        return Broken("a tag stands within <search>")
    name, colon, question = body.partition(":")
    if not colon or not name.strip() or not question.strip():
        return Broken("<search> must hold a model's name, a colon and a question")
    return Search(name.strip(), question.strip())


def _held_back(text: str, closing: str) -> tuple[str, str]:
    """What is certainly not the beginning of the closing tag, and what may be."""
    for length in range(min(len(closing) - 1, len(text)), 0, -1):
        if closing.startswith(text[-length:]):
            return text[:-length], text[-length:]
    return text, ""


def _shown(text: str) -> str:
    """The beginning of a text, for a complaint; its length must not depend on how much of it was read."""
    return repr(text.strip()[:1])
