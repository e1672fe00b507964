"""What `train` and `evaluate` do with recorded answers: several calls a question."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gateway.cli.loading import WRONG_INPUT

if TYPE_CHECKING:
    from routers.learning.answers import Recorded
    from routers.learning.outcomes import Outcomes


def train_rounds(
    outcomes: Path, answers: Path | None, models: str | None, out: Path, encoder: str, vectors: Path | None, seed: int
) -> None:
    """`pointsman train rl-rounds`: ends with exit code 2 for what cannot be used, 1 for what is missing or cannot be written."""
    from gateway.cli.learning import encode, encoder_named, load_outcomes, training

    if answers is None:
        typer.echo("rl-rounds learns from recorded answers: name a file with --answers", err=True)
        raise typer.Exit(WRONG_INPUT)
    table, _ = load_outcomes(outcomes, models)
    encoding = encoder_named(encoder)
    from datetime import UTC, datetime

    from routers.learning.rounds.train import keep, train

    with training(out):
        used = [place for place, split in enumerate(table.splits) if split != "test"]
        recorded = _recorded(answers, table.rows(used))
        found = encode(list(recorded.prompts), encoding, vectors)
        trained = train(recorded, found, seed, lambda what: typer.echo(f"rl-rounds: {what}", err=True))
        keep(out, trained, encoding, table.data_hash, datetime.now(UTC))
    typer.echo(f"{out}: rl-rounds over {len(trained.models)} models; AIQ on validation {trained.metrics['validation_aiq']:.4f}")


def evaluate_rounds(
    outcomes: Path, answers: Path, artifacts: list[Path], models: str | None, split: str, vectors: Path | None, as_json: bool
) -> None:
    """`pointsman evaluate --answers`: artifacts of `rl-rounds` are played, those of other routers ask once. Ends with exit code 2 for what
    cannot be used.
    """
    import json

    from gateway.cli.learning import load_outcomes

    table, _ = load_outcomes(outcomes, models)
    from routers.artifacts import BadArtifact

    try:
        found = _judge(_recorded(answers, table), artifacts, split, vectors)
    except (ValueError, BadArtifact) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_INPUT) from None
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print(found)


def _recorded(path: Path, table: Outcomes) -> Recorded:
    from routers.learning.answers import load

    return load(path, table)


def _judge(recorded: Recorded, folders: list[Path], split: str, vectors: Path | None) -> dict[str, Any]:
    """Raises ValueError, BadArtifact."""
    import numpy as np

    from gateway.cli.learning import encode
    from routers import artifacts
    from routers.families import serve
    from routers.learned import Prompts
    from routers.learning.rounds.evaluate import evaluate, points
    from routers.rounds.experience import KIND, Experience

    played, alone = {}, {}
    held = recorded.split(split)
    for folder in folders:
        if artifacts.load(folder).manifest.kind == KIND:
            known = Experience.load(folder)
            played[folder.name], question = points(held, encode(list(held.prompts), known.encoder, vectors), known, split)
            alone[f"{folder.name}, asking once"] = question
            continue
        scorer = serve(folder)
        missing = [name for name in held.models if name not in scorer.models]
        if missing:
            raise ValueError(f"{folder}: knows nothing of {', '.join(missing)}; it was trained on {', '.join(scorer.models)}")
        found = scorer.expect(Prompts(encode(list(held.prompts), scorer.encoder, vectors), held.prompts), held.models)
        alone[folder.name] = np.nan_to_num(found.mean.astype(np.float64), nan=-1.0)
    return evaluate(recorded, split, played, alone)


def _print(found: dict[str, Any]) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 150)
    best = found["best_single"]
    table = Table("planner", "AIQ (95 %)", "max accuracy", "at the best single's cost", "at 1.5 times it", "cost-match", "gap closed")
    for name, one in found["planners"].items():
        low, high = one["aiq_95"]
        table.add_row(
            name,
            f"{one['aiq']:.4f} ({low:.3f} to {high:.3f})",
            f"{one['acc_max']:.4f}",
            f"{one['accuracy_at_best_single_cost']:.4f}",
            f"{one['accuracy_at_dearer_cost']:.4f}",
            _share(one["cost_match"]),
            _share(one["gap_closed"]),
        )
    console.print(table)
    gains = Table("planner", "against", "AIQ (95 %)", "max accuracy (95 %)")
    for name, one in found["planners"].items():
        for other, gain in one["against"].items():
            gains.add_row(name, other, _gain(gain["aiq"], gain["aiq_95"]), _gain(gain["acc_max"], gain["acc_max_95"]))
    console.print(gains)
    console.print(f"{found['queries']} questions; best single {best['model']}: {best['accuracy']:.4f} at {best['mean_cost_usd']:.3g} USD")


def _gain(value: float, interval: list[float]) -> str:
    return f"{value:+.4f} ({interval[0]:+.3f} to {interval[1]:+.3f})"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
