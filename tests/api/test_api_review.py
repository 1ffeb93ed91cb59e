"""Reviews: scorecards in versions, a queue that rules fill, reviews to their end, figures, and what an erasure leaves."""

from __future__ import annotations

import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

import earwitness
from appliance.access.identities import Role
from appliance.model import new_id
from earwitness.v1 import notes_pb2, operations_pb2, purposes_pb2, recordings_pb2, subjects_pb2, tenants_pb2
from earwitness.v1 import review_pb2 as pb

QUESTIONS = [
    pb.Question(question="greeted", text="Greeted by name?", kind=pb.QUESTION_KIND_YES_NO, weight=1),
    pb.Question(
        question="identity", text="Who is it?", kind=pb.QUESTION_KIND_YES_NO, weight=2, critical=True
    ),
    pb.Question(
        question="calm", text="Calm?", kind=pb.QUESTION_KIND_SCALE, weight=1, steps=5, may_not_apply=True
    ),
    pb.Question(question="words", text="What went well?", kind=pb.QUESTION_KIND_TEXT),
]
START = time.time_ns() // 10**9 * 10**9 - 40 * 86400 * 10**9


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


class Desk:
    """A tenant with two supervisors, an officer and an agent, and calls to review."""

    def __init__(self, box, sealing) -> None:
        self.box, self._sealing = box, sealing
        self.tenant_id, self.line_id = box.default_line()
        self.tenant = f"tenants/{self.tenant_id}"
        self.ann = box.enroll("ann", Role.SUPERVISOR, tenant_id=self.tenant_id).review
        self.bob = box.enroll("bob", Role.SUPERVISOR, tenant_id=self.tenant_id).review
        self.officer = box.enroll("officer", Role.RECORDS_OFFICER, tenant_id=self.tenant_id)
        self.agent = box.enroll("agent", Role.AGENT, tenant_id=self.tenant_id, agent="200").review
        self.calls = 0

    def call(self, agent: str = "200", **how) -> str:
        self.calls += 1
        how = {"start_ns": START + self.calls * 3600 * 10**9, "numbers": ("+441632960001", agent), **how}
        recording_id = self.box.vault.file(self._sealing(self.tenant_id, self.line_id, **how))
        self.box.filed(recording_id)
        return f"{self.tenant}/recordings/{recording_id}"

    def card(self, **fields) -> pb.Scorecard:
        said = pb.Scorecard(**{"display_name": "Front desk", "questions": QUESTIONS, **fields})
        return self.ann.CreateScorecard(
            pb.CreateScorecardRequest(parent=self.tenant, scorecard=said)
        ).scorecard

    def rule(self, card: str, draw=pb.REVIEW_DRAW_ALL, **fields) -> pb.ReviewRule:
        rule = pb.ReviewRule(**{"display_name": "Sample", "scorecard": card, "draw": draw, **fields})
        return self.ann.CreateReviewRule(pb.CreateReviewRuleRequest(parent=self.tenant, rule=rule)).rule

    def ask(self, recording: str, card: str, **fields) -> pb.Review:
        said = pb.Review(recording=recording, scorecard=card, **fields)
        return self.ann.CreateReview(pb.CreateReviewRequest(parent=self.tenant, review=said)).review

    def listed(self, who=None, **how) -> list[pb.Review]:
        asked = pb.ListReviewsRequest(parent=self.tenant, page_size=1000, **how)
        return list((who or self.ann).ListReviews(asked).reviews)

    def drawn(self, count: int) -> list[pb.Review]:
        """What waits, as soon as so many do."""
        how = {"states": [pb.REVIEW_STATE_WAITING]}
        self.box.wait(lambda: len(self.listed(**how)) >= count)
        return self.listed(**how)

    def submitted(self, who, name: str, *answers: pb.ReviewAnswer) -> pb.Review:
        who.ClaimReview(pb.ClaimReviewRequest(name=name))
        who.AnswerReview(pb.AnswerReviewRequest(name=name, answers=answers or GOOD))
        return who.SubmitReview(pb.SubmitReviewRequest(name=name)).review


GOOD = (
    pb.ReviewAnswer(
        question="greeted", yes=True, text="She was thanked warmly", offsets=[Duration(seconds=1)]
    ),
    pb.ReviewAnswer(question="identity", yes=True),
    pb.ReviewAnswer(question="calm", scale=3),
)


@pytest.fixture
def desk(box, sealing):
    return Desk(box, sealing)


def test_a_review_from_the_queue_to_the_end_of_a_dispute(desk: Desk):
    card, recording = desk.card(), desk.call()
    review = desk.ask(recording, card.name)
    assert (review.state, review.agent_number, review.purpose) == (pb.REVIEW_STATE_WAITING, "200", "quality")
    assert refused(lambda: desk.ask(recording, card.name)).reason == "REVIEW_DOUBLE"
    held = desk.ann.ClaimNextReview(pb.ClaimNextReviewRequest(parent=desk.tenant)).review
    assert held.name == review.name and held.scorecard_version == 1 and held.reviewer.endswith("/ann")
    for call in (
        lambda: desk.bob.ClaimReview(pb.ClaimReviewRequest(name=review.name)),
        lambda: desk.bob.AnswerReview(pb.AnswerReviewRequest(name=review.name, answers=GOOD)),
        lambda: desk.bob.ReleaseReview(pb.ReleaseReviewRequest(name=review.name)),
    ):
        assert refused(call).reason == "REVIEW_TAKEN"
    nothing = pb.ClaimNextReviewRequest(parent=desk.tenant)
    assert refused(lambda: desk.bob.ClaimNextReview(nothing)).reason == "REVIEW_NOT_FOUND"
    assert refused(lambda: desk.agent.GetReview(pb.GetReviewRequest(name=review.name))).reason == (
        "REVIEW_NOT_FOUND"
    )

    bad = pb.AnswerReviewRequest(name=review.name, answers=[pb.ReviewAnswer(question="calm", scale=9)])
    told = refused(lambda: desk.ann.AnswerReview(bad))
    assert (told.reason, told.data["question"]) == ("ANSWERS_INVALID", "calm")
    desk.ann.AnswerReview(pb.AnswerReviewRequest(name=review.name, answers=GOOD[:2]))
    submit = pb.SubmitReviewRequest(name=review.name)
    assert refused(lambda: desk.ann.SubmitReview(submit)).data["question"] == "calm"
    desk.ann.AnswerReview(pb.AnswerReviewRequest(name=review.name, answers=GOOD[2:]))
    done = desk.ann.SubmitReview(submit).review
    assert done.score.basis_points == 8750 and not done.score.failed
    assert [(one.question, one.weight, one.basis_points) for one in done.score.lines[:3]] == [
        ("greeted", 1, 10000),
        ("identity", 2, 10000),
        ("calm", 1, 5000),
    ]
    assert done.answers[0].offsets[0].seconds == 1
    assert refused(lambda: desk.ann.SubmitReview(submit)).reason == "REVIEW_STATE"

    assert [one.name for one in desk.listed(desk.agent)] == [review.name]
    stranger = desk.box.enroll("other", Role.AGENT, tenant_id=desk.tenant_id, agent="201").review
    assert not desk.listed(stranger)
    dispute = pb.DisputeReviewRequest(name=review.name, comment="She hung up on me")
    for who in (stranger, desk.bob):
        assert refused(lambda who=who: who.DisputeReview(dispute)).reason == "REVIEW_NOT_FOUND"
    assert desk.agent.DisputeReview(dispute).review.state == pb.REVIEW_STATE_DISPUTED
    resolve = pb.ResolveReviewRequest(
        name=review.name, outcome=pb.REVIEW_OUTCOME_REOPENED, resolution="Look again"
    )
    assert refused(lambda: desk.ann.ResolveReview(resolve)).reason == "REVIEW_SELF", "not by who reviewed"
    assert desk.bob.ResolveReview(resolve).review.state == pb.REVIEW_STATE_DRAFT
    again = desk.ann.SubmitReview(submit).review
    assert again.score == done.score
    seen = desk.agent.AcknowledgeReview(pb.AcknowledgeReviewRequest(name=review.name)).review
    assert seen.state == pb.REVIEW_STATE_ACKNOWLEDGED
    entries = [one for one in desk.box.audited() if str(one.get("method", "")).endswith("/SubmitReview")]
    assert entries and entries[0]["subject"] == review.name
    assert "hung up" not in str(desk.box.audited()) and "warmly" not in str(desk.box.audited())


def test_nobody_reviews_the_own_calls(desk: Desk):
    card, recording = desk.card(), desk.call("300")
    both = desk.box.enroll("both", Role.SUPERVISOR, Role.AGENT, tenant_id=desk.tenant_id, agent="300").review
    review = desk.ask(recording, card.name)
    # What is not submitted of the own calls is not even seen.
    assert refused(lambda: both.ClaimReview(pb.ClaimReviewRequest(name=review.name))).reason == (
        "REVIEW_NOT_FOUND"
    )
    following = pb.ClaimNextReviewRequest(parent=desk.tenant)
    assert refused(lambda: both.ClaimNextReview(following)).reason == "REVIEW_NOT_FOUND"
    said = pb.Review(recording=recording, scorecard=desk.card().name)
    asked = pb.CreateReviewRequest(parent=desk.tenant, review=said)
    assert refused(lambda: both.CreateReview(asked)).reason == "REVIEW_SELF"
    desk.submitted(desk.ann, review.name)
    assert [one.name for one in desk.listed(both)] == [review.name]
    dispute = pb.DisputeReviewRequest(name=review.name, comment="No")
    both.DisputeReview(dispute)
    resolve = pb.ResolveReviewRequest(name=review.name, outcome=pb.REVIEW_OUTCOME_VOID, resolution="x")
    assert refused(lambda: both.ResolveReview(resolve)).reason == "REVIEW_SELF"


def test_a_scorecard_that_changes_while_it_is_used(desk: Desk):
    card = desk.card()
    first, second = (desk.ask(desk.call(), card.name) for _ in range(2))
    desk.ann.ClaimReview(pb.ClaimReviewRequest(name=first.name))
    update = pb.UpdateScorecardRequest(
        scorecard=pb.Scorecard(name=card.name, questions=QUESTIONS[:2], etag=card.etag)
    )
    dry = pb.UpdateScorecardRequest(validate_only=True)
    dry.MergeFrom(update)
    assert desk.bob.UpdateScorecard(dry).scorecard.version == 2
    changed = desk.bob.UpdateScorecard(update)
    assert (changed.scorecard.version, changed.draft_count) == (2, 1), "it is told"
    assert refused(lambda: desk.bob.UpdateScorecard(update)).reason == "ETAG_MISMATCH"
    old = desk.ann.GetReview(pb.GetReviewRequest(name=first.name)).review
    assert (old.scorecard_version, old.scorecard_changed) == (1, True)
    desk.ann.AnswerReview(pb.AnswerReviewRequest(name=first.name, answers=GOOD))
    assert desk.ann.SubmitReview(pb.SubmitReviewRequest(name=first.name)).review.scorecard_version == 1
    assert desk.submitted(desk.bob, second.name, *GOOD[:2]).scorecard_version == 2
    asked = pb.GetReviewFiguresRequest(parent=desk.tenant, scorecard=card.name)
    mixed = desk.ann.GetReviewFigures(asked)
    assert mixed.mixes_versions and list(mixed.figures[0].scorecard_versions) == [1, 2]
    asked.by_version = True
    apart = desk.ann.GetReviewFigures(asked)
    assert not apart.mixes_versions and [one.mean_basis_points for one in apart.figures] == [8750, 10000]
    versions = desk.ann.ListScorecardVersions(pb.ListScorecardVersionsRequest(parent=card.name)).scorecards
    assert [(one.version, len(one.questions)) for one in versions] == [(2, 2), (1, 4)]
    page = pb.ListScorecardVersionsRequest(parent=card.name, page_size=1)
    page.page_token = desk.ann.ListScorecardVersions(page).next_page_token
    assert [one.version for one in desk.ann.ListScorecardVersions(page).scorecards] == [1]
    archived = desk.ann.ArchiveScorecard(pb.ArchiveScorecardRequest(name=card.name)).scorecard
    assert archived.HasField("archive_time")
    assert refused(lambda: desk.ask(desk.call(), card.name)).reason == "SCORECARD_ARCHIVED"
    assert not desk.ann.ListScorecards(pb.ListScorecardsRequest(parent=desk.tenant)).scorecards


def test_every_nth_call_of_each_agent_over_a_restart(desk: Desk):
    card = desk.card()
    rule = desk.rule(card.name, pb.REVIEW_DRAW_EVERY, every=3, due_days=7)
    for agent in ("200", "201"):
        for _ in range(2):
            desk.call(agent)
    desk.box.fix_port()
    desk.box.stop()
    desk.box.start()
    desk.box.wait(lambda: desk.box.control.provisioned.is_set())
    desk.ann = desk.box.client("ann").review
    third = [desk.call(agent) for agent in ("200", "201")]
    found = desk.drawn(2)
    assert {one.recording for one in found} == set(third), "the count went on; no agent was skipped"
    assert {one.agent_number for one in found} == {"200", "201"}
    assert all(one.rule == rule.name and one.HasField("due_time") for one in found)


def test_tags_flags_weeks_and_what_may_be_read(desk: Desk):
    card = desk.card()
    desk.rule(card.name, filter='tags:"complaint"', weekly_limit=1)
    first, second = desk.call(), desk.call()
    assert not desk.listed()
    for name in (first, second):
        request = notes_pb2.UpdateRecordingTagsRequest(name=name, add=["complaint"])
        desk.officer.notes.UpdateRecordingTags(request)
        desk.drawn(1)
    assert [one.recording for one in desk.drawn(1)] == [first], "at most one a week of an agent"
    for wrong in ('party.number = "1"', "notes:x"):
        with pytest.raises(grpc.RpcError) as caught:
            desk.rule(card.name, filter=wrong)
        assert earwitness.details(caught.value).reason == "FILTER_INVALID"
    settings = pb.ReviewSettings(name=f"{desk.tenant}/reviewSettings", purpose="marketing")
    change = pb.UpdateReviewSettingsRequest(settings=settings)
    assert refused(lambda: desk.officer.review.UpdateReviewSettings(change)).reason == "PURPOSE_UNKNOWN"
    purpose = purposes_pb2.CreatePurposeRequest(
        parent=desk.tenant, purpose_id="marketing", purpose=purposes_pb2.Purpose(display_name="x")
    )
    desk.officer.purposes.CreatePurpose(purpose)
    desk.officer.review.UpdateReviewSettings(change)
    review = desk.listed()[0]
    claim = pb.ClaimReviewRequest(name=review.name)
    assert refused(lambda: desk.ann.ClaimReview(claim)).reason == "PURPOSE_NOT_STATED"
    nothing = pb.ClaimNextReviewRequest(parent=desk.tenant)
    assert refused(lambda: desk.ann.ClaimNextReview(nothing)).reason == "REVIEW_NOT_FOUND"


def test_a_rule_over_the_past_counts_each_recording_once(desk: Desk):
    card = desk.card()
    names = [desk.call() for _ in range(6)]
    rule = desk.rule(card.name, pb.REVIEW_DRAW_EVERY, every=2)

    def applied(**how) -> operations_pb2.Operation:
        begun = desk.ann.ApplyReviewRule(pb.ApplyReviewRuleRequest(name=rule.name, **how)).operation
        get = operations_pb2.GetOperationRequest(name=begun.name)

        def ended():
            found = desk.officer.operations.GetOperation(get).operation
            return found if found.HasField("end_time") else None

        return desk.box.wait(ended)

    part = applied(end_time=Timestamp(seconds=START // 10**9 + 4 * 3600))
    assert (part.done_count, part.apply_review_rule.drawn_count) == (3, 1)
    whole = applied()
    assert (whole.done_count, whole.apply_review_rule.drawn_count) == (6, 2)
    assert sorted(one.recording for one in desk.listed()) == sorted(names[1::2])
    assert applied().apply_review_rule.drawn_count == 0
    assert {one.rule for one in desk.listed()} == {rule.name}
    desk.ann.DeleteReviewRule(pb.DeleteReviewRuleRequest(name=rule.name))
    again = pb.ApplyReviewRuleRequest(name=rule.name)
    assert refused(lambda: desk.ann.ApplyReviewRule(again)).reason == "REVIEW_RULE_NOT_FOUND"
    assert len(desk.listed()) == 3, "what it drew stays"


def test_what_is_deleted_or_restricted_leaves_the_queue_and_comes_back(desk: Desk):
    card = desk.card()
    gone, kept, done = desk.call(), desk.call(), desk.call()
    reviews = {name: desk.ask(name, card.name).name for name in (gone, kept, done)}
    desk.submitted(desk.ann, reviews[done])
    desk.officer.recordings.DeleteRecording(
        recordings_pb2.DeleteRecordingRequest(name=gone, reason="wrong line")
    )
    restriction = subjects_pb2.Restriction(
        ground=subjects_pb2.RESTRICTION_GROUND_ACCURACY, reason="It is contested", recordings=[kept, done]
    )
    made = desk.officer.subjects.CreateRestriction(
        subjects_pb2.CreateRestrictionRequest(parent=desk.tenant, restriction=restriction)
    ).restriction
    state = [pb.REVIEW_STATE_WAITING]
    desk.box.wait(lambda: not desk.listed(states=state))
    for name, reason in ((gone, "RECORDING_NOT_READABLE"), (kept, "RECORDING_RESTRICTED")):
        claim = pb.ClaimReviewRequest(name=reviews[name])
        assert refused(lambda claim=claim: desk.ann.ClaimReview(claim)).reason == reason
    nothing = pb.ClaimNextReviewRequest(parent=desk.tenant)
    assert refused(lambda: desk.ann.ClaimNextReview(nothing)).reason == "REVIEW_NOT_FOUND"
    shown = desk.ann.GetReview(pb.GetReviewRequest(name=reviews[done])).review
    assert shown.withheld and not shown.answers[0].text and not shown.answers[0].offsets
    desk.officer.recordings.UndeleteRecording(recordings_pb2.UndeleteRecordingRequest(name=gone))
    lift = subjects_pb2.LiftRestrictionRequest(name=made.name, reason="It was right")
    desk.officer.subjects.LiftRestriction(lift)
    desk.box.wait(lambda: len(desk.listed(states=state)) == 2)
    assert desk.ann.GetReview(pb.GetReviewRequest(name=reviews[done])).review.answers[0].text


@pytest.mark.parametrize("forget", [False, True])
def test_an_erasure_leaves_counted_scores_or_nothing_and_no_word(desk: Desk, catalogue_files, forget):
    card = desk.card()
    settings = pb.ReviewSettings(name=f"{desk.tenant}/reviewSettings", forget_scores=forget)
    request = pb.UpdateReviewSettingsRequest(settings=settings)
    request.update_mask.paths.append("forget_scores")
    desk.officer.review.UpdateReviewSettings(request)
    recording, other = desk.call(), desk.call()
    review = desk.submitted(desk.ann, desk.ask(recording, card.name).name)
    open_one = desk.ask(other, card.name)
    comment = pb.DisputeReviewRequest(name=review.name, comment="Zebrafinch sang")
    desk.agent.DisputeReview(comment)

    def there(word: bytes) -> list[str]:
        """Files of the box that hold a word. The sealed recordings lie in the fake vault's memory."""
        return [path.name for path, data in catalogue_files(desk.box) if word in data]

    assert there(b"Zebrafinch") and there(b"warmly")
    for name in (recording, other):
        desk.officer.recordings.EraseRecording(
            recordings_pb2.EraseRecordingRequest(name=name, reason="asked for", force=True)
        )
    desk.box.wait(lambda: not [one for one in desk.listed() if one.recording])
    desk.box.wait(lambda: not there(b"Zebrafinch") and not there(b"warmly"))
    asked = pb.GetReviewFiguresRequest(parent=desk.tenant, scorecard=card.name)
    figures = desk.ann.GetReviewFigures(asked).figures
    assert open_one.name not in {one.name for one in desk.listed()}
    if forget:
        assert not figures and not desk.listed()
        return
    assert [(one.key, one.count, one.mean_basis_points, one.small, one.rank) for one in figures] == [
        ("200", 1, 8750, True, 0)
    ]
    (left,) = desk.listed()
    assert (
        not left.recording and not left.comment and not any(one.text or one.offsets for one in left.answers)
    )
    assert left.call_time.seconds % 86400 == 0, "of the day alone"


def test_who_is_assigned_skips_and_figures(desk: Desk):
    card = desk.card()
    bob = f"{desk.tenant}/identities/bob"
    review = desk.ask(desk.call(), card.name, assignee=bob)
    claim = pb.ClaimReviewRequest(name=review.name)
    assert refused(lambda: desk.ann.ClaimReview(claim)).reason == "REVIEW_TAKEN"
    for wrong in (f"{desk.tenant}/identities/agent", f"{desk.tenant}/identities/nobody"):
        assign = pb.AssignReviewRequest(name=review.name, assignee=wrong)
        assert "assignee" in refused(lambda assign=assign: desk.ann.AssignReview(assign)).fields
    assert desk.bob.ClaimNextReview(pb.ClaimNextReviewRequest(parent=desk.tenant)).review.name == review.name
    freed = desk.ann.AssignReview(pb.AssignReviewRequest(name=review.name)).review
    assert (freed.state, freed.assignee, freed.reviewer) == (pb.REVIEW_STATE_WAITING, "", "")
    skip = pb.SkipReviewRequest(name=review.name, reason="A wrong number")
    assert desk.ann.SkipReview(skip).review.comment == "A wrong number"
    bad = pb.ReviewAnswer(question="identity", yes=False)
    for who in (desk.ann, desk.bob):
        desk.submitted(who, desk.ask(desk.call(), card.name).name)
        desk.submitted(who, desk.ask(desk.call("201"), card.name).name, GOOD[0], bad, GOOD[2])
    asked = pb.GetReviewFiguresRequest(
        parent=desk.tenant, scorecard=card.name, by=pb.FIGURES_BY_QUESTION, period=pb.FIGURES_PERIOD_MONTH
    )
    found = desk.ann.GetReviewFigures(asked).figures
    assert sum(one.fail_count for one in found if one.key == "identity") == 2
    asked.by, asked.period = pb.FIGURES_BY_AGENT, pb.FIGURES_PERIOD_UNSPECIFIED
    found = desk.ann.GetReviewFigures(asked).figures
    assert [(one.key, one.count, one.fail_count, one.spread_basis_points) for one in found] == [
        ("200", 2, 0, 0),
        ("201", 2, 2, 0),
    ]


def test_done_once_validated_and_another_tenants(desk: Desk):
    card, recording = desk.card(), desk.call()
    request = pb.CreateReviewRequest(
        parent=desk.tenant, review=pb.Review(recording=recording, scorecard=card.name), validate_only=True
    )
    assert not desk.ann.CreateReview(request).review.name and not desk.listed()
    request.validate_only, request.request_id = False, "r1"
    first = desk.ann.CreateReview(request).review
    assert desk.ann.CreateReview(request).review == first
    other = (
        desk.box.client()
        .tenants.CreateTenant(
            tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="Other"))
        )
        .tenant.name
    )
    stranger = desk.box.enroll("stranger", Role.SUPERVISOR, tenant_id=other[-26:]).review
    for name, reason in (
        (first.name, "REVIEW_NOT_FOUND"),
        (first.name.replace(desk.tenant_id, other[-26:]), "REVIEW_NOT_FOUND"),
        (f"tenants/-/reviews/{first.name[-26:]}", "REVIEW_NOT_FOUND"),
        (f"tenants/{new_id()}/reviews/{new_id()}", "REVIEW_NOT_FOUND"),
    ):
        get = pb.GetReviewRequest(name=name)
        assert refused(lambda get=get: stranger.GetReview(get)).reason == reason
    page = pb.ListReviewsRequest(parent=desk.tenant)
    assert refused(lambda: stranger.ListReviews(page)).reason == "TENANT_NOT_FOUND"
