"""Recordings in the catalogue: what the vault says is taken up here, and found again."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import forgetting, paging, restrictions, reviewrules, tables, terms
from appliance.catalog.among import among
from appliance.catalog.building import build
from appliance.catalog.database import numbering_of
from appliance.catalog.errors import OrderError, RecordingNotFoundError
from appliance.catalog.filters import Node
from appliance.catalog.recording_filter import conditions
from appliance.catalog.records import Description, Held, Recording, State, etag_of
from appliance.catalog.searchtables import recording_tags

_r = tables.recordings
_ORDER: Final = {"start_time": _r.c.start_ns, "duration": _r.c.duration_ns, "size_bytes": _r.c.size}
_ORDER_TEXT = re.compile(r"\s*([a-z_]+)(?:\s+(asc|desc))?\s*")
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
            _r.c.seq,
            _r.c.tenant_id,
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
        fields |= columns(dataclasses.replace(_NOTHING, start_ns=held.created_ns))
        fields["described"] = False
    elif description is not None:
        fields |= columns(description)
        fields["described"] = True
    elif row is None:
        fields |= columns(dataclasses.replace(_NOTHING, start_ns=start_ns))
        fields["described"] = False
    else:
        replaced = False
        if doubted:
            fields["described"] = False
    if erased:
        forgetting.forget(connection, held.recording_id)
        restrictions.forget(connection, held.recording_id)
    known = {**(dict(row._mapping) if row is not None else {}), **fields}
    fields["etag"] = _etag(connection, held.recording_id, known)
    if row is None:
        seq = newest(connection) + 1
        connection.execute(sa.insert(_r).values(id=held.recording_id, seq=seq, **fields))
    else:
        seq = row.seq
        connection.execute(sa.update(_r).where(_r.c.id == held.recording_id).values(**fields))
    if erased:
        terms.put(connection, seq, held.tenant_id, set())  # what a damage left of another with this number
    elif replaced:
        content = description or _NOTHING
        _replace_content(connection, held.recording_id, content)
        found = terms.of_content(content, numbering_of(connection))
        terms.put(connection, seq, held.tenant_id, found | terms.of_additions(connection, held.recording_id))
        restrictions.meet(connection, held.recording_id, held.tenant_id, content)
        reviewrules.touched(connection, held.recording_id, held.tenant_id)
    elif row is not None and row.tenant_id != held.tenant_id:
        terms.move(connection, seq, held.tenant_id)
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


def drop_unheld(connection: sa.Connection, held: set[str], position: int) -> list[str]:
    """Forget recordings that a whole list of the vault at `position` did not name. Gives their ids. Tombstones stay."""
    known = (
        connection.execute(
            sa.select(_r.c.id).where(_r.c.position <= position, _r.c.state != State.ERASED.value)
        )
        .scalars()
        .all()
    )
    gone = [recording_id for recording_id in known if recording_id not in held]
    for recording_id in gone:
        forgetting.forget(connection, recording_id)
        connection.execute(
            sa.delete(tables.tombstones).where(tables.tombstones.c.recording_id == recording_id)
        )
        connection.execute(sa.delete(_r).where(_r.c.id == recording_id))
    forgetting.forget_orphans(connection)
    return gone


def refresh(connection: sa.Connection, recording_id: str) -> None:
    """After a change of notes or tags: its etag, and what it is found by."""
    row = connection.execute(sa.select(_r).where(_r.c.id == recording_id)).first()
    if row is not None:
        etag = _etag(connection, recording_id, dict(row._mapping))
        connection.execute(sa.update(_r).where(_r.c.id == recording_id).values(etag=etag))
        terms.refresh_additions(connection, recording_id)
        reviewrules.touched(connection, recording_id, row.tenant_id)


def _etag(connection: sa.Connection, recording_id: str, known: dict[str, Any]) -> str:
    tags = connection.execute(
        sa.select(recording_tags.c.folded)
        .where(recording_tags.c.recording_id == recording_id)
        .order_by(recording_tags.c.folded)
    ).scalars()
    names = ("state", "state_ns", "size", "start_ns", "duration_ns", "call_id")
    return etag_of(recording_id, *(known[name] for name in names), *tags)


def standing(connection: sa.Connection, recording_id: str) -> tuple[int, bool]:
    """The journal position a row stands for (-1: no row), and whether its content was read."""
    row = connection.execute(sa.select(_r.c.position, _r.c.described).where(_r.c.id == recording_id)).first()
    return (-1, False) if row is None else (row.position, row.described)


def state_of(connection: sa.Connection, recording_id: str) -> State | None:
    """None: no row."""
    found = connection.execute(sa.select(_r.c.state).where(_r.c.id == recording_id)).scalar()
    return None if found is None else State(found)


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
    return build(connection, [row], full=True)[0]


def of_ids(connection: sa.Connection, ids: Sequence[str]) -> list[Recording]:
    """Some recordings in full, in the order of their ids; of ids that are not known, nothing."""
    query = sa.select(_r).where(among(connection, _r.c.id, ids)).order_by(_r.c.id)
    return build(connection, connection.execute(query).all(), full=True) if ids else []


def get_all(connection: sa.Connection, ids: Sequence[str], tenant_id: str) -> list[Recording]:
    """Recordings of a tenant in full, in the order asked for; RecordingNotFoundError where one is not there."""
    found = {row.recording_id: row for row in of_ids(connection, ids) if row.tenant_id == tenant_id}
    for each in ids:
        if each not in found:
            raise RecordingNotFoundError("no such recording", recording=each)
    return [found[each] for each in ids]


def get_described(connection: sa.Connection, recording_id: str) -> Recording | None:
    """A recording whose content is known; None where it is not."""
    row = connection.execute(sa.select(_r).where(_r.c.id == recording_id, _r.c.described.is_(True))).first()
    return None if row is None else build(connection, [row], full=True)[0]


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
    among: sa.Select[tuple[str]] | None = None,
) -> list[Recording]:
    """Recordings in order, at most `limit`, after the (value, id) of the last one of the page before.

    `among`: only those with these ids.
    """
    column = _ORDER[order.field]
    # Sum and inequalities keep the planner from the indexes of these columns: the one of the order is the right one.
    query = sa.select(_r).where(_r.c.seq + 0 <= bound, *conditions(connection, tenant_id, where)).limit(limit)
    if among is not None:
        query = query.where(_r.c.id.in_(among))
    if not show_deleted:
        query = query.where(_r.c.state != State.DELETED.value, _r.c.state != State.ERASED.value)
    if order.descending:
        query = query.order_by(column.desc(), _r.c.id.desc())
    else:
        query = query.order_by(column, _r.c.id)
    query = paging.beyond(query, column, _r.c.id, after, newest_first=order.descending)
    return build(connection, connection.execute(query).all(), full=full)


def matching(
    connection: sa.Connection,
    *,
    tenant_id: str,
    where: Node | None,
    limit: int,
    after: str = "",
    bound: int | None = None,
) -> list[str]:
    """Ids of a tenant's recordings that match and are not erased, in the order of their ids, after that one.

    `bound`: only those that had come by then (`newest`).
    """
    query = _matching(connection, sa.select(_r.c.id), tenant_id, where, bound)
    return list(connection.execute(query.where(_r.c.id > after).order_by(_r.c.id).limit(limit)).scalars())


def count_matching(connection: sa.Connection, *, tenant_id: str, where: Node | None) -> int:
    """How many `matching` gives in all."""
    query = _matching(connection, sa.select(sa.func.count()).select_from(_r), tenant_id, where, None)
    return int(connection.execute(query).scalar() or 0)


def _matching(
    connection: sa.Connection, query: sa.Select[Any], tenant_id: str, where: Node | None, bound: int | None
) -> sa.Select[Any]:
    query = query.where(_r.c.state != State.ERASED.value, *conditions(connection, tenant_id, where))
    return query if bound is None else query.where(_r.c.seq + 0 <= bound)


def position_of(recording: Recording, order: Order) -> tuple[int, str]:
    """What `search` takes as `after`."""
    value = {
        "start_time": recording.start_ns,
        "duration": recording.duration_ns,
        "size_bytes": recording.size,
    }[order.field]
    return value, recording.recording_id


def columns(description: Description) -> dict[str, Any]:
    """What a description becomes in the recording's own row."""
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
    for table in forgetting.CONTENT:
        connection.execute(sa.delete(table).where(table.c.recording_id == recording_id))
    for table, some in content_rows(description).items():
        if some:
            connection.execute(sa.insert(table), [{"recording_id": recording_id, **row} for row in some])


def content_rows(description: Description) -> dict[sa.Table, list[dict[str, Any]]]:
    """What a description becomes in the tables that belong to a recording, but for whose it is."""
    return {
        tables.parties: [
            {
                "ordinal": ordinal,
                "aor": party.aor,
                "number": party.number,
                "name": party.name,
                "role": party.role.value,
            }
            for ordinal, party in enumerate(description.parties)
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
