"""What can go wrong with staff, notices and acknowledgements."""

from __future__ import annotations

from appliance.model import (
    DeniedError,
    ExhaustedError,
    ExistsError,
    InvalidError,
    NotFoundError,
    PreconditionError,
)


class StaffNotFoundError(NotFoundError):
    """There is nobody of that name among the staff, or it is another tenant's."""

    reason = "STAFF_NOT_FOUND"


class StaffTakenError(ExistsError):
    """Somebody else who works for the tenant has this identity or number; `data['field']`, `data['staff_member']`."""

    reason = "STAFF_TAKEN"


class StaffLimitError(ExhaustedError):
    """The tenant has as many staff as its list may have; `data['limit']`."""

    reason = "STAFF_LIMIT"


class StaffLeftError(PreconditionError):
    """The person left, and nothing more is done with the record."""

    reason = "STAFF_LEFT"


class StaffRecordMissingError(PreconditionError):
    """The caller is not on the tenant's list of staff."""

    reason = "STAFF_RECORD_MISSING"


class NoticeNotFoundError(NotFoundError):
    """There is no such notice, or it is another tenant's."""

    reason = "NOTICE_NOT_FOUND"


class NoticeLimitError(ExhaustedError):
    """The tenant has as many notices, or a notice as many versions, as it may have; `data['limit']`."""

    reason = "NOTICE_LIMIT"


class NoticeArchivedError(PreconditionError):
    """The notice was taken out of use."""

    reason = "NOTICE_ARCHIVED"


class NoticeVersionError(PreconditionError):
    """The version is not in force, or was not; `data['version']` is the one that is, 0 where none is."""

    reason = "NOTICE_VERSION_NOT_IN_FORCE"


class NoticeVersionPublishedError(PreconditionError):
    """The version's time has come: it is not taken back, a new one takes its place."""

    reason = "NOTICE_VERSION_PUBLISHED"


class NoticeNotAddressedError(PreconditionError):
    """The notice does not go to this person."""

    reason = "NOTICE_NOT_ADDRESSED"


class NoticeNotAcknowledgedError(DeniedError):
    """By the tenant's choice this is not for who has not acknowledged what is required; `data['notices']`."""

    reason = "NOTICE_NOT_ACKNOWLEDGED"


class NoticePageOffError(PreconditionError):
    """The box serves no page where notices are acknowledged by a link."""

    reason = "NOTICE_PAGE_OFF"


class NoticeLinkInvalidError(NotFoundError):
    """No link of ours, or it is used, expired, or not for anybody any more: which of it is not told."""

    reason = "NOTICE_LINK_INVALID"


class AcknowledgementNotFoundError(NotFoundError):
    """There is no such acknowledgement, or it is another tenant's."""

    reason = "ACKNOWLEDGEMENT_NOT_FOUND"


class TableUnreadableError(InvalidError):
    """What should be a table as CSV cannot be read as one; `data['field']`, and `data['row']` where a row is to blame."""

    reason = "TABLE_UNREADABLE"
