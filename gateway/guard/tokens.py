"""JSON Web Tokens of one issuer, by the keys that it publishes (RFC 7519, 7515, 7517; RFC 8725 on what to refuse)."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import httpx
import jwt
import msgspec
from pydantic import ValidationError

from gateway.guard.callers import Caller
from gateway.guard.keys import MAX_CREDENTIAL_BYTES, TOKEN_CALLERS, RightsSection

Algorithm = Literal["RS256", "ES256"]

MAX_DOCUMENT_BYTES = 1_000_000
MAX_KEYS = 100
MAX_NAME = 256
"""Characters of a key's name (`kid`)."""
_IO_SECONDS = 2.0
_FETCH_SECONDS = 4.0
_AGAIN_SECONDS = 10.0
_LONGEST_BACKOFF = 60.0
_RSA_BITS = (2048, 8192)
_log = logging.getLogger("pointsman")


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Whose tokens are good. `jwks_url`: where the issuer publishes its keys; `issuer`, `audience`: what `iss` and `aud` must say;
    `leeway_seconds`: how far clocks may differ; `cache_seconds`: age at which the issuer's keys are fetched anew; `claim`: the one that
    holds the caller's rights.
    """

    jwks_url: str
    issuer: str
    audience: str
    algorithms: tuple[Algorithm, ...] = get_args(Algorithm)
    leeway_seconds: float = 30
    cache_seconds: float = 300
    claim: str = "pointsman"


class JwksError(Exception):
    """The issuer's keys cannot be had. The message is for the log and holds nothing that the endpoint sent."""


Keys = Mapping[tuple[str | None, str], jwt.PyJWK]
"""Public keys by name (`kid`) and algorithm."""


def parse_keys(document: bytes, algorithms: tuple[Algorithm, ...]) -> Keys:
    """The keys in a JWK set that can verify one of the algorithms; others in it are passed over. Raises JwksError."""
    try:
        listed = msgspec.json.decode(document, type=dict[str, Any]).get("keys")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise JwksError("no JSON object came") from None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise JwksError(f"no list of at most {MAX_KEYS} keys came")
    found: dict[tuple[str | None, str], jwt.PyJWK] = {}
    for entry in listed:
        algorithm, public = _public(entry)
        kid = entry.get("kid") if isinstance(entry, dict) else None
        if algorithm not in algorithms or not (kid is None or (isinstance(kid, str) and len(kid) <= MAX_NAME)):
            continue
        try:
            key = jwt.PyJWK(public, algorithm)
        except (jwt.PyJWTError, ValueError, OverflowError):
            continue
        if algorithm == "RS256" and not _RSA_BITS[0] <= key.key.key_size <= _RSA_BITS[1]:
            continue
        found.setdefault((kid, algorithm), key)
    return found


def _public(entry: object) -> tuple[str | None, dict[str, str]]:
    """The algorithm that a JWK is for, and its public part; None if it is for none of ours."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None, {}
    operations = entry.get("key_ops", ["verify"])
    kind: tuple[Algorithm, tuple[str, ...]]
    if entry.get("kty") == "RSA":
        kind = ("RS256", ("kty", "n", "e"))
    elif entry.get("kty") == "EC" and entry.get("crv") == "P-256":
        kind = ("ES256", ("kty", "crv", "x", "y"))
    else:
        return None, {}
    public = {name: entry.get(name) for name in kind[1]}
    texts = {name: value for name, value in public.items() if isinstance(value, str) and len(value) <= 4096}
    if len(texts) < len(public) or entry.get("alg", kind[0]) != kind[0] or not isinstance(operations, list) or "verify" not in operations:
        return None, {}
    return kind[0], texts


class KeySet:
    """The issuer's keys, fetched when they are needed and kept.

    While the endpoint is down the old ones stay, and it is asked less and less often, at last once a minute. However many ask, one
    fetch is under way at a time, and nobody waits longer than one takes: at most 4 seconds. `clock`: monotonic seconds.
    """

    def __init__(
        self,
        url: str,
        algorithms: tuple[Algorithm, ...],
        cache_seconds: float,
        clock: Callable[[], float],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`changed` is called when other keys came than those before."""
        self._url = url
        self._algorithms = algorithms
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._changed = changed
        self._keys: Keys = {}
        self._digest = b""
        self._fetched = self._started = -math.inf
        self._failed = 0
        self._flight: asyncio.Task[None] | None = None
        self._client: httpx.AsyncClient | None = None
        self.fetches = 0
        self.failures = 0

    @property
    def busy(self) -> bool:
        """Whether a fetch is under way."""
        return self._flight is not None

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key of that name, or the only one for the algorithm if the token names none. May wait for one fetch."""
        if self._clock() - self._fetched >= self._cache_seconds and self._clock() - self._started >= self._backoff():
            fetch = self._fetch()
            if not self._keys or not self._failed:
                await asyncio.shield(fetch)
        key = self._known(kid, algorithm)
        if key is None:
            if self._flight is not None:
                await asyncio.shield(self._flight)
            elif self._clock() - self._started >= max(_AGAIN_SECONDS, self._backoff()):
                await asyncio.shield(self._fetch())
            key = self._known(kid, algorithm)
        return key

    async def run(self) -> None:
        """Keeps the keys fresh until it is cancelled, so that requests need not wait."""
        while True:
            await asyncio.shield(self._fetch())
            await asyncio.sleep(self._backoff() if self._failed else max(1.0, 0.8 * self._cache_seconds))

    async def close(self) -> None:
        """Ends what is under way."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _known(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        if kid is not None:
            return self._keys.get((kid, algorithm))
        suitable = [key for (_, known), key in self._keys.items() if known == algorithm]
        return suitable[0] if len(suitable) == 1 else None

    def _backoff(self) -> float:
        return min(_LONGEST_BACKOFF, 2.0 ** min(self._failed - 1, 10)) if self._failed else 0.0

    def _fetch(self) -> asyncio.Task[None]:
        """The fetch that is under way, or a new one."""
        if self._flight is None:
            self._started = self._clock()
            self.fetches += 1
            self._flight = asyncio.create_task(self._refresh())
            self._flight.add_done_callback(self._landed)
        return self._flight

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flight = None

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                document = await self._download()
            keys = parse_keys(document, self._algorithms)
        except (JwksError, httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            self._failed += 1
            self.failures += 1
            if self._failed == 1:
                place = urlsplit(self._url)
                why = str(error) if isinstance(error, JwksError) else type(error).__name__
                host = place.netloc.rpartition("@")[2]
                _log.warning("the token issuer's keys at %s://%s%s cannot be had: %s", place.scheme, host, place.path, why)
            return
        if self._failed:
            _log.info("the token issuer's keys can be had again")
        self._failed = 0
        self._fetched = self._clock()
        digest = hashlib.sha256(document).digest()
        if digest != self._digest:
            self._keys, self._digest = keys, digest
            if not keys:
                _log.warning("the token issuer publishes no key that can be used; no token is good")
            self._changed()

    async def _download(self) -> bytes:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=httpx.Timeout(_IO_SECONDS), limits=httpx.Limits(max_connections=1))
        headers = {"accept": "application/jwk-set+json, application/json", "accept-encoding": "identity"}
        async with self._client.stream("GET", self._url, headers=headers, follow_redirects=False) as response:
            if response.status_code != 200:
                raise JwksError(f"status {response.status_code}")
            document = bytearray()
            async for part in response.aiter_raw():
                document += part
                if len(document) > MAX_DOCUMENT_BYTES:
                    raise JwksError(f"more than {MAX_DOCUMENT_BYTES} bytes came")
        return bytes(document)


class TokenVerifier:
    """Who a token says its bearer is, if the issuer says so too.

    Verified tokens are kept, `size` of them, until they expire, or the issuer's keys change or grow old. `clock`: monotonic seconds;
    `wall`: Unix time.
    """

    def __init__(
        self,
        settings: TokenSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        size: int = 1000,
    ) -> None:
        self._settings = settings
        self._wall = wall
        self._size = size
        self._verified: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._jws = jwt.PyJWS(algorithms=list(settings.algorithms))
        self.keys = KeySet(settings.jwks_url, settings.algorithms, settings.cache_seconds, clock, self._verified.clear)

    def __len__(self) -> int:
        """How many verified tokens are kept."""
        return len(self._verified)

    async def run(self) -> None:
        """Keeps the issuer's keys fresh until it is cancelled."""
        await self.keys.run()

    async def aclose(self) -> None:
        """Closes the connection to the issuer."""
        await self.keys.close()

    async def verify(self, token: bytes) -> Caller | None:
        """The caller; None if the token is not good, whatever the reason. It waits only if the issuer's keys must be fetched."""
        if len(token) > MAX_CREDENTIAL_BYTES:
            return None
        digest = hashlib.sha256(token).digest()
        kept = self._verified.get(digest)
        if kept is not None:
            if self._wall() < kept[1]:
                self._verified.move_to_end(digest)
                return kept[0]
            del self._verified[digest]
        caller = await self._verify(token)
        if caller is not None:
            self._verified[digest] = (caller, min(caller.expires or 0.0, self._wall() + self._settings.cache_seconds))
            if len(self._verified) > self._size:
                self._verified.popitem(last=False)
        return caller

    async def _verify(self, token: bytes) -> Caller | None:
        try:
            header = self._jws.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid")
            # Which algorithm verifies is the key's affair; what the header says only picks among the configured ones (RFC 8725, 3.1).
            if algorithm not in self._settings.algorithms or not (kid is None or (isinstance(kid, str) and len(kid) <= MAX_NAME)):
                return None
            key = await self.keys.find(kid, algorithm)
            if key is None:
                return None
            payload = self._jws.decode(token, key, algorithms=[algorithm])
            claims = msgspec.json.decode(payload, type=dict[str, Any])
        except (jwt.PyJWTError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return self._caller(claims)

    def _caller(self, claims: Mapping[str, Any]) -> Caller | None:
        """Whom verified claims speak of; None unless all are there and hold now."""
        settings, now = self._settings, self._wall()
        subject, audience, expires = claims.get("sub"), claims.get("aud"), _number(claims.get("exp"))
        if claims.get("iss") != settings.issuer or not isinstance(subject, str) or not subject or expires is None:
            return None
        if settings.audience not in (audience if isinstance(audience, list) else [audience]) or now >= expires + settings.leeway_seconds:
            return None
        for name in ("nbf", "iat"):
            start = _number(claims.get(name, 0))
            if start is None or start > now + settings.leeway_seconds:
                return None
        try:
            rights = RightsSection.model_validate(claims.get(settings.claim, {}), strict=True)
        except ValidationError:
            return None
        told = f"{settings.issuer}\0{subject}".encode("utf-8", "surrogatepass")
        id = TOKEN_CALLERS + hashlib.sha256(told).hexdigest()[:24]
        return rights.caller(id, id, expires + settings.leeway_seconds)


def _number(value: object) -> float | None:
    """A NumericDate; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
        return None
    return float(value)
