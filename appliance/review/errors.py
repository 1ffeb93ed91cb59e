"""What can be wrong with scorecards, answers and rules."""

from __future__ import annotations

from appliance.model import InvalidError


class ScorecardInvalidError(InvalidError):
    """A scorecard cannot be as it is said to be; `data['field']` names what of it."""

    reason = "SCORECARD_INVALID"


class AnswersInvalidError(InvalidError):
    """Answers do not fit the questions; `data['field']` names the answer, `data['question']` the question."""

    reason = "ANSWERS_INVALID"


class ReviewRuleInvalidError(InvalidError):
    """A rule of sampling cannot be as it is said to be; `data['field']` names what of it."""

    reason = "REVIEW_RULE_INVALID"
