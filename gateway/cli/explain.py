"""`pointsman explain`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.loading import WRONG_INPUT, load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.config import Config
    from gateway.flow.decide import Route


def explain(
    config: Annotated[Path, typer.Option("--config", "-c", help="the configuration file")],
    prompt: Annotated[str, typer.Option(help="what a user would ask")],
    route: Annotated[str | None, typer.Option(help="default: the first route")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Show the decision that a prompt would get, with every score and reason. No backend is asked; all count as healthy."""
    found, routes = load(config)
    name = route or next(iter(routes), None)
    if name is None or (name not in routes and name not in [model.name for model in found.models]):
        typer.echo(f"there is no route or model named {name!r}; routes: {', '.join(routes) or 'none'}", err=True)
        raise typer.Exit(WRONG_INPUT)
    document = _decide(found, config.parent, routes, name, prompt)
    if as_json:
        typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
        return
    if "error" in document:
        typer.echo(document["error"]["message"], err=True)
        raise typer.Exit(1)
    _print(document)


def _decide(config: Config, folder: Path, routes: Mapping[str, Route], name: str, prompt: str) -> dict[str, Any]:
    import asyncio

    from gateway.app import build
    from gateway.build_fleet import discovered
    from gateway.errors import GatewayError
    from gateway.flow.wire import read
    from gateway.guard.callers import ANYONE

    async def run() -> dict[str, Any]:
        gateway = build(config, routes, folder=folder)
        body = json.dumps({"model": name, "messages": [{"role": "user", "content": prompt}]}).encode()
        try:
            wire, decider = read("chat", {}, body), gateway.decider
            async with discovered(gateway.fleet):
                return (await decider.decide(decider.request(wire, ANYONE), wire, ANYONE, fresh=True, dry=True)).document()
        except GatewayError as error:
            return dict(error.document())
        finally:
            gateway.threads.shutdown(wait=False, cancel_futures=True)

    return asyncio.run(run())


def _print(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{document['model']}[/bold]  ({document['reason']}, policy {document['policy']})")
    opinions = sorted({name for candidate in document["candidates"] for name in candidate["opinions"]})
    drawn = document["propensity"] is not None
    table = Table("model", "score", *opinions, "expected quality", "expected cost, USD", *(["propensity"] if drawn else []))
    for candidate in document["candidates"]:
        table.add_row(
            candidate["model"],
            f"{candidate['score']:.3f}",
            *(_number(candidate["opinions"].get(name), ".3f") for name in opinions),
            _number(candidate["quality"], ".3f"),
            _number(candidate["expected_cost_usd"], ".7f"),
            *([_number(candidate["propensity"], ".3f")] if drawn else []),
        )
    for model, reason in document["rejected"].items():
        table.add_row(model, f"out: {reason}")
    console.print(table)
    if document["shadow"] is not None:
        console.print(f"shadow: {document['shadow']}")
    for plugin, problem in document["errors"].items():
        console.print(f"[red]{plugin}: {problem}[/red]")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
