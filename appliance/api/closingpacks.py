"""The half of ClosingService that is of exit packs: checked, begun, shown. What makes them is `exitpack`."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import sqlalchemy as sa

from appliance.access import policy
from appliance.api import admission, closingview, gate, names
from appliance.api.errors import FieldInvalidError
from appliance.api.exitpackchild import target_of
from appliance.api.operations import message as operation_message
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts
from appliance.api.scope import caller
from appliance.api.worker import Worker
from appliance.catalog import exitpacks, filters, operations, purposes, recordings, tenants
from appliance.catalog.errors import PurposeUnknownError
from appliance.catalog.exitpacks import EXIT_PACK, ExitPack, PackState
from appliance.catalog.operations import Operation, State
from appliance.catalog.recording_filter import FIELDS
from appliance.model import new_id
from appliance.model.purpose import FORM
from appliance.packs import exittargets
from appliance.packs.errors import ExitSpaceError, ExitTargetInvalidError
from earwitness.v1 import closing_pb2 as pb

SOUND_BYTES: Final = 32_000  # of a second of WAV: two channels of 16 bits at 8 kHz
RECORD_BYTES: Final = 16 << 10  # of all that is said of one
MARGIN: Final = 1.05
_PREFIX = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*/?")
MAX_PREFIX: Final = 200


class ClosingPacks:
    """See closing.proto."""

    def __init__(self, parts: Parts, worker: Worker) -> None:
        self.parts = parts
        self._worker = worker

    async def CreateExitPack(
        self, request: pb.CreateExitPackRequest, context: Any
    ) -> pb.CreateExitPackResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        asked = request.exit_pack
        if request.filter:
            filters.parse(request.filter, FIELDS)
        line_id = self._line_of(asked.line, tenant_id)
        filter_ = _narrowed(request.filter, tenant_id, line_id)
        where = filters.parse(filter_, FIELDS) if filter_ else None
        reason = admission.override_reason(request.override_reason)
        pack_id = new_id()
        spec = self._spec(asked, f"earwitness-exit-{pack_id}")
        now_ns = self.parts.clock_ns()
        roles = caller().roles & policy.ALLOWED[gate.current().method]

        def planned(connection: sa.Connection) -> tuple[ExitPack, Operation, int]:
            tenants.get_tenant(connection, tenant_id)
            if line_id:
                tenants.get_line(connection, line_id, tenant_id)
            _check_purpose(connection, tenant_id, asked.purpose)
            bound = recordings.newest(connection)
            count, size, length_ns = exitpacks.measure(connection, tenant_id, where, bound)
            pack = ExitPack(
                id=pack_id,
                tenant_id=tenant_id,
                line_id=line_id,
                state=PackState.RUNNING,
                everything=not request.filter and not asked.purpose,
                who=caller().name,
                create_ns=now_ns,
                purpose=asked.purpose,
                spec={**spec, "bound": bound},
            )
            operation = Operation(
                id=pack_id,
                tenant_id=tenant_id,
                kind=EXIT_PACK,
                state=State.RUNNING,
                request={
                    "filter": filter_,
                    "bound": bound,
                    "roles": sorted(role.value for role in roles),
                    "override_reason": reason,
                },
                creator=caller().name,
                create_ns=now_ns,
                update_ns=now_ns,
                total=count,
            )
            return pack, operation, _needed(spec, count, size, length_ns)

        pack, operation, needed = await self.parts.store.read(planned)
        free = await asyncio.to_thread(self._free, spec)
        if free is not None and free < needed:
            raise ExitSpaceError("there is too little space for the exit pack", needed=needed, free=free)
        if request.validate_only:
            made = closingview.pack_message(pack)
            made.recording_count, made.size_bytes = operation.total, needed
            for chosen in ("name", "operation", "create_time", "state"):
                made.ClearField(chosen)
            return pb.CreateExitPackResponse(exit_pack=made, free_bytes=free)

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> str:
                pack, operation, _ = planned(connection)
                operations.add(connection, operation)
                exitpacks.add(connection, pack)
                note(connection, pack.id)
                return pack.id

            return await self.parts.store.write(work)

        made_id = await self.parts.once("CreateExitPack", request, act)
        self._worker.wake()

        def found(connection: sa.Connection) -> tuple[ExitPack, Operation]:
            return (
                exitpacks.get(connection, made_id, tenant_id),
                operations.get(connection, made_id, tenant_id),
            )

        pack, operation = await self.parts.store.read(found)
        return pb.CreateExitPackResponse(
            exit_pack=closingview.pack_message(pack),
            operation=operation_message(operation),
            free_bytes=free,
        )

    @staticmethod
    def _line_of(text: str, tenant_id: str) -> str:
        if not text:
            return ""
        owner, line_id = names.child(text, "lines", "exit_pack.line")
        if owner not in (None, tenant_id):
            raise FieldInvalidError("should be a line of the tenant", field="exit_pack.line")
        return line_id

    def _spec(self, asked: pb.ExitPack, name: str) -> dict[str, Any]:
        """What the row says of how it is made. ExitTargetInvalidError, FieldInvalidError."""
        if asked.sound not in closingview.SOUNDS:
            raise FieldInvalidError("should be WAV, FLAC or NONE", field="exit_pack.sound")
        if asked.remainder not in pb.ExitPackRemainder.values():
            raise FieldInvalidError("should be KEEP or REMOVE", field="exit_pack.remainder")
        sound = closingview.SOUNDS[asked.sound]
        if asked.vcon and sound == "none":
            raise FieldInvalidError("a vCon has sound", field="exit_pack.vcon")
        spec: dict[str, Any] = {
            "name": name,
            "sound": sound,
            "sealed": asked.sealed or sound == "none",
            "vcon": asked.vcon,
            "remove": asked.remainder == pb.EXIT_PACK_REMAINDER_REMOVE,
        }
        settings = self.parts.settings.exit
        match asked.WhichOneof("target"):
            case "folder":
                exittargets.allowed(settings, asked.folder.path, "exit_pack.folder.path")
                return {**spec, "target": "folder", "path": asked.folder.path}
            case "bucket":
                bucket, prefix = asked.bucket.bucket, asked.bucket.prefix
                if bucket not in {one.name for one in settings.buckets}:
                    raise ExitTargetInvalidError(
                        "is none of the buckets of the site file", field="exit_pack.bucket.bucket"
                    )
                if prefix and (len(prefix) > MAX_PREFIX or not _PREFIX.fullmatch(prefix) or ".." in prefix):
                    raise FieldInvalidError(
                        "should be letters, digits, dots, dashes, underscores, slashes",
                        field="exit_pack.bucket.prefix",
                    )
                return {**spec, "target": "bucket", "bucket": bucket, "prefix": prefix}
        raise FieldInvalidError("should say where the exit pack goes", field="exit_pack.folder")

    def _free(self, spec: dict[str, Any]) -> int | None:
        """In a thread: whether it may go there, and what is free. ExitTargetInvalidError, ExitTargetAwayError."""
        target = target_of(spec, self.parts.settings.exit)
        try:
            target.enter()
            return target.free()
        finally:
            target.close()

    async def GetExitPack(self, request: pb.GetExitPackRequest, context: Any) -> pb.GetExitPackResponse:
        tenant_id, pack_id = names.child(request.name, "exitPacks")
        found = await self.parts.store.read(lambda connection: exitpacks.get(connection, pack_id, tenant_id))
        return pb.GetExitPackResponse(exit_pack=closingview.pack_message(found))

    async def ListExitPacks(self, request: pb.ListExitPacksRequest, context: Any) -> pb.ListExitPacksResponse:
        tenant_id = names.parent(request.parent)
        page = Page(self.parts, "ListExitPacks", request)
        size = page.size
        after: tuple[int, str] | None = page.after

        def work(connection: sa.Connection) -> list[ExitPack]:
            if tenant_id is not None:
                tenants.get_tenant(connection, tenant_id)
            return exitpacks.some(connection, tenant_id, size + 1, after)

        found = await self.parts.store.read(work)
        answer = pb.ListExitPacksResponse(exit_packs=map(closingview.pack_message, found[:size]))
        size = page.cut(answer.exit_packs)
        if len(found) > size:
            answer.next_page_token = page.token(found[size - 1].create_ns, found[size - 1].id)
        return answer


def _narrowed(text: str, tenant_id: str, line_id: str) -> str:
    if not line_id:
        return text
    line = f'line = "{names.line(tenant_id, line_id)}"'
    return f"({text}) AND {line}" if text else line


def _check_purpose(connection: sa.Connection, tenant_id: str, named: str) -> None:
    """PurposeUnknownError where one is named that is none of the tenant's."""
    known = purposes.find(connection, tenant_id, named) if FORM.fullmatch(named) else None
    if named and known is None:
        raise PurposeUnknownError("is no purpose of this tenant: see ListPurposes", field="exit_pack.purpose")


def _needed(spec: dict[str, Any], count: int, size: int, length_ns: int) -> int:
    """Bytes that a pack will take up, about."""
    sound = {"wav": 1.0, "flac": 0.7, "none": 0.0}[spec["sound"]] * SOUND_BYTES * length_ns / 1e9
    vcon = SOUND_BYTES * length_ns / 1e9 * 4 / 3 if spec["vcon"] else 0
    return int(MARGIN * (sound + vcon + (size if spec["sealed"] else 0)) + RECORD_BYTES * count)
