"""The files that encoders are made of: each is used only if it is the very one that the encoder was built for."""

from __future__ import annotations

import hashlib
from importlib.resources.abc import Traversable


class BadEncoderFile(ValueError):
    """A file that is not there, or is not the one that the encoder was built for."""


def intact(file: Traversable, sha256: str) -> bytes:
    """What is in the file, whose SHA-256 (64 hex digits) must be this one. Raises BadEncoderFile."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadEncoderFile(f"{file.name} of an encoder cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BadEncoderFile(f"{file.name} is not the file that the encoder was built for: its SHA-256 differs")
    return content
