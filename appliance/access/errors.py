"""Who is not let in, and why."""

from __future__ import annotations

from appliance.model import DeniedError, ExhaustedError, InvalidError, PreconditionError, UnauthenticatedError


class NoCertificateError(UnauthenticatedError):
    """The connection carries no client certificate that can be read."""

    reason = "CERTIFICATE_MISSING"


class UnknownCertificateError(UnauthenticatedError):
    """The certificate is ours, but stands for nobody in the box's table."""

    reason = "CERTIFICATE_UNKNOWN"


class RevokedCertificateError(UnauthenticatedError):
    reason = "CERTIFICATE_REVOKED"


class MethodDeniedError(DeniedError):
    """The identity's role may not call this method."""

    reason = "METHOD_DENIED"


class RoleNeededError(DeniedError):
    """The method may be called, but this of it needs another role; `data['roles']` names those that would do."""

    reason = "ROLE_NEEDED"


class PurposeNeededError(InvalidError):
    """A read names no purpose; `data['field']`."""

    reason = "PURPOSE_NEEDED"


class PurposeNotStatedError(DeniedError):
    """The purpose was not stated to the caller; `data['stated']` lists what was, `data['source']` says how."""

    reason = "PURPOSE_NOT_STATED"


class RateLimitError(ExhaustedError):
    """Too many calls at once; `data['retry_after_s']` says when to come again."""

    reason = "RATE_LIMITED"


class IdentityError(InvalidError):
    """A name or role of an identity has the wrong form."""

    reason = "IDENTITY_INVALID"


class AuthorityError(PreconditionError):
    """The box's own certificate authority is not whole: a key without its certificate, or the other way round."""

    reason = "AUTHORITY_BROKEN"
