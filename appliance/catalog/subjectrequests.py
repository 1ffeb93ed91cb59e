"""Requests of people for access in the catalogue (UK GDPR Art. 15), and what was chosen for them."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import paging
from appliance.catalog.among import among
from appliance.catalog.database import erasing
from appliance.catalog.errors import EtagMismatchError
from appliance.catalog.records import etag_of
from appliance.catalog.restrictions import Act
from appliance.catalog.subjecterrors import SubjectRequestLimitError, SubjectRequestNotFoundError
from appliance.catalog.subjecttables import subject_choices as choices
from appliance.catalog.subjecttables import subject_requests as table

MAX_OPEN: Final = 1000  # of one tenant
MAX_CHOICES: Final = 2000  # of one request
MAX_HISTORY: Final = 200
KEEP_NS: Final = 1100 * 86400 * 10**9  # three years and a month after the end
_c = table.c


class State(enum.StrEnum):
    """Where a request is."""

    RECEIVED = "received"
    SEARCHING = "searching"
    READY = "ready"
    ANSWERED = "answered"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


CLOSED: Final = frozenset({State.ANSWERED, State.REFUSED, State.WITHDRAWN})


@dataclass(frozen=True)
class Number:
    """A number that a request is about, in its normal form."""

    number: str
    own: bool
    verification: str


@dataclass(frozen=True)
class Request:
    """One request. Dates are days of the tenant's own zone, as 2026-11-25; stops are (pause, from, to or empty)."""

    request_id: str
    tenant_id: str
    reference: str
    receive_date: str
    identification: str
    numbers: tuple[Number, ...]
    from_ns: int | None
    to_ns: int | None
    handler: str
    nation: str
    create_ns: int
    state: State = State.RECEIVED
    before: str = ""
    stops: tuple[tuple[str, str, str], ...] = ()
    extension_reason: str = ""
    close_reason: str = ""
    reminded: str = ""
    close_ns: int | None = None
    history: tuple[Act, ...] = ()

    @property
    def closed(self) -> bool:
        return self.state in CLOSED

    @property
    def etag(self) -> str:
        return etag_of(self.request_id, self.state, self.history, self.reference, self.numbers)

    def acted(self, at_ns: int, who: str, act: str, reason: str = "") -> Request:
        """With one more line of history; the first and the newest are kept."""
        history = (*self.history, (at_ns, who, act, reason))
        return replace(self, history=(history[0], *history[1:][-MAX_HISTORY + 1 :]))


@dataclass(frozen=True)
class Mute:
    """What is silent. `party` is the place among the parties, None: everybody; `to_ns` None: to the end."""

    party: int | None
    from_ns: int
    to_ns: int | None


@dataclass(frozen=True)
class Choice:
    """What was decided of a recording."""

    request_id: str
    recording_id: str
    give: bool
    mutes: tuple[Mute, ...] = ()
    ground: str = ""
    text: str = ""
    untold: bool = False
    exception: str = ""
    actor: str = ""
    at_ns: int = 0


def add(connection: sa.Connection, one: Request) -> None:
    """SubjectRequestLimitError."""
    query = sa.select(sa.func.count()).where(_c.tenant_id == one.tenant_id, _c.close_ns.is_(None))
    if int(connection.execute(query).scalar_one()) >= MAX_OPEN:
        raise SubjectRequestLimitError("as many requests are open as may be", limit=MAX_OPEN)
    connection.execute(sa.insert(table).values(id=one.request_id, **_columns(one)))


def update(connection: sa.Connection, one: Request) -> None:
    """Write down how it is now."""
    connection.execute(sa.update(table).where(_c.id == one.request_id).values(**_columns(one)))
    erasing(connection)  # of what it said before


def get(connection: sa.Connection, request_id: str, tenant_id: str | None = None, etag: str = "") -> Request:
    """One, of this tenant where one is given. SubjectRequestNotFoundError, EtagMismatchError."""
    query = sa.select(table).where(_c.id == request_id)
    if tenant_id is not None:
        query = query.where(_c.tenant_id == tenant_id)
    row = connection.execute(query).first()
    if row is None:
        raise SubjectRequestNotFoundError("no such request for access", request=request_id)
    found = _request(row)
    if etag not in ("", found.etag):
        raise EtagMismatchError("the request changed since", field="etag")
    return found


def some(
    connection: sa.Connection,
    tenant_id: str | None,
    limit: int,
    after: tuple[int, str] | None,
    *,
    closed: bool,
) -> list[Request]:
    """Newest first, after that one."""
    query = sa.select(table).order_by(_c.create_ns.desc(), _c.id.desc()).limit(limit)
    if tenant_id is not None:
        query = query.where(_c.tenant_id == tenant_id)
    if not closed:
        query = query.where(_c.close_ns.is_(None))
    query = paging.beyond(query, _c.create_ns, _c.id, after, newest_first=True)
    return [_request(row) for row in connection.execute(query)]


def remind(connection: sa.Connection, request_id: str, reminded: str) -> None:
    """This reminder was given."""
    connection.execute(sa.update(table).where(_c.id == request_id).values(reminded=reminded))


def choose(connection: sa.Connection, one: Choice) -> None:
    """In place of what was chosen of the recording before. SubjectRequestLimitError."""
    k = choices.c
    count = sa.select(sa.func.count()).where(
        k.request_id == one.request_id, k.recording_id != one.recording_id
    )
    if int(connection.execute(count).scalar_one()) >= MAX_CHOICES:
        raise SubjectRequestLimitError("as many recordings are chosen as may be", limit=MAX_CHOICES)
    unchoose(connection, one.request_id, one.recording_id)
    connection.execute(
        sa.insert(choices).values(
            **{**one.__dict__, "mutes": [_mute_row(mute) for mute in one.mutes]},
        )
    )


def unchoose(connection: sa.Connection, request_id: str, recording_id: str) -> bool:
    """Gives whether something had been chosen."""
    k = choices.c
    where = (k.request_id == request_id, k.recording_id == recording_id)
    gone = connection.execute(sa.delete(choices).where(*where)).rowcount
    if gone:
        erasing(connection)
    return bool(gone)


def chosen(
    connection: sa.Connection, request_id: str, recording_ids: Collection[str] | None = None
) -> dict[str, Choice]:
    """By recording, of all or of these."""
    query = sa.select(choices).where(choices.c.request_id == request_id).order_by(choices.c.recording_id)
    if recording_ids is not None:
        query = query.where(among(connection, choices.c.recording_id, sorted(recording_ids)))
    return {row.recording_id: _choice(row) for row in connection.execute(query)}


def forget_recording(connection: sa.Connection, recording_id: str) -> None:
    """It is erased: nothing is chosen of it any more."""
    connection.execute(sa.delete(choices).where(choices.c.recording_id == recording_id))


def prune(connection: sa.Connection, now_ns: int) -> int:
    """Forget requests that were closed long ago; gives how many."""
    old = sa.select(_c.id).where(_c.close_ns < now_ns - KEEP_NS)
    connection.execute(sa.delete(choices).where(choices.c.request_id.in_(old)))
    gone = connection.execute(sa.delete(table).where(_c.close_ns < now_ns - KEEP_NS)).rowcount
    if gone:
        erasing(connection)
    return gone


def _columns(one: Request) -> dict[str, Any]:
    fields = {name: value for name, value in one.__dict__.items() if name != "request_id"}
    return {
        **fields,
        "state": one.state.value,
        "numbers": [[each.number, each.own, each.verification] for each in one.numbers],
        "stops": [list(stop) for stop in one.stops],
        "history": [list(act) for act in one.history],
    }


def _request(row: sa.Row[Any]) -> Request:
    fields = {name: value for name, value in row._mapping.items() if name != "id"}
    fields |= {
        "state": State(row.state),
        "numbers": tuple(Number(str(a), bool(b), str(c)) for a, b, c in row.numbers),
        "stops": tuple((str(a), str(b), str(c)) for a, b, c in row.stops),
        "history": tuple((int(a), str(b), str(c), str(d)) for a, b, c, d in row.history),
    }
    return Request(request_id=row.id, **fields)


def _mute_row(mute: Mute) -> list[int]:
    party = -1 if mute.party is None else mute.party
    return [party, mute.from_ns, -1 if mute.to_ns is None else mute.to_ns]


def _choice(row: sa.Row[Any]) -> Choice:
    mutes = tuple(
        Mute(None if party < 0 else party, start, None if end < 0 else end) for party, start, end in row.mutes
    )
    return Choice(**{**row._mapping, "mutes": mutes})
