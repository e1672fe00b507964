"""`pointsman plugins`"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer


def plugins(as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False) -> None:
    """List the filters, scorers, pickers and planners that are installed, with their parameters."""
    from routers.registry import Registry

    found = Registry().describe()
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], default=str, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("kind", "name", "what it does", "parameters", "from", show_lines=True)
    for one in found:
        parameters = "\n".join(f"{p.name}: {p.type}" + ("" if p.required else f" = {p.default}") for p in one.parameters)
        table.add_row(one.kind, one.name, one.problem or one.summary, parameters, one.source)
    Console().print(table)
