"""TenantsService."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask

from appliance.api import convert, linefields, names, scope
from appliance.api.errors import FieldInvalidError
from appliance.api.parts import Note, Parts, check_text, page_size, query_of
from appliance.api.scope import caller
from appliance.catalog import linepolicies, prompts, tenants
from appliance.catalog.errors import EtagMismatchError, PageTokenError
from appliance.catalog.linepolicies import LinePolicy
from appliance.model import new_id
from appliance.model.routing import Line, Tenant
from appliance.storage.retention.terms import MAX_GRACE_DAYS
from earwitness.v1 import tenants_pb2 as pb
from earwitness.v1 import tenants_pb2_grpc

# What UpdateLine changes; what it takes parts of is below.
FIELDS: Final = (
    "display_name",
    "numbers",
    "trunks",
    "catch_all",
    "directions",
    "do_not_record",
    "inline",
    "keys",
    "rights",
    "agents",
    "auto_resume_delay",
    "reminder_interval",
)


class Tenants(tenants_pb2_grpc.TenantsServiceServicer):
    """See tenants.proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def CreateTenant(self, request: pb.CreateTenantRequest, context: Any) -> pb.CreateTenantResponse:
        display_name = check_text(request.tenant.display_name, "tenant.display_name", 100, 1)
        if request.validate_only:
            return pb.CreateTenantResponse(tenant=pb.Tenant(display_name=display_name))

        async def act(note: Note) -> str:
            tenant_id = new_id()
            tenant = Tenant(
                tenant_id=tenant_id,
                display_name=display_name,
                public_key=await self._parts.vault.create_tenant_key(tenant_id),
                create_ns=self._parts.clock_ns(),
            )

            def work(connection: sa.Connection) -> None:
                tenants.add_tenant(connection, tenant)
                note(connection, tenant_id)

            await self._parts.store.write(work)
            return tenant_id

        tenant_id = await self._parts.once("CreateTenant", request, act)
        await self._parts.routing.publish()
        return pb.CreateTenantResponse(tenant=await self._tenant(tenant_id))

    async def GetTenant(self, request: pb.GetTenantRequest, context: Any) -> pb.GetTenantResponse:
        return pb.GetTenantResponse(tenant=await self._tenant(names.one_tenant(request.name)))

    async def ListTenants(self, request: pb.ListTenantsRequest, context: Any) -> pb.ListTenantsResponse:
        size = page_size(request.page_size)
        after = self._after("ListTenants", request)
        own = scope.caller().tenant_id

        def work(connection: sa.Connection) -> list[Tenant]:
            if own:
                return [tenants.get_tenant(connection, own)]
            return tenants.list_tenants(connection, size + 1, after)

        found = await self._parts.store.read(work)
        answer = pb.ListTenantsResponse(tenants=[convert.tenant(row) for row in found[:size]])
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = self._token("ListTenants", request, last.create_ns, last.tenant_id)
        return answer

    async def CreateLine(self, request: pb.CreateLineRequest, context: Any) -> pb.CreateLineResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        line = _new(request.line, tenant_id, self._parts.clock_ns())
        policy = _policy(request.line, line)
        if request.validate_only:

            def check(connection: sa.Connection) -> Line:
                tenants.check_line(connection, line)
                return prompts.resolved(connection, line)

            answer = await self._message(await self._parts.store.read(check))
            answer.ClearField("name")  # chosen when it is made
            answer.ClearField("create_time")
            answer.ClearField("etag")
            if policy is not None:
                answer.grain = request.line.grain or answer.grain
                if policy.grace_days is not None:
                    answer.grace_days = policy.grace_days
            return pb.CreateLineResponse(line=answer)

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                tenants.add_line(connection, prompts.resolved(connection, line))
                if policy is not None:
                    linepolicies.add(connection, policy)
                note(connection, line.line_id)

            await self._parts.store.write(work)
            return line.line_id

        line_id = await self._parts.once("CreateLine", request, act)
        try:
            # Before anything can be recorded under it: then nothing is shortened, and no cooling-off is due.
            await self._parts.line_policies.push(line_id)
        finally:
            await self._parts.routing.publish()  # recording waits for nobody
        return pb.CreateLineResponse(line=await self._line(tenant_id, line_id))

    async def GetLine(self, request: pb.GetLineRequest, context: Any) -> pb.GetLineResponse:
        return pb.GetLineResponse(line=await self._line(*names.child(request.name, "lines")))

    async def ListLines(self, request: pb.ListLinesRequest, context: Any) -> pb.ListLinesResponse:
        tenant_id = names.parent(request.parent)
        size = page_size(request.page_size)
        after = self._after("ListLines", request)

        def work(connection: sa.Connection) -> list[Line]:
            if tenant_id is not None:
                tenants.get_tenant(connection, tenant_id)
            return tenants.list_lines(connection, size + 1, after, tenant_id)

        found = await self._parts.store.read(work)
        holds = await self._parts.line_policies.of(found[:size])
        samples = await self._parts.store.read(prompts.sample_ids)
        answer = pb.ListLinesResponse(
            lines=[linefields.message(row, holds.get(row.line_id), samples) for row in found[:size]]
        )
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = self._token("ListLines", request, last.create_ns, last.line_id)
        return answer

    async def UpdateLine(self, request: pb.UpdateLineRequest, context: Any) -> pb.UpdateLineResponse:
        tenant_id, line_id = names.child(request.line.name, "lines", "line.name")
        paths = _paths(request)

        def changed(connection: sa.Connection) -> Line:
            before = tenants.get_line(connection, line_id, tenant_id)
            if request.line.etag not in ("", tenants.line_etag(before)):
                raise EtagMismatchError("the line changed since", field="line.etag")
            shown = linefields.message(before, None, prompts.sample_ids(connection))
            wanted = _merged(shown, request.line, paths)
            after = linefields.read(wanted, line_id, before.tenant_id, before.create_ns)
            return prompts.resolved(connection, after, before)

        if request.validate_only:

            def check(connection: sa.Connection) -> Line:
                line = changed(connection)
                tenants.check_update(connection, line)
                return line

            return pb.UpdateLineResponse(line=await self._message(await self._parts.store.read(check)))

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                tenants.update_line(connection, changed(connection))
                note(connection, line_id)

            await self._parts.store.write(work)
            return line_id

        await self._parts.once("UpdateLine", request, act)
        await self._parts.routing.publish()
        return pb.UpdateLineResponse(line=await self._line(tenant_id, line_id))

    async def _tenant(self, tenant_id: str) -> pb.Tenant:
        return convert.tenant(
            await self._parts.store.read(lambda connection: tenants.get_tenant(connection, tenant_id))
        )

    async def _line(self, tenant_id: str | None, line_id: str) -> pb.Line:
        return await self._message(
            await self._parts.store.read(lambda connection: tenants.get_line(connection, line_id, tenant_id))
        )

    async def _message(self, line: Line) -> pb.Line:
        samples = await self._parts.store.read(prompts.sample_ids)
        return linefields.message(
            line, (await self._parts.line_policies.of([line])).get(line.line_id), samples
        )

    def _after(self, method: str, request: Any) -> tuple[int, str] | None:
        if not request.page_token:
            return None
        now_s = self._parts.clock_ns() / 1e9
        match self._parts.tokens.read_page(request.page_token, query_of(method, request), now_s):
            case [int(create_ns), str(last)]:
                return create_ns, last
            case _:
                raise PageTokenError("not a page token of this query", field="page_token")

    def _token(self, method: str, request: Any, create_ns: int, last: str) -> str:
        now_s = self._parts.clock_ns() / 1e9
        return self._parts.tokens.page(query_of(method, request), [create_ns, last], now_s)


def _new(asked: pb.Line, tenant_id: str, now_ns: int) -> Line:
    if not 0 <= asked.grace_days <= MAX_GRACE_DAYS:
        raise FieldInvalidError(f"should be 0 to {MAX_GRACE_DAYS}", field="line.grace_days")
    if asked.grain not in pb.Grain.values():
        raise FieldInvalidError("should be DAY, WEEK or MONTH", field="line.grain")
    return linefields.read(asked, new_id(), tenant_id, now_ns)


def _policy(asked: pb.Line, line: Line) -> LinePolicy | None:
    """What the line's retention policy begins with; None: it says nothing."""
    if not asked.grain and not asked.HasField("grace_days"):
        return None
    return LinePolicy(
        line_id=line.line_id,
        tenant_id=line.tenant_id,
        grain=pb.Grain.Name(asked.grain).removeprefix("GRAIN_").lower() if asked.grain else "",
        grace_days=asked.grace_days if asked.HasField("grace_days") else None,
        who=caller().name,
    )


def _paths(request: pb.UpdateLineRequest) -> list[str]:
    """What to change, by field path; FieldInvalidError where something else is named."""
    paths = list(dict.fromkeys(request.update_mask.paths))
    if "*" in paths:
        if len(paths) > 1:
            raise FieldInvalidError("* stands alone", field="update_mask")
        return list(FIELDS)
    if not paths:
        return [field.name for field, _ in request.line.ListFields() if field.name in FIELDS]
    for path in paths:
        if path.partition(".")[0] in ("grain", "grace_days"):
            raise FieldInvalidError("is changed by UpdateRetentionPolicy", field="update_mask")
        if path.partition(".")[0] not in FIELDS or not FieldMask(paths=[path]).IsValidForDescriptor(
            pb.Line.DESCRIPTOR
        ):
            raise FieldInvalidError(
                "names what is no field of a line that can be changed", field="update_mask"
            )
    return paths


def _merged(now: pb.Line, said: pb.Line, paths: list[str]) -> pb.Line:
    """The line as it is, with what was said in the place of what the paths name."""
    source = pb.Line()
    source.CopyFrom(said)
    for path in paths:
        # A message on the way that was not said: what is named in it is to be cleared, not left.
        *way, _ = path.split(".")
        message: Any = source
        for name in way:
            message = getattr(message, name)
            message.SetInParent()
    FieldMask(paths=paths).MergeMessage(source, now, replace_message_field=True, replace_repeated_field=True)
    return now
