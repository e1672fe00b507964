"""`pointsman train`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.loading import WRONG_INPUT

ROUTERS = ("knn",)


def train(
    router: Annotated[str, typer.Argument(help="what to fit: " + ", ".join(ROUTERS))],
    outcomes: Annotated[Path, typer.Option(help="an outcomes table (Parquet)")],
    out: Annotated[Path, typer.Option(help="folder of the artifact; one that lies there is replaced")],
    models: Annotated[str | None, typer.Option(help="the models to choose among, with commas between; default: all of the table")] = None,
    vectors: Annotated[Path | None, typer.Option(help="a file that keeps the prompts' vectors for the next time")] = None,
) -> None:
    """Fit a router to the train split of an outcomes table, its knobs to the validation split, and write an artifact."""
    from gateway.cli.learning import encode, load_outcomes

    if router not in ROUTERS:
        typer.echo(f"there is no router named {router!r} to train; known: {', '.join(ROUTERS)}", err=True)
        raise typer.Exit(WRONG_INPUT)
    table = load_outcomes(outcomes, models)
    from datetime import UTC, datetime

    from routers.artifacts import BadArtifact
    from routers.embedding import MiniLM
    from routers.learning.train import train_knn

    encoder = MiniLM()
    used = [place for place, split in enumerate(table.splits) if split != "test"]
    seen = table.rows(used)
    try:
        found = train_knn(seen, encode(list(seen.prompts), encoder, vectors), encoder, datetime.now(UTC), out)
    except (ValueError, BadArtifact) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_INPUT) from None
    except OSError as error:
        typer.echo(f"{out} cannot be written: {error.strerror}", err=True)
        raise typer.Exit(1) from None
    knobs = ", ".join(f"{name} {value:g}" for name, value in found.knobs.items())
    typer.echo(f"{out}: {router} over {len(seen.models)} models, {knobs}; AIQ on validation {found.metrics['validation_aiq']:.4f}")
