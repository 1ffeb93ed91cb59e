"""NoticesService: notices and their versions; staff is in `staff`, the rest in `acknowledging` and `acknowledged`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp

from appliance.api import masks, names, noticeconvert, stafffields
from appliance.api.acknowledged import Acknowledged
from appliance.api.acknowledging import Acknowledging
from appliance.api.errors import FieldInvalidError
from appliance.api.languages import language_tag
from appliance.api.noticebase import line_ids, of_tenant
from appliance.api.noticedefaults import DEFAULTS, LANGUAGE
from appliance.api.pages import Page
from appliance.api.parts import moment
from appliance.api.scope import caller
from appliance.api.staff import Staff
from appliance.catalog import notices, purposes, tenants
from appliance.model import new_id
from appliance.model.staff import DAY_NS, Audience, Notice, NoticeVersion, in_force
from earwitness.v1 import notices_pb2 as pb
from earwitness.v1 import notices_pb2_grpc

FIELDS: Final = ("display_name", "audience", "lines", "required")
MAX_TEXT: Final = 20_000
MAX_VERSIONS_PAGE: Final = 40  # a version may have 80 KB
DEFAULT_VERSIONS_PAGE: Final = 20
AHEAD_NS: Final = 366 * DAY_NS
_AUDIENCES: Final = {
    pb.NOTICE_AUDIENCE_UNSPECIFIED: Audience.ALL,
    pb.NOTICE_AUDIENCE_ALL: Audience.ALL,
    pb.NOTICE_AUDIENCE_AGENTS: Audience.AGENTS,
    pb.NOTICE_AUDIENCE_LINE_AGENTS: Audience.LINE_AGENTS,
}
Whole = tuple[Notice, list[NoticeVersion]]


class Notices(Staff, Acknowledging, Acknowledged, notices_pb2_grpc.NoticesServiceServicer):
    """See notices.proto."""

    async def ListNotices(self, request: pb.ListNoticesRequest, context: Any) -> pb.ListNoticesResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        page = Page(self._parts, "ListNotices", request)
        size, after = page.size, page.after

        def work(connection: sa.Connection) -> list[Whole]:
            tenants.get_tenant(connection, tenant_id)
            return notices.listed(connection, tenant_id, size + 1, after, archived=request.show_archived)

        found = await self._parts.store.read(work)
        answer = pb.ListNoticesResponse(notices=[self._message(*one) for one in found[:size]])
        size = page.cut(answer.notices)
        if len(found) > size:
            last = found[size - 1][0]
            answer.next_page_token = page.token(last.create_ns, last.notice_id)
        return answer

    async def GetNotice(self, request: pb.GetNoticeRequest, context: Any) -> pb.GetNoticeResponse:
        return pb.GetNoticeResponse(notice=await self._notice(*of_tenant(request.name, "notices")))

    async def CreateNotice(self, request: pb.CreateNoticeRequest, context: Any) -> pb.CreateNoticeResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        now_ns = self._parts.clock_ns()
        empty = Notice(notice_id=new_id(), tenant_id=tenant_id, display_name="", create_ns=now_ns)
        first = self._version(request.first_version, "first_version", now_ns).model_copy(
            update={"anew": True}
        )

        def plan(connection: sa.Connection) -> Whole:
            notices.check_new(connection, tenant_id)
            return _read(request.notice, empty, line_ids(connection, tenant_id)), [first]

        def apply(connection: sa.Connection, made: Whole) -> str:
            notices.add(connection, made[0], first)
            return made[0].notice_id

        change = await self.change("CreateNotice", request, plan, apply)
        made, notice_id = change.made, change.subject
        if request.validate_only and made is not None:
            answer = self._message(*made)
            for chosen in ("name", "create_time", "etag"):
                answer.ClearField(chosen)
            return pb.CreateNoticeResponse(notice=answer)
        return pb.CreateNoticeResponse(notice=await self._notice(tenant_id, notice_id))

    async def UpdateNotice(self, request: pb.UpdateNoticeRequest, context: Any) -> pb.UpdateNoticeResponse:
        tenant_id, notice_id = of_tenant(request.notice.name, "notices", "notice.name")
        paths = masks.paths(request.update_mask, request.notice, FIELDS)

        def changed(connection: sa.Connection, before: Whole) -> Notice:
            wanted = masks.merged(self._message(*before), request.notice, paths)
            return _read(wanted, before[0], {*line_ids(connection, tenant_id), *before[0].lines})

        etag = request.notice.etag
        return pb.UpdateNoticeResponse(
            notice=await self._changed_notice("UpdateNotice", request, tenant_id, notice_id, etag, changed)
        )

    async def ArchiveNotice(self, request: pb.ArchiveNoticeRequest, context: Any) -> pb.ArchiveNoticeResponse:
        now_ns = self._parts.clock_ns()

        def changed(connection: sa.Connection, before: Whole) -> Notice:
            if before[0].archive_ns is not None:
                return before[0]
            return before[0].model_copy(update={"archive_ns": now_ns})

        named = of_tenant(request.name, "notices")
        return pb.ArchiveNoticeResponse(
            notice=await self._changed_notice("ArchiveNotice", request, *named, request.etag, changed)
        )

    async def UnarchiveNotice(
        self, request: pb.UnarchiveNoticeRequest, context: Any
    ) -> pb.UnarchiveNoticeResponse:
        def changed(connection: sa.Connection, before: Whole) -> Notice:
            return before[0].model_copy(update={"archive_ns": None})

        named = of_tenant(request.name, "notices")
        return pb.UnarchiveNoticeResponse(
            notice=await self._changed_notice("UnarchiveNotice", request, *named, request.etag, changed)
        )

    async def PublishNoticeVersion(
        self, request: pb.PublishNoticeVersionRequest, context: Any
    ) -> pb.PublishNoticeVersionResponse:
        tenant_id, notice_id = of_tenant(request.name, "notices")
        asked = self._version(request.version, "version", self._parts.clock_ns())

        def plan(connection: sa.Connection) -> Whole:
            notice, versions = notices.get(connection, tenant_id, notice_id, request.etag)
            return notice, [*versions, _next(notice, versions, asked)]

        def apply(connection: sa.Connection, made: Whole) -> str:
            notices.add_version(connection, notice_id, made[1][-1])
            return notice_id

        made = (await self.change("PublishNoticeVersion", request, plan, apply)).made
        if request.validate_only and made is not None:
            return pb.PublishNoticeVersionResponse(notice=self._message(*made))
        return pb.PublishNoticeVersionResponse(notice=await self._notice(tenant_id, notice_id))

    async def CancelNoticeVersion(
        self, request: pb.CancelNoticeVersionRequest, context: Any
    ) -> pb.CancelNoticeVersionResponse:
        tenant_id, notice_id = of_tenant(request.name, "notices")
        now_ns = self._parts.clock_ns()

        def plan(connection: sa.Connection) -> Whole:
            notice, versions = notices.get(connection, tenant_id, notice_id)
            taken = notices.cancelled(versions, request.version, now_ns)
            return notice, [taken if one.version == taken.version else one for one in versions]

        def apply(connection: sa.Connection, made: Whole) -> str:
            notices.cancel(connection, notice_id, next(x for x in made[1] if x.version == request.version))
            return notice_id

        made = (await self.change("CancelNoticeVersion", request, plan, apply)).made
        if request.validate_only and made is not None:
            return pb.CancelNoticeVersionResponse(notice=self._message(*made))
        return pb.CancelNoticeVersionResponse(notice=await self._notice(tenant_id, notice_id))

    async def ListNoticeVersions(
        self, request: pb.ListNoticeVersionsRequest, context: Any
    ) -> pb.ListNoticeVersionsResponse:
        tenant_id, notice_id = of_tenant(request.parent, "notices", "parent")
        page = Page(self._parts, "ListNoticeVersions", request)
        size = min(request.page_size or DEFAULT_VERSIONS_PAGE, MAX_VERSIONS_PAGE)
        before = page.after
        _, versions = await self._parts.store.read(
            lambda connection: notices.get(connection, tenant_id, notice_id)
        )
        found = [one for one in reversed(versions) if before is None or one.version < before[0]]
        answer = pb.ListNoticeVersionsResponse(versions=map(noticeconvert.version, found[:size]))
        size = page.cut(answer.versions)
        if len(found) > size:
            answer.next_page_token = page.token(found[size - 1].version, "")
        return answer

    async def AdoptDefaultNotices(
        self, request: pb.AdoptDefaultNoticesRequest, context: Any
    ) -> pb.AdoptDefaultNoticesResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        now_ns = self._parts.clock_ns()
        publish_ns = _publish(request.publish_time, request.HasField("publish_time"), "publish_time", now_ns)
        author = caller().name

        def plan(connection: sa.Connection) -> list[tuple[Whole, NoticeVersion | None, bool]]:
            """Each with its versions as they would be, the one that is new, and whether the notice is."""
            tenant = tenants.get_tenant(connection, tenant_id)
            lines = tenants.list_lines(connection, tenant_id=tenant_id)
            some = [one for _, one in purposes.listed(connection, tenant_id)]
            have = {
                one.default_id: (one, versions)
                for one, versions in notices.listed(connection, tenant_id, archived=True)
                if one.default_id
            }
            made: list[tuple[Whole, NoticeVersion | None, bool]] = []
            for place, default in enumerate(DEFAULTS):
                text = default.text(tenant, lines, some)
                fresh = NoticeVersion(
                    version=1, text=text, language=LANGUAGE, anew=True, publish_ns=publish_ns,
                    create_ns=now_ns, author=author,
                )  # fmt: skip
                if default.default_id not in have:
                    notices.check_new(connection, tenant_id)
                    notice = Notice(
                        notice_id=new_id(),
                        tenant_id=tenant_id,
                        display_name=default.display_name,
                        audience=default.audience,
                        required=default.required,
                        default_id=default.default_id,
                        create_ns=now_ns + place,
                    )
                    made.append(((notice, [fresh]), fresh, True))
                    continue
                notice, versions = have[default.default_id]
                newest = [one for one in versions if one.cancel_ns is None][-1:]
                if notice.archive_ns is not None or (newest and newest[0].text == text):
                    made.append(((notice, versions), None, False))
                    continue
                fresh = _next(notice, versions, fresh)
                made.append(((notice, [*versions, fresh]), fresh, False))
            return made

        def apply(connection: sa.Connection, made: list[tuple[Whole, NoticeVersion | None, bool]]) -> str:
            for (notice, _), fresh, new in made:
                if new and fresh is not None:
                    notices.add(connection, notice, fresh)
                elif fresh is not None:
                    notices.add_version(connection, notice.notice_id, fresh)
            return tenant_id

        made = (await self.change("AdoptDefaultNotices", request, plan, apply)).made
        if made is None:
            found = await self._parts.store.read(lambda connection: notices.listed(connection, tenant_id))
            return pb.AdoptDefaultNoticesResponse(
                notices=[self._message(*one) for one in found if one[0].default_id]
            )
        return pb.AdoptDefaultNoticesResponse(
            notices=[self._message(*one) for one, _, _ in made],
            changed=sum(fresh is not None for _, fresh, _ in made),
        )

    async def _changed_notice(
        self,
        method: str,
        request: Any,
        tenant_id: str,
        notice_id: str,
        etag: str,
        changed: Callable[[sa.Connection, Whole], Notice],
    ) -> pb.Notice:
        def plan(connection: sa.Connection) -> Whole:
            before = notices.get(connection, tenant_id, notice_id, etag)
            return changed(connection, before), before[1]

        def apply(connection: sa.Connection, made: Whole) -> str:
            notices.update(connection, made[0])
            return notice_id

        made = (await self.change(method, request, plan, apply)).made
        if request.validate_only and made is not None:
            return self._message(*made)
        return await self._notice(tenant_id, notice_id)

    def _version(self, asked: pb.NoticeVersion, field: str, now_ns: int) -> NoticeVersion:
        """A version as a message describes it, its number still to be given; FieldInvalidError."""
        text = asked.text.replace("\r\n", "\n").strip()
        if not 1 <= len(text) <= MAX_TEXT or any(ord(one) < 32 and one not in "\n\t" for one in text):
            raise FieldInvalidError(
                f"should have 1 to {MAX_TEXT} characters, none of them control characters",
                field=f"{field}.text",
            )
        return NoticeVersion(
            version=1,
            text=text,
            language=language_tag(asked.language or LANGUAGE, f"{field}.language"),
            anew=asked.acknowledge_anew,
            publish_ns=_publish(
                asked.publish_time, asked.HasField("publish_time"), f"{field}.publish_time", now_ns
            ),
            create_ns=now_ns,
            author=caller().name,
        )

    def _message(self, notice: Notice, versions: list[NoticeVersion]) -> pb.Notice:
        return noticeconvert.notice(notice, versions, self._parts.clock_ns())

    async def _notice(self, tenant_id: str, notice_id: str) -> pb.Notice:
        return self._message(
            *await self._parts.store.read(lambda connection: notices.get(connection, tenant_id, notice_id))
        )


def _next(notice: Notice, versions: list[NoticeVersion], asked: NoticeVersion) -> NoticeVersion:
    """With its number; FieldInvalidError where its time is before that of another version that counts."""
    number = notices.check_version(versions, notice)
    if any(one.cancel_ns is None and one.publish_ns > asked.publish_ns for one in versions):
        raise FieldInvalidError(
            "should be after that of every other version: take the one back whose time has not come",
            field="version.publish_time",
        )
    # Until a first version was in force nobody can have acknowledged anything.
    first = in_force(versions, asked.publish_ns) is None
    return asked.model_copy(update={"version": number, "anew": asked.anew or first})


def _publish(stamp: Timestamp, said: bool, field: str, now_ns: int) -> int:
    asked = moment(stamp, field) if said else now_ns
    if asked > now_ns + AHEAD_NS:
        raise FieldInvalidError("should be at most a year ahead", field=field)
    return max(asked, now_ns)


def _read(asked: pb.Notice, before: Notice, known_lines: set[str]) -> Notice:
    """A notice as a message describes it; FieldInvalidError."""
    if asked.audience not in _AUDIENCES:
        raise FieldInvalidError("is no audience of a notice", field="notice.audience")
    audience = _AUDIENCES[asked.audience]
    lines = stafffields.lines(asked.lines, before.tenant_id, known_lines, "notice.lines")
    if (audience is Audience.LINE_AGENTS) != bool(lines):
        raise FieldInvalidError(
            "goes with NOTICE_AUDIENCE_LINE_AGENTS, and only with it", field="notice.lines"
        )
    return before.model_copy(
        update={
            "display_name": stafffields.display_name(asked.display_name, "notice.display_name"),
            "audience": audience,
            "lines": lines,
            "required": asked.required,
        }
    )
