"""What the audit refuses."""

from __future__ import annotations

from appliance.model import CorruptError, InvalidError, NotFoundError, UnavailableError


class AuditUnavailableError(UnavailableError):
    """The audit log cannot be written, so nothing is done."""

    reason = "AUDIT_UNAVAILABLE"


class EntryInvalidError(InvalidError):
    """What should be written is no entry: `data['field']` is too long, or of a form that no entry has."""

    reason = "AUDIT_ENTRY_INVALID"


class EntryNotFoundError(NotFoundError):
    """The log has no such entry (yet)."""

    reason = "AUDIT_ENTRY_NOT_FOUND"


class EntryDamagedError(CorruptError):
    """An entry on disk is not what was written; `data['index']` says which."""

    reason = "AUDIT_ENTRY_DAMAGED"


class TreeSizeError(InvalidError):
    """The log never had this size, or sizes are in the wrong order."""

    reason = "AUDIT_TREE_SIZE_INVALID"


class ProofError(CorruptError):
    """A proof does not prove what it should."""

    reason = "AUDIT_PROOF_INVALID"


class NoteError(InvalidError):
    """Not a signed note, not a checkpoint, or not a key for one."""

    reason = "AUDIT_NOTE_INVALID"


class NoteUnverifiedError(CorruptError):
    """A note carries no signature of a known key, or one that does not hold."""

    reason = "AUDIT_NOTE_UNVERIFIED"


class IndexUnavailableError(UnavailableError):
    """The audit's index cannot be written or read now; the log itself goes on."""

    reason = "AUDIT_INDEX_UNAVAILABLE"
