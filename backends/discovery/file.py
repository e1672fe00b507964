"""Backends from a file that is watched: something else writes it, or a Kubernetes ConfigMap is mounted there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from backends.discovery.api import Sleep, Standing, Unusable, base_url, found

MAX_BYTES = 1024 * 1024
SETTLE_SECONDS = 0.05
_SETTLE_LOOKS = 10


class FileSource:
    """A JSON or YAML file with a list of URLs, or with a mapping from names of models to such lists.

    It is read every `interval` seconds, links followed, so that it does not matter how it is changed: in place, by a rename, or by a link
    that leads elsewhere from now on. A content counts when it has stood still for a moment, and if it is valid; `[]` means no backends,
    an empty file means nothing.
    """

    def __init__(self, path: Path, model: str, *, interval: float = 0.25, sleep: Sleep = asyncio.sleep) -> None:
        """`model`: whose list is taken where the file has several. `interval`: seconds."""
        self._path = path
        self._model = model
        self._interval = interval
        self._sleep = sleep
        self.standing = Standing(f"the file {path}")

    async def watch(self) -> AsyncGenerator[frozenset[str], None]:
        """See `Source.watch`."""
        known: frozenset[str] | None = None
        judged: bytes | str | None = None
        while True:
            content = await self._settled(judged)
            if content != judged:
                judged = content
                urls = await self._judge(content)
                if urls is not None and urls != known:
                    known = urls
                    yield urls
            await self._sleep(self._interval)

    async def _settled(self, before: bytes | str | None) -> bytes | str:
        """What the file holds, or why it cannot be read. Anything new must be seen twice: somebody may be writing it just now."""
        content = await asyncio.to_thread(self._read)
        for _ in range(_SETTLE_LOOKS):
            if content == before:
                break
            before = content
            await self._sleep(SETTLE_SECONDS)
            content = await asyncio.to_thread(self._read)
        return content

    def _read(self) -> bytes | str:
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return content if len(content) <= MAX_BYTES else f"is larger than {MAX_BYTES} bytes"

    async def _judge(self, content: bytes | str) -> frozenset[str] | None:
        """The URLs in it; None if it is of no use, which `standing` hears."""
        try:
            if isinstance(content, str):
                raise Unusable(content)
            urls = await asyncio.to_thread(parse, content, self._model)
        except Unusable as error:
            self.standing.failed(str(error))
            return None
        self.standing.worked()
        return urls


def parse(content: bytes, model: str) -> frozenset[str]:
    """The URLs in a file for a model. Raises Unusable."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unusable(f"is not UTF-8 (byte {error.start})") from None
    if not text.strip():
        raise Unusable("is empty; `[]` would mean that there are no backends")
    value = _value(text)
    if isinstance(value, Mapping):
        if model not in value:
            raise Unusable(f"has no entry for the model {model!r}")
        value = value[model]
    if not isinstance(value, list) or not all(isinstance(url, str) for url in value):
        raise Unusable("should hold a list of URLs, or a mapping from names of models to lists of URLs")
    try:
        return found(base_url(url) for url in value)
    except ValueError as error:
        raise Unusable(str(error)) from None


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        pass  # YAML, most likely; JSON is tried first since YAML is no superset of it where tabs are concerned
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise Unusable(f"is neither JSON nor YAML: {error.problem or error.context}{line}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise Unusable("is neither JSON nor YAML") from None
