"""What can go wrong with requests for access, packs, restrictions and objections."""

from __future__ import annotations

from appliance.model import ExhaustedError, InvalidError, NotFoundError, PreconditionError, UnavailableError


class RecordingRestrictedError(PreconditionError):
    """The recording is restricted (UK GDPR Art. 18): kept, and not read; `data['restrictions']`: by what."""

    reason = "RECORDING_RESTRICTED"


class RestrictionNotFoundError(NotFoundError):
    """There is no such restriction, or it is another tenant's."""

    reason = "RESTRICTION_NOT_FOUND"


class RestrictionStateError(PreconditionError):
    """The restriction is not in a state for this; `data['state']` says which it is in."""

    reason = "RESTRICTION_STATE"


class RestrictionLimitError(ExhaustedError):
    """The tenant has as many restrictions in force as it may have; `data['limit']`."""

    reason = "RESTRICTION_LIMIT"


class NumberPartialError(InvalidError):
    """Rights of a person are exercised for whole telephone numbers; `data['field']`."""

    reason = "NUMBER_PARTIAL"


class SubjectNumberUnverifiedError(InvalidError):
    """Of a number that is not the person's own it is not said how it was verified that they may have what was said on it;
    `data['field']`."""

    reason = "SUBJECT_NUMBER_UNVERIFIED"


class SubjectRequestNotFoundError(NotFoundError):
    """There is no such request for access, or it is another tenant's."""

    reason = "SUBJECT_REQUEST_NOT_FOUND"


class SubjectRequestStateError(PreconditionError):
    """The request for access is not in a state for this; `data['state']` says which it is in."""

    reason = "SUBJECT_REQUEST_STATE"


class SubjectRequestLimitError(ExhaustedError):
    """As many requests for access, or choices or packs of one, are there as may be; `data['limit']`."""

    reason = "SUBJECT_REQUEST_LIMIT"


class SubjectChoiceOutsideError(PreconditionError):
    """The recording has none of the request's numbers, or is not of its time; `data['recording']`."""

    reason = "SUBJECT_CHOICE_OUTSIDE"


class SubjectMuteImpossibleError(PreconditionError):
    """The recording does not keep the voices apart: mute a stretch of everybody; `data['field']`."""

    reason = "SUBJECT_MUTE_IMPOSSIBLE"


class SubjectPackNotFoundError(NotFoundError):
    """There is no such pack, or it is another tenant's."""

    reason = "SUBJECT_PACK_NOT_FOUND"


class SubjectPackStateError(PreconditionError):
    """The pack is being made, could not be made, or is destroyed; `data['state']` says which."""

    reason = "SUBJECT_PACK_STATE"


class SubjectPackEmptyError(PreconditionError):
    """Nothing was chosen for the request that can be given or told."""

    reason = "SUBJECT_PACK_EMPTY"


class SubjectPassphraseWeakError(InvalidError):
    """The passphrase of a pack could be guessed, or other programs might not take it; `data['field']`."""

    reason = "SUBJECT_PASSPHRASE_WEAK"


class SubjectPassphraseLostError(PreconditionError):
    """The passphrase that was sealed for the making of a pack cannot be opened any more: make the pack anew."""

    reason = "SUBJECT_PASSPHRASE_LOST"


class SubjectPackUnwrittenError(UnavailableError):
    """The pack cannot be written into the data directory: no space, or an I/O error; `data['errno']`."""

    reason = "SUBJECT_PACK_UNWRITTEN"
