"""Plots: availability and completeness by day, reads by purpose."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.documents.drawing import (
    ACCENT,
    BAD,
    FAIR,
    GOOD,
    NONE,
    Drawing,
    Label,
    Line,
    Rectangle,
    Shape,
    drawing,
)
from appliance.documents.words import percent

FAIR_FROM = 0.99
_LEFT = 7.0


def color(ratio: float | None) -> str:
    """Green is all of it."""
    if ratio is None:
        return NONE
    return GOOD if ratio >= 1 else FAIR if ratio >= FAIR_FROM else BAD


def strip(days: Sequence[str], ratios: Sequence[float | None]) -> Drawing:
    """A bar a day, at full height: its colour says how much was there; what is missing is left open above it."""
    shapes: list[Shape] = []
    step = (100 - _LEFT) / max(1, len(days))
    gap = min(0.25, step * 0.12)
    height = 9.0
    for place, (day, ratio) in enumerate(zip(days, ratios, strict=True)):
        tall = height if ratio is None else max(0.4, height * ratio)
        told = f"{day}: {percent(ratio)}"
        shapes.append(
            Rectangle(_LEFT + place * step, 1 + height - tall, step - gap, tall, color(ratio), told)
        )
    shapes.append(Line(_LEFT, 1 + height, 100, 1 + height))
    shapes += [
        Label(_LEFT - 0.8, 2.4, "100 %", align="end"),
        Label(_LEFT - 0.8, 1 + height, "0 %", align="end"),
    ]
    every = max(1, -(-len(days) // 8))
    for place in range(0, len(days), every):
        x = _LEFT + place * step
        shapes.append(Line(x, 1 + height, x, 1.7 + height))
        shapes.append(Label(min(x, 91.0), 13.6, days[place]))
    return drawing(14.5, shapes)


def bars(rows: Sequence[tuple[str, int, int]]) -> Drawing:
    """A bar a row: its label, reads, and refusals behind them."""
    most = max((first + second for _, first, second in rows), default=0) or 1
    shapes: list[Shape] = []
    for place, (name, first, second) in enumerate(rows):
        y = place * 4.0
        width, more = 58 * first / most, 58 * second / most
        shapes.append(Label(27, y + 2.6, name if len(name) <= 24 else f"{name[:23]}…", align="end"))
        shapes.append(Rectangle(28, y + 0.8, width, 2.4, ACCENT, f"{name}: {first} read"))
        shapes.append(Rectangle(28 + width, y + 0.8, more, 2.4, BAD, f"{name}: {second} refused"))
        said = f"{first}" + (f", {second} refused" if second else "")
        shapes.append(Label(29 + width + more, y + 2.6, said))
    return drawing(max(4.0, 4.0 * len(rows)), shapes)
