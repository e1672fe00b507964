"""µs of one request in the gateway itself, without the kernel: the whole gateway, keys, ledger and metrics on, between two ends in memory.

python -m tests.benchmarks.way [--profile] [--stream] [--distinct] [--knn FOLDER] [--rounds N]

A client's end feeds a request's bytes and takes the answer's, a backend's end answers at the next turn of the loop; so what is timed is
Python and its extensions alone, and a busy machine does less harm: the least of many rounds is told. `--profile` tells each room's
share, and the functions that take most: cProfile makes small functions look dearer than they are. `--knn`: decides by the artifact that
`python -m tests.benchmarks.learned FOLDER` wrote.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import io
import json
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from uvicorn.server import ServerState

from gateway.app import build
from gateway.blueprint import draw
from gateway.guard.keys import new_key
from gateway.reload import Switch
from gateway.server import NEW_OBJECTS, settings
from gateway.source import Source
from routers.registry import Registry

CHUNKS = 100
"""Events of a stream."""
_ANSWER = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion",
        "created": 1790000000,
        "model": "small",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 80}, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 60, "total_tokens": 160, "completion_tokens": 100, "prompt_tokens_details": None},
    }
).encode()


ROOMS = {
    "serve": ("gateway/serving/", "gateway/reload.py", "httptools"),
    "guard": ("gateway/guard/",),
    "read": ("gateway/flow/wire.py", "gateway/flow/content.py"),
    "decide": ("gateway/flow/decide.py", "gateway/flow/planning.py", "gateway/memory/", "gateway/fleet.py", "routers/"),
    "execute": ("gateway/flow/execute.py", "gateway/flow/failures.py", "gateway/flow/answers.py", "backends/"),
    "relay": ("gateway/flow/", "gateway/api/"),
    "account": ("gateway/account/", "prometheus_client/", "gateway/app.py"),
}
"""Whose time a function's is; the first that fits."""


class End(asyncio.Transport):
    """One end of a connection in memory. `written`: called with what is written to it."""

    def __init__(self, written: Callable[[bytes], None]) -> None:
        super().__init__()
        self.written = written
        self.closing = False

    def write(self, data: Any) -> None:
        self.written(data)

    def writelines(self, parts: Any) -> None:
        self.written(b"".join(parts))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0


class Loop:
    """The running loop, but connections to backends end in memory. `answers`: what a backend writes to each request, in turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop, answers: list[bytes]) -> None:
        self.create_future, self.create_task, self.call_later, self.call_soon = (
            loop.create_future,
            loop.create_task,
            loop.call_later,
            loop.call_soon,
        )
        self._answers = answers

    async def create_connection(self, make: Callable[[], Any], *_: object, **__: object) -> tuple[End, Any]:
        protocol = make()

        def answer(_: bytes) -> None:
            for part in self._answers:
                self.call_soon(protocol.data_received, part)

        end = End(answer)
        protocol.connection_made(end)
        return end, protocol


class Client:
    """Sends a request as soon as the answer to the one before is whole, until `left` are answered."""

    def __init__(self, protocol: Any, request: Callable[[], bytes], end: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self.protocol = protocol
        self.request = request
        self.end = end
        self.loop = loop
        self.left = 0
        self.done: asyncio.Future[None] | None = None
        self.seen = b""
        protocol.connection_made(End(self._take))

    def start(self, count: int) -> asyncio.Future[None]:
        self.left = count
        self.done = self.loop.create_future()
        self.loop.call_soon(self.protocol.data_received, self.request())
        return self.done

    def _take(self, data: bytes) -> None:
        if not data.endswith(self.end):
            return
        self.seen = data
        self.left -= 1
        if self.left > 0:
            self.loop.call_soon(self.protocol.data_received, self.request())
        elif self.done is not None and not self.done.done():
            self.done.set_result(None)


def answers(stream: bool) -> tuple[list[bytes], bytes]:
    """What a backend writes, and how what the client reads ends."""
    head = b"HTTP/1.1 200 OK\r\ndate: Thu, 26 Nov 2026 00:00:00 GMT\r\nserver: uvicorn\r\n"
    if not stream:
        return [head + b"content-length: %d\r\ncontent-type: application/json\r\n\r\n" % len(_ANSWER) + _ANSWER], _ANSWER[-20:]
    head += b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "small"}
    usage = {"prompt_tokens": 60, "total_tokens": 160, "completion_tokens": 100}
    events = [{**chunk, "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}] * (CHUNKS - 1)
    events += [{**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, {**chunk, "choices": [], "usage": usage}]
    blocks = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]
    chunks = [b"%x\r\n" % len(block) + block + b"\r\n" for block in blocks]
    chunks[-1] += b"0\r\n\r\n"
    return [head, *chunks], b"0\r\n\r\n"


def requests(key: str, stream: bool, distinct: bool) -> Callable[[], bytes]:
    text = "What does a pointsman at a railway junction do all day, and who tells him which track the next train is to take?"
    number = iter(range(10**9))

    def make() -> bytes:
        content = f"{next(number)} {text}" if distinct else text
        system = {"role": "system", "content": "You are a helpful assistant."}
        body: dict[str, Any] = {
            "model": "auto",
            "messages": [system, {"role": "user", "content": content}],
            "max_tokens": 64,
            "temperature": 0.7,
        }
        if stream:
            body["stream"] = True
        data = json.dumps(body).encode()
        lines = ["POST /v1/chat/completions HTTP/1.1", "host: 127.0.0.1:8080", "content-type: application/json", "accept: */*"]
        lines += [f"authorization: Bearer {key}", f"content-length: {len(data)}", "user-agent: load", "", ""]
        return "\r\n".join(lines).encode() + data

    if distinct:
        return make
    same = make()
    return lambda: same


def configuration(folder: Path, knn: Path | None) -> tuple[str, dict[str, Any]]:
    """A key, and the configuration whose gateway it opens. `knn`: the artifact by which it decides, beside cost."""
    key, id, digest = new_key()
    (folder / "keys.yaml").write_text(json.dumps({"keys": [{"id": id, "name": "bench", "sha256": digest}]}))
    models = [
        {"name": name, "backends": [f"http://127.0.0.1:{port}/v1"], "price": {"input": price, "output": price * 2}, "context_window": 32768}
        for name, port, price in (("small", 9, 0.05), ("large", 10, 0.5))
    ]
    scorers: list[dict[str, Any]] = [{"type": "cost", "weight": 0.4}]
    if knn is not None:
        scorers.insert(0, {"type": "knn", "artifact": str(knn.absolute())})
    policy = {"scorers": scorers, "picker": {"type": "best"}, "planner": {"type": "single"}}
    return key, {
        "models": models,
        "routes": [{"name": "auto", "models": ["small", "large"], "policy": policy, "default": "small"}],
        "auth": {"keys": "keys.yaml"},
        "ledger": {"path": str(folder / "ledger.jsonl")},
        "health": {"interval_seconds": 60},
    }


def room_of(place: str) -> str:
    return next((room for room, parts in ROOMS.items() if any(part in place for part in parts)), "else")


def by_room(stats: pstats.Stats, requests: int) -> None:
    """Prints each room's share of the time, and its calls a request. What is built in counts for whoever calls it."""
    found: dict[str, list[float]] = {}
    table: dict[Any, Any] = stats.stats  # type: ignore[attr-defined]
    for (file, _, _), (_, calls, own, _, callers) in table.items():
        shares = [(file, calls, own)] if not file.startswith("~") else [(where[0], part[1], part[2]) for where, part in callers.items()]
        for place, times, seconds in shares:
            room = found.setdefault(room_of(place), [0.0, 0.0])
            room[0] += times
            room[1] += seconds
    whole = sum(seconds for _, seconds in found.values())
    for name, (calls, seconds) in sorted(found.items(), key=lambda item: -item[1][1]):
        print(f"{name:8} {seconds / whole:6.1%} {calls / requests:7.1f} calls a request")


async def measure(args: argparse.Namespace, folder: Path) -> list[float]:
    loop = asyncio.get_running_loop()
    parts, end = answers(args.stream)
    key, whole = configuration(folder, args.knn)
    drawn = draw(Source("bench", whole), folder, {}, Registry())
    log = io.StringIO() if args.quiet else (folder / "log.jsonl").open("w")
    switch = Switch(build(drawn.config, drawn.routes, log, False, drawn.keys, drawn.parts, folder))
    switch.gateway.deadlines._loop = Loop(loop, parts)  # type: ignore[assignment]
    config = settings(switch, "127.0.0.1", 0, lambda: switch.gateway.config.server)
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Thu, 26 Nov 2026 00:00:00 GMT")]
    protocols = [config.http_protocol_class(config=config, server_state=state, app_state={}) for _ in range(args.connections)]  # type: ignore[call-arg]
    make = requests(key, args.stream, args.distinct)
    clients = [Client(protocol, make, end, loop) for protocol in protocols]
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)
    await asyncio.gather(*(client.start(20) for client in clients))
    if not clients[0].seen.endswith(end):
        raise SystemExit(clients[0].seen.decode("latin-1"))
    found = []
    profile = cProfile.Profile() if args.profile else None
    if profile is not None:
        profile.enable()
    for _ in range(args.rounds):
        started = time.process_time()
        await asyncio.gather(*(client.start(args.requests) for client in clients))
        found.append((time.process_time() - started) / (args.requests * args.connections) * 1e6)
    if profile is not None:
        profile.disable()
        stats = pstats.Stats(profile)
        by_room(stats, args.rounds * args.requests * args.connections)
        stats.sort_stats(args.sort).print_stats(args.top)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--sort", default="tottime")
    parser.add_argument("--top", type=int, default=40)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--distinct", action="store_true")
    parser.add_argument("--knn", type=Path, metavar="FOLDER")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = sorted(uvloop.run(measure(args, Path(name))))
    print(f"us a request: least {found[0]:.1f}, median {found[len(found) // 2]:.1f}")


if __name__ == "__main__":
    main()
