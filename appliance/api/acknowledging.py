"""Of NoticesService what is about acknowledgements: by the person, by a link, from a table, on paper; who has not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from appliance.api import convert, csvtable, names, noticeconvert, noticelinks, staffrows
from appliance.api.csvtable import Problem
from appliance.api.errors import FieldInvalidError
from appliance.api.noticebase import NoticeBase, below, of_tenant
from appliance.api.noticetimes import when
from appliance.api.parts import check_text, moment
from appliance.api.scope import caller
from appliance.api.staff import MAX_PROBLEMS, problems
from appliance.catalog import acknowledgements, notices, staff, tenants
from appliance.catalog.acknowledgements import Acknowledgement
from appliance.catalog.errors import EtagMismatchError
from appliance.catalog.noticeerrors import (
    NoticeArchivedError,
    NoticeNotAddressedError,
    NoticePageOffError,
    NoticeVersionError,
    StaffLeftError,
    StaffRecordMissingError,
)
from appliance.catalog.noticelinks import Opened
from appliance.model import new_id
from appliance.model.staff import (
    DAY_NS,
    Notice,
    NoticeVersion,
    StaffMember,
    Way,
    goes_to,
    in_force,
    needed,
)
from earwitness.v1 import notices_pb2 as pb

COLUMNS: Final = ("person", "version", "acknowledged")
MAX_DAYS: Final = 90
DEFAULT_DAYS: Final = 14
AHEAD_NS: Final = 5 * 60 * 10**9  # clocks of other systems may be ahead by this


class Acknowledging(NoticeBase):
    """See the module."""

    async def ListOwnNotices(
        self, request: pb.ListOwnNoticesRequest, context: Any
    ) -> pb.ListOwnNoticesResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        now_ns = self._parts.clock_ns()

        def work(connection: sa.Connection) -> list[pb.OwnNotice]:
            tenants.get_tenant(connection, tenant_id)
            member = _caller(connection, tenant_id)
            done = acknowledgements.of_member(connection, member.staff_id)
            found = []
            for notice, versions in notices.listed(connection, tenant_id):
                least = needed(versions, now_ns)
                if least is not None and goes_to(notice, member):
                    newest = done.get(notice.notice_id, 0)
                    found.append(
                        pb.OwnNotice(
                            notice=noticeconvert.notice(notice, versions, now_ns),
                            acknowledged_version=newest,
                            outstanding=newest < least.version,
                        )
                    )
            return found

        return pb.ListOwnNoticesResponse(notices=await self._parts.store.read(work))

    async def AcknowledgeNotice(
        self, request: pb.AcknowledgeNoticeRequest, context: Any
    ) -> pb.AcknowledgeNoticeResponse:
        tenant_id, notice_id = of_tenant(request.name, "notices")
        now_ns = self._parts.clock_ns()

        def plan(connection: sa.Connection) -> Acknowledgement:
            member = _caller(connection, tenant_id)
            notice, versions = notices.get(connection, tenant_id, notice_id)
            now = _addressed(notice, versions, member, now_ns)
            if request.version != now.version:
                raise NoticeVersionError("another version is in force: read it first", version=now.version)
            return _made(notice, now, member, Way.PERSON, now_ns, now_ns, caller().name)

        return pb.AcknowledgeNoticeResponse(
            acknowledgement=await self._acknowledged("AcknowledgeNotice", request, tenant_id, plan)
        )

    async def RecordPaperAcknowledgement(
        self, request: pb.RecordPaperAcknowledgementRequest, context: Any
    ) -> pb.RecordPaperAcknowledgementResponse:
        tenant_id, notice_id = of_tenant(request.name, "notices")
        staff_id = below(tenant_id, request.staff_member, "staffMembers", "staff_member")
        kept_at = check_text(request.kept_at.strip(), "kept_at", 200, 1)
        now_ns = self._parts.clock_ns()
        at_ns = moment(request.sign_time, "sign_time")

        def plan(connection: sa.Connection) -> Acknowledgement:
            member = _works_here(staff.get(connection, tenant_id, staff_id))
            notice, versions = notices.get(connection, tenant_id, notice_id)
            signed = _was_in_force(versions, request.version, now_ns)
            # People say a day, or a minute, and hand papers out the day before.
            if not signed.publish_ns - DAY_NS < at_ns <= now_ns + AHEAD_NS:
                raise FieldInvalidError(
                    "should not be more than a day before the version came into force, and not ahead",
                    field="sign_time",
                )
            return _made(notice, signed, member, Way.PAPER, at_ns, now_ns, caller().name, kept_at)

        return pb.RecordPaperAcknowledgementResponse(
            acknowledgement=await self._acknowledged("RecordPaperAcknowledgement", request, tenant_id, plan)
        )

    async def _acknowledged(self, method: str, request: Any, tenant_id: str, plan: Any) -> pb.Acknowledgement:
        found: list[Acknowledgement] = []

        def apply(connection: sa.Connection, made: Acknowledgement) -> str:
            found.append(acknowledgements.add(connection, made))
            return found[-1].id

        change = await self.change(method, request, plan, apply)
        made, made_id = change.made, change.subject
        if request.validate_only and made is not None:
            return await self._shown(made)
        return await self._shown(
            await self._parts.store.read(
                lambda connection: acknowledgements.get(connection, tenant_id, made_id)
            )
        )

    async def ImportAcknowledgements(
        self, request: pb.ImportAcknowledgementsRequest, context: Any
    ) -> pb.ImportAcknowledgementsResponse:
        tenant_id, notice_id = of_tenant(request.name, "notices")
        system = check_text(request.system.strip(), "system", 100, 1)
        rows = csvtable.read(request.csv, COLUMNS, COLUMNS)
        now_ns, actor = self._parts.clock_ns(), caller().name

        def plan(connection: sa.Connection) -> tuple[list[Acknowledgement], list[Problem]]:
            notice, versions = notices.get(connection, tenant_id, notice_id)
            zone = ZoneInfo(tenants.get_tenant(connection, tenant_id).time_zone or "UTC")
            known = staffrows.Known(staff.working(connection, tenant_id))
            made: list[Acknowledgement] = []
            wrong: list[Problem] = []
            for row in rows:
                try:
                    member = staffrows.who(known, row.cells["person"], tenant_id)
                    read = _version_of(row.cells["version"], versions, now_ns)
                    at_ns = when(row.cells["acknowledged"], zone)
                    if at_ns is None:
                        raise staffrows.Wrong(
                            "acknowledged", "malformed", "should be a day or a time (RFC 3339)"
                        )
                    if at_ns > now_ns + AHEAD_NS:
                        raise staffrows.Wrong("acknowledged", "future", "is ahead")
                    if at_ns + DAY_NS <= read.publish_ns:
                        raise staffrows.Wrong(
                            "acknowledged", "malformed", "is before the version came into force"
                        )
                except staffrows.Wrong as error:
                    wrong.append(Problem(row.number, error.column, error.reason, error.message))
                    continue
                made.append(_made(notice, read, member, Way.IMPORT, at_ns, now_ns, actor, system))
            return made, wrong

        created = 0

        def apply(connection: sa.Connection, found: tuple[list[Acknowledgement], list[Problem]]) -> str:
            nonlocal created
            if found[1]:
                raise EtagMismatchError(
                    "staff or notice changed meanwhile: send the table again", field="csv"
                )
            created = acknowledgements.add_all(connection, notice_id, found[0])
            return notice_id

        found = await self._parts.store.read(plan)
        if not found[1] and not request.validate_only:
            await self.change("ImportAcknowledgements", request, plan, apply)
        return pb.ImportAcknowledgementsResponse(
            valid=not found[1],
            rows=len(rows),
            created=created,
            problems=problems(found[1]),
            more_problems=max(0, len(found[1]) - MAX_PROBLEMS),
        )

    async def CreateAcknowledgementLink(
        self, request: pb.CreateAcknowledgementLinkRequest, context: Any
    ) -> pb.CreateAcknowledgementLinkResponse:
        tenant_id, notice_id = of_tenant(request.name, "notices")
        staff_id = below(tenant_id, request.staff_member, "staffMembers", "staff_member")
        if not 0 <= request.valid_days <= MAX_DAYS:
            raise FieldInvalidError(f"should be 1 to {MAX_DAYS}", field="valid_days")
        now_ns = self._parts.clock_ns()
        expire_s = now_ns // 10**9 + (request.valid_days or DEFAULT_DAYS) * 86400
        key = self._parts.link_key
        base = self._base_url()

        def work(connection: sa.Connection) -> str:
            member = _works_here(staff.get(connection, tenant_id, staff_id))
            notice, versions = notices.get(connection, tenant_id, notice_id)
            _addressed(notice, versions, member, now_ns)
            if not base:
                raise NoticePageOffError("the box serves no page for it: see notices in the site file")
            return noticelinks.issue(connection, key, base, member, notice_id, now_ns, expire_s)[1]

        uri = await self._parts.store.write(work)
        return pb.CreateAcknowledgementLinkResponse(uri=uri, expire_time=convert.timestamp(expire_s * 10**9))

    async def WithdrawAcknowledgement(
        self, request: pb.WithdrawAcknowledgementRequest, context: Any
    ) -> pb.WithdrawAcknowledgementResponse:
        tenant_id, made_id = of_tenant(request.name, "acknowledgements")
        reason = check_text(request.reason.strip(), "reason", 200, 3)
        now_ns = self._parts.clock_ns()

        def plan(connection: sa.Connection) -> Acknowledgement:
            before = acknowledgements.get(connection, tenant_id, made_id)
            if before.withdraw_ns is not None:
                return before
            return replace(before, withdraw_ns=now_ns, withdraw_actor=caller().name, withdraw_reason=reason)

        def apply(connection: sa.Connection, made: Acknowledgement) -> str:
            acknowledgements.withdraw(connection, made)
            return made_id

        made = (await self.change("WithdrawAcknowledgement", request, plan, apply)).made
        if made is None:
            made = await self._parts.store.read(
                lambda connection: acknowledgements.get(connection, tenant_id, made_id)
            )
        return pb.WithdrawAcknowledgementResponse(acknowledgement=await self._shown(made))

    async def _shown(self, row: Acknowledgement) -> pb.Acknowledgement:
        people = await self._parts.store.read(lambda connection: staff.named(connection, [row.staff_id]))
        return noticeconvert.acknowledgement(row, people.get(row.staff_id, ""))


def made_by_link(opened: Opened, typed: str, now_ns: int) -> Acknowledgement:
    """What came by a link; `typed`: the name that was typed."""
    return _made(opened.notice, opened.version, opened.member, Way.LINK, now_ns, now_ns, "", typed)


def _caller(connection: sa.Connection, tenant_id: str) -> StaffMember:
    """Who is calling, as the list of staff has it; StaffRecordMissingError."""
    who = caller()
    member = staff.of_identity(
        connection, tenant_id, who.name, who.agent if who.tenant_id == tenant_id else ""
    )
    if member is None:
        raise StaffRecordMissingError(
            "you are not on the list of staff: an administrator enters your identity"
        )
    return member


def _works_here(member: StaffMember) -> StaffMember:
    if not member.works_here:
        raise StaffLeftError("the person left")
    return member


def _addressed(
    notice: Notice, versions: list[NoticeVersion], member: StaffMember, now_ns: int
) -> NoticeVersion:
    """The version in force; NoticeArchivedError, NoticeNotAddressedError, NoticeVersionError."""
    if notice.archive_ns is not None:
        raise NoticeArchivedError("the notice was taken out of use")
    if not goes_to(notice, member):
        raise NoticeNotAddressedError("the notice does not go to this person")
    now = in_force(versions, now_ns)
    if now is None:
        raise NoticeVersionError("no version is in force yet", version=0)
    return now


def _was_in_force(versions: list[NoticeVersion], number: int, now_ns: int) -> NoticeVersion:
    found = next((one for one in versions if one.version == number and one.cancel_ns is None), None)
    if found is None or found.publish_ns > now_ns:
        now = in_force(versions, now_ns)
        raise NoticeVersionError("the version was never in force", version=0 if now is None else now.version)
    return found


def _version_of(cell: str, versions: list[NoticeVersion], now_ns: int) -> NoticeVersion:
    if not (cell.isascii() and cell.isdigit() and len(cell) < 6):
        raise staffrows.Wrong("version", "malformed", "should be the number of a version")
    try:
        return _was_in_force(versions, int(cell), now_ns)
    except NoticeVersionError:
        raise staffrows.Wrong("version", "unknown", "is no version that was in force") from None


def _made(
    notice: Notice,
    version: NoticeVersion,
    member: StaffMember,
    way: Way,
    at_ns: int,
    now_ns: int,
    actor: str,
    evidence: str = "",
) -> Acknowledgement:
    return Acknowledgement(
        id=new_id(),
        tenant_id=notice.tenant_id,
        notice_id=notice.notice_id,
        version=version.version,
        text_sha256=version.text_sha256,
        staff_id=member.staff_id,
        at_ns=at_ns,
        create_ns=now_ns,
        way=way,
        evidence=evidence,
        actor=actor,
    )
