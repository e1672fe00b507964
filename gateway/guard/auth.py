"""Who sends a request: by API key, or by JWT."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.errors import GatewayError
from gateway.guard.callers import ANYONE, Caller
from gateway.guard.keys import MAX_CREDENTIAL_BYTES, KeysFile
from gateway.guard.tokens import TokenVerifier


class Gate:
    """Lets in whoever has a key that the file holds, or a token that the issuer signed. With neither, everyone comes in as ANYONE."""

    __slots__ = ("_keys", "_open", "_tokens")

    def __init__(self, keys: KeysFile | None, tokens: TokenVerifier | None) -> None:
        self._keys = keys
        self._tokens = tokens
        self._open = keys is None and tokens is None

    async def identify(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Who sends these headers (names in lower case). Only a JWT that was not seen before may wait, for the issuer's keys.

        Raises GatewayError("invalid_api_key"), always the same: it does not say what was wrong with the key.
        """
        if self._open:
            return ANYONE
        token = _bearer(headers.get(b"authorization", b""))
        caller: Caller | None = None
        if token:
            if self._tokens is not None and token.count(b".") == 2:
                caller = await self._tokens.verify(token)
            elif self._keys is not None:
                caller = self._keys.ring.find(token)
        if caller is None:
            raise GatewayError(
                "invalid_api_key",
                "the API key is missing or not valid; send it as 'Authorization: Bearer …'",
            )
        return caller


def require_admin(caller: Caller) -> None:
    """Raises GatewayError("forbidden") for anyone but an admin."""
    if caller.role != "admin":
        raise GatewayError("forbidden", "this needs a key with the role 'admin'")


def _bearer(header: bytes) -> bytes:
    """The credential in an Authorization header (RFC 6750); empty if there is none that could be one."""
    if header[:7].lower() != b"bearer " or len(header) > MAX_CREDENTIAL_BYTES + 64:
        return b""
    token = header[7:].strip(b" ")
    return token if token.isascii() and len(token) <= MAX_CREDENTIAL_BYTES else b""
