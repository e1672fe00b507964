"""`pointsman ledger`"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from gateway.cli.ledger_reading import failures, number, open_source, plain, print_table, refuse_input, report_broken

if TYPE_CHECKING:
    from gateway.account.ledger import Entry, RequestEntry
    from gateway.account.sums import Key, Sum

POLL_SECONDS = 0.5
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

    with failures():
        source = open_source(config, file, redis, prefix)
        if follow:
            for one in source.last(count, lambda: time.sleep(POLL_SECONDS)):
                typer.echo(msgspec.json.encode(one).decode() if as_json else "  ".join(_cells(one)).rstrip())
            return
        found = list(source.last(count))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    headings = ("time", "decision", "key", "route", "model", "why", "cache", "status", "tokens", "cost, USD", "ms")
    print_table(headings, [_cells(one) for one in found])
    report_broken(source)


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
            refuse_input(f"--by: there is no {name!r}{nearest(name, list(KEYS))}; known: {', '.join(KEYS)}")
    start = _start(since)
    with failures():
        source = open_source(config, file, redis, prefix)
        groups, total = sum_up(source.entries(start), names)
    if as_json:
        rows = [{**dict(zip(names, key, strict=True)), **asdict(found)} for key, found in groups.items()]
        whole = {"since": start, "by": names, "groups": rows, "total": asdict(total), "broken_lines": source.broken}
        typer.echo(json.dumps(whole, ensure_ascii=False, indent=2))
        return
    _print_sums(names, groups, total)
    report_broken(source)


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
    with failures():
        source = open_source(config, file, redis, prefix)
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
    report_broken(source)


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
        refuse_input("--since: a span such as 30m, 12h or 7d, or a day such as 2026-11-01")
    return (day if day.tzinfo is not None else day.replace(tzinfo=UTC)).timestamp()


def _cells(one: Entry) -> list[str]:
    """An entry as a row of text. Columns have a width, so that followed rows stand below each other."""
    from datetime import UTC, datetime

    from gateway.account.ledger import FeedbackEntry

    at = datetime.fromtimestamp(one.time, UTC).strftime("%Y-%m-%d %H:%M:%S")
    names = [at, one.decision_id, f"{one.caller:<12}", f"{one.route or '–':<8}", f"{one.model or '–':<12}"]
    if isinstance(one, FeedbackEntry):
        return [plain(cell) for cell in (*names, f"{'feedback':<14}", "", f"score {one.score:g}", "", "", "")]
    tokens, estimated = _tokens(one)
    what = (one.reason, one.cache, f"{number(one.status, 'd')} {one.error or ''}".rstrip(), estimated + tokens)
    widths = (14, 6, 3, 9)
    shown = [f"{text:<{width}}" for text, width in zip(what, widths, strict=True)]
    return [plain(cell) for cell in (*names, *shown, f"{number(one.cost_usd, '.7f'):<9}", number(one.ms, ".1f"))]


def _tokens(one: RequestEntry) -> tuple[str, str]:
    """Of all asks of which the answer was made, and a mark if a part of them is only estimated."""
    parts = [part for part in (one.usage, *one.asks) if part is not None]
    counts = ([part.prompt_tokens for part in parts], [part.completion_tokens for part in parts])
    sums = [None if not (known := [count for count in found if count is not None]) else sum(known) for found in counts]
    estimated = one.estimated or any(ask.estimated for ask in one.asks)
    return f"{number(sums[0], 'd')}+{number(sums[1], 'd')}" if parts else "–", "~" if estimated else ""


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
    rows = [[*("–" if part is None else plain(str(part)) for part in key), *_figures(found)] for key, found in groups.items()]
    last = [["all", *("" for _ in names[1:]), *_figures(total)]] if len(rows) > 1 else []
    print_table((*names, *numbers), rows + last, numbers_from=len(names))


def _figures(found: Sum) -> list[str]:
    return [
        str(found.requests),
        str(found.errors),
        number(found.prompt_tokens, "d"),
        number(found.completion_tokens, "d"),
        number(found.cost_usd, ".6f"),
        str(found.unknown_costs),
        number(found.baseline_cost_usd, ".6f"),
        number(found.saved_usd, ".6f"),
        number(found.saved_share, ".1%"),
        number(found.p50_ms, ".1f"),
        number(found.p95_ms, ".1f"),
    ]
