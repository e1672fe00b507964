"""The functions that a request calls, each by itself: `make bench-micro`. What they return is checked, how long they take is only told."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import msgspec
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from backends.api import Call, Timeouts
from backends.deadlines import Deadlines
from backends.http1 import Http1Transport
from gateway.account.costs import Usage, cost_usd
from gateway.account.journal import Journal
from gateway.account.ledger import entry
from gateway.account.metrics import Metrics
from gateway.account.records import Attempt, Decision, Record
from gateway.app import Gateway, build
from gateway.config import validate
from gateway.fleet import TokenEstimate
from gateway.flow.content import Conversation, Prompt
from gateway.flow.relay import StreamFilter
from gateway.flow.wire import Wire, read
from gateway.guard.callers import ANYONE, Caller
from gateway.guard.keys import KeyRing, new_key
from gateway.policies import build_routes
from gateway.source import Source
from routers.api import Choice, Price, Scored
from routers.registry import Registry
from tests.benchmarks.way import Loop, answers
from tests.gateways import model, route

TEXT = "What does the pointsman do when two trains want the same track at once? "
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
HEADERS = {b"content-type": b"application/json", b"host": b"127.0.0.1:8080"}


def body(text: str = TEXT * 7) -> bytes:
    messages = [SYSTEM, {"role": "user", "content": text}]
    return json.dumps({"model": "auto", "messages": messages, "max_tokens": 100, "temperature": 0.7}).encode()


def messages(text: str) -> msgspec.Raw:
    return msgspec.Raw(json.dumps([SYSTEM, {"role": "user", "content": text}]).encode())


def record() -> Record:
    """Of a request that went well."""
    ranking = (Scored("small", 0.9, {"cost": 0.9}, None, 0.0001), Scored("large", 0.4, {"cost": 0.4}, None, 0.001))
    decision = Decision("dec-0123456789abcdef01234567", "auto", Choice("best(cost)", "best_score", ranking), "hit", 1_790_000_000.0, 150)
    tries = [Attempt("small", "127.0.0.1:9001", "ok", 0.0105)]
    found = Record(decision, "chat", "req-0123456789abcdef01234567", False, "key_0123456789ab", "small", tries, 200, None, Usage(24, 100))
    found.cost_usd, found.baseline_cost_usd = 0.0000112, 0.000112
    found.overhead_seconds, found.first_byte_seconds, found.seconds = 0.0004, 0.011, 0.0115
    return found


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for something")


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    whole = {
        "models": [model("small", "http://127.0.0.1:9/v1"), model("large", "http://127.0.0.1:10/v1")],
        "routes": [route("small", "large")],
    }
    config = validate(Source("bench", whole))
    built = build(config, build_routes(config, Registry()))
    yield built
    built.threads.shutdown()
    built.learning.shutdown()


def test_reading_a_request(benchmark: BenchmarkFixture) -> None:
    sent = body()
    assert benchmark(read, "chat", HEADERS, sent).model == "auto"


def test_reading_a_request_of_100_kb(benchmark: BenchmarkFixture) -> None:
    sent = body(TEXT * 1400)
    assert benchmark(read, "chat", HEADERS, sent).prompt.size > 100_000


def test_naming_a_conversation(benchmark: BenchmarkFixture) -> None:
    sent = body()

    def name(wire: Wire) -> Conversation | None:
        return wire.prompt.conversation()

    talk = benchmark.pedantic(name, setup=lambda: ((read("chat", HEADERS, sent),), {}), rounds=3000)
    assert talk is not None
    assert talk.begins


def test_estimating_the_tokens_of_10_kb(benchmark: BenchmarkFixture) -> None:
    raw, estimate = messages("The quick brown fox. " * 476), TokenEstimate()
    assert benchmark(lambda: estimate.tokens(Prompt("chat", raw, None).size)) > 2000


def test_deciding_what_is_remembered(benchmark: BenchmarkFixture, gateway: Gateway) -> None:
    sent, decider = body(), gateway.decider

    def decide(wire: Wire) -> Decision:
        found: Decision = finish(decider.decide(decider.request(wire, ANYONE), wire, ANYONE))
        return found

    def another() -> tuple[tuple[Wire], dict[str, Any]]:
        return (read("chat", HEADERS, sent),), {}  # a wire remembers what was read of it

    asyncio.run(decider.decide(decider.request(*another()[0], ANYONE), *another()[0], ANYONE))
    assert benchmark.pedantic(decide, setup=another, rounds=3000).cache == "hit"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_asking_a_backend_and_reading_its_answer(benchmark: BenchmarkFixture, stream: bool) -> None:
    """A stream of 101 chunks, each a read of its own."""
    parts, _ = answers(stream)
    loop = asyncio.new_event_loop()
    deadlines = Deadlines()
    deadlines._loop = Loop(loop, parts)  # type: ignore[assignment]
    transport = Http1Transport("http://127.0.0.1:9/v1", deadlines=deadlines)
    headers = ((b"content-type", b"application/json"), (b"accept", b"*/*"))
    call = Call("POST", "/chat/completions", headers, body(), Timeouts())

    async def ask() -> int:
        response, size = await transport.send(call), 0
        while data := await response.read():
            size += len(data)
        return size

    loop.run_until_complete(ask())
    connection = transport._idle[0]
    given = connection._transport.written  # type: ignore[union-attr]
    connection._transport.written = lambda _: None  # type: ignore[union-attr]

    def feed() -> int:
        asked = ask()
        asked.send(None)
        for part in parts:
            connection.data_received(part)
        try:
            asked.send(None)
        except StopIteration as done:
            size: int = done.value
            return size
        raise AssertionError("the answer is not whole")

    assert benchmark(feed) > 600
    connection._transport.written = given  # type: ignore[union-attr]
    loop.close()


def test_passing_an_event_on(benchmark: BenchmarkFixture) -> None:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "small"}
    event = {**chunk, "choices": [{"index": 0, "delta": {"content": "word "}, "logprobs": None, "finish_reason": None}]}
    block = b"data: " + json.dumps(event).encode() + b"\n\n"
    assert benchmark(StreamFilter(False).pass_on, block) == block


def test_pricing_an_answer(benchmark: BenchmarkFixture) -> None:
    assert benchmark(cost_usd, Price(0.05, 0.1), Usage(24, 100)) == pytest.approx(0.0000112)


def test_counting_a_request(benchmark: BenchmarkFixture) -> None:
    metrics, found = Metrics(), record()
    metrics.follow({"small", "large"}, {"auto"}, "0123456789abcdef", "1")
    benchmark(metrics.request_done, found)
    metrics.refresh()
    assert metrics.registry.get_sample_value("pointsman_tokens_total", {"model": "small", "kind": "completion"}) > 0  # type: ignore[operator]


def test_a_line_of_the_ledger(benchmark: BenchmarkFixture) -> None:
    found = record()
    assert b'"event":"request"' in benchmark(lambda: msgspec.json.encode(entry(found)))


def test_twenty_lines_of_the_log(benchmark: BenchmarkFixture) -> None:
    out, found = io.StringIO(), record()

    async def write() -> None:
        journal = Journal(out, False, lambda: 0.0)

        def some() -> None:
            for _ in range(20):
                journal.request(found)
            journal.flush()
            out.seek(0)
            out.truncate()

        benchmark(some)
        journal.request(found)
        journal.flush()

    asyncio.run(write())
    assert json.loads(out.getvalue())["status"] == 200


def test_finding_a_key_among_10_000(benchmark: BenchmarkFixture) -> None:
    made = [new_key() for _ in range(10_000)]
    ring = KeyRing([(bytes.fromhex(digest), Caller(id, "bench")) for _, id, digest in made])
    key, id, _ = made[5000]
    find: Callable[[bytes], Caller | None] = ring.find
    found = benchmark(find, key.encode())
    assert found is not None
    assert found.id == id


@pytest.mark.parametrize("count", [32, 5000])
def test_looking_at_the_deadlines_of_open_streams(benchmark: BenchmarkFixture, count: int) -> None:
    """Every 50 ms."""
    deadlines, loop = Deadlines(), asyncio.new_event_loop()
    deadlines._loop = within = Loop(loop, [])  # type: ignore[assignment]
    transport = Http1Transport("http://127.0.0.1:9/v1", deadlines=deadlines, max_connections=count)
    call = Call("POST", "/chat/completions", (), b"{}", Timeouts())

    async def open_all() -> list[asyncio.Task[Any]]:
        tasks = [asyncio.ensure_future(transport.send(call)) for _ in range(count)]
        async with asyncio.timeout(30):
            while len(deadlines) < count:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0)
        return tasks

    tasks = loop.run_until_complete(open_all())
    within.call_later = lambda *_: None  # type: ignore[assignment, return-value]
    benchmark(deadlines._look)
    assert len(deadlines) == count
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
