"""What the vault raises. Messages and data hold opaque ids, never personal data."""

from __future__ import annotations

from appliance.model import (
    CorruptError,
    ErasedError,
    ExhaustedError,
    ExistsError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)


class RecordingNotFoundError(NotFoundError):
    """The vault holds no such recording; `data['recording_id']`."""

    reason = "RECORDING_NOT_FOUND"


class RecordingErasedError(ErasedError):
    """Its key is destroyed; `data['recording_id']`."""

    reason = "RECORDING_ERASED"


class RecordingDeletedError(PreconditionError):
    """It is deleted; undelete it first. `data['recording_id']`."""

    reason = "RECORDING_DELETED"


class RecordingQuarantinedError(PreconditionError):
    """It is in quarantine: kept, and not served. `data['recording_id']`."""

    reason = "RECORDING_QUARANTINED"


class RecordingLiveError(PreconditionError):
    """It is still being recorded; `data['recording_id']`."""

    reason = "RECORDING_LIVE"


class RecordingSpooledError(PreconditionError):
    """It has ended and is not filed yet: try again in a moment. `data['recording_id']`."""

    reason = "RECORDING_NOT_FILED"


class BucketNameError(InvalidError):
    """No bucket can have this name."""

    reason = "BUCKET_NAME"


class StoredFileMissingError(NotFoundError):
    """The bucket has no such file; `data['recording_id']`."""

    reason = "FILE_MISSING"


class StoredFileExistsError(ExistsError):
    """The bucket has another file of that recording; `data['recording_id']`."""

    reason = "FILE_EXISTS"


class StoreFullError(ExhaustedError):
    """No space is left where the buckets are."""

    reason = "STORE_FULL"


class StoreUnavailableError(UnavailableError):
    """The store does not answer as it should (an I/O error, a medium that is away); `data['errno']`."""

    reason = "STORE_UNAVAILABLE"


class StoredFileCorruptError(CorruptError):
    """A copy into the bucket came out otherwise; the original is where it was."""

    reason = "FILE_CORRUPT"


class JournalPositionError(PreconditionError):
    """The journal does not go that far: it is another one than the caller followed. `data['position']`: its end."""

    reason = "JOURNAL_POSITION"
