"""Which expert does the policy mean? It writes names from memory."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import regex

CLOSE = 0.75
"""How alike (0 to 1, difflib's ratio) a name must be to one of the list."""
CLEARLY = 0.05
"""By how much it must be more alike to that one than to any other."""
_MARKS = regex.compile(r"[\W_]+")


def expert(written: str, known: Sequence[str]) -> str | None:
    """The one model of the closed list that is meant; None if none is, or if several might be.

    Exactly, but for case and marks; else the only one of which it is a part, or that is a part of it; else the only one that is close.
    """
    if written in known:
        return written
    plain = {name: _plain(name) for name in known}
    wanted = _plain(written)
    if not wanted:
        return None
    same = [name for name, text in plain.items() if text == wanted]
    if same:
        return same[0] if len(same) == 1 else None
    parts = [name for name, text in plain.items() if len(wanted) > 2 and text and (wanted in text or text in wanted)]
    if parts:
        return parts[0] if len(parts) == 1 else None
    ratios = sorted(((difflib.SequenceMatcher(None, wanted, text).ratio(), name) for name, text in plain.items()), reverse=True)
    if not ratios or ratios[0][0] < CLOSE or (len(ratios) > 1 and ratios[0][0] - ratios[1][0] < CLEARLY):
        return None
    return ratios[0][1]


def _plain(name: str) -> str:
    return _MARKS.sub("", name).casefold()
