"""`pointsman ledger`: what people read from the ledger, and the sums and outcomes behind it."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from gateway.account.ledger import Entry, RequestEntry, UsageEntry, feedback_entry
from gateway.account.ledger_outcomes import join, query_id, scores_in, split_of
from gateway.account.ledger_rounds import PlanEntry, RoundEntry
from gateway.account.ledger_sources import StreamSource
from gateway.account.sums import KEYS, sum_up
from gateway.cli.ledger import ledger
from tests.redis_servers import redis_cluster, redis_sentinel, redis_server, servers

__all__ = ["servers"]

NOW = time.time()


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(ledger, [str(argument) for argument in arguments])


def request(number: int = 0, **more: Any) -> RequestEntry:
    """An entry of a request, one second after the one before."""
    members: dict[str, Any] = {
        "v": 1,
        "time": NOW - 10_000 + number,
        "decision_id": f"dec-{number}",
        "request_id": f"req-{number}",
        "caller": "team-a",
        "endpoint": "chat",
        "stream": False,
        "route": "auto",
        "model": "small",
        "chosen": "small",
        "policy": "best(cost)",
        "reason": "best_score",
        "cache": "miss",
        "candidates": [],
        "rejected": {},
        "attempts": [],
        "status": 200,
        "error": None,
        "usage": UsageEntry(10, 5),
        "estimated": False,
        "cost_usd": 0.001,
        "baseline_cost_usd": 0.004,
        "overhead_ms": 0.5,
        "first_byte_ms": 10.0,
        "ms": 100.0 + number,
    }
    return RequestEntry(**{**members, **more})


def feedback(number: int, score: float, **more: Any) -> Entry:
    document = {"id": f"dec-{number}", "request_id": f"req-{number}", "caller": "team-a", "route": "auto", "answered_by": "small"}
    return feedback_entry({**document, **more}, score, None, NOW)


def write(path: Path, *entries: Entry) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in entries))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A ledger with a rotated file, a broken line, an error, an unknown cost, and feedback."""
    write(tmp_path / "ledger.jsonl.1", *(request(number) for number in range(3)))
    path = write(
        tmp_path / "ledger.jsonl",
        request(3, model="large", caller="team-b", cost_usd=None, baseline_cost_usd=None),
        request(4, model=None, status=502, error="upstream_error", usage=None, cost_usd=None, baseline_cost_usd=None),
        request(5, route=None, model="large", cost_usd=0.006, baseline_cost_usd=0.004),
        feedback(5, 0.5),
    )
    path.write_bytes(b"{broken\n" + path.read_bytes())
    return path


def test_sums_by_route_and_model(file: Path) -> None:
    found = json.loads(run("sum", "--file", file, "--by", "route,model", "--json").stdout)
    assert found["by"] == ["route", "model"]
    assert found["broken_lines"] == 1
    groups = {(group["route"], group["model"]): group for group in found["groups"]}
    assert {key: group["requests"] for key, group in groups.items()} == {
        ("auto", "small"): 3,
        ("auto", "large"): 1,
        ("auto", None): 1,
        (None, "large"): 1,
    }
    assert groups["auto", "small"] == {
        "route": "auto",
        "model": "small",
        "requests": 3,
        "errors": 0,
        "unknown_costs": 0,
        "prompt_tokens": 30,
        "completion_tokens": 15,
        "cost_usd": 0.003,
        "baseline_cost_usd": 0.012,
        "saved_usd": pytest.approx(0.009),
        "saved_share": pytest.approx(0.75),
        "p50_ms": 101.0,
        "p95_ms": 102.0,
    }
    unknown = groups["auto", "large"]
    assert (unknown["unknown_costs"], unknown["cost_usd"], unknown["saved_usd"], unknown["saved_share"]) == (1, None, None, None)
    assert (groups["auto", None]["errors"], groups["auto", None]["prompt_tokens"]) == (1, None)
    assert groups[None, "large"]["saved_usd"] == pytest.approx(-0.002)
    assert (found["total"]["requests"], found["total"]["unknown_costs"], found["total"]["errors"]) == (6, 2, 1)


def asked(number: int, model: str, cost: float | None, **more: Any) -> RoundEntry:
    return RoundEntry(number, [model], "answer", model, 1.0, 40.0, prompt_tokens=7, completion_tokens=3, cost_usd=cost, **more)


def test_what_was_asked_before_an_answer_counts_where_it_was_asked(tmp_path: Path) -> None:
    rounds = [asked(0, "small", 0.0004), asked(1, "tiny", 0.0001, error="cancelled", estimated=True)]
    relayed = request(1, plan=PlanEntry(3), rounds=rounds, model="large", cost_usd=0.0025)
    composed = request(2, plan=PlanEntry(2), rounds=rounds, model="small", usage=None, cost_usd=0.0005)
    path = write(tmp_path / "l.jsonl", relayed, composed)
    found = json.loads(run("sum", "--file", path, "--by", "model", "--json").stdout)
    groups = {group["model"]: group for group in found["groups"]}
    assert {model: (group["requests"], group["cost_usd"]) for model, group in groups.items()} == {
        "large": (1, pytest.approx(0.002)),
        "small": (1, pytest.approx(0.0008)),
        "tiny": (0, pytest.approx(0.0002)),
    }
    assert {model: group["prompt_tokens"] for model, group in groups.items()} == {"large": 10, "small": 14, "tiny": 14}
    assert (found["total"]["requests"], found["total"]["cost_usd"]) == (2, pytest.approx(0.003))
    assert found["total"]["saved_usd"] == pytest.approx(0.008 - 0.003)
    shown = run("tail", "--file", path).stdout
    assert "~24+11" in shown
    assert "~14+6" in shown


def test_an_outcome_is_what_the_models_own_call_took() -> None:
    rounds = [asked(0, "small", 0.0004), asked(1, "tiny", 0.0001)]
    relayed = request(1, rounds=rounds, model="large", cost_usd=0.0025, ms=100.0, prompt="What?")
    composed = request(2, rounds=rounds, model="small", usage=None, cost_usd=0.0005, prompt="Who?")
    rows = {row.model: row for row in join([relayed, composed], {"dec-1": 1.0, "dec-2": 0.5}).rows}
    large, small = rows["large"], rows["small"]
    assert (large.cost_usd, large.tokens_in, large.tokens_out, large.latency_s) == (pytest.approx(0.002), 10, 5, pytest.approx(0.059))
    assert (small.cost_usd, small.tokens_in, small.tokens_out, small.latency_s) == (0.0004, 7, 3, pytest.approx(0.04))


def test_sums_for_people(file: Path) -> None:
    done = run("sum", "--file", file, "--by", "model,key,day")
    assert done.exit_code == 0
    assert "team-b" in done.stdout
    assert "75.0%" in done.stdout
    assert "1 lines could not be read" in done.stderr


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 4, *[st.none() | st.floats(0, 1e6)] * 3)), st.permutations(list(KEYS)), st.integers(1, 7))
def test_sums_are_what_adding_up_by_hand_gives(numbers: list[tuple[Any, ...]], keys: list[str], depth: int) -> None:
    entries: list[Entry] = [
        request(
            number * 40_000,
            route=["a", "b", None][a],
            model=["s", "l", None][b],
            caller=f"key-{c}",
            status=[200, 502, None][d],
            error=[None, "upstream_error", "upstream_aborted"][d],
            usage=[None, UsageEntry(None, b), UsageEntry(a, c)][c],
            cost_usd=cost,
            baseline_cost_usd=baseline,
            ms=ms,
        )
        for number, (a, b, c, d, cost, baseline, ms) in enumerate(numbers)
    ]
    by = keys[:depth]
    groups, total = sum_up([*entries, feedback(1, 1.0)], by)
    known = [one for one in entries if isinstance(one, RequestEntry)]
    assert {key: found.requests for key, found in groups.items()} == Counter(tuple(KEYS[name](one) for name in by) for one in known)
    for key, found in [*groups.items(), (None, total)]:
        mine = [one for one in known if key is None or tuple(KEYS[name](one) for name in by) == key]
        costs = [one.cost_usd for one in mine if one.cost_usd is not None]
        both = [(one.baseline_cost_usd, one.cost_usd) for one in mine if one.cost_usd is not None and one.baseline_cost_usd is not None]
        prompt = [one.usage.prompt_tokens for one in mine if one.usage is not None and one.usage.prompt_tokens is not None]
        times = sorted(one.ms for one in mine if one.ms is not None)
        assert found.requests == len(mine)
        assert found.errors == sum(one.status != 200 for one in mine)
        assert found.unknown_costs == len(mine) - len(costs)
        assert found.cost_usd == (math.fsum(costs) if costs else None)
        assert found.prompt_tokens == (sum(prompt) if prompt else None)
        assert found.saved_usd == (math.fsum(part for baseline, cost in both for part in (baseline, -cost)) if both else None)
        assert found.p50_ms == (times[math.ceil(len(times) / 2) - 1] if times else None)
        assert found.p95_ms == (times[math.ceil(len(times) * 0.95 - 1e-9) - 1] if times else None)


@pytest.mark.parametrize(("since", "count"), [("2h", 2), ("10d", 3), ("1000s", 1), ("2020-01-01", 4), ("2020-01-01T12:00:00+02:00", 4)])
def test_sums_since_then(tmp_path: Path, since: str, count: int) -> None:
    now = time.time()  # not that of the module, which a long run leaves behind
    times = (now - 20 * 86_400, now - 5 * 86_400, now - 3600, now - 60)
    path = write(tmp_path / "l.jsonl", *(request(number, time=when) for number, when in enumerate(times)))
    assert json.loads(run("sum", "--file", path, "--since", since, "--json").stdout)["total"]["requests"] == count


def test_the_newest_records(file: Path) -> None:
    found = json.loads(run("tail", "--file", file, "-n", "4", "--json").stdout)
    assert [(one["event"], one["decision_id"]) for one in found] == [
        ("request", "dec-3"),
        ("request", "dec-4"),
        ("request", "dec-5"),
        ("feedback", "dec-5"),
    ]
    shown = run("tail", "--file", file, "-n", "6")
    assert [word for word in ("dec-2", "502 upstream_error", "score 0.5", "0.0060000", "10+5") if word not in shown.stdout] == []
    assert "dec-1 " not in shown.stdout
    assert "\x1b[31m" not in run("tail", "--file", write(file, request(1, caller="\x1b[31mred"))).stdout


def test_following(file: Path) -> None:
    program = "from gateway.cli.ledger import ledger; ledger()"
    command = [sys.executable, "-c", program, "tail", "--follow", "--json", "-n", "1", "--file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "feedback"
        with file.open("ab") as written:
            written.write(msgspec.json.encode(request(7)) + b"\n")
        assert json.loads(process.stdout.readline())["decision_id"] == "dec-7"
        process.terminate()


def test_outcomes(tmp_path: Path) -> None:
    path = write(
        tmp_path / "ledger.jsonl",
        request(1, prompt="What is 2 + 2?"),
        request(2, prompt="What is 2 + 2?", route="other", cost_usd=None, usage=UsageEntry(20, 8), ms=300.0),
        request(3, prompt="What is 2 + 2?", model="large", estimated=True),
        request(4, prompt="Unscored"),
        request(5),
        request(6, prompt="Unanswered", model=None),
        feedback(1, 0.2),
        feedback(2, 0.5),
        feedback(1, 1.0),
        feedback(3, 1.0),
        feedback(5, 1.0),
        feedback(6, 0.0),
        feedback(7, 0.0),
    )
    out = tmp_path / "outcomes.parquet"
    done = run("outcomes", "--file", path, "--out", out)
    assert done.exit_code == 0, done.output
    assert "2 outcomes of 1 prompts; left out: 3 scored decisions without a prompt, 1 requests without a score" in done.stdout
    table = pq.read_table(out)
    assert [str(field.type) for field in table.schema] == ["string"] * 5 + ["double", "double", "int64", "int64", "double"]
    name = hashlib.sha256(b"What is 2 + 2?").hexdigest()[:16]
    common = {"query_id": name, "dataset": "ledger/auto", "split": split_of(name), "prompt": "What is 2 + 2?"}
    assert table.to_pylist() == [
        {**common, "model": "large", "score": 1.0, "cost_usd": None, "tokens_in": None, "tokens_out": None, "latency_s": 0.103},
        {**common, "model": "small", "score": 0.75, "cost_usd": 0.001, "tokens_in": 15, "tokens_out": 6, "latency_s": 0.2005},
    ]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["ledger.jsonl", "outcomes.parquet"]


def test_outcomes_of_nothing_say_what_to_switch_on(file: Path, tmp_path: Path) -> None:
    done = run("outcomes", "--file", file, "--out", tmp_path / "o.parquet")
    assert done.exit_code == 1
    assert [word for word in ("ledger.prompts: true", "/v1/feedback", "1 scored") if word not in done.stderr] == []
    assert not (tmp_path / "o.parquet").exists()
    path = write(file, request(1, prompt="x"), feedback(1, 1.0))
    done = run("outcomes", "--file", path, "--out", tmp_path / "nowhere" / "o.parquet")
    assert (done.exit_code, "No such file" in done.stderr) == (1, True)


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path) -> None:
    path = write(tmp_path / "ledger.jsonl", request(1, prompt="x"), feedback(1, 1.0))
    program = "import sys; sys.modules['pyarrow'] = None; from gateway.cli.ledger import ledger; ledger()"
    command = [sys.executable, "-c", program, "outcomes", "--file", str(path), "--out", str(tmp_path / "o.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "pip install 'pointsman[train]'" in done.stderr, done.stdout) == (1, True, "")


def test_splits_are_of_the_promised_sizes() -> None:
    rng = random.Random(1)
    prompts = [str(rng.random()) for _ in range(5000)]
    entries = [request(number, prompt=prompt) for number, prompt in enumerate(prompts)]
    scores = scores_in(feedback(number, 0.5) for number in range(5000))
    splits = Counter(row.split for row in join(entries, scores).rows)
    assert splits["train"] == pytest.approx(3500, abs=150)
    assert splits["validation"] == pytest.approx(500, abs=80)
    assert splits["test"] == pytest.approx(1000, abs=110)
    assert split_of(query_id("stable")) == split_of(hashlib.sha256(b"stable").hexdigest()[:16])


def test_a_ledger_in_redis_reads_like_a_file(servers: str, file: Path, tmp_path: Path) -> None:
    lines = (tmp_path / "ledger.jsonl.1").read_bytes().splitlines() + file.read_bytes().splitlines()
    with redis_server(servers) as server:
        for line in lines:
            server.command("XADD", "mine:1:ledger", "*", "line", line)
        place = ("--redis", server.url, "--prefix", "mine")
        for command in (("tail", "-n", "3", "--json"), ("sum", "--json"), ("sum", "--json", "--since", "2020-01-01")):
            assert run(*command, *place).stdout == run(*command, "--file", file).stdout
        config = tmp_path / "gateway.yaml"
        config.write_text(
            "models: [{name: m, backends: ['http://127.0.0.1:1/v1']}]\nledger: {redis: true}\n"
            f"redis: {{url: '{server.url}', prefix: mine}}\n"
        )
        assert run("sum", "--json", "--config", config).stdout == run("sum", "--json", "--file", file).stdout
    failed = run("sum", *place)
    assert (failed.exit_code, "ConnectionError" in failed.stderr, str(server.port) in failed.stderr) == (1, True, False)


def test_a_long_stream_is_read_in_pages_and_followed() -> None:
    with redis_server() as server:
        source = StreamSource(server.url, "k:1:ledger")
        with redis.Redis.from_url(server.url) as client, client.pipeline(transaction=False) as pipeline:
            for number in range(2100):
                pipeline.xadd("k:1:ledger", {"line": msgspec.json.encode(request(number))})
            pipeline.execute()
        assert [one.decision_id for one in source.entries()] == [f"dec-{number}" for number in range(2100)]
        more = iter(range(2100, 2103))

        def wait() -> None:
            server.command("XADD", "k:1:ledger", "*", "line", msgspec.json.encode(request(next(more))))

        found = itertools.islice(source.last(2, wait), 5)
        assert [one.decision_id for one in found] == [f"dec-{number}" for number in range(2098, 2103)]


def test_sentinels_and_clusters_can_be_read_too() -> None:
    line = msgspec.json.encode(request(1))
    with redis_sentinel() as sentinel:
        sentinel.primary.command("XADD", "pointsman:1:ledger", "*", "line", line)
        assert json.loads(run("sum", "--json", "--redis", sentinel.url).stdout)["total"]["requests"] == 1
    with redis_cluster() as cluster:
        cluster.command("XADD", "pointsman:1:ledger", "*", "line", line)
        assert json.loads(run("sum", "--json", "--redis", cluster.url).stdout)["total"]["requests"] == 1


def test_wrong_input_is_refused_with_a_word_on_what_is_right(file: Path, tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("models: [{name: m, backends: ['http://127.0.0.1:1/v1']}]\n")
    wrong: list[tuple[tuple[str | Path, ...], str]] = [
        (("sum",), "--config FILE, --file PATH or --redis URL"),
        (("sum", "--file", file, "--redis", "redis://h"), "name one ledger"),
        (("sum", "--file", file, "--prefix", "p"), "--prefix goes with --redis"),
        (("sum", "--file", tmp_path / "none"), "no such file"),
        (("sum", "--file", file, "--by", "modle"), "model"),
        (("sum", "--file", file, "--since", "yesterday"), "--since"),
        (("sum", "--redis", "http://user:secret@h"), "--redis"),
        (("tail", "--config", config), "ledger.path"),
        (("tail", "--config", tmp_path / "none.yaml"), "none.yaml"),
    ]
    for arguments, said in wrong:
        done = run(*arguments)
        assert (done.exit_code, said in done.stderr, done.stdout) == (2, True, ""), (arguments, done.stderr)
        assert "secret" not in done.stderr
    config.write_text(config.read_text() + f"ledger: {{path: {file}}}\n")
    assert json.loads(run("sum", "--config", config, "--json").stdout)["total"]["requests"] == 6
