"""`pointsman calibrate` against fake experts on real sockets: the table, what goes wrong, and going on after kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from backends.fake.engine import Latency
from backends.fake.server import FakeServer
from gateway.calibration.asking import Answered, NoAnswer
from gateway.calibration.journal import Journal, JournalBusy, Row
from gateway.calibration.judging import Judge, Verdict
from gateway.calibration.purse import Purse
from gateway.cli import app
from routers.learning.outcomes import load
from routers.learning.questions import BadQuestions, Question, read_questions, split_of
from tests.gateways import fake, model, until

pytest.importorskip("jsonschema_rs", reason="the extra `train` is not installed")


def sums(count: int) -> list[dict[str, Any]]:
    """Questions that the fake knows the answers to, if its skill suffices: the later ones are hard."""
    easy = [{"prompt": f"What is {n} + {n + 1}?", "grader": "number", "answer": 2 * n + 1, "dataset": "easy"} for n in range(count // 2)]
    hard = [
        {"prompt": f"What is {1000 + n} * {2000 + n}?", "grader": "number", "answer": (1000 + n) * (2000 + n), "dataset": "hard"}
        for n in range(count - count // 2)
    ]
    return [*easy, *hard]


@dataclass
class Setting:
    """Two fakes, `weak` and `strong`, the configuration that names them, and a folder."""

    folder: Path
    fakes: dict[str, FakeServer]

    @property
    def out(self) -> Path:
        return self.folder / "outcomes.parquet"

    @property
    def journal(self) -> Path:
        return self.folder / "outcomes.parquet.journal"

    def asked(self, name: str) -> list[dict[str, Any]]:
        """The bodies that a fake was asked with."""
        return [json.loads(record.body) for record in self.fakes[name].records if record.path == "/v1/chat/completions"]

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "gateway", "calibrate", "-c", str(self.folder / "gateway.yaml"), "--out", str(self.out), *arguments]

    def prompts(self, rows: Sequence[object]) -> str:
        path = self.folder / "prompts.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return str(path)

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(*self.command(*arguments), stdout=-1, stderr=-1)
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def setting(
    folder: Path, weak: Sequence[str] = (), strong: Sequence[str] = (), latency: Latency | None = None, **more: Any
) -> AsyncIterator[Setting]:
    async with fake("weak", *weak, skill=0.3, latency=latency) as first, fake("strong", *strong, skill=1.0, latency=latency) as second:
        dear = {"price": {"input": 1.0, "output": 3.0}}
        models = [model("weak", first.url), model("strong", second.url, api_key="sesame", **dear)]
        (folder / "gateway.yaml").write_text(yaml.safe_dump({"models": models, **more}))
        yield Setting(folder, {"weak": first, "strong": second})


async def test_a_run_gives_a_table_that_routers_learn_from(tmp_path: Path) -> None:
    questions = sums(20)
    async with setting(tmp_path) as here:
        code, out, err = await here.run("--prompts", here.prompts(questions), "--json", "--concurrency", "3")
        assert code == 0, err
        assert {request["temperature"] for request in here.asked("weak")} == {0}
        assert {record.headers.get("authorization") for record in here.fakes["strong"].records} == {"Bearer sesame"}
    found = load(here.out, ["weak", "strong"])
    assert found.models == ("strong", "weak")
    assert len(found) == 20
    hard = [place for place, dataset in enumerate(found.datasets) if dataset == "hard"]
    assert found.scores.mean(axis=0).tolist() == [1.0, 0.5]
    assert found.scores[hard].mean(axis=0).tolist() == [1.0, 0.0]
    rows = pq.read_table(here.out).to_pylist()
    for row in rows:
        price = (1.0, 3.0) if row["model"] == "strong" else (0.1, 0.2)
        assert row["cost_usd"] == pytest.approx((row["tokens_in"] * price[0] + row["tokens_out"] * price[1]) / 1e6)
        assert 0 < row["latency_s"] < 20
        assert row["split"] == split_of(row["prompt"])
    document = json.loads(out)
    assert document["questions"] == 20
    assert document["models"][1] | {"latency_s": 0} == {
        "model": "strong",
        "outcomes": 20,
        "reused": 0,
        "missing": 0,
        "failures": 0,
        "why": None,
        "score": 1.0,
        "cost_usd": pytest.approx(sum(row["cost_usd"] for row in rows if row["model"] == "strong")),
        "latency_s": 0,
    }
    assert "40 of 40 answers" in err
    assert here.journal.stat().st_mode & 0o077 == 0


@pytest.mark.slow
async def test_after_kill_9_only_the_rest_is_asked(tmp_path: Path) -> None:
    questions = sums(60)
    async with setting(tmp_path, latency=Latency(ttft=60)) as here:
        arguments = ("--prompts", here.prompts(questions), "--concurrency", "2")
        process = await asyncio.create_subprocess_exec(*here.command(*arguments), stdout=-3, stderr=-3, start_new_session=True)
        assert await until(lambda: here.journal.is_file() and len(here.journal.read_bytes().splitlines()) >= 30, 60)
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        written = here.journal.read_bytes().rpartition(b"\n")[0].splitlines()
        kept = {(row["query_id"], row["model"]) for row in map(json.loads, written)}
        assert 30 <= len(kept) < 120
        assert not here.out.exists()
        with here.journal.open("ab") as file:
            file.write(b'{"v":1,"query_id":"to')  # as a torn write leaves it
        for server in here.fakes.values():
            server.records.clear()
        code, _, err = await here.run(*arguments)
        assert code == 0, err
        assert len(here.asked("weak")) + len(here.asked("strong")) == 120 - len(kept)
        assert len(load(here.out)) == 60
        for server in here.fakes.values():
            server.records.clear()
        changed = [{**questions[0], "answer": 7}, *questions[1:]]
        assert (await here.run("--prompts", here.prompts(changed), "--concurrency", "2"))[0] == 0
        assert [len(here.asked(name)) for name in ("weak", "strong")] == [1, 1], "a changed answer is graded anew, the rest is not asked"
        rows = pq.read_table(here.out).to_pylist()
        assert {row["score"] for row in rows if row["prompt"] == questions[0]["prompt"]} == {0.0}


async def test_no_more_calls_at_once_than_are_allowed(tmp_path: Path) -> None:
    async with setting(tmp_path, latency=Latency(ttft=20)) as here:
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, here.fakes["weak"].engine.running)
                await asyncio.sleep(0.002)

        watcher = asyncio.create_task(watch())
        code, _, err = await here.run("--prompts", here.prompts(sums(30)), "--concurrency", "3", "--models", "weak")
        watcher.cancel()
        assert code == 0, err
        assert 2 <= most <= 3
        assert not here.asked("strong")


async def test_the_ceiling_is_never_passed(tmp_path: Path) -> None:
    async with setting(tmp_path) as here:
        arguments = ("--prompts", here.prompts(sums(40)), "--max-tokens", "20")
        code, _, err = await here.run(*arguments, "--max-cost-usd", "0.0007")
        assert code == 1
        assert "stopped at the cost ceiling of 0.0007 USD" in err
        assert "outcomes are missing" in err
        first = pq.read_table(here.out).to_pylist()
        assert 0 < len(first) < 80
        assert sum(row["cost_usd"] for row in first) <= 0.0007
        code, out, _ = await here.run(*arguments, "--max-cost-usd", "1", "--json")
        assert code == 0
        assert sum(one["reused"] for one in json.loads(out)["models"]) == len(first)
        assert len(load(here.out)) == 40


async def test_a_ceiling_needs_prices(tmp_path: Path) -> None:
    async with fake("free") as server:
        section = model("free", server.url)
        del section["price"]
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump({"models": [section]}))
        here = Setting(tmp_path, {"free": server})
        code, _, err = await here.run("--prompts", here.prompts(sums(4)), "--max-cost-usd", "1")
        assert (code, "there is no price of free" in err) == (2, True)
        assert (await here.run("--prompts", here.prompts(sums(4))))[0] == 0
        assert {row["cost_usd"] for row in pq.read_table(here.out).to_pylist()} == {None}


async def test_what_a_backend_does_wrong_costs_only_its_own_rows(tmp_path: Path) -> None:
    async with setting(tmp_path, weak=["status:400@every=3"], strong=["status:503@every=2", "reset_before_headers@every=7"]) as here:
        code, _, err = await here.run("--prompts", here.prompts(sums(12)), "--concurrency", "1")
        assert code == 1, err
        found = load(here.out)
        known = ~(found.scores != found.scores)
        assert known.sum(axis=0).tolist() == [12, 8], "5xx and resets are tried again, a refusal is final"
        assert "weak: 4 of 12 outcomes are missing; 4 failed, the last since the backend refused the request with status 400" in err
        assert "strong:" not in err


@pytest.mark.slow
async def test_a_model_that_is_down_is_given_up(tmp_path: Path) -> None:
    async with setting(tmp_path) as here:
        await here.fakes["weak"].stop()
        code, out, err = await here.run("--prompts", here.prompts(sums(60)), "--json")
        assert code == 1
        assert "weak: 60 of 60 outcomes are missing" in err
        assert "asked no more" in err
        assert json.loads(out)["models"][1]["missing"] == 0
        assert load(here.out).models == ("strong",)


async def test_wrong_input_is_named_and_nothing_is_asked(tmp_path: Path) -> None:
    good = sums(2)[0]
    cases: list[tuple[Sequence[object], Sequence[str], str]] = [
        ([good, "{"], (), "line 2: JSON: cannot be read"),
        ([good, "", good], (), "line 3: id: is that of line 1 already"),
        ([good, {**good, "prompt": " what  IS 0 + 1? ", "id": "x"}], (), "line 2: prompt: is that of line 1 already"),
        ([{**good, "grader": "numbr"}], (), "line 1: grader: there is no grader named 'numbr'; known: exact, choice, number"),
        ([{**good, "tolerence": 1}], (), "line 1: tolerence: the grader 'number' has no such field"),
        ([{**good, "answer": None}], (), "line 1: answer:"),
        ([{"grader": "exact", "answer": "x"}], (), "line 1: prompt: either `prompt` or `messages`"),
        ([{"messages": [{"role": "bot", "content": ""}], "grader": "exact", "answer": "x"}], (), "line 1: messages: must be a list"),
        ([{"prompt": "f?", "grader": "code", "tests": "assert f()"}], (), "--allow-code"),
        ([{"prompt": "f?", "grader": "judge"}], (), "--judge MODEL"),
        ([good], ("--judge", "strnog"), "no model named 'strnog'"),
        ([good], ("--models", "weak,medium"), "no model named 'medium'"),
        ([good], ("--starter",), "name one source"),
        ([], (), "there is no question"),
    ]
    async with setting(tmp_path) as here:
        for number, (rows, arguments, words) in enumerate(cases):
            done = CliRunner().invoke(app, here.command("--prompts", here.prompts(rows), *arguments)[3:])
            assert (done.exit_code, words in done.output) == (2, True), (number, done.output)
        assert (await here.run("--prompts", str(tmp_path / "nowhere")))[0] == 2
        assert not here.asked("weak")
        assert not here.out.exists()


async def test_programs_and_judges(tmp_path: Path) -> None:
    """The fakes write no programs and no verdicts, so the one scores 0 and the other has no row; both were asked."""
    rows = [
        {"prompt": "What is 1 + 1? Write Python.", "grader": "code", "tests": ["assert True"], "answer": "x"},
        {"prompt": "How are you?", "grader": {"type": "judge", "mode": "pairwise"}, "answer": "Fine."},
    ]
    async with setting(tmp_path) as here:
        code, _, err = await here.run("--prompts", here.prompts(rows), "--allow-code", "--judge", "strong", "--models", "weak")
        assert code == 1
        assert "the judge gave no verdict" in err
        assert len(here.asked("strong")) == 2, "in both orders"
        assert [row["score"] for row in pq.read_table(here.out).to_pylist()] == [0.0]


@pytest.mark.slow
async def test_the_starter_set_needs_nothing_else(tmp_path: Path) -> None:
    async with setting(tmp_path) as here:
        code, out, err = await here.run("--starter", "--limit", "60", "--models", "strong")
        assert code == 0, err
        assert "questions ask for programs and were left out" in out
        found = load(here.out)
        assert len(found) == 60
        assert 0 < found.scores.mean() < 1
        code, out, err = await here.run("--starter", "--limit", "70", "--models", "strong", "--allow-code", "--json")
        assert code == 0, err
        assert json.loads(out)["models"][0]["reused"] > 50, "a greater limit adds questions"


@pytest.mark.slow
async def test_logged_prompts(tmp_path: Path) -> None:
    entry = {
        **{"event": "request", "v": 1, "time": 1.0, "decision_id": "d", "request_id": "r", "caller": "c", "endpoint": "chat"},
        **{"stream": False, "route": "auto", "model": "weak", "chosen": "weak", "policy": "p", "reason": "r", "cache": "miss"},
        **{"candidates": [], "rejected": {}, "attempts": [], "status": 200, "error": None, "usage": None, "estimated": False},
        **{"cost_usd": None, "baseline_cost_usd": None, "overhead_ms": None, "first_byte_ms": None, "ms": None},
    }
    ledger = tmp_path / "ledger.jsonl"
    texts = [{"prompt": "Say SCORE: 7"}, {"prompt": "say  score: 7"}, {}]
    ledger.write_text("".join(json.dumps({**entry, **text}) + "\n" for text in texts))
    async with setting(tmp_path) as here:
        assert (await here.run("--from-ledger", str(ledger)))[0] == 2
        code, _, err = await here.run("--from-ledger", str(ledger), "--judge", "strong", "--models", "weak")
        assert (code, "1 of 1 outcomes are missing" in err) == (1, True), err
        asked = here.asked("strong")
        assert len(asked) == 1
        assert "Say SCORE: 7" in asked[0]["messages"][1]["content"]
        ledger.write_text(json.dumps(entry) + "\n")
        code, _, err = await here.run("--from-ledger", str(ledger), "--judge", "strong")
        assert (code, "it holds no prompt" in err) == (1, True)


class Scripted:
    """Stands for an asker whose model says these things, one after the other."""

    def __init__(self, *said: str) -> None:
        self.said = list(said)
        self.heard: list[str] = []

    async def ask(self, model: str, messages: Sequence[Any], max_tokens: int) -> Answered:
        self.heard.append(messages[-1]["content"])
        return Answered(self.said.pop(0), None, 0.5, 0.1)


async def test_a_judge_that_favours_a_place_favours_nobody() -> None:
    question = Question("q", "d", "Why?", "judge", "Since it rains.", {"mode": "pairwise"})
    judging = question.grade().judging
    assert judging is not None
    for said, wanted in ((("VERDICT: 1", "VERDICT: 2"), 1.0), (("VERDICT: 1", "VERDICT: 1"), 0.5), (("VERDICT: 2", "VERDICT: TIE"), 0.25)):
        asker = Scripted(*said)
        assert await Judge("j", asker).grade(question, judging, "No idea.") == Verdict(wanted, 1.0)  # type: ignore[arg-type]
        assert asker.heard[0].index("No idea.") < asker.heard[0].index("Since it rains.")
        assert asker.heard[1].index("No idea.") > asker.heard[1].index("Since it rains.")
    rubric = Question("q", "d", "Why?", "judge").grade().judging
    assert rubric is not None
    assert await Judge("j", Scripted("Good.\nSCORE: 10")).grade(question, rubric, "x") == Verdict(1.0, 0.5)  # type: ignore[arg-type]
    with pytest.raises(NoAnswer, match="no verdict"):
        await Judge("j", Scripted("Good.")).grade(question, rubric, "x")  # type: ignore[arg-type]


def row(query: str, **more: Any) -> Row:
    values: dict[str, Any] = {"cost_usd": 0.1, "judge_cost_usd": None, "tokens_in": 1, "tokens_out": 1, "latency_s": 1.0, "answer": "a"}
    return Row(query_id=query, model="m", digest="d", score=1.0, **{**values, **more})


def test_the_journal_outlives_torn_and_foreign_lines(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path)
    with pytest.raises(JournalBusy):
        Journal(path)
    for name in "ab":
        journal.add(row(name))
    journal.close()
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        journal = Journal(path)
        assert len(journal.rows) == whole[:end].count(b"\n")
        journal.add(row("c"))
        journal.close()
        assert path.read_bytes().count(b"\n") == whole[:end].count(b"\n") + 1
    path.write_bytes(b"nonsense\n\xff\n" + whole)
    journal = Journal(path)
    assert (len(journal.rows), journal.broken) == (2, 2)
    journal.close()


async def test_a_purse_lets_wait_who_may_still_pay() -> None:
    purse = Purse(1.0, 0.0)
    assert await purse.reserve(0.8)
    waiting = asyncio.create_task(purse.reserve(0.5))
    await asyncio.sleep(0)
    assert not waiting.done()
    await purse.settle(0.8, 0.1)
    assert await waiting
    await purse.settle(0.5, None)
    assert purse.spent == pytest.approx(0.6)
    assert not await purse.reserve(0.5)
    assert purse.empty
    assert not await purse.reserve(0.0)


def test_questions_may_be_conversations() -> None:
    turns = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    lines = [json.dumps({"messages": [*turns, {"role": "user", "content": "3"}], "grader": "exact", "answer": "4"})]
    lines += [json.dumps({"messages": [{"role": "user", "content": "3"}], "grader": "exact", "answer": "5"})]
    found = read_questions(lines)
    assert [question.prompt for question in found] == ["3", "3"]
    assert found[0].id != found[1].id
    assert len(found[0].chat) == 4
    with pytest.raises(BadQuestions, match="line 3: prompt: is that of line 1"):
        read_questions([*lines, lines[0].replace('"grader"', '"id": "x", "grader"')])
