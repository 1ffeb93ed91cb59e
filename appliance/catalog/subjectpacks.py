"""Packs for people in the catalogue: what is made, what is there, what is to be destroyed."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import operations, paging
from appliance.catalog.database import erasing
from appliance.catalog.subjecterrors import SubjectPackNotFoundError, SubjectRequestLimitError
from appliance.catalog.subjecttables import subject_pack_recordings as contents
from appliance.catalog.subjecttables import subject_packs as table

MAX_OF_REQUEST: Final = 20  # that are made or there
KEEP_NS: Final = 1100 * 86400 * 10**9
_c = table.c


class State(enum.StrEnum):
    """Where a pack is. DESTROYING: nobody gets it any more, and its file is about to go."""

    MAKING = "making"
    READY = "ready"
    FAILED = "failed"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


_LIVE: Final = (State.MAKING.value, State.READY.value)


@dataclass(frozen=True)
class Pack:
    """A row. `secret`: the passphrase, sealed, as long as the pack is made."""

    pack_id: str
    request_id: str
    tenant_id: str
    operation_id: str
    create_ns: int
    creator: str
    keep_days: int
    secret: bytes | None = None
    state: State = State.MAKING
    size: int = 0
    sha256: str = ""
    expire_ns: int | None = None
    end_reason: str = ""
    downloads: int = 0


def check_room(connection: sa.Connection, request_id: str) -> None:
    """SubjectRequestLimitError where there are as many packs as may be."""
    query = sa.select(sa.func.count()).where(_c.request_id == request_id, _c.state.in_(_LIVE))
    if int(connection.execute(query).scalar_one()) >= MAX_OF_REQUEST:
        raise SubjectRequestLimitError("the request has as many packs as it may have", limit=MAX_OF_REQUEST)


def add(connection: sa.Connection, pack: Pack, recordings: Mapping[str, str]) -> None:
    """`recordings`: those in it, with the exception by which each is given although it is restricted."""
    fields = {name: value for name, value in pack.__dict__.items() if name != "pack_id"}
    connection.execute(sa.insert(table).values(id=pack.pack_id, **{**fields, "state": pack.state.value}))
    rows = [
        {"pack_id": pack.pack_id, "recording_id": one, "exception": why} for one, why in recordings.items()
    ]
    if rows:
        connection.execute(sa.insert(contents), rows)


def get(connection: sa.Connection, pack_id: str, tenant_id: str | None = None) -> Pack:
    """SubjectPackNotFoundError."""
    query = sa.select(table).where(_c.id == pack_id)
    if tenant_id is not None:
        query = query.where(_c.tenant_id == tenant_id)
    row = connection.execute(query).first()
    if row is None:
        raise SubjectPackNotFoundError("no such pack", pack=pack_id)
    return _pack(row)


def of_request(
    connection: sa.Connection, request_id: str, limit: int, after: tuple[int, str] | None = None
) -> list[Pack]:
    """Newest first, after that one."""
    query = sa.select(table).where(_c.request_id == request_id)
    query = paging.beyond(query, _c.create_ns, _c.id, after, newest_first=True)
    query = query.order_by(_c.create_ns.desc(), _c.id.desc()).limit(limit)
    return [_pack(row) for row in connection.execute(query)]


def recordings_in(connection: sa.Connection, pack_id: str) -> dict[str, str]:
    """Ids of the recordings in a pack, with the exception by which each is given although it is restricted."""
    query = sa.select(contents.c.recording_id, contents.c.exception).where(contents.c.pack_id == pack_id)
    return {
        row.recording_id: row.exception for row in connection.execute(query.order_by(contents.c.recording_id))
    }


def counts(connection: sa.Connection, pack_ids: list[str]) -> dict[str, int]:
    """How many recordings are in each."""
    query = sa.select(contents.c.pack_id, sa.func.count()).group_by(contents.c.pack_id)
    rows = connection.execute(query.where(contents.c.pack_id.in_(pack_ids)))
    return {row[0]: int(row[1]) for row in rows}


def ready(connection: sa.Connection, pack_id: str, size: int, sha256: str, expire_ns: int) -> bool:
    """Its file is there. False where it was destroyed while it was made. The passphrase is forgotten."""
    values = {
        "state": State.READY.value,
        "size": size,
        "sha256": sha256,
        "expire_ns": expire_ns,
        "secret": None,
    }
    where = (_c.id == pack_id, _c.state == State.MAKING.value)
    erasing(connection)  # of the passphrase
    return bool(connection.execute(sa.update(table).where(*where).values(**values)).rowcount)


def failed(connection: sa.Connection, pack_id: str, reason: str) -> None:
    """It could not be made. The passphrase is forgotten."""
    where = (_c.id == pack_id, _c.state == State.MAKING.value)
    values = {"state": State.FAILED.value, "end_reason": reason, "secret": None}
    connection.execute(sa.update(table).where(*where).values(**values))
    erasing(connection)  # of the passphrase


def destroy(connection: sa.Connection, pack_id: str, reason: str) -> None:
    """Nobody gets it any more, and its file goes. The passphrase is forgotten."""
    _destroy(connection, reason, _c.id == pack_id)


def forget_recording(connection: sa.Connection, recording_id: str) -> None:
    """It is erased: so is every pack that it is in."""
    inside = sa.select(contents.c.pack_id).where(contents.c.recording_id == recording_id)
    _destroy(connection, "RECORDING_ERASED", _c.id.in_(inside))


def live_clause() -> sa.ColumnElement[bool]:
    """For queries on what packs have in them: this pack is made or there."""
    return sa.exists().where(_c.id == contents.c.pack_id, _c.state.in_(_LIVE))


def expire(connection: sa.Connection, now_ns: int) -> None:
    """What is older than it was to become goes."""
    _destroy(connection, "EXPIRED", _c.expire_ns <= now_ns)


def _destroy(connection: sa.Connection, reason: str, *where: sa.ColumnElement[bool]) -> None:
    values = {"state": State.DESTROYING.value, "end_reason": reason, "secret": None}
    if connection.execute(sa.update(table).where(_c.state.in_(_LIVE), *where).values(**values)).rowcount:
        erasing(connection)  # of the passphrase


def to_destroy(connection: sa.Connection) -> list[Pack]:
    """Those whose files are about to go."""
    query = sa.select(table).where(_c.state == State.DESTROYING.value).order_by(_c.id).limit(100)
    return [_pack(row) for row in connection.execute(query)]


def destroyed(connection: sa.Connection, pack_id: str) -> None:
    """Its file is gone."""
    connection.execute(sa.update(table).where(_c.id == pack_id).values(state=State.DESTROYED.value))


def is_making(connection: sa.Connection, request_id: str) -> bool:
    """Whether a pack of the request is being made."""
    where = (_c.request_id == request_id, _c.state == State.MAKING.value)
    return connection.execute(sa.select(_c.id).where(*where).limit(1)).first() is not None


def abandoned(connection: sa.Connection) -> list[str]:
    """Ids of packs that nothing makes any more: their work was cancelled before it began, or ended by a fault."""
    running = sa.select(operations.table.c.id).where(
        operations.table.c.state == operations.State.RUNNING.value
    )
    query = sa.select(_c.id).where(_c.state == State.MAKING.value, _c.operation_id.not_in(running))
    return list(connection.execute(query).scalars())


def with_files(connection: sa.Connection) -> set[str]:
    """Ids of the packs that may have a file."""
    return set(connection.execute(sa.select(_c.id).where(_c.state.in_(_LIVE))).scalars())


def downloaded(connection: sa.Connection, pack_id: str) -> None:
    """A download was begun."""
    connection.execute(sa.update(table).where(_c.id == pack_id).values(downloads=_c.downloads + 1))


def prune(connection: sa.Connection, now_ns: int) -> int:
    """Forget what was destroyed long ago; gives how many."""
    ended = (State.FAILED.value, State.DESTROYED.value)
    old = sa.select(_c.id).where(_c.state.in_(ended), _c.create_ns < now_ns - KEEP_NS)
    connection.execute(sa.delete(contents).where(contents.c.pack_id.in_(old)))
    return connection.execute(
        sa.delete(table).where(_c.state.in_(ended), _c.create_ns < now_ns - KEEP_NS)
    ).rowcount


def _pack(row: sa.Row[Any]) -> Pack:
    fields = {name: value for name, value in row._mapping.items() if name != "id"}
    return Pack(pack_id=row.id, **{**fields, "state": State(row.state)})
