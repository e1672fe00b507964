"""`pointsman ledger`"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeAlias

import typer

from gateway.cli.loading import WRONG_INPUT

if TYPE_CHECKING:
    from gateway.account.ledger import Entry
    from gateway.account.ledger_sources import Source
    from gateway.account.sums import Key, Sum

POLL_SECONDS = 0.5
PAGE_WIDTH = 240
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

ConfigOption: TypeAlias = Annotated[
    Path | None, typer.Option("--config", "-c", help="a configuration file: its ledger's file, or else its stream")
]
FileOption: TypeAlias = Annotated[Path | None, typer.Option("--file", help="a ledger's JSONL file, with the rotated ones beside it")]
RedisOption: TypeAlias = Annotated[str | None, typer.Option("--redis", help="a Redis URL, to read the ledger's stream there")]
PrefixOption: TypeAlias = Annotated[str | None, typer.Option("--prefix", help="first part of the keys there; default: pointsman")]
SinceOption: TypeAlias = Annotated[str | None, typer.Option("--since", help="1d, 12h, 30m, or 2026-11-01 or 2026-11-01T18:00 in UTC")]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="print one JSON document")]

ledger = typer.Typer(help="Read the ledger.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@ledger.command("tail")
def tail(
    count: Annotated[int, typer.Option("-n", min=0, max=100_000, help="how many records")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on with what is written from now on")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document; with --follow, one a line")] = False,
    config: ConfigOption = None,
    file: FileOption = None,
    redis: RedisOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Show the newest records: requests and feedback."""
    import time

    import msgspec

    with _failures():
        source = _source(config, file, redis, prefix)
        if follow:
            for one in source.last(count, lambda: time.sleep(POLL_SECONDS)):
                typer.echo(msgspec.json.encode(one).decode() if as_json else "  ".join(_cells(one)).rstrip())
            return
        found = list(source.last(count))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    headings = ("time", "decision", "key", "route", "model", "why", "cache", "status", "tokens", "cost, USD", "ms")
    _print(headings, [_cells(one) for one in found])
    _report_broken(source)


@ledger.command("sum")
def sum_command(
    by: Annotated[
        str, typer.Option("--by", help="any of route, model, key, status, reason, cache, day, with commas between")
    ] = "route,model",
    since: SinceOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    file: FileOption = None,
    redis: RedisOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Add up requests, tokens, costs and savings. Unknown costs are counted apart, and never taken for 0."""
    from dataclasses import asdict

    from gateway.account.sums import KEYS, sum_up
    from routers.registry import nearest

    names = list(dict.fromkeys(part.strip() for part in by.split(",")))
    for name in names:
        if name not in KEYS:
            _refuse(f"--by: there is no {name!r}{nearest(name, list(KEYS))}; known: {', '.join(KEYS)}")
    start = _start(since)
    with _failures():
        source = _source(config, file, redis, prefix)
        groups, total = sum_up(source.entries(start), names)
    if as_json:
        rows = [{**dict(zip(names, key, strict=True)), **asdict(found)} for key, found in groups.items()]
        whole = {"since": start, "by": names, "groups": rows, "total": asdict(total), "broken_lines": source.broken}
        typer.echo(json.dumps(whole, ensure_ascii=False, indent=2))
        return
    _print_sums(names, groups, total)
    _report_broken(source)


@ledger.command("outcomes")
def outcomes(
    out: Annotated[Path, typer.Option("--out", help="the Parquet file to write")],
    since: SinceOption = None,
    config: ConfigOption = None,
    file: FileOption = None,
    redis: RedisOption = None,
    prefix: PrefixOption = None,
) -> None:
    """Write an outcomes table from the feedback since then: what was asked, which model answered, and how good that was."""
    from gateway.account.ledger_outcomes import join, scores_in, write

    start = _start(since)
    with _failures():
        source = _source(config, file, redis, prefix)
        scores = scores_in(source.entries(start))
        source.broken = 0  # the same lines are read again
        found = join(source.entries(), scores)
    left_out = f"left out: {found.without_prompt} scored decisions without a prompt, {found.without_score} requests without a score"
    if not found.rows:
        typer.echo(f"nothing to learn from; {left_out}", err=True)
        typer.echo("prompts are kept with `ledger.prompts: true` in the configuration; scores come by POST /v1/feedback", err=True)
        raise typer.Exit(1)
    try:
        write(found.rows, out)
    except ImportError:
        typer.echo("Parquet needs pyarrow: pip install 'pointsman[train]'", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        typer.echo(f"{out}: {error.strerror or type(error).__name__}", err=True)
        raise typer.Exit(1) from None
    queries = len({row.query_id for row in found.rows})
    typer.echo(f"{out}: {len(found.rows)} outcomes of {queries} prompts; {left_out}")
    _report_broken(source)


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(WRONG_INPUT)


@contextmanager
def _failures() -> Iterator[None]:
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


def _source(config: Path | None, file: Path | None, redis: str | None, prefix: str | None) -> Source:
    """The one place to read from; exit code 2 if none or several are named."""
    from gateway.account.ledger_sources import FileSource, StreamSource
    from gateway.memory.store import SCHEMA

    if [config, file, redis].count(None) != 2:
        _refuse("name one ledger: --config FILE, --file PATH or --redis URL")
    if prefix is not None and redis is None:
        _refuse("--prefix goes with --redis")
    if config is not None:
        file, redis, prefix = _configured(config)
    if file is not None:
        if not file.is_file() and not file.with_name(f"{file.name}.1").is_file():
            _refuse(f"{file}: there is no such file")
        return FileSource(file)
    assert redis is not None
    try:
        return StreamSource(redis, f"{prefix or 'pointsman'}:{SCHEMA}:ledger")
    except ValueError as error:
        _refuse(f"--redis: {error}")


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
        _refuse(f"{path}: it keeps no ledger; set `ledger.path`, or `ledger.redis: true`")
    return None, config.redis.url.get_secret_value(), config.redis.prefix


def _start(since: str | None) -> float | None:
    """Unix time; exit code 2 if it cannot be read."""
    import time
    from datetime import UTC, datetime

    if since is None:
        return None
    span = re.fullmatch(r"([0-9]{1,6})([smhd])", since)
    if span is not None:
        return time.time() - int(span[1]) * _SPANS[span[2]]
    try:
        day = datetime.fromisoformat(since)
    except ValueError:
        _refuse("--since: a span such as 30m, 12h or 7d, or a day such as 2026-11-01")
    return (day if day.tzinfo is not None else day.replace(tzinfo=UTC)).timestamp()


def _cells(one: Entry) -> list[str]:
    """An entry as a row of text. Columns have a width, so that followed rows stand below each other."""
    from datetime import UTC, datetime

    from gateway.account.ledger import FeedbackEntry

    at = datetime.fromtimestamp(one.time, UTC).strftime("%Y-%m-%d %H:%M:%S")
    names = [at, one.decision_id, f"{one.caller:<12}", f"{one.route or '–':<8}", f"{one.model or '–':<12}"]
    if isinstance(one, FeedbackEntry):
        return [_plain(cell) for cell in (*names, f"{'feedback':<14}", "", f"score {one.score:g}", "", "", "")]
    usage = one.usage
    tokens = "–" if usage is None else f"{_number(usage.prompt_tokens, 'd')}+{_number(usage.completion_tokens, 'd')}"
    estimated = "~" if one.estimated else ""
    what = (one.reason, one.cache, f"{_number(one.status, 'd')} {one.error or ''}".rstrip(), estimated + tokens)
    widths = (14, 6, 3, 9)
    shown = [f"{text:<{width}}" for text, width in zip(what, widths, strict=True)]
    return [_plain(cell) for cell in (*names, *shown, f"{_number(one.cost_usd, '.7f'):<9}", _number(one.ms, ".1f"))]


def _print_sums(names: list[str], groups: dict[tuple[Key, ...], Sum], total: Sum) -> None:
    numbers = (
        "requests",
        "errors",
        "tokens in",
        "tokens out",
        "cost, USD",
        "unknown",
        "baseline, USD",
        "saved, USD",
        "saved",
        "p50 ms",
        "p95 ms",
    )
    rows = [[*("–" if part is None else _plain(str(part)) for part in key), *_figures(found)] for key, found in groups.items()]
    last = [["all", *("" for _ in names[1:]), *_figures(total)]] if len(rows) > 1 else []
    _print((*names, *numbers), rows + last, numbers_from=len(names))


def _figures(found: Sum) -> list[str]:
    return [
        str(found.requests),
        str(found.errors),
        _number(found.prompt_tokens, "d"),
        _number(found.completion_tokens, "d"),
        _number(found.cost_usd, ".6f"),
        str(found.unknown_costs),
        _number(found.baseline_cost_usd, ".6f"),
        _number(found.saved_usd, ".6f"),
        _number(found.saved_share, ".1%"),
        _number(found.p50_ms, ".1f"),
        _number(found.p95_ms, ".1f"),
    ]


def _print(headings: tuple[str, ...], rows: list[list[str]], numbers_from: int | None = None) -> None:
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


def _report_broken(source: Source) -> None:
    if source.broken:
        typer.echo(f"{source.broken} lines could not be read", err=True)


def _plain(text: str) -> str:
    """Without what a terminal might take for a command."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
