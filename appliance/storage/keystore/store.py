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

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.model import id_bytes, id_text
from appliance.storage.keystore import hpke, keyjournal
from appliance.storage.keystore.buckets import BucketKey, BucketName, pack_bucket_name, unpack_bucket_name
from appliance.storage.keystore.contents import Contents, DepositKey, TenantKey
from appliance.storage.keystore.deposit import Deposit, IntermediateRecord, KeyRecord, open_deposit
from appliance.storage.keystore.epochs import Epochs
from appliance.storage.keystore.errors import (
    BucketKeyAbsentError,
    KeyAbsentError,
    KeystoreCorruptError,
    KeystoreDegradedError,
    KeystoreLostError,
    KeystoreWriteError,
    TenantKeyMissingError,
)
from appliance.storage.keystore.keyjournal import KeyJournal
from appliance.storage.keystore.locks import lock, unlock
from appliance.storage.keystore.opened import Opened
from appliance.storage.keystore.records import (
    apply_record,
    pack_bucket_key,
    pack_deposit_key,
    pack_keys,
    pack_tenant,
)
from appliance.storage.keystore.rootslot import Fault, FileRootSlot, RootSlot, no_fault
from appliance.storage.keystore.wrap import KEY_BYTES, unwrap_data_key

JOURNAL_LIMIT = 16 << 20  # bytes; beyond it the journal is merged into a new epoch
MAX_IN_RECORD = 4096  # data keys in one journal record


@dataclass(frozen=True, slots=True)
class Added:
    """What became of the keys in deposits, as written ids. `known` were there before; `refused` are not taken in."""

    accepted: tuple[str, ...]
    known: tuple[str, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shredded:
    """`epoch`: the first in which these keys are absent, or for those that were absent before, the present one."""

    epoch: int
    destroyed: tuple[str, ...]
    absent: tuple[str, ...]
    buckets: tuple[BucketName, ...] = ()
    absent_buckets: tuple[BucketName, ...] = ()


class Keystore:
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
        self._open = Opened(contents)
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

    def __len__(self) -> int:
        """Data keys held."""
        return len(self._open.contents)

    def __contains__(self, recording_id: str) -> bool:
        return id_bytes(recording_id) in self._open.contents

    def recordings(self) -> Iterable[str]:
        """Ids of all recordings whose key is held."""
        return (id_text(raw) for raw in self._open.contents.recordings())

    @property
    def device_key(self) -> Ed25519PrivateKey:
        """Signs footers and certificates."""
        return Ed25519PrivateKey.from_private_bytes(self._open.contents.device_key)

    @property
    def device_public_key(self) -> bytes:
        """Raw Ed25519 public key, 32 bytes."""
        return self.device_key.public_key().public_bytes_raw()

    @property
    def deposit_public_key(self) -> bytes:
        """What capture seals deposits to at present."""
        return hpke.public_key(self._open.contents.deposit_keys[-1].private)

    @property
    def deposit_key_ids(self) -> list[bytes]:
        """Ids of the deposit keys held, the present one last."""
        keys = list(self._open.contents.deposit_keys)
        return [hpke.key_id(hpke.public_key(item.private)) for item in keys]

    def tenant_public_key(self, tenant_id: str) -> bytes:
        """TenantKeyMissingError where the tenant has none."""
        tenant = self._open.contents.tenants.get(id_bytes(tenant_id))
        if tenant is None:
            raise TenantKeyMissingError("this tenant has no key pair", tenant_id=tenant_id)
        return hpke.public_key(tenant.private)

    def tenant_of(self, recording_id: str) -> str:
        """Whose recording it is by its key; KeyAbsentError where there is none."""
        return id_text(self._above(self._open.contents, id_bytes(recording_id))[1].tenant)

    def data_key(self, recording_id: str) -> bytes:
        """The data key, 32 bytes.

        Raises KeyAbsentError, TenantKeyMissingError, or KeyRefusedError where it is sealed to another key of the tenant.
        """
        held, recording = self._open, id_bytes(recording_id)
        record, above = self._above(held.contents, recording)
        tenant = held.contents.tenants.get(above.tenant)
        if tenant is None:
            raise TenantKeyMissingError("this tenant has no key pair", tenant_id=id_text(above.tenant))
        key = held.intermediate_key(above, tenant)
        return unwrap_data_key(key, record.counter, above.tenant, above.id, recording, record.wrapped)

    @staticmethod
    def _above(contents: Contents, recording: bytes) -> tuple[KeyRecord, IntermediateRecord]:
        record = contents.find(recording)
        above = contents.intermediate(record.intermediate) if record is not None else None
        if record is None or above is None:
            raise KeyAbsentError("the keystore has no key of this recording", recording_id=id_text(recording))
        return record, above

    def bucket_key(self, tenant_id: str, line: str, slice: str) -> bytes:
        """The key of a bucket, 32 bytes; BucketKeyAbsentError where there is none (any more)."""
        found = self._open.contents.buckets.get(pack_bucket_name((tenant_id, line, slice)))
        if found is None:
            raise BucketKeyAbsentError(
                "the keystore has no key of this bucket", bucket=[tenant_id, line, slice]
            )
        return found.key

    def bucket_keys(self) -> list[BucketName]:
        """Names of the buckets whose key is held, in order."""
        return sorted(unpack_bucket_name(raw) for raw in list(self._open.contents.buckets))

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

    def open_deposit(self, raw: bytes) -> Deposit:
        """As deposit.open_deposit, with the deposit keys held."""
        keys = list(self._open.contents.deposit_keys)
        return open_deposit(raw, {hpke.key_id(hpke.public_key(item.private)): item.private for item in keys})

    def add(
        self, deposits: Iterable[Deposit], refuse: Callable[[str], bool] = lambda recording_id: False
    ) -> Added:
        """Takes keys in, one sync for all. `refuse` says which recordings must get no key any more: the erased ones.

        KeystoreWriteError where it cannot be written; what was taken in before that is known when it is tried again.
        """
        with self._write:
            contents = self._open.contents
            accepted: dict[str, None] = {}
            known: list[str] = []
            refused: list[str] = []
            above: dict[bytes, IntermediateRecord] = {}
            records: list[KeyRecord] = []

            def flush() -> None:
                fresh = [item for item in above.values() if contents.intermediate(item.id) is None]
                if records:
                    self._append(pack_keys(fresh, records, self._clock() // 1_000_000_000))
                above.clear()
                records.clear()

            for deposit in deposits:
                sealed = {item.id: item for item in deposit.intermediates}
                for record in deposit.records:
                    name, item = id_text(record.recording), sealed[record.intermediate]
                    if refuse(name):
                        refused.append(name)
                    elif name in accepted or record.recording in contents:
                        known.append(name)
                    elif (above.get(item.id) or contents.intermediate(item.id) or item) != item:
                        refused.append(
                            name
                        )  # another intermediate key has this id: no honest capture does that
                    else:
                        above[item.id] = item
                        records.append(record)
                        accepted[name] = None
                    if len(records) >= MAX_IN_RECORD:
                        flush()
            flush()
            return Added(tuple(accepted), tuple(known), tuple(refused))

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
        and take in what waits before. Raises KeystoreWriteError (nothing is destroyed), KeystoreDegradedError (a copy
        cannot be written: either nothing is destroyed, or the old root key not yet everywhere; ask again).
        """
        with self._write:
            contents = self._open.contents
            raw = {name: id_bytes(name) for name in dict.fromkeys(recording_ids)}
            packed = {name: pack_bucket_name(name) for name in dict.fromkeys(buckets)}
            here = {name: value for name, value in raw.items() if value in contents}
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
