"""Tables of a hospital's other systems: CSV (RFC 4180) in UTF-8, bounded, read row by row. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from appliance.catalog.noticeerrors import TableUnreadableError

MAX_BYTES: Final = 900_000
MAX_ROWS: Final = 5000
MAX_COLUMNS: Final = 50
MAX_CELL: Final = 1000
_DIVIDERS: Final = (",", ";", "\t")


@dataclass(frozen=True)
class Row:
    """`number`: counted from 1 for the header. `cells`: by column, of those that the table has."""

    number: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a row; `reason` is a stable word."""

    row: int
    column: str
    reason: str
    message: str


def read(raw: bytes, known: Collection[str], needed: Collection[str], field: str = "csv") -> list[Row]:
    """Rows that say something. Columns that are not known are left alone. TableUnreadableError."""

    def wrong(message: str, **where: int) -> TableUnreadableError:
        return TableUnreadableError(message, field=field, **where)

    if not raw or len(raw) > MAX_BYTES:
        raise wrong(f"should be a table of at most {MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise wrong("is not UTF-8", row=raw.count(b"\n", 0, error.start) + 1) from None
    if "\0" in text:
        raise wrong("holds what no text does")
    first = text.split("\n", 1)[0]
    divider = max(_DIVIDERS, key=first.count)
    # A field is bounded by the bytes of all; strict: a quote that is not closed is told.
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=divider, strict=True)
    head: list[str] | None = None
    rows: list[Row] = []
    number = 0
    try:
        for cells in lines:
            number += 1
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > MAX_COLUMNS or any(len(cell) > MAX_CELL for cell in cells):
                raise wrong("has a row that is too long", row=number)
            if head is None:
                head = [cell.strip().lower() for cell in cells]
                twice = {one for one in known if head.count(one) > 1}
                lacking = [one for one in needed if one not in head]
                if twice or lacking:
                    raise wrong("should have a header with each of its columns once: " + ", ".join(known))
                continue
            if len(cells) > len(head):
                raise wrong("has a row with more cells than the header", row=number)
            if len(rows) == MAX_ROWS:
                raise wrong(f"should have at most {MAX_ROWS} rows", row=number)
            said = dict(zip(head, (cell.strip() for cell in cells), strict=False))
            rows.append(Row(number, {name: said.get(name, "") for name in known if name in head}))
    except csv.Error:
        raise wrong("is not CSV", row=number + 1) from None
    if head is None:
        raise wrong("has no header")
    return rows
