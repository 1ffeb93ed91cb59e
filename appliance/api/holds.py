"""RetentionService: legal holds. Filters are resolved here, through the catalogue; what is held the vault says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import names, retentionconvert
from appliance.api.errors import FieldInvalidError
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts, check_text, moment
from appliance.api.scope import caller
from appliance.api.vaultretention import MAX_NAMED
from appliance.catalog import filters, recordings, tenants
from appliance.catalog.filters import Node
from appliance.catalog.recording_filter import FIELDS
from appliance.model import EarwitnessError, id_text, new_id
from appliance.model.ids import ID_BYTES
from appliance.process.rpc import fitting
from appliance.storage.retention.errors import HoldNotFoundError, HoldTenantError
from earwitness.internal.v1 import retention_pb2 as vault
from earwitness.v1 import retention_pb2 as pb

MAX_RECORDINGS: Final = 1000
MAX_TITLE: Final = 200
MAX_REASON: Final = 1000
MAX_OWNER: Final = 200


class Holds:
    """The legal holds' half of RetentionService."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def _hold(self, name: str, field: str = "name") -> vault.Hold:
        """The case that is named, of that tenant. HoldNotFoundError."""
        tenant_id, case_id = names.child(name, "legalHolds", field)
        hold = await self.parts.retention.hold(case_id)
        if tenant_id not in (None, hold.tenant_id):
            raise HoldNotFoundError("there is no such legal hold", case_id=case_id)
        return hold

    async def CreateLegalHold(
        self, request: pb.CreateLegalHoldRequest, context: Any
    ) -> pb.CreateLegalHoldResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        asked = request.legal_hold
        scopes = await self._scopes(asked.scopes, tenant_id, "legal_hold.scopes")
        await self.parts.store.read(lambda connection: tenants.get_tenant(connection, tenant_id))
        wanted = vault.CreateHoldRequest(
            case_id=_case_of(request),
            tenant_id=tenant_id,
            title=check_text(asked.title, "legal_hold.title", MAX_TITLE, 1),
            reason=check_text(asked.reason, "legal_hold.reason", MAX_REASON, 1),
            owner=check_text(asked.owner or caller().name, "legal_hold.owner", MAX_OWNER, 1),
            scopes=scopes,
            validate_only=request.validate_only,
        )
        if request.validate_only:
            await self.parts.retention.create_hold(wanted)
            checked = pb.LegalHold(
                title=wanted.title, reason=wanted.reason, owner=wanted.owner, scopes=asked.scopes
            )
            return pb.CreateLegalHoldResponse(legal_hold=checked)

        async def act(note: Note) -> str:
            try:
                await self.parts.retention.create_hold(wanted)
            except EarwitnessError as error:
                # Its id follows from the request: it was made before, and a crash kept that from being noted.
                if error.reason != "HOLD_EXISTS" or not request.request_id:
                    raise
            await self.parts.store.write(lambda connection: note(connection, wanted.case_id))
            return wanted.case_id

        case_id = await self.parts.once("CreateLegalHold", request, act)
        hold = retentionconvert.hold(await self.parts.retention.hold(case_id))
        return pb.CreateLegalHoldResponse(legal_hold=hold)

    async def GetLegalHold(self, request: pb.GetLegalHoldRequest, context: Any) -> pb.GetLegalHoldResponse:
        return pb.GetLegalHoldResponse(legal_hold=retentionconvert.hold(await self._hold(request.name)))

    async def ListLegalHolds(
        self, request: pb.ListLegalHoldsRequest, context: Any
    ) -> pb.ListLegalHoldsResponse:
        tenant_id = names.parent(request.parent)
        page = Page(self.parts, "ListLegalHolds", request)
        size = page.size
        found = list(await self.parts.retention.holds(tenant_id or "", released=request.show_released))
        if page.after:
            found = [one for one in found if (one.created_ns, one.case_id) > page.after]
        found.sort(key=lambda one: (one.created_ns, one.case_id))
        some = fitting(map(retentionconvert.hold, found), size)
        answer = pb.ListLegalHoldsResponse(legal_holds=some)
        if len(found) > len(some):
            last_one = found[len(some) - 1]
            answer.next_page_token = page.token(last_one.created_ns, last_one.case_id)
        return answer

    async def AddToLegalHold(
        self, request: pb.AddToLegalHoldRequest, context: Any
    ) -> pb.AddToLegalHoldResponse:
        hold = await self._hold(request.name)
        if not (request.recordings or request.filter.strip() or request.scopes):
            raise FieldInvalidError("names nothing to hold", field="recordings")
        named = _ids(request.recordings, hold)
        where = filters.parse(request.filter, FIELDS)
        wanted = vault.AddToHoldRequest(
            case_id=hold.case_id,
            who=caller().name,
            recording_ids=named,
            scopes=await self._scopes(request.scopes, hold.tenant_id, "scopes"),
            validate_only=request.validate_only,
        )
        matched = [0, 0]

        async def act(note: Note) -> str:
            if wanted.recording_ids or wanted.scopes:
                await self.parts.retention.add_to_hold(wanted)
            if where is not None:
                matched[:] = await self._add_matching(wanted, hold.tenant_id, where)
            if not request.validate_only:
                await self.parts.store.write(lambda connection: note(connection, hold.case_id))
            return hold.case_id

        await self.parts.once("AddToLegalHold", request, act)
        after = retentionconvert.hold(await self.parts.retention.hold(hold.case_id))
        return pb.AddToLegalHoldResponse(legal_hold=after, matched_count=matched[0], erased_count=matched[1])

    async def _add_matching(
        self, wanted: vault.AddToHoldRequest, tenant_id: str, where: Node
    ) -> tuple[int, int]:
        """Names what a filter matches, page by page; how many, and how many were erased before they could be named."""
        named = erased = 0
        after = ""
        while True:

            def work(connection: sa.Connection, after: str = after) -> list[str]:
                return recordings.matching(
                    connection, tenant_id=tenant_id, where=where, limit=MAX_NAMED, after=after
                )

            page = await self.parts.store.read(work)
            if not page:
                return named, erased
            after, left = page[-1], page
            while left:
                batch = vault.AddToHoldRequest(
                    case_id=wanted.case_id,
                    who=wanted.who,
                    recording_ids=left,
                    validate_only=wanted.validate_only,
                )
                try:
                    await self.parts.retention.add_to_hold(batch)
                except EarwitnessError as error:
                    gone = _erased(error)
                    if not gone:
                        raise
                    # Nobody named these one by one, so the others are held all the same.
                    left = [one for one in left if one not in gone]
                    continue
                break
            named += len(left)
            erased += len(page) - len(left)

    async def ListLegalHoldRecordings(
        self, request: pb.ListLegalHoldRecordingsRequest, context: Any
    ) -> pb.ListLegalHoldRecordingsResponse:
        hold = await self._hold(request.parent, "parent")
        page = Page(self.parts, "ListLegalHoldRecordings", request, (str,))
        size = page.size
        after = page.after[0] if page.after else ""
        found = await self.parts.retention.held(hold.case_id, after, size)
        answer = pb.ListLegalHoldRecordingsResponse(
            recordings=retentionconvert.recordings(hold.tenant_id, found.recording_ids)
        )
        if found.more:
            answer.next_page_token = page.token(found.recording_ids[-1])
        return answer

    async def ReleaseLegalHold(
        self, request: pb.ReleaseLegalHoldRequest, context: Any
    ) -> pb.ReleaseLegalHoldResponse:
        hold = await self._hold(request.name)
        wanted = vault.ReleaseHoldRequest(
            case_id=hold.case_id,
            who=caller().name,
            reason=check_text(request.reason, "reason", MAX_REASON, 1),
            validate_only=request.validate_only,
        )

        async def act(note: Note) -> str:
            await self.parts.retention.release_hold(wanted)
            if not request.validate_only:
                await self.parts.store.write(lambda connection: note(connection, hold.case_id))
            return hold.case_id

        await self.parts.once("ReleaseLegalHold", request, act)
        after = retentionconvert.hold(await self.parts.retention.hold(hold.case_id))
        return pb.ReleaseLegalHoldResponse(legal_hold=after)

    async def _scopes(
        self, asked: Iterable[pb.LegalHoldScope], tenant_id: str, field: str
    ) -> list[vault.HoldScope]:
        """Scopes of one tenant's lines. NameInvalidError, HoldTenantError, LineNotFoundError, FieldInvalidError."""
        found = []
        for number, scope in enumerate(asked):
            line_id = ""
            if scope.line:
                tenant, line_id = names.child(scope.line, "lines", f"{field}[{number}].line")
                if tenant not in (None, tenant_id):
                    raise HoldTenantError("a legal hold's scopes are of its own tenant")
                await self.parts.store.read(
                    lambda connection, line_id=line_id: tenants.get_line(connection, line_id, tenant_id)  # type: ignore[misc]
                )
            from_ns = moment(scope.from_time, f"{field}[{number}].from_time")
            to_ns = moment(scope.to_time, f"{field}[{number}].to_time")
            if scope.HasField("to_time") and to_ns <= from_ns:
                raise FieldInvalidError("should end after it begins", field=f"{field}[{number}].to_time")
            found.append(vault.HoldScope(line_id=line_id, from_ns=from_ns, to_ns=to_ns))
        return found


def _case_of(request: pb.CreateLegalHoldRequest) -> str:
    """A fresh id; with a request_id always the same for the same request, so that it cannot make two cases."""
    if not request.request_id:
        return new_id()
    asked = caller().name.encode() + b"\0" + request.SerializeToString(deterministic=True)
    return id_text(hashlib.sha256(asked).digest()[:ID_BYTES])


def _ids(asked: Iterable[str], hold: vault.Hold) -> list[str]:
    """Ids of recordings that are named, of the hold's tenant as far as the names say."""
    found = []
    for number, name in enumerate(asked):
        if number == MAX_RECORDINGS:
            raise FieldInvalidError(f"at most {MAX_RECORDINGS}", field="recordings")
        tenant_id, recording_id = names.child(name, "recordings", f"recordings[{number}]")
        if tenant_id not in (None, hold.tenant_id):
            raise HoldTenantError("a legal hold holds what is its own tenant's", case_id=hold.case_id)
        found.append(recording_id)
    return list(dict.fromkeys(found))


def _erased(error: EarwitnessError) -> set[str]:
    """Recordings that are erased, where that is why the vault refused."""
    if error.reason != "RECORDING_ERASED":
        return set()
    return set(json.loads(str(error.data.get("recording_ids", "[]"))))
