"""From the catalogue's records and from signaling's messages to the public ones."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf import duration_pb2, timestamp_pb2

from appliance.api import identitynames, names
from appliance.catalog import tenants as tenant_rows
from appliance.catalog.counting import By, Counted
from appliance.catalog.events import Event, EventType
from appliance.catalog.records import Certificate as CertificateRow
from appliance.catalog.records import Held, MarkRow, Recording, SidecarHead, State
from appliance.catalog.values import number_of
from appliance.model import Direction, MarkKind, Role
from appliance.model.routing import Tenant
from earwitness.internal.v1 import retention_pb2, signaling_pb2, vault_pb2
from earwitness.v1 import calls_pb2, events_pb2, party_pb2, recordings_pb2, tenants_pb2

_OF_CALLS = (EventType.CALL_STARTED, EventType.CALL_CHANGED, EventType.CALL_ENDED, EventType.CALL_ACTION)
_OF_SERVICES = (
    EventType.CLOSING_BEGUN,
    EventType.CLOSING_CANCELLED,
    EventType.SERVICE_CLOSED,
    EventType.SERVICE_EMPTY,
    EventType.SERVICE_REOPENED,
)


def timestamp(ns: int) -> timestamp_pb2.Timestamp:
    """Any 64-bit number of nanoseconds fits: the years 1677 to 2262."""
    made = timestamp_pb2.Timestamp()
    made.FromNanoseconds(ns)
    return made


def duration(ns: int) -> duration_pb2.Duration:
    made = duration_pb2.Duration()
    made.FromNanoseconds(ns)
    return made


def role(value: Role) -> party_pb2.PartyRole.ValueType:
    return party_pb2.PartyRole.Value(f"PARTY_ROLE_{value.name}")


def direction(value: Direction) -> party_pb2.Direction.ValueType:
    return party_pb2.Direction.Value(f"DIRECTION_{value.name}")


def mark_kind(value: MarkKind) -> recordings_pb2.MarkKind.ValueType:
    return recordings_pb2.MarkKind.Value(f"MARK_KIND_{value.name}")


def mark(row: MarkRow, start_ns: int) -> recordings_pb2.Mark:
    made = recordings_pb2.Mark(
        kind=mark_kind(row.kind),
        time=timestamp(row.at_ns),
        offset=duration(row.at_ns - start_ns),
        actor=row.actor,
        reason=row.reason,
        track=row.track,
        data={name: _plain(value) for name, value in row.data.items() if name != "until_ns"},
    )
    if row.until_ns is not None:
        made.until_time.CopyFrom(timestamp(row.until_ns))
    return made


def _plain(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def certificate(
    row: CertificateRow, tenant_id: str, recording_id: str, confirmed: Mapping[str, int]
) -> recordings_pb2.ErasureCertificate:
    """`confirmed`: up to which entry of the deletion log copies elsewhere have followed, by name."""
    return recordings_pb2.ErasureCertificate(
        recording=names.recording(tenant_id, recording_id),
        epoch=row.epoch,
        erase_time_ns=row.erased_ns,
        reason=row.reason,
        signature=row.signature,
        device_public_key=row.device_public_key,
        version=row.version,
        log_number=row.log_number,
        replicas=[
            recordings_pb2.ReplicaErasure(
                replica=name, confirmed=0 < row.log_number <= confirmed.get(name, 0)
            )
            for name in row.replicas
        ],
    )


class Kept:
    """What the vault says of how some recordings are kept; nothing where it does not answer."""

    def __init__(self, told: retention_pb2.GetKeepingResponse | None) -> None:
        self._by_id = {one.recording_id: one for one in told.keeping} if told is not None else {}
        self.confirmed = {one.name: one.confirmed for one in told.replicas} if told is not None else {}

    def put(self, row: Recording, made: recordings_pb2.Recording) -> None:
        """When it goes, and what holds it."""
        kept = self._by_id.get(row.recording_id)
        if kept is None:
            return
        if kept.expire_ns:
            made.expire_time.CopyFrom(timestamp(kept.expire_ns))
        if row.state is State.DELETED and kept.purge_ns:
            made.purge_time.CopyFrom(timestamp(kept.purge_ns))
        made.legal_holds.extend(names.legal_hold(row.tenant_id, case) for case in kept.cases)


def recording(row: Recording, *, full: bool, kept: Kept) -> recordings_pb2.Recording:
    """`kept`: what the vault says of it."""
    made = recordings_pb2.Recording(
        name=names.recording(row.tenant_id, row.recording_id),
        line=names.line(row.tenant_id, row.line_id),
        state=recordings_pb2.RecordingState.Value(f"RECORDING_STATE_{row.state.name}"),
        etag=row.etag,
        start_time=timestamp(row.start_ns),
        state_time=timestamp(row.state_ns),
        state_reason=row.state_reason,
    )
    if row.state is State.ERASED:
        if row.certificate is not None:
            proof = certificate(row.certificate, row.tenant_id, row.recording_id, kept.confirmed)
            made.certificate.CopyFrom(proof)
        return made
    made.call = names.call(row.tenant_id, row.call_id)
    made.part = row.part
    if row.end_ns is not None:
        made.end_time.CopyFrom(timestamp(row.end_ns))
        made.duration.CopyFrom(duration(row.duration_ns))
    made.size_bytes = row.size
    made.whole = row.whole
    made.direction = direction(row.direction)
    made.flags.extend(row.flags)
    if row.restricted:
        made.flags.append("restricted")
    if not row.described and row.state is State.FILED:
        made.flags.append("undescribed")  # as while its tenant's keys are locked
    made.source = row.source
    made.sip_call_id = row.sip_call_id
    made.session_ids.extend(row.identifiers)
    made.tags.extend(row.tags)
    for ordinal, party in enumerate(row.parties):
        made.parties.add(
            address=party.aor,
            number=party.number,
            display_name=party.name,
            role=role(party.role),
            tracks=[track.track for track in row.tracks if track.party == ordinal],
        )
    kept.put(row, made)
    if full:
        for track in row.tracks:
            heard = row.parties[track.party].role if 0 <= track.party < len(row.parties) else Role.UNKNOWN
            made.tracks.add(track=track.track, label=track.label, role=role(heard), encodings=track.encodings)
        made.marks.extend(mark(one, row.start_ns) for one in row.marks)
    return made


def counted(found: Counted, by: By) -> recordings_pb2.CountRecordingsResponse:
    """Recordings counted, with keys as the API writes them."""
    made = recordings_pb2.CountRecordingsResponse(
        count=found.count, duration=duration(found.duration_ns), more=found.more
    )
    for group in found.groups:
        key = group.key
        if by is By.LINE:
            key = names.line(*key.split("/", 1))
        elif by is By.DIRECTION:
            key = Direction(key).name
        made.groups.add(key=key, count=group.count, duration=duration(group.duration_ns))
    return made


def held(message: vault_pb2.Holding) -> Held:
    """What the vault says, as the catalogue takes it."""
    proof = message.certificate
    return Held(
        recording_id=message.recording_id,
        tenant_id=message.tenant_id,
        line_id=message.line_id,
        slice=message.slice,
        state=State[vault_pb2.HoldingState.Name(message.state).removeprefix("HOLDING_STATE_")],
        size=message.size,
        whole=message.whole,
        reason=message.reason,
        since_ns=message.since_ns,
        created_ns=message.created_ns,
        certificate=CertificateRow(
            proof.epoch,
            proof.erased_ns,
            proof.reason,
            proof.signature,
            proof.device_public_key,
            proof.version or 1,
            proof.log_number,
            tuple(proof.replicas),
        )
        if message.HasField("certificate")
        else None,
        sidecar=SidecarHead(message.sidecar.entries, message.sidecar.sha256, message.sidecar.begun)
        if message.HasField("sidecar")
        else None,
    )


def call_state(call: signaling_pb2.LiveCall) -> str:
    """RECORDING, PAUSED, ..."""
    return signaling_pb2.CallState.Name(call.state).removeprefix("CALL_STATE_")


def call(live: signaling_pb2.LiveCall) -> calls_pb2.Call:
    made = calls_pb2.Call(
        name=names.call(live.tenant_id, live.call_id),
        line=names.line(live.tenant_id, live.line_id),
        recordings=[names.recording(live.tenant_id, one) for one in live.recording_ids],
        state=calls_pb2.CallState.Value(signaling_pb2.CallState.Name(live.state)),
        start_time=timestamp(live.started_ns),
        state_time=timestamp(live.state_since_ns),
        detail=live.detail,
        silent_tracks=live.silent_tracks,
        source=live.source,
    )
    for party in live.parties:
        made.parties.add(
            address=party.aor,
            number=number_of(party.aor),
            display_name=party.name,
            role=role(Role(party.role) if party.role in set(Role) else Role.UNKNOWN),
            tracks=[party.track] if party.track >= 0 else [],
        )
    return made


def tenant(row: Tenant) -> tenants_pb2.Tenant:
    return tenants_pb2.Tenant(
        name=names.tenant(row.tenant_id),
        display_name=row.display_name,
        create_time=timestamp(row.create_ns),
        etag=tenant_rows.tenant_etag(row),
        records_officer_contact=row.contact,
        language=row.language,
        time_zone=row.time_zone,
        unacknowledged_may_pause=row.unacknowledged_may_pause,
        unacknowledged_may_read=row.unacknowledged_may_read,
        acknowledgement_retention_years=row.acknowledgement_years,
    )


def event(row: Event, resume_token: str) -> events_pb2.Event:
    if not row.subject:
        subject = ""
    elif row.type.value.startswith("grant-"):
        subject = names.grant(row.tenant_id, row.subject)
    elif row.type.value.startswith("alarm-"):
        subject = names.alarm(row.tenant_id, row.subject)
    elif row.type in _OF_CALLS:
        subject = names.call(row.tenant_id, row.subject)
    elif row.type in (EventType.CONDITION_RAISED, EventType.CONDITION_CLEARED):
        subject = f"processes/{row.subject}"
    elif row.type in _OF_SERVICES:
        subject = names.line(row.tenant_id, row.line_id) or names.tenant(row.tenant_id)
    elif row.type is EventType.EXIT_PACK_MADE:
        subject = names.exit_pack(row.tenant_id, row.subject)
    elif row.type is EventType.CERTIFICATE_EXPIRING:
        subject = identitynames.identity(row.subject)
    else:
        subject = names.recording(row.tenant_id, row.subject)
    return events_pb2.Event(
        type=events_pb2.EventType.Value(f"EVENT_TYPE_{row.type.name}"),
        time=timestamp(row.at_ns),
        subject=subject,
        line=names.line(row.tenant_id, row.line_id),
        state=row.state,
        message=row.message,
        resume_token=resume_token,
    )
