"""A document, before it has a form: a title, what it says of itself, and sections of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.documents.drawing import Drawing

UNKNOWN = "not known"
MAX_ROWS = 300


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Listing:
    """Points, one below the other."""

    points: tuple[str, ...]


@dataclass(frozen=True)
class Pairs:
    """What is said of what."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """Rows under a head. `numbers`: columns that are set to the right. `empty`: what is said where there are no rows."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    empty: str = "None."


@dataclass(frozen=True)
class Picture:
    """A drawing, and what it shows, in words, for who does not see it."""

    drawing: Drawing
    caption: str
    alt: str


Block = Text | Listing | Pairs | Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it."""

    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """All of it. `made_ns`: the time of which it tells; `zone`: of all times in it."""

    title: str
    subject: str
    made_ns: int
    zone: str
    sections: tuple[Section, ...]
    language: str = "en"


def pairs(*some: tuple[str, str]) -> Pairs:
    return Pairs(tuple(some))


def listing(some: Sequence[str]) -> Listing:
    return Listing(tuple(some))


def table(
    caption: str, head: str, rows: Sequence[Sequence[str]], *, most: int = MAX_ROWS, empty: str = "None."
) -> Table:
    """`head`: names of columns, parted by bars; one that begins with > is of numbers. `most`: rows shown."""
    names = [one.strip() for one in head.split("|")]
    numbers = frozenset(place for place, name in enumerate(names) if name.startswith(">"))
    shown = [tuple(row) for row in rows[:most]]
    if len(rows) > most:
        more = f"and {len(rows) - most} more"
        shown.append((more, *[""] * (len(names) - 1)))
    return Table(caption, tuple(name.lstrip(">") for name in names), tuple(shown), numbers, empty)
