"""Scorecards, scores, sampling and figures: what holds of all of them, and what is refused."""

from __future__ import annotations

import os
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model import new_id
from appliance.review import figures, sampling, scoring
from appliance.review import scorecard as cards
from appliance.review.errors import AnswersInvalidError, ReviewRuleInvalidError, ScorecardInvalidError
from appliance.review.figures import By, Period, Reviewed
from appliance.review.sampling import Draw, Drawing
from appliance.review.scorecard import Choice, Content, Kind, Question
from appliance.review.scoring import Answer

CARD = Content(
    display_name="Front desk",
    questions=(
        Question(question_id="greeted", text="Greeted by name?", kind=Kind.YES_NO, weight=1),
        Question(question_id="identity", text="Identity?", kind=Kind.YES_NO, weight=2, critical=True),
        Question(question_id="calm", text="Calm?", kind=Kind.SCALE, steps=5, weight=3, not_applicable=True),
        Question(
            question_id="end",
            text="How did it end?",
            kind=Kind.CHOICE,
            weight=4,
            choices=(
                Choice(choice_id="well", text="Well", points=100),
                Choice(choice_id="so", text="So", points=33),
            ),
        ),
        Question(question_id="words", text="What went well?", kind=Kind.TEXT, weight=0),
    ),
    pass_percent=60,
)


@st.composite
def answered(draw) -> list[Answer]:
    calm = draw(st.none() | st.integers(1, 5))
    return [
        Answer(question_id="greeted", yes=draw(st.booleans())),
        Answer(question_id="identity", yes=draw(st.booleans())),
        Answer(question_id="calm", scale=calm, not_applicable=calm is None),
        Answer(question_id="end", choice=draw(st.sampled_from(["well", "so"]))),
        *draw(st.sampled_from([[], [Answer(question_id="words", text="She waited")]])),
    ]


@given(answered(), st.randoms())
def test_a_score_is_the_weighted_mean_of_what_counts_in_whatever_order(answers, random):
    scoring.check(CARD, answers, whole=True)
    found = scoring.score(CARD, answers)
    mixed = list(answers)
    random.shuffle(mixed)
    assert scoring.score(CARD, mixed) == found
    given_ = {one.question_id: one for one in answers}
    top, weight = Fraction(int(given_["greeted"].yes) + 2 * int(given_["identity"].yes)), 7
    top += 4 * Fraction(100 if given_["end"].choice == "well" else 33, 100)
    if given_["calm"].scale is not None:
        top, weight = top + 3 * Fraction(given_["calm"].scale - 1, 4), 10
    assert abs(found.value - top / weight * 10_000) <= Fraction(1, 2)
    assert found.below_pass == (top / weight < Fraction(60, 100))
    assert found.failed == (found.below_pass or not given_["identity"].yes)
    counted = [one for one in found.lines if one.weight]
    assert sum(one.weight for one in counted) == weight, "it is explained"


@given(answered())
def test_a_better_answer_never_lowers_a_score(answers):
    before = scoring.score(CARD, answers)
    better = [one.model_copy(update={"yes": True}) if one.yes is not None else one for one in answers]
    after = scoring.score(CARD, better)
    assert after.value >= before.value and (before.failed or not after.failed)


def test_where_nothing_applies_there_is_no_score():
    card = Content(
        display_name="x",
        questions=(Question(question_id="a", text="A?", kind=Kind.YES_NO, not_applicable=True),),
    )
    found = scoring.score(card, [Answer(question_id="a", not_applicable=True)])
    assert (found.value, found.failed) == (None, False)


@pytest.mark.parametrize(
    "wrong",
    [
        Answer(question_id="nothing", yes=True),
        Answer(question_id="greeted"),
        Answer(question_id="greeted", yes=True, scale=1),
        Answer(question_id="greeted", not_applicable=True),
        Answer(question_id="calm", scale=6),
        Answer(question_id="calm", scale=0),
        Answer(question_id="calm", scale=3, not_applicable=True),
        Answer(question_id="end", choice="badly"),
        Answer(question_id="words", yes=True),
        Answer(question_id="words"),
        Answer(question_id="greeted", yes=True, text="x" * 2001),
        Answer(question_id="greeted", yes=True, text="a\x00"),
        Answer(question_id="greeted", yes=True, places=(-1,)),
        Answer(question_id="greeted", yes=True, places=(1,) * 21),
    ],
)
def test_answers_that_do_not_fit_are_refused(wrong):
    with pytest.raises(AnswersInvalidError) as caught:
        scoring.check(CARD, [wrong], whole=False)
    assert caught.value.data["field"].startswith("answers[0]")
    assert "x" * 2001 not in str(caught.value.data)


def test_what_is_submitted_has_every_answer_once():
    one = Answer(question_id="greeted", yes=True)
    scoring.check(CARD, [one], whole=False)
    for answers, whole in (([one], True), ([one, one], False)):
        with pytest.raises(AnswersInvalidError):
            scoring.check(CARD, answers, whole=whole)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"display_name": " "}, "display_name"),
        ({"questions": ()}, "questions"),
        ({"questions": CARD.questions[:1] * 2}, "questions[1].question_id"),
        ({"pass_percent": 101}, "pass_percent"),
        ({"questions": (CARD.questions[2].model_copy(update={"steps": 1}),)}, "questions[0].steps"),
        ({"questions": (CARD.questions[2].model_copy(update={"critical": True}),)}, "questions[0].critical"),
        ({"questions": (CARD.questions[4].model_copy(update={"weight": 1}),)}, "questions[0].weight"),
        ({"questions": (CARD.questions[3].model_copy(update={"choices": ()}),)}, "questions[0].choices"),
        ({"questions": (CARD.questions[0].model_copy(update={"text": "a\nb"}),)}, "questions[0].text"),
        ({"questions": (CARD.questions[4],)}, "pass_percent"),
    ],
)
def test_scorecards_that_cannot_be_name_the_field(change, field):
    cards.check(CARD)
    with pytest.raises(ScorecardInvalidError) as caught:
        cards.check(CARD.model_copy(update=change))
    assert caught.value.data["field"] == f"scorecard.{field}"


@given(st.integers(1, 50), st.integers(0, 200))
def test_every_nth_call_is_drawn_and_none_else(every, calls):
    drawing = Drawing(Draw.EVERY, every=every)
    sampling.check(drawing)
    drawn = [count for count in range(1, calls + 1) if sampling.chosen(drawing, b"", new_id(), count, 0)]
    assert drawn == list(range(every, calls + 1, every))


def test_a_percentage_goes_by_a_key_that_nobody_knows():
    ids = [new_id() for _ in range(4000)]
    drawing = Drawing(Draw.SHARE, share=1000)

    def drawn(key):
        return {one for one in ids if sampling.chosen(drawing, key, one, 1, 0)}

    first = drawn(b"k" * 32)
    assert first == drawn(b"k" * 32), "the same after a restart"
    assert 250 < len(first) < 550  # 400 of 4000; ten standard deviations are 190
    assert len(first & drawn(os.urandom(32))) < len(first) / 2, "another key draws others"
    assert drawn(b"k" * 32) == set(ids) & drawn(b"k" * 32)
    assert all(sampling.chosen(Drawing(Draw.SHARE, share=10_000), b"k", one, 1, 0) for one in ids)


def test_no_more_in_a_week_than_may_be():
    drawing = Drawing(Draw.ALL, weekly_limit=2)
    assert [sampling.chosen(drawing, b"", "x", 1, drawn) for drawn in range(4)] == [True, True, False, False]
    # 2026-11-29 is a Sunday; half an hour before midnight in London it is Monday in Helsinki.
    late = 1_795_995_000 * 10**9
    assert sampling.week(late, "Europe/London") != sampling.week(late, "Europe/Helsinki")


@pytest.mark.parametrize(
    "wrong",
    [
        Drawing(Draw.EVERY),
        Drawing(Draw.EVERY, every=1, share=1),
        Drawing(Draw.SHARE, share=10_001),
        Drawing(Draw.SHARE),
        Drawing(Draw.ALL, every=3),
        Drawing(Draw.ALL, weekly_limit=-1),
        Drawing(Draw.ALL, due_days=366),
    ],
)
def test_rules_that_cannot_be(wrong):
    with pytest.raises(ReviewRuleInvalidError):
        sampling.check(wrong)


def reviewed(agent="201", score=5000, version=1, reviewer="ann", at_ns=0, failed=False, lines=()) -> Reviewed:
    return Reviewed(at_ns, agent, "line", reviewer, version, score, failed, lines)


def test_few_reviews_are_shown_as_few_and_not_ranked():
    some = [reviewed("201", 9000)] * 4 + [reviewed("202", 5000)] * 5 + [reviewed("203", 7000)] * 6
    rows = {one.key: one for one in figures.figures(some, By.AGENT, Period.ALL, "")}
    assert [(rows[key].small, rows[key].rank) for key in ("201", "202", "203")] == [
        (True, 0),
        (False, 2),
        (False, 1),
    ]


def test_versions_are_never_mixed_without_saying_so():
    some = [reviewed(version=1, score=2000)] * 5 + [reviewed(version=2, score=4000)] * 5
    (mixed,) = figures.figures(some, By.AGENT, Period.ALL, "")
    assert mixed.versions == (1, 2) and mixed.mean == 3000
    apart = figures.figures(some, By.AGENT, Period.ALL, "", by_version=True)
    assert [(one.versions, one.mean) for one in apart] == [((1,), 2000), ((2,), 4000)]
    assert {one.rank for one in apart} == {1}, "each among its own version"


def test_fails_spread_and_questions():
    lines = (("a", 10_000, False), ("b", 0, True), ("c", None, False))
    some = [
        reviewed(score=8000, lines=lines, failed=True),
        reviewed(score=5000, reviewer="bob"),
        reviewed(score=None),
    ]
    (row,) = figures.figures(some, By.AGENT, Period.ALL, "")
    assert (row.count, row.fails, row.mean, row.spread, row.reviewers) == (3, 1, 6500, 3000, 2)
    by = {one.key: one for one in figures.figures(some, By.QUESTION, Period.ALL, "")}
    assert set(by) == {"a", "b"} and by["b"].fails == 1 and by["b"].mean == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10_000), st.integers(0, 60)), max_size=60))
def test_periods_part_what_is_counted_and_lose_nothing(some):
    start, day = 1_764_000_000, 86400
    rows = [reviewed(agent, score, at_ns=(start + days * day) * 10**9) for agent, score, days in some]
    whole = figures.figures(rows, By.AGENT, Period.ALL, "Europe/London")
    for period in (Period.WEEK, Period.MONTH):
        parts = figures.figures(rows, By.AGENT, period, "Europe/London")
        for one in whole:
            mine = [part for part in parts if part.key == one.key]
            assert sum(part.count for part in mine) == one.count
            assert abs(sum(part.mean * part.count for part in mine) / one.count - one.mean) <= 1
