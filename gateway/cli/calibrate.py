"""`pointsman calibrate`"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gateway.cli.loading import WRONG_INPUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.calibration.journal import Journal
    from gateway.calibration.work import Findings, Plan
    from gateway.config import Config
    from routers.learning.questions import Question


def calibrate(
    config: Annotated[Path, typer.Option("--config", "-c", help="the configuration file, whose models are asked")],
    out: Annotated[Path, typer.Option(help="the outcomes table to write (Parquet); `.journal` beside it keeps what has been asked")],
    prompts: Annotated[Path | None, typer.Option(help="JSONL: `prompt` or `messages`, `grader`, `answer`, `dataset`")] = None,
    starter: Annotated[
        bool, typer.Option("--starter", help="ask the starter set: about 400 questions of 12 kinds in six languages")
    ] = False,
    from_ledger: Annotated[Path | None, typer.Option(help="ask the prompts that a ledger's file holds; needs --judge")] = None,
    models: Annotated[str | None, typer.Option(help="the models to ask, with commas between; default: all that chat")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="ask so many questions, drawn by --seed")] = None,
    max_cost_usd: Annotated[float | None, typer.Option(min=0, help="what the table may cost, judge and earlier runs included")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, max=1_000_000, help="longest answer, in tokens")] = 1024,
    concurrency: Annotated[int, typer.Option(min=1, max=1024, help="calls at once to one backend")] = 8,
    judge: Annotated[str | None, typer.Option(help="the model that grades where there is no right answer")] = None,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="run the programs that models write, in a sandbox")] = False,
    seed: Annotated[int, typer.Option(help="for --limit, and sent to the backends")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Ask every model every question, grade the answers, and write an outcomes table. Run again, it goes on where it ended."""
    from gateway.calibration.gathering import some
    from gateway.calibration.work import Plan

    found = _configuration(config)
    with _failures():
        questions = _questions(prompts, starter, from_ledger, judge)
        questions, without_code = _runnable(questions, allow_code, starter)
        asked = _models(found, models)
        plan = Plan(some(questions, limit, seed), asked, judge, max_tokens, concurrency, max_cost_usd, seed)
        _check(plan, found)
        findings = _work(plan, found, config.parent, out)
        _report(plan, findings, out, without_code, as_json)


def _configuration(path: Path) -> Config:
    from gateway.config import read
    from gateway.source import ConfigError

    try:
        return read(path)
    except ConfigError as error:
        for line in error.lines():
            typer.echo(line, err=True)
        raise typer.Exit(WRONG_INPUT) from None


@contextmanager
def _failures() -> Iterator[None]:
    """What ends the command, each with its line on stderr and its exit code."""
    from gateway.calibration.journal import JournalBusy
    from routers.learning.grading import SandboxUnavailable

    try:
        yield
    except ImportError as error:
        _end(f"needs {error.name}: pip install 'pointsman[train]'", 1)
    except SandboxUnavailable as error:
        _end(f"programs cannot be run safely here: {error}", 1)
    except JournalBusy as error:
        _end(str(error), 1)
    except KeyboardInterrupt:
        _end("stopped; what was asked so far is in the journal, and the same command goes on from there", 1)
    except BrokenPipeError:
        raise
    except OSError as error:
        _end(f"{error.filename or 'the disk'}: {error.strerror or type(error).__name__}", 1)


def _end(message: str, code: int = WRONG_INPUT) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


def _questions(prompts: Path | None, starter: bool, ledger: Path | None, judge: str | None) -> list[Question]:
    """From the one place that was named."""
    from gateway.calibration.gathering import from_file, from_ledger
    from routers.learning.questions import BadQuestions

    if [prompts is not None, starter, ledger is not None].count(True) != 1:
        _end("name one source of questions: --prompts FILE, --starter or --from-ledger FILE")
    if prompts is not None:
        try:
            return from_file(prompts)
        except BadQuestions as error:
            _end("\n".join(f"{prompts}: {line}" for line in str(error).splitlines()))
        except FileNotFoundError:
            _end(f"{prompts}: there is no such file")
    if ledger is None:
        from routers.learning.starter import starter_questions

        return starter_questions()
    if judge is None:
        _end("--from-ledger needs --judge MODEL: logged prompts come without a right answer")
    if not ledger.is_file() and not ledger.with_name(f"{ledger.name}.1").is_file():
        _end(f"{ledger}: there is no such file")
    from gateway.account.ledger_sources import FileSource

    found = from_ledger(FileSource(ledger).entries())
    if not found:
        _end(f"{ledger}: it holds no prompt; they are kept with `ledger.prompts: true` in the configuration", 1)
    return found


def _runnable(questions: list[Question], allow_code: bool, starter: bool) -> tuple[list[Question], int]:
    """The questions that can be graded, and how many were left out since their answers are programs."""
    code = [question for question in questions if question.grader == "code"]
    if not code:
        return questions, 0
    if allow_code:
        from routers.learning.grading.sandbox import passes

        passes("pass", ["pass"])  # says now, before anything was paid for, if it cannot be done here
        return questions, 0
    if not starter:
        _end(f"the answers to {len(code)} questions are programs ({code[0].id}, …): --allow-code runs them, in a sandbox")
    return [question for question in questions if question.grader != "code"], len(code)


def _models(config: Config, wanted: str | None) -> list[str]:
    from routers.registry import nearest

    chats = {model.name: "chat" in model.capabilities for model in config.models}
    names = [name for name in chats if chats[name]]
    if wanted is not None:
        names = list(dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip()))
    for name in names:
        if name not in chats:
            _end(f"--models: no model named {name!r}{nearest(name, list(chats))}")
        if not chats[name]:
            _end(f"--models: {name!r} does not chat")
    return names or _end("there is no model to ask")


def _check(plan: Plan, config: Config) -> None:
    """What would go wrong only after some questions were paid for."""
    import pyarrow  # noqa: F401

    from routers.registry import nearest

    names = {model.name: model for model in config.models}
    if plan.judge is not None and plan.judge not in names:
        _end(f"--judge: no model named {plan.judge!r}{nearest(plan.judge, list(names))}")
    if plan.judge is None and any(question.grader == "judge" for question in plan.questions):
        _end("some questions are graded by a judge: name it with --judge MODEL")
    judges = [] if plan.judge is None else [plan.judge]
    unpriced = [name for name in dict.fromkeys([*plan.models, *judges]) if names[name].price is None]
    if plan.ceiling_usd is not None and unpriced:
        _end(f"--max-cost-usd cannot be kept: there is no price of {', '.join(unpriced)}")


def _work(plan: Plan, config: Config, folder: Path, out: Path) -> Findings:
    import asyncio

    from gateway.calibration.journal import Journal

    journal = Journal(out.with_name(f"{out.name}.journal"))
    try:
        if journal.broken:
            typer.echo(f"{journal.broken} lines of the journal could not be read", err=True)
        with _progress(len(plan.questions) * len(plan.models)) as told:
            return asyncio.run(_run(plan, config, folder, journal, told))
    finally:
        journal.close()


async def _run(plan: Plan, config: Config, folder: Path, journal: Journal, told: Callable[[int, float], None]) -> Findings:
    """Builds what `serve` would ask models with, and does the work."""
    import os
    import time
    from concurrent.futures import ThreadPoolExecutor
    from random import Random

    from backends.deadlines import Deadlines
    from gateway.build_fleet import build_fleet, discovered
    from gateway.calibration.asking import Asker
    from gateway.calibration.work import Work

    fleet = build_fleet(config, Deadlines(), Random(), folder=folder)
    threads = ThreadPoolExecutor(os.cpu_count() or 1, "pointsman-grade")
    try:
        async with discovered(fleet):
            asker = Asker(fleet, plan.concurrency, plan.seed, clock=time.perf_counter, wall_clock=time.time)
            return await Work(plan, fleet, journal, asker, threads, told).run()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for served in fleet:
            for backend in served.pool.backends:
                await backend.transport.aclose()


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, float], None]]:
    """Says on stderr how far it is: a bar on a terminal, a line for each tenth elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    ready = 0

    def say(more: int, spent: float) -> None:
        nonlocal ready
        before, ready = ready, ready + more
        if before * 10 // total != ready * 10 // total:
            typer.echo(f"{ready} of {total} answers, {spent:.4f} USD", err=True)

    if not console.is_terminal:
        yield say
        return
    columns = (TextColumn("answers"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[spent]:.4f} USD"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("answers", total=total, spent=0.0)
        yield lambda more, spent: progress.update(task, advance=more, spent=spent)


def _report(plan: Plan, findings: Findings, out: Path, without_code: int, as_json: bool) -> None:
    """Writes the table and says what it holds; exit code 1 if something is missing."""
    from gateway.account.ledger_outcomes import write
    from gateway.calibration.gathering import table_rows
    from gateway.calibration.work import missing

    rows = table_rows(findings)
    if rows:
        write(rows, out)
    lacking = missing(findings, plan)
    document = _document(plan, findings, out, without_code)
    if as_json:
        typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        for line in _lines(document):
            typer.echo(line)
    if findings.stopped:
        typer.echo(f"stopped at the cost ceiling of {plan.ceiling_usd:g} USD", err=True)
    for name, tally in findings.tallies.items():
        if lacking[name]:
            why = f"; {tally.failures} failed, the last since {tally.why}" if tally.failures else ""
            why += "; it was asked no more after that" if tally.given_up else ""
            typer.echo(f"{name}: {lacking[name]} of {len(plan.questions)} outcomes are missing{why}", err=True)
    if any(lacking.values()):
        typer.echo("the same command asks again for what is missing, and for nothing else", err=True)
        raise typer.Exit(1)


def _document(plan: Plan, findings: Findings, out: Path, without_code: int) -> dict[str, object]:
    """The report as JSON: what the table holds of each model. Unknown is null."""
    from gateway.calibration.work import missing

    models = []
    lacking = missing(findings, plan)
    for name, tally in findings.tallies.items():
        rows = [row for _, row in findings.rows if row.model == name]
        costs = [row.cost_usd for row in rows if row.cost_usd is not None]
        models.append(
            {
                "model": name,
                "outcomes": len(rows),
                "reused": tally.reused,
                "missing": lacking[name],
                "failures": tally.failures,
                "why": tally.why or None,
                "score": sum(row.score for row in rows) / len(rows) if rows else None,
                "cost_usd": sum(costs) if costs else None,
                "latency_s": sum(row.latency_s for row in rows) / len(rows) if rows else None,
            }
        )
    return {
        "out": str(out) if findings.rows else None,
        "questions": len(plan.questions),
        "left_out_programs": without_code,
        "models": models,
        "spent_usd": findings.spent_usd,
        "stopped_at_ceiling": findings.stopped,
    }


def _lines(document: dict[str, object]) -> Iterator[str]:
    models = document["models"]
    assert isinstance(models, list)
    for one in models:
        score = "–" if one["score"] is None else f"{one['score']:.3f}"
        cost = "unknown" if one["cost_usd"] is None else f"{one['cost_usd']:.6f} USD"
        seconds = "–" if one["latency_s"] is None else f"{one['latency_s']:.2f} s"
        before = f"{one['outcomes']} answers ({one['reused']} from before)"
        yield f"{one['model']}: score {score} over {before}, cost {cost}, {seconds} an answer"
    if document["left_out_programs"]:
        yield f"{document['left_out_programs']} questions ask for programs and were left out: --allow-code runs them, in a sandbox"
    yield f"{document['out']}: written" if document["out"] else "no table was written: there is no outcome"
