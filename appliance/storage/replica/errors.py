"""What replication raises. Messages and data hold opaque ids and names of replicas, never personal data."""

from __future__ import annotations

from appliance.model import (
    CorruptError,
    DeniedError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)


class DeletionLogGapError(PreconditionError):
    """An entry is not the one after the last; `data['number']`, `data['wanted']`. Nothing was changed."""

    reason = "DELETION_LOG_GAP"


class DeletionLogForkError(PreconditionError):
    """An entry does not go on from the last one, or another one of its number was followed; `data['number']`."""

    reason = "DELETION_LOG_FORK"


class DeletionLogBackError(PreconditionError):
    """The log here ends before what the replica has followed: older data was put back; `data['number']`, `data['end']`."""

    reason = "DELETION_LOG_ROLLED_BACK"


class ReplicaSignatureError(DeniedError):
    """Something is not signed by who should have; `data['what']`: entry, notice, receipt. Nothing was changed."""

    reason = "REPLICA_SIGNATURE"


class ReplicaForeignError(DeniedError):
    """The replica is of another box, or another replica answers under its name; `data['replica']`."""

    reason = "REPLICA_FOREIGN"


class ReplicaLogFirstError(PreconditionError):
    """A stream is refused while the log has not been followed; `data['number']`, `data['wanted']`."""

    reason = "REPLICA_LOG_FIRST"


class ReplicaExpiredError(PreconditionError):
    """A stream is of a bucket as it was before it expired; `data['bucket']`."""

    reason = "REPLICA_BUCKET_EXPIRED"


class ReplicaBusyError(UnavailableError):
    """Another one is at work with this replica; `data['replica']`."""

    reason = "REPLICA_BUSY"


class ReplicaStateError(CorruptError):
    """What a replica keeps of itself cannot be read; `data['what']`."""

    reason = "REPLICA_STATE"


class ReplicaUnknownError(NotFoundError):
    """There is no replica of this name; `data['replica']`."""

    reason = "REPLICA_UNKNOWN"


class ReplicaCopyUnknownError(NotFoundError):
    """The replica has no copy of this bucket; `data['bucket']`."""

    reason = "REPLICA_COPY_UNKNOWN"


class ReplicaConfiguredError(PreconditionError):
    """The replica is in the settings: take it out first; `data['replica']`."""

    reason = "REPLICA_CONFIGURED"


class ReplicaNameError(InvalidError):
    """No replica can have this name: 1 to 32 lower-case letters and digits."""

    reason = "REPLICA_NAME"


class ReplicationStoppedError(UnavailableError):
    """The process is about to stop, or who asked went away: what was begun goes on the next time."""

    reason = "REPLICATION_STOPPED"
