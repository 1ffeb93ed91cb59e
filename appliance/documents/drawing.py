"""Pictures of a few shapes, which HTML has as SVG and PDF draws with its own: lengths are in hundredths of the width."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Final

GOOD: Final = "#2e7d5b"
FAIR: Final = "#d9a400"
BAD: Final = "#b3261e"
NONE: Final = "#c9ced6"
INK: Final = "#1c2430"
ACCENT: Final = "#2f5d9b"


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Filled. `title`: what it stands for, shown where the form can."""

    x: float
    y: float
    width: float
    height: float
    color: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """Text on a base line; `align`: start, middle or end."""

    x: float
    y: float
    text: str
    size: float = 1.9
    align: str = "start"


@dataclass(frozen=True, slots=True)
class Line:
    """Thin."""

    x1: float
    y1: float
    x2: float
    y2: float
    color: str = INK


Shape = Rectangle | Label | Line


@dataclass(frozen=True)
class Drawing:
    """`height` at a width of 100."""

    height: float
    shapes: tuple[Shape, ...]


def drawing(height: float, shapes: Iterable[Shape]) -> Drawing:
    return Drawing(height, tuple(shapes))


def svg(picture: Drawing, alt: str) -> str:
    """As an element for HTML: nothing is loaded from anywhere."""
    parts = [
        f'<svg viewBox="0 0 100 {_n(picture.height)}" role="img" aria-label="{escape(alt)}">',
        f"<title>{escape(alt)}</title>",
    ]
    for one in picture.shapes:
        match one:
            case Rectangle():
                told = f"<title>{escape(one.title)}</title>" if one.title else ""
                parts.append(
                    f'<rect x="{_n(one.x)}" y="{_n(one.y)}" width="{_n(one.width)}" height="{_n(one.height)}"'
                    f' fill="{one.color}">{told}</rect>'
                )
            case Label():
                parts.append(
                    f'<text x="{_n(one.x)}" y="{_n(one.y)}" font-size="{_n(one.size)}"'
                    f' text-anchor="{one.align}" fill="{INK}">{escape(one.text)}</text>'
                )
            case Line():
                parts.append(
                    f'<line x1="{_n(one.x1)}" y1="{_n(one.y1)}" x2="{_n(one.x2)}" y2="{_n(one.y2)}"'
                    f' stroke="{one.color}" stroke-width="0.15"/>'
                )
    return "".join((*parts, "</svg>"))


def _n(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
