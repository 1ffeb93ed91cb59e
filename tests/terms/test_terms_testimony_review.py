"""Testimony: "review and listen in on calls to see what went well": reviews.

The promise: calls are drawn by a rule that nobody can bend, reviewed with the hospital's own questions, the agent sees what
was said and can disagree, and figures tell how it went over time; what is erased leaves no word in a review.
"""

from __future__ import annotations

import pytest
from test_api_review import GOOD, Desk, refused

from earwitness.v1 import recordings_pb2
from earwitness.v1 import review_pb2 as pb


@pytest.fixture
def desk(box, sealing):
    return Desk(box, sealing)


def test_what_is_drawn_is_reviewed_seen_by_its_agent_counted_and_forgotten(desk: Desk):
    card = desk.card()
    rule = desk.rule(card.name, pb.REVIEW_DRAW_EVERY, every=2)
    calls = [desk.call() for _ in range(4)]
    waiting = desk.drawn(2)
    assert {one.recording for one in waiting} == set(calls[1::2]), "every second call, and no other"
    assert {one.rule for one in waiting} == {rule.name}

    first = desk.ann.ClaimNextReview(pb.ClaimNextReviewRequest(parent=desk.tenant)).review
    second = desk.bob.ClaimNextReview(pb.ClaimNextReviewRequest(parent=desk.tenant)).review
    assert first.name != second.name, "two reviewers never hold the same"
    desk.ann.AnswerReview(pb.AnswerReviewRequest(name=first.name, answers=GOOD))
    done = desk.ann.SubmitReview(pb.SubmitReviewRequest(name=first.name)).review
    assert done.score.basis_points == 8750 and done.score.lines, "a score, explained"

    # To listen is to read: for the purpose, audited, and not for the agent.
    read = recordings_pb2.DownloadRecordingRequest(
        name=done.recording, format=recordings_pb2.DOWNLOAD_FORMAT_WAV, purpose=done.purpose
    )
    assert list(desk.officer.recordings.DownloadRecording(read))
    assert [one.name for one in desk.listed(desk.agent)] == [done.name]
    agent = desk.box.client("agent")
    assert refused(lambda: list(agent.recordings.DownloadRecording(read))).reason == "METHOD_DENIED"
    dispute = pb.DisputeReviewRequest(name=done.name, comment="She was not")
    assert desk.agent.DisputeReview(dispute).review.state == pb.REVIEW_STATE_DISPUTED

    asked = pb.GetReviewFiguresRequest(parent=desk.tenant, scorecard=card.name)
    (figure,) = desk.ann.GetReviewFigures(asked).figures
    assert (figure.key, figure.count, figure.small, figure.rank) == ("200", 1, True, 0)
    desk.officer.recordings.EraseRecording(
        recordings_pb2.EraseRecordingRequest(name=done.recording, reason="asked for", force=True)
    )
    get = pb.GetReviewRequest(name=done.name)
    left = desk.box.wait(
        lambda: next((one for one in [desk.ann.GetReview(get).review] if not one.recording), None)
    )
    assert not left.comment and not any(one.text or one.offsets for one in left.answers)
    assert desk.ann.GetReviewFigures(asked).figures[0].mean_basis_points == 8750
