"""PurposesService: what a tenant's recordings may be used for, and the month's report of what they were used for."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import convert, differences, history, masks, names
from appliance.api.errors import FieldInvalidError
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts, check_text
from appliance.catalog import counting, purposes, reads, tenants
from appliance.catalog.reads import Counts, Report
from appliance.catalog.versions import Subject
from appliance.model.purpose import FORM, Purpose
from earwitness.v1 import purposes_pb2 as pb
from earwitness.v1 import purposes_pb2_grpc

FIELDS: Final = ("display_name", "legal_basis")
MAX_BASIS: Final = 300
_MONTH = re.compile(r"(2[01][0-9]{2})-(0[1-9]|1[0-2])")


class Purposes(purposes_pb2_grpc.PurposesServiceServicer):
    """See purposes.proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def ListPurposes(self, request: pb.ListPurposesRequest, context: Any) -> pb.ListPurposesResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        page = Page(self._parts, "ListPurposes", request, (int,))
        size = page.size
        after = page.after[0] if page.after else 0

        def work(connection: sa.Connection) -> list[tuple[int, Purpose]]:
            tenants.get_tenant(connection, tenant_id)
            return purposes.listed(connection, tenant_id, size + 1, after, archived=request.show_archived)

        found = await self._parts.store.read(work)
        answer = pb.ListPurposesResponse(purposes=[message(one) for _, one in found[:size]])
        size = page.cut(answer.purposes)
        if len(found) > size:
            answer.next_page_token = page.token(found[size - 1][0])
        return answer

    async def CreatePurpose(self, request: pb.CreatePurposeRequest, context: Any) -> pb.CreatePurposeResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        if not FORM.fullmatch(request.purpose_id):
            raise FieldInvalidError(
                "should be 1 to 40 lower-case letters, digits, dashes", field="purpose_id"
            )
        purpose = _read(
            request.purpose,
            Purpose(
                tenant_id=tenant_id,
                purpose_id=request.purpose_id,
                display_name="",
                create_ns=self._parts.clock_ns(),
            ),
        )
        if request.validate_only:

            def check(connection: sa.Connection) -> None:
                tenants.get_tenant(connection, tenant_id)
                purposes.check_new(connection, purpose)

            await self._parts.store.read(check)
            answer = message(purpose)
            answer.ClearField("create_time")  # it is not made
            answer.ClearField("etag")
            return pb.CreatePurposeResponse(purpose=answer)

        async def act(note: Note) -> str:
            author = history.author(self._parts)

            def work(connection: sa.Connection) -> None:
                tenants.get_tenant(connection, tenant_id)
                purposes.add(connection, purpose, author)
                tenants.changed(connection)
                note(connection, tenant_id)

            await self._parts.store.write(work)
            return tenant_id

        await self._parts.once("CreatePurpose", request, act)
        await self._parts.routing.publish()
        return pb.CreatePurposeResponse(purpose=await self._purpose(tenant_id, purpose.purpose_id))

    async def UpdatePurpose(self, request: pb.UpdatePurposeRequest, context: Any) -> pb.UpdatePurposeResponse:
        tenant_id, purpose_id = names.purpose(request.purpose.name, "purpose.name")
        paths = masks.paths(request.update_mask, request.purpose, FIELDS)

        def changed(connection: sa.Connection) -> tuple[Purpose, Purpose]:
            before = purposes.get(connection, tenant_id, purpose_id, request.purpose.etag)
            return before, _read(masks.merged(message(before), request.purpose, paths), before)

        made, changes = await self._change("UpdatePurpose", request, changed)
        return pb.UpdatePurposeResponse(purpose=made, changes=changes)

    async def ArchivePurpose(
        self, request: pb.ArchivePurposeRequest, context: Any
    ) -> pb.ArchivePurposeResponse:
        tenant_id, purpose_id = names.purpose(request.name)
        now_ns = self._parts.clock_ns()

        def changed(connection: sa.Connection) -> tuple[Purpose, Purpose]:
            before = purposes.get(connection, tenant_id, purpose_id, request.etag)
            if before.archive_ns is not None:
                return before, before
            return before, before.model_copy(update={"archive_ns": now_ns})

        made, _ = await self._change("ArchivePurpose", request, changed)
        return pb.ArchivePurposeResponse(purpose=made)

    async def _change(
        self, method: str, request: Any, changed: Callable[[sa.Connection], tuple[Purpose, Purpose]]
    ) -> tuple[pb.Purpose, list[Any]]:
        if request.validate_only:
            before, after = await self._parts.store.read(changed)
            return message(after), differences.between(message(before), message(after))[0]
        found: list[tuple[Purpose, Purpose]] = []

        async def act(note: Note) -> str:
            author = history.author(self._parts)

            def work(connection: sa.Connection) -> tuple[Purpose, Purpose]:
                before, after = changed(connection)
                purposes.update(connection, after, author)
                tenants.changed(connection)
                note(connection, after.tenant_id)
                return before, after

            found.append(await self._parts.store.write(work))
            return found[0][0].tenant_id

        await self._parts.once(method, request, act)
        await self._parts.routing.publish()
        if found:
            shown = [message(one) for one in found[0]]
            return shown[1], differences.between(*shown)[0]
        name = request.name if method == "ArchivePurpose" else request.purpose.name
        return await self._purpose(*names.purpose(name)), []

    async def ListPurposeVersions(
        self, request: pb.ListPurposeVersionsRequest, context: Any
    ) -> pb.ListPurposeVersionsResponse:
        tenant_id, purpose_id = names.purpose(request.parent, "parent")

        def find(
            connection: sa.Connection,
        ) -> tuple[Subject, str, str, Callable[[dict[str, Any]], pb.Purpose]]:
            purposes.get(connection, tenant_id, purpose_id)
            return (
                Subject.PURPOSE,
                tenant_id,
                purpose_id,
                lambda content: message(Purpose.model_validate(content)),
            )

        some, token = await history.listed(self._parts, "ListPurposeVersions", request, find)
        return pb.ListPurposeVersionsResponse(versions=some, next_page_token=token)

    async def GetReadReport(self, request: pb.GetReadReportRequest, context: Any) -> pb.GetReadReportResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        month = _MONTH.fullmatch(request.month)
        if month is None:
            raise FieldInvalidError("should be a month such as 2026-11", field="month")
        if request.time_zone:
            counting.zone(request.time_zone)

        def work(connection: sa.Connection) -> tuple[str, Report]:
            zone = request.time_zone or tenants.get_tenant(connection, tenant_id).time_zone
            tenants.get_tenant(connection, tenant_id)
            span = month_ns(int(month[1]), int(month[2]), zone)
            return zone or "UTC", reads.report(connection, tenant_id, *span)

        zone, found = await self._parts.store.read(work)
        return pb.GetReadReportResponse(
            report=pb.ReadReport(
                tenant=names.tenant(tenant_id),
                month=request.month,
                time_zone=zone,
                total=_counts(found.total),
                by_purpose=_table(found.by_purpose),
                by_role=_table(found.by_role),
                by_person=_table(found.by_person),
                overrides=[
                    pb.Override(
                        time=convert.timestamp(one.at_ns),
                        recording=names.recording(one.tenant_id, one.recording_id),
                        purpose=one.purpose,
                        actor=one.identity,
                        reason=one.override_reason,
                    )
                    for one in found.overrides
                ],
            )
        )

    async def _purpose(self, tenant_id: str, purpose_id: str) -> pb.Purpose:
        return message(
            await self._parts.store.read(lambda connection: purposes.get(connection, tenant_id, purpose_id))
        )


def month_ns(year: int, month: int, zone: str) -> tuple[int, int]:
    """When a month begins in a time zone and when the next one does, nanoseconds since the Unix epoch."""
    where = counting.zone(zone)
    ends = (year + 1, 1) if month == 12 else (year, month + 1)
    first, last = (
        round(datetime(*one, 1, tzinfo=where).astimezone(UTC).timestamp()) * 10**9
        for one in ((year, month), ends)
    )
    return first, last


def message(row: Purpose) -> pb.Purpose:
    """The public message."""
    return pb.Purpose(
        name=names.purpose_name(row.tenant_id, row.purpose_id),
        display_name=row.display_name,
        legal_basis=row.legal_basis,
        seeded=row.seeded,
        create_time=convert.timestamp(row.create_ns),
        archive_time=None if row.archive_ns is None else convert.timestamp(row.archive_ns),
        etag=purposes.etag_of_purpose(row),
    )


def _read(asked: pb.Purpose, before: Purpose) -> Purpose:
    return before.model_copy(
        update={
            "display_name": check_text(asked.display_name, "purpose.display_name", 100, 1),
            "legal_basis": check_text(asked.legal_basis, "purpose.legal_basis", MAX_BASIS),
        }
    )


def _table(some: dict[str, Counts]) -> list[pb.ReadCount]:
    """Most reads first."""
    order = sorted(some.items(), key=lambda item: (-item[1].reads, -item[1].refusals, item[0]))
    return [pb.ReadCount(key=key, counts=_counts(counts)) for key, counts in order]


def _counts(one: Counts) -> pb.ReadCounts:
    return pb.ReadCounts(
        reads=one.reads,
        overrides=one.overrides,
        not_announced=one.not_announced,
        granted=one.granted,
        refusals=one.refusals,
        recordings=one.recordings,
    )
