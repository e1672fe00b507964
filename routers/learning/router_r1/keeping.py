"""The result of a run: a folder that vLLM serves and that the planner `router_r1` reads, with the learning curve beside the weights."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from routers import artifacts
from routers.learning.charts import number, ticks
from routers.learning.router_r1.course import CURVE, write_curve
from routers.planners.router_r1.learned import KIND, Learned

if TYPE_CHECKING:
    from routers.learning.router_r1.course import Course, Point

REPORT = "report.html"
SHOWN = ("reward", "format", "clean", "right", "asks", "cost_usd", "tokens", "kl")
"""Of a point: what the report draws."""
TITLES: Mapping[str, str] = {
    "reward": "reward",
    "format": "episodes that ended with an answer",
    "clean": "episodes without any broken turn",
    "right": "right answers",
    "asks": "experts asked in an episode",
    "cost_usd": "USD for experts in an episode",
    "tokens": "tokens written in an episode",
    "kl": "distance to the untaught policy, in nats a token",
}
WIDTH, HEIGHT, EDGE = 420, 180, 46
LAST = 10
"""Steps whose mean is a figure of the manifest."""


def keep(
    folder: Path,
    save: Callable[[Path], None],
    course: Course,
    models: Sequence[str],
    curve: Sequence[Point],
    data_hash: str,
    created: datetime,
) -> str:
    """Writes the folder whole or not at all and returns the artifact's hash. `save` writes weights and tokenizer.

    Raises BadArtifact if something else lies there, OSError if it cannot be written.
    """
    if folder.exists() and not (folder / artifacts.MANIFEST).is_file():
        raise artifacts.BadArtifact(folder, "exists and is no artifact, so it is left alone")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as made:
        fresh = Path(made) / folder.name
        learned = Learned(course.max_asks, course.policy_tokens, course.expert_tokens)
        origin = artifacts.Origin(KIND, models, data_hash, created, metrics=_metrics(curve))
        found = artifacts.write(fresh, origin, {}, {**learned.settings(), "policy": Path(course.policy).name, "steps": len(curve)})
        save(fresh)
        write_curve(fresh / CURVE, curve)
        (fresh / REPORT).write_text(report(curve, course), encoding="utf-8")
        old = Path(made) / "old"
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    return found


def _metrics(curve: Sequence[Point]) -> dict[str, float]:
    last = curve[-LAST:]
    return (
        {name: sum(getattr(one, name) for one in last) / len(last) for name in ("reward", "format", "clean", "right", "cost_usd")}
        if last
        else {}
    )


def report(curve: Sequence[Point], course: Course) -> str:
    """A page with a plot of each figure over the steps; it needs nothing from elsewhere."""
    plots = "".join(_plot(name, curve) for name in SHOWN)
    told = f"{Path(course.policy).name}: {len(curve)} steps of {course.batch} episodes, rate {course.rate:g}, KL {course.kl:g}"
    told += f", alpha {course.alpha:g}"
    told += f", LoRA of rank {course.lora}" if course.lora else ""
    told += f", after imitating {course.warm_up} transcripts" if course.warm_up else ""
    style = (
        "body{font:14px system-ui,sans-serif;max-width:900px;margin:2em auto;color:#222;background:#fff}"
        "figure{display:inline-block;margin:0 1em 1em 0}figcaption{font-weight:600}"
        "svg{color:#1f6feb}text{font-size:11px;fill:#555}.axis{stroke:#ccc}"
        "@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}text{fill:#aaa}.axis{stroke:#444}svg{color:#6ea8fe}}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>router-r1</title><style>{style}</style>'
        f"<h1>How the policy learned</h1><p>{escape(told)}</p>{plots}</html>\n"
    )


def _plot(name: str, curve: Sequence[Point]) -> str:
    known = [(one.step, value) for one in curve if (value := getattr(one, name)) is not None]
    if not known:
        return ""
    steps, values = [step for step, _ in known], [float(value) for _, value in known]
    low, high = min(values), max(values)
    room = (high - low) * 0.1 or abs(high) * 0.1 or 1.0
    low, high, first, last = low - room, high + room, steps[0], max(steps[-1], steps[0] + 1)

    def x(step: float) -> float:
        return EDGE + (step - first) / (last - first) * (WIDTH - EDGE - 8)

    def y(value: float) -> float:
        return HEIGHT - 22 - (value - low) / (high - low) * (HEIGHT - 32)

    line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in known)
    marks = "".join(
        f'<line class="axis" x1="{EDGE}" x2="{WIDTH - 8}" y1="{y(one):.1f}" y2="{y(one):.1f}"/>'
        f'<text x="{EDGE - 4}" y="{y(one) + 4:.1f}" text-anchor="end">{number(one)}</text>'
        for one in ticks(low, high, most=5)
    )
    ends = "".join(f'<text x="{x(step):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{step}</text>' for step in (first, last))
    drawn = f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
    return f'<figure><figcaption>{TITLES[name]}</figcaption><svg width="{WIDTH}" height="{HEIGHT}">{marks}{ends}{drawn}</svg></figure>'
