"""The keystore: what is in it can be read; what is absent is erased. docs/keystore.md explains files and steps.

One writer at a time, behind a lock of its own; readers never wait for it, not even for a shred.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from appliance.model import id_bytes, id_text
from appliance.storage.keystore import hpke
from appliance.storage.keystore.attended import AttendedKeys
from appliance.storage.keystore.buckets import BucketKey, BucketName, pack_bucket_name
from appliance.storage.keystore.contents import DEVICE_KEY_BYTES, Contents, DepositKey
from appliance.storage.keystore.deposit import Deposit
from appliance.storage.keystore.epochs import Epochs
from appliance.storage.keystore.errors import (
    KeyAbsentError,
    KeyPinnedError,
    KeystoreDegradedError,
    KeystoreLostError,
    KeystoreRolledBackError,
    KeystoreWriteError,
)
from appliance.storage.keystore.intake import Added, Sorting
from appliance.storage.keystore.locks import lock, unlock
from appliance.storage.keystore.manyids import raw_ids
from appliance.storage.keystore.reach import Reach
from appliance.storage.keystore.records import (
    pack_bucket_key,
    pack_deposit_key,
    pack_pins,
    pack_tenant,
)
from appliance.storage.keystore.rootslot import Fault, FileRootSlot, RootSlot, no_fault
from appliance.storage.keystore.tenantkeys import TenantKey
from appliance.storage.keystore.wrap import KEY_BYTES

_NAMED = 20  # recordings that an error names


@dataclass(frozen=True, slots=True)
class Shredded:
    """`epoch`: the first in which these keys are absent, or for those that were absent before, the present one."""

    epoch: int
    destroyed: tuple[str, ...]
    absent: tuple[str, ...]
    buckets: tuple[BucketName, ...] = ()
    absent_buckets: tuple[BucketName, ...] = ()


class Keystore(AttendedKeys):
    """See the module. Every change is durable when its method returns. Safe to use from any thread."""

    @classmethod
    def open(
        cls,
        directories: Sequence[Path],
        *,
        create: bool = True,
        slots: RootSlot | None = None,
        floor_epoch: int = 0,
        floor_records: int = 0,
        fault: Fault = no_fault,
        clock: Callable[[], int] = time.time_ns,
    ) -> Self:
        """Opens the keystore in these directories, repairing what one copy has and the other not.

        Makes one where there is none and `create`. Raises KeystoreBusyError, KeystoreCorruptError (naming what is
        damaged in both copies), RootKeyMissingError, KeystoreLostError (none there, and not to be made),
        KeystoreDegradedError (no directory can be used), KeystoreForeignError (a directory holds another keystore),
        KeystoreRolledBackError (every copy is below `floor_epoch`, or of that epoch and the journal has fewer than
        `floor_records`), KeystoreTooNewError. `clock`: nanoseconds since the Unix epoch.
        """
        slots = slots or FileRootSlot(directories, fault)
        epochs = Epochs(directories, slots, fault)
        locks = lock(directories)
        try:
            if not epochs.exists():
                if not create:
                    raise KeystoreLostError("there is no keystore where one was")
                if floor_epoch > 0:
                    raise KeystoreRolledBackError("there is no keystore any more", epoch=0, floor=floor_epoch)
                contents = Contents(
                    secrets.token_bytes(DEVICE_KEY_BYTES),
                    deposit_keys=[DepositKey(clock(), hpke.new_private_key())],
                )
                journal = epochs.create(contents)
                epochs.finish()
            else:
                contents, journal = epochs.load(Reach(floor_epoch, floor_records))
            store = cls(epochs, contents, journal, locks, clock, fault, slots.in_copies)
            store._settle()
            return store
        except BaseException:
            unlock(locks)
            raise

    def _settle(self) -> None:
        """What an opening writes beside repairs. Where it cannot, that is told, and done before the next shred."""
        try:
            self._upgrade()
            self._note_copies()
        except (KeystoreWriteError, KeystoreDegradedError) as error:
            self._epochs.findings.append(f"not brought up to date yet: {error.message}")
        self._note_reach()
        self.findings += self._epochs.findings

    # What comes to it.

    def create_tenant(self, tenant_id: str) -> bytes:
        """Makes the tenant's key pair if there is none; the public half."""
        with self._writing():
            raw, contents = id_bytes(tenant_id), self._open.contents
            if raw not in contents.tenants:
                self._append(pack_tenant(TenantKey.auto(raw, self._clock(), hpke.new_private_key())))
            return self.tenant_public_key(tenant_id)

    def create_bucket_key(self, tenant_id: str, line: str, slice: str) -> bytes:
        """Makes the bucket's key if there is none; the key, 32 bytes. One that was shredded does not come back:

        made again, it is another key. `line`: an id or `hold`; `slice`: at most 26 letters, digits, -. KeystoreWriteError.
        """
        with self._writing():
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
        with self._writing():
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
        with self._writing():
            contents = self._open.contents
            raw = raw_ids(list(dict.fromkeys(recording_ids)))
            held = set(contents.which(raw))
            for name in raw:
                if name not in held:
                    raise KeyAbsentError(
                        "the keystore has no key of this recording", recording_id=id_text(name)
                    )
            self._pin([name for name in raw if name not in contents.pinned], True)

    def unpin(self, recording_ids: Collection[str]) -> None:
        """Allows again to destroy these keys; success where one is not pinned, or has no key. KeystoreWriteError."""
        with self._writing():
            pinned = self._open.contents.pinned
            raw = raw_ids(list(dict.fromkeys(recording_ids)))
            self._pin([name for name in raw if name in pinned], False)

    def _pin(self, raw: list[bytes], pinned: bool) -> None:
        if raw:
            self._upgrade()
            self._append(pack_pins(raw, pinned))

    def rotate_deposit_key(self) -> bytes:
        """A new deposit key beside the ones held; its public half, to be published. `shred` drops the older ones.

        It is for a shred, so it raises what a shred would raise for the state of the copies, and adds nothing then:
        KeystoreDegradedError, KeystoreCopyMissingError; else KeystoreWriteError.
        """
        with self._writing():
            self._look_again()
            self._refuse_degraded()
            self._refuse_missing(self._missing())
            self._append(pack_deposit_key(DepositKey(self._clock(), hpke.new_private_key())))
            return self.deposit_public_key

    # What goes.

    def shred(self, recording_ids: Collection[str], *, buckets: Collection[BucketName] = ()) -> Shredded:
        """Destroys data keys and bucket keys, all in one turn: nobody can read these recordings any more, in any copy.

        See docs/keystore.md for the steps. All deposit keys but the present one go too, so `rotate_deposit_key`, publish
        and take in what waits before. Raises KeyPinnedError or KeystoreWriteError (nothing is destroyed),
        KeystoreDegradedError (a copy cannot be written: either nothing is destroyed, or the old root key not yet
        everywhere; ask again), KeystoreCopyMissingError (a copy that is away may hold what is to go: nothing is
        destroyed, or where it went during the shred, not everywhere).
        """
        with self._writing():
            self._look_again()
            contents = self._open.contents
            names = list(dict.fromkeys(recording_ids))
            raw = dict(zip(names, raw_ids(names), strict=True))
            packed = {name: pack_bucket_name(name) for name in dict.fromkeys(buckets)}
            held = set(contents.which(list(raw.values())))
            here = {name: value for name, value in raw.items() if value in held}
            self._refuse_pinned(here)
            open_buckets = {name: value for name, value in packed.items() if value in contents.buckets}
            if here or open_buckets:
                self._refuse_degraded()
                self._refuse_missing(self._missing())
                merged = contents.merged(here.values(), contents.deposit_keys[-1:], open_buckets.values())
                self._destroy_old(merged)
            self._finish()
            self._refuse_missed()
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
