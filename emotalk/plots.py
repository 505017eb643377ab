"""Small plots as inline SVG, drawn from numbers; colours come from the style sheet of the page around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

WIDTH = 420  # of the drawing; about as wide as a telephone, so that text keeps its size there
SERIES = ("s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8")  # classes with colours
STYLE = """
svg.plot{width:100%;max-width:560px;height:auto;display:block;font:11px system-ui,sans-serif}
.plot text{fill:var(--ink)}.plot .axis{stroke:var(--faint);stroke-width:1}.plot .soft{fill:var(--soft)}
.plot .line{fill:none;stroke-width:1.6}
.s1{stroke:#2f6fde;fill:#2f6fde}.s2{stroke:#d9822b;fill:#d9822b}.s3{stroke:#4c9a52;fill:#4c9a52}.s4{stroke:#b0479e;fill:#b0479e}
.s5{stroke:#8a6d3b;fill:#8a6d3b}.s6{stroke:#1fa3a3;fill:#1fa3a3}.s7{stroke:#c0392b;fill:#c0392b}.s8{stroke:#7f8c8d;fill:#7f8c8d}
.plot .bar,.plot .dot{stroke:none}
"""


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str, *, dots: bool = False
) -> str:
    """Curves over a common axis; a legend names them."""
    kept = {name: list(points) for name, points in series.items() if len(points)}
    xs = [x for points in kept.values() for x, _ in points]
    ys = [y for points in kept.values() for _, y in points]
    if not xs:
        return ""
    low, high = min(0.0, min(ys)), max(ys)
    x0, x1 = min(xs), max(xs)
    left, top, right, bottom = 44, 8 + 15 * legend_rows(list(kept)), 8, 30
    height = top + 130 + bottom
    x_scale = (WIDTH - left - right) / max(x1 - x0, 1e-9)
    y_scale = 130 / max(high - low, 1e-9)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - x0) * x_scale, top + 130 - (y - low) * y_scale

    parts = [legend(list(kept)), *_y_axis(low, high, left, top, 130)]
    for value in ticks(x0, x1):
        x, _ = place(value, low)
        parts.append(f'<text x="{x:.1f}" y="{height - 16}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<text x="{WIDTH - right}" y="{height - 3}" text-anchor="end">{escape(x_label)}</text>')
    parts.append(f'<text x="2" y="{height - 3}">{escape(y_label)}</text>')
    for colour, points in zip(_colours(), kept.values(), strict=False):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline class="line {colour}" style="fill:none" points="{path}"/>')
        if dots:
            parts += [
                f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
                for x, y in (place(*point) for point in points)
            ]
    return _svg(parts, height, f"{y_label} over {x_label}: {', '.join(kept)}")


def bars(rows: Sequence[str], series: Mapping[str, Sequence[float | None]], label: str, digits: int = 2) -> str:
    """Horizontal bars: for every row one bar per series; None leaves a gap."""
    names = list(series)
    values = [value for column in series.values() for value in column if value is not None]
    if not values:
        return ""
    high = max(*values, 1e-9) if len(values) > 1 else max(values[0], 1e-9)
    left, thick, gap = min(150, 14 + 6 * max(map(len, rows))), 9, 8
    top = 8 + 15 * legend_rows(names)
    step = thick * len(names) + gap
    height = top + step * len(rows) + 18
    parts = [legend(names)]
    for row, name in enumerate(rows):
        y = top + row * step
        parts.append(f'<text x="{left - 6}" y="{y + step / 2}" text-anchor="end">{escape(name)}</text>')
        for number, (colour, column) in enumerate(zip(_colours(), series.values(), strict=False)):
            value = column[row]
            if value is None:
                continue
            width = max(0.0, value) / high * (WIDTH - left - 50)
            at = y + number * thick
            parts.append(f'<rect class="bar {colour}" x="{left}" y="{at}" width="{width:.1f}" height="{thick - 1}"/>')
            parts.append(f'<text x="{left + width + 4:.1f}" y="{at + thick - 1}">{value:.{digits}f}</text>')
    parts.append(f'<text x="{WIDTH - 8}" y="{height - 4}" text-anchor="end">{escape(label)}</text>')
    return _svg(parts, height, f"{label}: {', '.join(rows)}")


def matrix(names: Sequence[str], counts: np.ndarray, rows: str, columns: str) -> str:
    """A confusion matrix; every row is coloured by its own shares, the cell says the count."""
    left, top = 96, 76
    side = (WIDTH - left - 8) / len(names)
    height = top + side * len(names) + 18
    parts = [f'<text x="2" y="{top - 6}">{escape(rows)}</text>']
    parts.append(f'<text x="{WIDTH - 8}" y="{height - 4}" text-anchor="end">{escape(columns)}</text>')
    for i, name in enumerate(names):
        middle = (i + 0.5) * side
        parts.append(f'<text x="{left - 6}" y="{top + middle + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        turned = f'transform="translate({left + middle + 3:.1f},{top - 6}) rotate(-60)"'
        parts.append(f"<text {turned}>{escape(name)}</text>")
        total = max(int(counts[i].sum()), 1)
        for j in range(len(names)):
            share = counts[i, j] / total
            x, y = left + j * side, top + i * side
            parts.append(f'<rect class="soft" x="{x:.1f}" y="{y:.1f}" width="{side - 1:.1f}" height="{side - 1:.1f}"/>')
            parts.append(
                f'<rect class="bar s1" fill-opacity="{share:.2f}" x="{x:.1f}" y="{y:.1f}" width="{side - 1:.1f}" '
                f'height="{side - 1:.1f}"/>'
            )
            if counts[i, j]:
                at = f'x="{x + side / 2:.1f}" y="{y + side / 2 + 4:.1f}"'
                parts.append(f'<text {at} text-anchor="middle">{int(counts[i, j])}</text>')
    return _svg(parts, height, f"confusion matrix, {rows}, {columns}")


def ticks(low: float, high: float) -> list[float]:
    """About four round numbers between two values."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10.0 ** np.floor(np.log10(span / 3))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (factor * step) <= 4)
    first = int(np.ceil(low / step - 1e-9))
    return [round(i * step, 10) for i in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def legend_rows(names: Sequence[str]) -> int:
    """Rows that the legend takes."""
    return max((row for row, _ in _legend_places(names)), default=-1) + 1


def legend(names: Sequence[str]) -> str:
    """Coloured squares with names, wrapped to the width."""
    parts = []
    for colour, name, (row, x) in zip(_colours(), names, _legend_places(names), strict=False):
        y = 4 + 15 * row
        parts.append(f'<rect class="bar {colour}" x="{x}" y="{y}" width="9" height="9"/>')
        parts.append(f'<text x="{x + 13}" y="{y + 9}">{escape(name)}</text>')
    return "".join(parts)


def _legend_places(names: Sequence[str]) -> list[tuple[int, int]]:
    places, row, x = [], 0, 4
    for name in names:
        width = 26 + 6 * len(name)
        if x > 4 and x + width > WIDTH:
            row, x = row + 1, 4
        places.append((row, x))
        x += width
    return places


def _colours() -> tuple[str, ...]:
    return SERIES * 8


def _y_axis(low: float, high: float, left: int, top: int, tall: int) -> list[str]:
    parts = []
    for value in ticks(low, high):
        y = top + tall - (value - low) * tall / max(high - low, 1e-9)
        parts.append(f'<line class="axis" x1="{left}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 5}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    return parts


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    head = f'<svg class="plot" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
    return head + f"<title>{escape(title)}</title>" + "".join(parts) + "</svg>"
