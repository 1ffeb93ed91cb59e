"""The half of TenantsService that is of lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import closingview, differences, history, linefields, masks, names
from appliance.api.errors import FieldInvalidError
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts
from appliance.api.scope import caller
from appliance.catalog import closing, linepolicies, prompts, tenants, versions
from appliance.catalog.closing import Closings
from appliance.catalog.errors import EtagMismatchError
from appliance.catalog.linepolicies import LinePolicy
from appliance.catalog.versions import Subject
from appliance.model import new_id
from appliance.model.routing import Line
from appliance.storage.retention.terms import MAX_GRACE_DAYS
from earwitness.v1 import tenants_pb2 as pb

# What UpdateLine changes, whole or in parts.
FIELDS: Final = (
    "display_name",
    "numbers",
    "trunks",
    "catch_all",
    "directions",
    "do_not_record",
    "purposes",
    "inline",
    "keys",
    "rights",
    "agents",
    "auto_resume_delay",
    "reminder_interval",
    "listening",
)
_ELSEWHERE: Final = dict.fromkeys(("grain", "grace_days"), "is changed by UpdateRetentionPolicy")

Changed = Callable[[sa.Connection], tuple[Line, Line]]
"""The line as it is, and as it shall be."""


class Lines:
    """See tenants.proto."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def CreateLine(self, request: pb.CreateLineRequest, context: Any) -> pb.CreateLineResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        line = _new(request.line, tenant_id, self.parts.clock_ns())
        policy = _policy(request.line, line)
        if request.validate_only:

            def check(connection: sa.Connection) -> tuple[Line, list[pb.FieldChange]]:
                tenants.check_line(connection, line)
                made = prompts.resolved(connection, line)
                return made, _changes(connection, None, made)

            made, changes = await self.parts.store.read(check)
            answer = await self._message(made)
            answer.ClearField("name")  # chosen when it is made
            answer.ClearField("create_time")
            answer.ClearField("etag")
            if policy is not None:
                answer.grain = request.line.grain or answer.grain
                if policy.grace_days is not None:
                    answer.grace_days = policy.grace_days
            return pb.CreateLineResponse(line=answer, changes=changes)
        found: list[pb.FieldChange] = []

        async def act(note: Note) -> str:
            author = history.author(self.parts)

            def work(connection: sa.Connection) -> list[pb.FieldChange]:
                made = prompts.resolved(connection, line)
                tenants.add_line(connection, made, author)
                if policy is not None:
                    linepolicies.add(connection, policy)
                note(connection, line.line_id)
                return _changes(connection, None, made)

            found.extend(await self.parts.store.write(work))
            return line.line_id

        line_id = await self.parts.once("CreateLine", request, act)
        try:
            # Before anything can be recorded under it: then nothing is shortened, and no cooling-off is due.
            await self.parts.line_policies.push(line_id)
        finally:
            await self.parts.routing.publish()  # recording waits for nobody
        return pb.CreateLineResponse(line=await self._line(tenant_id, line_id), changes=found)

    async def GetLine(self, request: pb.GetLineRequest, context: Any) -> pb.GetLineResponse:
        return pb.GetLineResponse(line=await self._line(*names.child(request.name, "lines")))

    async def ListLines(self, request: pb.ListLinesRequest, context: Any) -> pb.ListLinesResponse:
        tenant_id = names.parent(request.parent)
        page = Page(self.parts, "ListLines", request)
        size = page.size

        def work(connection: sa.Connection) -> tuple[list[Line], Any, Closings]:
            if tenant_id is not None:
                tenants.get_tenant(connection, tenant_id)
            some = tenants.list_lines(connection, size + 1, page.after, tenant_id)
            told = closing.of_tenants(connection, {one.tenant_id for one in some})
            return some, prompts.sample_ids(connection), told

        found, samples, closings = await self.parts.store.read(work)
        holds = await self.parts.line_policies.of(found[:size])
        answer = pb.ListLinesResponse(
            lines=[linefields.shown(row, holds.get(row.line_id), samples) for row in found[:size]]
        )
        closingview.put_states(closings, answer.lines)
        size = page.cut(answer.lines)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.create_ns, last.line_id)
        return answer

    async def UpdateLine(self, request: pb.UpdateLineRequest, context: Any) -> pb.UpdateLineResponse:
        tenant_id, line_id = names.child(request.line.name, "lines", "line.name")
        paths = masks.paths(request.update_mask, request.line, FIELDS, _ELSEWHERE)

        def changed(connection: sa.Connection) -> tuple[Line, Line]:
            before = _before(connection, tenant_id, line_id, request.line.etag, "line.etag")
            shown = linefields.message(before, None, prompts.sample_ids(connection))
            wanted = masks.merged(shown, request.line, paths)
            after = linefields.read(wanted, line_id, before.tenant_id, before.create_ns)
            return before, prompts.resolved(connection, after, before)

        line, changes = await self._change(
            "UpdateLine", request, tenant_id, line_id, changed, forget=request.forget
        )
        return pb.UpdateLineResponse(line=line, changes=changes)

    async def RestoreLine(self, request: pb.RestoreLineRequest, context: Any) -> pb.RestoreLineResponse:
        tenant_id, line_id = names.child(request.name, "lines")

        def changed(connection: sa.Connection) -> tuple[Line, Line]:
            before = _before(connection, tenant_id, line_id, request.etag, "etag")
            content = versions.get(connection, Subject.LINE, before.tenant_id, line_id, request.version)
            then = linefields.message(Line.model_validate(content), None, prompts.sample_ids(connection))
            after = linefields.read(then, line_id, before.tenant_id, before.create_ns)
            return before, prompts.resolved(connection, after, before)

        line, changes = await self._change(
            "RestoreLine", request, tenant_id, line_id, changed, restored=request.version
        )
        return pb.RestoreLineResponse(line=line, changes=changes)

    async def _change(
        self,
        method: str,
        request: Any,
        tenant_id: str | None,
        line_id: str,
        changed: Changed,
        *,
        forget: bool = False,
        restored: int = 0,
    ) -> tuple[pb.Line, list[pb.FieldChange]]:
        if request.validate_only:

            def check(connection: sa.Connection) -> tuple[Line, list[pb.FieldChange]]:
                before, after = changed(connection)
                tenants.check_update(connection, after)
                return after, _changes(connection, before, after)

            after, changes = await self.parts.store.read(check)
            return await self._message(after), changes
        found: list[pb.FieldChange] = []

        async def act(note: Note) -> str:
            author = history.author(self.parts, restored)

            def work(connection: sa.Connection) -> list[pb.FieldChange]:
                before, after = changed(connection)
                tenants.update_line(connection, after, author=author, forget=forget)
                note(connection, line_id)
                return _changes(connection, before, after)

            found.extend(await self.parts.store.write(work))
            return line_id

        await self.parts.once(method, request, act)
        await self.parts.routing.publish()
        return await self._line(tenant_id, line_id), found

    async def ListLineVersions(
        self, request: pb.ListLineVersionsRequest, context: Any
    ) -> pb.ListLineVersionsResponse:
        tenant_id, line_id = names.child(request.parent, "lines", "parent")

        def find(connection: sa.Connection) -> tuple[Subject, str, str, Callable[[dict[str, Any]], pb.Line]]:
            line = tenants.get_line(connection, line_id, tenant_id)
            samples = prompts.sample_ids(connection)
            return (
                Subject.LINE,
                line.tenant_id,
                line_id,
                lambda content: linefields.message(Line.model_validate(content), None, samples),
            )

        some, token = await history.listed(self.parts, "ListLineVersions", request, find)
        return pb.ListLineVersionsResponse(versions=some, next_page_token=token)

    async def _line(self, tenant_id: str | None, line_id: str) -> pb.Line:
        def work(connection: sa.Connection) -> tuple[Line, Closings]:
            line = tenants.get_line(connection, line_id, tenant_id)
            return line, closing.of_tenants(connection, [line.tenant_id])

        line, closings = await self.parts.store.read(work)
        made = await self._message(line)
        closingview.put_states(closings, [made])
        return made

    async def _message(self, line: Line) -> pb.Line:
        samples = await self.parts.store.read(prompts.sample_ids)
        return linefields.message(
            line, (await self.parts.line_policies.of([line])).get(line.line_id), samples
        )


def _before(connection: sa.Connection, tenant_id: str | None, line_id: str, etag: str, field: str) -> Line:
    before = tenants.get_line(connection, line_id, tenant_id)
    if etag not in ("", tenants.line_etag(before)):
        raise EtagMismatchError("the line changed since", field=field)
    return before


def _changes(connection: sa.Connection, before: Line | None, after: Line) -> list[pb.FieldChange]:
    samples = prompts.sample_ids(connection)
    old = None if before is None else linefields.message(before, None, samples)
    return differences.between(old, linefields.message(after, None, samples))[0]


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
