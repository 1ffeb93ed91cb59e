"""The approving half of GrantsService: what a request comes to, and carrying it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.access import grants as rules
from appliance.access.errors import GranteeUnknownError, GrantTermsError
from appliance.access.identities import Role
from appliance.api import convert, grantconvert, names
from appliance.api.errors import FieldInvalidError
from appliance.api.granted import Granted, by_grant_alone, is_own, tell
from appliance.api.parts import Note, Parts
from appliance.api.scope import caller
from appliance.catalog import grants as rows
from appliance.catalog import purposes, recordings, tables, tenants
from appliance.catalog.errors import EtagMismatchError, GrantNotFoundError
from appliance.catalog.events import EventType
from appliance.catalog.grants import Grant, Latched, Scope
from appliance.catalog.recordings import Order
from appliance.catalog.records import Recording
from earwitness.v1 import grants_pb2 as pb

MAX_ETAG: Final = 100
_OLDEST_FIRST: Final = Order("start_time", descending=False)


@dataclass(frozen=True)
class _Plan:
    """What an approval comes to."""

    asked: Grant
    grant: Grant
    found: list[Recording]
    ids: frozenset[str]

    @property
    def coverage(self) -> pb.GrantCoverage:
        return _coverage(self.asked, self.found, self.ids)


class Approval:
    """Creates and approves."""

    def __init__(self, parts: Parts, granted: Granted) -> None:
        self.parts = parts
        self.granted = granted

    async def CreateGrant(self, request: pb.CreateGrantRequest, context: Any) -> pb.CreateGrantResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        if not request.grant.identities:
            raise FieldInvalidError("should name who may read", field="grant.identities")
        asked = self.asked(request.grant, tenant_id, necessity=False)
        answer = pb.CreateGrantResponse()

        def prepare(connection: sa.Connection) -> _Plan:
            self.check(connection, asked)
            grant = self._approved(asked, rules.Narrowing(), unasked=True)
            found = self._found(connection, asked, Scope())
            return _Plan(asked, grant, found, rules.covered(one.recording_id for one in found))

        async def act(note: Note) -> str:
            plan = await self.parts.store.read(prepare)
            answer.coverage.CopyFrom(plan.coverage)
            if request.validate_only:
                answer.grant.CopyFrom(unmade(plan.grant, len(plan.ids)))
                return asked.grant_id
            await self.parts.store.write(lambda connection: rows.insert(connection, asked))
            await self._carry_out(plan, note, made=True)
            return asked.grant_id

        grant_id = await self.parts.once("CreateGrant", request, act)
        if not request.validate_only:
            answer.grant.CopyFrom(await self.message(tenant_id, grant_id))
        return answer

    async def ApproveGrant(self, request: pb.ApproveGrantRequest, context: Any) -> pb.ApproveGrantResponse:
        tenant_id, grant_id = names.child(request.name, "grants")
        narrowing = grantconvert.narrowing(request)
        answer = pb.ApproveGrantResponse()

        def prepare(connection: sa.Connection) -> _Plan:
            asked = current(connection, grant_id, tenant_id, request.etag)
            self.check(connection, asked)
            also = grantconvert.scope(request.scope, asked.tenant_id, "scope")
            grant = self._approved(asked, narrowing)
            found = self._found(connection, asked, also)
            ids = rules.covered((one.recording_id for one in found), also.recordings or None)
            return _Plan(asked, grant, found, ids)

        async def act(note: Note) -> str:
            plan = await self.parts.store.read(prepare)
            answer.coverage.CopyFrom(plan.coverage)
            if request.validate_only:
                count, ids = len(plan.ids), sorted(plan.ids)
                answer.grant.CopyFrom(grantconvert.message(plan.grant, plan.grant.seen_ns, count, ids))
            else:
                await self._carry_out(plan, note)
            return grant_id

        async with self.parts.locks.held(grant_id):
            await self.parts.once("ApproveGrant", request, act)
        if not request.validate_only:
            answer.grant.CopyFrom(await self.message(tenant_id, grant_id))
        return answer

    async def _carry_out(self, plan: _Plan, note: Note, *, made: bool = False) -> None:
        """Approve what is planned, its data keys sealed first where they must be. `made`: nobody had asked for it."""
        grant, asked = plan.grant, plan.asked
        try:
            sealed = await self.granted.keys.seal(grant, plan.ids)

            def work(connection: sa.Connection) -> None:
                present = current(connection, grant.grant_id, grant.tenant_id, asked.etag)
                seen_ns = max(grant.seen_ns, present.seen_ns)
                rows.update(connection, replace(grant, keys_sealed=sealed, seen_ns=seen_ns))
                rows.cover(connection, grant.grant_id, plan.ids)
                tell(connection, EventType.GRANT_APPROVED, grant, grant.seen_ns)
                note(connection, grant.grant_id)

            await self.parts.store.write(work)
        except BaseException:
            await self._undo(asked, made=made)
            raise

    async def _undo(self, asked: Grant, *, made: bool) -> None:
        """Of what could not be approved no sealed key stays; of what nobody had asked for nothing does."""

        def find(connection: sa.Connection) -> Grant | None:
            return rows.find(connection, asked.grant_id)

        standing = await self.parts.store.read(find)
        if standing is None or standing.state is not Latched.REQUESTED:
            return
        await self.granted.keys.drop(standing)
        standing = await self.parts.store.read(find)
        if made and standing is not None:
            over = rules.end(standing, Latched.REVOKED, caller().name, "", standing.request_ns)

            def work(connection: sa.Connection) -> None:
                if standing.keys_sealed:
                    rows.update(connection, over)  # until they are dropped
                else:
                    rows.forget(connection, asked.grant_id)

            await self.parts.store.write(work)

    def asked(self, said: pb.SupportGrant, tenant_id: str, *, necessity: bool) -> Grant:
        now_ns = self.parts.clock_ns()
        grant = grantconvert.asked(said, tenant_id, caller().name, now_ns)
        days = self.parts.settings.access.grant_days
        try:
            return rules.check_terms(grant, now_ns, max_days=days, necessity=necessity)
        except GrantTermsError as error:
            raise GrantTermsError(error.message, field=f"grant.{error.data['field']}") from error

    def check(self, connection: sa.Connection, grant: Grant) -> None:
        """TenantNotFoundError, GranteeUnknownError; PurposeUnknownError, PurposeArchivedError."""
        tenants.get_tenant(connection, grant.tenant_id)
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
            self.granted.clocks.now(asked),
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

    def sight(self, method: str, tenant_id: str | None, grant_id: str) -> Callable[[sa.Connection], Grant]:
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

    async def message(self, tenant_id: str | None, grant_id: str, method: str = "") -> pb.SupportGrant:
        look = self.sight(method, tenant_id, grant_id)

        def work(connection: sa.Connection) -> tuple[Grant, list[str]]:
            return look(connection), rows.recordings_of(connection, grant_id)

        grant, covered = await self.parts.store.read(work)
        return grantconvert.message(grant, self.granted.clocks.now(grant), len(covered), covered)


def current(connection: sa.Connection, grant_id: str, tenant_id: str | None, etag: str) -> Grant:
    grant = rows.get(connection, grant_id, tenant_id)
    check_etag(grant, etag)
    return grant


def check_etag(grant: Grant, etag: str) -> None:
    if len(etag) > MAX_ETAG:
        raise FieldInvalidError("not an etag", field="etag")
    if etag not in ("", grant.etag):
        raise EtagMismatchError("the grant changed since", grant=grant.grant_id, field="etag")


def unmade(grant: Grant, count: int = 0) -> pb.SupportGrant:
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
