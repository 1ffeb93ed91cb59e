"""Recordings in the catalogue: what the vault says is taken up here, and found again."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import tables, values
from appliance.catalog.errors import OrderError, RecordingNotFoundError
from appliance.catalog.filters import Node
from appliance.catalog.recording_filter import clause
from appliance.catalog.records import (
    Certificate,
    Description,
    Held,
    MarkRow,
    PartyRow,
    Recording,
    State,
    TrackRow,
    etag_of,
)
from appliance.model import Direction, MarkKind, Role

_r = tables.recordings
_CONTENT: Final = (
    tables.parties,
    tables.party_words,
    tables.tracks,
    tables.identifiers,
    tables.flags,
    tables.marks,
)
_ORDER: Final = {"start_time": _r.c.start_ns, "duration": _r.c.duration_ns, "size_bytes": _r.c.size}
_ORDER_TEXT = re.compile(r"\s*([a-z_]+)(?:\s+(asc|desc))?\s*")
_COMMON: Final = 4000  # rows of content from which on they are not gathered beforehand
_NOTHING: Final = Description(start_ns=0, end_ns=None)


@dataclasses.dataclass(frozen=True)
class Order:
    """By which field, and which way."""

    field: str = "start_time"
    descending: bool = True


def parse_order(text: str) -> Order:
    """An order_by: one field, "asc" or "desc" after it; empty: newest first. OrderError."""
    if not text.strip():
        return Order()
    found = _ORDER_TEXT.fullmatch(text)
    if found is None or found[1] not in _ORDER:
        raise OrderError(
            "should be one of " + ", ".join(_ORDER) + ', perhaps with "desc" after it', field="order_by"
        )
    return Order(found[1], found[2] == "desc")


def take(
    connection: sa.Connection,
    held: Held,
    position: int,
    description: Description | None,
    *,
    doubted: bool = False,
) -> tuple[State | None, bool]:
    """Take up what the vault says of a recording at a position of its journal.

    `description` None: what is known of the content stays; `doubted`: it is to be read again once it can be. Gives the
    state before (None: not known before) and whether the row changed. What is older than the row changes nothing, and
    erased stays erased.
    """
    row = connection.execute(
        sa.select(
            _r.c.state,
            _r.c.position,
            _r.c.etag,
            _r.c.described,
            _r.c.start_ns,
            _r.c.duration_ns,
            _r.c.call_id,
        ).where(_r.c.id == held.recording_id)
    ).first()
    before = None if row is None else State(row.state)
    if row is not None and (row.position > position or (before is State.ERASED and held.state is not before)):
        return before, False
    erased = held.state is State.ERASED
    fields: dict[str, Any] = {
        "position": position,
        "tenant_id": held.tenant_id,
        "line_id": held.line_id,
        "slice": held.slice,
        "state": held.state.value,
        "state_ns": held.since_ns,
        "state_reason": held.reason[:300],
        "size": 0 if erased else held.size,
        "whole": held.whole and not erased,
        "created_ns": held.created_ns,
    }
    start_ns = held.created_ns if row is None else row.start_ns
    replaced = True
    if erased:
        fields |= _columns(dataclasses.replace(_NOTHING, start_ns=held.created_ns))
        fields["described"] = False
    elif description is not None:
        fields |= _columns(description)
        fields["described"] = True
    elif row is None:
        fields |= _columns(dataclasses.replace(_NOTHING, start_ns=start_ns))
        fields["described"] = False
    else:
        replaced = False
        if doubted:
            fields["described"] = False
    known = {**(dict(row._mapping) if row is not None else {}), **fields}
    fields["etag"] = etag_of(
        held.recording_id,
        *(known[name] for name in ("state", "state_ns", "size", "start_ns", "duration_ns", "call_id")),
    )
    if row is None:
        newest = connection.execute(sa.select(sa.func.max(_r.c.seq))).scalar() or 0
        connection.execute(sa.insert(_r).values(id=held.recording_id, seq=newest + 1, **fields))
    else:
        connection.execute(sa.update(_r).where(_r.c.id == held.recording_id).values(**fields))
    if replaced:
        _replace_content(connection, held.recording_id, _NOTHING if erased else description or _NOTHING)
    if erased and held.certificate is not None:
        connection.execute(
            sa.delete(tables.tombstones).where(tables.tombstones.c.recording_id == held.recording_id)
        )
        connection.execute(
            sa.insert(tables.tombstones).values(
                recording_id=held.recording_id, **dataclasses.asdict(held.certificate)
            )
        )
    return before, row is None or row.etag != fields["etag"]


def drop_unheld(connection: sa.Connection, held: set[str], position: int) -> int:
    """Forget recordings that a whole list of the vault at `position` did not name. Gives how many. Tombstones stay."""
    known = (
        connection.execute(
            sa.select(_r.c.id).where(_r.c.position <= position, _r.c.state != State.ERASED.value)
        )
        .scalars()
        .all()
    )
    gone = [recording_id for recording_id in known if recording_id not in held]
    for recording_id in gone:
        for table in (*_CONTENT, tables.tombstones):
            connection.execute(sa.delete(table).where(table.c.recording_id == recording_id))
        connection.execute(sa.delete(_r).where(_r.c.id == recording_id))
    return len(gone)


def standing(connection: sa.Connection, recording_id: str) -> tuple[int, bool]:
    """The journal position a row stands for (-1: no row), and whether its content was read."""
    row = connection.execute(sa.select(_r.c.position, _r.c.described).where(_r.c.id == recording_id)).first()
    return (-1, False) if row is None else (row.position, row.described)


def newest(connection: sa.Connection) -> int:
    """Bounds a listing: recordings that come later have greater numbers."""
    return connection.execute(sa.select(sa.func.max(_r.c.seq))).scalar() or 0


def get(connection: sa.Connection, recording_id: str, tenant_id: str | None = None) -> Recording:
    """One recording, of this tenant where one is given; RecordingNotFoundError."""
    query = sa.select(_r).where(_r.c.id == recording_id)
    if tenant_id is not None:
        query = query.where(_r.c.tenant_id == tenant_id)
    row = connection.execute(query).first()
    if row is None:
        raise RecordingNotFoundError("no such recording", recording=recording_id)
    return _build(connection, [row], full=True)[0]


def search(
    connection: sa.Connection,
    *,
    tenant_id: str | None,
    where: Node | None,
    order: Order,
    limit: int,
    bound: int,
    after: tuple[int, str] | None = None,
    show_deleted: bool = False,
    full: bool = False,
) -> list[Recording]:
    """Recordings in order, at most `limit`, after the (value, id) of the last one of the page before."""
    column = _ORDER[order.field]
    # Sum and inequalities keep the planner from the indexes of these columns: the one of the order is the right one.
    query = sa.select(_r).where(_r.c.seq + 0 <= bound).limit(limit)
    if tenant_id is not None:
        query = query.where(_r.c.tenant_id == tenant_id)
    if not show_deleted:
        query = query.where(_r.c.state != State.DELETED.value, _r.c.state != State.ERASED.value)
    if where is not None:
        query = query.where(clause(where, lambda found: _is_common(connection, found)))
    if order.descending:
        query = query.order_by(column.desc(), _r.c.id.desc())
    else:
        query = query.order_by(column, _r.c.id)
    if after is not None:
        here = sa.tuple_(column, _r.c.id)
        there = sa.tuple_(sa.literal(after[0], sa.BigInteger), sa.literal(after[1], sa.String))
        query = query.where(here < there if order.descending else here > there)
    return _build(connection, connection.execute(query).all(), full=full)


def matching(
    connection: sa.Connection, *, tenant_id: str, where: Node, limit: int, after: str = ""
) -> list[str]:
    """Ids of a tenant's recordings that match and are not erased, in the order of their ids, after that one."""
    query = (
        sa.select(_r.c.id)
        .where(_r.c.tenant_id == tenant_id, _r.c.state != State.ERASED.value, _r.c.id > after)
        .where(clause(where, lambda found: _is_common(connection, found)))
        .order_by(_r.c.id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def _is_common(connection: sa.Connection, found: sa.Select[Any]) -> bool:
    """Whether there are more than a few thousand rows: asked by reading no more than that."""
    some = found.limit(_COMMON).subquery()
    return connection.execute(sa.select(sa.func.count()).select_from(some)).scalar() == _COMMON


def position_of(recording: Recording, order: Order) -> tuple[int, str]:
    """What `search` takes as `after`."""
    value = {
        "start_time": recording.start_ns,
        "duration": recording.duration_ns,
        "size_bytes": recording.size,
    }[order.field]
    return value, recording.recording_id


def _columns(description: Description) -> dict[str, Any]:
    return {
        "start_ns": description.start_ns,
        "end_ns": description.end_ns,
        "duration_ns": description.duration_ns,
        "call_id": description.call_id,
        "part": description.part,
        "direction": description.direction.value,
        "source": description.source,
        "sip_call_id": description.sip_call_id,
        "sha256": description.sha256,
    }


def _replace_content(connection: sa.Connection, recording_id: str, description: Description) -> None:
    for table in _CONTENT:
        connection.execute(sa.delete(table).where(table.c.recording_id == recording_id))
    rows: dict[sa.Table, list[dict[str, Any]]] = {
        tables.parties: [
            {
                "ordinal": ordinal,
                "aor": party.aor,
                "number": party.number,
                "number_tail": values.tail_of(party.number),
                "name": party.name,
                "role": party.role.value,
            }
            for ordinal, party in enumerate(description.parties)
        ],
        tables.party_words: [
            {"word": word, "ordinal": ordinal}
            for ordinal, party in enumerate(description.parties)
            for word in values.words_of(party.name)
        ],
        tables.tracks: [
            {"track": t.track, "label": t.label, "party": t.party, "encodings": list(t.encodings)}
            for t in description.tracks
        ],
        tables.identifiers: [
            {"value": value, "ordinal": ordinal} for ordinal, value in enumerate(description.identifiers)
        ],
        tables.flags: [{"flag": flag} for flag in description.flags],
        tables.marks: [
            {**dataclasses.asdict(mark), "kind": mark.kind.value, "ordinal": ordinal}
            for ordinal, mark in enumerate(description.marks)
        ],
    }
    for table, some in rows.items():
        if some:
            connection.execute(sa.insert(table), [{"recording_id": recording_id, **row} for row in some])


def _build(connection: sa.Connection, rows: Sequence[sa.Row[Any]], *, full: bool) -> list[Recording]:
    ids = [row.id for row in rows]

    def of(table: sa.Table, *order: sa.Column[Any]) -> dict[str, list[sa.Row[Any]]]:
        found: dict[str, list[sa.Row[Any]]] = defaultdict(list)
        if ids:
            query = sa.select(table).where(table.c.recording_id.in_(ids)).order_by(*order)
            for row in connection.execute(query):
                found[row.recording_id].append(row)
        return found

    some_parties = of(tables.parties, tables.parties.c.ordinal)
    some_tracks = of(tables.tracks, tables.tracks.c.track)
    some_marks = of(tables.marks, tables.marks.c.ordinal) if full else {}
    some_identifiers = of(tables.identifiers, tables.identifiers.c.ordinal)
    some_flags = of(tables.flags, tables.flags.c.flag)
    stones = of(tables.tombstones)
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
            certificate=_certificate(stones.get(row.id, ())),
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
