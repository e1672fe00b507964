"""`pointsman outcomes`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.loading import WRONG_INPUT

FORMATS = ("mmlu-pro", "routellm", "llmrouter", "routerarena", "routerbench")

outcomes = typer.Typer(help="Make outcomes tables.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@outcomes.callback()
def group() -> None:
    """Make outcomes tables."""


@outcomes.command("import")
def import_command(
    source: Annotated[str, typer.Argument(metavar="FORMAT", help=", ".join(FORMATS))],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="a local clone of the project; for routerbench its CSV or Parquet file")],
    out: Annotated[Path, typer.Option("--out", help="the Parquet file to write; models.jsonl goes beside it")],
) -> None:
    """Make an outcomes table from the files of a public project that asked many models the same questions. Nothing is downloaded."""
    if source not in FORMATS:
        from routers.registry import nearest

        typer.echo(f"there is no format {source!r}{nearest(source, list(FORMATS))}; known: {', '.join(FORMATS)}", err=True)
        raise typer.Exit(WRONG_INPUT)
    if not path.exists():
        typer.echo(f"{path}: there is no such file or folder", err=True)
        raise typer.Exit(WRONG_INPUT)
    try:
        _import(source, path, out)
    except ImportError as error:
        typer.echo(f"needs {error.name}: pip install 'pointsman[train]'", err=True)
        raise typer.Exit(1) from None


def _import(source: str, path: Path, out: Path) -> None:
    from routers.learning.sources import READERS
    from routers.learning.sources.rows import BadSource
    from routers.learning.sources.table import MODELS, write

    try:
        reading = READERS[source](path)
    except BadSource as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_INPUT) from None
    try:
        written = write(reading, out)
    except OSError as error:
        typer.echo(f"{out} cannot be written: {error.strerror or type(error).__name__}", err=True)
        raise typer.Exit(1) from None
    for note in reading.notes:
        typer.echo(note, err=True)
    splits = ", ".join(f"{split} {count}" for split, count in written.splits.items())
    typer.echo(f"{out}: {written.questions} questions ({splits}), {written.models} models, {written.rows} rows; {out.with_name(MODELS)}")
