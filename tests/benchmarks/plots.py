"""Plots of measured points as SVG text: panels in rows of two or three, both axes logarithmic unless a panel says otherwise."""

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 330, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 56, 40
COLOURS = ("#1f5fa8", "#c4571b", "#3a8a4d", "#7a4fa3")
DASHES = ("", "6 3", "2 3", "8 3 2 3")


@dataclass(frozen=True)
class Line:
    """`points`: x -> (lowest, median, highest) over the rounds."""

    name: str
    points: dict


@dataclass(frozen=True)
class Panel:
    """`ceiling`: for a linear axis from 0 to it."""

    title: str
    lines: list
    ceiling: float | None = None


def short(value):
    """0.5, 1, 250, 4096, 16k, 2M"""
    if value == int(value) and value < 10_000:
        return str(int(value))
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def around(values):
    """Ends of a logarithmic axis with some room, at least a factor of 4 apart."""
    low, high = min(values) / 1.15, max(values) * 1.15
    if high / low < 4:
        middle = math.sqrt(low * high)
        low, high = middle / 2, middle * 2
    return low, high


def marks(low, high):
    """Round numbers on a logarithmic axis, fewer in each decade the more decades there are."""
    decades = math.log10(high / low)
    steps = (1,) if decades > 2.6 else (1, 2, 5) if decades > 1 else (1, 1.5, 2, 3, 5, 7)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [n * 10.0**power for power in powers for n in steps if low <= n * 10.0**power <= high]


def draw(title, x_title, panels, note=""):
    """The picture as SVG. `note`: a line below, on how to read it."""
    columns = 2 if len(panels) == 4 else 3
    width, below = WIDTH * columns, HEIGHT * -(-len(panels) // columns)
    height = below + (18 if note else 0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for place, panel in enumerate(panels):
        across, down = place % columns * WIDTH, place // columns * HEIGHT
        parts += [f'<g transform="translate({across} {down})">', *panel_parts(panel, x_title), "</g>"]
    if note:
        parts.append(f'<text x="{LEFT}" y="{below + 8}" font-size="10.5" fill="#555">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def panel_parts(panel, x_title):
    xs = [x for line in panel.lines for x in line.points]
    left, right = min(xs) / 1.1, max(xs) * 1.1
    tops = [high for line in panel.lines for _, _, high in line.points.values()]
    lows = [low for line in panel.lines for low, _, _ in line.points.values()]
    bottom, top = (0.0, panel.ceiling) if panel.ceiling else around([*lows, *tops])

    def at_x(value):
        return LEFT + math.log(value / left) / math.log(right / left) * (WIDTH - LEFT - RIGHT)

    def at_y(value):
        share = min(value, top) / top if panel.ceiling else math.log(value / bottom) / math.log(top / bottom)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    parts = [f'<text x="{LEFT}" y="16" font-size="12.5" font-weight="bold" fill="#222">{escape(panel.title)}</text>']
    for value in [top * n / 4 for n in range(5)] if panel.ceiling else marks(bottom, top):
        parts.append(f'<path d="M{LEFT} {at_y(value):.1f}H{WIDTH - RIGHT}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{at_y(value) + 4:.1f}" font-size="11" fill="#555" text-anchor="end">{short(value)}</text>')
    parts += x_axis(sorted(set(xs)), at_x, x_title)
    spot = LEFT
    for number, line in enumerate(panel.lines):
        parts += line_parts(line, at_x, at_y, number, spot)
        spot += 30 + 6.2 * len(line.name)
    return parts


def x_axis(xs, at_x, title):
    parts, last = [], -math.inf
    for value in xs:
        x = at_x(value)
        parts.append(f'<path d="M{x:.1f} {HEIGHT - BOTTOM}v4" stroke="#888"/>')
        if x - last > 31:
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" font-size="11" fill="#555" text-anchor="middle">{short(value)}</text>'
            )
            last = x
    parts.append(f'<path d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}" stroke="#888"/>')
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" font-size="11" fill="#222" text-anchor="middle">{escape(title)}</text>'
    )
    return parts


def line_parts(line, at_x, at_y, number, spot):
    """The line with its points, a thin bar from the lowest to the highest round, and its name above the panel."""
    colour, dash = COLOURS[number % 4], DASHES[number % 4]
    places = sorted(line.points.items())
    path = "L".join(f"{at_x(x):.1f} {at_y(median):.1f}" for x, (_, median, _) in places)
    style = f'stroke="{colour}" fill="none" stroke-width="1.8" stroke-dasharray="{dash}"'
    parts = [f'<path d="M{path}" {style}/>']
    for x, (low, median, high) in places:
        parts.append(f'<path d="M{at_x(x):.1f} {at_y(low):.1f}V{at_y(high):.1f}" stroke="{colour}" stroke-opacity=".45"/>')
        told = f"{line.name}, {short(x)}: {median:.4g} ({low:.4g} to {high:.4g})"
        parts.append(f'<circle cx="{at_x(x):.1f}" cy="{at_y(median):.1f}" r="2.8" fill="{colour}"><title>{escape(told)}</title></circle>')
    parts.append(f'<path d="M{spot} 35h18" {style}/>')
    parts.append(f'<text x="{spot + 22}" y="39" font-size="11" fill="#222">{escape(line.name)}</text>')
    return parts
