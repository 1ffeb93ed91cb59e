"""A column held against many values, as one parameter: the statement stays the same, however many there are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY


def among(
    connection: sa.Connection, column: sa.Column[Any], found: Sequence[int] | Sequence[str]
) -> sa.ColumnElement[bool]:
    """Whether the column is one of these."""
    if not found:
        return sa.false()
    if connection.dialect.name == "sqlite":
        each = sa.func.json_each(json.dumps(list(found))).table_valued("value")
        return column.in_(sa.select(each.c.value))
    return column == sa.any_(sa.literal(list(found), ARRAY(column.type)))
