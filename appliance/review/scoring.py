"""Answers of a review, and the score that follows from them.

A score is the mean of the answers' shares (0 to 1), weighted, of those questions that are scored and apply; in hundredths
of a percent, halves rounded up. It is counted with fractions: the same answers have the same score everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from pydantic import BaseModel, ConfigDict

from appliance.review.errors import AnswersInvalidError
from appliance.review.scorecard import Content, Kind, Question

WHOLE: Final = 10_000  # hundredths of a percent
MAX_TEXT: Final = 2000
MAX_PLACES: Final = 20
MAX_PLACE_NS: Final = 366 * 86400 * 10**9


class Answer(BaseModel):
    """What a reviewer answered. One of `yes`, `scale`, `choice`, or `not_applicable`; `text` may go with each.

    `places`: nanoseconds from the recording's start on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    question_id: str
    yes: bool | None = None
    scale: int | None = None
    choice: str = ""
    not_applicable: bool = False
    text: str = ""
    places: tuple[int, ...] = ()

    def bare(self) -> Answer:
        """Without what was said of the call: no words, no places."""
        return self.model_copy(update={"text": "", "places": ()})


class Line(BaseModel):
    """What one question gave. `share`: of what it can give, in hundredths of a percent; None: it does not count."""

    model_config = ConfigDict(frozen=True)

    question_id: str
    weight: int
    share: int | None
    failed: bool = False


class Score(BaseModel):
    """A score, explained. `value` None: no question with a weight applied."""

    model_config = ConfigDict(frozen=True)

    value: int | None
    failed: bool
    below_pass: bool
    lines: tuple[Line, ...]


def check(content: Content, answers: Sequence[Answer], *, whole: bool) -> None:
    """That answers fit; `whole`: that none is missing. AnswersInvalidError."""
    seen: set[str] = set()
    for place, answer in enumerate(answers):
        at = f"answers[{place}]"
        question = content.question(answer.question_id)
        if question is None:
            raise AnswersInvalidError("the scorecard has no such question", field=f"{at}.question")
        if answer.question_id in seen:
            raise _wrong(at, question, "is answered twice")
        seen.add(answer.question_id)
        _fits(question, answer, at)
    if whole:
        for question in content.questions:
            if question.question_id not in seen and question.kind is not Kind.TEXT:
                raise _wrong("answers", question, "is not answered")


def score(content: Content, answers: Sequence[Answer]) -> Score:
    """Of answers that fit and are whole."""
    given = {one.question_id: one for one in answers}
    lines: list[Line] = []
    total, weight = Fraction(0), 0
    for question in content.questions:
        answer = given.get(question.question_id)
        share = None if answer is None else share_of(question, answer)
        counts = share is not None and question.weight > 0
        if share is not None and counts:
            total += share * question.weight
            weight += question.weight
        lines.append(
            Line(
                question_id=question.question_id,
                weight=question.weight if counts else 0,
                share=None if share is None else rounded(share),
                failed=question.critical and answer is not None and answer.yes is False,
            )
        )
    exact = total / weight if weight else None
    below = exact is not None and exact * 100 < content.pass_percent
    return Score(
        value=None if exact is None else rounded(exact),
        failed=below or any(one.failed for one in lines),
        below_pass=below,
        lines=tuple(lines),
    )


def share_of(question: Question, answer: Answer) -> Fraction | None:
    """How much of what it can give an answer gives, 0 to 1; None: words, or it does not apply."""
    if answer.not_applicable:
        return None
    if answer.yes is not None:
        return Fraction(int(answer.yes))
    if answer.scale is not None:
        return Fraction(answer.scale - 1, question.steps - 1)
    found = next((one for one in question.choices if one.choice_id == answer.choice), None)
    return None if found is None else Fraction(found.points, 100)


def rounded(share: Fraction) -> int:
    """In hundredths of a percent, halves up."""
    return math.floor(share * WHOLE + Fraction(1, 2))


def _fits(question: Question, answer: Answer, at: str) -> None:
    said = {
        Kind.YES_NO: answer.yes is not None,
        Kind.SCALE: answer.scale is not None,
        Kind.CHOICE: bool(answer.choice),
    }
    count = sum(said.values()) + answer.not_applicable
    if answer.not_applicable and not question.not_applicable:
        raise _wrong(at, question, "always applies")
    if question.kind is Kind.TEXT:
        if sum(said.values()) or not (answer.text or answer.not_applicable):
            raise _wrong(at, question, "is answered in words")
    elif count != 1 or not (answer.not_applicable or said[question.kind]):
        raise _wrong(at, question, f"should be answered as {question.kind.value}")
    if answer.scale is not None and not 1 <= answer.scale <= question.steps:
        raise _wrong(at, question, f"should be 1 to {question.steps}")
    if answer.choice and answer.choice not in {one.choice_id for one in question.choices}:
        raise _wrong(at, question, "has no such choice")
    if len(answer.text) > MAX_TEXT or any(_control(letter) for letter in answer.text):
        raise _wrong(
            at, question, f"should have at most {MAX_TEXT} characters, none of them control characters"
        )
    if len(answer.places) > MAX_PLACES or any(not 0 <= one <= MAX_PLACE_NS for one in answer.places):
        raise _wrong(at, question, f"should have at most {MAX_PLACES} places, from the recording's start on")


def _control(letter: str) -> bool:
    return (ord(letter) < 32 and letter not in "\n\t") or 127 <= ord(letter) < 160


def _wrong(at: str, question: Question, why: str) -> AnswersInvalidError:
    return AnswersInvalidError(why, field=at, question=question.question_id)
