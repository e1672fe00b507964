"""A token issuer on a real socket, tokens good and bad, and a verifier whose clocks a test moves."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from gateway.guard.callers import Caller
from gateway.guard.tokens import TokenSettings, TokenVerifier

ISSUER, AUDIENCE = "https://issuer.example", "pointsman"
RSA = rsa.generate_private_key(65537, 2048)
RSA_NEXT = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
NOW = 1_800_000_000.0
CLAIMS = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": NOW + 600}


class Time:
    """A clock that stands until it is moved; seconds."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def jwk(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """The public half of a key as an issuer publishes it."""
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    named = {} if kid is None else {"kid": kid}
    return {**json.loads(algorithm.to_jwk(key.public_key())), "key_ops": ["verify"], **named, **more}


def token(key: Any = RSA, alg: str = "RS256", kid: str | None = "r1", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """A good token, but for the arguments; a claim that is `...` is left out."""
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann@example.org", "exp": NOW + 600, **claims}
    named = {} if kid is None else {"kid": kid}
    return jwt.encode({name: value for name, value in whole.items() if value is not ...}, key, alg, {**named, **(headers or {})})


def raw(header: object, payload: object, signature: bytes = b"x") -> str:
    """A token put together by hand."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload, signature)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def signed(payload: bytes) -> str:
    """A token with that payload."""
    return jwt.PyJWS().encode(payload, RSA, "RS256", {"kid": "r1"})


def token_of(claims: dict[str, Any]) -> str:
    """A token with these claims, whatever they are."""
    return signed(json.dumps(claims).encode())


class Issuer:
    """A server that publishes keys. `keys` is a list, or the bytes to send; `delay` in seconds; `seen`: the paths that were asked for."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys: list[dict[str, Any]] | bytes = list(keys)
        self.status = "200 OK"
        self.headers = ""
        self.delay = 0.0
        self.seen: list[str] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.seen.append(head.split()[1].decode())
            await asyncio.sleep(self.delay)
            body = self.keys if isinstance(self.keys, bytes) else json.dumps({"keys": self.keys}).encode()
            writer.write(
                f"HTTP/1.1 {self.status}\r\nconnection: close\r\n{self.headers}content-length: {len(body)}\r\n\r\n".encode() + body
            )
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def issuing(*keys: dict[str, Any]) -> AsyncIterator[Issuer]:
    issuer = Issuer(*keys)
    server = await asyncio.start_server(issuer.answer, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"
    try:
        yield issuer
    finally:
        server.close()


class Bench:
    """A verifier before an issuer, with clocks that the test moves."""

    def __init__(self, issuer: Issuer, **settings: Any) -> None:
        size = settings.pop("size", 1000)
        self.issuer = issuer
        self.clock, self.wall = Time(100.0), Time(NOW)
        self.settings = TokenSettings(issuer.url, ISSUER, AUDIENCE, **settings)
        self.verifier = TokenVerifier(self.settings, clock=self.clock, wall=self.wall, size=size)

    async def caller(self, text: str) -> Caller | None:
        return await self.verifier.verify(text.encode())

    async def landed(self, fetches: int = 0) -> None:
        """Waits until no fetch is under way, and so many were begun."""
        keys, end = self.verifier.keys, time.monotonic() + 5
        while keys.busy or keys.fetches < fetches:
            assert time.monotonic() < end
            await asyncio.sleep(0.001)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wall.now += seconds
