"""What can be wrong with keys and the files that hold them. No message ever holds key material."""

from __future__ import annotations

from appliance.model import (
    ConflictError,
    CorruptError,
    DeniedError,
    ErasedError,
    ExhaustedError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)


class KeyFormatError(InvalidError):
    """Bytes that are no key of the kind asked for."""

    reason = "KEY_FORMAT"


class KeyRefusedError(CorruptError):
    """A ciphertext does not open with this key, in this place."""

    reason = "KEY_REFUSED"


class DepositCorruptError(CorruptError):
    """A deposit is not what capture wrote; `data['offset']` says where (bytes)."""

    reason = "DEPOSIT_CORRUPT"


class DepositKeyUnknownError(PreconditionError):
    """A deposit is sealed to a deposit key that is not, or no longer, in the keystore; `data['key_id']` names it."""

    reason = "DEPOSIT_KEY_UNKNOWN"


class KeystoreCorruptError(CorruptError):
    """Both copies of something in the keystore are damaged.

    `data`: what, and offset (bytes, in `what`) where one is known.
    """

    reason = "KEYSTORE_CORRUPT"


class KeystoreBusyError(UnavailableError):
    """Another process has the keystore open."""

    reason = "KEYSTORE_BUSY"


class RootKeyMissingError(PreconditionError):
    """There is an epoch, and no root slot that opens it."""

    reason = "ROOT_KEY_MISSING"


class TpmError(UnavailableError):
    """The TPM does not answer, or refuses; the message has what it said. `data`: command, code (0: none was given)."""

    reason = "TPM_UNAVAILABLE"


SLOT_ERRORS = (OSError, TpmError)
"""What a medium of root keys may raise when it does not do what is asked."""


def why(error: OSError | TpmError) -> str:
    """What a medium said."""
    return error.message if isinstance(error, TpmError) else str(error.strerror)


class KeyAbsentError(ErasedError):
    """The recording's key is in the keystore no more, or never was: nobody can read it."""

    reason = "ERASED"


class BucketKeyAbsentError(NotFoundError):
    """The keystore has no key of the bucket, or no more; `data['bucket']`: tenant id, line, slice."""

    reason = "BUCKET_KEY_ABSENT"


class KeyPinnedError(PreconditionError):
    """A legal hold forbids to destroy some of these keys, so none is destroyed.

    `data`: recording_ids (up to 20 of them), count.
    """

    reason = "KEY_PINNED"


class TenantKeyMissingError(NotFoundError):
    """The tenant has no key pair; `data['tenant_id']`."""

    reason = "TENANT_KEY_MISSING"


class KeystoreDegradedError(PreconditionError):
    """One copy cannot be written, so the old root key there could not be destroyed; `data['copies']` names them."""

    reason = "KEYSTORE_DEGRADED"


class KeystoreWriteError(UnavailableError):
    """The keystore could not be written; it is as it was before."""

    reason = "KEYSTORE_WRITE"


class KeystoreCopyMissingError(PreconditionError):
    """A copy of the keystore is away and may still hold what is to be erased; `data['copies']`: ids.

    Bring it back, or declare it destroyed.
    """

    reason = "KEYSTORE_COPY_MISSING"


class KeystoreCopyUnknownError(NotFoundError):
    """The keystore lists no such copy; `data['copy']`."""

    reason = "KEYSTORE_COPY_UNKNOWN"


class KeystoreCopyPresentError(PreconditionError):
    """The copy is there, so it is not destroyed; `data['copy']`."""

    reason = "KEYSTORE_COPY_PRESENT"


class KeystoreForeignError(PreconditionError):
    """A directory holds another keystore, which is neither read nor overwritten; `data['directories']`: names."""

    reason = "KEYSTORE_FOREIGN"


class KeystoreRolledBackError(PreconditionError):
    """Every copy is older than one that was there before: somebody put them back. Nothing is changed.

    `data`: epoch (the highest found; 0: none), floor; within one epoch also records and floor_records, of its journal.
    """

    reason = "KEYSTORE_ROLLED_BACK"


class KeystoreTooNewError(PreconditionError):
    """A newer release wrote it; `data['version']` is that of the format."""

    reason = "KEYSTORE_TOO_NEW"


class KeystoreLostError(PreconditionError):
    """There are recordings and no keystore: a new one would call them all erased, so none is made."""

    reason = "KEYSTORE_LOST"


class TenantLockedError(PreconditionError):
    """The tenant's keys are under its own passphrase and nobody has unlocked them; `data['tenant_id']`.

    Recording goes on. Its records officer unlocks: `earwitness keys unlock`.
    """

    reason = "TENANT_LOCKED"


class KeyModeError(PreconditionError):
    """The tenant's keys are not in the mode that this needs; `data`: tenant_id, mode (auto or attended)."""

    reason = "KEY_MODE"


class PassphraseFormatError(InvalidError):
    """Too short, too long, or no passphrase or recovery key at all; `data['field']`."""

    reason = "PASSPHRASE_FORMAT"


class PassphraseWrongError(DeniedError):
    """It is not the tenant's passphrase, or not its recovery key; `data['retry_after_s']` where it must be waited."""

    reason = "PASSPHRASE_WRONG"


class TenantKeysFullError(ExhaustedError):
    """The tenant's keys have changed so often that no more key pairs are kept; `data['limit']`."""

    reason = "TENANT_KEYS_FULL"


class GrantKeysFullError(ExhaustedError):
    """More sealed keys than are kept for one grant, or for all; `data['limit']`."""

    reason = "GRANT_KEYS_FULL"


class GrantKeysConflictError(ConflictError):
    """The grant's keys are sealed to another public key, or are another tenant's; `data['grant_id']`. Drop them first."""

    reason = "GRANT_KEYS_CONFLICT"
