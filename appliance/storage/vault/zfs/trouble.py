"""What the system beneath says went wrong, and what the contract calls it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from appliance.model import EarwitnessError
from appliance.storage.names import BucketId
from appliance.storage.vault.errors import (
    BucketBusyError,
    BucketKeyError,
    BucketLockedError,
    QuotaExceededError,
    StoreFullError,
    StoreSuspendedError,
    StoreUnavailableError,
)

ASTRAY: Final = "Astray"
"""Kind: a place is not the mounted bucket it should be."""


class Trouble(Exception):
    """An error of libzfs_core, of a system call or of a command, by number. It never leaves the room.

    `kind`: the class of the error in the agent. `names`: where libzfs_core told errors by name, their numbers.
    """

    def __init__(
        self, number: int, kind: str = "", names: Mapping[str, int] | None = None, said: str = ""
    ) -> None:
        super().__init__(f"{errno.errorcode.get(number, number)} {kind} {said}".strip())
        self.number = number
        self.kind = kind
        self.names = dict(names or {})
        self.said = said

    def all_are(self, number: int) -> bool:
        """Whether this number is all that went wrong."""
        return all(one == number for one in self.names.values()) if self.names else self.number == number


_SUSPENDED = StoreSuspendedError, "the pool has stopped all input and output until its disks are back"
_PLAIN: dict[int, tuple[type[EarwitnessError], str]] = {
    errno.ENOSPC: (StoreFullError, "no space is left where the buckets are"),
    errno.EAGAIN: _SUSPENDED,  # what every ioctl of ZFS answers on a suspended pool
}


def contract_error(trouble: Trouble, bucket: BucketId | None = None, tenant_id: str = "") -> EarwitnessError:
    """What the contract calls it, where the caller knows no better."""
    tenant_id = tenant_id or (bucket.tenant_id if bucket else "")
    found = _PLAIN.get(trouble.number)
    if found:
        return found[0](found[1])
    if trouble.number == errno.EDQUOT and tenant_id:
        return QuotaExceededError("the tenant has used up its quota", tenant_id=tenant_id)
    if bucket and trouble.number == errno.EBUSY:
        return BucketBusyError("something uses the bucket", bucket=bucket.path)
    if bucket and trouble.kind == "EncryptionKeyInvalid":
        return BucketKeyError("this is not the bucket's key", bucket=bucket.path)
    if bucket and trouble.number in (errno.EACCES, errno.ENOKEY):
        return BucketLockedError("the bucket is locked", bucket=bucket.path)
    number = trouble.number
    what = os.strerror(number) if 0 < number < 1024 else trouble.kind or "unknown"
    return StoreUnavailableError(f"the store does not answer as it should: {what}", errno=number)


@contextmanager
def told(bucket: BucketId | None = None, tenant_id: str = "") -> Iterator[None]:
    """What is left of the system's errors becomes an error of the contract."""
    try:
        yield
    except Trouble as trouble:
        raise contract_error(trouble, bucket, tenant_id) from trouble
