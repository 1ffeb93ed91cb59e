"""The routing table as it is written, made anew only where a row changed: a box may have thousands of lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel

from appliance.catalog import (
    acknowledgements,
    closing,
    closingtables,
    linerows,
    purposes,
    state,
    tables,
    tenants,
)
from appliance.model.routing import Line


class RoutingText:
    """Remembers of each row what it was made into. For one caller at a time."""

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns  # who is barred depends on when it is
        self._kept: dict[tuple[str, ...], tuple[tuple[Any, ...], str]] = {}

    def of(self, connection: sa.Connection) -> tuple[int, str]:
        """Version and JSON of a `RoutingTable`."""
        kept = self._kept
        self._kept = {}

        def some(query: sa.Select[Any], key: Callable[[Any], tuple[str, ...]], make: Any) -> str:
            # All at once: fetched one by one they take three times as long.
            return ",".join(self._parts(kept, connection.execute(query).all(), key, make))

        lines, people = tables.lines, tables.tenants
        version = state.get_int(connection, tenants.VERSION)
        closed = closing.closed_lines(connection)
        ends = closingtables.closings

        def line_of(row: Any) -> Line:
            return linerows.line_of(row).model_copy(update={"closed": _is_closed(row, closed)})

        texts = (
            some(
                sa.select(people).order_by(people.c.create_ns, people.c.id),
                lambda row: ("tenant", row.id),
                tenants.tenant_of,
            ),
            some(
                sa.select(*linerows.COLUMNS).order_by(lines.c.create_ns, lines.c.id),
                lambda row: ("closed" if closed and _is_closed(row, closed) else "line", row.id),
                line_of,
            ),
            some(
                sa.select(purposes.table).order_by(purposes.table.c.tenant_id, purposes.table.c.ordinal),
                lambda row: ("purpose", row.tenant_id, row.id),
                purposes.purpose_of,
            ),
            some(
                sa.select(ends).order_by(ends.c.tenant_id, ends.c.line_id),
                lambda row: ("closing", row.tenant_id, row.line_id),
                closing.of,
            ),
            ",".join(one.model_dump_json() for one in acknowledgements.barred(connection, self._clock_ns())),
        )
        names = ("tenants", "lines", "purposes", "closings", "barred")
        parts = ",".join(f'"{name}":[{text}]' for name, text in zip(names, texts, strict=True))
        return version, f'{{"version":{version},{parts}}}'

    def _parts(
        self,
        kept: dict[tuple[str, ...], tuple[tuple[Any, ...], str]],
        rows: Iterable[Any],
        key: Callable[[Any], tuple[str, ...]],
        make: Callable[[Any], BaseModel],
    ) -> Iterable[str]:
        fresh = self._kept
        for row in rows:
            name, content = key(row), tuple(row)
            known = kept.get(name)
            if known is None or known[0] != content:
                known = (content, make(row).model_dump_json())
            fresh[name] = known
            yield known[1]


def _is_closed(row: Any, closed: set[tuple[str, str]]) -> bool:
    return (row.tenant_id, "") in closed or (row.tenant_id, row.id) in closed
