"""ReviewService: rules that draw calls. As recordings come they are looked at here; over the past, as long work."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
import structlog

from appliance.access import purposes as rules
from appliance.api import masks, names, operations, reviewconvert
from appliance.api.errors import FieldInvalidError
from appliance.api.parts import Parts, moment
from appliance.api.reviewbase import Base, reviewer
from appliance.api.scope import caller
from appliance.api.store import ShuttingDownError, Store
from appliance.api.worker import Keep, Worker
from appliance.catalog import filters, recordings, reviewrules, scorecards, tenants
from appliance.catalog import operations as work_rows
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.catalog.operations import Operation
from appliance.catalog.recordings import Order
from appliance.catalog.records import Recording
from appliance.catalog.reviewrules import APPLY, Rule
from appliance.model import new_id
from appliance.review.sampling import KEY_SIZE
from earwitness.v1 import review_pb2 as pb

log = structlog.get_logger()

PAGE: Final = 50
LOOK_S: Final = 5.0
REST_S: Final = 0.2  # what comes meanwhile is looked at together
_FIELDS: Final = (
    "display_name",
    "scorecard",
    "filter",
    "draw",
    "every",
    "share_basis_points",
    "weekly_limit",
    "due_days",
    "assignee",
    "paused",
)


class Sampling(Base):
    """See review.proto."""

    def __init__(self, parts: Parts, worker: Worker) -> None:
        super().__init__(parts)
        self._worker = worker

    async def CreateReviewRule(
        self, request: pb.CreateReviewRuleRequest, context: Any
    ) -> pb.CreateReviewRuleResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        rule_id, key, now_ns = new_id(), os.urandom(KEY_SIZE), self._parts.clock_ns()

        def planned(connection: sa.Connection) -> Rule:
            tenants.get_tenant(connection, tenant_id)
            one = _read(connection, request.rule, tenant_id)
            one = replace(one, rule_id=rule_id, key=key, create_ns=now_ns)
            reviewrules.check_new(connection, one)
            return one

        if request.validate_only:
            answer = reviewconvert.rule(await self._parts.store.read(planned))
            for field in ("name", "create_time", "etag"):
                answer.ClearField(field)
            return pb.CreateReviewRuleResponse(rule=answer)

        def work(connection: sa.Connection) -> str:
            reviewrules.add(connection, planned(connection))
            return rule_id

        done = await self._once("CreateReviewRule", request, work)
        return pb.CreateReviewRuleResponse(rule=await self._rule(tenant_id, done))

    async def ListReviewRules(
        self, request: pb.ListReviewRulesRequest, context: Any
    ) -> pb.ListReviewRulesResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        page = self._page("ListReviewRules", request)

        def work(connection: sa.Connection) -> list[Rule]:
            tenants.get_tenant(connection, tenant_id)
            return reviewrules.of_tenant(connection, tenant_id)

        found = await self._parts.store.read(work)
        if page.after is not None:
            after = page.after
            found = [one for one in found if (one.create_ns, one.rule_id) > after]
        answer = pb.ListReviewRulesResponse(rules=map(reviewconvert.rule, found[: page.size]))
        size = page.cut(answer.rules)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.create_ns, last.rule_id)
        return answer

    async def UpdateReviewRule(
        self, request: pb.UpdateReviewRuleRequest, context: Any
    ) -> pb.UpdateReviewRuleResponse:
        tenant_id, rule_id = names.child(request.rule.name, "reviewRules", "rule.name")
        paths = masks.paths(request.update_mask, request.rule, _FIELDS)

        def planned(connection: sa.Connection) -> Rule:
            before = reviewrules.get(connection, rule_id, tenant_id, request.rule.etag)
            said = masks.merged(reviewconvert.rule(before), request.rule, paths)
            after = _read(connection, said, before.tenant_id, before.assignee)
            if after.scorecard_id != before.scorecard_id:
                scorecards.usable(connection, after.scorecard_id, before.tenant_id)
            return replace(after, rule_id=rule_id, key=before.key, create_ns=before.create_ns)

        if request.validate_only:
            found = await self._parts.store.read(planned)
            return pb.UpdateReviewRuleResponse(rule=reviewconvert.rule(found))

        def work(connection: sa.Connection) -> str:
            reviewrules.update(connection, planned(connection))
            return rule_id

        await self._once("UpdateReviewRule", request, work)
        return pb.UpdateReviewRuleResponse(rule=await self._rule(tenant_id, rule_id))

    async def DeleteReviewRule(
        self, request: pb.DeleteReviewRuleRequest, context: Any
    ) -> pb.DeleteReviewRuleResponse:
        tenant_id, rule_id = names.child(request.name, "reviewRules")
        if request.validate_only:
            await self._parts.store.read(lambda c: reviewrules.get(c, rule_id, tenant_id, request.etag))
            return pb.DeleteReviewRuleResponse()

        def work(connection: sa.Connection) -> str:
            reviewrules.get(connection, rule_id, tenant_id, request.etag)
            reviewrules.delete(connection, rule_id)
            return rule_id

        await self._once("DeleteReviewRule", request, work)
        return pb.DeleteReviewRuleResponse()

    async def ApplyReviewRule(
        self, request: pb.ApplyReviewRuleRequest, context: Any
    ) -> pb.ApplyReviewRuleResponse:
        tenant_id, rule_id = names.child(request.name, "reviewRules")
        from_ns = moment(request.start_time, "start_time") if request.HasField("start_time") else None
        to_ns = moment(request.end_time, "end_time") if request.HasField("end_time") else None
        now_ns = self._parts.clock_ns()

        def planned(connection: sa.Connection) -> Operation:
            rule = reviewrules.get(connection, rule_id, tenant_id)
            asked = {
                "rule": rule_id,
                "from_ns": from_ns,
                "to_ns": to_ns,
                "bound": recordings.newest(connection),
            }
            return Operation(
                id=new_id(),
                tenant_id=rule.tenant_id,
                kind=APPLY,
                state=work_rows.State.RUNNING,
                request=asked,
                creator=caller().name,
                create_ns=now_ns,
                update_ns=now_ns,
                total=recordings.count_matching(
                    connection, tenant_id=rule.tenant_id, where=_where(from_ns, to_ns)
                ),
            )

        if request.validate_only:
            answer = operations.message(await self._parts.store.read(planned))
            answer.ClearField("name")  # chosen when it begins
            return pb.ApplyReviewRuleResponse(operation=answer)

        def work(connection: sa.Connection) -> str:
            operation = planned(connection)
            work_rows.add(connection, operation)
            return operation.id

        done = await self._once("ApplyReviewRule", request, work)
        self._worker.wake()
        found = await self._parts.store.read(lambda connection: work_rows.get(connection, done, tenant_id))
        return pb.ApplyReviewRuleResponse(operation=operations.message(found))

    async def _rule(self, tenant_id: str | None, rule_id: str) -> pb.ReviewRule:
        return reviewconvert.rule(
            await self._parts.store.read(lambda c: reviewrules.get(c, rule_id, tenant_id))
        )


class RuleWork:
    """Has the rules look at what is new; and, as a job of the worker, one rule at what is there."""

    kind = APPLY

    def __init__(self, store: Store, clock_ns: Callable[[], int]) -> None:
        self._store = store
        self._clock_ns = clock_ns

    async def look(self) -> None:
        """Have the rules look at everything that waits for them."""

        def work(connection: sa.Connection) -> bool:
            found = reviewrules.pending(connection, PAGE)
            for recording_id in found:
                reviewrules.look(connection, recording_id, self._clock_ns(), may_read)
            return len(found) == PAGE

        if await self._store.read(lambda connection: reviewrules.pending(connection, 1)):
            while await self._store.write(work):
                pass

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            seen = self._store.events.number
            try:
                await self.look()
                await asyncio.sleep(REST_S)
                await self._store.events.wait(seen, LOOK_S)
            except CatalogueUnavailableError as error:
                log.info("rules of sampling wait", reason=error.reason)  # its condition is raised
                await asyncio.sleep(LOOK_S)
            except ShuttingDownError:
                return

    async def run(self, operation: Operation, keep: Keep) -> bool:
        """See `worker.Job`: in the order of the calls."""
        asked = operation.request
        where = _where(asked["from_ns"], asked["to_ns"])
        cursor, done = operation.cursor, operation.done
        drawn = int(operation.result.get("drawn", 0))
        while True:
            after = _position(cursor)

            def work(
                connection: sa.Connection, after: tuple[int, str] | None = after
            ) -> tuple[list[Recording], int]:
                rule = reviewrules.get(connection, str(asked["rule"]), operation.tenant_id)
                page = recordings.search(
                    connection,
                    tenant_id=operation.tenant_id,
                    where=where,
                    order=Order("start_time", descending=False),
                    limit=PAGE,
                    bound=int(asked["bound"]),
                    after=after,
                )
                made = 0
                for one in page:
                    now_ns = self._clock_ns()
                    made += len(reviewrules.consider(connection, rule, one.recording_id, now_ns, may_read))
                return page, made

            page, made = await self._store.write(work)
            if page:
                last = page[-1]
                cursor, done, drawn = f"{last.start_ns}:{last.recording_id}", done + len(page), drawn + made
            if await keep(cursor, done, {"drawn": drawn}):
                return False
            if len(page) < PAGE:
                return True


def may_read(connection: sa.Connection, recording: Recording, purpose: str) -> bool:
    """Whether callers were told of a purpose."""
    return purpose in rules.stated(connection, recording).purposes


def _read(connection: sa.Connection, said: pb.ReviewRule, tenant_id: str, assigned: str = "") -> Rule:
    """A rule as it is said, without id, key and time. `assigned`: who was it before, and may go on to be."""
    below, scorecard_id = names.child(said.scorecard, "scorecards", "rule.scorecard")
    if below not in (None, tenant_id):
        raise FieldInvalidError("should be of the tenant", field="rule.scorecard")
    reviewrules.parse(said.filter)
    kept = bool(assigned) and said.assignee == reviewconvert.who(assigned)
    return Rule(
        rule_id="",
        tenant_id=tenant_id,
        display_name=reviewconvert.display_name(said.display_name, "rule.display_name"),
        scorecard_id=scorecard_id,
        drawing=reviewconvert.drawing(said),
        create_ns=0,
        filter=said.filter,
        assignee=assigned if kept else reviewer(connection, said.assignee, tenant_id, "rule.assignee"),
        paused=said.paused,
    )


def _where(from_ns: int | None, to_ns: int | None) -> filters.Node | None:
    parts = []
    if from_ns is not None:
        parts.append(filters.Comparison("start_time", ">=", from_ns))
    if to_ns is not None:
        parts.append(filters.Comparison("start_time", "<", to_ns))
    return None if not parts else parts[0] if len(parts) == 1 else filters.And(tuple(parts))


def _position(cursor: str) -> tuple[int, str] | None:
    start, _, recording_id = cursor.partition(":")
    return (int(start), recording_id) if recording_id else None
