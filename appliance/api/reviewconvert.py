"""Scorecards, rules and reviews: from the public messages and to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from appliance.api import convert, identitynames, names
from appliance.api.errors import FieldInvalidError
from appliance.api.parts import check_text
from appliance.catalog.reviewrules import Rule
from appliance.catalog.reviews import Outcome, Review
from appliance.catalog.scorecards import Scorecard, Settings
from appliance.review import sampling
from appliance.review import scorecard as cards
from appliance.review.figures import By, Period, Row
from appliance.review.sampling import Draw, Drawing
from appliance.review.scorecard import Choice, Content, Question
from appliance.review.scoring import MAX_PLACE_NS, Answer, Score
from earwitness.v1 import review_pb2 as pb

_KINDS: Final = {
    pb.QUESTION_KIND_YES_NO: cards.Kind.YES_NO,
    pb.QUESTION_KIND_SCALE: cards.Kind.SCALE,
    pb.QUESTION_KIND_CHOICE: cards.Kind.CHOICE,
    pb.QUESTION_KIND_TEXT: cards.Kind.TEXT,
}
_DRAWS: Final = {
    pb.REVIEW_DRAW_ALL: Draw.ALL,
    pb.REVIEW_DRAW_EVERY: Draw.EVERY,
    pb.REVIEW_DRAW_SHARE: Draw.SHARE,
}
OUTCOMES: Final = {
    pb.REVIEW_OUTCOME_UPHELD: Outcome.UPHELD,
    pb.REVIEW_OUTCOME_REOPENED: Outcome.REOPENED,
    pb.REVIEW_OUTCOME_VOID: Outcome.VOID,
}
BY: Final = {
    pb.FIGURES_BY_UNSPECIFIED: By.AGENT,
    pb.FIGURES_BY_AGENT: By.AGENT,
    pb.FIGURES_BY_LINE: By.LINE,
    pb.FIGURES_BY_QUESTION: By.QUESTION,
    pb.FIGURES_BY_REVIEWER: By.REVIEWER,
}
PERIODS: Final = {
    pb.FIGURES_PERIOD_UNSPECIFIED: Period.ALL,
    pb.FIGURES_PERIOD_WEEK: Period.WEEK,
    pb.FIGURES_PERIOD_MONTH: Period.MONTH,
}


def content(said: pb.Scorecard) -> Content:
    """What a scorecard says. FieldInvalidError, ScorecardInvalidError."""
    if len(said.questions) > cards.MAX_QUESTIONS:
        raise FieldInvalidError(f"should be at most {cards.MAX_QUESTIONS}", field="scorecard.questions")
    found = Content(
        display_name=said.display_name,
        questions=tuple(
            Question(
                question_id=one.question,
                text=one.text,
                kind=known(_KINDS, one.kind, f"scorecard.questions[{place}].kind"),
                weight=one.weight,
                critical=one.critical,
                steps=one.steps,
                choices=tuple(
                    Choice(choice_id=each.choice, text=each.text, points=each.points) for each in one.choices
                ),
                not_applicable=one.may_not_apply,
            )
            for place, one in enumerate(said.questions)
        ),
        pass_percent=said.pass_percent,
    )
    cards.check(found)
    return found


def scorecard(one: Scorecard) -> pb.Scorecard:
    made = pb.Scorecard(
        name=names.scorecard(one.tenant_id, one.scorecard_id),
        display_name=one.content.display_name,
        questions=[
            pb.Question(
                question=each.question_id,
                text=each.text,
                kind=_back(_KINDS, each.kind),
                weight=each.weight,
                critical=each.critical,
                steps=each.steps,
                choices=[
                    pb.QuestionChoice(choice=choice.choice_id, text=choice.text, points=choice.points)
                    for choice in each.choices
                ],
                may_not_apply=each.not_applicable,
            )
            for each in one.content.questions
        ],
        pass_percent=one.content.pass_percent,
        version=one.version,
        newest_version=one.newest,
        create_time=convert.timestamp(one.create_ns),
        version_time=convert.timestamp(one.at_ns),
        author=who(one.who),
        etag=one.etag,
    )
    if one.archive_ns is not None:
        made.archive_time.CopyFrom(convert.timestamp(one.archive_ns))
    return made


def drawing(said: pb.ReviewRule) -> Drawing:
    """How a rule draws. FieldInvalidError, ReviewRuleInvalidError."""
    found = Drawing(
        draw=known(_DRAWS, said.draw, "rule.draw"),
        every=said.every,
        share=said.share_basis_points,
        weekly_limit=said.weekly_limit,
        due_days=said.due_days,
    )
    sampling.check(found)
    return found


def rule(one: Rule) -> pb.ReviewRule:
    return pb.ReviewRule(
        name=names.review_rule(one.tenant_id, one.rule_id),
        display_name=one.display_name,
        scorecard=names.scorecard(one.tenant_id, one.scorecard_id),
        filter=one.filter,
        draw=_back(_DRAWS, one.drawing.draw),
        every=one.drawing.every,
        share_basis_points=one.drawing.share,
        weekly_limit=one.drawing.weekly_limit,
        due_days=one.drawing.due_days,
        assignee=who(one.assignee),
        paused=one.paused,
        create_time=convert.timestamp(one.create_ns),
        etag=one.etag,
    )


def settings(tenant_id: str, one: Settings) -> pb.ReviewSettings:
    return pb.ReviewSettings(
        name=names.review_settings(tenant_id),
        purpose=one.purpose,
        forget_scores=not one.keep_scores,
        etag=one.etag,
    )


def answers(said: Iterable[pb.ReviewAnswer]) -> dict[str, Answer | None]:
    """By question; None: it is taken back. FieldInvalidError."""
    some = list(said)
    if len(some) > cards.MAX_QUESTIONS:
        raise FieldInvalidError(f"should be at most {cards.MAX_QUESTIONS}", field="answers")
    found: dict[str, Answer | None] = {}
    for place, one in enumerate(some):
        if one.question in found:
            raise FieldInvalidError("is answered twice", field=f"answers[{place}].question")
        kind = one.WhichOneof("value")
        found[one.question] = (
            Answer(
                question_id=one.question,
                yes=one.yes if kind == "yes" else None,
                scale=one.scale if kind == "scale" else None,
                choice=one.choice if kind == "choice" else "",
                not_applicable=kind == "not_applicable" and one.not_applicable,
                text=one.text,
                places=tuple(_place(each, f"answers[{place}].offsets") for each in one.offsets),
            )
            if kind or one.text
            else None
        )
    return found


def review(one: Review, newest: int, purpose: str) -> pb.Review:
    """`newest`: version of its scorecard. What was said of a call that cannot be read now is withheld."""
    withheld = bool(one.recording_id) and not one.readable
    made = pb.Review(
        name=names.review(one.tenant_id, one.review_id),
        recording=names.recording(one.tenant_id, one.recording_id) if one.recording_id else "",
        line=names.line(one.tenant_id, one.line_id),
        agent_number=one.agent,
        call_time=convert.timestamp(one.call_ns),
        scorecard=names.scorecard(one.tenant_id, one.scorecard_id),
        scorecard_version=one.version,
        scorecard_changed=0 < one.version < newest,
        rule=names.review_rule(one.tenant_id, one.rule_id) if one.rule_id else "",
        state=pb.ReviewState.Value(f"REVIEW_STATE_{one.state.name}"),
        assignee=who(one.assignee),
        reviewer=who(one.reviewer),
        answers=[_answer(each.bare() if withheld else each) for each in one.answers],
        comment="" if withheld else one.comment,
        resolution="" if withheld else one.resolution,
        outcome=_back(OUTCOMES, one.outcome) if one.outcome else pb.REVIEW_OUTCOME_UNSPECIFIED,
        create_time=convert.timestamp(one.create_ns),
        purpose=purpose,
        withheld=withheld,
        etag=one.etag,
    )
    if one.score is not None:
        made.score.CopyFrom(score(one.score))
    for field, at_ns in (
        (made.due_time, one.due_ns),
        (made.claim_time, one.claim_ns),
        (made.submit_time, one.submit_ns),
        (made.agent_time, one.answer_ns),
        (made.resolve_time, one.resolve_ns),
    ):
        if at_ns is not None:
            field.CopyFrom(convert.timestamp(at_ns))
    return made


def score(one: Score) -> pb.ReviewScore:
    return pb.ReviewScore(
        basis_points=one.value,
        failed=one.failed,
        below_pass=one.below_pass,
        lines=[
            pb.ScoreLine(
                question=line.question_id, weight=line.weight, basis_points=line.share, failed=line.failed
            )
            for line in one.lines
        ],
    )


def figure(one: Row, by: By, tenant_id: str) -> pb.ReviewFigure:
    key = {By.LINE: lambda: names.line(tenant_id, one.key), By.REVIEWER: lambda: who(one.key)}
    return pb.ReviewFigure(
        key=key[by]() if by in key else one.key,
        period=one.period,
        count=one.count,
        mean_basis_points=one.mean,
        fail_count=one.fails,
        spread_basis_points=one.spread,
        reviewer_count=one.reviewers,
        scorecard_versions=one.versions,
        small=one.small,
        rank=one.rank,
    )


def known(table: dict[Any, Any], value: int, field: str) -> Any:
    """What a value of an enum stands for; FieldInvalidError."""
    if value not in table:
        raise FieldInvalidError("should be one of the values that stand for something", field=field)
    return table[value]


def display_name(text: str, field: str) -> str:
    """FieldInvalidError."""
    if not text.strip():
        raise FieldInvalidError("should have 1 to 100 characters", field=field)
    return check_text(text, field, cards.MAX_NAME, 1)


def said(text: str, field: str, least: int) -> str:
    """Words about a call, line feeds and tabs among them; FieldInvalidError."""
    bad = any((ord(letter) < 32 and letter not in "\n\t") or 127 <= ord(letter) < 160 for letter in text)
    if bad or not least <= len(text.strip()) or len(text) > 2000:
        raise FieldInvalidError(
            f"should have {least} to 2000 characters, none of them control characters", field=field
        )
    return text


def _answer(one: Answer) -> pb.ReviewAnswer:
    made = pb.ReviewAnswer(
        question=one.question_id, text=one.text, offsets=[convert.duration(each) for each in one.places]
    )
    if one.not_applicable:
        made.not_applicable = True
    elif one.yes is not None:
        made.yes = one.yes
    elif one.scale is not None:
        made.scale = one.scale
    elif one.choice:
        made.choice = one.choice
    return made


def _place(said: Duration, field: str) -> int:
    if not 0 <= said.seconds <= MAX_PLACE_NS // 10**9 or not 0 <= said.nanos < 10**9:
        raise FieldInvalidError("should be a time from the recording's start on", field=field)
    return said.seconds * 10**9 + said.nanos


def who(key: str) -> str:
    """The name of an identity, or nothing."""
    return identitynames.identity(key) if key else ""


def _back(table: dict[Any, Any], value: Any) -> Any:
    return next(number for number, one in table.items() if one is value)
