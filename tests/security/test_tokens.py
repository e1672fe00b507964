"""JWTs: whose are good, what is refused, and how the issuer's keys are had, kept and renewed."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from gateway.errors import GatewayError
from gateway.guard.auth import Gate
from gateway.guard.callers import Allowance, Caller
from gateway.guard.keys import KeysFile, new_key
from gateway.guard.tokens import JwksError, TokenSettings, TokenVerifier, parse_keys
from tests.security.issuers import AUDIENCE, CLAIMS, EC, ISSUER, NOW, RSA, RSA_NEXT, Bench, issuing, jwk, raw, signed, token, token_of

BOTH = ("RS256", "ES256")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with issuing(jwk(RSA, "r1"), jwk(EC, "e1")) as issuer:
        made = Bench(issuer)
        yield made
        await made.verifier.aclose()


async def test_a_good_token_names_its_caller_without_the_subject(bench: Bench) -> None:
    for text in (token(), token(EC, "ES256", "e1"), token(aud=["x", AUDIENCE], nbf=NOW, iat=NOW), token(EC, "ES256", None)):
        found = await bench.caller(text)
        assert found is not None
        assert found.id == found.name
        assert len(found.id) == 28
        assert found.id.startswith("jwt_")
        assert "ann" not in repr(found)
        assert (found.role, found.models, found.allowance, found.expires) == ("user", None, Allowance(), NOW + 630)
    others = [await bench.caller(token(sub="bo")), await bench.caller(token())]
    assert len({other.id for other in others if other}) == 2
    assert bench.issuer.seen == ["/jwks"]


async def test_the_claim_says_what_a_caller_may_do(bench: Bench) -> None:
    rights = {"models": ["small"], "routes": ["auto"], "budget_usd": 2, "budget_window": "day", "rpm": 5, "tpm": 7}
    found = await bench.caller(token(pointsman={**rights, "priority": "batch", "role": "admin"}))
    assert found is not None
    assert (found.models, found.routes, found.allowance) == ({"small"}, {"auto"}, Allowance(5, 7, 2.0, "day"))
    assert (found.priority, found.role) == ("batch", "admin")
    other = Bench(bench.issuer, claim="https://pointsman/rights")
    named = await other.caller(token(**{"https://pointsman/rights": {"rpm": 3}, "pointsman": {"role": "admin"}}))
    assert named is not None
    assert (named.allowance.rpm, named.role) == (3, "user")
    await other.verifier.aclose()


PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def confused() -> str:
    """Signed by HMAC with the public key as its secret (RFC 8725, 2.1)."""
    whole = raw({"alg": "HS256", "kid": "r1"}, CLAIMS).rpartition(".")[0]
    return whole + "." + base64.urlsafe_b64encode(hmac.digest(PEM, whole.encode(), hashlib.sha256)).rstrip(b"=").decode()


REFUSED: dict[str, Callable[[], str]] = {
    "alg none": lambda: raw({"alg": "none", "kid": "r1"}, CLAIMS),
    "alg none without a signature": lambda: raw({"alg": "none", "kid": "r1"}, CLAIMS, b""),
    "alg None": lambda: raw({"alg": None, "kid": "r1"}, CLAIMS),
    "alg is a list": lambda: raw({"alg": ["RS256"], "kid": "r1"}, CLAIMS),
    "no alg": lambda: raw({"kid": "r1"}, CLAIMS),
    "HS256 with the public key": confused,
    "RS512": lambda: token(alg="RS512"),
    "PS256": lambda: token(alg="PS256"),
    "another's key": lambda: token(RSA_NEXT),
    "ES256 under the name of the RSA key": lambda: token(EC, "ES256", "r1"),
    "unknown kid": lambda: token(kid="r2"),
    "kid is a number": lambda: raw({"alg": "RS256", "kid": 1}, CLAIMS),
    "long kid": lambda: token(kid="k" * 300),
    "a changed payload": lambda: token().rpartition(".")[0] + "." + token(sub="bo").rpartition(".")[2],
    "no signature": lambda: token().rpartition(".")[0] + ".",
    "wrong issuer": lambda: token(iss=ISSUER + "/"),
    "issuer is a list": lambda: raw({"alg": "RS256", "kid": "r1"}, {**CLAIMS, "iss": [ISSUER]}),
    "wrong audience": lambda: token(aud="others"),
    "audiences without ours": lambda: token(aud=["a", "b"]),
    "audience is a part": lambda: token(aud="pointsman-2"),
    "expired beyond the leeway": lambda: token(exp=NOW - 30),
    "exp is text": lambda: token_of({**CLAIMS, "exp": str(NOW + 600)}),
    "exp is true": lambda: token_of({**CLAIMS, "exp": True}),
    "exp is endless": lambda: signed(json.dumps({**CLAIMS, "exp": 0}).replace('"exp": 0', '"exp": 1e999').encode()),
    "exp is out of the world": lambda: token_of({**CLAIMS, "exp": 10**30}),
    "not yet": lambda: token(nbf=NOW + 31),
    "nbf is text": lambda: token_of({**CLAIMS, "nbf": "now"}),
    "issued in the future": lambda: token(iat=NOW + 31),
    "no exp": lambda: token(exp=...),
    "no iss": lambda: token(iss=...),
    "no aud": lambda: token(aud=...),
    "no sub": lambda: token(sub=...),
    "empty sub": lambda: token(sub=""),
    "sub is a number": lambda: token_of({**CLAIMS, "sub": 7}),
    "payload is a list": lambda: signed(b"[1]"),
    "payload is no JSON": lambda: signed(b"\xff{"),
    "payload is deep": lambda: signed(b"[" * 3000),
    "an unknown critical header": lambda: token(headers={"crit": ["x"], "x": 1}),
    "a detached payload": lambda: raw({"alg": "RS256", "kid": "r1", "b64": False, "crit": ["b64"]}, b""),
    "too long": lambda: token(more="x" * 8192),
    "rights: unknown key": lambda: token(pointsman={"modles": []}),
    "rights: text for a number": lambda: token(pointsman={"rpm": "5"}),
    "rights: true for a number": lambda: token(pointsman={"rpm": True}),
    "rights: nobody's role": lambda: token(pointsman={"role": "king"}),
    "rights: null": lambda: token(pointsman=None),
    "rights: a list": lambda: token(pointsman=[]),
    "rights: no model at all": lambda: token(pointsman={"models": []}),
    "rights: no budget": lambda: token(pointsman={"budget_usd": 0}),
    "two dots": lambda: "..",
}


async def test_what_is_refused_gets_the_one_answer(bench: Bench) -> None:
    gate = Gate(None, bench.verifier)
    assert (await gate.identify({b"authorization": f"Bearer {token()}".encode()})).id.startswith("jwt_")
    bodies = set()
    for name, make in REFUSED.items():
        try:
            assert await gate.identify({b"authorization": b"Bearer " + make().encode()}) is None, name
        except GatewayError as error:
            bodies.add(error.body())
    assert len(bodies) == 1
    assert len(bench.verifier) == 1
    assert await bench.caller(token(exp=NOW - 29.9)) is not None
    assert await bench.caller(token(nbf=NOW + 29, iat=NOW + 29)) is not None


async def test_keys_that_a_token_brings_along_are_not_looked_at(bench: Bench) -> None:
    async with issuing(jwk(RSA_NEXT, "mine")) as stranger:
        for kid in ("r1", "mine", None):
            headers = {"jwk": jwk(RSA_NEXT, "mine"), "jku": stranger.url, "x5u": stranger.url}
            assert await bench.caller(token(RSA_NEXT, kid=kid, headers=headers)) is None
        assert stranger.seen == []
    assert await bench.caller(token(headers={"jku": "http://127.0.0.1:1/"})) is not None


@given(data=st.data())
def test_garbage_gets_the_401_and_nothing_else(data: st.DataObject) -> None:
    text = data.draw(st.one_of(st.binary(max_size=60), st.just(signed(b"{}").encode()), st.just(raw({"alg": "RS256"}, {}).encode())))
    header = data.draw(
        st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "jwk"]), st.one_of(st.none(), st.text(), st.just("RS256")))
    )
    text = data.draw(st.sampled_from([text, raw(header, {}).encode(), text[:20] + b"." + text[20:30] + b"." + text[30:]]))

    async def ask() -> None:
        verifier = TokenVerifier(TokenSettings("http://127.0.0.1:9/", ISSUER, AUDIENCE))
        with pytest.raises(GatewayError) as caught:
            await Gate(None, verifier).identify({b"authorization": b"Bearer " + text})
        assert caught.value.code == "invalid_api_key"
        await verifier.aclose()

    asyncio.run(ask())


def test_entries_that_cannot_verify_are_passed_over() -> None:
    weak = jwk(rsa.generate_private_key(65537, 1024), "weak")
    private = json.loads(RSAAlgorithm.to_jwk(RSA))
    listed = [
        weak,
        {"kty": "oct", "k": "c2VjcmV0", "kid": "oct", "alg": "HS256"},
        jwk(ec.generate_private_key(ec.SECP384R1()), "p384"),
        jwk(RSA, "enc", use="enc"),
        jwk(RSA, "alg", alg="RS512"),
        jwk(RSA, "ops", key_ops=["encrypt"]),
        jwk(RSA, "ops2", key_ops="verify"),
        {**jwk(RSA, "n"), "n": 5},
        {**jwk(RSA, "n2"), "n": "!!"},
        {**jwk(EC, "off the curve"), "x": jwk(EC, "")["y"]},
        {**jwk(RSA, "kid"), "kid": 7},
        {"kid": "empty"},
        "text",
        None,
        {**private, "kid": "private", "key_ops": ["sign", "verify"]},
        jwk(EC, "good", use="sig", alg="ES256", x5u="http://127.0.0.1:1/"),
    ]
    found = parse_keys(json.dumps({"keys": listed}).encode(), BOTH)
    assert set(found) == {("private", "RS256"), ("good", "ES256")}
    assert not hasattr(found["private", "RS256"].key, "private_numbers")
    assert set(parse_keys(json.dumps({"keys": listed}).encode(), ("ES256",))) == {("good", "ES256")}
    for bad in (b"", b"[]", b"{}", b'{"keys": 1}', b"\xff", b"[" * 100_000, json.dumps({"keys": [{}] * 101}).encode()):
        with pytest.raises(JwksError):
            parse_keys(bad, BOTH)


async def test_rotation_new_keys_come_and_old_ones_go(bench: Bench) -> None:
    assert await bench.caller(token()) is not None
    bench.issuer.keys = [jwk(RSA_NEXT, "r2")]
    bench.pass_time(10)
    assert await bench.caller(token(RSA_NEXT, kid="r2")) is not None
    assert await bench.caller(token()) is None  # kept as verified until its key was gone
    assert len(bench.issuer.seen) == 2


async def test_a_withdrawn_key_is_noticed_when_the_keys_are_old(bench: Bench) -> None:
    assert await bench.caller(token()) is not None
    bench.issuer.keys = []
    bench.pass_time(299)
    assert await bench.caller(token()) is not None
    bench.pass_time(1)
    assert await bench.caller(token()) is None


async def test_random_key_names_make_no_fetches(bench: Bench) -> None:
    bench.issuer.delay = 0.05
    assert set(await asyncio.gather(*(bench.caller(token(kid=f"x{n}")) for n in range(50)))) == {None}
    assert len(bench.issuer.seen) == 1
    for _ in range(30):  # ten seconds in all
        bench.pass_time(1 / 3)
        await bench.caller(token(kid=f"y{bench.clock.now}"))
    assert len(bench.issuer.seen) <= 2


async def test_one_fetch_for_all_who_wait_and_one_who_leaves_does_not_end_it(bench: Bench) -> None:
    bench.issuer.delay = 0.1
    asked = [asyncio.create_task(bench.caller(token(sub=f"s{n}"))) for n in range(20)]
    await asyncio.sleep(0.05)
    asked[0].cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(isinstance(one, Caller) for one in found[1:])
    assert len(bench.issuer.seen) == 1


async def test_while_the_endpoint_is_down_the_old_keys_are_good_and_it_is_asked_less_often(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    assert await bench.caller(token()) is not None
    bench.issuer.status = "503 Down"
    for second in range(600):
        bench.pass_time(1)
        bench.wall.now = NOW  # so that the same tokens stay good
        assert await bench.caller(token(EC, "ES256", "e1", sub=f"s{second}")) is not None
        await bench.landed()
    assert 5 <= len(bench.issuer.seen) - 1 <= 14  # 300 s are nothing; then 1, 2, 4 … 60 s between two
    assert bench.verifier.keys.failures == bench.verifier.keys.fetches - 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    bench.issuer.status = "200 OK"
    bench.pass_time(60)
    await bench.caller(token(sub="late"))
    await bench.landed()
    before = len(bench.issuer.seen)
    bench.pass_time(200)
    await bench.caller(token(sub="later"))
    assert len(bench.issuer.seen) == before


@pytest.mark.parametrize(
    ("status", "headers", "keys"),
    [
        ("404 Not Found", "", None),
        ("302 Found", "location: /elsewhere\r\n", None),
        ("200 OK", "", b"not json"),
        ("200 OK", "", b'{"keys": []}' + b" " * 1_000_001),
        ("200 OK", "content-encoding: gzip\r\n", gzip.compress(b'{"keys": []}')),
        ("no status", "", None),
    ],
)
async def test_an_endpoint_that_answers_badly_is_one_that_is_down(bench: Bench, status: str, headers: str, keys: bytes | None) -> None:
    good, bench.issuer.keys = bench.issuer.keys, bench.issuer.keys if keys is None else keys
    bench.issuer.status, bench.issuer.headers = status, headers
    assert await bench.caller(token()) is None
    assert (bench.verifier.keys.failures, bench.issuer.seen) == (1, ["/jwks"])
    bench.issuer.status, bench.issuer.headers, bench.issuer.keys = "200 OK", "", good
    assert await bench.caller(token()) is None
    bench.pass_time(1)
    assert await bench.caller(token()) is not None


async def test_nobody_waits_longer_than_the_timeout_and_with_old_keys_only_once(bench: Bench) -> None:
    assert await bench.caller(token()) is not None
    bench.pass_time(300)
    bench.issuer.delay = 30
    start = time.monotonic()
    assert await bench.caller(token(sub="a")) is not None
    assert 1.9 < time.monotonic() - start < 3.5
    bench.pass_time(2)
    start = time.monotonic()
    assert await bench.caller(token(sub="b")) is not None
    assert time.monotonic() - start < 0.5


async def test_in_the_background_the_keys_come_before_anyone_asks(bench: Bench) -> None:
    keeping = asyncio.create_task(bench.verifier.run())
    await bench.landed(fetches=1)
    verify = bench.verifier.verify(token().encode())
    with pytest.raises(StopIteration) as done:  # it does not wait at all
        verify.send(None)
    assert isinstance(done.value.value, Caller)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert len(bench.issuer.seen) == 1


async def test_verified_tokens_are_kept_within_a_bound_and_until_they_expire(bench: Bench) -> None:
    small = Bench(bench.issuer, size=3)
    tokens = [token(sub=f"s{n}", exp=NOW + 10) for n in range(5)]
    for text in tokens:
        assert await small.caller(text) is not None
    assert len(small.verifier) == 3
    assert await small.caller(tokens[-1]) is await small.caller(tokens[-1])
    small.pass_time(39.9)
    assert await small.caller(tokens[-1]) is not None
    small.pass_time(0.1)
    assert await small.caller(tokens[-1]) is None
    await small.verifier.aclose()


async def test_keys_and_tokens_side_by_side(bench: Bench, tmp_path: Path) -> None:
    key, id, digest = new_key()
    (tmp_path / "keys.yaml").write_text(f"keys: [{{id: {id}, name: Ann, sha256: {digest}}}]")
    gate = Gate(KeysFile(tmp_path / "keys.yaml", (), (), {}), bench.verifier)
    assert (await gate.identify({b"authorization": f"Bearer {key}".encode()})).id == id
    assert bench.issuer.seen == []
    assert (await gate.identify({b"authorization": f"Bearer {token()}".encode()})).id.startswith("jwt_")
