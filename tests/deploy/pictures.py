"""Plays a quarter of an hour with some trouble in it before a real Prometheus, and draws the dashboards: `python -m tests.deploy.pictures`.

Grafana itself is no program that this project's tools can have; so the same panels and queries are drawn by `tests.deploy.drawing`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from tests.deploy.drawing import DARK, LIGHT, Panel, Series, Shown, draw
from tests.deploy.expressions import DASHBOARDS, ROOT
from tests.deploy.stage import Server, Stage, stage
from tests.deploy.visitors import Visitors

ASSETS = ROOT / "docs/assets"
PICTURES: Mapping[str, tuple[str, Sequence[str]]] = {  # file -> dashboard, rows
    "dashboard": ("overview", ("Now", "Speed", "Money")),
    "dashboard-overview": ("overview", ("Now", "Traffic and errors", "Speed", "Money", "The gateway itself")),
    "dashboard-routing": ("routing", ("Now", "Decisions", "What deciding takes", "Answers that take several calls", "Drift")),
    "dashboard-backends": ("backends", ("Now", "Health", "Calls", "Load")),
}
POINTS = 90
SCRAPE_SECONDS = 5


async def play(running: Stage, minutes: float) -> None:
    """Visitors all the time, and meanwhile: an expert dies, one answers badly, a crowd comes, Redis is away."""
    visitors = Visitors(running.gateways, Random(26))
    whole = minutes * 60
    coming = asyncio.create_task(visitors.come(whole, rate=8))
    await asyncio.sleep(0.25 * whole)
    running.kill("large-1")
    await asyncio.sleep(0.12 * whole)
    running.start("large-1")
    await asyncio.sleep(0.08 * whole)
    running.kill("small-1")
    running.start("small-1", "--fault", "status:503@p=0.7")
    await asyncio.sleep(0.12 * whole)
    running.kill("small-1")
    running.start("small-1")
    await asyncio.sleep(0.06 * whole)
    for _ in range(4):
        await asyncio.gather(visitors.crowd(60), asyncio.sleep(0.01 * whole))
    running.redis.stop()
    await asyncio.sleep(0.06 * whole)
    running.redis.start()
    await coming
    print(dict(visitors.statuses))


class Asker:
    """Brings what a panel shows. `names`: addresses, and what is written instead."""

    def __init__(self, server: Server, shown: Shown, names: Mapping[str, str]) -> None:
        self._server = server
        self._shown = shown
        self._names = names

    def __call__(self, panel: Panel) -> Sequence[Series]:
        return [one for target in panel["targets"] for one in self._series(panel, target)]

    def _series(self, panel: Panel, target: Mapping[str, Any]) -> list[Series]:
        shown = self._shown
        expr = (
            target["expr"].replace("$__rate_interval", f"{4 * SCRAPE_SECONDS + 10}s").replace("$__range", f"{shown.end - shown.start:.0f}s")
        )
        expr = re.sub(r"\$[a-z]+", ".*", expr)
        if target["instant"]:
            found = self._server.ask("/query", query=expr, time=shown.end)["result"]
        else:
            found = self._server.ask("/query_range", query=expr, start=shown.start, end=shown.end, step=shown.step)["result"]
        series = []
        for one in found:
            labels = {name: self._names.get(value, value) for name, value in one["metric"].items()}
            points = [(float(at), float(value)) for at, value in one.get("values", [one.get("value")]) if value != "NaN"]
            if points:
                series.append(Series(_name(target["legendFormat"], labels, panel["title"]), points, labels))
        return sorted(series, key=lambda one: one.name)


def _name(legend: str, labels: Mapping[str, str], title: str) -> str:
    if legend == "__auto":
        return ", ".join(labels.values()) or title
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), legend)


def main(minutes: float) -> None:
    with tempfile.TemporaryDirectory(prefix="pointsman-pictures-") as name, stage(Path(name), 2, 1, SCRAPE_SECONDS) as running:
        begun = time.time()
        asyncio.run(play(running, minutes))
        end = time.time()
        shown = Shown(begun + 30, end, (end - begun - 30) / POINTS)
        names = {command[command.index("--port") + 1]: expert for expert, (_, command) in running.experts.items()}
        known = {f"127.0.0.1:{port}": expert for port, expert in names.items()}
        known |= {url.partition("//")[2]: f"gateway-{number}" for number, url in enumerate(running.gateways)}
        asker = Asker(running.prometheus, shown, known)
        for file, (dashboard, rows) in PICTURES.items():
            whole = json.loads((DASHBOARDS / f"{dashboard}.json").read_text(encoding="utf-8"))
            for theme, kind in ((LIGHT, "light"), (DARK, "dark")):
                (ASSETS / f"{file}-{kind}.svg").write_text(draw(whole, rows, asker, shown, theme), encoding="utf-8")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 15)
