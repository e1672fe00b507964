"""What `train` and `evaluate` share: the table, the pool of models, and vectors with a progress bar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gateway.cli.loading import WRONG_INPUT

if TYPE_CHECKING:
    from routers.api import Embeddings, Encoder
    from routers.learning.outcomes import Outcomes


def load_outcomes(path: Path, models: str | None) -> Outcomes:
    """The table, with these models alone (names with commas). Ends the command with exit code 2 if it cannot be used."""
    try:
        from routers.learning.outcomes import BadOutcomes, load
    except ImportError as error:
        typer.echo(f"needs {error.name}: pip install 'pointsman[train,embed]'", err=True)
        raise typer.Exit(1) from None
    try:
        found = load(path)
        return found if models is None else found.of([name.strip() for name in models.split(",") if name.strip()])
    except ImportError as error:
        typer.echo(f"needs {error.name}: pip install 'pointsman[train,embed]'", err=True)
        raise typer.Exit(1) from None
    except (BadOutcomes, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_INPUT) from None


def encode(prompts: list[str], encoder: Encoder, kept: Path | None) -> Embeddings:
    """The prompts' vectors; progress goes to stderr: a bar on a terminal, a line now and then elsewhere."""
    import os

    from rich.console import Console
    from rich.progress import Progress

    from routers.learning import vectors

    console = Console(stderr=True)
    ready = 0

    def say(more: int) -> None:
        nonlocal ready
        before, ready = ready, ready + more
        if before * 10 // len(prompts) != ready * 10 // len(prompts):
            typer.echo(f"{ready} of {len(prompts)} prompts have vectors", err=True)

    threads = os.cpu_count() or 1
    if not console.is_terminal:
        return vectors.encode(prompts, encoder, threads, say, kept)
    with Progress(console=console) as progress:
        task = progress.add_task("vectors of prompts", total=len(prompts))
        return vectors.encode(prompts, encoder, threads, lambda more: progress.advance(task, more), kept)
