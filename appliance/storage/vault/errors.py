"""What the vault raises. Messages and data hold opaque ids, never personal data."""

from __future__ import annotations

from appliance.model import (
    CorruptError,
    ErasedError,
    ExhaustedError,
    ExistsError,
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


class RecordingKeyAbsentError(PreconditionError):
    """Its key is not in the keystore, and nobody erased it: it is kept, and unreadable until the right keystore is back.

    `data['recording_id']`; without it where because of such ones nothing else is destroyed by itself.
    """

    reason = "RECORDING_KEY_ABSENT"


class RecordingDeletedError(PreconditionError):
    """It is deleted; undelete it first. `data['recording_id']`."""

    reason = "RECORDING_DELETED"


class GraceOverError(PreconditionError):
    """The time in which the recording could be brought back is over; `data['recording_id']`."""

    reason = "GRACE_OVER"


class RecordingQuarantinedError(PreconditionError):
    """It is in quarantine: kept, and not served. `data['recording_id']`."""

    reason = "RECORDING_QUARANTINED"


class RecordingLiveError(PreconditionError):
    """It is still being recorded; `data['recording_id']`."""

    reason = "RECORDING_LIVE"


class RecordingSpooledError(PreconditionError):
    """It has ended and is not filed yet: try again in a moment. `data['recording_id']`."""

    reason = "RECORDING_NOT_FILED"


class BucketMissingError(NotFoundError):
    """There is no such bucket; `data['bucket']`: its path."""

    reason = "BUCKET_MISSING"


class BucketLockedError(PreconditionError):
    """The bucket's key is not loaded; `data['bucket']`."""

    reason = "BUCKET_LOCKED"


class BucketKeyError(CorruptError):
    """The key is not this bucket's; `data['bucket']`."""

    reason = "BUCKET_KEY_WRONG"


class BucketBusyError(PreconditionError):
    """Something has a file of the bucket open, or is sending it: try again. `data['bucket']`."""

    reason = "BUCKET_BUSY"


class SnapshotMissingError(NotFoundError):
    """There is no such snapshot; `data['snapshots']`: bucket@name of each."""

    reason = "SNAPSHOT_MISSING"


class SnapshotHeldError(PreconditionError):
    """Held snapshots are never destroyed; `data['snapshots']`, and `data['tags']` that hold them."""

    reason = "SNAPSHOT_HELD"


class SnapshotsRemainError(PreconditionError):
    """A bucket with snapshots is not destroyed; `data['snapshots']`."""

    reason = "SNAPSHOTS_REMAIN"


class ReplicaDivergedError(PreconditionError):
    """The copy is not what the stream goes on from; `data['bucket']`."""

    reason = "REPLICA_DIVERGED"


class StoredFileMissingError(NotFoundError):
    """The bucket has no such file; `data['recording_id']`."""

    reason = "FILE_MISSING"


class StoredFileExistsError(ExistsError):
    """The bucket has another file of that recording; `data['recording_id']`."""

    reason = "FILE_EXISTS"


class StoreFullError(ExhaustedError):
    """No space is left where the buckets are."""

    reason = "STORE_FULL"


class QuotaExceededError(ExhaustedError):
    """The tenant has used up its quota, or more than a new one allows; others are not touched. `data['tenant_id']`."""

    reason = "QUOTA_EXCEEDED"


class StoreUnavailableError(UnavailableError):
    """The store does not answer as it should (an I/O error, a medium that is away); `data['errno']`."""

    reason = "STORE_UNAVAILABLE"


class StoreSuspendedError(StoreUnavailableError):
    """The medium has stopped all input and output and waits for somebody (a suspended pool)."""

    reason = "STORE_SUSPENDED"


class PlanChangedError(PreconditionError):
    """What would be destroyed is not what was confirmed; `data['digest']` is the present plan's. Nothing was done."""

    reason = "PLAN_CHANGED"


class NotDueError(PreconditionError):
    """What a plan destroys is not due any more, or the retention clock is frozen now; `data['bucket']`."""

    reason = "NOT_DUE"


class UnknownFilesError(PreconditionError):
    """Files in a bucket are known to nobody, so it is not destroyed; `data['bucket']`."""

    reason = "UNKNOWN_FILES"


class StoreRefusedError(PreconditionError):
    """The software beneath is not what the store may stand on; `data['found']`, `data['wanted']`."""

    reason = "STORE_REFUSED"


class StoredFileCorruptError(CorruptError):
    """A file in a bucket is not what was written, or a copy came out otherwise; then the original is where it was."""

    reason = "FILE_CORRUPT"


class JournalCorruptError(CorruptError):
    """A journal is damaged where no crash can have torn it; `data['what']`, `data['offset']`. Nothing was changed."""

    reason = "JOURNAL_CORRUPT"


class JournalLineTooLongError(ExhaustedError):
    """An entry is longer than the journal takes in one line; `data`: what, bytes, limit. Nothing was written."""

    reason = "JOURNAL_LINE_TOO_LONG"


class JournalPositionError(PreconditionError):
    """The journal does not go that far: it is another one than the caller followed. `data['position']`: its end."""

    reason = "JOURNAL_POSITION"


class PassphraseTooSoonError(ExhaustedError):
    """After wrong passphrases the next one must wait, for this tenant alone; `data`: tenant_id, retry_after_s."""

    reason = "PASSPHRASE_TOO_SOON"


class PassphraseBusyError(UnavailableError):
    """Other passphrases are being tried, each of which takes a second and much memory: try again."""

    reason = "PASSPHRASE_BUSY"
