"""Plots as SVG text, for the report: no library, no script needed, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

LOG_ABOVE = 8.0
"""A cost axis whose ends are further apart than this is drawn in the logarithm."""
GLYPH = 0.56
"""Width of a letter on average, in shares of the font's size; a little too much, so that labels keep apart."""


@dataclass(frozen=True, slots=True)
class Point:
    """A named place on the plot: mean cost in USD per million requests, accuracy."""

    name: str
    cost: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Line:
    """A hull by its corners (cost in USD per million requests, accuracy). `kind`: a class of the style sheet."""

    name: str
    kind: str
    corners: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where numbers lie on a plot of `width` x `height` pixels."""

    width: int
    height: int
    costs: tuple[float, float]
    accuracies: tuple[float, float]
    logarithmic: bool
    left: int = 46
    right: int = 12
    top: int = 12
    bottom: int = 44

    @classmethod
    def around(cls, width: int, height: int, costs: Sequence[float], accuracies: Sequence[float]) -> Frame:
        """With some room around all of the numbers; at least one of each, costs not below 0."""
        low, high = min(costs), max(costs)
        logarithmic = low > 0 and high / low > LOG_ABOVE
        room = (high - low) * 0.06 or high * 0.1 or 1.0
        ends = (low / 1.25, high * 1.25) if logarithmic else (max(0.0, low - room), high + room)
        bottom, top = min(accuracies), max(accuracies)
        margin = (top - bottom) * 0.08 or 0.05
        return cls(width, height, ends, (max(0.0, bottom - margin), min(1.0, top + margin)), logarithmic)

    def x(self, cost: float) -> float:
        low, high = self.costs
        share = math.log(max(cost, low) / low) / math.log(high / low) if self.logarithmic else (cost - low) / (high - low)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, accuracy: float) -> float:
        low, high = self.accuracies
        return self.height - self.bottom - (accuracy - low) / (high - low) * (self.height - self.top - self.bottom)


@dataclass(frozen=True, slots=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom

    def holds(self, x: float, y: float) -> bool:
        return self.left < x < self.right and self.top < y < self.bottom


def number(value: float) -> str:
    """Three digits that matter, with thousands kept apart: 0.0125, 4.58, 203, 12,345. Less than a millionth is 0: it is rounding."""
    if not math.isfinite(value):
        return "–"
    if abs(value) < 1e-6:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    shown = f"{value:,.{digits}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def ticks(low: float, high: float, logarithmic: bool = False, most: int = 7) -> list[float]:
    """Round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten, at most `most` of them."""
    if logarithmic:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
            if len(found) <= most:
                return found
        return found[:: math.ceil(len(found) / most)]
    raw = (high - low) / (most - 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= raw)
    return [place * step for place in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def cost_quality(width: int, height: int, lines: Sequence[Line], models: Sequence[Point], oracle: Point) -> str:
    """Cost against accuracy: models as points with labels that do not overlap, lines, the oracle as a star, and a marker for the slider.

    Where the labels do not fit, or a narrow plot has many, points bear numbers in the order of `models`; the svg then has the class
    `numbered`.
    """
    costs = [oracle.cost, *(m.cost for m in models), *(cost for line in lines for cost, _ in line.corners)]
    accuracies = [oracle.accuracy, *(m.accuracy for m in models), *(accuracy for line in lines for _, accuracy in line.corners)]
    frame = Frame.around(width, height, costs, accuracies)
    paths = [(line, _samples(frame, line.corners)) for line in lines]
    marks = [(frame.x(m.cost), frame.y(m.accuracy)) for m in [*models, oracle]]
    shown = [place for _, points in paths for place in points]
    names = [*(m.name for m in models), oracle.name]
    boxes = None if width < 500 and len(models) > 5 else labels(frame, marks, names, shown)
    numbered = boxes is None
    if boxes is None:
        names = [*(str(place) for place in range(1, len(models) + 1)), oracle.name]
        boxes = labels(frame, marks, names, shown, must=True)
    low, high = frame.costs
    data = (
        f'data-plot data-left="{frame.left}" data-right="{width - frame.right}" '
        f'data-top="{frame.top}" data-bottom="{height - frame.bottom}" '
        f'data-low="{low!r}" data-high="{high!r}" data-floor="{frame.accuracies[0]!r}" data-ceiling="{frame.accuracies[1]!r}" '
        f'data-log="{int(frame.logarithmic)}"'
    )
    parts = [f'<svg viewBox="0 0 {width} {height}" class="plot{" numbered" if numbered else ""}" role="img" {data}>']
    parts += ["<title>Accuracy against cost: single models, routers, coin tosses and the oracle</title>", *_axes(frame)]
    for line, points in paths:
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f'<path class="hull {line.kind}" data-hull="{escape(line.name)}" d="{path}"><title>{escape(line.name)}</title></path>')
    for (x, y), model in zip(marks, models, strict=False):
        parts.append(f'<circle class="model" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(_told(model))}</title></circle>')
    x, y = marks[-1]
    parts.append(f'<path class="oracle" d="{_star(x, y, 7)}"><title>{escape(_told(oracle))}</title></path>')
    for (x, y), name, box in zip(marks, names, boxes or [], strict=True):
        parts += _label(x, y, name, box)
    parts.append('<circle class="here" r="7" cx="-50" cy="-50"></circle></svg>')
    return "".join(parts)


def _told(point: Point) -> str:
    return f"{point.name}: accuracy {point.accuracy:.3f}, {number(point.cost)} USD per million requests"


def _samples(frame: Frame, corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The line in pixels; between two corners what a coin gives, which is bent where the axis is logarithmic."""
    found = [(frame.x(corners[0][0]), frame.y(corners[0][1]))]
    for (cost, accuracy), (after, better) in pairwise(corners):
        for step in range(1, 13):
            share = step / 12
            found.append((frame.x(cost + share * (after - cost)), frame.y(accuracy + share * (better - accuracy))))
    return found


def _axes(frame: Frame) -> list[str]:
    end, floor = frame.width - frame.right, frame.height - frame.bottom
    parts = []
    for value in ticks(*frame.accuracies):
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{frame.left} {y:.1f}H{end}"/>')
        parts.append(f'<text class="tick" x="{frame.left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for value in ticks(*frame.costs, logarithmic=frame.logarithmic, most=max(3, frame.width // 95)):
        x = frame.x(value)
        parts.append(f'<path class="grid" d="M{x:.1f} {frame.top}V{floor}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{number(value)}</text>')
    kind = " (logarithmic)" if frame.logarithmic else ""
    middle = (frame.left + end) / 2
    parts.append(f'<text class="axis" x="{middle:.0f}" y="{frame.height - 8}" text-anchor="middle">USD per million requests{kind}</text>')
    parts.append(f'<text class="axis" x="{frame.left + 4}" y="{frame.top + 10}">accuracy</text>')
    return parts


def labels(
    frame: Frame, marks: Sequence[tuple[float, float]], names: Sequence[str], lines: Sequence[tuple[float, float]], must: bool = False
) -> list[Box] | None:
    """A box for each mark's name that meets no other box and no mark, and few of the places in `lines`. None if one finds no room;
    with `must` such a one lies where it disturbs least.
    """
    title = Box(frame.left, frame.top, frame.left + 60, frame.top + 14)
    placed: dict[int, Box] = {}
    for place in sorted(range(len(marks)), key=lambda place: -len(names[place])):
        width, (x, y) = len(names[place]) * 11.5 * GLYPH + 4, marks[place]
        best: tuple[float, Box] | None = None
        for far in (8, 14, 24, 38, 54):
            for side, lift in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1)):
                left = x + far if side == 1 else x - far - width if side == -1 else x - width / 2
                top = y - 7 + lift * (far if side else far + 5)
                box = Box(left, top, left + width, top + 14)
                inside = frame.left <= box.left and box.right <= frame.width - 2 and frame.top <= box.top
                hard = 0 if inside and box.bottom <= frame.height - frame.bottom else 100
                hard += 10 * sum(box.meets(other) for other in [title, *placed.values()])
                hard += 10 * sum(box.meets(Box(a - 5, b - 5, a + 5, b + 5)) for a, b in marks)
                if hard and not must:
                    continue
                cost = hard + far / 10 + 1.5 * sum(box.holds(a, b) for a, b in lines)
                if best is None or cost < best[0]:
                    best = cost, box
        if best is None:
            return None
        placed[place] = best[1]
    return [placed[place] for place in range(len(marks))]


def _label(x: float, y: float, name: str, box: Box) -> list[str]:
    """The text in its box, and a thin line to its mark where the two are apart."""
    near = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
    parts = []
    if math.dist((x, y), near) > 16:
        parts.append(f'<path class="leader" d="M{x:.1f} {y:.1f}L{near[0]:.1f} {near[1]:.1f}"/>')
    parts.append(f'<text class="name" x="{box.left + 2:.1f}" y="{box.bottom - 3:.1f}">{escape(name)}</text>')
    return parts


def _star(x: float, y: float, size: float) -> str:
    corners = []
    for place in range(10):
        radius = size if place % 2 == 0 else size * 0.45
        angle = math.pi * place / 5 - math.pi / 2
        corners.append(f"{x + radius * math.cos(angle):.1f} {y + radius * math.sin(angle):.1f}")
    return "M" + "L".join(corners) + "Z"


def calibration_plot(bins: Sequence[Sequence[float]]) -> str:
    """Expected against true score, a dot a bin [expected, score, pairs]; the diagonal is a router that can be taken at its word."""
    frame = Frame(320, 300, (0.0, 1.0), (0.0, 1.0), False)
    parts = [f'<svg viewBox="0 0 {frame.width} {frame.height}" class="plot small" role="img"><title>Expected against true score</title>']
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = frame.x(value), frame.y(value)
        parts.append(f'<path class="grid" d="M{frame.left} {y:.1f}H{frame.width - frame.right}M{x:.1f} {frame.top}V{frame.y(0):.1f}"/>')
        parts.append(f'<text class="tick" x="{frame.left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{frame.y(0) + 16:.1f}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<path class="hull zero" d="M{frame.x(0):.1f} {frame.y(0):.1f}L{frame.x(1):.1f} {frame.y(1):.1f}"/>')
    path = "L".join(f"{frame.x(one[0]):.1f} {frame.y(one[1]):.1f}" for one in bins)
    parts.append(f'<path class="hull chosen" d="M{path}"/>')
    for expected, score, pairs in bins:
        told = f"expected {expected:.3f}, true {score:.3f}, {pairs:,} pairs"
        parts.append(f'<circle class="bin" cx="{frame.x(expected):.1f}" cy="{frame.y(score):.1f}" r="4"><title>{told}</title></circle>')
    parts.append(f'<text class="axis" x="183" y="{frame.height - 8}" text-anchor="middle">expected score</text>')
    parts.append(f'<text class="axis" x="{frame.left + 4}" y="{frame.top + 10}">true score</text></svg>')
    return "".join(parts)


def interval_bar(value: float, interval: Sequence[float], reach: float) -> str:
    """A dot with its interval about a line at 0; the axis goes from -`reach` to `reach`. Empty if the interval is not known."""
    if not all(math.isfinite(end) for end in (value, *interval)) or reach <= 0:
        return ""
    x, low, high = (75 + 70 * min(1.0, max(-1.0, end / reach)) for end in (value, *interval))
    kind = "good" if interval[0] > 0 else "bad" if interval[1] < 0 else "even"
    return (
        f'<svg viewBox="0 0 150 16" class="bar {kind}" aria-hidden="true"><path class="middle" d="M75 0V16"/>'
        f'<path class="span" d="M{low:.1f} 8H{high:.1f}"/><circle cx="{x:.1f}" cy="8" r="4"/></svg>'
    )


def share_bar(share: float) -> str:
    """A bar as long as a share in [0, 1]."""
    return (
        '<svg viewBox="0 0 150 12" class="bar" aria-hidden="true"><rect class="rail" width="150" height="12" rx="3"/>'
        f'<rect class="fill" width="{150 * share:.1f}" height="12" rx="3"/></svg>'
    )
