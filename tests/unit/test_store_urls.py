"""Where the store is, what its keys look like, and what waits to be written."""

from __future__ import annotations

import pytest

from gateway.memory.outbox import MAX_BATCH, PATIENCE, Entry, Outbox, Script
from gateway.memory.redis_urls import Address, parse
from gateway.memory.store import Store

SECRET = "s3cr3t-passw0rd"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", Address("single", (("localhost", 6379),))),
        ("redis://h:7000/3", Address("single", (("h", 7000),), db=3)),
        ("redis://h?db=3", Address("single", (("h", 6379),), db=3)),
        ("redis://:p%40ss@[::1]:7000", Address("single", (("::1", 7000),), password="p@ss")),
        ("redis://me:pw@10.0.0.1", Address("single", (("10.0.0.1", 6379),), username="me", password="pw")),
        ("rediss://h?ssl_ca_certs=/ca.pem", Address("single", (("h", 6379),), tls={"ssl_ca_certs": "/ca.pem"})),
        ("unix:///run/redis.sock?db=2", Address("unix", path="/run/redis.sock", db=2)),
        ("unix://me:pw@/run/redis.sock", Address("unix", path="/run/redis.sock", username="me", password="pw")),
        ("redis+sentinel://a,b:26380/main", Address("sentinel", (("a", 26379), ("b", 26380)), service="main")),
        (
            "rediss+sentinel://me:pw@a/main/2?sentinel_password=x",
            Address("sentinel", (("a", 26379),), service="main", db=2, tls={}, username="me", password="pw", sentinel_password="x"),
        ),
        ("redis+cluster://a:1,b", Address("cluster", (("a", 1), ("b", 6379)))),
        ("rediss+cluster://:pw@a", Address("cluster", (("a", 6379),), tls={}, password="pw")),
    ],
)
def test_a_url_is_read(url: str, expected: Address) -> None:
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("url", "right"),
    [
        (SECRET, "starts with one of redis://"),
        (f"http://:{SECRET}@h", "starts with one of"),
        ("redis://", "host is a name"),
        (f"redis://:{SECRET}@h:x", "redis-1.example.com:6379"),
        (f"redis://:{SECRET}@h:0", "from 1 to 65535"),
        (f"redis://:{SECRET}@a,b", "several go with"),
        (f"redis://:{SECRET}@h/x", "database is a number"),
        (f"redis://:{SECRET}@h/1?db=2", "once"),
        (f"redis://:{SECRET}@h?timeout=3", "takes the options db"),
        (f"redis://:{SECRET}/x@h", "%2F"),
        (f"redis://:{SECRET}?x@h", "takes the options"),
        (f"redis://:{SECRET}#x@h", "%23"),
        (f"redis://:{SECRET}@x@h", "%40"),
        (f"redis://me:{SECRET}:x@h", "%3A"),
        (f"redis://{SECRET}@h", ":password@"),
        (f"redis+sentinel://:{SECRET}@a:26379", "names the service"),
        (f"redis+cluster://:{SECRET}@a/1", "one database"),
        (f"rediss://:{SECRET}@h?ssl_cert_reqs=no", "required, optional or none"),
        (f"unix://:{SECRET}@", "absolute path"),
        (f"unix://{SECRET}/run/redis.sock", "absolute path"),
    ],
)
def test_a_bad_url_is_refused_and_its_password_is_not_told(url: str, right: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(url)
    assert right in str(caught.value)
    assert SECRET not in repr(caught.value)


def test_an_address_shows_no_password() -> None:
    address = parse(f"redis+sentinel://me:{SECRET}@a,[::1]:5/main?sentinel_password={SECRET}")
    assert address.shown == "a:26379,[::1]:5"
    assert SECRET not in repr(address)


def test_keys() -> None:
    store = Store("redis://localhost", prefix="pm")
    assert store.key("acme", "choice", "a1", "b:2") == "pm:1:acme:choice:a1:b:2"
    assert store.tagged("acme", "rate", "m-1") == "pm:1:{acme}:rate:m-1"


@pytest.mark.parametrize(
    "parts", [("", "k"), ("a" * 65, "k"), ("a:b", "k"), ("a{b", "k"), ("a", ""), ("a", "k", ""), ("a", "k", "x y"), ("a", "ü")]
)
def test_bad_keys(parts: tuple[str, ...]) -> None:
    store = Store("redis://localhost")
    for make in (store.key, store.tagged):
        with pytest.raises(ValueError, match="made of"):
            make(parts[0], parts[1], *parts[2:])


def test_a_bad_prefix() -> None:
    with pytest.raises(ValueError, match="prefix"):
        Store("redis://localhost", prefix="a b")


def test_the_line_drops_the_oldest() -> None:
    box = Outbox(size=3)
    for number in range(5):
        box.add(Entry(("SET", "k", number)))
    assert (len(box), box.dropped) == (3, 2)
    assert [entry.command()[2] for entry in box.take()] == [2, 3, 4]
    box.add(Entry(("SET", "k", 5)))
    box.keep([Entry(("SET", "k", number)) for number in (2, 3, 4)])
    assert [entry.command()[2] for entry in box.take()] == [3, 4, 5]
    assert box.dropped == 3


def test_a_slow_batch_gets_smaller_and_one_slow_write_is_given_up() -> None:
    box = Outbox()
    for number in range(MAX_BATCH * 2):
        box.add(Entry(("SET", "k", number)))
    size = MAX_BATCH
    while size > 1:
        assert len(box.take()) == size
        box.keep(list(box._taken), slow=True)
        size //= 2
    for _ in range(PATIENCE):
        assert box.dropped == 0
        (entry,) = box.take()
        assert entry.command()[2] == 0
        box.keep([entry], slow=True)
    assert (box.dropped, len(box)) == (1, MAX_BATCH * 2 - 1)
    assert box.take()[0].command()[2] == 1
    box.sent()
    assert len(box.take()) == 2


def test_what_an_entry_makes() -> None:
    script = Script("one", "return 1")
    assert script.sha == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
    assert Entry((1, "k", b"v"), script).command() == ("EVALSHA", script.sha, 1, b"k", b"v")
    assert Entry((0,), script).command(whole=True) == ("EVAL", "return 1", 0)
    assert Entry(lambda: ("GET", "ü")).command() == ("GET", "ü".encode())
    with pytest.raises(TypeError):
        Entry(("SET", "k", True)).command()
