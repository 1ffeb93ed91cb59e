"""TenantsService; what of it is of lines is in `lines`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import closingview, convert, differences, history, masks, names, scope
from appliance.api.errors import FieldInvalidError
from appliance.api.languages import language_tag
from appliance.api.lines import Lines
from appliance.api.pages import Page
from appliance.api.parts import Note, check_text
from appliance.catalog import closing, counting, tenants, versions
from appliance.catalog.closing import Closings
from appliance.catalog.versions import Subject
from appliance.model import new_id
from appliance.model.routing import Tenant
from appliance.model.staff import DEFAULT_YEARS, MAX_YEARS
from earwitness.v1 import tenants_pb2 as pb
from earwitness.v1 import tenants_pb2_grpc

FIELDS: Final = (
    "display_name",
    "records_officer_contact",
    "language",
    "time_zone",
    "unacknowledged_may_pause",
    "unacknowledged_may_read",
    "acknowledgement_retention_years",
)
MAX_CONTACT: Final = 200


class Tenants(Lines, tenants_pb2_grpc.TenantsServiceServicer):
    """See tenants.proto."""

    async def CreateTenant(self, request: pb.CreateTenantRequest, context: Any) -> pb.CreateTenantResponse:
        asked = _read(request.tenant, Tenant(tenant_id="", display_name="", public_key=b""))
        changes, _ = differences.between(None, convert.tenant(asked))
        if request.validate_only:
            answer = convert.tenant(asked)
            for chosen in ("name", "create_time", "etag"):
                answer.ClearField(chosen)
            return pb.CreateTenantResponse(tenant=answer, changes=changes)
        done: list[pb.FieldChange] = []

        async def act(note: Note) -> str:
            tenant_id = new_id()
            tenant = asked.model_copy(
                update={
                    "tenant_id": tenant_id,
                    "public_key": await self.parts.vault.create_tenant_key(tenant_id),
                    "create_ns": self.parts.clock_ns(),
                }
            )
            author = history.author(self.parts)

            def work(connection: sa.Connection) -> None:
                tenants.add_tenant(connection, tenant, author)
                note(connection, tenant_id)

            await self.parts.store.write(work)
            done.extend(changes)
            return tenant_id

        tenant_id = await self.parts.once("CreateTenant", request, act)
        await self.parts.routing.publish()
        return pb.CreateTenantResponse(tenant=await self._tenant(tenant_id), changes=done)

    async def GetTenant(self, request: pb.GetTenantRequest, context: Any) -> pb.GetTenantResponse:
        return pb.GetTenantResponse(tenant=await self._tenant(names.one_tenant(request.name)))

    async def ListTenants(self, request: pb.ListTenantsRequest, context: Any) -> pb.ListTenantsResponse:
        page = Page(self.parts, "ListTenants", request)
        size = page.size
        own = scope.caller().tenant_id

        def work(connection: sa.Connection) -> tuple[list[Tenant], Closings]:
            if own:
                some = [tenants.get_tenant(connection, own)]
            else:
                some = tenants.list_tenants(connection, size + 1, page.after)
            return some, closing.of_tenants(connection, {one.tenant_id for one in some})

        found, closings = await self.parts.store.read(work)
        answer = pb.ListTenantsResponse(tenants=[convert.tenant(row) for row in found[:size]])
        closingview.put_states(closings, answer.tenants)
        size = page.cut(answer.tenants)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.create_ns, last.tenant_id)
        return answer

    async def UpdateTenant(self, request: pb.UpdateTenantRequest, context: Any) -> pb.UpdateTenantResponse:
        tenant_id = names.one_tenant(request.tenant.name, "tenant.name")
        paths = masks.paths(request.update_mask, request.tenant, FIELDS)

        def changed(connection: sa.Connection) -> tuple[Tenant, Tenant]:
            before = tenants.check_tenant(connection, tenant_id, request.tenant.etag)
            wanted = masks.merged(convert.tenant(before), request.tenant, paths)
            return before, _read(wanted, before)

        tenant, changes = await self._change_tenant("UpdateTenant", request, tenant_id, changed)
        return pb.UpdateTenantResponse(tenant=tenant, changes=changes)

    async def RestoreTenant(self, request: pb.RestoreTenantRequest, context: Any) -> pb.RestoreTenantResponse:
        tenant_id = names.one_tenant(request.name)

        def changed(connection: sa.Connection) -> tuple[Tenant, Tenant]:
            before = tenants.check_tenant(connection, tenant_id, request.etag)
            content = versions.get(connection, Subject.TENANT, tenant_id, tenant_id, request.version)
            return before, _read(convert.tenant(Tenant.model_validate(content)), before)

        tenant, changes = await self._change_tenant(
            "RestoreTenant", request, tenant_id, changed, restored=request.version
        )
        return pb.RestoreTenantResponse(tenant=tenant, changes=changes)

    async def _change_tenant(
        self,
        method: str,
        request: Any,
        tenant_id: str,
        changed: Callable[[sa.Connection], tuple[Tenant, Tenant]],
        *,
        restored: int = 0,
    ) -> tuple[pb.Tenant, list[pb.FieldChange]]:
        if request.validate_only:
            before, after = await self.parts.store.read(changed)
            return convert.tenant(after), _changes(before, after)
        found: list[pb.FieldChange] = []

        async def act(note: Note) -> str:
            author = history.author(self.parts, restored)

            def work(connection: sa.Connection) -> list[pb.FieldChange]:
                before, after = changed(connection)
                tenants.update_tenant(connection, after, author)
                note(connection, tenant_id)
                return _changes(before, after)

            found.extend(await self.parts.store.write(work))
            return tenant_id

        await self.parts.once(method, request, act)
        await self.parts.routing.publish()
        return await self._tenant(tenant_id), found

    async def ListTenantVersions(
        self, request: pb.ListTenantVersionsRequest, context: Any
    ) -> pb.ListTenantVersionsResponse:
        tenant_id = names.one_tenant(request.parent, "parent")

        def find(
            connection: sa.Connection,
        ) -> tuple[Subject, str, str, Callable[[dict[str, Any]], pb.Tenant]]:
            tenants.get_tenant(connection, tenant_id)
            return (
                Subject.TENANT,
                tenant_id,
                tenant_id,
                lambda content: convert.tenant(Tenant.model_validate(content)),
            )

        some, token = await history.listed(self.parts, "ListTenantVersions", request, find)
        return pb.ListTenantVersionsResponse(versions=some, next_page_token=token)

    async def _tenant(self, tenant_id: str) -> pb.Tenant:
        def work(connection: sa.Connection) -> pb.Tenant:
            made = convert.tenant(tenants.get_tenant(connection, tenant_id))
            closingview.put_states(closing.of_tenants(connection, [tenant_id]), [made])
            return made

        return await self.parts.store.read(work)


def _read(asked: pb.Tenant, before: Tenant) -> Tenant:
    """The tenant that a message describes; FieldInvalidError, TimeZoneError."""
    zone = asked.time_zone
    if zone:
        counting.zone(zone, "tenant.time_zone")
    return before.model_copy(
        update={
            "display_name": check_text(asked.display_name, "tenant.display_name", 100, 1),
            "contact": check_text(
                asked.records_officer_contact, "tenant.records_officer_contact", MAX_CONTACT
            ),
            "language": language_tag(asked.language, "tenant.language") if asked.language else "",
            "time_zone": zone,
            # Not said is yes: nobody is barred unless the tenant wants it.
            "unacknowledged_may_pause": asked.unacknowledged_may_pause
            or not asked.HasField("unacknowledged_may_pause"),
            "unacknowledged_may_read": asked.unacknowledged_may_read
            or not asked.HasField("unacknowledged_may_read"),
            "acknowledgement_years": _years(asked.acknowledgement_retention_years),
        }
    )


def _years(asked: int) -> int:
    if not 0 <= asked <= MAX_YEARS:
        raise FieldInvalidError(f"should be 1 to {MAX_YEARS}", field="tenant.acknowledgement_retention_years")
    return asked or DEFAULT_YEARS


def _changes(before: Tenant, after: Tenant) -> list[pb.FieldChange]:
    return differences.between(convert.tenant(before), convert.tenant(after))[0]
