"""What the retention rules raise. Messages and data hold opaque ids, never personal data."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from appliance.model import (
    ConflictError,
    ExhaustedError,
    ExistsError,
    InvalidError,
    NotFoundError,
    PreconditionError,
)

MAX_TOLD: Final = 20  # cases


class PeriodError(InvalidError):
    """No period of retention: nothing at all, none or less than none, or more than a hundred years."""

    reason = "RETENTION_INVALID"


class PolicyError(InvalidError):
    """A policy or its scope is out of its bounds; `data['field']`."""

    reason = "POLICY_INVALID"


class PolicyVersionError(ConflictError):
    """The policies changed since they were read; `data['version']` is the present one."""

    reason = "POLICY_CHANGED"


class PolicyPendingError(NotFoundError):
    """No change of this scope waits to take effect."""

    reason = "POLICY_NOT_PENDING"


class ClockFloorError(PreconditionError):
    """The wall clock is behind what the retention clock has certified: set it right first.

    `data`: wall_ns, floor_ns.
    """

    reason = "RETENTION_CLOCK_FLOOR"


class HoldInvalidError(InvalidError):
    """A legal hold, or what is added to one, is out of its bounds; `data['field']`."""

    reason = "HOLD_INVALID"


class HoldTenantError(InvalidError):
    """A legal hold belongs to one tenant and cannot name what is another's."""

    reason = "HOLD_TENANT"


class HoldExistsError(ExistsError):
    """There is a legal hold of this case id; `data['case_id']`."""

    reason = "HOLD_EXISTS"


class HoldLimitError(ExhaustedError):
    """More holds, scopes or recordings than are kept; `data['limit']`."""

    reason = "HOLD_LIMIT"


class HoldNotFoundError(NotFoundError):
    """There is no such legal hold; `data['case_id']`."""

    reason = "HOLD_NOT_FOUND"


class HoldReleasedError(PreconditionError):
    """The legal hold is released; `data['case_id']`. Make a new one."""

    reason = "HOLD_RELEASED"


class RecordingHeldError(PreconditionError):
    """A legal hold forbids it; `data['recording_id']`, the first `data['cases']` that hold it, and their `case_count`."""

    reason = "RECORDING_HELD"

    def __init__(self, message: str, *, cases: Collection[str], **data: object) -> None:
        # An error crosses a socket in the trailers, which hold some kilobytes.
        super().__init__(message, **data, cases=sorted(cases)[:MAX_TOLD], case_count=len(cases))
