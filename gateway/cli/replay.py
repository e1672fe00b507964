"""`pointsman replay`"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.ledger_reading import failures, number, open_source, plain, print_table, refuse_input
from gateway.cli.loading import load

if TYPE_CHECKING:
    from gateway.account.ledger import RequestEntry
    from gateway.account.ledger_sources import Source
    from gateway.flow.replay import Replay

DIFFERS = 1
_TEXT_WIDTH = 60


def replay(
    decision_id: Annotated[str, typer.Argument(metavar="ID", help="of a decision, or of a request (x-request-id)")],
    ledger: Annotated[
        Path | None, typer.Option("--ledger", help="a ledger's file, or a folder of them; default: the configuration's")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="decide again with this configuration")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Run a decision again from the ledger, without a network: what it was, and whether it would be the same today.

    The choice is made again of the opinions that were kept, the plan by the planner itself, which hears the answers of then. Without a
    configuration the line is only shown, and checked against itself. Exit codes: 0 the same, 1 it differs, 2 there is no such decision.
    """
    from gateway.account.consistency import contradictions

    if ledger is None and config is None:
        refuse_input("name a ledger: --ledger PATH, or --config FILE of a gateway that keeps one")
    entry = _find(decision_id, ledger, config)
    wrong = contradictions(entry)
    found = None if config is None else _run_again(entry, config)
    differences = [*wrong, *(() if found is None else found.differences)]
    notes = [] if found is None else found.notes
    if as_json:
        typer.echo(json.dumps(_document(entry, differences, notes, found), ensure_ascii=False, indent=2))
    else:
        _show(entry, differences, notes, found)
    raise typer.Exit(DIFFERS if differences else 0)


def _find(name: str, ledger: Path | None, config: Path | None) -> RequestEntry:
    """The request's line: of the decision with this id, else of the newest request with it. Exit code 2 if there is none."""
    from gateway.account.ledger import RequestEntry

    newest: RequestEntry | None = None
    with failures():
        for source in _sources(ledger, config):
            for one in source.entries():
                if isinstance(one, RequestEntry) and one.decision_id == name:
                    return one
                if isinstance(one, RequestEntry) and one.request_id == name and (newest is None or one.time >= newest.time):
                    newest = one
    if newest is None:
        refuse_input(f"the ledger has no decision {plain(name)!r}")
    return newest


def _sources(ledger: Path | None, config: Path | None) -> Iterator[Source]:
    if ledger is None:
        yield open_source(config, None, None, None)
    elif not ledger.is_dir():
        yield open_source(None, ledger, None, None)
    else:
        found = sorted(ledger.glob("*.jsonl"))
        if not found:
            refuse_input(f"{ledger}: there is no ledger (*.jsonl) in this folder")
        for path in found:
            yield open_source(None, path, None, None)


def _run_again(entry: RequestEntry, path: Path) -> Replay:
    import asyncio

    from gateway.app import build
    from gateway.flow.replay import run_again

    config, routes = load(path)
    gateway = build(config, routes, folder=path.parent)
    try:
        models = {served.model.name: served.model for served in gateway.fleet}
        return asyncio.run(run_again(entry, gateway.routes.get(entry.route or ""), models, gateway.threads))
    finally:
        gateway.threads.shutdown(wait=False, cancel_futures=True)


def _document(entry: RequestEntry, differences: list[str], notes: list[str], found: Replay | None) -> dict[str, Any]:
    import msgspec

    again = None if found is None else {"ranking": found.ranking, "asks": [_asked(ask.models, ask.purpose) for ask in found.asks]}
    return {
        "object": "replay",
        "decision_id": entry.decision_id,
        "same": not differences,
        "differences": differences,
        "notes": notes,
        "again": again,
        "record": msgspec.to_builtins(entry),
    }


def _asked(models: tuple[str, ...], purpose: str) -> dict[str, Any]:
    return {"asked": list(models), "purpose": purpose}


def _show(entry: RequestEntry, differences: list[str], notes: list[str], found: Replay | None) -> None:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(entry.time, UTC).strftime("%Y-%m-%d %H:%M:%S")
    single = entry.plan.single if entry.plan else None
    why = f"{entry.reason}, {entry.policy}" + (f", single: {single}" if single else "")
    typer.echo(plain(f"{entry.decision_id}  {at} UTC  {entry.route or '–'} -> {entry.chosen}  ({why})"))
    rows = [
        [one.model, f"{one.score:.3f}", number(one.quality, ".3f"), number(one.expected_cost_usd, ".7f"), _opinions(one.opinions or {})]
        for one in entry.candidates
    ]
    rows += [[model, f"out: {reason}", "", "", ""] for model, reason in entry.rejected.items()]
    print_table(("candidate", "score", "quality", "expected cost, USD", "opinions"), [[plain(cell) for cell in row] for row in rows])
    if entry.asks:
        _show_rounds(entry)
    cost = "cost unknown" if entry.cost_usd is None else f"${entry.cost_usd:.7f}"
    typer.echo(plain(f"{_ending(entry)}; status {entry.status}{f' {entry.error}' if entry.error else ''}, {cost}"))
    for note in notes:
        typer.echo(plain(f"note: {note}"))
    for difference in differences:
        typer.echo(plain(f"differs: {difference}"))
    if not differences:
        typer.echo("the line agrees with itself" if found is None else "the same today")


def _show_rounds(entry: RequestEntry) -> None:
    rows = [
        [
            str(one.number + 1),
            ", ".join(one.asked),
            one.purpose,
            one.model,
            one.error or " ".join((one.text or "–").split())[:_TEXT_WIDTH],
            ("~" if one.estimated else "") + f"{number(one.prompt_tokens, 'd')}+{number(one.completion_tokens, 'd')}",
            number(one.cost_usd, ".7f"),
            f"{one.at_ms:.1f}",
            f"{one.ms:.1f}",
        ]
        for one in entry.asks
    ]
    headings = ("ask", "of", "purpose", "answered by", "said", "tokens", "cost, USD", "at ms", "ms")
    print_table(headings, [[plain(cell) for cell in row] for row in rows])


def _ending(entry: RequestEntry) -> str:
    end = entry.plan.end if entry.plan else None
    if end is None or end.asked is not None:
        return f"answered by {entry.model or 'nobody'}"
    return f"answered with the words of {entry.model or 'nobody in particular'}, put together by the planner"


def _opinions(opinions: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in opinions.items())
