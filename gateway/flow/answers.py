"""What is read of an answer: its usage, and whether it is JSON at all."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from gateway.account.costs import Usage


class Malformed(ValueError):
    """An answer that is no JSON."""


class Body(Struct):
    """A whole answer, or the object in a chunk of a stream."""

    usage: Usage | None = None
    choices: list[Raw] | None = None
    system_fingerprint: Raw = Raw(b"null")


BODY = msgspec.json.Decoder(Body)


def usage_of(body: bytes) -> Usage | None:
    """The usage in a whole answer; None if it says none, or says it in a way that is not OpenAI's. Raises Malformed."""
    try:
        return BODY.decode(body).usage
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Malformed("the answer is no JSON") from None
