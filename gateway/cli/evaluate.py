"""`pointsman evaluate`"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.loading import WRONG_INPUT

if TYPE_CHECKING:
    from routers.learned import LearnedScorer
    from routers.learning.evaluate import Judged, Pool
    from routers.learning.outcomes import Outcomes


def evaluate(
    outcomes: Annotated[Path | None, typer.Option(help="an outcomes table (Parquet)")] = None,
    artifact: Annotated[list[Path] | None, typer.Option(help="folder of a trained router; may be repeated")] = None,
    models: Annotated[str | None, typer.Option(help="the models to choose among, with commas between; default: all of the table")] = None,
    split: Annotated[str, typer.Option(help="train, validation or test")] = "test",
    vectors: Annotated[Path | None, typer.Option(help="a file that keeps the prompts' vectors for the next time")] = None,
    report: Annotated[
        Path | None, typer.Option(help="an HTML file to write: one page with plots and a slider for cost against quality")
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(help="a ledger's JSONL file, instead of a table: what the policy that served is worth, by its propensities"),
    ] = None,
    reworded: Annotated[int, typer.Option(min=0, help="questions that are also asked in other words; 0 leaves that out")] = 0,
    newer: Annotated[
        Path | None, typer.Option("--drift", help="a table of newer prompts (`pointsman ledger outcomes`): are they still like train's?")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(help="recorded answers to the table's questions (Parquet): planners are played on them")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Judge routers on questions with known outcomes, against the single models, coin tosses and the oracle, with 95 % intervals."""
    if ledger is not None and outcomes is None:
        from gateway.cli.off_policy import evaluate_ledger

        evaluate_ledger(ledger, as_json)
        return
    if outcomes is None or ledger is not None:
        typer.echo("name one of --outcomes TABLE and --ledger FILE", err=True)
        raise typer.Exit(WRONG_INPUT)
    if answers is not None:
        _refuse_for_planners({"--reworded": reworded > 0, "--drift": newer is not None})
        _evaluate_planners(_Asked(outcomes, artifact or [], models, split, vectors, report, as_json), answers)
    else:
        _evaluate_routers(_Asked(outcomes, artifact or [], models, split, vectors, report, as_json), reworded, newer)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is judged on which questions, and how it is shown."""

    outcomes: Path
    artifacts: list[Path]
    models: str | None
    split: str
    vectors: Path | None
    report: Path | None
    as_json: bool


def _refuse_for_planners(given: dict[str, bool]) -> None:
    named = [option for option, is_given in given.items() if is_given]
    if named:
        typer.echo(f"{' and '.join(named)}: for routers that ask once, so not with --answers", err=True)
        raise typer.Exit(WRONG_INPUT)


def _evaluate_planners(asked: _Asked, answers: Path) -> None:
    from gateway.cli.evaluate_answers import evaluate_answers, show_answers

    found = evaluate_answers(asked.outcomes, answers, asked.artifacts, asked.models, asked.split, asked.vectors)
    if asked.report is not None:
        from routers.learning.rounds.page import page

        _write(asked.report, page(found, unseen=asked.split == "test"))
    show_answers(found, asked.as_json)


def _evaluate_routers(asked: _Asked, reworded: int, newer: Path | None) -> None:
    from gateway.cli.learning import load_outcomes

    table, _ = load_outcomes(asked.outcomes, asked.models)
    newest = None if newer is None else load_outcomes(newer, None)[0]
    from routers.artifacts import BadArtifact

    try:
        found = _judge(table, asked.artifacts, asked.split, asked.vectors, reworded, newest)
    except (ValueError, BadArtifact) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_INPUT) from None
    if asked.report is not None:
        from routers.learning.report import report

        _write(asked.report, report(found, unseen=asked.split == "test"))
    _show(found, asked.as_json)


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print(found)


def _judge(
    table: Outcomes, artifacts: list[Path], split: str, vectors: Path | None, reworded: int, newest: Outcomes | None
) -> dict[str, Any]:
    """The block of figures, with what else is asked of each router. Raises ValueError, BadArtifact."""
    from gateway.cli.learning import names_apart
    from routers.learning.evaluate import Pool, evaluate

    pool = Pool.of(table, split)
    validation = None if split == "validation" else _validation(table)
    names = names_apart(artifacts)
    asked = {name: _ask(folder, table, pool, validation, vectors) for name, folder in zip(names, artifacts, strict=True)}
    found = evaluate(pool, {name: judged for name, (judged, _) in asked.items()}, validation)
    for name, (judged, scorer) in asked.items():
        _check(found["routers"][name], scorer, judged, pool, table, reworded)
    if newest is not None:
        _drift(found, table, newest, {name: scorer for name, (_, scorer) in asked.items()}, vectors)
    return found


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        typer.echo(f"{path}: cannot be written: {error.strerror}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"wrote {path}", err=True)


def _validation(table: Outcomes) -> Pool | None:
    from routers.learning.evaluate import Pool

    try:
        return Pool.of(table, "validation")
    except ValueError:
        return None


def _ask(folder: Path, table: Outcomes, pool: Pool, validation: Pool | None, vectors: Path | None) -> tuple[Judged, LearnedScorer]:
    """What the artifact expects, as it would say it when it serves, and the scorer. Raises ValueError, BadArtifact."""
    from gateway.cli.learning import encode
    from routers.families import serve
    from routers.learned import Prompts
    from routers.learning.judge import judge

    scorer = serve(folder)
    missing = [name for name in pool.models if name not in scorer.models]
    if missing:
        raise ValueError(f"{folder}: knows nothing of {', '.join(missing)}; it was trained on {', '.join(scorer.models)}")
    asked = [*pool.rows.tolist(), *([] if validation is None else validation.rows.tolist())]
    texts = [table.prompts[row] for row in asked]
    return judge(scorer, Prompts(encode(texts, scorer.encoder, vectors), tuple(texts)), pool.models, len(pool.rows)), scorer


def _check(block: dict[str, Any], scorer: LearnedScorer, judged: Judged, pool: Pool, table: Outcomes, reworded: int) -> None:
    """Adds to a router's block whether it keeps its promises, and its mind when questions are worded otherwise."""
    from routers.learning.checks import promises, steadiness

    block["promises"] = promises(scorer, judged, pool)
    if reworded:
        texts = [table.prompts[row] for row in pool.rows[:: max(1, len(pool.rows) // reworded)].tolist()][:reworded]
        block["robustness"] = steadiness(scorer, scorer.encoder.encode, texts, pool, block.get("validation_lambda") or 0.0)


def _drift(found: dict[str, Any], table: Outcomes, newer: Outcomes, scorers: dict[str, LearnedScorer], vectors: Path | None) -> None:
    """Adds to each router's block whether newer prompts are still like those of the train split. Raises ValueError for too few."""
    from gateway.cli.learning import encode
    from routers.learning.drift import drift

    train = [prompt for prompt, split in zip(table.prompts, table.splits, strict=True) if split == "train"]
    for name, scorer in scorers.items():
        known, fresh = (encode(prompts, scorer.encoder, vectors) for prompts in (train, list(newer.prompts)))
        found["routers"][name]["drift"] = drift(known, fresh)


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 150)
    singles = Table("always", "accuracy", "USD a question")
    for model in found["models"]:
        best = "  (best single)" if model["model"] == found["best_single"]["model"] else ""
        singles.add_row(model["model"] + best, f"{model['accuracy']:.4f}", f"{model['mean_cost_usd']:.7f}")
    for name in ("random_mix", "oracle"):
        singles.add_row(name.replace("_", " "), f"{found[name]['accuracy']:.4f}", f"{found[name]['mean_cost_usd']:.7f}")
    console.print(singles)
    table = Table("router", "AIQ (95 %)", "gain over zero-router (95 %)", "max accuracy (95 %)", "cost-match", "gap closed")
    zero = found["zero_router"]
    table.add_row("zero-router", _with(zero["aiq"], zero["aiq_95"]), "", "", "", "")
    for name, router in found["routers"].items():
        table.add_row(
            name,
            _with(router["aiq"], router["aiq_95"]),
            _with(router["aiq_gain_over_zero"], router["aiq_gain_over_zero_95"]),
            _with(router["acc_max"], router["acc_max_95"]),
            _share(router["cost_match"]),
            _share(router["gap_closed"]),
        )
    console.print(table)
    console.print(
        f"{found['queries']} questions; costs from {found['cost_axis_usd'][0]:.3g} to {found['cost_axis_usd'][1]:.3g} USD a question"
    )


def _with(value: float, interval: list[float]) -> str:
    return f"{value:.4f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
