"""API keys: what the file may say, who comes in, how soon a change counts, and `pointsman keys new`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
import stat
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gateway.cli.keys import keys as keys_command
from gateway.errors import GatewayError
from gateway.guard.auth import Gate, require_admin
from gateway.guard.callers import ANYONE, Allowance
from gateway.guard.keys import KeyRing, KeysFile, new_key, read_keys
from gateway.source import ConfigError

MODELS, ROUTES = ("small", "large"), ("auto",)
KEY, ID, HASH = new_key(lambda n: bytes(range(n)))
OTHER, _, OTHER_HASH = new_key(lambda n: bytes(range(100, 100 + n)))
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def entry(more: str = "", id: str = "a", digest: str = HASH) -> str:
    return f"  - id: {id}\n    name: Ann\n    sha256: {digest}\n{more}"


def whole(*entries: str) -> str:
    return "keys:\n" + "".join(entries or [entry()])


def ring(folder: Path, text: str, wall: float = NOW, environment: dict[str, str] | None = None) -> KeyRing:
    path = folder / "keys.yaml"
    path.write_text(text)
    return read_keys(path, MODELS, ROUTES, environment or {}, lambda: wall)


def bearer(key: str | bytes) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + (key if isinstance(key, bytes) else key.encode())}


async def refused(gate: Gate, headers: dict[bytes, bytes]) -> bytes:
    """The body of the error that these headers get."""
    with pytest.raises(GatewayError) as caught:
        await gate.identify(headers)
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    return caught.value.body()


def test_a_key_is_256_random_bits_and_its_entry_holds_the_hash() -> None:
    made = [new_key() for _ in range(50)]
    assert all(re.fullmatch(r"pm_[A-Za-z0-9_-]{43}", key) and re.fullmatch(r"key_[0-9a-f]{12}", id) for key, id, _ in made)
    assert all(hashlib.sha256(key.encode()).hexdigest() == digest for key, _, digest in made)
    assert len({key for key, _, _ in made}) == len({id for _, id, _ in made}) == 50


def test_an_entry_says_what_its_caller_may_do(tmp_path: Path) -> None:
    rights = "models: [small]\n routes: [auto]\n budget_usd: ${USD}\n budget_window: day\n rpm: 5\n tpm: 7\n priority: batch\n role: admin"
    found = ring(tmp_path, whole(entry("    " + rights.replace("\n ", "\n    ") + "\n")), environment={"USD": "2.5"}).find(KEY.encode())
    assert found is not None
    assert (found.id, found.name, found.role, found.priority, found.expires) == ("a", "Ann", "admin", "batch", None)
    assert (found.models, found.routes, found.allowance) == ({"small"}, {"auto"}, Allowance(5, 7, 2.5, "day"))
    plain = ring(tmp_path, whole()).find(KEY.encode())
    assert plain is not None
    assert (plain.models, plain.routes, plain.allowance, plain.role, plain.priority) == (None, None, Allowance(), "user", "interactive")


CASES = [
    ("kees: []\n", "keys.yaml:1: kees: unknown key, did you mean 'keys'?; known here: keys"),
    ("", "keys.yaml:1: keys: is required"),
    ("- a\n", "keys.yaml:1: should be a mapping with `keys: [entry, …]`"),
    ("keys:\n", "keys.yaml:1: keys: input should be a valid list"),
    ("keys: [\n", "not valid YAML"),
    ("keys: &a [*a]\n", "keys.yaml:1: is nested too deeply"),
    (whole("  - small\n"), "keys.yaml:2: keys[0]: should be a mapping"),
    (whole(entry("    modles: [small]\n")), "keys.yaml:5: keys[0].modles: unknown key, did you mean 'models'?"),
    (whole(entry("    models: [smal]\n")), "keys.yaml:5: keys[0].models[0]: no model named 'smal', did you mean 'small'?"),
    (whole(entry("    routes: [\n      auto, atuo]\n")), "keys.yaml:6: keys[0].routes[1]: no route named 'atuo', did you mean 'auto'?"),
    (whole(entry("    models: []\n")), "keys.yaml:5: keys[0].models: list should have at least 1 item"),
    (whole(entry("    rpm: 0\n")), "keys.yaml:5: keys[0].rpm: input should be greater than or equal to 1"),
    (whole(entry("    budget_usd: .inf\n")), "keys[0].budget_usd: "),
    (whole(entry("    budget_usd: 0\n")), "keys[0].budget_usd: input should be greater than 0"),
    (whole(entry("    budget_window: week\n")), "keys[0].budget_window: input should be 'day' or 'month'"),
    (whole(entry("    role: king\n")), "keys[0].role: input should be 'user' or 'admin'"),
    (
        whole(entry("    expires: 2027-01-31T10:00:00\n")),
        "keys.yaml:5: keys[0].expires: has no zone; write one, such as 2027-01-31T18:00:00Z",
    ),
    (whole(entry("    expires: soon\n")), "keys.yaml:5: keys[0].expires: should be an ISO 8601 time with a zone"),
    (whole(entry("    expires: 5\n")), "keys.yaml:5: keys[0].expires: should be an ISO 8601 time with a zone"),
    (whole(entry("    expires: 2027-02-31\n")), "keys.yaml:5: keys[0].expires: cannot be read: '2027-02-31'"),
    (whole(entry(id="a b")), "keys.yaml:2: keys[0].id: may hold letters, digits and . _ - (at most 64)"),
    (whole(entry(id="anyone")), "keys[0].id: 'anyone' is reserved"),
    (whole(entry(id="jwt_1")), "keys[0].id: 'jwt_1' is reserved"),
    (whole(entry(digest="abc")), "keys.yaml:4: keys[0].sha256: should be the SHA-256 of the key: 64 hex digits"),
    (whole(entry(digest=KEY)), "keys.yaml:4: keys[0].sha256: is a key; its SHA-256 belongs here"),
    (whole(entry(), entry(digest=OTHER_HASH)), "keys.yaml:5: keys[1].id: is that of keys[0] already"),
    (whole(entry(), entry(id="b", digest=HASH.upper())), "keys.yaml:7: keys[1].sha256: is that of keys[0] already"),
    (f"keys:\n  {HASH}: 1\n  {KEY}: 2\n", "keys: input should be a valid list"),
    (whole(f"  - {{{KEY}: 1}}\n"), "keys[0].…: unknown key"),
    (whole(entry(f"    models: [{HASH}, {KEY}]\n")), "keys[0].models[1]: no model named '…'"),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[expected[:70] for _, expected in CASES])
def test_what_is_wrong_and_where_and_never_a_hash(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        ring(tmp_path, text)
    told = "\n".join(caught.value.lines())
    assert expected in told
    assert HASH[:12] not in told.lower()
    assert KEY[:12] not in told


@pytest.mark.parametrize(
    ("expires", "moment"),
    [
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15 09:00:00+01:00", NOW),
        ("'2027-01-15T08:00:00+00:00'", NOW),
        ("2027-01-16", NOW + 57_600),
        ("'2027-01-16'", NOW + 57_600),
    ],
)
def test_a_key_is_good_until_the_moment_it_expires(expires: str, moment: float, tmp_path: Path) -> None:
    text = whole(entry(f"    expires: {expires}\n"))
    before = ring(tmp_path, text, moment - 0.001).find(KEY.encode())
    assert before is not None
    assert before.expires == moment
    assert ring(tmp_path, text, moment).find(KEY.encode()) is None


def test_two_hashes_that_begin_alike_are_two_keys() -> None:
    digest, twin = bytes.fromhex(HASH), bytes.fromhex(HASH)[:8] + bytes(24)
    both = KeyRing([(twin, ANYONE), (digest, ANYONE)])
    assert both.find(KEY.encode()) is ANYONE
    assert KeyRing([(twin, ANYONE)]).find(KEY.encode()) is None


async def test_whatever_is_wrong_with_a_key_the_answer_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text(whole(entry(), entry("    expires: 2020-01-01\n", "b", OTHER_HASH)))
    gate = Gate(KeysFile(tmp_path / "keys.yaml", MODELS, ROUTES, {}), None)
    good = await gate.identify({b"authorization": f"bEARER  {KEY} ".encode()})
    assert good.id == "a"
    wrong: list[dict[bytes, bytes]] = [
        {},
        {b"authorization": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Bearer\t" + KEY.encode()},
        {b"authorization": KEY.encode()},
        {b"authorization": b"Basic " + KEY.encode()},
        {b"x-api-key": KEY.encode()},
        *map(bearer, [OTHER, KEY[:-1], KEY + "A", KEY.swapcase(), HASH, "é", KEY + " x", "a.b.c", "x" * 8193, "x" * 100_000, b"\xff\x00"]),
    ]
    bodies = {await refused(gate, headers) for headers in wrong}
    assert len(bodies) == 1
    error = json.loads(bodies.pop())["error"]
    assert (error["type"], error["code"], error["param"]) == ("authentication_error", "invalid_api_key", None)
    assert "Authorization: Bearer" in error["message"]


async def test_without_keys_everyone_is_let_in_and_only_admins_may_administer(tmp_path: Path) -> None:
    assert await Gate(None, None).identify({}) is ANYONE
    require_admin(ANYONE)
    user = ring(tmp_path, whole()).find(KEY.encode())
    assert user is not None
    with pytest.raises(GatewayError) as caught:
        require_admin(user)
    assert (caught.value.code, caught.value.status) == ("forbidden", 403)
    (tmp_path / "keys.yaml").write_text("keys: []\n")
    await refused(Gate(KeysFile(tmp_path / "keys.yaml", MODELS, ROUTES, {}), None), bearer(KEY))


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """One that knows one key."""
    path = tmp_path_factory.mktemp("gate") / "keys.yaml"
    path.write_text(whole())
    return Gate(KeysFile(path, MODELS, ROUTES, {}), None)


@given(garbage=st.binary(max_size=200), scheme=st.sampled_from([b"Bearer ", b"bearer ", b"", b"Bearer pm_"]))
def test_garbage_gets_the_401_and_nothing_else(gate: Gate, garbage: bytes, scheme: bytes) -> None:
    identify = gate.identify({b"authorization": scheme + garbage})
    with pytest.raises(GatewayError) as caught:
        identify.send(None)  # nothing is awaited for a key, so the first step is the last
    assert caught.value.code == "invalid_api_key"


def test_a_key_that_is_nearly_right_takes_as_long_as_any_other(gate: Gate) -> None:
    def seconds(key: str) -> float:
        headers, start = bearer(key), time.perf_counter()
        for _ in range(20):
            with suppress(GatewayError):
                gate.identify(headers).send(None)
        return time.perf_counter() - start

    first, last = f"pm_{'B' if KEY[3] != 'B' else 'C'}{KEY[4:]}", KEY[:-1] + ("B" if KEY[-1] != "B" else "C")
    taken = [(seconds(first), seconds(last)) for _ in range(100)]
    ratio = statistics.median(a for a, _ in taken) / statistics.median(b for _, b in taken)
    assert 1 / 3 < ratio < 3


async def comes_true(condition: Callable[[], bool], seconds: float = 1.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def replace(path: Path, text: str) -> None:
    """As editors and Kubernetes do: a new file in the old one's place."""
    await asyncio.to_thread(path.with_suffix(".new").write_text, text)
    os.replace(path.with_suffix(".new"), path)


async def test_a_revoked_key_stops_working_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(whole(entry(), entry(id="b", digest=OTHER_HASH)))
    file = KeysFile(path, MODELS, ROUTES, {})
    watching = asyncio.create_task(file.watch(0.2))
    for rewrite in (replace, lambda path, text: asyncio.to_thread(path.write_text, text)):
        assert file.ring.find(KEY.encode()) is not None
        await rewrite(path, whole(entry(id="b", digest=OTHER_HASH)))
        await comes_true(lambda: file.ring.find(KEY.encode()) is None)
        assert file.ring.find(OTHER.encode()) is not None
        await rewrite(path, whole(entry(), entry(id="b", digest=OTHER_HASH)))
        await comes_true(lambda: file.ring.find(KEY.encode()) is not None)
    watching.cancel()
    assert file.failures == 0


async def test_a_change_that_leaves_size_and_times_as_they_were_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(whole())
    file = KeysFile(path, MODELS, ROUTES, {})
    path.write_text(whole(entry(digest=OTHER_HASH)))  # within the same tick of the file system's clock, perhaps
    await file.refresh()
    assert file.ring.find(KEY.encode()) is None


async def test_a_bad_file_leaves_the_old_keys_and_is_told_once_without_secrets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(whole())
    file = KeysFile(path, MODELS, ROUTES, {})
    caplog.set_level(logging.INFO, "pointsman")
    for count, bad in enumerate(["", "keys: [", whole(entry(digest=KEY)), "\0" * 50, whole()[:-30]], 1):
        await replace(path, bad)
        for _ in range(3):
            await file.refresh()
        assert file.ring.find(KEY.encode()) is not None, bad
        assert (file.failures, len(caplog.records)) == (count, count)
    path.unlink()
    for _ in range(3):
        await file.refresh()
    assert file.ring.find(KEY.encode()) is not None
    assert file.failures == len(caplog.records) == 6
    assert HASH[:12] not in caplog.text
    assert KEY[:12] not in caplog.text
    await replace(path, "keys: []\n")
    await file.refresh()
    assert (len(file.ring), file.failures) == (0, 6)


async def test_half_a_file_that_is_valid_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(whole(entry(), entry(id="b", digest=OTHER_HASH)))
    file = KeysFile(path, MODELS, ROUTES, {})
    with path.open("w") as stream:  # a slow writer
        stream.write(whole())
        stream.flush()
        looking = asyncio.create_task(file.refresh())
        await asyncio.sleep(0.03)
        assert len(file.ring) == 2
        stream.write(entry(id="b", digest=OTHER_HASH) + entry(id="c", digest="f" * 64))
    await looking
    assert len(file.ring) == 3


def new(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `pointsman keys new`."""
    done = CliRunner().invoke(keys_command, ["new", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, done.stderr


EVERYTHING = "--models small,large --routes auto --budget-usd 2.5 --budget-window day --rpm 3 --tpm 4 --priority batch --role admin"


def test_keys_new_prints_a_key_and_an_entry_that_can_be_pasted(tmp_path: Path) -> None:
    code, out, _ = new("--name", 'Ann\'s: "first" – #1', *EVERYTHING.split(), "--expires", "2027-01-16")
    assert code == 0
    key, told, pasted = out.split("\n", 1)[0], *out.split("in the keys file:\n\n")
    assert out.count(key) == 1
    assert "not shown again" in told
    assert key not in pasted
    found = ring(tmp_path, "keys:\n" + pasted).find(key.encode())
    assert found is not None
    assert (found.name, found.models, found.allowance.budget_usd) == ('Ann\'s: "first" – #1', {"small", "large"}, 2.5)
    assert (found.role, found.priority, found.expires) == ("admin", "batch", NOW + 57_600)


def test_keys_new_as_json_is_one_document(tmp_path: Path) -> None:
    code, out, err = new("--name", "Ann", "--json", "--rpm", "3", "--expires", "2027-01-15T09:00:00+01:00")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert set(document) == {"key", "entry"}
    found = ring(tmp_path, json.dumps({"keys": [document["entry"]]}), NOW - 1).find(document["key"].encode())
    assert found is not None
    assert (found.allowance.rpm, found.expires) == (3, NOW)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--name x --rpm 0", "--rpm: input should be greater than or equal to 1"),
        ("--name x --rpm many", "rpm"),
        ("--name x --budget-usd nan", "--budget-usd: input should be a finite number"),
        ("--name x --budget-window week", "--budget-window: input should be 'day' or 'month'"),
        ("--name x --priority high", "--priority: input should be 'interactive' or 'batch'"),
        ("--name x --models ,", "--models: list should have at least 1 item"),
        ("--name x --expires soon", "--expires: should be an ISO 8601 time with a zone, such as 2027-01-31T18:00:00Z"),
        ("--name x --expires 2020-01-01", "is in the past"),
        ("--name ${HOME}", "--name: may hold printable characters only"),
        ("--rpm 1", "--name"),
    ],
)
def test_keys_new_says_what_would_be_right(arguments: str, expected: str) -> None:
    code, out, err = new(*arguments.split(" "))
    assert (code, out) == (2, "")
    assert expected in err


@pytest.mark.parametrize("before", [None, "", "# ours\n", "keys: []\n", "keys:\n", whole(), whole().rstrip(), whole().replace("  ", "")])
def test_keys_new_adds_to_a_file(before: str | None, tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    if before is not None:
        before = before.replace("-id", "- id").replace("\nname", "\n  name").replace("\nsha", "\n  sha")
        path.write_text(before)
        path.chmod(0o640)
    made = [json.loads(new("--name", "Ann", "--json", "--file", str(path))[1])["key"], new("--name", "Bo", "--file", str(path))[1][:46]]
    found = read_keys(path, MODELS, ROUTES, {})
    callers = [found.find(key.encode()) for key in made]
    assert [caller and caller.name for caller in callers] == ["Ann", "Bo"]
    assert (found.find(KEY.encode()) is not None) == ("id: a" in (before or ""))
    assert ("# ours" in path.read_text()) == ("# ours" in (before or ""))
    assert stat.S_IMODE(path.stat().st_mode) == (0o600 if before is None else 0o640)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("before", "code"), [("models: []\n", 2), ("keys: [{id: a}]\n", 2), ("keys: [\n", 2), ("keys: 3\n", 2), ("- a\n", 2)]
)
def test_keys_new_leaves_a_file_alone_that_it_cannot_add_to(before: str, code: int, tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(before)
    assert new("--name", "Ann", "--file", str(path))[:2] == (code, "")
    assert path.read_text() == before
    assert new("--name", "Ann", "--file", str(tmp_path / "none" / "keys.yaml"))[:2] == (1, "")
