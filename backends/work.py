"""What a pool knows of a call when it chooses a backend."""

from __future__ import annotations

from msgspec import Struct

HEAD_BYTES = 16_384
"""Bytes of a conversation that pools look at."""


class Work(Struct, frozen=True, gc=False):
    """`head`: the beginning of the conversation, as the client sent it (JSON, at most HEAD_BYTES); equal beginnings share a prefix cache.

    `tokens`: of the prompt, estimated. `answer_tokens`: expected of the answer, 0 if nothing is known. `session`: the conversation's id.
    """

    head: bytes = b""
    tokens: int = 0
    answer_tokens: int = 0
    session: str | None = None


NOTHING = Work()
