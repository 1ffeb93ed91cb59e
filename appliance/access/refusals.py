"""What identities, their credentials and signing in refuse."""

from __future__ import annotations

from appliance.model import (
    CorruptError,
    DeniedError,
    ExhaustedError,
    ExistsError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    UnauthenticatedError,
    UnavailableError,
)


class SignInRefusedError(UnauthenticatedError):
    """Name, passphrase or code is not right. Which of them is never said."""

    reason = "SIGN_IN_REFUSED"


class SignInSlowedError(ExhaustedError):
    """Too many sign-ins failed for this name or from there, whether or not the name exists; `data['retry_after_s']`."""

    reason = "SIGN_IN_SLOWED"


class SignInBusyError(ExhaustedError):
    """As many sign-ins are being checked as the box checks at a time."""

    reason = "SIGN_IN_BUSY"


class PassphraseError(InvalidError):
    """The passphrase is too short, too long or too easy to guess."""

    reason = "PASSPHRASE_WEAK"


class ExpiredCertificateError(UnauthenticatedError):
    """The connection began with a certificate that is over by now."""

    reason = "CERTIFICATE_EXPIRED"


class TokenMissingError(UnauthenticatedError):
    """This listener wants `authorization: Bearer` with each call."""

    reason = "TOKEN_MISSING"


class TokenInvalidError(UnauthenticatedError):
    """The token is none of ours and none that a provider of this box signed for it."""

    reason = "TOKEN_INVALID"


class TokenExpiredError(UnauthenticatedError):
    """The token or session is over: get a new one."""

    reason = "TOKEN_EXPIRED"


class TokenUnmappedError(UnauthenticatedError):
    """The token is good, but its groups give no role here, or roles of more than one tenant."""

    reason = "TOKEN_UNMAPPED"


class ProviderUnavailableError(UnavailableError):
    """The identity provider's keys cannot be had; `data['provider']`, and `data['cause']` in one word."""

    reason = "IDENTITY_PROVIDER_UNAVAILABLE"


class IdentityDisabledError(UnauthenticatedError):
    """The identity is disabled."""

    reason = "IDENTITY_DISABLED"


class IdentityNotFoundError(NotFoundError):
    """There is no such identity, or the caller does not see it."""

    reason = "IDENTITY_NOT_FOUND"


class IdentityTakenError(ExistsError):
    """The tenant, or the box, has an identity of this name already."""

    reason = "IDENTITY_NAME_TAKEN"


class IdentityReservedError(PreconditionError):
    """The roles of the box's own `admin` come from the site file."""

    reason = "IDENTITY_RESERVED"


class IdentityLimitError(ExhaustedError):
    """As many of these as there may be; `data['limit']`."""

    reason = "IDENTITY_LIMIT"


class ManageDeniedError(DeniedError):
    """The caller may not manage an identity with these roles."""

    reason = "MANAGE_DENIED"


class LastOperatorError(PreconditionError):
    """It is the last operator that can come in: make another one first."""

    reason = "LAST_OPERATOR"


class LastAdministratorError(PreconditionError):
    """It is the tenant's last administrator that can come in: make another one first."""

    reason = "LAST_TENANT_ADMINISTRATOR"


class CertificateRequestError(InvalidError):
    """The certificate request is none, is not signed by its own key, or its key is not accepted."""

    reason = "CERTIFICATE_REQUEST_INVALID"


class CertificateNotFoundError(NotFoundError):
    """The identity has no such certificate."""

    reason = "CERTIFICATE_NOT_FOUND"


class OwnCertificateNeededError(PreconditionError):
    """A certificate is renewed by who comes with it, still valid."""

    reason = "OWN_CERTIFICATE_NEEDED"


class OwnSessionNeededError(PreconditionError):
    """The call is about the session it comes with, and it comes with none."""

    reason = "OWN_SESSION_NEEDED"


class SubjectTakenError(ExistsError):
    """The provider's subject stands for an identity already."""

    reason = "SUBJECT_TAKEN"


class SubjectNotFoundError(NotFoundError):
    """The identity has no such subject."""

    reason = "SUBJECT_NOT_FOUND"


class SessionNotFoundError(NotFoundError):
    """There is no such session, or the caller does not see it."""

    reason = "ACCESS_SESSION_NOT_FOUND"


class IdentityKeyError(CorruptError):
    """control/identities.key is lost or damaged: second factors cannot be read and must be enrolled again."""

    reason = "IDENTITY_KEY_LOST"


class JournalError(UnavailableError):
    """The copy of identities beside the catalogue cannot be written."""

    reason = "IDENTITIES_COPY_UNWRITABLE"


class CatalogueCopyError(CorruptError):
    """The general copy of the catalogue is damaged, of another box, or of another release."""

    reason = "CATALOGUE_COPY_DAMAGED"
