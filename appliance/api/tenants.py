"""TenantsService."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import convert, names
from appliance.api.errors import FieldInvalidError
from appliance.api.gate import caller
from appliance.api.parts import Note, Parts, check_text, page_size, query_of
from appliance.catalog import linepolicies, tenants
from appliance.catalog.errors import PageTokenError
from appliance.catalog.linepolicies import LinePolicy
from appliance.model import Direction, new_id
from appliance.model.routing import Line, Tenant
from appliance.storage.retention.terms import MAX_GRACE_DAYS
from earwitness.v1 import party_pb2, tenants_pb2_grpc
from earwitness.v1 import tenants_pb2 as pb

MAX_NUMBERS: Final = 1000
MAX_TRUNKS: Final = 100
_NUMBER = re.compile(r"\+?[0-9]{1,32}\*?|\+?\*")
_PEER_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9*](?:[A-Za-z0-9.*-]*[A-Za-z0-9])?")


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
        found = await self._parts.store.read(
            lambda connection: tenants.list_tenants(connection, size + 1, after)
        )
        answer = pb.ListTenantsResponse(tenants=[convert.tenant(row) for row in found[:size]])
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = self._token("ListTenants", request, last.create_ns, last.tenant_id)
        return answer

    async def CreateLine(self, request: pb.CreateLineRequest, context: Any) -> pb.CreateLineResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        line = _line(request.line, tenant_id, self._parts.clock_ns())
        policy = _policy(request.line, line)
        if request.validate_only:
            await self._parts.store.read(lambda connection: tenants.check_line(connection, line))
            answer = await self._message(line)
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
                tenants.add_line(connection, line)
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
        answer = pb.ListLinesResponse(
            lines=[convert.line(row, holds.get(row.line_id)) for row in found[:size]]
        )
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = self._token("ListLines", request, last.create_ns, last.line_id)
        return answer

    async def _tenant(self, tenant_id: str) -> pb.Tenant:
        return convert.tenant(
            await self._parts.store.read(lambda connection: tenants.get_tenant(connection, tenant_id))
        )

    async def _line(self, tenant_id: str | None, line_id: str) -> pb.Line:
        return await self._message(
            await self._parts.store.read(lambda connection: tenants.get_line(connection, line_id, tenant_id))
        )

    async def _message(self, line: Line) -> pb.Line:
        return convert.line(line, (await self._parts.line_policies.of([line])).get(line.line_id))

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


def _line(asked: pb.Line, tenant_id: str, now_ns: int) -> Line:
    if len(asked.trunks) > MAX_TRUNKS:
        raise FieldInvalidError(f"at most {MAX_TRUNKS}", field="line.trunks")
    for number, trunk in enumerate(asked.trunks):
        _check_trunk(trunk, f"line.trunks[{number}]")
    if not 0 <= asked.grace_days <= MAX_GRACE_DAYS:
        raise FieldInvalidError(f"should be 0 to {MAX_GRACE_DAYS}", field="line.grace_days")
    directions = tuple(dict.fromkeys(_direction(one) for one in asked.directions))
    if asked.grain not in pb.Grain.values():
        raise FieldInvalidError("should be DAY, WEEK or MONTH", field="line.grain")
    return Line(
        line_id=new_id(),
        tenant_id=tenant_id,
        display_name=check_text(asked.display_name, "line.display_name", 100, 1),
        numbers=_numbers(asked.numbers, "line.numbers"),
        trunks=tuple(asked.trunks),
        catch_all=asked.catch_all,
        do_not_record=_numbers(asked.do_not_record, "line.do_not_record"),
        create_ns=now_ns,
        **({"directions": directions} if directions else {}),
    )


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


def _numbers(asked: Any, field: str) -> tuple[str, ...]:
    if len(asked) > MAX_NUMBERS:
        raise FieldInvalidError(f"at most {MAX_NUMBERS}", field=field)
    for position, number in enumerate(asked):
        if not _NUMBER.fullmatch(number):
            raise FieldInvalidError(
                "should be digits with an optional leading +; a trailing * stands for any rest",
                field=f"{field}[{position}]",
            )
    return tuple(dict.fromkeys(asked))


def _check_trunk(trunk: str, field: str) -> None:
    try:
        ipaddress.ip_network(trunk, strict=False)
    except ValueError:
        if not _PEER_NAME.fullmatch(trunk) or "/" in trunk:
            raise FieldInvalidError("should be an address, a network or a host name", field=field) from None


def _direction(value: int) -> Direction:
    try:
        return Direction[party_pb2.Direction.Name(value).removeprefix("DIRECTION_")]  # type: ignore[arg-type]
    except (ValueError, KeyError):
        raise FieldInvalidError("not a direction", field="line.directions") from None
