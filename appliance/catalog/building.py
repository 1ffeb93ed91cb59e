"""Rows of the catalogue made into records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from appliance.catalog import restrictions, tables
from appliance.catalog.among import among
from appliance.catalog.records import Certificate, MarkRow, PartyRow, Recording, State, TrackRow
from appliance.catalog.searchtables import recording_tags
from appliance.model import Direction, MarkKind, Role


def build(connection: sa.Connection, rows: Sequence[sa.Row[Any]], *, full: bool) -> list[Recording]:
    """Recordings of some rows, with what belongs to them; `full`: their marks, too."""
    ids = [row.id for row in rows]

    def of(table: sa.Table, *order: sa.Column[Any]) -> dict[str, list[sa.Row[Any]]]:
        found: dict[str, list[sa.Row[Any]]] = defaultdict(list)
        if ids:
            query = sa.select(table).where(among(connection, table.c.recording_id, ids)).order_by(*order)
            for row in connection.execute(query):
                found[row.recording_id].append(row)
        return found

    some_parties = of(tables.parties, tables.parties.c.ordinal)
    some_tracks = of(tables.tracks, tables.tracks.c.track)
    some_marks = of(tables.marks, tables.marks.c.ordinal) if full else {}
    some_identifiers = of(tables.identifiers, tables.identifiers.c.ordinal)
    some_flags = of(tables.flags, tables.flags.c.flag)
    some_tags = of(recording_tags, recording_tags.c.folded)
    some_restricted = restrictions.of(connection, ids)
    erased = any(row.state == State.ERASED.value for row in rows)
    stones = of(tables.tombstones) if erased else {}
    return [
        Recording(
            recording_id=row.id,
            tenant_id=row.tenant_id,
            line_id=row.line_id,
            slice=row.slice,
            state=State(row.state),
            state_ns=row.state_ns,
            state_reason=row.state_reason,
            etag=row.etag,
            size=row.size,
            whole=row.whole,
            described=row.described,
            start_ns=row.start_ns,
            end_ns=row.end_ns,
            duration_ns=row.duration_ns,
            call_id=row.call_id,
            part=row.part,
            direction=Direction(row.direction),
            source=row.source,
            sip_call_id=row.sip_call_id,
            sha256=row.sha256,
            parties=tuple(
                PartyRow(p.aor, p.number, p.name, Role(p.role)) for p in some_parties.get(row.id, ())
            ),
            tracks=tuple(
                TrackRow(t.track, t.label, t.party, tuple(t.encodings)) for t in some_tracks.get(row.id, ())
            ),
            marks=tuple(
                MarkRow(MarkKind(m.kind), m.at_ns, m.until_ns, m.actor, m.reason, m.track, m.data)
                for m in some_marks.get(row.id, ())
            ),
            identifiers=tuple(i.value for i in some_identifiers.get(row.id, ())),
            flags=tuple(f.flag for f in some_flags.get(row.id, ())),
            tags=tuple(t.tag for t in some_tags.get(row.id, ())),
            certificate=_certificate(stones.get(row.id, ())),
            restricted=row.id in some_restricted,
        )
        for row in rows
    ]


def _certificate(stones: Iterable[sa.Row[Any]]) -> Certificate | None:
    for stone in stones:
        return Certificate(
            stone.epoch,
            stone.erased_ns,
            stone.reason,
            stone.signature,
            stone.device_public_key,
            stone.version,
            stone.log_number,
            tuple(stone.replicas),
        )
    return None
