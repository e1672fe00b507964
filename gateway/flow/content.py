"""What a prompt says and how long it is, worked out only when someone asks."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from routers.api import Endpoint


class _Message(Struct):
    role: Raw = Raw(b"null")
    content: Raw = Raw(b"null")


_MESSAGES = msgspec.json.Decoder(list[_Message])


class Prompt:
    """The `messages`, `prompt` or `input` of a request, as raw JSON, and its `tools`."""

    __slots__ = ("_endpoint", "_raw", "_tools", "has_images", "size")

    def __init__(self, endpoint: Endpoint, raw: Raw, tools: Raw | None) -> None:
        self._endpoint = endpoint
        self._raw = raw
        self._tools = tools
        view = bytes(raw)
        self.has_images = endpoint == "chat" and b'"image_url"' in view and self._find_images()
        self.size = self._measure(view) + (len(memoryview(tools)) if tools is not None else 0)
        """About how many bytes of text a tokenizer will see."""

    def text(self, cap: int) -> str:
        """The newest human turn (or the prompt, or the inputs, one a line): of longer ones than `cap` characters the head and tail."""
        text = self._newest_turn() if self._endpoint == "chat" else _plain(msgspec.json.decode(self._raw))
        if len(text) <= cap:
            return text
        head = cap // 2
        return text[:head] + text[head - cap :]

    def _newest_turn(self) -> str:
        messages = _MESSAGES.decode(self._raw)
        for message in reversed(messages):
            if bytes(message.role) == b'"user"':
                return _plain(msgspec.json.decode(message.content))
        return _plain(msgspec.json.decode(messages[-1].content))

    def _find_images(self) -> bool:
        return any(kind == "image_url" for kind in _part_types(_MESSAGES.decode(self._raw)))

    def _measure(self, view: bytes) -> int:
        if self.has_images:  # a picture in base64 is no text
            return sum(len(_plain(msgspec.json.decode(m.content)).encode()) + 20 for m in _MESSAGES.decode(self._raw))
        if b"\\" not in view:
            return len(view)
        return len(view) - 3 * view.count(b"\\u")  # an escape of six bytes stands for about three of UTF-8


def _part_types(messages: list[_Message]) -> list[Any]:
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
