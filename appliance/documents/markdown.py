"""A document as Markdown (CommonMark, with the tables of GFM). Whatever a name holds, it stays text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from appliance.documents.blocks import Block, Document, Listing, Pairs, Picture, Table, Text
from appliance.documents.words import when

_MARKS = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")


def written(document: Document) -> bytes:
    """UTF-8."""
    parts = [
        f"# {_plain(document.title)}",
        "",
        f"{_plain(document.subject)}",
        "",
        f"As of {_plain(when(document.made_ns, ZoneInfo(document.zone)))}.",
        "",
    ]
    for section in document.sections:
        parts += [f"## {_plain(section.heading)}", ""]
        for block in section.blocks:
            parts += [*_lines(block), ""]
    return ("\n".join(parts).rstrip() + "\n").encode()


def _lines(block: Block) -> Iterator[str]:
    match block:
        case Text():
            yield _plain(block.text)
        case Listing():
            yield from (f"- {_plain(one)}" for one in block.points)
        case Pairs():
            yield from _rows(("", ""), block.pairs, frozenset())
        case Table():
            yield f"**{_plain(block.caption)}**"
            yield ""
            if block.rows:
                yield from _rows(block.head, block.rows, block.numbers)
            else:
                yield _plain(block.empty)
        case Picture():
            yield f"*{_plain(block.caption)}.* {_plain(block.alt)}"


def _rows(head: tuple[str, ...], rows: tuple[tuple[str, ...], ...], numbers: frozenset[int]) -> Iterator[str]:
    yield f"| {' | '.join(map(_plain, head))} |"
    yield f"| {' | '.join('---:' if place in numbers else '---' for place in range(len(head)))} |"
    yield from (f"| {' | '.join(map(_plain, row))} |" for row in rows)


def _plain(text: str) -> str:
    """In one line, without anything that Markdown or a terminal would take for more than text."""
    return _MARKS.sub(r"\\\1", " ".join("".join(c if c.isprintable() else " " for c in text).split()))
