"""Reading a ledger for a command: where it is, what may go wrong, and how its numbers are shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from gateway.cli.loading import WRONG_INPUT

if TYPE_CHECKING:
    from gateway.account.ledger_sources import Source

PAGE_WIDTH = 240


def refuse_input(message: str) -> NoReturn:
    """Says what is wrong, and ends the command."""
    typer.echo(message, err=True)
    raise typer.Exit(WRONG_INPUT)


@contextmanager
def failures() -> Iterator[None]:
    """A source that cannot be read, or a user who has seen enough."""
    from redis.exceptions import RedisError

    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except RedisError as error:
        typer.echo(f"Redis did not answer as it should: {type(error).__name__}", err=True)
        raise typer.Exit(1) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        typer.echo(f"{error.filename}: {error.strerror or type(error).__name__}", err=True)
        raise typer.Exit(1) from None


def open_source(config: Path | None, file: Path | None, redis: str | None, prefix: str | None) -> Source:
    """The one place to read from; exit code 2 if none or several are named."""
    from gateway.account.ledger_sources import FileSource, StreamSource
    from gateway.memory.store import SCHEMA

    if [config, file, redis].count(None) != 2:
        refuse_input("name one ledger: --config FILE, --file PATH or --redis URL")
    if prefix is not None and redis is None:
        refuse_input("--prefix goes with --redis")
    if config is not None:
        file, redis, prefix = _configured(config)
    if file is not None:
        if not file.is_file() and not file.with_name(f"{file.name}.1").is_file():
            refuse_input(f"{file}: there is no such file")
        return FileSource(file)
    assert redis is not None
    try:
        return StreamSource(redis, f"{prefix or 'pointsman'}:{SCHEMA}:ledger")
    except ValueError as error:
        refuse_input(f"--redis: {error}")


def _configured(path: Path) -> tuple[Path | None, str | None, str | None]:
    """The file of a configuration's ledger; else the URL and the prefix of its stream."""
    from gateway.config import read
    from gateway.source import ConfigError

    try:
        config = read(path)
    except ConfigError as error:
        for line in error.lines():
            typer.echo(line, err=True)
        raise typer.Exit(WRONG_INPUT) from None
    if config.ledger.path is not None:
        return Path(config.ledger.path), None, None
    if not config.ledger.redis or config.redis is None:
        refuse_input(f"{path}: it keeps no ledger; set `ledger.path`, or `ledger.redis: true`")
    return None, config.redis.url.get_secret_value(), config.redis.prefix


def print_table(headings: tuple[str, ...], rows: list[list[str]], numbers_from: int | None = None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if numbers_from is not None and place >= numbers_from else "left")
    for row in rows:
        table.add_row(*(Text(cell.rstrip()) for cell in row))
    console = Console()
    # Where no one looks on, the table takes the room that it needs: a narrow one would cut names and numbers.
    (console if console.is_terminal else Console(width=PAGE_WIDTH)).print(table)


def report_broken(source: Source) -> None:
    if source.broken:
        typer.echo(f"{source.broken} lines could not be read", err=True)


def plain(text: str) -> str:
    """Without what a terminal might take for a command."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
