"""GrantsService: asked for, approved, denied, revoked, shown. Which rules hold is said by `access.grants`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.access import grants as rules
from appliance.access.errors import GranteeUnknownError, GrantLimitError, GrantTermsError
from appliance.access.identities import Role
from appliance.api import convert, grantconvert, names
from appliance.api.errors import FieldInvalidError
from appliance.api.granted import Granted, by_grant_alone, is_own, tell
from appliance.api.parts import Note, Parts, check_text, page_size, query_of
from appliance.api.scope import caller
from appliance.catalog import grants as rows
from appliance.catalog import purposes, recordings, tables, tenants
from appliance.catalog.errors import EtagMismatchError, GrantNotFoundError, PageTokenError
from appliance.catalog.events import EventType
from appliance.catalog.grants import Grant, Latched, Scope
from appliance.catalog.recordings import Order
from appliance.catalog.records import Recording
from earwitness.v1 import grants_pb2 as pb
from earwitness.v1 import grants_pb2_grpc

MAX_REQUESTS: Final = 100  # of one tenant, that wait for an answer
MAX_REASON: Final = 200
MAX_ETAG: Final = 100
_PAGE: Final = 200
_OLDEST_FIRST: Final = Order("start_time", descending=False)


class Grants(grants_pb2_grpc.GrantsServiceServicer):
    """See grants.proto."""

    def __init__(self, parts: Parts, granted: Granted) -> None:
        self.parts = parts
        self._granted = granted

    async def RequestGrant(self, request: pb.RequestGrantRequest, context: Any) -> pb.RequestGrantResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        grant = self._asked(request.grant, tenant_id, necessity=True)

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                self._check(connection, grant)
                if rows.requests_of(connection, tenant_id) >= MAX_REQUESTS:
                    raise GrantLimitError("too many requests of this tenant wait", limit=MAX_REQUESTS)
                if request.validate_only:
                    return
                rows.insert(connection, grant)
                tell(connection, EventType.GRANT_REQUESTED, grant, grant.request_ns)
                note(connection, grant.grant_id)

            await self._do(work, request.validate_only)
            return grant.grant_id

        grant_id = await self.parts.once("RequestGrant", request, act)
        made = _unmade(grant) if request.validate_only else await self._message(tenant_id, grant_id)
        return pb.RequestGrantResponse(grant=made)

    async def CreateGrant(self, request: pb.CreateGrantRequest, context: Any) -> pb.CreateGrantResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        if not request.grant.identities:
            raise FieldInvalidError("should name who may read", field="grant.identities")
        asked = self._asked(request.grant, tenant_id, necessity=False)
        answer = pb.CreateGrantResponse()

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                self._check(connection, asked)
                found = self._found(connection, asked, Scope())
                grant = self._approved(asked, rules.Narrowing(), unasked=True)
                ids = rules.covered(one.recording_id for one in found)
                answer.coverage.CopyFrom(_coverage(grant, found, ids))
                if request.validate_only:
                    answer.grant.CopyFrom(_unmade(grant, len(ids)))
                    return
                rows.insert(connection, grant)
                rows.cover(connection, grant.grant_id, ids)
                tell(connection, EventType.GRANT_APPROVED, grant, asked.request_ns)
                note(connection, grant.grant_id)

            await self._do(work, request.validate_only)
            return asked.grant_id

        grant_id = await self.parts.once("CreateGrant", request, act)
        if not request.validate_only:
            answer.grant.CopyFrom(await self._message(tenant_id, grant_id))
        return answer

    async def ApproveGrant(self, request: pb.ApproveGrantRequest, context: Any) -> pb.ApproveGrantResponse:
        tenant_id, grant_id = names.child(request.name, "grants")
        narrowing = grantconvert.narrowing(request)
        answer = pb.ApproveGrantResponse()

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                asked = _current(connection, grant_id, tenant_id, request.etag)
                self._check(connection, asked)
                also = grantconvert.scope(request.scope, asked.tenant_id, "scope")
                grant = self._approved(asked, narrowing)
                found = self._found(connection, asked, also)
                ids = rules.covered((one.recording_id for one in found), also.recordings or None)
                answer.coverage.CopyFrom(_coverage(asked, found, ids))
                if request.validate_only:
                    answer.grant.CopyFrom(grantconvert.message(grant, grant.seen_ns, len(ids), sorted(ids)))
                    return
                rows.update(connection, grant)
                rows.cover(connection, grant_id, ids)
                tell(connection, EventType.GRANT_APPROVED, grant, grant.seen_ns)
                note(connection, grant_id)

            await self._do(work, request.validate_only)
            return grant_id

        await self.parts.once("ApproveGrant", request, act)
        if not request.validate_only:
            answer.grant.CopyFrom(await self._message(tenant_id, grant_id))
        return answer

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
        return pb.GetGrantResponse(grant=await self._message(tenant_id, grant_id, method="GetGrant"))

    async def ListGrants(self, request: pb.ListGrantsRequest, context: Any) -> pb.ListGrantsResponse:
        tenant_id = names.parent(request.parent)
        states = {_state(value) for value in request.states}
        mine = by_grant_alone("/earwitness.v1.GrantsService/ListGrants")
        identity, clocks = caller(), self._granted.clocks
        size = page_size(request.page_size)
        query, now_s = query_of("ListGrants", request), self.parts.clock_ns() / 1e9
        start: tuple[int, str] | None = None
        if request.page_token:
            start = _position(self.parts.tokens.read_page(request.page_token, query, now_s))

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
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = self.parts.tokens.page(query, [last.request_ns, last.grant_id], now_s)
        return answer

    async def ListGrantUses(self, request: pb.ListGrantUsesRequest, context: Any) -> pb.ListGrantUsesResponse:
        tenant_id, grant_id = names.child(request.parent, "grants", "parent")
        size = page_size(request.page_size)
        query, now_s = query_of("ListGrantUses", request), self.parts.clock_ns() / 1e9
        after: tuple[int, str] | None = None
        if request.page_token:
            after = _position(self.parts.tokens.read_page(request.page_token, query, now_s))
        look = self._sight("ListGrantUses", tenant_id, grant_id)

        def work(connection: sa.Connection) -> tuple[Grant, list[rows.Use]]:
            return look(connection), rows.use_page(connection, grant_id, after=after, limit=size + 1)

        grant, found = await self.parts.store.read(work)
        answer = pb.ListGrantUsesResponse(
            grant_uses=[grantconvert.use(one, grant.tenant_id) for one in found[:size]]
        )
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = self.parts.tokens.page(query, [last.at_ns, last.use_id], now_s)
        return answer

    # The parts of it.

    def _asked(self, said: pb.SupportGrant, tenant_id: str, *, necessity: bool) -> Grant:
        now_ns = self.parts.clock_ns()
        grant = grantconvert.asked(said, tenant_id, caller().name, now_ns)
        days = self.parts.settings.access.grant_days
        try:
            return rules.check_terms(grant, now_ns, max_days=days, necessity=necessity)
        except GrantTermsError as error:
            raise GrantTermsError(error.message, field=f"grant.{error.data['field']}") from error

    def _check(self, connection: sa.Connection, grant: Grant) -> None:
        """TenantNotFoundError, GranteeUnknownError; PurposeUnknownError, PurposeArchivedError."""
        tenants.get_tenant(connection, grant.tenant_id)
        purposes.check_stated(connection, grant.tenant_id, [grant.purpose], "grant.purpose")
        purposes.check_stated(connection, grant.tenant_id, [grant.purpose], "grant.purpose")
        providers = {one.name for one in self.parts.settings.access.oidc}
        for name in grant.identities:
            if name.partition(":")[0] in providers and ":" in name:
                continue  # its provider says what it is when it comes
            known = connection.execute(
                sa.select(tables.identities.c.roles).where(
                    tables.identities.c.name == name, tables.identities.c.tenant_id == ""
                )
            ).scalar()
            if Role.SUPPORT.value not in (known or ()):
                raise GranteeUnknownError(
                    "is no identity of the box with the role support", field="grant.identities"
                )

    def _approved(self, asked: Grant, narrowing: rules.Narrowing, *, unasked: bool = False) -> Grant:
        return rules.approve(
            asked,
            narrowing,
            caller(),
            self._granted.clocks.now(asked),
            max_days=self.parts.settings.access.grant_days,
            unasked=unasked,
        )

    def _found(self, connection: sa.Connection, asked: Grant, also: Scope) -> list[Recording]:
        """Recordings that a request finds now, and that the approval's scope leaves; one more than there may be at most."""
        named = [set(one.recordings) for one in (asked.scope, also) if one.recordings]
        among = None
        if named:
            ids = set.intersection(*named)
            among = sa.select(tables.recordings.c.id).where(tables.recordings.c.id.in_(ids))
        return recordings.search(
            connection,
            tenant_id=asked.tenant_id,
            where=grantconvert.where((asked.scope, also)),
            order=_OLDEST_FIRST,
            limit=rules.MAX_RECORDINGS + 1,
            bound=recordings.newest(connection),
            among=among,
        )

    async def _do(self, work: Callable[[sa.Connection], None], check: bool) -> None:
        """`check`: whether it may be done, and no more."""
        await (self.parts.store.read if check else self.parts.store.write)(work)

    async def _end(
        self, request: pb.DenyGrantRequest | pb.RevokeGrantRequest, method: str, how: Latched, kind: EventType
    ) -> pb.SupportGrant:
        tenant_id, grant_id = names.child(request.name, "grants")
        look = self._sight(method, tenant_id, grant_id)
        who = caller().name

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                grant = look(connection)
                _check_etag(grant, request.etag)
                if not (how is Latched.REVOKED and grant.state not in rows.OPEN):
                    now_ns = self._granted.clocks.now(grant)
                    ended = rules.end(grant, how, who, request.reason, now_ns)
                    if not request.validate_only:
                        rows.update(connection, ended)
                        tell(connection, kind, ended, now_ns)
                if not request.validate_only:
                    note(connection, grant_id)

            await self._do(work, request.validate_only)
            if not request.validate_only:
                self._granted.stop(grant_id)
            return grant_id

        await self.parts.once(method, request, act)
        return await self._message(tenant_id, grant_id)

    def _sight(self, method: str, tenant_id: str | None, grant_id: str) -> Callable[[sa.Connection], Grant]:
        """Reads a grant as far as the caller sees it: GrantNotFoundError."""
        mine = by_grant_alone(f"/earwitness.v1.GrantsService/{method}")
        identity = caller()

        def look(connection: sa.Connection) -> Grant:
            grant = rows.get(connection, grant_id, tenant_id)
            sees = is_own(grant, identity)
            if method == "RevokeGrant":
                sees = grant.requester == identity.name
            if mine and not sees:
                raise GrantNotFoundError("there is no such grant", grant=grant_id)
            return grant

        return look

    async def _message(self, tenant_id: str | None, grant_id: str, method: str = "") -> pb.SupportGrant:
        look = self._sight(method, tenant_id, grant_id)

        def work(connection: sa.Connection) -> tuple[Grant, list[str]]:
            return look(connection), rows.recordings_of(connection, grant_id)

        grant, covered = await self.parts.store.read(work)
        return grantconvert.message(grant, self._granted.clocks.now(grant), len(covered), covered)


def _current(connection: sa.Connection, grant_id: str, tenant_id: str | None, etag: str) -> Grant:
    grant = rows.get(connection, grant_id, tenant_id)
    _check_etag(grant, etag)
    return grant


def _check_etag(grant: Grant, etag: str) -> None:
    if len(etag) > MAX_ETAG:
        raise FieldInvalidError("not an etag", field="etag")
    if etag not in ("", grant.etag):
        raise EtagMismatchError("the grant changed since", grant=grant.grant_id, field="etag")


def _unmade(grant: Grant, count: int = 0) -> pb.SupportGrant:
    """As it would be."""
    return grantconvert.message(replace(grant, grant_id=""), grant.seen_ns, count)


def _coverage(asked: Grant, found: list[Recording], ids: frozenset[str]) -> pb.GrantCoverage:
    left = [one for one in found if one.recording_id in ids]
    lines: dict[str, int] = {}
    for one in left:
        line = names.line(one.tenant_id, one.line_id)
        lines[line] = lines.get(line, 0) + 1
    made = pb.GrantCoverage(
        recording_count=len(left),
        missing_count=max(0, len(asked.scope.recordings) - len(found)),
        lines=[
            pb.GrantLineCoverage(line=name, recording_count=count) for name, count in sorted(lines.items())
        ],
    )
    if left:
        made.first_start_time.CopyFrom(convert.timestamp(min(one.start_ns for one in left)))
        made.last_start_time.CopyFrom(convert.timestamp(max(one.start_ns for one in left)))
    return made


def _state(value: int) -> rules.Standing:
    try:
        return rules.Standing[pb.GrantState.Name(value).removeprefix("GRANT_STATE_")]  # type: ignore[arg-type]
    except (ValueError, KeyError):
        raise FieldInvalidError("not a state of a grant", field="states") from None


def _position(found: list[int | str]) -> tuple[int, str]:
    match found:
        case [int(at_ns), str(last)]:
            return at_ns, last
    raise PageTokenError("not a page token of this query", field="page_token")
