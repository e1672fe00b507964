"""How a training went: `curve.json` for programs, and a page of three plots that needs nothing else, beside the artifact's own files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routers.learning.charts import number, ticks

if TYPE_CHECKING:
    from routers.learning.rounds.train import Trained

CURVE, PAGE = "curve.json", "report.html"
WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 40
_STYLE = """
:root { --paper: #fff; --ink: #1b2330; --soft: #5a6575; --line: #dfe4ea; --accent: #0a63c2; }
@media (prefers-color-scheme: dark) { :root { --paper: #11161d; --ink: #e5e9ef; --soft: #9aa7b8; --line: #2b3441; --accent: #63aaff; } }
body { margin: 0 auto; max-width: 720px; padding: 24px 16px; background: var(--paper); color: var(--ink); }
body { font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; margin: 28px 0 4px; } p { margin: 0 0 8px; color: var(--soft); }
svg { display: block; width: 100%; height: auto; } .grid { stroke: var(--line); fill: none; }
.tick, .axis { font-size: 11px; fill: var(--soft); } .place { fill: var(--accent); }
.course { fill: none; stroke: var(--accent); stroke-width: 2; } .kept { fill: none; stroke: var(--ink); stroke-width: 2; }
"""


def curve(trained: Trained) -> dict[str, Any]:
    """What `curve.json` holds. `updates`: of PPO; `looks`: AIQ on train and validation, update 0 being before PPO; `kept`: the look whose
    policy is in the artifact.
    """
    return {
        "models": list(trained.models),
        "seed": trained.seed,
        "validation_aiq": trained.validation_aiq,
        "kept": trained.kept.update if trained.looks else None,
        "looks": [{"update": look.update, "aiq": look.aiq} for look in trained.looks],
        "updates": [{"update": one.update, "reward": one.reward, "asks": one.calls, "changed": one.changed} for one in trained.updates],
    }


def write(folder: Path, trained: Trained) -> None:
    """Both files into a folder that is there. Raises OSError."""
    found = curve(trained)
    (folder / CURVE).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(page(found), encoding="utf-8")


def page(found: Mapping[str, Any]) -> str:
    """One self-contained HTML file. Names may hold anything."""
    updates, looks = found["updates"], found["looks"]
    places = [one["update"] for one in updates]
    kept = next((place for place, look in enumerate(looks) if look["update"] == found["kept"]), None)
    parts = [
        _part(
            "AIQ on train and validation",
            "Update 0 is before PPO. The ring is what was kept.",
            plot([look["update"] for look in looks], [look["aiq"] for look in looks], kept),
        ),
        _part("Reward", "The mean over the episodes of each update.", plot(places, [one["reward"] for one in updates])),
        _part("Asks", "The mean number of models asked.", plot(places, [one["asks"] for one in updates])),
        _part(
            "Change", "The mean share by which an update moved the chances of actions.", plot(places, [one["changed"] for one in updates])
        ),
    ]
    told = f"{', '.join(escape(name) for name in found['models'])}; seed {found['seed']}; AIQ on validation {found['validation_aiq']:.4f}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>How rl-rounds learned</title><style>{_STYLE}</style></head><body><h1>How rl-rounds learned</h1><p>{told}</p>"
        f"{''.join(parts)}</body></html>\n"
    )


def _part(title: str, told: str, drawn: str) -> str:
    return f"<h2>{title}</h2><p>{told}</p>{drawn}"


def plot(places: Sequence[float], values: Sequence[float], ring: int | None = None) -> str:
    """A line of values over updates, as SVG. `ring`: the point that is marked. Empty if there are none."""
    if not values:
        return "<p>There were none.</p>"
    low, high = min(values), max(values)
    room = (high - low) * 0.1 or abs(high) * 0.01 or 1.0
    low, high, first, last = low - room, high + room, min(places), max(places)
    x = [LEFT + (WIDTH - LEFT - RIGHT) * ((place - first) / (last - first) if last > first else 0.5) for place in places]
    y = [HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low) for value in values]
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">', *_grid(low, high, first, last)]
    parts.append(f'<path class="course" d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))}"/>')
    for a, b, place, value in zip(x, y, places, values, strict=True):
        parts.append(f'<circle class="place" cx="{a:.1f}" cy="{b:.1f}" r="3"><title>update {place}: {value:.4f}</title></circle>')
    if ring is not None:
        parts.append(f'<circle class="kept" cx="{x[ring]:.1f}" cy="{y[ring]:.1f}" r="7"/>')
    return "".join([*parts, "</svg>"])


def _grid(low: float, high: float, first: float, last: float) -> list[str]:
    floor, end, parts = HEIGHT - BOTTOM, WIDTH - RIGHT, []
    for value in ticks(low, high, most=6):
        y = floor - (floor - TOP) * (value - low) / (high - low)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{end}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>')
    for value in ticks(first, last, most=9) if last > first else [first]:
        x = LEFT + (end - LEFT) * ((value - first) / (last - first) if last > first else 0.5)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{number(value)}</text>')
    parts.append(f'<text class="axis" x="{(LEFT + end) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">update</text>')
    return parts
