"""From staff, notices and acknowledgements to their public messages."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.api import identitynames, names
from appliance.api.convert import timestamp
from appliance.catalog import notices, staff
from appliance.catalog.acknowledgements import Acknowledgement
from appliance.model.staff import Notice, NoticeVersion, StaffMember, in_force, needed, scheduled
from earwitness.v1 import notices_pb2 as pb
from earwitness.v1 import staff_pb2


def identity(key: str) -> str:
    """Resource name of an identity, or provider:name; empty for nobody."""
    return key if ":" in key or not key else identitynames.identity(key)


def member(row: StaffMember) -> staff_pb2.StaffMember:
    return staff_pb2.StaffMember(
        name=names.staff_member(row.tenant_id, row.staff_id),
        display_name=row.display_name,
        email=row.email,
        identity=identity(row.identity),
        numbers=row.numbers,
        lines=[names.line(row.tenant_id, one) for one in row.lines],
        kind=staff_pb2.StaffKind.Value(f"STAFF_KIND_{row.kind.name}"),
        create_time=timestamp(row.create_ns),
        leave_time=None if row.leave_ns is None else timestamp(row.leave_ns),
        forgotten=row.forgotten,
        etag=staff.etag_of_member(row),
    )


def version(row: NoticeVersion) -> pb.NoticeVersion:
    return pb.NoticeVersion(
        version=row.version,
        text=row.text,
        language=row.language,
        text_sha256=row.text_sha256,
        acknowledge_anew=row.anew,
        publish_time=timestamp(row.publish_ns),
        create_time=timestamp(row.create_ns),
        author=identity(row.author),
        cancel_time=None if row.cancel_ns is None else timestamp(row.cancel_ns),
    )


def notice(row: Notice, versions: Sequence[NoticeVersion], now_ns: int) -> pb.Notice:
    now, least, ahead = in_force(versions, now_ns), needed(versions, now_ns), scheduled(versions, now_ns)
    return pb.Notice(
        name=names.notice(row.tenant_id, row.notice_id),
        display_name=row.display_name,
        audience=pb.NoticeAudience.Value(f"NOTICE_AUDIENCE_{row.audience.name}"),
        lines=[names.line(row.tenant_id, one) for one in row.lines],
        required=row.required,
        default_id=row.default_id,
        create_time=timestamp(row.create_ns),
        archive_time=None if row.archive_ns is None else timestamp(row.archive_ns),
        current=None if now is None else version(now),
        needed_version=0 if least is None else least.version,
        scheduled=None if ahead is None else version(ahead),
        etag=notices.etag_of_notice(row, list(versions)),
    )


def acknowledgement(row: Acknowledgement, display_name: str) -> pb.Acknowledgement:
    return pb.Acknowledgement(
        name=names.acknowledgement(row.tenant_id, row.id),
        notice=names.notice(row.tenant_id, row.notice_id),
        version=row.version,
        text_sha256=row.text_sha256,
        staff_member=names.staff_member(row.tenant_id, row.staff_id),
        display_name=display_name,
        acknowledge_time=timestamp(row.at_ns),
        create_time=timestamp(row.create_ns),
        way=pb.AcknowledgementWay.Value(f"ACKNOWLEDGEMENT_WAY_{row.way.name}"),
        evidence=row.evidence,
        actor=identity(row.actor),
        withdraw_time=None if row.withdraw_ns is None else timestamp(row.withdraw_ns),
        withdraw_actor=identity(row.withdraw_actor),
        withdraw_reason=row.withdraw_reason,
    )
