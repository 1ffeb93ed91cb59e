"""The keystore: what is in it can be read; what is absent is erased. docs/keystore.md explains files and steps.

One writer at a time, behind a lock of its own; readers never wait for it, not even for a shred.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from appliance.model import id_bytes, id_text
from appliance.storage.keystore import hpke, keyjournal
from appliance.storage.keystore.buckets import BucketKey, BucketName, pack_bucket_name
from appliance.storage.keystore.contents import Contents, DepositKey, TenantKey
from appliance.storage.keystore.deposit import Deposit
from appliance.storage.keystore.epochs import Epochs
from appliance.storage.keystore.errors import (
    KeyAbsentError,
    KeyPinnedError,
    KeystoreCorruptError,
    KeystoreDegradedError,
    KeystoreLostError,
    KeystoreWriteError,
)
from appliance.storage.keystore.intake import Added, Sorting
from appliance.storage.keystore.keyjournal import KeyJournal
from appliance.storage.keystore.locks import lock, unlock
from appliance.storage.keystore.opened import Opened
from appliance.storage.keystore.reading import KeystoreReader
from appliance.storage.keystore.records import (
    apply_record,
    pack_bucket_key,
    pack_deposit_key,
    pack_pins,
    pack_tenant,
)
from appliance.storage.keystore.rootslot import Fault, FileRootSlot, RootSlot, no_fault
from appliance.storage.keystore.wrap import KEY_BYTES

JOURNAL_LIMIT = 16 << 20  # bytes; beyond it the journal is merged into a new epoch
_NAMED = 20  # recordings that an error names


@dataclass(frozen=True, slots=True)
class Shredded:
    """`epoch`: the first in which these keys are absent, or for those that were absent before, the present one."""

    epoch: int
    destroyed: tuple[str, ...]
    absent: tuple[str, ...]
    buckets: tuple[BucketName, ...] = ()
    absent_buckets: tuple[BucketName, ...] = ()


class Keystore(KeystoreReader):
    """See the module. Every change is durable when its method returns. Safe to use from any thread."""

    def __init__(
        self,
        epochs: Epochs,
        contents: Contents,
        journal: KeyJournal,
        locks: list[int],
        clock: Callable[[], int],
    ) -> None:
        self._epochs = epochs
        super().__init__(contents)
        self._journal = journal
        self._locks = locks
        self._clock = clock
        self._write = threading.RLock()
        self.findings: list[str] = list(epochs.findings)
        """What was damaged and repaired at the opening, or could not be repaired, as sentences."""

    @classmethod
    def open(
        cls,
        directories: Sequence[Path],
        *,
        create: bool = True,
        slots: RootSlot | None = None,
        fault: Fault = no_fault,
        clock: Callable[[], int] = time.time_ns,
    ) -> Self:
        """Opens the keystore in these directories, repairing what one copy has and the other not.

        Makes one where there is none and `create`. Raises KeystoreBusyError, KeystoreCorruptError (naming what is
        damaged in both copies), RootKeyMissingError, KeystoreLostError (none there, and not to be made),
        KeystoreDegradedError (no directory can be used). `clock`: nanoseconds since the Unix epoch.
        """
        epochs = Epochs(directories, slots or FileRootSlot(directories, fault), fault)
        locks = lock(directories)
        try:
            if not epochs.exists():
                if not create:
                    raise KeystoreLostError("there is no keystore where one was")
                contents = Contents(
                    secrets.token_bytes(32), deposit_keys=[DepositKey(clock(), hpke.new_private_key())]
                )
                journal = epochs.create(contents)
                epochs.finish()
            else:
                contents, journal = epochs.load()
                for record in journal.records:
                    apply_record(record, contents)
                journal.records.clear()
        except BaseException:
            unlock(locks)
            raise
        return cls(epochs, contents, journal, locks, clock)

    def close(self) -> None:
        """Lets another process open it."""
        with self._write:
            unlock(self._locks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What is in it.

    @property
    def epoch(self) -> int:
        """The present epoch."""
        return self._epochs.epoch

    @property
    def degraded(self) -> list[str]:
        """Copies that do not take records at present, with the cause, and unfinished destruction."""
        found = [f"{name}: {why}" for name, why in dict(self._journal.degraded).items()]
        return found + (["what is old is not destroyed yet"] if self._epochs.unfinished else [])

    # What comes to it.

    def create_tenant(self, tenant_id: str) -> bytes:
        """Makes the tenant's key pair if there is none; the public half."""
        with self._write:
            raw, contents = id_bytes(tenant_id), self._open.contents
            if raw not in contents.tenants:
                self._append(pack_tenant(TenantKey(raw, self._clock(), hpke.new_private_key())))
            return self.tenant_public_key(tenant_id)

    def create_bucket_key(self, tenant_id: str, line: str, slice: str) -> bytes:
        """Makes the bucket's key if there is none; the key, 32 bytes. One that was shredded does not come back:

        made again, it is another key. `line`: an id or `hold`; `slice`: at most 26 letters, digits, -. KeystoreWriteError.
        """
        with self._write:
            name = pack_bucket_name((tenant_id, line, slice))
            if name not in self._open.contents.buckets:
                self._upgrade()
                self._append(pack_bucket_key(BucketKey(name, self._clock(), secrets.token_bytes(KEY_BYTES))))
            return self.bucket_key(tenant_id, line, slice)

    def add(
        self, deposits: Iterable[Deposit], refuse: Callable[[str], bool] = lambda recording_id: False
    ) -> Added:
        """Takes keys in, one sync for all. `refuse` says which recordings must get no key any more: the erased ones.

        KeystoreWriteError where it cannot be written; what was taken in before that is known when it is tried again.
        """
        with self._write:
            sorting = Sorting(self._open.contents, refuse)
            for deposit in deposits:
                for record in sorting.take(deposit, self._clock() // 1_000_000_000):
                    self._append(record)
            for record in sorting.rest(self._clock() // 1_000_000_000):
                self._append(record)
            return sorting.added()

    def pin(self, recording_ids: Collection[str]) -> None:
        """Forbids to destroy these keys until `unpin`, all of them or none; pinning twice is success.

        Raises KeyAbsentError naming one that has no key, KeystoreWriteError.
        """
        with self._write:
            contents = self._open.contents
            raw = [id_bytes(name) for name in dict.fromkeys(recording_ids)]
            held = set(contents.which(raw))
            for name in raw:
                if name not in held:
                    raise KeyAbsentError(
                        "the keystore has no key of this recording", recording_id=id_text(name)
                    )
            self._pin([name for name in raw if name not in contents.pinned], True)

    def unpin(self, recording_ids: Collection[str]) -> None:
        """Allows again to destroy these keys; success where one is not pinned, or has no key. KeystoreWriteError."""
        with self._write:
            pinned = self._open.contents.pinned
            raw = (id_bytes(name) for name in dict.fromkeys(recording_ids))
            self._pin([name for name in raw if name in pinned], False)

    def _pin(self, raw: list[bytes], pinned: bool) -> None:
        if raw:
            self._upgrade()
            self._append(pack_pins(raw, pinned))

    def rotate_deposit_key(self) -> bytes:
        """A new deposit key beside the ones held; its public half, to be published. `shred` drops the older ones."""
        with self._write:
            self._append(pack_deposit_key(DepositKey(self._clock(), hpke.new_private_key())))
            return self.deposit_public_key

    def _append(self, record: bytes) -> None:
        try:
            self._journal.append(record)
        except OSError as error:
            raise KeystoreWriteError(f"the key journal cannot be written: {error.strerror}") from error
        apply_record(record, self._open.contents)

    # What goes.

    def shred(self, recording_ids: Collection[str], *, buckets: Collection[BucketName] = ()) -> Shredded:
        """Destroys data keys and bucket keys, all in one turn: nobody can read these recordings any more, in any copy.

        See docs/keystore.md for the steps. All deposit keys but the present one go too, so `rotate_deposit_key`, publish
        and take in what waits before. Raises KeyPinnedError or KeystoreWriteError (nothing is destroyed),
        KeystoreDegradedError (a copy cannot be written: either nothing is destroyed, or the old root key not yet
        everywhere; ask again).
        """
        with self._write:
            contents = self._open.contents
            raw = {name: id_bytes(name) for name in dict.fromkeys(recording_ids)}
            packed = {name: pack_bucket_name(name) for name in dict.fromkeys(buckets)}
            held = set(contents.which(list(raw.values())))
            here = {name: value for name, value in raw.items() if value in held}
            self._refuse_pinned(here)
            open_buckets = {name: value for name, value in packed.items() if value in contents.buckets}
            if here or open_buckets:
                self._refuse_degraded()
                self._turn(contents.merged(here.values(), contents.deposit_keys[-1:], open_buckets.values()))
            self._finish()
            return Shredded(
                self.epoch,
                tuple(here),
                tuple(name for name in raw if name not in here),
                tuple(open_buckets),
                tuple(name for name in packed if name not in open_buckets),
            )

    def _refuse_pinned(self, names: dict[str, bytes]) -> None:
        pinned = [name for name, value in names.items() if value in self._open.contents.pinned]
        if pinned:
            raise KeyPinnedError(
                "a legal hold forbids to destroy some of these keys; none is destroyed",
                recording_ids=pinned[:_NAMED],
                count=len(pinned),
            )

    def compact(self) -> bool:
        """Merges the journal into a new epoch where it has grown large; whether it did."""
        with self._write:
            if self._journal.size < JOURNAL_LIMIT or self._journal.degraded:
                return False
            self._turn(self._open.contents.merged((), self._open.contents.deposit_keys))
            self._finish()
            return True

    def _upgrade(self) -> None:
        """Brings an epoch of an older format to the present one, so that its journal may take what is new."""
        if self._journal.version != keyjournal.VERSION:
            self._turn(self._open.contents.merged((), self._open.contents.deposit_keys))
            self._finish()

    def _turn(self, contents: Contents) -> None:
        if self._epochs.unfinished:
            self._finish()
        self._journal = self._epochs.turn(contents)
        self._open = Opened(contents)

    def _finish(self) -> None:
        if not self._epochs.unfinished:
            return
        try:
            self._epochs.finish()
        except OSError as error:
            raise KeystoreDegradedError(
                f"the old root key is not destroyed everywhere yet: {error.strerror}", copies=[]
            ) from error

    def _refuse_degraded(self) -> None:
        if self._journal.degraded:
            self._reopen_journal()
        if self._journal.degraded:
            raise KeystoreDegradedError(
                "a copy of the keystore cannot be written", copies=sorted(self._journal.degraded)
            )

    def scrub(self) -> list[str]:
        """Reads both copies again and repairs; what was found, as sentences."""
        with self._write:
            self._epochs.findings.clear()
            self._epochs.scrub()
            self._reopen_journal()
            return list(self._epochs.findings)

    def _reopen_journal(self) -> None:
        before = self._journal.size
        journal = self._epochs.reopen_journal()
        journal.records.clear()
        if journal.size != before:
            raise KeystoreCorruptError(
                "the key journal ends elsewhere than written", what="key journal", offset=journal.size
            )
        self._journal = journal
