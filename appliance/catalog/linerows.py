"""Rows of the table of lines as lines. A box may have thousands: a row that says what it said is not read anew.

The columns that hold JSON are fetched as texts, so that what is known already is found by comparing, not by decoding.
"""

from __future__ import annotations

import json
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import tables
from appliance.model.routing import Line

MOST: Final = 4096  # lines that are remembered
LETTERS: Final = 16_384  # of the texts of one that is
RULES: Final = frozenset(
    {"inline", "keys", "rights", "agents", "auto_resume_s", "reminder_s", "purposes", "listening"}
)
_l = tables.lines
_LISTS: Final = ("numbers", "trunks", "directions", "do_not_record")
_PLAIN: Final = ("id", "tenant_id", "display_name", "catch_all", "create_ns")
COLUMNS: Final = (
    *(_l.c[name] for name in _PLAIN),
    *(sa.cast(_l.c[name], sa.Text).label(name) for name in (*_LISTS, "rules")),
)
"""What a query has to select for `line_of`."""

_made: dict[str, tuple[tuple[Any, ...], Line]] = {}


def line_of(row: sa.Row[Any]) -> Line:
    """The line of a row of `COLUMNS`; the same object as before where nothing of it changed."""
    said = tuple(row)
    known = _made.get(said[0])
    if known is not None and known[0] == said:
        return known[1]
    rules = json.loads(row.rules)
    line = Line.model_validate(
        {
            **{name: value for name, value in rules.items() if name in RULES},
            "line_id": row.id,
            "tenant_id": row.tenant_id,
            "display_name": row.display_name,
            "catch_all": row.catch_all,
            "create_ns": row.create_ns,
            **{name: json.loads(getattr(row, name)) for name in _LISTS},
        }
    )
    if len(_made) >= MOST:
        _made.clear()
    if sum(len(text) for text in said[len(_PLAIN) :]) <= LETTERS:
        _made[line.line_id] = (said, line)
    else:
        _made.pop(line.line_id, None)  # what it was is not kept beside what it is
    return line


def remembers(line: Line) -> bool:
    """Whether the line's row, unchanged, is this very object again."""
    known = _made.get(line.line_id)
    return known is not None and known[1] is line


def columns_of(line: Line) -> dict[str, Any]:
    """What is written of a line, but for its id."""
    return {
        "tenant_id": line.tenant_id,
        "display_name": line.display_name,
        "numbers": list(line.numbers),
        "trunks": list(line.trunks),
        "catch_all": line.catch_all,
        "directions": [direction.value for direction in line.directions],
        "do_not_record": list(line.do_not_record),
        "create_ns": line.create_ns,
        "rules": line.model_dump(mode="json", include=set(RULES), exclude_defaults=True),
    }
