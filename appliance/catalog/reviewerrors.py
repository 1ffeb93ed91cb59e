"""What can go wrong with scorecards, rules and reviews in the catalogue."""

from __future__ import annotations

from appliance.model import ConflictError, DeniedError, ExhaustedError, NotFoundError, PreconditionError


class ScorecardNotFoundError(NotFoundError):
    """There is no such scorecard, or it is another tenant's."""

    reason = "SCORECARD_NOT_FOUND"


class ScorecardArchivedError(PreconditionError):
    """The scorecard is archived: what was begun with it is finished, and nothing new begins."""

    reason = "SCORECARD_ARCHIVED"


class ScorecardLimitError(ExhaustedError):
    """The tenant has as many scorecards, or a scorecard as many versions, as may be; `data['limit']`."""

    reason = "SCORECARD_LIMIT"


class ReviewRuleNotFoundError(NotFoundError):
    """There is no such rule of sampling, or it is another tenant's."""

    reason = "REVIEW_RULE_NOT_FOUND"


class ReviewRuleLimitError(ExhaustedError):
    """The tenant has as many rules of sampling as it may have; `data['limit']`."""

    reason = "REVIEW_RULE_LIMIT"


class ReviewNotFoundError(NotFoundError):
    """There is no such review that the caller may see; or, asked for the next, none that the caller may begin."""

    reason = "REVIEW_NOT_FOUND"


class ReviewStateError(PreconditionError):
    """The review is not in a state for this; `data['state']` says which it is in."""

    reason = "REVIEW_STATE"


class ReviewTakenError(ConflictError):
    """Somebody else holds the review, or it is assigned to somebody else."""

    reason = "REVIEW_TAKEN"


class ReviewDoubleError(ConflictError):
    """There is a review of this call and agent with this scorecard; `data['review']` is its id."""

    reason = "REVIEW_DOUBLE"


class ReviewSelfError(DeniedError):
    """Nobody reviews their own calls, or resolves a dispute of their own review."""

    reason = "REVIEW_SELF"


class ReviewAgentError(PreconditionError):
    """The call has no such agent, or several, and it is not said which; `data['agents']` counts them."""

    reason = "REVIEW_AGENT"
