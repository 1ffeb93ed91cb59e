"""Who is not let in, and why."""

from __future__ import annotations

from appliance.model import (
    ConflictError,
    DeniedError,
    ExhaustedError,
    InvalidError,
    PreconditionError,
    UnauthenticatedError,
)


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


class RightsChangedError(ConflictError):
    """Roles or tenant of the caller changed while a stream ran: begin it anew."""

    reason = "RIGHTS_CHANGED"


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
    """The box's own certificate authority is not whole, cannot be read, or has ended; `data['file']`."""

    reason = "AUTHORITY_BROKEN"


class GrantTermsError(InvalidError):
    """What a support grant should say is missing or out of its bounds; `data['field']` names it."""

    reason = "GRANT_TERMS_INVALID"


class GrantWidenedError(InvalidError):
    """An approval goes beyond the request; `data['field']` names what is wider."""

    reason = "GRANT_WIDENED"


class GrantStateError(PreconditionError):
    """The grant is not in a state for this; `data['state']` says which it is in."""

    reason = "GRANT_STATE"


class GrantEmptyError(PreconditionError):
    """No recording is there now of what the grant would cover."""

    reason = "GRANT_EMPTY"


class GrantTooLargeError(PreconditionError):
    """The grant would cover more recordings than one may; `data['limit']`."""

    reason = "GRANT_TOO_LARGE"


class GrantLimitError(ExhaustedError):
    """As many requests of a tenant wait for an answer as may; `data['limit']`."""

    reason = "GRANT_LIMIT"


class OwnGrantError(DeniedError):
    """Who asks for a grant, reads under it, or is of the support does not approve it."""

    reason = "GRANT_OWN"


class GranteeUnknownError(InvalidError):
    """A grant is to identities of the box with the role support, and this is none."""

    reason = "GRANTEE_UNKNOWN"


class GrantPurposeError(DeniedError):
    """A grant allows reads for its own purpose alone; `data['purpose']`."""

    reason = "GRANT_PURPOSE"


class GrantEndedError(DeniedError):
    """The grant under which this was being read has ended."""

    reason = "GRANT_ENDED"
