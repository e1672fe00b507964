"""The store against real servers that die, freeze, fill up and come back."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from gateway.memory.redis_failures import REASONS
from gateway.memory.store import Script, Store, StoreDown
from tests.gateways import until
from tests.processes import free_port
from tests.redis_servers import redis_cluster, redis_sentinel, redis_server, servers, slow_way

__all__ = ["servers"]  # a fixture: every test that asks for it runs against both kinds

SECRET = "s3cr3t-passw0rd"
TIMEOUT = 0.05
ADD = Script("add", "redis.call('INCRBY', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])")


class Watched(Store):
    """A store that counts why calls failed."""

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self.reasons: Counter[str] = Counter()
        super().__init__(url, timeout=timeout, failed=lambda reason: self.reasons.update([reason]))


@asynccontextmanager
async def running(url: str, timeout: float = TIMEOUT) -> AsyncIterator[Watched]:
    """A store with its background work."""
    store = Watched(url, timeout)
    task = asyncio.create_task(store.run())
    try:
        yield store
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await store.aclose()
        assert set(store.reasons) <= set(REASONS)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "pointsman"]


async def back(store: Store) -> bool:
    """Whether the store comes back within 5 seconds."""
    return await until(lambda: store.up, 5)


async def down_at_once(store: Store) -> None:
    """Calls fail in no time: 200 of them within one timeout."""
    started = time.perf_counter()
    for _ in range(200):
        with pytest.raises(StoreDown):
            await store.get("k")
    assert time.perf_counter() - started < TIMEOUT


async def fails_within_the_timeout(store: Store) -> None:
    started = time.perf_counter()
    with pytest.raises(StoreDown):
        await store.set("k", b"1", 60)
    assert time.perf_counter() - started < TIMEOUT * 2  # the event loop of a busy machine is not that exact


async def it_goes_away(store: Store, caplog: pytest.LogCaptureFixture, reason: str, port: int) -> None:
    """After a fault: one failed call within the timeout, then none that waits, and one log line."""
    await fails_within_the_timeout(store)
    assert not store.up
    await down_at_once(store)
    assert told(caplog) == [f"redis at 127.0.0.1:{port} is away ({reason}); requests go on without it"]


def came_back(store: Watched, caplog: pytest.LogCaptureFixture, port: int) -> None:
    away, again = told(caplog)
    assert away.startswith(f"redis at 127.0.0.1:{port} is away")
    assert again.startswith(f"redis at 127.0.0.1:{port} is back after ")
    assert store.changes == 2


async def test_the_calls(servers: str) -> None:
    with redis_server(servers) as server:
        async with running(server.url) as store:
            assert await store.get("k") is None
            await store.set("k", b"\x00\xff", 60)
            assert await store.get("k") == b"\x00\xff"
            assert 0 < server.command("PTTL", "k") <= 60_000
            assert not await store.add("k", b"2", 60)
            assert await store.add("new", b"2", 0.05)
            assert await store.call("INCRBY", "n", 5) == 5
            await store.delete("k")
            assert await store.get("k") is None
            assert await until(lambda: store.add("new", b"2", 1))
            assert (store.changes, store.pending, store.dropped, store.reasons) == (0, 0, 0, Counter())


async def test_a_script_is_sent_when_the_server_does_not_know_it(servers: str) -> None:
    with redis_server(servers) as server:
        async with running(server.url) as store:
            assert await store.run_script(ADD, ["n"], [2]) == b"2"
            server.command("SCRIPT", "FLUSH")
            assert await store.run_script(ADD, ["n"], [2]) == b"4"
            server.command("FLUSHALL")
            server.command("SCRIPT", "FLUSH")
            store.run_later(ADD, ["n"], [2])
            store.run_later(ADD, ["n"], [3])
            assert await until(lambda: store.pending == 0)
            assert await store.get("n") == b"5"
            assert store.reasons == Counter()


async def test_our_own_mistakes_do_not_take_the_store_away(servers: str, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(servers) as server:
        async with running(server.url) as store:
            await store.set("text", b"x", 60)
            for call in (
                store.call("LPUSH", "text", "x"),
                store.run_script(ADD, ["text"], [1]),
                store.run_script(Script("broken", "return nothing()"), [], []),
                store.call("NOSUCHCOMMAND"),
            ):
                with pytest.raises(StoreDown) as caught:
                    await call
                assert caught.value.reason == "script"
            with pytest.raises(StoreDown):
                await store.call("SET", "k", "\ud800")
            store.later("LPUSH", "text", "x")
            store.later(lambda: ("SET", "a", 1.5))  # type: ignore[arg-type, return-value]
            store.later("SET", "b", "\ud800")
            store.later("SET", "c", 1)
            assert await until(lambda: store.pending == 0)
            assert await store.get("c") == b"1"
            assert store.up
            assert store.dropped == 3
            assert store.reasons == {"script": 5, "other": 3}
            assert not [line for line in told(caplog) if "away" in line]


async def test_down_at_boot(servers: str, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(servers) as server:
        server.stop()
        async with running(server.url) as store:
            assert await until(lambda: not store.up)
            await down_at_once(store)
            store.later("SET", "queued", 1)
            server.start()
            assert await back(store)
            came_back(store, caplog, server.port)
            assert await until(lambda: store.pending == 0)
            assert await store.get("queued") == b"1"


async def test_killed_and_started_again(servers: str, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(servers) as server:
        async with running(server.url) as store:
            await asyncio.gather(*(store.set(f"k{n}", b"1", 60) for n in range(20)))
            server.stop()
            await it_goes_away(store, caplog, "connection", server.port)
            for number in range(300):
                store.later("SET", f"queued{number}", number)
            store.run_later(ADD, ["n"], [7])
            await asyncio.sleep(0.3)
            assert store.pending == 301
            server.start()
            assert await back(store)
            came_back(store, caplog, server.port)
            assert await until(lambda: store.pending == 0)
            assert server.command("GET", "queued299") == b"299"
            assert server.command("GET", "n") == b"7"
            assert server.command("DBSIZE") >= 301
            assert (store.dropped, store.reasons) == (0, {"connection": 1})


async def test_frozen_and_thawed(servers: str, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(servers) as server:
        async with running(server.url) as store:
            await store.set("k", b"1", 60)
            server.freeze()
            await it_goes_away(store, caplog, "timeout", server.port)
            await asyncio.sleep(0.5)
            assert not store.up
            server.thaw()
            assert await back(store)
            came_back(store, caplog, server.port)
            assert await store.get("k") == b"1"


async def test_a_late_reply_goes_to_nobody(servers: str) -> None:
    """Calls that end by timeout or are cancelled leave replies behind; none may reach a caller who asked for something else."""
    with redis_server(servers) as server:
        for number in range(200):
            server.command("SET", f"k{number}", f"v{number}")
        async with running(server.url) as store:
            good = 0

            async def ask(number: int) -> None:
                nonlocal good
                with suppress(StoreDown):
                    assert await store.get(f"k{number}") == f"v{number}".encode()
                    good += 1

            for turn in range(12):
                tasks = [asyncio.create_task(ask(number)) for number in range(200)]
                await asyncio.sleep(0.002 * (turn % 4))
                for task in tasks[turn::3]:
                    task.cancel()
                if turn % 3 == 0:
                    server.freeze()
                done = await asyncio.gather(*tasks, return_exceptions=True)
                server.thaw()
                assert [one for one in done if one is not None and not isinstance(one, asyncio.CancelledError)] == []
                assert await back(store)
            assert good > 500


async def test_cancelled_callers_give_their_places_back() -> None:
    with redis_server() as server:
        async with running(server.url, timeout=1) as store:
            for _ in range(10):
                tasks = [asyncio.create_task(store.get("k")) for _ in range(300)]
                await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(store.get("k") for _ in range(100)))
            assert server.command("CLIENT", "LIST").count(b"\n") <= 40
            assert store.up


async def test_slower_than_the_timeout(servers: str, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(servers) as server:
        async with slow_way(server.port, 200) as port, running(f"redis://127.0.0.1:{port}") as store:
            await it_goes_away(store, caplog, "timeout", port)
            await asyncio.sleep(1)
            assert not store.up
            assert len(told(caplog)) == 1
        async with slow_way(server.port, 5) as port, running(f"redis://127.0.0.1:{port}", timeout=0.5) as store:
            await store.set("k", b"1", 60)
            assert store.up


async def test_read_only(servers: str, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(servers) as server:
        async with running(server.url) as store:
            await store.set("k", b"1", 60)
            server.command("REPLICAOF", "127.0.0.1", free_port())
            await it_goes_away(store, caplog, "readonly", server.port)
            await asyncio.sleep(0.5)
            assert not store.up
            server.command("REPLICAOF", "NO", "ONE")
            assert await back(store)
            came_back(store, caplog, server.port)


async def test_full(servers: str, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(servers, "--maxmemory-policy", "noeviction") as server:
        async with running(server.url, timeout=0.5) as store:
            await store.set("k", b"1", 60)
            server.command("SET", "big", b"x" * 8_000_000)
            server.command("CONFIG", "SET", "maxmemory", "4mb")
            store.later("SET", "queued", 1)
            assert await until(lambda: not store.up)
            await down_at_once(store)
            assert told(caplog) == [f"redis at 127.0.0.1:{server.port} is away (oom); requests go on without it"]
            assert store.pending == 1
            server.command("FLUSHALL")
            assert await back(store)
            came_back(store, caplog, server.port)
            assert await until(lambda: store.pending == 0)
            assert server.command("GET", "queued") == b"1"


@pytest.mark.parametrize("url", ["redis://:{}@127.0.0.1:{}", "redis://me:{}@127.0.0.1:{}", "redis://127.0.0.1:{1}"])
async def test_a_wrong_password(servers: str, url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with redis_server(servers, "--requirepass", "another") as server:
        async with running(url.format(SECRET, server.port), timeout=0.5) as store:
            await it_goes_away(store, caplog, "auth", server.port)
            server.command("CONFIG", "SET", "requirepass", SECRET if "@" in url else "", password="another")
            server.command("ACL", "SETUSER", "me", "on", f">{SECRET}", "+@all", "~*", password=SECRET if "@" in url else None)
            assert await back(store)
            came_back(store, caplog, server.port)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:{0}@127.0.0.1:{1}",
        "redis://me:{0}@no-such-host.invalid:{1}",
        "rediss://me:{0}@127.0.0.1:{1}",
        "unix://me:{0}@/no/such/socket",
        "redis+sentinel://me:{0}@127.0.0.1:{1}/main?sentinel_password={0}",
        "redis+cluster://me:{0}@127.0.0.1:{1}",
    ],
)
async def test_a_password_is_told_to_nobody(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = Watched(url.format(SECRET, free_port()), timeout=0.5)
    with pytest.raises(StoreDown) as caught:
        await store.get("k")
    text = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__cause__) + repr(store) + caplog.text
    assert "is away (connection)" in caplog.text
    assert SECRET not in text
    await store.aclose()


async def test_the_line_of_writes_is_bounded() -> None:
    store = Watched(f"redis://127.0.0.1:{free_port()}")
    for number in range(10_050):
        store.later("SET", "k", number)
    assert (store.pending, store.dropped) == (10_000, 50)
    await store.aclose()


async def test_what_waits_is_sent_at_the_end() -> None:
    with redis_server() as server:
        async with running(server.url) as store:
            await store.get("k")
            for number in range(100):
                store.later("SET", f"k{number}", number)
        assert store.pending == 0
        assert server.command("GET", "k99") == b"99"


async def test_a_loop_that_was_held_up_is_not_the_stores_fault() -> None:
    with redis_server() as server:
        async with running(server.url) as store:
            await store.get("k")
            tasks = [asyncio.create_task(store.get("k")) for _ in range(30)]
            await asyncio.sleep(0)
            time.sleep(TIMEOUT * 4)  # noqa: ASYNC251
            await asyncio.gather(*tasks, return_exceptions=True)
            assert store.up


async def use(store: Store) -> list[Any]:
    first, second = store.tagged("acme", "n", "1"), store.tagged("acme", "n", "2")
    await store.set(first, b"1", 60)
    both = Script("both", "return {redis.call('GET', KEYS[1]), redis.call('INCR', KEYS[2])}")
    found = await store.run_script(both, [first, second], [])
    store.run_later(ADD, [second], [5])
    for number in range(20):
        store.later("SET", store.key("acme", "later", str(number)), number)
    assert await until(lambda: store.pending == 0)
    return [*found, await store.get(second), await store.get(store.key("acme", "later", "19"))]


async def test_a_cluster(servers: str, caplog: pytest.LogCaptureFixture) -> None:
    with redis_cluster(servers) as server:
        async with running(server.url, timeout=0.3) as store:
            assert await use(store) == [b"1", 1, b"6", b"19"]
            server.freeze()
            with pytest.raises(StoreDown):
                await store.get("k")
            await down_at_once(store)
            server.thaw()
            assert await back(store)
            came_back(store, caplog, server.port)
            assert await use(store) == [b"1", 7, b"12", b"19"]


async def test_sentinel(servers: str, caplog: pytest.LogCaptureFixture) -> None:
    with redis_sentinel(servers) as sentinel:
        async with running(sentinel.url, timeout=0.3) as store:
            assert await use(store) == [b"1", 1, b"6", b"19"]
            sentinel.primary.stop()
            with pytest.raises(StoreDown):
                await store.get("k")
            await down_at_once(store)
            sentinel.primary.start()
            assert await back(store)
            came_back(store, caplog, sentinel.port)
            assert await use(store) == [b"1", 1, b"6", b"19"]
