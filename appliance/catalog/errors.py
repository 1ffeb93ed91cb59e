"""What can go wrong with the catalogue."""

from __future__ import annotations

from appliance.model import (
    ConflictError,
    ExhaustedError,
    ExistsError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)


class FilterError(InvalidError):
    """A filter cannot be understood; `data['field']` is what is to blame, `data['position']` where (characters, from 0)."""

    reason = "FILTER_INVALID"


class OrderError(InvalidError):
    """An order_by cannot be understood."""

    reason = "ORDER_INVALID"


class PageTokenError(InvalidError):
    """Not a page token of ours, or of another query."""

    reason = "PAGE_TOKEN_INVALID"


class PageTokenExpiredError(InvalidError):
    """The page token is older than a day."""

    reason = "PAGE_TOKEN_EXPIRED"


class ResumeTokenError(InvalidError):
    """Not a resume token of ours."""

    reason = "RESUME_TOKEN_INVALID"


class ResumeTokenExpiredError(PreconditionError):
    """Events after this token are not kept any more: list anew and begin without one."""

    reason = "RESUME_TOKEN_EXPIRED"


class RecordingNotFoundError(NotFoundError):
    reason = "RECORDING_NOT_FOUND"


class TenantNotFoundError(NotFoundError):
    reason = "TENANT_NOT_FOUND"


class LineNotFoundError(NotFoundError):
    reason = "LINE_NOT_FOUND"


class VersionNotFoundError(NotFoundError):
    """There is no such version of it."""

    reason = "VERSION_NOT_FOUND"


class PurposeNotFoundError(NotFoundError):
    """The tenant has no such purpose."""

    reason = "PURPOSE_NOT_FOUND"


class PurposeExistsError(ExistsError):
    """The tenant has or had a purpose of this id."""

    reason = "PURPOSE_EXISTS"


class PurposeLimitError(ExhaustedError):
    """The tenant has as many purposes as it may have; `data['limit']`."""

    reason = "PURPOSE_LIMIT"


class PurposeUnknownError(InvalidError):
    """What is named is no purpose of the tenant; `data['field']`."""

    reason = "PURPOSE_UNKNOWN"


class PurposeArchivedError(PreconditionError):
    """The purpose is archived: what is new cannot state it; `data['purpose']`."""

    reason = "PURPOSE_ARCHIVED"


class CatchAllTakenError(PreconditionError):
    """Another line takes what no other line takes; `data['line']` names it where it is the same tenant's."""

    reason = "CATCH_ALL_TAKEN"


class NumberTakenError(PreconditionError):
    """Another line has this number; `data['line']` names it where it is the same tenant's."""

    reason = "NUMBER_TAKEN"


class PromptNotFoundError(NotFoundError):
    """There is no such prompt, or it is another tenant's."""

    reason = "PROMPT_NOT_FOUND"


class PromptInUseError(PreconditionError):
    """A line uses the prompt; `data['line']` names it."""

    reason = "PROMPT_IN_USE"


class PromptShippedError(PreconditionError):
    """The prompt comes with the box, and cannot be removed."""

    reason = "PROMPT_SHIPPED"


class PromptLimitError(ExhaustedError):
    """The tenant has as many prompts as it may have; `data['limit']`."""

    reason = "PROMPT_LIMIT"


class LanguageTwiceError(InvalidError):
    """An announcement has two prompts of one language; `data['language']`."""

    reason = "PROMPT_LANGUAGE_TWICE"


class EtagMismatchError(ConflictError):
    """The thing changed since its etag was read."""

    reason = "ETAG_MISMATCH"


class RequestIdReusedError(ConflictError):
    """The request_id was used with another request."""

    reason = "REQUEST_ID_REUSED"


class CatalogueUnavailableError(UnavailableError):
    """The database does not take or give anything now: no space, an I/O error, somebody else writes for long."""

    reason = "CATALOGUE_UNAVAILABLE"


class CatalogueVersionError(PreconditionError):
    """The catalogue was written by a newer release."""

    reason = "CATALOGUE_TOO_NEW"


class CatalogueUnsuitableError(PreconditionError):
    """The database that the settings name would not behave as the catalogue's must: its version, encoding, collation."""

    reason = "CATALOGUE_UNSUITABLE"


class OperationNotFoundError(NotFoundError):
    """There is no such operation, or it is another tenant's; those that ended are kept for 90 days."""

    reason = "OPERATION_NOT_FOUND"


class NoteNotFoundError(NotFoundError):
    """There is no such note, or it is another tenant's."""

    reason = "NOTE_NOT_FOUND"


class NoteLimitError(ExhaustedError):
    """The recording has as many notes as it may have; `data['limit']`."""

    reason = "NOTE_LIMIT"


class OperationLimitError(ExhaustedError):
    """As much long work of the tenant waits or runs as may; `data['limit']`."""

    reason = "OPERATION_LIMIT"


class TagLimitError(ExhaustedError):
    """The recording would have more tags than it may have; `data['limit']`."""

    reason = "TAG_LIMIT"


class TimeZoneError(InvalidError):
    """Not a time zone of the IANA database."""

    reason = "TIME_ZONE_UNKNOWN"


class GrantNotFoundError(NotFoundError):
    """There is no such support grant, or it is another tenant's, or another support person's."""

    reason = "GRANT_NOT_FOUND"


class ClosingNotFoundError(NotFoundError):
    """The tenant or line is not being closed."""

    reason = "CLOSING_NOT_FOUND"


class ClosingStateError(PreconditionError):
    """The tenant or line is not in a state for this; `data['state']` says which it is in."""

    reason = "CLOSING_STATE"


class TenantClosedError(PreconditionError):
    """The tenant is closed, so that nothing new is recorded for it."""

    reason = "TENANT_CLOSED"


class ExitPackNotFoundError(NotFoundError):
    """There is no such exit pack, or it is another tenant's."""

    reason = "EXIT_PACK_NOT_FOUND"


class AlarmNotFoundError(NotFoundError):
    """There is no such alarm, or it is another tenant's."""

    reason = "ALARM_NOT_FOUND"


class AlarmClearedError(PreconditionError):
    """The alarm is over: there is nothing to look after."""

    reason = "ALARM_CLEARED"


class AlarmClearsItselfError(PreconditionError):
    """The alarm clears by itself when its cause is gone, and not by hand."""

    reason = "ALARM_CLEARS_ITSELF"


class AlarmChannelNotFoundError(NotFoundError):
    """There is no such channel for alarms, or it is another tenant's."""

    reason = "ALARM_CHANNEL_NOT_FOUND"


class AlarmChannelLimitError(ExhaustedError):
    """There are as many channels for alarms as may be; `data['limit']`."""

    reason = "ALARM_CHANNEL_LIMIT"


class CallRecordSourceNotFoundError(NotFoundError):
    """There is no such source of call records, or it is another tenant's."""

    reason = "CALL_RECORD_SOURCE_NOT_FOUND"


class CallRecordSourceLimitError(ExhaustedError):
    """The tenant has as many sources of call records as it may have; `data['limit']`."""

    reason = "CALL_RECORD_SOURCE_LIMIT"


class CompletenessDayNotFoundError(NotFoundError):
    """Of that day no call records came, and no report was made."""

    reason = "COMPLETENESS_DAY_NOT_FOUND"


class DocumentNotFoundError(NotFoundError):
    """There is no such document any more, or it is another tenant's."""

    reason = "DOCUMENT_NOT_FOUND"


class DocumentLimitError(ExhaustedError):
    """As many documents are kept as may be: the oldest go after 400 days; `data['limit']`."""

    reason = "DOCUMENT_LIMIT"


class PlannedWorkNotFoundError(NotFoundError):
    """There is no such planned work."""

    reason = "PLANNED_WORK_NOT_FOUND"


class PlannedWorkLimitError(ExhaustedError):
    """As much work is planned as may be at once; `data['limit']`."""

    reason = "PLANNED_WORK_LIMIT"
