"""Restrictions and objections in the catalogue (UK GDPR Art. 18 and 21): which recordings are kept, and not read.

`restricted` has a row for each recording and each restriction in force that covers it: those that were there when it was
made, and those that came later and match its number.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import paging, state, tables
from appliance.catalog.among import among
from appliance.catalog.database import erasing, numbering_of
from appliance.catalog.errors import EtagMismatchError
from appliance.catalog.numbering import Numbering, asked
from appliance.catalog.records import Description, etag_of
from appliance.catalog.subjecterrors import (
    NumberPartialError,
    RecordingRestrictedError,
    RestrictionLimitError,
    RestrictionNotFoundError,
)
from appliance.catalog.subjecttables import restricted
from appliance.catalog.subjecttables import restrictions as table
from appliance.model import InvalidError

MAX_OF_TENANT: Final = 5000  # in force
MAX_HISTORY: Final = 200
KEEP_NS: Final = 1100 * 86400 * 10**9  # three years and a month after the end
SERIAL: Final = "restrictions-serial"
"""Counts changes, so that the copy beside the catalogue and the catalogue know which of them is older."""
_c = table.c


class Ground(enum.StrEnum):
    """Why (Art. 18(1))."""

    ACCURACY = "accuracy"
    UNLAWFUL = "unlawful"
    LEGAL_CLAIM = "legal-claim"
    OBJECTION = "objection"


class State(enum.StrEnum):
    """Where a restriction is."""

    ACTIVE = "active"
    PENDING = "pending"
    UPHELD = "upheld"
    OVERRIDDEN = "overridden"
    LIFTED = "lifted"


IN_FORCE: Final = frozenset({State.ACTIVE, State.PENDING, State.UPHELD})
_FORCE: Final = sorted(one.value for one in IN_FORCE)
Act = tuple[int, str, str, str]
"""When (ns), who (empty: the box), what, why."""


@dataclass(frozen=True)
class Restriction:
    """One restriction. `number` is in its normal form; times count calls by their beginning.

    An empty `reason`: all recordings that it named are erased, and no words about them are kept.
    """

    restriction_id: str
    tenant_id: str
    ground: Ground
    state: State
    reason: str
    create_ns: int
    number: str = ""
    from_ns: int | None = None
    to_ns: int | None = None
    case_id: str = ""
    hold: str = ""
    end_ns: int | None = None
    history: tuple[Act, ...] = ()

    @property
    def in_force(self) -> bool:
        return self.state in IN_FORCE

    @property
    def etag(self) -> str:
        return etag_of(self.restriction_id, self.state, len(self.history))

    def acted(self, at_ns: int, who: str, act: str, reason: str = "") -> Restriction:
        """With one more line of history; the first and the newest are kept."""
        history = (*self.history, (at_ns, who, act, reason if self.reason else ""))
        return replace(self, history=(history[0], *history[1:][-MAX_HISTORY + 1 :]))


@dataclass
class Standing:
    """How many recordings a restriction covers, and how many of them are still to be erased."""

    recordings: int = 0
    erasing: int = 0


def whole_number(text: str, field_name: str, numbering: Numbering) -> str:
    """The normal form of a whole telephone number. NumberPartialError, InvalidError."""
    try:
        wanted = asked(text)
    except ValueError:
        raise InvalidError("should be a whole telephone number", field=field_name) from None
    if wanted.open_start or wanted.open_end:
        raise NumberPartialError("should be a whole number, without *", field=field_name)
    found = numbering.normal(wanted.digits)
    if len(found) > 32:
        raise InvalidError("should be a whole telephone number", field=field_name)
    return found


def add(connection: sa.Connection, one: Restriction, recording_ids: Iterable[str]) -> int:
    """Write it down for these recordings, and give how many. RestrictionLimitError."""
    query = sa.select(sa.func.count()).where(_c.tenant_id == one.tenant_id, _c.state.in_(_FORCE))
    if int(connection.execute(query).scalar_one()) >= MAX_OF_TENANT:
        raise RestrictionLimitError("the tenant has as many restrictions as it may have", limit=MAX_OF_TENANT)
    connection.execute(sa.insert(table).values(id=one.restriction_id, **_columns(one)))
    ids = list(dict.fromkeys(recording_ids))
    for begin in range(0, len(ids), 500):
        connection.execute(
            sa.insert(restricted), [_row(each, one.restriction_id) for each in ids[begin : begin + 500]]
        )
    changed(connection)
    return len(ids)


def update(connection: sa.Connection, one: Restriction) -> None:
    """Write down how it is now; what is not in force any more lets its recordings go."""
    connection.execute(sa.update(table).where(_c.id == one.restriction_id).values(**_columns(one)))
    if not one.in_force:
        connection.execute(sa.delete(restricted).where(restricted.c.restriction_id == one.restriction_id))
    changed(connection)


def get(
    connection: sa.Connection, restriction_id: str, tenant_id: str | None = None, etag: str = ""
) -> Restriction:
    """One, of this tenant where one is given. RestrictionNotFoundError, EtagMismatchError."""
    query = sa.select(table).where(_c.id == restriction_id)
    if tenant_id is not None:
        query = query.where(_c.tenant_id == tenant_id)
    row = connection.execute(query).first()
    if row is None:
        raise RestrictionNotFoundError("no such restriction", restriction=restriction_id)
    found = restriction_of(row)
    if etag not in ("", found.etag):
        raise EtagMismatchError("the restriction changed since", field="etag")
    return found


def some(
    connection: sa.Connection,
    tenant_id: str | None,
    limit: int,
    after: tuple[int, str] | None,
    *,
    ended: bool,
) -> list[Restriction]:
    """Newest first, after that one."""
    query = sa.select(table).order_by(_c.create_ns.desc(), _c.id.desc()).limit(limit)
    if tenant_id is not None:
        query = query.where(_c.tenant_id == tenant_id)
    if not ended:
        query = query.where(_c.state.in_(_FORCE))
    query = paging.beyond(query, _c.create_ns, _c.id, after, newest_first=True)
    return [restriction_of(row) for row in connection.execute(query)]


def standing(connection: sa.Connection, ids: Sequence[str]) -> dict[str, Standing]:
    """Of each restriction."""
    found: dict[str, Standing] = defaultdict(Standing)
    if ids:
        r = restricted.c
        erasing = sa.func.sum(sa.case((r.erase == "due", 1), else_=0))
        query = sa.select(r.restriction_id, sa.func.count(), erasing).group_by(r.restriction_id)
        for one, count, due in connection.execute(query.where(among(connection, r.restriction_id, ids))):
            found[one] = Standing(int(count), int(due))
    return found


def recordings_of(connection: sa.Connection, restriction_id: str, limit: int) -> list[str]:
    """Ids of recordings that it covers, in their order."""
    r = restricted.c
    query = sa.select(r.recording_id).where(r.restriction_id == restriction_id).order_by(r.recording_id)
    return list(connection.execute(query.limit(limit)).scalars())


def of(connection: sa.Connection, recording_ids: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Which of these recordings are restricted, and the ids of what restricts each."""
    found: dict[str, list[str]] = defaultdict(list)
    if recording_ids:
        r = restricted.c
        query = sa.select(r.recording_id, r.restriction_id).order_by(r.restriction_id)
        for recording_id, one in connection.execute(
            query.where(among(connection, r.recording_id, sorted(recording_ids)))
        ):
            found[recording_id].append(one)
    return {recording_id: tuple(ids) for recording_id, ids in found.items()}


def check(connection: sa.Connection, recording_id: str) -> None:
    """RecordingRestrictedError where it is restricted."""
    found = of(connection, [recording_id]).get(recording_id)
    if found:
        raise refusal(recording_id, found)


def refusal(recording_id: str, ids: Sequence[str]) -> RecordingRestrictedError:
    return RecordingRestrictedError(
        "the recording is restricted: it is kept, and not read",
        recording=recording_id,
        restrictions=list(ids)[:20],
    )


def of_numbers(
    connection: sa.Connection, tenant_id: str, numbers: Iterable[str], at_ns: int
) -> tuple[str, ...]:
    """Ids of the restrictions that a call of this tenant with these numbers falls under: for calls that go on."""
    numbering = numbering_of(connection)
    normal = sorted({numbering.normal(one) for one in numbers if one})
    if not normal:
        return ()
    query = sa.select(_c.id).where(
        _c.number.in_(normal),
        _c.tenant_id == tenant_id,
        _c.state.in_(_FORCE),
        sa.or_(_c.from_ns.is_(None), _c.from_ns <= at_ns),
        sa.or_(_c.to_ns.is_(None), _c.to_ns > at_ns),
    )
    return tuple(connection.execute(query.order_by(_c.id)).scalars())


def meet(connection: sa.Connection, recording_id: str, tenant_id: str, content: Description) -> None:
    """A recording is new, or its content is known now: put it under the restrictions that its numbers have."""
    numbers = [party.number for party in content.parties]
    wanted = set(of_numbers(connection, tenant_id, numbers, content.start_ns))
    if not wanted:
        return
    missing = wanted - set(of(connection, [recording_id]).get(recording_id, ()))
    if missing:
        rows = [_row(recording_id, one) for one in sorted(missing)]
        connection.execute(sa.insert(restricted), rows)
        changed(connection)


def forget(connection: sa.Connection, recording_id: str) -> None:
    """It is erased: there is nothing left to restrict, and with the last recording of a restriction its words go."""
    ids = of(connection, [recording_id]).get(recording_id, ())
    if ids:
        connection.execute(sa.delete(restricted).where(restricted.c.recording_id == recording_id))
        _bare(connection, _c.id.in_(ids))
        changed(connection)


def prune(connection: sa.Connection, now_ns: int) -> int:
    """Forget those that ended long ago, and words about recordings that were erased; gives how many were forgotten."""
    settled = _c.hold.in_(("", "released"))  # what else is still to be released in the vault
    gone = connection.execute(sa.delete(table).where(_c.end_ns < now_ns - KEEP_NS, settled)).rowcount
    if gone:
        erasing(connection)
    if _bare(connection, _c.state.in_(_FORCE)) or gone:
        changed(connection)
    return gone


def _bare(connection: sa.Connection, which: sa.ColumnElement[bool]) -> int:
    """Take the words from those that named recordings and have none left: who did what and when stays."""
    some = sa.exists().where(restricted.c.restriction_id == _c.id)
    rows = connection.execute(sa.select(table).where(which, _c.number == "", _c.reason != "", ~some)).all()
    for row in rows:
        history = [[*act[:3], ""] for act in row.history]
        connection.execute(sa.update(table).where(_c.id == row.id).values(reason="", history=history))
    if rows:
        erasing(connection)
    return len(rows)


def restricted_clause() -> sa.ColumnElement[bool]:
    """For queries on recordings: this one is restricted."""
    r = restricted.c
    of_each = sa.select(sa.literal(1)).where(r.recording_id == tables.recordings.c.id)
    return sa.exists(of_each.correlate(tables.recordings))


def changed(connection: sa.Connection) -> None:
    """Something is other than in the copy beside the catalogue."""
    state.put_int(connection, SERIAL, state.get_int(connection, SERIAL) + 1)


def _row(recording_id: str, restriction_id: str) -> dict[str, Any]:
    return {"recording_id": recording_id, "restriction_id": restriction_id, "held": False, "erase": ""}


def _columns(one: Restriction) -> dict[str, Any]:
    return {
        "tenant_id": one.tenant_id,
        "ground": one.ground.value,
        "state": one.state.value,
        "number": one.number,
        "from_ns": one.from_ns,
        "to_ns": one.to_ns,
        "reason": one.reason,
        "case_id": one.case_id,
        "hold": one.hold,
        "create_ns": one.create_ns,
        "end_ns": one.end_ns,
        "history": [list(act) for act in one.history],
    }


def restriction_of(row: sa.Row[Any]) -> Restriction:
    """A row of the table."""
    return Restriction(
        restriction_id=row.id,
        tenant_id=row.tenant_id,
        ground=Ground(row.ground),
        state=State(row.state),
        reason=row.reason,
        create_ns=row.create_ns,
        number=row.number,
        from_ns=row.from_ns,
        to_ns=row.to_ns,
        case_id=row.case_id,
        hold=row.hold,
        end_ns=row.end_ns,
        history=tuple((int(a), str(b), str(c), str(d)) for a, b, c, d in row.history),
    )
