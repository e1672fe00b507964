"""The ledger: what it keeps, and that no line is lost, torn or repeated."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from gateway.account import ledger as module
from gateway.account.costs import CompletionDetails, PromptDetails, Usage
from gateway.account.ledger import Ledger, RequestEntry, entry
from gateway.account.ledger_files import LedgerDown, LedgerFile, last_lines, read_lines
from gateway.account.ledger_sources import FileSource
from gateway.account.planned import Planned, Round, Step
from gateway.account.records import Attempt, Decision, Record
from routers.api import Answer, Ask, Budget, Choice, Preferences, RouteRequest, Scored, Turn
from tests.gateways import until

BIG = 1 << 30


def record(number: int = 0, **more: Any) -> Record:
    """The record of a request that is over."""
    ranking = (Scored("small", 0.9, {"cost": 0.9}, 0.7, 0.0001), Scored("large", 0.4))
    choice = Choice("best(cost)", "best_score", ranking, {"tiny": "context_length"})
    decision = Decision(f"dec-{number}", "auto", choice, "miss", 1_700_000_000.0 + number, 12)
    usage = Usage(12, 5, PromptDetails(4), CompletionDetails(2))
    tries = [Attempt("small", "http://s:1", "503", 0.0015), Attempt("small", "http://s:2", "ok", 0.0105)]
    found = Record(decision, "chat", f"req-{number}", True, "team-a", "small", tries, 200, None, usage, False)
    found.cost_usd, found.baseline_cost_usd = 0.0001, 0.003
    found.overhead_seconds, found.first_byte_seconds, found.seconds = 0.0004, 0.02, 1.25
    for name, value in more.items():
        setattr(found, name, value)
    return found


def numbers(path: Path) -> list[int]:
    """The numbers of the records in a ledger's files."""
    source = FileSource(path)
    found = [int(one.decision_id.removeprefix("dec-")) for one in source.entries()]
    assert source.broken == 0
    return found


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk that is full: this process can write no byte beyond `size` of any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_line_says_all_of_a_request(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(LedgerFile(path, BIG, 1))
    ledger.request(record(1))
    ledger.request(record(2, text="Wie geht's?"))
    await ledger.flush()
    first, second = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert first == {
        "event": "request",
        "v": 1,
        "time": 1_700_000_001.0,
        "decision_id": "dec-1",
        "request_id": "req-1",
        "caller": "team-a",
        "endpoint": "chat",
        "stream": True,
        "route": "auto",
        "model": "small",
        "chosen": "small",
        "policy": "best(cost)",
        "reason": "best_score",
        "cache": "miss",
        "candidates": [
            {"model": "small", "score": 0.9, "quality": 0.7, "expected_cost_usd": 0.0001, "opinions": {"cost": 0.9}},
            {"model": "large", "score": 0.4, "quality": None, "expected_cost_usd": None},
        ],
        "rejected": {"tiny": "context_length"},
        "attempts": [
            {"model": "small", "backend": "http://s:1", "outcome": "503", "ms": 1.5},
            {"model": "small", "backend": "http://s:2", "outcome": "ok", "ms": 10.5},
        ],
        "status": 200,
        "error": None,
        "usage": {"prompt_tokens": 12, "completion_tokens": 5, "cached_tokens": 4, "reasoning_tokens": 2},
        "estimated": False,
        "cost_usd": 0.0001,
        "baseline_cost_usd": 0.003,
        "overhead_ms": 0.4,
        "first_byte_ms": 20.0,
        "ms": 1250.0,
        "propensity": None,
        "shadow": None,
    }
    assert second["prompt"] == "Wie geht's?"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_has_what_routing_read() -> None:
    asked = RouteRequest(prompt_tokens=12, max_tokens=50, preferences=Preferences(cost_weight=0.25))
    ranked = Scored("small", 0.9, {"knn": 1 / 3, "cost": 0.9}, 0.7, 0.0001, uncertainty=0.1)
    decision = Decision("dec-2", "auto", Choice("", "best_score", (ranked,)), "hit", 0.0, 12)
    line = json.loads(msgspec.json.encode(entry(record(2, asked=asked, decision=decision))))
    assert line["asked"] == {"prompt_tokens": 12, "max_tokens": 50, "cost_weight": 0.25}
    found = line["candidates"][0]
    assert (found["opinions"], found["uncertainty"]) == ({"knn": 0.333333333, "cost": 0.9}, 0.1)
    named = json.loads(msgspec.json.encode(entry(record(3, asked=asked, decision=structs.replace(decision, route=None)))))
    assert "asked" not in named, "there was nothing to decide"


async def test_what_a_record_says_comes_back_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    given = [
        record(1),
        record(2, model=None, usage=None, cost_usd=None, status=502, error="upstream_error", text=""),
        record(3, attempts=[]),
    ]
    ledger = Ledger(LedgerFile(path, BIG, 1))
    for one in given:
        ledger.request(one)
    document = given[0].kept()
    ledger.feedback(document, 0.5, "so so", 1_700_000_009.0)
    await ledger.aclose()
    *requests, feedback = FileSource(path).entries()
    assert requests == [entry(one) for one in given]
    assert (feedback.decision_id, feedback.caller, feedback.time) == ("dec-1", "team-a", 1_700_000_009.0)
    assert not isinstance(feedback, RequestEntry)
    assert (feedback.score, feedback.comment, feedback.route, feedback.model) == (0.5, "so so", "auto", "small")
    assert (feedback.dataset, feedback.cost_usd, feedback.ms) == ("ledger/auto", 0.0001, 1250.0)
    assert len(ledger) == 0


def planned(texts: bool) -> Record:
    """Two were asked, one answered, one was cancelled; the planner gave the answer."""
    cheap, dear = Ask(("small", "large"), final=False, purpose="answer"), Ask(("large",), final=False, purpose="answer")
    said = Turn(cheap, "small", "42", 0.0001, 0.5, None, 10, 2, (-0.1234567, -2.0), "stop")
    gone = Turn(dear, "large", None, 0.00001, 0.4, "cancelled", 10, 0)
    plan = Planned(0.0, 2, [Round(said, 0, 0.001), Round(gone, 1, 0.0012, True)])
    plan.steps = [Step(0, Budget(0.5, None)), Step(1, Budget(0.4999, 3.00000004))]
    plan.end = Answer("42", "small")
    return record(7, planned=plan, usage=None, cost_usd=0.00011, text="What?" if texts else None)


def test_what_a_planner_did_stands_in_the_line() -> None:
    line = json.loads(msgspec.json.encode(entry(planned(True))))
    assert line["plan"] == {
        "calls": 2,
        "steps": [[0, 0.5, None], [1, 0.4999, 3.0]],
        "end": {"model": "small", "digest": "73475cb40a568e8d"},
    }
    first, second = line["rounds"]
    assert first == {
        "number": 0,
        "asked": ["small", "large"],
        "purpose": "answer",
        "model": "small",
        "at_ms": 1.0,
        "ms": 500.0,
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "cost_usd": 0.0001,
        "text": "42",
        "finish": "stop",
        "logprobs": [-0.123457, -2.0],
    }
    assert (second["error"], second["estimated"], second["number"]) == ("cancelled", True, 1)
    bare = json.loads(msgspec.json.encode(entry(planned(False))))
    assert not {"text", "finish", "logprobs"} & set(bare["rounds"][0])
    assert bare["plan"]["end"] == {"model": "small"}


def test_what_is_kept_for_long_is_short() -> None:
    long = Turn(Ask(("small",), prompt=(("user", "x" * 9000),)), "small", "y" * 9000, 0.1, 1.0, None, 1, 1, (-1.0,) * 9000)
    plan = Planned(rounds=[Round(long, 0, 0.0)], end=Answer("z" * 9000), steps=[Step(0, Budget())])
    kept = plan.shortened()
    assert len(msgspec.json.encode(kept)) < 3000
    assert kept.documents() == plan.documents()
    assert plan.documents()[0]["characters"] == 9000
    assert (kept.cost_usd, kept.usage) == (plan.cost_usd, plan.usage)


async def test_the_background_writes_by_itself_and_publishes_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    published: list[bytes] = []
    ledger = Ledger(LedgerFile(path, BIG, 1), published.append)
    task = asyncio.create_task(ledger.run())
    for number in range(50):
        ledger.request(record(number))
    assert await until(lambda: path.exists() and len(path.read_bytes().splitlines()) == 50)
    assert published == path.read_bytes().splitlines()
    ledger.request(record(50))
    flushing = asyncio.create_task(ledger.flush())
    await asyncio.sleep(0)
    task.cancel()
    flushing.cancel()  # the gateway ends while a batch is written
    await asyncio.gather(task, flushing, return_exceptions=True)
    ledger.request(record(51))
    await ledger.aclose()
    assert numbers(path) == list(range(52))


async def test_a_long_batch_leaves_requests_their_turn(tmp_path: Path) -> None:
    published: list[bytes] = []
    ledger = Ledger(LedgerFile(tmp_path / "ledger.jsonl", BIG, 1), published.append)
    count = 3 * module.PORTION + 1
    for number in range(count):
        ledger.request(record(number))
    seen = [0]
    flushing = asyncio.create_task(ledger.flush())
    while not flushing.done():
        await asyncio.sleep(0)
        seen.append(len(published))
        assert len(ledger) + module.PORTION >= count or not ledger  # what is being made is under way, and the rest is counted
    assert max(after - before for before, after in itertools.pairwise(seen)) == module.PORTION
    assert numbers(tmp_path / "ledger.jsonl") == list(range(count))


async def test_a_ledger_without_a_place_keeps_nothing() -> None:
    ledger = Ledger()
    ledger.request(record())
    ledger.feedback(record().kept(), 1.0, None, 0.0)
    assert len(ledger) == 0
    await ledger.aclose()


async def test_records_wait_for_the_disk_and_nobody_hears_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "not-mounted-yet"
    ledger = Ledger(LedgerFile(folder / "ledger.jsonl", BIG, 1))
    with caplog.at_level(logging.INFO, "pointsman"):
        for number in range(module.MAX_WAITING + 5):
            ledger.request(record(number))
            if number in (10, 20, 30):
                await ledger.flush()
        await ledger.flush()
        assert (len(ledger), ledger.dropped, ledger.failures) == (module.MAX_WAITING, 5, 4)
        folder.mkdir()
        await ledger.flush()
    assert len(ledger) == 0
    assert numbers(folder / "ledger.jsonl") == list(range(5, module.MAX_WAITING + 5))
    assert [(one.levelname, "ENOENT" in one.message) for one in caplog.records] == [("ERROR", True), ("INFO", False)]


async def test_what_is_no_unicode_costs_its_own_line_alone(tmp_path: Path) -> None:
    ledger = Ledger(LedgerFile(tmp_path / "ledger.jsonl", BIG, 1))
    for one in (record(1), record(2, text="\ud800"), record(3)):
        ledger.request(one)
    await ledger.flush()
    assert (numbers(tmp_path / "ledger.jsonl"), ledger.dropped) == ([1, 3], 1)


def test_a_full_disk_tears_no_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    file = LedgerFile(path, BIG, 1)
    file.append([b'{"n":1}'])
    with largest_file(20), pytest.raises(LedgerDown) as caught:
        file.append([b'{"n":2}', b'{"n":3}', b'{"n":4}'])
    assert (caught.value.reason, caught.value.written) == ("EFBIG", 0)
    assert path.read_bytes() == b'{"n":1}\n'
    small = LedgerFile(path, 16, 5)  # rotates on the way, so that a part is written
    with largest_file(16), pytest.raises(LedgerDown) as caught:
        small.append([b'{"n":2}', b'{"n":3}', b"x" * 30, b'{"n":4}'])
    assert caught.value.written == 2
    small.append([b"x" * 30, b'{"n":4}'])
    assert [line.strip() for line in read_lines(path)] == [b'{"n":1}', b'{"n":2}', b'{"n":3}', b"x" * 30, b'{"n":4}']


async def test_a_line_that_a_crash_tore_is_closed_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(LedgerFile(path, BIG, 1))
    ledger.request(record(1))
    await ledger.flush()
    path.write_bytes(path.read_bytes() + path.read_bytes()[:100])
    source = FileSource(path)
    assert [one.decision_id for one in source.entries()] == ["dec-1"]
    assert source.broken == 0  # it may be in writing
    ledger.request(record(2))
    await ledger.flush()
    with path.open("ab") as file:
        file.write(b'{"event":"request","v":2}\n{"event":"other"}\n\xff\xfe\n[]\n')
    assert [one.decision_id for one in source.entries()] == ["dec-1", "dec-2"]
    assert source.broken == 5


def test_rotation_keeps_so_many_files(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    file = LedgerFile(path, 40, 3)
    for number in range(30):
        file.append([b"line %04d" % number])
    assert sorted(one.name for one in tmp_path.iterdir()) == ["ledger.jsonl", "ledger.jsonl.1", "ledger.jsonl.2", "ledger.jsonl.3"]
    assert max(one.stat().st_size for one in tmp_path.iterdir()) <= 40
    assert list(read_lines(path)) == [b"line %04d\n" % number for number in range(16, 30)]
    (tmp_path / "ledger.jsonl.2").unlink()  # a rotation that was cut off leaves a gap, which the next one fills
    before = (tmp_path / "ledger.jsonl.3").read_bytes()
    for number in range(30, 34):
        file.append([b"line %04d" % number])
    assert (tmp_path / "ledger.jsonl.3").read_bytes() == before


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 20, 1000])
def test_the_last_lines(tmp_path: Path, count: int) -> None:
    path = tmp_path / "ledger.jsonl"
    file = LedgerFile(path, 100_000, 5)
    lines = [b"%d " % number + b"x" * (9000 if number % 3 else 0) for number in range(40)]
    for line in lines:
        file.append([line])
    assert [line.rstrip(b"\n") for line in last_lines(path, count)] == lines[len(lines) - min(count, 40) :]


class Enough(Exception):
    """Whoever followed has seen all."""


@pytest.mark.parametrize("before", [0, 3, 6])
def test_following_goes_on_through_rotation(tmp_path: Path, before: int) -> None:
    path = tmp_path / "ledger.jsonl"
    file = LedgerFile(path, 40, 50)  # four lines a file
    lines = [b"line %04d\n" % number for number in range(60)]
    waiting = list(lines[before:])
    followed: list[bytes] = []

    def write() -> None:
        if not waiting:
            raise Enough
        for line in waiting[:11]:
            file.append([line.rstrip()])
        del waiting[:11]

    def follow() -> None:
        for line in last_lines(path, 2, write):
            followed.append(line)

    for line in lines[:before]:
        file.append([line.rstrip()])
    with pytest.raises(Enough):
        follow()
    assert followed == lines[max(0, before - 2) :]


WRITER = """
import sys
from pathlib import Path
from gateway.account.ledger_files import LedgerFile
name, path, batches = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
file = LedgerFile(path, 20_000, 900)
for batch in range(batches):
    file.append([b"%s %d %s" % (name.encode(), batch * 10 + line, b"x" * (37 * line % 400)) for line in range(10)])
"""


def test_four_processes_share_a_file_while_it_rotates_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    command = [sys.executable, "-c", WRITER]
    batches = 200
    writers = [subprocess.Popen([*command, name, str(path), str(batches)], env={**os.environ}) for name in "abcd"]
    while any(writer.poll() is None for writer in writers):
        seen = by_writer(path)
        for lines in seen.values():
            assert lines == list(range(len(lines)))  # a reader misses nothing and sees nothing twice
        time.sleep(0.01)
    assert [writer.returncode for writer in writers] == [0] * 4
    assert by_writer(path) == {name: list(range(batches * 10)) for name in "abcd"}
    assert len(list(tmp_path.iterdir())) > 10


def by_writer(path: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for line in read_lines(path):
        if line.endswith(b"\n"):
            name, number, filling = line.split(b" ")
            assert filling.strip(b"x") == b"\n"
            assert len(filling) == 37 * (int(number) % 10) % 400 + 1
            found.setdefault(name.decode(), []).append(int(number))
    return found
