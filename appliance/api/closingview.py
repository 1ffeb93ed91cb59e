"""Closings and exit packs as the API says them."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from appliance.api import convert, names
from appliance.api.parts import Parts
from appliance.catalog import closing, exitpacks
from appliance.catalog.closing import Kept
from appliance.catalog.exitpacks import ExitPack
from appliance.model import EarwitnessError
from appliance.model.routing import Closing, ServiceState
from earwitness.internal.v1 import retention_pb2
from earwitness.v1 import closing_pb2 as pb
from earwitness.v1 import operations_pb2, tenants_pb2

EVER: Final = 36_525  # days: what goes later than that is said to go never
SOUNDS: Final = {
    pb.EXIT_PACK_SOUND_UNSPECIFIED: "wav",
    pb.EXIT_PACK_SOUND_WAV: "wav",
    pb.EXIT_PACK_SOUND_FLAC: "flac",
    pb.EXIT_PACK_SOUND_NONE: "none",
}


def state(value: ServiceState) -> tenants_pb2.ServiceState.ValueType:
    return tenants_pb2.ServiceState.Value(f"SERVICE_STATE_{value.name}")


def message(
    one: Closing, subject: tuple[str, str], now_ns: int, kept: Kept, pack: ExitPack | None
) -> pb.Closing:
    """`subject`: (tenant, line or nothing) that is asked about; its tenant's closing may be what holds."""
    made = pb.Closing(
        name=names.line(*subject) or names.tenant(subject[0]),
        state=state(one.state),
        reason=one.reason,
        creator=one.who,
        recording_count=kept.recordings,
        size_bytes=kept.size,
        exit_pack=pack_name(pack) if pack is not None else "",
    )
    if one.state is ServiceState.ACTIVE:
        return made
    made.create_time.CopyFrom(convert.timestamp(one.begin_ns))
    made.notice_time.CopyFrom(convert.timestamp(one.notice_ns))
    if one.state is ServiceState.CLOSING:
        made.left.CopyFrom(convert.duration(max(0, one.notice_ns - now_ns)))
    for field, at_ns in (("close_time", one.close_ns), ("empty_time", one.empty_ns)):
        if at_ns is not None:
            getattr(made, field).CopyFrom(convert.timestamp(at_ns))
    return made


def looked_at(
    connection: sa.Connection, tenant_id: str, line_id: str, now_ns: int, asked: Closing | None = None
) -> pb.Closing:
    """Where a tenant or line is, as far as the catalogue knows. `asked`: as it would be."""
    one = asked or closing.governing(connection, tenant_id, line_id)
    one = one or Closing(tenant_id=tenant_id, line_id=line_id, state=ServiceState.ACTIVE)
    pack = exitpacks.whole(connection, tenant_id, line_id, one.begin_ns)
    kept = closing.kept(connection, tenant_id, line_id)
    return message(one, (tenant_id, line_id), now_ns, kept, pack)


async def with_retention(parts: Parts, made: pb.Closing, tenant_id: str, line_id: str) -> pb.Closing:
    """What the vault says of when it all goes; without its answer, that it is not known."""
    try:
        asked = retention_pb2.ListUpcomingRequest(days=EVER, tenant_id=tenant_id, line_id=line_id)
        due = [one async for one in parts.retention.upcoming(asked)]
    except EarwitnessError:
        return made  # retention_known says so
    made.retention_known = True
    made.held_count = sum(one.held for one in due)
    going = sum(one.recordings for one in due)
    made.unlimited_count = max(0, made.recording_count - going - made.held_count)
    last = max((one for one in due if one.recordings), key=_when, default=None)
    if last is not None:
        made.last_expire_time.CopyFrom(convert.timestamp(last.when_ns))
    return made


def _when(one: retention_pb2.Upcoming) -> int:
    return one.when_ns


def put_states(closings: closing.Closings, some: Any) -> None:
    """Where tenants or lines are, into the messages of them. `closings`: those of their tenants."""
    for one in some:
        tenant_id, _, line_id = one.name.removeprefix("tenants/").partition("/lines/")
        found = closing.furthest(closings, tenant_id, line_id)
        one.state = state(found.state if found is not None else ServiceState.ACTIVE)
        if found is not None:
            one.notice_time.CopyFrom(convert.timestamp(found.notice_ns))


def pack_name(pack: ExitPack) -> str:
    return names.exit_pack(pack.tenant_id, pack.id)


def pack_message(pack: ExitPack) -> pb.ExitPack:
    """The public message."""
    spec = pack.spec
    made = pb.ExitPack(
        name=pack_name(pack),
        line=names.line(pack.tenant_id, pack.line_id),
        sound=pb.ExitPackSound.Value(f"EXIT_PACK_SOUND_{spec['sound'].upper()}"),
        sealed=spec["sealed"],
        vcon=spec["vcon"],
        remainder=pb.EXIT_PACK_REMAINDER_REMOVE if spec["remove"] else pb.EXIT_PACK_REMAINDER_KEEP,
        purpose=pack.purpose,
        state=operations_pb2.OperationState.Value(f"OPERATION_STATE_{pack.state.name}"),
        everything=pack.everything,
        creator=pack.who,
        create_time=convert.timestamp(pack.create_ns),
        end_time=None if pack.end_ns is None else convert.timestamp(pack.end_ns),
        recording_count=pack.recordings,
        file_count=pack.files,
        size_bytes=pack.bytes,
        problem_count=pack.problems,
        tombstone_count=pack.tombstones,
        manifest_sha256=pack.manifest_sha256,
        operation=names.operation(pack.tenant_id, pack.id),
    )
    if spec["target"] == "folder":
        made.folder.path = spec["path"]
    else:
        made.bucket.bucket, made.bucket.prefix = spec["bucket"], spec["prefix"]
    return made


def result(tenant_id: str, operation_id: str, found: dict[str, Any]) -> operations_pb2.ExitPackResult:
    """What an operation says of how far it is."""
    return operations_pb2.ExitPackResult(
        exit_pack=names.exit_pack(tenant_id, operation_id),
        recording_count=found.get("recordings", 0),
        file_count=found.get("files", 0),
        size_bytes=found.get("bytes", 0),
        waiting=found.get("waiting", ""),
        needed_bytes=found.get("needed", 0),
        free_bytes=found.get("free", 0),
        waiting_sound_count=found.get("sound_waiting", 0),
        problem_count=found.get("problem_count", 0),
        problems=[
            operations_pb2.ExitPackProblem(recording=names.recording(tenant_id, one), code=code)
            for one, code in found.get("problems", ())
        ],
    )
