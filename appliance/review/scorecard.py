"""A scorecard: the questions that a reviewer answers of a call."""

from __future__ import annotations

import enum
import re
from typing import Final

from pydantic import BaseModel, ConfigDict

from appliance.review.errors import ScorecardInvalidError

MAX_QUESTIONS: Final = 60
MAX_CHOICES: Final = 20
MAX_TEXT: Final = 300
MAX_NAME: Final = 100
MAX_WEIGHT: Final = 1000
MAX_SCALE: Final = 10
MAX_POINTS: Final = 100
ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


class Kind(enum.StrEnum):
    """How a question is answered."""

    YES_NO = "yes-no"
    SCALE = "scale"  # 1 to `steps`
    CHOICE = "choice"  # one of `choices`
    TEXT = "text"  # in words, which score nothing


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Choice(_Frozen):
    """One answer to choose. `points`: 0 to 100, of a hundred."""

    choice_id: str
    text: str
    points: int = 0


class Question(_Frozen):
    """One question. `weight`: its share of the score; 0: it is asked and not scored."""

    question_id: str
    text: str
    kind: Kind
    weight: int = 1
    critical: bool = False
    """A "no" fails the whole."""
    steps: int = 0
    choices: tuple[Choice, ...] = ()
    not_applicable: bool = False
    """The reviewer may say that it does not apply; then it does not count."""


class Content(_Frozen):
    """What one version of a scorecard says. `pass_percent`: what is below fails; 0: nothing does for its score."""

    display_name: str
    questions: tuple[Question, ...]
    pass_percent: int = 0

    def question(self, question_id: str) -> Question | None:
        return next((one for one in self.questions if one.question_id == question_id), None)


def check(content: Content) -> None:
    """ScorecardInvalidError."""
    _text(content.display_name, "display_name", MAX_NAME)
    _bounds(content.pass_percent, "pass_percent", 0, 100)
    if not 1 <= len(content.questions) <= MAX_QUESTIONS:
        raise _wrong("questions", f"should be 1 to {MAX_QUESTIONS}")
    seen: set[str] = set()
    for place, one in enumerate(content.questions):
        at = f"questions[{place}]"
        _id(one.question_id, f"{at}.question_id", seen)
        _text(one.text, f"{at}.text", MAX_TEXT)
        _bounds(one.weight, f"{at}.weight", 0, MAX_WEIGHT)
        if one.kind is Kind.SCALE:
            _bounds(one.steps, f"{at}.steps", 2, MAX_SCALE)
        elif one.steps:
            raise _wrong(f"{at}.steps", "is for questions with a scale")
        if one.critical and one.kind is not Kind.YES_NO:
            raise _wrong(f"{at}.critical", "is for questions that are answered yes or no")
        if one.kind is Kind.TEXT and one.weight:
            raise _wrong(f"{at}.weight", "should be 0: words score nothing")
        _choices(one, at)
    if not any(one.weight for one in content.questions) and content.pass_percent:
        raise _wrong("pass_percent", "should be 0 where no question has a weight")


def _choices(question: Question, at: str) -> None:
    if question.kind is not Kind.CHOICE:
        if question.choices:
            raise _wrong(f"{at}.choices", "are for questions with choices")
        return
    if not 2 <= len(question.choices) <= MAX_CHOICES:
        raise _wrong(f"{at}.choices", f"should be 2 to {MAX_CHOICES}")
    seen: set[str] = set()
    for place, one in enumerate(question.choices):
        _id(one.choice_id, f"{at}.choices[{place}].choice_id", seen)
        _text(one.text, f"{at}.choices[{place}].text", MAX_TEXT)
        _bounds(one.points, f"{at}.choices[{place}].points", 0, MAX_POINTS)


def _id(text: str, field: str, seen: set[str]) -> None:
    if not ID.fullmatch(text):
        raise _wrong(field, "should be 1 to 40 lower-case letters, digits, dashes")
    if text in seen:
        raise _wrong(field, "is there twice")
    seen.add(text)


def _text(text: str, field: str, most: int) -> None:
    bad = any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text)
    if bad or not text.strip() or len(text) > most:
        raise _wrong(field, f"should have 1 to {most} characters, none of them control characters")


def _bounds(value: int, field: str, least: int, most: int) -> None:
    if not least <= value <= most:
        raise _wrong(field, f"should be {least} to {most}")


def _wrong(field: str, why: str) -> ScorecardInvalidError:
    return ScorecardInvalidError(why, field=f"scorecard.{field}")
