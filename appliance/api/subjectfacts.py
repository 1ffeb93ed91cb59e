"""What the catalogue knows of recordings that a person is given: for the index of a pack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from appliance.access import purposes as rules
from appliance.catalog import counting, purposes, recordings, subjectrequests, tenants
from appliance.catalog.contracttables import reads
from appliance.catalog.errors import LineNotFoundError
from appliance.catalog.records import Recording
from appliance.catalog.subjecterrors import SubjectPackStateError
from appliance.catalog.subjectrequests import Choice, Mute, Request
from appliance.model import MarkKind
from appliance.model.routing import Tenant
from appliance.packs.subject import EVERYBODY, Facts, Given, MarkOf, Muted, ReadBy, Use, Withheld

MAX_READS: Final = 100  # of one recording
_MS: Final = 10**6
_TOLD: Final = frozenset(
    {
        MarkKind.ANNOUNCED,
        MarkKind.PAUSED,
        MarkKind.RESUMED,
        MarkKind.HELD,
        MarkKind.UNHELD,
        MarkKind.GAP,
        MarkKind.NO_MEDIA,
        MarkKind.STOPPED,
    }
)


@dataclass(frozen=True)
class Rendered:
    """What became of one recording's sound."""

    file: str
    sha256: str
    channels: int
    duration_ns: int
    whole: bool


@dataclass(frozen=True)
class Known:
    """All that is asked of the catalogue, at one time."""

    tenant: Tenant
    request: Request
    rows: Sequence[Recording]
    """Those that are given, oldest first."""
    choices: Mapping[str, Choice]
    withheld: tuple[Withheld, ...]
    given: Mapping[str, Given]
    """Without their sound."""


def load(
    connection: sa.Connection, request_id: str, recording_ids: Sequence[str], kept: Mapping[str, int]
) -> Known:
    """Of a request and of the recordings that its pack holds. `kept`: until when each is kept, in ns."""
    one = subjectrequests.get(connection, request_id)
    tenant = tenants.get_tenant(connection, one.tenant_id)
    zone = counting.zone(tenant.time_zone)
    choices = subjectrequests.chosen(connection, request_id)
    rows = recordings.get_all(connection, recording_ids, one.tenant_id)
    rows.sort(key=lambda row: (row.start_ns, row.recording_id))
    known = {each.purpose_id: each for _, each in purposes.listed(connection, one.tenant_id)}
    names = {key: purpose.display_name for key, purpose in known.items()}
    given = {}
    for row, stated in zip(rows, rules.stated_of(connection, rows), strict=True):
        some, more = _reads(connection, row.recording_id, names, zone)
        choice = choices.get(row.recording_id)
        if choice is None or not choice.give:
            raise SubjectPackStateError(
                "a recording in it was erased or withheld meanwhile", state="destroyed"
            )
        given[row.recording_id] = Given(
            file="",
            sha256="",
            time=moment(row.start_ns, zone),
            duration_ms=row.duration_ns // _MS,
            direction=row.direction.value,
            line=_line(connection, row),
            channels=(),
            whole=row.whole,
            purposes=tuple(
                Use(known[each].display_name, known[each].legal_basis)
                for each in stated.purposes
                if each in known
            ),
            told=stated.source.value.replace("_", "-"),
            kept_until=moment(kept[row.recording_id], zone) if kept.get(row.recording_id) else "",
            reads=some,
            reads_more=more,
            marks=tuple(
                MarkOf(
                    mark.kind.value.replace("_", "-"),
                    (mark.at_ns - row.start_ns) // _MS,
                    None if mark.until_ns is None else (mark.until_ns - row.start_ns) // _MS,
                )
                for mark in row.marks
                if mark.kind in _TOLD
            ),
            muted=tuple(_muted(mute, row) for mute in choice.mutes),
            ground=choice.ground,
            text=choice.text,
        )
    return Known(tenant, one, rows, choices, _withheld(connection, one, choices, zone), given)


def moment(ns: int, zone: ZoneInfo) -> str:
    """RFC 3339, to the second, where the tenant is."""
    return datetime.fromtimestamp(ns // 10**9, UTC).astimezone(zone).isoformat()


def facts(known: Known, given: Sequence[Given], now_ns: int) -> Facts:
    """All of the index."""
    return Facts(
        controller=known.tenant.display_name,
        contact=known.tenant.contact,
        reference=known.request.reference,
        received=known.request.receive_date,
        made=moment(now_ns, counting.zone(known.tenant.time_zone)),
        time_zone=known.tenant.time_zone or "UTC",
        given=tuple(given),
        withheld=known.withheld,
    )


def _line(connection: sa.Connection, row: Recording) -> str:
    try:
        return tenants.get_line(connection, row.line_id, row.tenant_id).display_name
    except LineNotFoundError:
        return ""  # a configuration that was lost since: the recording is there all the same


def _reads(
    connection: sa.Connection, recording_id: str, names: Mapping[str, str], zone: ZoneInfo
) -> tuple[tuple[ReadBy, ...], int]:
    where = (reads.c.recording_id == recording_id, reads.c.refused == "", reads.c.resumed.is_(False))
    count = int(connection.execute(sa.select(sa.func.count()).where(*where)).scalar_one())
    query = sa.select(reads.c.at_ns, reads.c.roles, reads.c.purpose).where(*where)
    rows = connection.execute(query.order_by(reads.c.no.desc()).limit(MAX_READS)).all()
    found = tuple(
        ReadBy(moment(row.at_ns, zone), tuple(row.roles), names.get(row.purpose, row.purpose)) for row in rows
    )
    return found, count - len(found)


def _muted(mute: Mute, row: Recording) -> Muted:
    whose = EVERYBODY if mute.party is None else row.parties[mute.party].role.value
    return Muted(whose, mute.from_ns // _MS, None if mute.to_ns is None else mute.to_ns // _MS)


def _withheld(
    connection: sa.Connection, one: Request, choices: Mapping[str, Choice], zone: ZoneInfo
) -> tuple[Withheld, ...]:
    told = [choice for choice in choices.values() if not choice.give and not choice.untold]
    rows = recordings.get_all(connection, [choice.recording_id for choice in told], one.tenant_id)
    found = [(row.start_ns, choice) for row, choice in zip(rows, told, strict=True)]
    found.sort(key=lambda each: (each[0], each[1].recording_id))
    return tuple(Withheld(moment(at_ns, zone), choice.ground, choice.text) for at_ns, choice in found)
