"""Texts of others within a prompt: shown, and never obeyed or taken for the prompt's own marks."""

from __future__ import annotations

import hashlib

CUT = " […] "


def mark(*texts: str) -> str:
    """A mark that none of the texts holds but by design, so that none can end its own quotation: 12 hex digits."""
    return hashlib.sha256("\0".join(texts).encode(errors="replace")).hexdigest()[:12]


def held(name: str, text: str, by: str) -> str:
    """A text between two lines that hold the mark."""
    return f"<<{name} {by}>>\n{text}\n<<END {by}>>"


def cut(text: str, most: int) -> str:
    """At most so many characters: of a longer text its beginning and, twice as long, its end, where answers stand."""
    if len(text) <= most:
        return text
    room = max(0, most - len(CUT))
    head = room // 3
    return text[:head] + CUT + text[len(text) - (room - head) :]
