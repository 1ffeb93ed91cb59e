"""DocumentsService: documents made, kept and given."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from appliance.access.identities import Role
from appliance.api import documentsview as view
from appliance.api import names
from appliance.api.documentfacts import Gatherer
from appliance.api.documentspans import span_of
from appliance.api.errors import FieldInvalidError
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts
from appliance.api.plannedwork import PlannedWorks
from appliance.api.scope import caller, confine, require
from appliance.api.servicelevels import Levels
from appliance.api.serving import Serving
from appliance.audit.trail import Trail
from appliance.catalog import counting, documents, tenants
from appliance.catalog.documents import DocumentKind, Made
from appliance.documents import accessreport, html, markdown, processing, servicelevel
from appliance.documents.blocks import Document
from appliance.documents.facts import Span
from appliance.model import new_id
from earwitness.v1 import documents_pb2 as pb
from earwitness.v1 import documents_pb2_grpc

CHUNK: Final = 256 * 1024
AT_ONCE: Final = 2
SPANS: Final = frozenset({DocumentKind.SERVICE_LEVEL, DocumentKind.ACCESS_REPORT})
OF_TENANTS: Final = frozenset({DocumentKind.PROTECTION_ANNEX, DocumentKind.ACCESS_REPORT})
_READERS: Final = (Role.TENANT_ADMINISTRATOR, Role.RECORDS_OFFICER, Role.AUDITOR)
_BOX: Final = "All of the box"


def _pdf(document: Document) -> bytes:
    from appliance.documents import pdf  # its libraries take a third of a second, and are seldom wanted

    return pdf.written(document)


_FORMS: Final = {"md": markdown.written, "html": html.written, "pdf": _pdf}


@dataclass(frozen=True)
class _Wanted:
    """A request that was read."""

    tenant_id: str
    kind: DocumentKind
    format: str
    zone: ZoneInfo
    span: Span | None
    people: bool


class Documents(PlannedWorks, documents_pb2_grpc.DocumentsServiceServicer):
    """See documents.proto."""

    def __init__(self, parts: Parts, trail: Trail, serving: Serving) -> None:
        super().__init__(parts)
        self._trail = trail
        self._gatherer = Gatherer(parts, trail)
        self._levels = Levels(parts, serving)
        self._making = asyncio.Semaphore(AT_ONCE)

    async def GenerateDocument(
        self, request: pb.GenerateDocumentRequest, context: Any
    ) -> AsyncIterator[pb.GenerateDocumentResponse]:
        wanted = await self._read(request)
        if request.validate_only:
            made, _ = await self._made(wanted, "")
            yield pb.GenerateDocumentResponse(document=view.document(made))
            return

        async def act(note: Note) -> str:
            await self._parts.store.read(
                lambda connection: documents.check_room(connection, wanted.tenant_id)
            )
            made, content = await self._made(wanted, new_id())

            def work(connection: sa.Connection) -> None:
                documents.add(connection, made, content)
                note(connection, made.id)

            await self._parts.store.write(work)
            return made.id

        document_id = await self._parts.once("GenerateDocument", request, act)
        made, content = await self._parts.store.read(
            lambda connection: documents.get(connection, document_id, wanted.tenant_id)
        )
        yield pb.GenerateDocumentResponse(document=view.document(made))
        for at in range(0, len(content), CHUNK):
            yield pb.GenerateDocumentResponse(data=content[at : at + CHUNK])

    async def ListDocuments(self, request: pb.ListDocumentsRequest, context: Any) -> pb.ListDocumentsResponse:
        tenant_id = names.parent(request.parent) if request.parent else confine("")
        kinds = set(DocumentKind) if not request.kind else {view.kind_of(request.kind)}
        if not _may_read():
            kinds.discard(DocumentKind.ACCESS_REPORT)
        page = Page(self._parts, "ListDocuments", request)
        size, after = page.size, page.after

        def work(connection: sa.Connection) -> list[Made]:
            if tenant_id:
                tenants.get_tenant(connection, tenant_id)
            return documents.listed(connection, tenant_id, kinds, size + 1, after)

        found = await self._parts.store.read(work)
        answer = pb.ListDocumentsResponse(documents=map(view.document, found[:size]))
        size = page.cut(answer.documents)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.make_ns, last.id)
        return answer

    async def DownloadDocument(
        self, request: pb.DownloadDocumentRequest, context: Any
    ) -> AsyncIterator[pb.DownloadDocumentResponse]:
        tenant_id, document_id = view.read_document(request.name)
        made, content = await self._parts.store.read(
            lambda connection: documents.get(connection, document_id, tenant_id)
        )
        if made.kind is DocumentKind.ACCESS_REPORT:
            require(*_READERS)
        yield pb.DownloadDocumentResponse(document=view.document(made))
        for at in range(0, len(content), CHUNK):
            yield pb.DownloadDocumentResponse(data=content[at : at + CHUNK])

    async def GetServiceLevel(
        self, request: pb.GetServiceLevelRequest, context: Any
    ) -> pb.GetServiceLevelResponse:
        tenant_id, zone = await self._whose(request)
        span = span_of(request, zone, self._parts.clock_ns(), last=False)
        found = await self._levels.measured(tenant_id, span, zone)
        return pb.GetServiceLevelResponse(service_level=view.level(found, tenant_id, zone.key))

    async def _read(self, request: pb.GenerateDocumentRequest) -> _Wanted:
        kind, form = view.kind_of(request.kind), view.format_of(request.format)
        if request.language not in ("", "en"):
            raise FieldInvalidError("should be en", field="language")
        if kind is DocumentKind.ACCESS_REPORT:
            require(*_READERS)
        if kind in OF_TENANTS and not request.parent:
            raise FieldInvalidError("should be a tenant: the box has no such document", field="parent")
        if kind not in SPANS:
            for name in ("start_time", "end_time"):
                if request.HasField(name):
                    raise FieldInvalidError("should be absent: it tells of now", field=name)
            if request.month:
                raise FieldInvalidError("should be empty: it tells of now", field="month")
        if request.include_people and kind is not DocumentKind.PROTECTION_ANNEX:
            raise FieldInvalidError("is for the annex alone", field="include_people")
        tenant_id, zone = await self._whose(request)
        span = span_of(request, zone, self._parts.clock_ns(), last=True) if kind in SPANS else None
        return _Wanted(tenant_id, kind, form, zone, span, request.include_people)

    async def _whose(self, request: Any) -> tuple[str, ZoneInfo]:
        """The tenant's id (empty: the box), and the zone. TenantNotFoundError, TimeZoneError."""
        tenant_id = names.one_tenant(request.parent, "parent") if request.parent else confine("") or ""
        counting.zone(request.time_zone)
        own = ""
        if tenant_id:
            own = (
                await self._parts.store.read(lambda connection: tenants.get_tenant(connection, tenant_id))
            ).time_zone
        return tenant_id, counting.zone(request.time_zone or own)

    async def _made(self, wanted: _Wanted, document_id: str) -> tuple[Made, bytes]:
        async with self._making:
            document = await self._document(wanted)
            content = await asyncio.to_thread(_FORMS[wanted.format], document)
        span = wanted.span
        return Made(
            id=document_id,
            tenant_id=wanted.tenant_id,
            kind=wanted.kind,
            format=wanted.format,
            make_ns=document.made_ns,
            who=caller().name,
            from_ns=span.from_ns if span else None,
            until_ns=span.until_ns if span else None,
            time_zone=wanted.zone.key,
            people=wanted.people or wanted.kind is DocumentKind.ACCESS_REPORT,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            signature=await asyncio.to_thread(self._trail.sign, wanted.kind.value, content)
            if document_id
            else "",
        ), content

    async def _document(self, wanted: _Wanted) -> Document:
        tenant_id, zone, now_ns = wanted.tenant_id, wanted.zone, self._parts.clock_ns()
        match wanted.kind, wanted.span:
            case DocumentKind.SERVICE_LEVEL, Span() as span:
                level = await self._levels.measured(tenant_id, span, zone)
                return servicelevel.of(level, await self._name(tenant_id), zone)
            case DocumentKind.ACCESS_REPORT, Span() as span:
                access = await self._levels.access(tenant_id, span)
                return accessreport.of(access, span, await self._name(tenant_id), now_ns, zone)
            case DocumentKind.PROTECTION_ANNEX, _:
                box = await self._gatherer.box(tenants_too=False)
                tenant = await self._gatherer.tenant(tenant_id, now_ns)
                return processing.annex(box, tenant, now_ns, zone, named=wanted.people)
        box = await self._gatherer.box(tenants_too=not tenant_id)
        if not tenant_id:
            return processing.of_box(box, now_ns, zone)
        return processing.of_tenant(box, await self._gatherer.tenant(tenant_id, now_ns), now_ns, zone)

    async def _name(self, tenant_id: str) -> str:
        if not tenant_id:
            return _BOX
        found = await self._parts.store.read(lambda connection: tenants.get_tenant(connection, tenant_id))
        return found.display_name


def _may_read() -> bool:
    return bool(caller().roles & set(_READERS))
