"""What a prompt says and how long it is, worked out only when someone asks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from routers.api import Endpoint


class Message(Struct):
    """One of a chat's. `content`: as JSON."""

    role: Any = None
    content: Raw = Raw(b"null")


_STANDING = ("system", "developer")


class Conversation(Struct, frozen=True, gc=False):
    """Where a chat request stands in its conversation.

    `opening`: digest of tools, system messages and the first human turn, the same for all its turns. `begins`: no turn came before.
    `continues`: no human has spoken since the last answer (results of tools, or an answer to be continued). `prefix_bytes`: what came
    before the newest human turn.
    """

    opening: bytes
    begins: bool
    continues: bool
    prefix_bytes: int


class Prompt:
    """The `messages`, `prompt` or `input` of a request, as raw JSON, and its `tools`. `messages`: of a chat, decoded."""

    __slots__ = ("_endpoint", "_messages", "_raw", "_tools", "has_images", "size")

    def __init__(self, endpoint: Endpoint, raw: Raw, tools: Raw | None, messages: Sequence[Message] = ()) -> None:
        self._endpoint = endpoint
        self._raw = raw
        self._tools = tools
        self._messages = messages
        view = bytes(raw)
        self.has_images = endpoint == "chat" and b'"image_url"' in view and self._find_images()
        self.size = self._measure(view) + (len(memoryview(tools)) if tools is not None else 0)
        """About how many bytes of text a tokenizer will see."""

    def head(self, size: int) -> bytes:
        """The first `size` bytes of it, as the client sent them."""
        return bytes(memoryview(self._raw)[:size])

    def text(self, cap: int) -> str:
        """The newest human turn (or the prompt, or the inputs, one a line): of longer ones than `cap` characters the head and tail."""
        text = self._newest_turn() if self._endpoint == "chat" else _plain(msgspec.json.decode(self._raw))
        if len(text) <= cap:
            return text
        head = cap // 2
        return text[:head] + text[head - cap :]

    def conversation(self) -> Conversation | None:
        """None for anything but a chat with a human turn. Texts are read as texts, so marks for a cache in them change nothing."""
        if self._endpoint != "chat":
            return None
        parts = [bytes(self._tools or b"")]
        begins, first, newest, before, size = True, -1, -1, 0, len(parts[0])
        for place, message in enumerate(self._messages):
            if message.role == "user":
                if first < 0:
                    first = place
                    parts.append(_text_bytes(message.content))
                newest, before = place, size
            elif first < 0 and message.role in _STANDING:
                parts.append(_text_bytes(message.content))
            else:
                begins = False
            size += len(memoryview(message.content))
        if first < 0:
            return None
        return Conversation(
            opening=hashlib.blake2b(b"\0".join(parts), digest_size=16).digest(),
            begins=begins and newest == first,
            continues=newest < len(self._messages) - 1,
            prefix_bytes=before,
        )

    def _newest_turn(self) -> str:
        messages = self._messages
        for message in reversed(messages):
            if message.role == "user":
                return _plain(msgspec.json.decode(message.content))
        return _plain(msgspec.json.decode(messages[-1].content))

    def _find_images(self) -> bool:
        return any(kind == "image_url" for kind in _part_types(self._messages))

    def _measure(self, view: bytes) -> int:
        if self.has_images:  # a picture in base64 is no text
            return sum(len(_plain(msgspec.json.decode(m.content)).encode()) + 20 for m in self._messages)
        if b"\\" not in view:
            return len(view)
        return len(view) - 3 * view.count(b"\\u")  # an escape of six bytes stands for about three of UTF-8


def _part_types(messages: Sequence[Message]) -> list[Any]:
    return [
        part.get("type")
        for message in messages
        if bytes(memoryview(message.content)[:1]) == b"["
        for part in msgspec.json.decode(message.content)
        if isinstance(part, dict)
    ]


def _plain(content: object) -> str:
    """The text of a message's content or of an input: a string, a list of strings, or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None for part in content)
        return "\n".join(text for text in texts if isinstance(text, str))
    return ""


def _text_bytes(content: Raw) -> bytes:
    """The text of a message's content as UTF-8."""
    raw = bytes(content)
    if raw[:1] == b'"' and b"\\" not in raw:
        return raw[1:-1]
    return _plain(msgspec.json.decode(raw)).encode(errors="replace")
