"""Requests for access, choices, packs and restrictions: from the catalogue's records to the public messages, and back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from appliance.api import convert, names
from appliance.api.errors import FieldInvalidError
from appliance.catalog import counting, subjectpacks
from appliance.catalog.restrictions import Act, Restriction, Standing
from appliance.catalog.subjectpacks import Pack
from appliance.catalog.subjectrequests import Choice, Mute, Request
from appliance.packs import subjectclock
from appliance.packs.subjectclock import Pause, Stop
from earwitness.v1 import subjects_pb2 as pb

MAX_OFFSET_S: Final = 7 * 86400
_SHOWN = {subjectpacks.State.DESTROYING: subjectpacks.State.DESTROYED}


def word(enum: Any, value: int, field: str, *, least: int = 1) -> str:
    """The stable word of an enumeration's value, as in LEGAL_CLAIM: legal-claim; FieldInvalidError."""
    if value not in enum.values() or value < least:
        raise FieldInvalidError("should be one of the values there are", field=field)
    if value == 0:
        return ""
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    return str(enum.Name(value)).removeprefix(prefix).lower().replace("_", "-")


def value(enum: Any, said: str) -> Any:
    """The reverse; empty: not said."""
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    return enum.Value(prefix + (said.upper().replace("-", "_") or "UNSPECIFIED"))


def day(text: str, field: str) -> date:
    """A date such as 2026-11-25; FieldInvalidError."""
    wrong = FieldInvalidError("should be a date such as 2026-11-25", field=field)
    if len(text) != 10 or not text.isascii():
        raise wrong
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise wrong from None
    if not subjectclock.FIRST <= found <= subjectclock.LAST:
        raise wrong
    return found


def today(now_ns: int, zone: str) -> date:
    """Where the tenant is: `zone` is its time zone; empty: UTC."""
    return datetime.fromtimestamp(now_ns / 1e9, UTC).astimezone(counting.zone(zone)).date()


def stops_of(one: Request) -> list[Stop]:
    """When its clock stood."""
    return [
        Stop(Pause(pause), date.fromisoformat(since), date.fromisoformat(until) if until else None)
        for pause, since, until in one.stops
    ]


def due(one: Request) -> date | None:
    """The last day for the answer; None while the clock stands."""
    return subjectclock.due(
        date.fromisoformat(one.receive_date),
        stops_of(one),
        extended=bool(one.extension_reason),
        is_holiday=subjectclock.bank_holidays(one.nation),
    )


def request(one: Request, now_ns: int, zone: str) -> pb.SubjectRequest:
    """`zone`: the tenant's."""
    last = due(one)
    made = pb.SubjectRequest(
        name=names.subject_request(one.tenant_id, one.request_id),
        reference=one.reference,
        receive_date=one.receive_date,
        identification=one.identification,
        numbers=[
            pb.SubjectNumber(number=each.number, own=each.own, verification=each.verification)
            for each in one.numbers
        ],
        handler=one.handler,
        nation=one.nation,
        state=value(pb.SubjectRequestState, one.state.value),
        stops=[
            pb.SubjectClockStop(pause=value(pb.SubjectClockPause, pause), from_date=since, to_date=until)
            for pause, since, until in one.stops
        ],
        extension_reason=one.extension_reason,
        close_reason=one.close_reason,
        create_time=convert.timestamp(one.create_ns),
        acts=acts(one.history),
        etag=one.etag,
    )
    if last is not None:
        made.due_date = last.isoformat()
        made.days_left = (last - today(now_ns, zone)).days
    for pause, _, until in one.stops:
        if not until:
            made.pause = value(pb.SubjectClockPause, pause)
    for name, ns in (("from_time", one.from_ns), ("to_time", one.to_ns), ("close_time", one.close_ns)):
        if ns is not None:
            getattr(made, name).CopyFrom(convert.timestamp(ns))
    return made


def acts(history: Iterable[Act]) -> list[pb.SubjectAct]:
    return [
        pb.SubjectAct(time=convert.timestamp(at_ns), actor=who, act=act, reason=reason)
        for at_ns, who, act, reason in history
    ]


def choice(one: Choice, tenant_id: str) -> pb.SubjectChoice:
    made = pb.SubjectChoice(
        recording=names.recording(tenant_id, one.recording_id),
        give=one.give,
        ground=value(pb.WithholdingGround, one.ground),
        text=one.text,
        untold=one.untold,
        restriction_exception=value(pb.RestrictionException, one.exception),
        actor=one.actor,
        time=convert.timestamp(one.at_ns),
    )
    for mute in one.mutes:
        shown = made.mutes.add(start_offset=convert.duration(mute.from_ns))
        if mute.party is not None:
            shown.party = mute.party
        if mute.to_ns is not None:
            shown.end_offset.CopyFrom(convert.duration(mute.to_ns))
    return made


def mute(said: pb.SubjectMute, field: str) -> Mute:
    """FieldInvalidError."""
    start = _offset(said.start_offset, f"{field}.start_offset")
    end = _offset(said.end_offset, f"{field}.end_offset") if said.HasField("end_offset") else None
    if end is not None and end <= start:
        raise FieldInvalidError("should be after where it begins", field=f"{field}.end_offset")
    return Mute(said.party if said.HasField("party") else None, start, end)


def _offset(said: Duration, field: str) -> int:
    if not (0 <= said.seconds <= MAX_OFFSET_S and 0 <= said.nanos < 10**9):
        raise FieldInvalidError("should be a place in the recording", field=field)
    return said.seconds * 10**9 + said.nanos


def pack(one: Pack, count: int) -> pb.SubjectPack:
    made = pb.SubjectPack(
        name=names.subject_pack(one.tenant_id, one.pack_id),
        subject_request=names.subject_request(one.tenant_id, one.request_id),
        state=value(pb.SubjectPackState, _SHOWN.get(one.state, one.state).value),
        size_bytes=one.size,
        sha256=bytes.fromhex(one.sha256),
        recording_count=count,
        create_time=convert.timestamp(one.create_ns),
        end_reason=one.end_reason,
        creator=one.creator,
        download_count=one.downloads,
    )
    if one.expire_ns is not None:
        made.expire_time.CopyFrom(convert.timestamp(one.expire_ns))
    return made


def restriction(one: Restriction, standing: Standing, recording_ids: Iterable[str] = ()) -> pb.Restriction:
    made = pb.Restriction(
        name=names.restriction(one.tenant_id, one.restriction_id),
        ground=value(pb.RestrictionGround, one.ground.value),
        reason=one.reason,
        recordings=[names.recording(one.tenant_id, each) for each in recording_ids],
        number=one.number,
        state=value(pb.RestrictionState, one.state.value),
        recording_count=standing.recordings,
        legal_hold=names.legal_hold(one.tenant_id, one.case_id) if one.hold in ("held", "released") else "",
        erasing_count=standing.erasing,
        acts=acts(one.history),
        create_time=convert.timestamp(one.create_ns),
        etag=one.etag,
    )
    for name, ns in (("from_time", one.from_ns), ("to_time", one.to_ns), ("end_time", one.end_ns)):
        if ns is not None:
            getattr(made, name).CopyFrom(convert.timestamp(ns))
    return made
