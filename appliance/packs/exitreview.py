"""What an exit pack says of reviews and of scorecards, as JSON. Pure: rows of the catalogue in, plain values out.

docs/schemas/exit-pack-reviews.schema.json and exit-pack-scorecards.schema.json say the same; they are in each pack. Only
what was submitted is there: what is not is nobody's verdict yet, and its agent is not to read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from appliance.catalog.reviews import Review
from appliance.catalog.scorecards import Scorecard
from appliance.packs.exitrecord import moment
from appliance.review.scorecard import Question
from appliance.review.scoring import Answer, Score

REVIEWS: Final = "earwitness.example/exit-pack-reviews/v1"
SCORECARDS: Final = "earwitness.example/exit-pack-scorecards/v1"


def document(recording_id: str, some: Sequence[Review]) -> dict[str, Any]:
    """A recording's own file of its reviews."""
    return {"schema": REVIEWS, "recording": recording_id, "reviews": [_review(one) for one in some]}


def _review(one: Review) -> dict[str, Any]:
    return {
        "review": one.review_id,
        "scorecard": one.scorecard_id,
        "version": one.version,
        "state": one.state.value,
        "outcome": one.outcome.value,
        "agent": one.agent,
        "reviewer": one.reviewer,
        "create_time": moment(one.create_ns),
        "submit_time": _moment(one.submit_ns),
        "answer_time": _moment(one.answer_ns),
        "resolve_time": _moment(one.resolve_ns),
        "score": None if one.score is None else _score(one.score),
        "answers": [_answer(answer) for answer in one.answers],
        "comment": one.comment,
        "resolution": one.resolution,
    }


def _moment(ns: int | None) -> str | None:
    return None if ns is None else moment(ns)


def _score(one: Score) -> dict[str, Any]:
    return {
        "basis_points": one.value,
        "failed": one.failed,
        "below_pass": one.below_pass,
        "questions": [
            {
                "question": line.question_id,
                "weight": line.weight,
                "basis_points": line.share,
                "failed": line.failed,
            }
            for line in one.lines
        ],
    }


def _answer(one: Answer) -> dict[str, Any]:
    return {
        "question": one.question_id,
        "yes": one.yes,
        "scale": one.scale,
        "choice": one.choice,
        "not_applicable": one.not_applicable,
        "text": one.text,
        "offsets_ns": list(one.places),
    }


def scorecard(one: Scorecard) -> dict[str, Any]:
    """One version of a scorecard."""
    return {
        "scorecard": one.scorecard_id,
        "version": one.version,
        "name": one.content.display_name,
        "pass_percent": one.content.pass_percent,
        "questions": [_question(question) for question in one.content.questions],
        "author": one.who,
        "time": moment(one.at_ns),
        "archive_time": _moment(one.archive_ns),
    }


def _question(one: Question) -> dict[str, Any]:
    return {
        "question": one.question_id,
        "text": one.text,
        "kind": one.kind.value,
        "weight": one.weight,
        "critical": one.critical,
        "steps": one.steps,
        "choices": [
            {"choice": choice.choice_id, "text": choice.text, "points": choice.points}
            for choice in one.choices
        ],
        "not_applicable": one.not_applicable,
    }
