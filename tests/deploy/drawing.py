"""Draws a dashboard as an SVG, from its JSON and from what a Prometheus says: the same panels, queries, units and colours as in Grafana."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any, TypeAlias

Panel: TypeAlias = Mapping[str, Any]
Points: TypeAlias = Sequence[tuple[float, float]]

WIDTH, UNIT, GAP, COLUMNS = 1200, 26, 8, 24
FONT = "Inter, system-ui, -apple-system, 'Segoe UI', sans-serif"
LETTER = 6.5
"""Pixels of an average letter at 11 px."""


@dataclass(frozen=True, slots=True)
class Theme:
    page: str
    panel: str
    edge: str
    text: str
    faint: str
    grid: str
    palette: Sequence[str]
    named: Mapping[str, str]


LIGHT = Theme(
    *("#f4f5f7", "#ffffff", "#dfe1e6", "#1f2933", "#616e7c", "#eceef1"),
    ("#2f9e44", "#1971c2", "#e8590c", "#ae3ec9", "#c99a00", "#0c8599", "#e03131", "#5f3dc4", "#74b816", "#868e96"),
    {"green": "#2f9e44", "orange": "#e8590c", "red": "#e03131"},
)
DARK = Theme(
    *("#0f1115", "#181b21", "#2b3038", "#e4e7eb", "#9aa5b1", "#262a31"),
    ("#69db7c", "#74c0fc", "#ffa94d", "#da77f2", "#ffd43b", "#3bc9db", "#ff8787", "#9775fa", "#c0eb75", "#adb5bd"),
    {"green": "#51cf66", "orange": "#ff922b", "red": "#ff6b6b"},
)


@dataclass(frozen=True, slots=True)
class Series:
    """What a query brought: a name, points in time, and labels."""

    name: str
    points: Points
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Shown:
    """The time that is shown: Unix seconds, and the seconds between two points."""

    start: float
    end: float
    step: float


@dataclass(frozen=True, slots=True)
class Box:
    x: float
    y: float
    width: float
    height: float


Ask: TypeAlias = Callable[[Panel], Sequence[Series]]


def draw(dashboard: Mapping[str, Any], rows: Sequence[str], ask: Ask, shown: Shown, theme: Theme) -> str:
    """The SVG. `rows`: the headings of those that are drawn; `ask` brings a panel's series."""
    pencil = _Pencil(theme)
    column = (WIDTH - GAP) / COLUMNS
    lines: list[tuple[Panel, Box]] = []
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        if _row_of(dashboard, panel) in rows:
            lines.append((panel, Box(GAP + place["x"] * column, place["y"], place["w"] * column - GAP, place["h"])))
    offsets = _stacked(sorted({(box.y, box.height) for _, box in lines}), top=46.0)
    for panel, box in lines:
        here = Box(box.x, offsets[box.y], box.width, box.height * UNIT - GAP)
        if panel["type"] == "row":
            pencil.text(here.x, here.y + 14, panel["title"], 13, weight=600)
        else:
            _panel(pencil, panel, here, ask(panel), shown)
    height = max(offsets[box.y] + box.height * UNIT for _, box in lines) + GAP
    when = f"{_clock(shown.start)} to {_clock(shown.end)}, UTC"
    pencil.text(GAP, 26, dashboard["title"], 17, weight=650)
    pencil.text(WIDTH - GAP, 26, when, 12, anchor="end", colour=theme.faint)
    return pencil.document(height, f"{dashboard['title']}: {dashboard['description']}")


def _row_of(dashboard: Mapping[str, Any], panel: Panel) -> str:
    above = [one for one in dashboard["panels"] if one["type"] == "row" and one["gridPos"]["y"] <= panel["gridPos"]["y"]]
    return str(above[-1]["title"])


def _stacked(lines: Iterable[tuple[float, float]], top: float) -> Mapping[float, float]:
    """Where each line of the grid stands on the page, without the lines that are left out."""
    found: dict[float, float] = {}
    for y, height in lines:
        found[y] = top
        top += height * UNIT
    return found


class _Pencil:
    """Collects elements."""

    def __init__(self, theme: Theme) -> None:
        self.theme = theme
        self._parts: list[str] = []

    def text(self, x: float, y: float, text: str, size: float, *, weight: int = 400, anchor: str = "start", colour: str = "") -> None:
        style = f'font-size="{size:g}"' + (f' font-weight="{weight}"' if weight != 400 else "")
        style += f' text-anchor="{anchor}"' if anchor != "start" else ""
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" {style} fill="{colour or self.theme.text}">{escape(text)}</text>')

    def box(self, box: Box, fill: str, edge: str = "", radius: float = 0) -> None:
        drawn = f' stroke="{edge}"' if edge else ""
        size = f'width="{max(box.width, 0.5):.1f}" height="{box.height:.1f}" rx="{radius:g}"'
        self._parts.append(f'<rect x="{box.x:.1f}" y="{box.y:.1f}" {size} fill="{fill}"{drawn}/>')

    def path(self, data: str, colour: str, *, fill: str = "none", width: float = 1.4, dashes: str = "", opacity: float = 1) -> None:
        style = f'stroke="{colour}" stroke-width="{width:g}"' if width else ""
        style += f' stroke-dasharray="{dashes}"' if dashes else ""
        style += f' opacity="{opacity:g}"' if opacity < 1 else ""
        self._parts.append(f'<path d="{data}" fill="{fill}" stroke-linejoin="round" {style}/>')

    def document(self, height: float, label: str) -> str:
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img"'
        page = f'<rect width="{WIDTH}" height="{height:.0f}" rx="8" fill="{self.theme.page}"/>'
        return f'{head} aria-label="{escape(label)}" font-family="{escape(FONT)}">\n{page}\n' + "\n".join(self._parts) + "\n</svg>\n"


def _panel(pencil: _Pencil, panel: Panel, box: Box, series: Sequence[Series], shown: Shown) -> None:
    pencil.box(box, pencil.theme.panel, pencil.theme.edge, 4)
    pencil.text(box.x + 10, box.y + 19, panel["title"], 12, weight=600)
    inside = Box(box.x + 10, box.y + 28, box.width - 20, box.height - 36)
    drawers = {"stat": _stat, "timeseries": _lines, "state-timeline": _states, "table": _table}
    if series:
        drawers[panel["type"]](pencil, panel, inside, series, shown)
    else:
        pencil.text(box.x + box.width / 2, box.y + box.height / 2 + 8, "nothing to show", 12, anchor="middle", colour=pencil.theme.faint)


def _stat(pencil: _Pencil, panel: Panel, box: Box, series: Sequence[Series], shown: Shown) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    value = series[0].points[-1][1]
    colour = pencil.theme.named["green"]
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = pencil.theme.named[step["color"]]
    text = formatted(value, defaults["unit"], defaults.get("decimals"))
    size = min(28.0, 1.55 * box.width / len(text))
    pencil.text(box.x, box.y + box.height / 2 + 12, text, size, weight=600, colour=colour)


def _lines(pencil: _Pencil, panel: Panel, box: Box, series: Sequence[Series], shown: Shown) -> None:
    theme, defaults = pencil.theme, panel["fieldConfig"]["defaults"]
    stacking = defaults["custom"]["stacking"]["mode"]
    drawn = _piled(series, stacking) if stacking != "none" else [(one, None) for one in series]
    highest = max((value for one, _ in drawn for _, value in one.points), default=0.0)
    unit = "percentunit" if stacking == "percent" else defaults["unit"]
    ticks = _ticks(1.0 if stacking == "percent" else min(highest, defaults.get("max", highest)))
    legend = _legend_rows(series, box.width)
    plot = Box(box.x + 52, box.y + 4, box.width - 56, box.height - 24 - 15 * len(legend))

    def place(time: float, value: float) -> tuple[float, float]:
        x = plot.x + (time - shown.start) / (shown.end - shown.start) * plot.width
        return x, plot.y + plot.height - max(0.0, min(value / ticks[-1], 1.0)) * plot.height

    _axes(pencil, plot, ticks, unit, shown)
    for step in defaults["thresholds"]["steps"][1:]:
        if step["value"] <= ticks[-1]:
            y = place(shown.start, step["value"])[1]
            pencil.path(f"M{plot.x:.1f} {y:.1f}h{plot.width:.1f}", theme.named[step["color"]], dashes="4 4", width=1)
    for number, (one, below) in enumerate(drawn):
        colour = theme.palette[number % len(theme.palette)]
        if below is not None:
            edge = [place(*point) for point in [*one.points, *reversed(below)]]
            pencil.path(_way(edge) + "z", colour, fill=colour, width=0, opacity=0.55)
        for run in _runs(one.points, shown.step):
            pencil.path(_way([place(*point) for point in run]), colour)
    _legend(pencil, legend, box)


def _way(places: Sequence[tuple[float, float]]) -> str:
    """A line through these, each written as its distance from the one before: that is shorter."""
    tenths = [(round(10 * x), round(10 * y)) for x, y in places]
    steps = [(right[0] - left[0], right[1] - left[1]) for left, right in itertools.pairwise(tenths)]
    return f"M{tenths[0][0] / 10:g} {tenths[0][1] / 10:g}l" + " ".join(f"{x / 10:g} {y / 10:g}" for x, y in steps)


def _axes(pencil: _Pencil, plot: Box, ticks: Sequence[float], unit: str, shown: Shown) -> None:
    theme = pencil.theme
    for tick in ticks:
        y = plot.y + plot.height * (1 - tick / ticks[-1])
        pencil.path(f"M{plot.x:.1f} {y:.1f}h{plot.width:.1f}", theme.grid, width=1)
        pencil.text(plot.x - 6, y + 3.5, formatted(tick, unit), 10, anchor="end", colour=theme.faint)
    for part in (0.0, 0.33, 0.67, 1.0):
        anchor = {0.0: "start", 1.0: "end"}.get(part, "middle")
        time = shown.start + part * (shown.end - shown.start)
        pencil.text(plot.x + part * plot.width, plot.y + plot.height + 15, _clock(time), 10, anchor=anchor, colour=theme.faint)


def _piled(series: Sequence[Series], mode: str) -> list[tuple[Series, Points | None]]:
    """Each series on top of those before it, with the line below it."""
    times = sorted({time for one in series for time, _ in one.points})
    values = [dict(one.points) for one in series]
    whole = {time: sum(one.get(time, 0.0) for one in values) or 1.0 for time in times}
    below: Points = [(time, 0.0) for time in times]
    found: list[tuple[Series, Points | None]] = []
    for one, own in zip(series, values, strict=True):
        part = [(time, ground + own.get(time, 0.0) / (whole[time] if mode == "percent" else 1.0)) for time, ground in below]
        found.append((Series(one.name, part, one.labels), below))
        below = part
    return found


def _runs(points: Points, step: float) -> list[list[tuple[float, float]]]:
    """Points without a gap between them."""
    runs: list[list[tuple[float, float]]] = []
    for point in points:
        if runs and point[0] - runs[-1][-1][0] <= 1.5 * step:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def _legend_rows(series: Sequence[Series], width: float) -> list[list[tuple[int, str]]]:
    """At most two rows of names; what does not fit is counted."""
    rows: list[list[tuple[int, str]]] = [[]]
    room = width
    for number, one in enumerate(series):
        needed = 26 + LETTER * len(one.name)
        if needed > room and rows[-1]:
            if len(rows) == 2:
                rows[-1].append((-1, f"+{len(series) - number}"))
                return rows
            rows.append([])
            room = width
        rows[-1].append((number, one.name))
        room -= needed
    return rows


def _legend(pencil: _Pencil, rows: Sequence[Sequence[tuple[int, str]]], box: Box) -> None:
    theme = pencil.theme
    for line, row in enumerate(rows):
        x, y = box.x, box.y + box.height - 15 * (len(rows) - 1 - line)
        for number, name in row:
            if number >= 0:
                pencil.box(Box(x, y - 6, 12, 3), theme.palette[number % len(theme.palette)], radius=1)
                x += 16
            pencil.text(x, y, name, 11, colour=theme.faint)
            x += LETTER * len(name) + 10


def _states(pencil: _Pencil, panel: Panel, box: Box, series: Sequence[Series], shown: Shown) -> None:
    theme = pencil.theme
    names = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    label = 14 + LETTER * max(len(one.name) for one in series)
    bars = Box(box.x + label, box.y + 2, box.width - label, box.height - 42)
    height = min(26.0, bars.height / len(series))
    scale = bars.width / (shown.end - shown.start)
    for line, one in enumerate(series):
        y = bars.y + line * height
        pencil.text(box.x, y + height / 2 + 3, one.name, 11, colour=theme.faint)
        begun = 0
        for place in range(1, len(one.points) + 1):
            if place < len(one.points) and one.points[place][1] == one.points[begun][1]:
                continue
            left, right = one.points[begun][0], min(one.points[place - 1][0] + shown.step, shown.end)
            colour = theme.named[names[f"{one.points[begun][1]:g}"]["color"]]
            pencil.box(Box(bars.x + (left - shown.start) * scale, y + 2, (right - left) * scale, height - 4), colour)
            begun = place
    x = box.x
    for state in names.values():
        pencil.box(Box(x, box.y + box.height - 8, 10, 8), theme.named[state["color"]], radius=1)
        pencil.text(x + 14, box.y + box.height, state["text"], 11, colour=theme.faint)
        x += 30 + LETTER * len(state["text"])
    for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        time = _clock(shown.start + part * (shown.end - shown.start))
        pencil.text(bars.x + part * bars.width, bars.y + height * len(series) + 13, time, 10, anchor=anchor, colour=theme.faint)


def _table(pencil: _Pencil, panel: Panel, box: Box, series: Sequence[Series], shown: Shown) -> None:
    theme = pencil.theme
    columns = [*series[0].labels, "Value"]
    lines = [columns, *([*one.labels.values(), f"{one.points[-1][1]:g}"] for one in series)]
    needed = [max(len(cells[number]) for cells in lines) + 2 for number in range(len(columns))]
    for line, cells in enumerate(lines):
        x = box.x
        for cell, width in zip(cells, needed, strict=True):
            pencil.text(x, box.y + 16 + 24 * line, cell, 12, weight=600 if line == 0 else 400)
            x += box.width * width / sum(needed)
        pencil.path(f"M{box.x:.1f} {box.y + 24 + 24 * line:.1f}h{box.width:.1f}", theme.grid, width=1)


def _ticks(highest: float) -> list[float]:
    """0 and some round numbers above, the last one above all values."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    count = math.ceil(highest / step - 1e-9)
    return [number * step for number in range(count + 1)]


def _clock(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%H:%M")


def formatted(value: float, unit: str, decimals: int | None = None) -> str:
    """A number as Grafana shows it."""
    if unit == "s":
        scale, name = next((pair for pair in ((1.0, "s"), (1e-3, "ms")) if abs(value) >= pair[0]), (1e-6, "µs"))
        return "0 s" if value == 0 else f"{_short(value / scale, decimals)} {name}"
    if unit == "percentunit":
        return f"{_short(100 * value, decimals)}%"
    if unit == "currencyUSD":
        return f"{'-' if value < 0 else ''}${_short(abs(value), decimals)}"
    return _short(value, decimals) + {"reqps": " req/s", "cps": "/s"}.get(unit, "")


def _short(value: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{value:.{decimals}f}"
    if abs(value) >= 1000:
        return f"{value / 1000:.3g} K"
    text = f"{value:.3g}"
    return text if "e" not in text else f"{value:.7f}".rstrip("0")
