"""GrantsService: asked for, approved, denied, revoked, shown. Which rules hold is said by `access.grants`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa

from appliance.access import grants as rules
from appliance.access.errors import GrantLimitError, GrantStateError
from appliance.api import gate, grantconvert, names
from appliance.api.errors import FieldInvalidError
from appliance.api.grantapproval import Approval, check_etag, unmade
from appliance.api.granted import Granted, by_grant_alone, is_own, tell
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts, check_text
from appliance.api.scope import caller
from appliance.catalog import alarms
from appliance.catalog import grants as rows
from appliance.catalog.events import EventType
from appliance.catalog.grants import Grant, Latched
from earwitness.v1 import grants_pb2 as pb
from earwitness.v1 import grants_pb2_grpc

MAX_REQUESTS: Final = 100  # of one tenant, that wait for an answer
MAX_REASON: Final = 200
_PAGE: Final = 200


class Grants(Approval, grants_pb2_grpc.GrantsServiceServicer):
    """See grants.proto."""

    def __init__(self, parts: Parts, granted: Granted) -> None:
        super().__init__(parts, granted)

    async def RequestGrant(self, request: pb.RequestGrantRequest, context: Any) -> pb.RequestGrantResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        grant = self.asked(request.grant, tenant_id, necessity=True)

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                self.check(connection, grant)
                if rows.requests_of(connection, tenant_id) >= MAX_REQUESTS:
                    raise GrantLimitError("too many requests of this tenant wait", limit=MAX_REQUESTS)
                if request.validate_only:
                    return
                rows.insert(connection, grant)
                tell(connection, EventType.GRANT_REQUESTED, grant, grant.request_ns)
                alarms.raise_alarm(connection, "GrantRequested", grant.grant_id, tenant_id, grant.request_ns)
                note(connection, grant.grant_id)

            await self._do(work, request.validate_only)
            return grant.grant_id

        grant_id = await self.parts.once("RequestGrant", request, act)
        made = unmade(grant) if request.validate_only else await self.message(tenant_id, grant_id)
        return pb.RequestGrantResponse(grant=made)

    async def DenyGrant(self, request: pb.DenyGrantRequest, context: Any) -> pb.DenyGrantResponse:
        check_text(request.reason, "reason", MAX_REASON, 1)
        made = await self._end(request, "DenyGrant", Latched.DENIED, EventType.GRANT_DENIED)
        return pb.DenyGrantResponse(grant=made)

    async def RevokeGrant(self, request: pb.RevokeGrantRequest, context: Any) -> pb.RevokeGrantResponse:
        check_text(request.reason, "reason", MAX_REASON)
        made = await self._end(request, "RevokeGrant", Latched.REVOKED, EventType.GRANT_REVOKED)
        return pb.RevokeGrantResponse(grant=made)

    async def GetGrant(self, request: pb.GetGrantRequest, context: Any) -> pb.GetGrantResponse:
        tenant_id, grant_id = names.child(request.name, "grants")
        return pb.GetGrantResponse(grant=await self.message(tenant_id, grant_id, method="GetGrant"))

    async def ListGrants(self, request: pb.ListGrantsRequest, context: Any) -> pb.ListGrantsResponse:
        tenant_id = names.parent(request.parent)
        states = {_state(value) for value in request.states}
        mine = by_grant_alone("/earwitness.v1.GrantsService/ListGrants")
        identity, clocks = caller(), self.granted.clocks
        page = Page(self.parts, "ListGrants", request)
        size = page.size
        start: tuple[int, str] | None = page.after

        def wanted(grant: Grant) -> bool:
            return (not mine or is_own(grant, identity)) and (
                not states or rules.standing(grant, clocks.now(grant)) in states
            )

        def work(connection: sa.Connection) -> tuple[list[Grant], dict[str, int]]:
            found: list[Grant] = []
            after = start
            while len(found) <= size:
                some = rows.page(connection, tenant_id=tenant_id, after=after, limit=_PAGE)
                found += filter(wanted, some)
                if len(some) < _PAGE:
                    break
                after = (some[-1].request_ns, some[-1].grant_id)
            return found[: size + 1], rows.counts(connection, [one.grant_id for one in found[:size]])

        found, counts = await self.parts.store.read(work)
        answer = pb.ListGrantsResponse(
            grants=[
                grantconvert.message(one, clocks.now(one), counts.get(one.grant_id, 0))
                for one in found[:size]
            ]
        )
        size = page.cut(answer.grants)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.request_ns, last.grant_id)
        return answer

    async def ListGrantUses(self, request: pb.ListGrantUsesRequest, context: Any) -> pb.ListGrantUsesResponse:
        tenant_id, grant_id = names.child(request.parent, "grants", "parent")
        page = Page(self.parts, "ListGrantUses", request)
        size = page.size
        after: tuple[int, str] | None = page.after
        look = self.sight("ListGrantUses", tenant_id, grant_id)

        def work(connection: sa.Connection) -> tuple[Grant, list[rows.Use]]:
            return look(connection), rows.use_page(connection, grant_id, after=after, limit=size + 1)

        grant, found = await self.parts.store.read(work)
        answer = pb.ListGrantUsesResponse(
            grant_uses=[grantconvert.use(one, grant.tenant_id) for one in found[:size]]
        )
        size = page.cut(answer.grant_uses)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.at_ns, last.use_id)
        return answer

    async def ListGrantKeys(self, request: pb.ListGrantKeysRequest, context: Any) -> pb.ListGrantKeysResponse:
        tenant_id, grant_id = names.child(request.parent, "grants", "parent")
        page = Page(self.parts, "ListGrantKeys", request, (str,))
        size = page.size
        after = page.after[0] if page.after else ""
        grant = await self.parts.store.read(self.sight("ListGrantKeys", tenant_id, grant_id))
        now_ns = self.granted.clocks.now(grant)
        if not rules.goes_on(grant, caller(), now_ns):
            raise GrantStateError("it is not in force for you", state=rules.standing(grant, now_ns).value)
        gate.allowed_by(names.grant(grant.tenant_id, grant_id))
        found = [one for one in await self.granted.keys.of(grant) if one.recording_id > after]
        answer = pb.ListGrantKeysResponse(
            grant_keys=[grantconvert.key(one, grant.tenant_id) for one in found[:size]]
        )
        size = page.cut(answer.grant_keys)
        if len(found) > size:
            answer.next_page_token = page.token(found[size - 1].recording_id)
        return answer

    # The parts of it.

    async def _do(self, work: Callable[[sa.Connection], None], check: bool) -> None:
        """`check`: whether it may be done, and no more."""
        await (self.parts.store.read if check else self.parts.store.write)(work)

    async def _end(
        self, request: pb.DenyGrantRequest | pb.RevokeGrantRequest, method: str, how: Latched, kind: EventType
    ) -> pb.SupportGrant:
        tenant_id, grant_id = names.child(request.name, "grants")
        look = self.sight(method, tenant_id, grant_id)
        who = caller().name

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                grant = look(connection)
                check_etag(grant, request.etag)
                if not (how is Latched.REVOKED and grant.state not in rows.OPEN):
                    now_ns = self.granted.clocks.now(grant)
                    ended = rules.end(grant, how, who, request.reason, now_ns)
                    if not request.validate_only:
                        rows.update(connection, ended)
                        tell(connection, kind, ended, now_ns)
                if not request.validate_only:
                    note(connection, grant_id)

            async def end() -> None:
                await self._do(work, request.validate_only)
                if not request.validate_only:
                    self.granted.stop(grant_id)
                    await self.granted.keys.drop(await self.parts.store.read(look))

            # Shielded: where who revokes goes away, what is being read breaks off all the same.
            await asyncio.shield(end())
            return grant_id

        async with self.parts.locks.held(grant_id):
            await self.parts.once(method, request, act)
        return await self.message(tenant_id, grant_id)


def _state(value: int) -> rules.Standing:
    try:
        return rules.Standing[pb.GrantState.Name(value).removeprefix("GRANT_STATE_")]  # type: ignore[arg-type]
    except (ValueError, KeyError):
        raise FieldInvalidError("not a state of a grant", field="states") from None
