"""What signaling raises."""

from __future__ import annotations

from appliance.model import (
    CorruptError,
    ExhaustedError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)


class CaptureUnavailableError(UnavailableError):
    """No capture worker answers, or none could open the session."""

    reason = "CAPTURE_UNAVAILABLE"


class CallNotFoundError(NotFoundError):
    """No live call of this id."""

    reason = "CALL_NOT_FOUND"


class CallNotRecordedError(PreconditionError):
    """The call is not being recorded, so there is nothing to pause, resume or stop; `data['why']` says why not."""

    reason = "CALL_NOT_RECORDED"


class ActionError(InvalidError):
    """What is asked of a call is malformed."""

    reason = "CALL_ACTION_INVALID"


class WatcherTooSlowError(ExhaustedError):
    """A watcher of calls does not keep up; it may ask again."""

    reason = "WATCHER_TOO_SLOW"


class ContextError(CorruptError):
    """A session's context is none of ours."""

    reason = "CONTEXT_UNREADABLE"


class CertificateMissingError(UnavailableError):
    """The certificate for SIP over TLS is not there."""

    reason = "SIP_CERTIFICATE_MISSING"


class AccountPasswordError(PreconditionError):
    """The password file of a SIP account cannot be used; `data['domain']` says whose."""

    reason = "SIP_PASSWORD_UNREADABLE"
