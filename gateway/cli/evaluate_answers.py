"""`pointsman evaluate --answers`: planners are played on recorded answers, beside routers that ask once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gateway.cli.loading import WRONG_INPUT

if TYPE_CHECKING:
    from routers.api import Embeddings, Encoder
    from routers.learning.answers import Recorded
    from routers.learning.figures import Floats
    from routers.learning.points import Points

ONCE = ", asking once"
ALL = ", all asked"


def evaluate_answers(
    outcomes: Path, answers: Path, artifacts: list[Path], models: str | None, split: str, vectors: Path | None
) -> dict[str, Any]:
    """Artifacts of `cascade` and `rl-rounds` are played, those of other routers ask once. Ends with exit code 2 for what cannot be used."""
    from gateway.cli.learning import load_outcomes

    table, _ = load_outcomes(outcomes, models)
    from routers.artifacts import BadArtifact
    from routers.learning.answers import load

    try:
        return _judge(load(answers, table), artifacts, split, vectors)
    except (ValueError, BadArtifact) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_INPUT) from None


def show_answers(found: dict[str, Any], as_json: bool) -> None:
    """Prints it, as one JSON document or as tables."""
    import json

    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print(found)


@dataclass(slots=True)
class _Field:
    """Who is compared, as it is gathered. `alone`: expected scores (n, m) of those who ask once. `encoder`: of the first artifact."""

    planners: dict[str, Points] = field(default_factory=dict)
    alone: dict[str, Floats] = field(default_factory=dict)
    votes: dict[str, Points] = field(default_factory=dict)
    encoder: Encoder | None = None


def _judge(recorded: Recorded, folders: list[Path], split: str, kept: Path | None) -> dict[str, Any]:
    """Raises ValueError, BadArtifact."""
    from gateway.cli.learning import encode, names_apart
    from routers.learning.knn_cascade import knn_cascades
    from routers.learning.points import rules
    from routers.learning.rounds.evaluate import evaluate

    known, held = _Field(), recorded.split(split)
    known.votes |= rules(recorded, split)
    for name, folder in zip(names_apart(folders), folders, strict=True):
        try:
            _gather(known, name, folder, held, split, kept)
        except ValueError as error:
            raise error if str(error).startswith(str(folder)) else ValueError(f"{folder}: {error}") from None
    references = {}
    if known.encoder is not None:
        references = dict(knn_cascades(recorded, encode(list(recorded.prompts), known.encoder, kept), split))
    return evaluate(recorded, split, known.planners, known.alone, votes=known.votes, references=references)


def _gather(known: _Field, name: str, folder: Path, held: Recorded, split: str, kept: Path | None) -> None:
    """Adds what an artifact says of the questions. Raises ValueError, BadArtifact."""
    import numpy as np

    from gateway.cli.learning import encode
    from routers import artifacts, stages
    from routers.credence import Loaded
    from routers.families import serve
    from routers.learned import Prompts
    from routers.learning.cascade_figures import Shown, cascade_points, learned_vote
    from routers.learning.rounds.evaluate import points
    from routers.rounds import experience

    def vectors(encoder: Encoder) -> Embeddings:
        known.encoder = known.encoder or encoder
        return encode(list(held.prompts), encoder, kept)

    kind = artifacts.load(folder).manifest.kind
    if kind == experience.KIND:
        rounds = experience.Experience.load(folder)
        known.planners[name], known.alone[name + ONCE] = points(held, vectors(rounds.encoder), rounds, split)
    elif kind == stages.KIND:
        loaded = Loaded.load(folder)
        shown = Shown.of(loaded.credence, held, vectors(loaded.encoder))
        known.planners[name] = cascade_points(shown, stages.Stages.of(loaded.artifact).frontier)
        known.votes[name + ALL] = learned_vote(shown)
        known.alone[name + ONCE] = shown.expected_of(held.models)
    else:
        scorer = serve(folder)
        missing = [one for one in held.models if one not in scorer.models]
        if missing:
            raise ValueError(f"knows nothing of {', '.join(missing)}; it was trained on {', '.join(scorer.models)}")
        found = scorer.expect(Prompts(vectors(scorer.encoder), held.prompts), held.models)
        known.alone[name] = np.nan_to_num(found.mean.astype(np.float64), nan=-1.0)


def _print(found: dict[str, Any]) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 150)
    best = found["best_single"]
    table = Table("planner", "AIQ (95 %)", "max accuracy", "at the best single's cost", "at 1.5 times it", "cost-match", "gap closed")
    for name, one in (found["planners"] | found["references"]).items():
        table.add_row(
            name,
            _with(one["aiq"], one["aiq_95"]),
            f"{one['acc_max']:.4f}",
            f"{one['accuracy_at_best_single_cost']:.4f}",
            f"{one['accuracy_at_dearer_cost']:.4f}",
            _share(one["cost_match"]),
            _share(one["gap_closed"]),
        )
    for name, one in found["alone"].items():
        table.add_row(name, _with(one["aiq"], one["aiq_95"]), f"{one['acc_max']:.4f}", "", "", "", "")
    console.print(table)
    votes = Table("rule", "accuracy (95 %)", "share of the best single's cost", "calls", "gap closed")
    for name, one in found["votes"].items():
        calls = f"{one['calls']:.2f}"
        votes.add_row(name, _with(one["accuracy"], one["accuracy_95"]), _share(one["cost_share"]), calls, _share(one["gap_closed"]))
    console.print(votes)
    _print_gains(console, found)
    console.print(f"{found['queries']} questions; best single {best['model']}: {best['accuracy']:.4f} at {best['mean_cost_usd']:.3g} USD")


def _print_gains(console: Any, found: dict[str, Any]) -> None:
    from rich.table import Table

    gains = Table("planner", "against", "AIQ (95 %)", "max accuracy (95 %)")
    for name, one in found["planners"].items():
        for other, gain in one["against"].items():
            told = f"{other} (best of those that ask once)" if other == found["best_alone"] else other
            gains.add_row(name, told, _gain(gain["aiq"], gain["aiq_95"]), _gain(gain["acc_max"], gain["acc_max_95"]))
    if found["planners"]:
        console.print(gains)


def _with(value: float, interval: list[float]) -> str:
    return f"{value:.4f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _gain(value: float, interval: list[float]) -> str:
    return f"{value:+.4f} ({interval[0]:+.3f} to {interval[1]:+.3f})"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
