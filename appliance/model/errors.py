"""The one exception tree of the house.

An error carries data, not only a sentence: `reason` is stable and documented (docs/errors.md), `kind` says what sort
of failure it is, `data` holds what a program may want. Messages and data never hold personal data or secrets.
"""

from __future__ import annotations

import enum
from typing import ClassVar


class Kind(enum.Enum):
    """What sort of failure: the API maps each to one gRPC status code."""

    INVALID = "invalid"  # what was asked is malformed
    NOT_FOUND = "not-found"
    EXISTS = "exists"
    PRECONDITION = "precondition"  # not in this state
    CONFLICT = "conflict"  # somebody else was first (etags, request ids)
    DENIED = "denied"
    UNAUTHENTICATED = "unauthenticated"
    EXHAUSTED = "exhausted"  # space, ports, rate
    UNAVAILABLE = "unavailable"  # try again
    CORRUPT = "corrupt"  # stored bytes are not what was written
    INTERNAL = "internal"


class EarwitnessError(Exception):
    """Root of the tree.

    Subclasses set `reason` (UPPER_SNAKE_CASE) and `kind`. `data` values are plain: str, int, float, bool or lists of them.
    """

    reason: ClassVar[str] = "INTERNAL"
    kind: ClassVar[Kind] = Kind.INTERNAL

    def __init__(self, message: str, /, **data: object) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class InvalidError(EarwitnessError):
    """What was asked is malformed; `data['field']` names the field where one is to blame."""

    reason = "INVALID"
    kind = Kind.INVALID


class NotFoundError(EarwitnessError):
    reason = "NOT_FOUND"
    kind = Kind.NOT_FOUND


class ExistsError(EarwitnessError):
    reason = "ALREADY_EXISTS"
    kind = Kind.EXISTS


class PreconditionError(EarwitnessError):
    reason = "FAILED_PRECONDITION"
    kind = Kind.PRECONDITION


class ConflictError(EarwitnessError):
    reason = "CONFLICT"
    kind = Kind.CONFLICT


class DeniedError(EarwitnessError):
    reason = "DENIED"
    kind = Kind.DENIED


class UnauthenticatedError(EarwitnessError):
    reason = "UNAUTHENTICATED"
    kind = Kind.UNAUTHENTICATED


class ExhaustedError(EarwitnessError):
    reason = "EXHAUSTED"
    kind = Kind.EXHAUSTED


class UnavailableError(EarwitnessError):
    reason = "UNAVAILABLE"
    kind = Kind.UNAVAILABLE


class CorruptError(EarwitnessError):
    """Stored bytes are not what was written; `data['offset']` says where."""

    reason = "CORRUPT"
    kind = Kind.CORRUPT


class ErasedError(PreconditionError):
    """The recording's key is destroyed: nobody can read it any more."""

    reason = "ERASED"
