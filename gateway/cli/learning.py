"""What `train` and `evaluate` share: the table, the pool of models, and vectors with a progress bar."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gateway.cli.loading import WRONG_INPUT

if TYPE_CHECKING:
    from routers.api import Embeddings, Encoder
    from routers.learning.outcomes import Outcomes


def load_outcomes(path: Path, models: str | None, newcomers: Container[str] = ()) -> tuple[Outcomes, Outcomes]:
    """The table with these models alone (names with commas), and the whole of it. Ends the command with exit code 2 if it cannot be used.

    `newcomers`: models that may be named though the table has no outcome of them; they are left out.
    """
    try:
        from routers.learning.outcomes import BadOutcomes, load
    except ImportError as error:
        typer.echo(f"needs {error.name}: pip install 'pointsman[train,embed]'", err=True)
        raise typer.Exit(1) from None
    try:
        found = load(path)
        if models is None:
            return found, found
        named = [name.strip() for name in models.split(",") if name.strip()]
        return found.of([name for name in named if name in found.models or name not in newcomers]), found
    except ImportError as error:
        typer.echo(f"needs {error.name}: pip install 'pointsman[train,embed]'", err=True)
        raise typer.Exit(1) from None
    except (BadOutcomes, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_INPUT) from None


def encoder_named(name: str) -> Encoder:
    """Ends the command with exit code 2 for a name that is none, 1 if what it needs is not installed."""
    from routers.embedding import ENCODERS

    if name not in ENCODERS:
        typer.echo(f"there is no encoder named {name!r}; known: {', '.join(ENCODERS)}", err=True)
        raise typer.Exit(WRONG_INPUT)
    try:
        return ENCODERS[name]()
    except ImportError as error:
        typer.echo(f"needs {error.name}: pip install 'pointsman[train,embed]'", err=True)
        raise typer.Exit(1) from None


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


def names_apart(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: its own, with as many of those that it lies in as it takes to tell it from the others. Raises ValueError for
    a folder that is named twice.
    """
    paths = [folder.resolve() for folder in folders]
    twice = sorted({str(path) for path in paths if paths.count(path) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)}: named twice")
    found = []
    for path in paths:
        parts = next(n for n in range(1, len(path.parts) + 1) if sum(other.parts[-n:] == path.parts[-n:] for other in paths) == 1)
        found.append("/".join(path.parts[-parts:]).replace("//", "/"))
    return found


@contextmanager
def training(out: Path) -> Iterator[None]:
    """Ends the command with exit code 2 for what cannot be learned from, 1 for what is missing or cannot be written to `out`."""
    from routers.artifacts import BadArtifact

    try:
        yield
    except (ValueError, BadArtifact) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_INPUT) from None
    except ImportError as error:
        typer.echo(f"needs {error.name}: pip install 'pointsman[train,embed]'", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        typer.echo(f"{out} cannot be written: {error.strerror}", err=True)
        raise typer.Exit(1) from None
