"""ReviewService: reviews, from the queue to their end, and their figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.access import purposes as rules
from appliance.access.errors import PurposeNotStatedError
from appliance.api import gate, names, reviewconvert
from appliance.api.errors import FieldInvalidError, NotReadableError
from appliance.api.parts import check_text, moment
from appliance.api.reviewbase import Base, own_agent, own_numbers, reviewer
from appliance.api.scope import caller
from appliance.catalog import recordings, restrictions, reviews, scorecards, tenants
from appliance.catalog.database import erasing
from appliance.catalog.records import Recording
from appliance.catalog.records import State as Filing
from appliance.catalog.reviewerrors import (
    ReviewAgentError,
    ReviewNotFoundError,
    ReviewSelfError,
    ReviewStateError,
    ReviewTakenError,
)
from appliance.catalog.reviewrules import agents_of
from appliance.catalog.reviews import Asked, Outcome, Review, State
from appliance.model import ErasedError, new_id
from appliance.review import figures, sampling, scoring
from earwitness.v1 import review_pb2 as pb

MOST_FIGURES: Final = 10_000
_END_NS: Final = 2**63 - 1
_FRESH: Final[dict[str, Any]] = {
    "reviewer": "",
    "answers": (),
    "version": 0,
    "claim_ns": None,
    "state": State.WAITING,
}
_FORGETS: Final = frozenset({"ReleaseReview", "SkipReview", "AssignReview", "AnswerReview"})
Plan = Callable[[sa.Connection, Review], Review]


class Reviewing(Base):
    """See review.proto."""

    async def CreateReview(self, request: pb.CreateReviewRequest, context: Any) -> pb.CreateReviewResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        said, now_ns = request.review, self._parts.clock_ns()
        below, recording_id = names.child(said.recording, "recordings", "review.recording")
        card_below, scorecard_id = names.child(said.scorecard, "scorecards", "review.scorecard")
        for field, owner in (("review.recording", below), ("review.scorecard", card_below)):
            if owner not in (None, tenant_id):
                raise FieldInvalidError("should be of the tenant", field=field)
        due_ns = moment(said.due_time, "review.due_time") if said.HasField("due_time") else None
        check_text(said.agent_number, "review.agent_number", 33)

        def planned(connection: sa.Connection) -> Review:
            zone = tenants.get_tenant(connection, tenant_id).time_zone
            scorecards.usable(connection, scorecard_id, tenant_id)
            row = self._readable(connection, recording_id, tenant_id)
            known = agents_of(row)
            agent = said.agent_number or (known[0] if len(known) == 1 else "")
            if agent not in (known or [""]):
                raise ReviewAgentError("say which agent of the call it is", agents=len(known))
            if agent and agent in own_numbers(connection, tenant_id):
                raise ReviewSelfError("nobody has their own calls reviewed by choosing them")
            return Review(
                review_id=new_id(),
                tenant_id=tenant_id,
                recording_id=recording_id,
                line_id=row.line_id,
                agent=agent,
                call_ns=row.start_ns,
                week=sampling.week(row.start_ns, zone),
                scorecard_id=scorecard_id,
                create_ns=now_ns,
                assignee=reviewer(connection, said.assignee, tenant_id, "review.assignee"),
                due_ns=due_ns,
            )

        if request.validate_only:
            answer = await self._shown(await self._parts.store.read(planned))
            for name in ("name", "create_time", "etag"):
                answer.ClearField(name)
            return pb.CreateReviewResponse(review=answer)

        def work(connection: sa.Connection) -> str:
            one = planned(connection)
            reviews.add(connection, one)
            return one.review_id

        done = await self._once("CreateReview", request, work)
        return pb.CreateReviewResponse(review=await self._review(tenant_id, done))

    async def GetReview(self, request: pb.GetReviewRequest, context: Any) -> pb.GetReviewResponse:
        return pb.GetReviewResponse(review=await self._review(*names.child(request.name, "reviews")))

    async def ListReviews(self, request: pb.ListReviewsRequest, context: Any) -> pb.ListReviewsResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        page = self._page("ListReviews", request)
        card = names.child(request.scorecard, "scorecards", "scorecard")[1] if request.scorecard else ""
        check_text(request.agent_number, "agent_number", 33)
        named = {pb.ReviewState.Value(f"REVIEW_STATE_{one.name}"): one for one in State}
        states = tuple(reviewconvert.known(named, one, "states") for one in request.states[:20])

        def work(connection: sa.Connection) -> list[Review]:
            tenants.get_tenant(connection, tenant_id)
            asked = Asked(
                tenant_id=tenant_id,
                states=states,
                agent=request.agent_number or None,
                own_agent=own_agent(),
                numbers=own_numbers(connection, tenant_id),
                who=caller().name if request.mine else "",
                scorecard_id=card,
            )
            return reviews.listed(connection, asked, page.size + 1, page.after)

        found = await self._parts.store.read(work)
        answer = pb.ListReviewsResponse(reviews=await self._all_shown(found[: page.size]))
        size = page.cut(answer.reviews)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.create_ns, last.review_id)
        return answer

    async def ClaimNextReview(
        self, request: pb.ClaimNextReviewRequest, context: Any
    ) -> pb.ClaimNextReviewResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        now_ns = self._parts.clock_ns()

        def next_one(connection: sa.Connection) -> tuple[Review, Review]:
            tenants.get_tenant(connection, tenant_id)
            numbers = own_numbers(connection, tenant_id)
            for one in reviews.waiting(connection, tenant_id, caller().name, numbers):
                try:
                    return one, self._claimed(connection, one, now_ns)
                except PurposeNotStatedError:
                    continue  # the tenant reads for another purpose since it was drawn
            raise ReviewNotFoundError("nothing waits that you may review", review="")

        if request.validate_only:
            _, after = await self._parts.store.read(next_one)
            return pb.ClaimNextReviewResponse(review=await self._shown(after))

        def work(connection: sa.Connection) -> str:
            return reviews.put(connection, *next_one(connection)).review_id

        done = await self._once("ClaimNextReview", request, work)
        await gate.write_down("review", review=done)
        return pb.ClaimNextReviewResponse(review=await self._review(tenant_id, done))

    async def ClaimReview(self, request: pb.ClaimReviewRequest, context: Any) -> pb.ClaimReviewResponse:
        now_ns = self._parts.clock_ns()

        def plan(connection: sa.Connection, one: Review) -> Review:
            if one.state is State.DRAFT:
                raise ReviewTakenError("somebody holds the review", review=one.review_id)
            _in(one, State.WAITING)
            if one.assignee not in ("", caller().name):
                raise ReviewTakenError("the review is assigned to somebody else", review=one.review_id)
            return self._claimed(connection, one, now_ns)

        return pb.ClaimReviewResponse(review=await self._change("ClaimReview", request, plan))

    async def ReleaseReview(self, request: pb.ReleaseReviewRequest, context: Any) -> pb.ReleaseReviewResponse:
        def plan(connection: sa.Connection, one: Review) -> Review:
            _held(one)
            return replace(one, **_FRESH)

        return pb.ReleaseReviewResponse(review=await self._change("ReleaseReview", request, plan))

    async def SkipReview(self, request: pb.SkipReviewRequest, context: Any) -> pb.SkipReviewResponse:
        if not request.reason.strip():
            raise FieldInvalidError("should have 1 to 200 characters", field="reason")
        reason = check_text(request.reason, "reason", 200, 1)

        def plan(connection: sa.Connection, one: Review) -> Review:
            _in(one, State.WAITING, State.DRAFT)
            if one.state is State.DRAFT:
                _held(one)
            _not_own(connection, one)
            fresh = {**_FRESH, "state": State.SKIPPED, "reviewer": caller().name}
            return replace(one, **fresh, comment=reason)

        return pb.SkipReviewResponse(review=await self._change("SkipReview", request, plan))

    async def AssignReview(self, request: pb.AssignReviewRequest, context: Any) -> pb.AssignReviewResponse:
        def plan(connection: sa.Connection, one: Review) -> Review:
            _in(one, State.WAITING, State.DRAFT)
            _not_own(connection, one)
            who = reviewer(connection, request.assignee, one.tenant_id, "assignee")
            return replace(one, **_FRESH, assignee=who)

        return pb.AssignReviewResponse(review=await self._change("AssignReview", request, plan))

    async def AnswerReview(self, request: pb.AnswerReviewRequest, context: Any) -> pb.AnswerReviewResponse:
        said = reviewconvert.answers(request.answers)

        def plan(connection: sa.Connection, one: Review) -> Review:
            content = self._begun(connection, one)
            scoring.check(content, [each for each in said.values() if each is not None], whole=False)
            given = {each.question_id: each for each in one.answers} | said
            order = [each.question_id for each in content.questions]
            kept = [given[name] for name in order if given.get(name) is not None]
            return replace(one, answers=tuple(each for each in kept if each is not None))

        return pb.AnswerReviewResponse(review=await self._change("AnswerReview", request, plan))

    async def SubmitReview(self, request: pb.SubmitReviewRequest, context: Any) -> pb.SubmitReviewResponse:
        now_ns = self._parts.clock_ns()

        def plan(connection: sa.Connection, one: Review) -> Review:
            content = self._begun(connection, one)
            scoring.check(content, one.answers, whole=True)
            found = scoring.score(content, one.answers)
            return replace(one, state=State.SUBMITTED, score=found, submit_ns=now_ns)

        return pb.SubmitReviewResponse(review=await self._change("SubmitReview", request, plan))

    async def AcknowledgeReview(
        self, request: pb.AcknowledgeReviewRequest, context: Any
    ) -> pb.AcknowledgeReviewResponse:
        plan = self._by_agent(State.ACKNOWLEDGED, reviewconvert.said(request.comment, "comment", 0))
        return pb.AcknowledgeReviewResponse(review=await self._change("AcknowledgeReview", request, plan))

    async def DisputeReview(self, request: pb.DisputeReviewRequest, context: Any) -> pb.DisputeReviewResponse:
        plan = self._by_agent(State.DISPUTED, reviewconvert.said(request.comment, "comment", 1))
        return pb.DisputeReviewResponse(review=await self._change("DisputeReview", request, plan))

    async def ResolveReview(self, request: pb.ResolveReviewRequest, context: Any) -> pb.ResolveReviewResponse:
        outcome = reviewconvert.known(reviewconvert.OUTCOMES, request.outcome, "outcome")
        words = reviewconvert.said(request.resolution, "resolution", 1)
        now_ns = self._parts.clock_ns()

        def plan(connection: sa.Connection, one: Review) -> Review:
            _in(one, State.DISPUTED)
            _not_own(connection, one)
            if one.reviewer == caller().name:
                raise ReviewSelfError("who reviewed does not resolve the dispute")
            if outcome is Outcome.REOPENED:
                self._readable(connection, one.recording_id, one.tenant_id)
                after = replace(one, state=State.DRAFT, score=None, submit_ns=None, answer_ns=None)
            else:
                after = replace(one, state=State.RESOLVED)
            kept = words if one.recording_id else ""  # of an erased call no words are kept
            return replace(after, outcome=outcome, resolution=kept, resolve_ns=now_ns)

        return pb.ResolveReviewResponse(review=await self._change("ResolveReview", request, plan))

    async def GetReviewFigures(
        self, request: pb.GetReviewFiguresRequest, context: Any
    ) -> pb.GetReviewFiguresResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        below, scorecard_id = names.child(request.scorecard, "scorecards", "scorecard")
        if below not in (None, tenant_id):
            raise FieldInvalidError("should be of the tenant", field="scorecard")
        by = reviewconvert.known(reviewconvert.BY, request.by, "by")
        period = reviewconvert.known(reviewconvert.PERIODS, request.period, "period")
        from_ns = moment(request.start_time, "start_time") if request.HasField("start_time") else 0
        to_ns = moment(request.end_time, "end_time") if request.HasField("end_time") else _END_NS

        def work(connection: sa.Connection) -> tuple[str, list[figures.Row]]:
            zone = tenants.get_tenant(connection, tenant_id).time_zone
            scorecards.get(connection, scorecard_id, tenant_id)
            some = reviews.counted(connection, tenant_id, scorecard_id, from_ns, to_ns)
            return zone, figures.figures(some, by, period, zone, by_version=request.by_version)

        zone, found = await self._parts.store.read(work)
        if len(found) > MOST_FIGURES:
            raise FieldInvalidError(f"gives more than {MOST_FIGURES} figures", field="start_time")
        return pb.GetReviewFiguresResponse(
            figures=[reviewconvert.figure(one, by, tenant_id) for one in found],
            time_zone=zone or "UTC",
            mixes_versions=any(len(one.versions) > 1 for one in found),
        )

    def _by_agent(self, state: State, comment: str) -> Plan:
        now_ns = self._parts.clock_ns()

        def plan(connection: sa.Connection, one: Review) -> Review:
            if not one.agent or one.agent not in own_numbers(connection, one.tenant_id):
                raise ReviewNotFoundError("no such review", review=one.review_id)
            _in(one, State.SUBMITTED)
            if not one.recording_id and comment:
                raise ErasedError("the recording is erased: no words about it are kept", recording="")
            return replace(one, state=state, comment=comment, answer_ns=now_ns)

        return plan

    def _begun(self, connection: sa.Connection, one: Review) -> Any:
        """The questions that somebody who holds a review answers."""
        _held(one)
        self._readable(connection, one.recording_id, one.tenant_id)
        return scorecards.get(connection, one.scorecard_id, one.tenant_id, one.version).content

    def _claimed(self, connection: sa.Connection, one: Review, now_ns: int) -> Review:
        _not_own(connection, one)
        row = self._readable(connection, one.recording_id, one.tenant_id)
        purpose = scorecards.settings(connection, one.tenant_id).purpose
        said = rules.stated(connection, row)
        if purpose not in said.purposes:
            raise PurposeNotStatedError(
                "the caller was not told that recordings are used for review",
                stated=list(said.purposes),
                source=said.source.value,
                override="",
            )
        newest = scorecards.get(connection, one.scorecard_id, one.tenant_id).newest
        return replace(one, state=State.DRAFT, reviewer=caller().name, version=newest, claim_ns=now_ns)

    def _readable(self, connection: sa.Connection, recording_id: str, tenant_id: str) -> Recording:
        """RecordingNotFoundError, ErasedError, NotReadableError, RecordingRestrictedError."""
        if not recording_id:
            raise ErasedError("the recording is erased", recording="")
        row = recordings.get(connection, recording_id, tenant_id)
        if row.state is Filing.ERASED:
            raise ErasedError("the recording is erased", recording=recording_id)
        if row.state is not Filing.FILED:
            raise NotReadableError("the recording cannot be reviewed in this state", state=row.state.name)
        restrictions.check(connection, recording_id)
        return row

    async def _change(self, method: str, request: Any, plan: Plan) -> pb.Review:
        tenant_id, review_id = names.child(request.name, "reviews")

        def planned(connection: sa.Connection) -> tuple[Review, Review]:
            seen = own_agent(), own_numbers(connection, tenant_id)
            one = reviews.get(connection, review_id, tenant_id, request.etag, *seen)
            return one, plan(connection, one)

        if request.validate_only:
            _, after = await self._parts.store.read(planned)
            return await self._shown(after)

        def work(connection: sa.Connection) -> str:
            if method in _FORGETS:
                erasing(connection)  # of what was said before
            return reviews.put(connection, *planned(connection)).review_id

        await self._once(method, request, work, forgets=method in _FORGETS)
        return await self._review(tenant_id, review_id)

    async def _review(self, tenant_id: str | None, review_id: str) -> pb.Review:
        def work(connection: sa.Connection) -> Review:
            seen = own_agent(), own_numbers(connection, tenant_id)
            return reviews.get(connection, review_id, tenant_id, "", *seen)

        return await self._shown(await self._parts.store.read(work))

    async def _shown(self, one: Review) -> pb.Review:
        return (await self._all_shown([one]))[0]

    async def _all_shown(self, some: list[Review]) -> list[pb.Review]:
        def work(connection: sa.Connection) -> list[pb.Review]:
            newest: dict[str, int] = {}
            purposes: dict[str, str] = {}
            for one in some:
                if one.scorecard_id not in newest:
                    newest[one.scorecard_id] = scorecards.get(connection, one.scorecard_id).newest
                if one.tenant_id not in purposes:
                    purposes[one.tenant_id] = scorecards.settings(connection, one.tenant_id).purpose
            return [
                reviewconvert.review(one, newest[one.scorecard_id], purposes[one.tenant_id]) for one in some
            ]

        return await self._parts.store.read(work)


def _in(one: Review, *states: State) -> None:
    if one.state not in states:
        raise ReviewStateError("the review is not in a state for this", state=one.state.value)


def _held(one: Review) -> None:
    _in(one, State.DRAFT)
    if one.reviewer != caller().name:
        raise ReviewTakenError("somebody else holds the review", review=one.review_id)


def _not_own(connection: sa.Connection, one: Review) -> None:
    if one.agent and one.agent in own_numbers(connection, one.tenant_id):
        raise ReviewSelfError("nobody reviews their own calls")
