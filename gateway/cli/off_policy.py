"""`pointsman evaluate --ledger`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from gateway.cli.loading import WRONG_INPUT


def evaluate_ledger(path: Path, as_json: bool) -> None:
    """Prints what the policy that served is worth, and what "always this model" would have been. Exit code 2 if the ledger cannot say."""
    from gateway.account.ledger_outcomes import scores_in
    from gateway.account.ledger_policies import NothingLogged, gather, judge
    from gateway.account.ledger_sources import FileSource

    if not path.is_file() and not path.with_name(f"{path.name}.1").is_file():
        typer.echo(f"{path}: there is no such file", err=True)
        raise typer.Exit(WRONG_INPUT)
    source = FileSource(path)
    try:
        scores = scores_in(source.entries())
        source.broken = 0  # the same lines are read again
        records = gather(source.entries(), scores)
        found = judge(records)
    except NothingLogged as error:
        typer.echo(f"{path}: {error}", err=True)
        typer.echo("propensities come with the pickers `explore` and `weighted`; scores come by POST /v1/feedback", err=True)
        raise typer.Exit(WRONG_INPUT) from None
    except OSError as error:
        typer.echo(f"{error.filename}: {error.strerror or type(error).__name__}", err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print(found)
    if source.broken:
        typer.echo(f"{source.broken} lines could not be read", err=True)


def _print(found: dict[str, Any]) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table

    from gateway.account.ledger_policies import LEFT_OUT

    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table("route", "policy", "score (95 %)", "USD a request (95 %)", "requests", "as good as")
    for route, block in found["routes"].items():
        live = block["logging"]
        table.add_row(route, "as served", _with(live["score"], ".4f"), _with(live["cost_usd"], ".3g"), str(live["requests"]), "")
        for model, one in block["always"].items():
            if one is None:
                table.add_row(route, f"always {model}", "never left to chance")
                continue
            numbers = (_with(one["score"]["snips"], ".4f"), _with(one["cost_usd"]["snips"], ".3g"))
            table.add_row(route, f"always {model}", *numbers, str(one["requests"]), f"{one['effective_sample_size']:.0f}")
    console.print(table)
    console.print(
        "self-normalised inverse propensity scores; `as good as`: so many requests served by that policy itself would say as much"
    )
    for reason, count in found["left_out"].items():
        if count:
            console.print(f"left out: {count} {LEFT_OUT[reason]}")


def _with(estimate: dict[str, Any], form: str) -> str:
    if estimate["value"] is None:
        return "–"
    low, high = estimate["interval_95"]
    return f"{estimate['value']:{form}} ({low:{form}} to {high:{form}})"
