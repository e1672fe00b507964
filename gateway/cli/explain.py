"""`pointsman explain`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.loading import WRONG_INPUT, load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.account.records import Decision
    from gateway.config import Config
    from gateway.flow.decide import Route
    from gateway.flow.planning import Plans
    from gateway.flow.wire import Wire
    from routers.api import RouteRequest


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
    from gateway.flow.planning import Plans
    from gateway.flow.wire import read
    from gateway.guard.callers import ANYONE

    async def run() -> dict[str, Any]:
        gateway = build(config, routes, folder=folder)
        body = json.dumps({"model": name, "messages": [{"role": "user", "content": prompt}]}).encode()
        try:
            wire, decider = read("chat", {}, body), gateway.decider
            plans = Plans(gateway.fleet, gateway.routes, gateway.threads, gateway.metrics)
            async with discovered(gateway.fleet):
                request = decider.request(wire, ANYONE)
                decision = await decider.decide(request, wire, ANYONE, fresh=True, dry=True)
                return {**decision.document(), **await _first(plans, decision, request, wire)}
        except GatewayError as error:
            return dict(error.document())
        finally:
            gateway.threads.shutdown(wait=False, cancel_futures=True)

    return asyncio.run(run())


async def _first(plans: Plans, decision: Decision, request: RouteRequest, wire: Wire) -> dict[str, Any]:
    """Whom the route's planner asks first, or why it asks one model alone; nothing where it always does."""
    from routers.api import Answer, Budget
    from routers.planners.plain import why_single

    route = plans.planned(decision)
    if route is None:
        return {}
    first = (await plans.begin(route, decision, request, wire, Budget())).first
    asks = [] if isinstance(first, Answer) else first
    single = next((why for ask in asks if (why := why_single(ask)) is not None), None)
    return {"single": single, "first_asks": [{"asked": list(ask.models), "purpose": ask.purpose, "final": ask.final} for ask in asks]}


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
    if document.get("single") is not None:
        console.print(f"one call: {document['single']}")
    elif "first_asks" in document:
        console.print(f"asks first: {', '.join(ask['asked'][0] for ask in document['first_asks'])}")
    if document["shadow"] is not None:
        console.print(f"shadow: {document['shadow']}")
    for plugin, problem in document["errors"].items():
        console.print(f"[red]{plugin}: {problem}[/red]")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
