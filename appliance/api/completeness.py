"""CompletenessService: sources of call records, imports, days and their reports."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from datetime import date
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import completenessview as view
from appliance.api import masks, names
from appliance.api.completenessfacts import contract_of
from appliance.api.completenessimport import Importer, reading_of
from appliance.api.errors import FieldInvalidError, UploadTooSlowError
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts, check_text
from appliance.api.scope import caller
from appliance.api.uploads import Upload
from appliance.catalog import completeness, counting, recordsources, tenants
from appliance.catalog.completeness import Day, Record
from appliance.catalog.recordsources import Import, Source
from appliance.completeness import report
from appliance.completeness.contract import Contract
from appliance.completeness.errors import RecordMapMisfitError, RecordsTooLargeError
from appliance.completeness.presets import PRESETS
from appliance.completeness.reading import MAX_BYTES
from appliance.model import new_id
from earwitness.v1 import completeness_pb2 as pb
from earwitness.v1 import completeness_pb2_grpc

FIELDS: Final = ("display_name", "map", "line", "least_talk")
UPLOAD_S: Final = 300.0
UPLOADS: Final = 2  # held in memory at once
MAX_SAMPLE: Final = 256 * 1024
SHOWN: Final = 20
TRIED: Final = 5000
LEAST_TALK_NS: Final = 2 * 10**9
MOST_LEAST_TALK_NS: Final = 60 * 10**9


class Completeness(completeness_pb2_grpc.CompletenessServiceServicer):
    """See completeness.proto."""

    def __init__(self, parts: Parts, importer: Importer) -> None:
        self._parts = parts
        self._importer = importer
        self._uploads = asyncio.Semaphore(UPLOADS)
        self._taking: set[asyncio.Task[str]] = set()

    async def ListCallRecordPresets(
        self, request: pb.ListCallRecordPresetsRequest, context: Any
    ) -> pb.ListCallRecordPresetsResponse:
        made = [pb.RecordPreset(id=name, map=view.map_message(how)) for name, how in PRESETS.items()]
        return pb.ListCallRecordPresetsResponse(presets=made)

    async def CreateCallRecordSource(
        self, request: pb.CreateCallRecordSourceRequest, context: Any
    ) -> pb.CreateCallRecordSourceResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        now_ns = self._parts.clock_ns()
        blank = Source(new_id(), tenant_id, "", {}, "", LEAST_TALK_NS, now_ns)
        made = _read(request.source, blank, request.preset)

        def check(connection: sa.Connection) -> None:
            tenants.get_tenant(connection, tenant_id)
            _check_line(connection, made)
            recordsources.check_room(connection, tenant_id)

        if request.validate_only:
            await self._parts.store.read(check)
            answer = view.source(made)
            for name in ("name", "create_time", "etag"):  # it is not made
                answer.ClearField(name)
            return pb.CreateCallRecordSourceResponse(source=answer)

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                check(connection)
                recordsources.add_source(connection, made)
                note(connection, made.id)

            await self._parts.store.write(work)
            return made.id

        source_id = await self._parts.once("CreateCallRecordSource", request, act)
        return pb.CreateCallRecordSourceResponse(source=view.source(await self._source(tenant_id, source_id)))

    async def GetCallRecordSource(
        self, request: pb.GetCallRecordSourceRequest, context: Any
    ) -> pb.GetCallRecordSourceResponse:
        found = await self._source(*_source_name(request.name, "name"))
        return pb.GetCallRecordSourceResponse(source=view.source(found))

    async def ListCallRecordSources(
        self, request: pb.ListCallRecordSourcesRequest, context: Any
    ) -> pb.ListCallRecordSourcesResponse:
        tenant_id = names.one_tenant(request.parent, "parent")

        def work(connection: sa.Connection) -> list[Source]:
            tenants.get_tenant(connection, tenant_id)
            return recordsources.sources_of(connection, tenant_id)

        found = await self._parts.store.read(work)
        return pb.ListCallRecordSourcesResponse(sources=map(view.source, found))

    async def UpdateCallRecordSource(
        self, request: pb.UpdateCallRecordSourceRequest, context: Any
    ) -> pb.UpdateCallRecordSourceResponse:
        tenant_id, source_id = _source_name(request.source.name, "source.name")
        paths = masks.paths(request.update_mask, request.source, FIELDS)

        def changed(connection: sa.Connection) -> Source:
            before = recordsources.get_source(connection, tenant_id, source_id, request.source.etag)
            made = _read(masks.merged(view.source(before), request.source, paths), before)
            _check_line(connection, made)
            return made

        if request.validate_only:
            return pb.UpdateCallRecordSourceResponse(
                source=view.source(await self._parts.store.read(changed))
            )

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                recordsources.update_source(connection, changed(connection))
                note(connection, source_id)

            await self._parts.store.write(work)
            return source_id

        await self._parts.once("UpdateCallRecordSource", request, act)
        return pb.UpdateCallRecordSourceResponse(source=view.source(await self._source(tenant_id, source_id)))

    async def DeleteCallRecordSource(
        self, request: pb.DeleteCallRecordSourceRequest, context: Any
    ) -> pb.DeleteCallRecordSourceResponse:
        tenant_id, source_id = _source_name(request.name, "name")

        def find(connection: sa.Connection) -> Source:
            return recordsources.get_source(connection, tenant_id, source_id, request.etag)

        if request.validate_only:
            await self._parts.store.read(find)
            return pb.DeleteCallRecordSourceResponse()

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                find(connection)
                recordsources.remove_source(connection, source_id)
                note(connection, source_id)

            await self._parts.store.write(work)
            return source_id

        await self._parts.once("DeleteCallRecordSource", request, act)
        return pb.DeleteCallRecordSourceResponse()

    async def TryRecordMap(self, request: pb.TryRecordMapRequest, context: Any) -> pb.TryRecordMapResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        how = view.map_of(request.map, request.preset)
        line_id = _line_id(request.line, tenant_id, "line")
        if len(request.sample) > MAX_SAMPLE:
            raise FieldInvalidError(f"at most {MAX_SAMPLE >> 10} KiB", field="sample")

        def work(connection: sa.Connection) -> tuple[Any, Contract]:
            zone = counting.zone(tenants.get_tenant(connection, tenant_id).time_zone)
            return zone, contract_of(connection, tenant_id)

        zone, contract = await self._parts.store.read(work)
        found = await asyncio.to_thread(reading_of, request.sample, how, zone, self._parts.clock_ns(), TRIED)
        answer = pb.TryRecordMapResponse(
            row_count=found.rows, broken_count=found.broken, problems=view.problems(found.problems)
        )
        for one in found.records[:SHOWN]:
            judged = contract.judge(one, line_id)
            answer.rows.append(view.tried(tenant_id, one, judged.line_id, judged.direction))
        try:
            found.check_fit()
        except RecordMapMisfitError as error:
            answer.refusal = error.message
        return answer

    async def ImportCallRecords(  # type: ignore[override]  # the gate gives every upload so
        self, requests: Upload, context: Any
    ) -> pb.ImportCallRecordsResponse:
        first: pb.ImportCallRecordsRequest = await requests.first()
        tenant_id, source_id = _source_name(first.parent, "parent")
        source = await self._source(tenant_id, source_id)
        await self._uploads.acquire()
        task: asyncio.Task[str] | None = None
        try:
            data = await _received(requests)
            if first.validate_only:
                made = view.import_(await self._importer.check(source, data))
                made.ClearField("create_time")
                return pb.ImportCallRecordsResponse(call_record_import=made)
            request = pb.ImportCallRecordsRequest()
            request.CopyFrom(first)
            request.data = hashlib.sha256(data).digest()  # what a request_id stands for is the file, too

            async def act(note: Note) -> str:
                return await self._importer.take(source, data, caller().name, note)

            task = asyncio.create_task(self._parts.once("ImportCallRecords", request, act))
            self._taking.add(task)
            task.add_done_callback(self._taken)
            # Shielded: who goes away does not leave a file half compared.
            import_id = await asyncio.shield(task)
        finally:
            if task is None:
                self._uploads.release()
        taken = await self._importer.taken(tenant_id, import_id)
        return pb.ImportCallRecordsResponse(
            call_record_import=view.import_(taken.made), days=[view.day(one) for one in taken.days]
        )

    def _taken(self, task: asyncio.Task[str]) -> None:
        """The place goes with the work, not with who asked: the file is in memory as long."""
        self._taking.discard(task)
        self._uploads.release()
        if not task.cancelled():
            task.exception()  # who asked, and is still there, is told

    async def ListCallRecordImports(
        self, request: pb.ListCallRecordImportsRequest, context: Any
    ) -> pb.ListCallRecordImportsResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        page = Page(self._parts, "ListCallRecordImports", request)
        size, after = page.size, page.after

        def work(connection: sa.Connection) -> list[Import]:
            tenants.get_tenant(connection, tenant_id)
            return recordsources.imports_of(connection, tenant_id, size + 1, after)

        found = await self._parts.store.read(work)
        answer = pb.ListCallRecordImportsResponse(
            imports=[view.import_(one, full=False) for one in found[:size]]
        )
        size = page.cut(answer.imports)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.create_ns, last.id)
        return answer

    async def ListCompletenessDays(
        self, request: pb.ListCompletenessDaysRequest, context: Any
    ) -> pb.ListCompletenessDaysResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        first, last = (_day(getattr(request, name), name) for name in ("first_day", "last_day"))
        page = Page(self._parts, "ListCompletenessDays", request, (str,))
        size = page.size
        before = page.after[0] if page.after else ""

        def work(connection: sa.Connection) -> list[Day]:
            tenants.get_tenant(connection, tenant_id)
            return completeness.days_of(connection, tenant_id, first, last, size + 1, before)

        found = await self._parts.store.read(work)
        answer = pb.ListCompletenessDaysResponse(days=map(view.day, found[:size]))
        size = page.cut(answer.days)
        if len(found) > size:
            answer.next_page_token = page.token(found[size - 1].day)
        return answer

    async def GetCompletenessReport(
        self, request: pb.GetCompletenessReportRequest, context: Any
    ) -> pb.GetCompletenessReportResponse:
        tenant_id, day = names.completeness_day(request.name)

        def work(connection: sa.Connection) -> Day:
            tenants.get_tenant(connection, tenant_id)
            return completeness.get_day(connection, tenant_id, day)

        found = await self._parts.store.read(work)
        return pb.GetCompletenessReportResponse(
            day=view.day(found),
            report=found.report.encode(),
            signature=found.signature,
            file_name=f"completeness-{found.day}-{found.revision}.json",
        )

    async def ListCallRecords(
        self, request: pb.ListCallRecordsRequest, context: Any
    ) -> pb.ListCallRecordsResponse:
        tenant_id, day = names.completeness_day(request.parent, "parent")
        if len(request.outcomes) > len(pb.CallOutcome.values()):
            raise FieldInvalidError("names more than there are", field="outcomes")
        wanted = [view.outcome_of(one, f"outcomes[{at}]").value for at, one in enumerate(request.outcomes)]
        page = Page(self._parts, "ListCallRecords", request)
        size, after = page.size, page.after

        def work(connection: sa.Connection) -> list[Record]:
            zone = counting.zone(tenants.get_tenant(connection, tenant_id).time_zone)
            completeness.get_day(connection, tenant_id, day)
            span = report.span_of(date.fromisoformat(day), zone)
            return completeness.listed(connection, tenant_id, span, wanted, size + 1, after)

        found = await self._parts.store.read(work)
        answer = pb.ListCallRecordsResponse(records=map(view.record, found[:size]))
        size = page.cut(answer.records)
        if len(found) > size:
            answer.next_page_token = page.token(found[size - 1].start_ns, found[size - 1].id)
        return answer

    async def _source(self, tenant_id: str, source_id: str) -> Source:
        def work(connection: sa.Connection) -> Source:
            tenants.get_tenant(connection, tenant_id)
            return recordsources.get_source(connection, tenant_id, source_id)

        return await self._parts.store.read(work)


def _source_name(text: str, field: str) -> tuple[str, str]:
    tenant_id, source_id = names.child(text, "callRecordSources", field)
    return names.one_tenant(text.rsplit("/", 2)[0], field) if tenant_id else "", source_id


def _line_id(text: str, tenant_id: str, field: str) -> str:
    if not text:
        return ""
    owner, line_id = names.child(text, "lines", field)
    if owner not in (None, tenant_id):
        raise FieldInvalidError("should be a line of the same tenant", field=field)
    return line_id


def _check_line(connection: sa.Connection, made: Source) -> None:
    """LineNotFoundError."""
    if made.line_id:
        tenants.get_line(connection, made.line_id, made.tenant_id)


def _day(text: str, field: str) -> str:
    if not text:
        return ""
    try:
        if len(text) == 10:
            return date.fromisoformat(text).isoformat()
    except ValueError:
        pass  # said below, as of all that is no day
    raise FieldInvalidError("should be a day such as 2026-11-29", field=field)


def _read(said: pb.CallRecordSource, before: Source, preset: str = "") -> Source:
    """A source as somebody said it is to be. FieldInvalidError, RecordMapError."""
    least_ns = before.least_talk_ns
    if said.HasField("least_talk"):
        least_ns = said.least_talk.seconds * 10**9 + said.least_talk.nanos
        if not 0 <= said.least_talk.seconds <= 60 or not 0 <= least_ns <= MOST_LEAST_TALK_NS:
            raise FieldInvalidError("should be 0 s to 60 s", field="source.least_talk")
    how = view.map_of(said.map, preset)
    return replace(
        before,
        display_name=check_text(said.display_name, "source.display_name", 100, 1),
        map=how.model_dump(mode="json"),
        line_id=_line_id(said.line, before.tenant_id, "source.line"),
        least_talk_ns=least_ns,
    )


async def _received(requests: Upload) -> bytes:
    """All bytes of an upload; RecordsTooLargeError, UploadTooSlowError, FieldInvalidError."""
    data = bytearray()
    position = 0
    try:
        async with asyncio.timeout(UPLOAD_S):
            async for one in requests:
                if position and (one.parent or one.request_id or one.validate_only):
                    raise FieldInvalidError("should hold data alone after the first message", field="data")
                data += one.data
                position += 1
                if len(data) > MAX_BYTES:
                    raise RecordsTooLargeError(f"at most {MAX_BYTES >> 20} MiB at once", limit=MAX_BYTES)
    except TimeoutError:
        raise UploadTooSlowError(f"an upload may take {UPLOAD_S:.0f} s") from None
    return bytes(data)
