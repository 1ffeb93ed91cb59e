"""Root slots: where the root key of the present epoch lies. Two alternate, so that the old key stays until the new holds.

`FileRootSlot` keeps them as files of mode 0600 in both copies of the keystore. On a solid-state disk or a copy-on-write
file system an overwritten block may live on; a TPM's NV index does not have that weakness, and implements the same
interface.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.storage.keystore.errors import KeystoreCorruptError, RootKeyMissingError
from appliance.storage.keystore.files import sync_directory, write_durably

ROOT_KEY_BYTES = 32
SLOTS = (0, 1)

Fault = Callable[[str], None]
"""Called with a step's name when it is done; a test's raises there, which stands for a crash."""


_SLOT = struct.Struct("<8sHHIQ32s8s")
_SLOT_MAGIC = b"\x89EWROOT\n"
_ACTIVE = struct.Struct("<8sHHQI")
_ACTIVE_MAGIC = b"\x89EWACT\r\n"
_VERSION = 1
SLOT_BYTES = _SLOT.size
ACTIVE_BYTES = _ACTIVE.size


def no_fault(step: str) -> None:
    """What is used outside tests."""


@dataclass(frozen=True, slots=True)
class RootKey:
    """The root key of one epoch."""

    epoch: int
    key: bytes = field(repr=False)

    def pack(self, slot: int) -> bytes:
        """The bytes of it in a slot."""
        body = _SLOT.pack(_SLOT_MAGIC, _VERSION, slot, 0, self.epoch, self.key, bytes(8))[:-8]
        return body + hashlib.sha256(body).digest()[:8]


@dataclass(frozen=True, slots=True)
class Active:
    """Which slot holds the present epoch's root key."""

    slot: int
    epoch: int

    def pack(self) -> bytes:
        """The bytes of the pointer."""
        body = _ACTIVE.pack(_ACTIVE_MAGIC, _VERSION, self.slot, self.epoch, 0)[:-4]
        return body + zlib.crc32(body).to_bytes(4, "little")


def parse_slot(raw: bytes, slot: int) -> RootKey | None:
    """What `RootKey.pack` gave; None where it is anything else."""
    if len(raw) != SLOT_BYTES:
        return None
    *_, epoch, key, _ = _SLOT.unpack(raw)
    found = RootKey(epoch, key)
    return found if found.pack(slot) == raw else None


def parse_active(raw: bytes) -> Active | None:
    """What `Active.pack` gave; None where it is anything else."""
    if len(raw) != ACTIVE_BYTES:
        return None
    _, _, slot, epoch, _ = _ACTIVE.unpack(raw)
    found = Active(slot, epoch)
    return found if slot in SLOTS and found.pack() == raw else None


class RootSlot(ABC):
    """Two places for root keys, and which of them counts.

    Every method is durable when it returns, and doing it twice is success. SLOT_ERRORS where the medium refuses.
    """

    in_copies: bool
    """Whether the root keys lie in the keystore's directories: a copy that is away then holds one too."""
    absent: str
    """What is said where there is a keystore and no root key."""

    def alone(self, directory: Path) -> RootSlot:
        """The slots as this one directory has them."""
        return self

    @abstractmethod
    def use(self, directories: Sequence[Path]) -> None:
        """Which of the keystore's directories count from now on."""

    @abstractmethod
    def active(self) -> Active | None:
        """Which slot counts; None where none was ever activated. KeystoreCorruptError where it cannot be told."""

    def active_for_sure(self) -> Active | None:
        """As `active`, but KeystoreCorruptError where any copy cannot be read: it may tell of a later one."""
        return self.active()

    @abstractmethod
    def write(self, slot: int, root: RootKey) -> None:
        """Puts a root key into a slot that is not the active one."""

    @abstractmethod
    def read(self, slot: int) -> RootKey:
        """The root key in a slot; RootKeyMissingError where there is none that can be read."""

    @abstractmethod
    def activate(self, active: Active) -> None:
        """From now on this slot counts: the point of no return of a new epoch."""

    @abstractmethod
    def mend(self, active: Active, root: RootKey) -> list[str]:
        """Brings copies of the active slot that are missing, damaged or behind up to it; what was done, as sentences."""

    @abstractmethod
    def destroy(self, slot: int) -> None:
        """Nobody can read what was in this slot any more; success where it was empty."""


class FileRootSlot(RootSlot):
    """Slots as files `root-0`, `root-1`, and `active`, in each of the directories given."""

    in_copies = True
    absent = "there is a keystore, and no root key that can be told to be its own"

    def __init__(self, directories: Sequence[Path], fault: Fault = no_fault) -> None:
        self._directories = tuple(directories)
        self._fault = fault

    def use(self, directories: Sequence[Path]) -> None:
        """See RootSlot."""
        self._directories = tuple(directories)

    def alone(self, directory: Path) -> FileRootSlot:
        """See RootSlot."""
        return FileRootSlot([directory])

    def active(self) -> Active | None:
        """See RootSlot. The highest epoch counts: a flip that reached one copy has happened."""
        read = [self._read_active(directory) for directory in self._directories]
        sound = [item for item in read if isinstance(item, Active)]
        if not sound:
            if any(item == "damaged" for item in read):
                raise KeystoreCorruptError("no copy tells which root slot counts", what="active")
            return None
        best = max(sound, key=lambda item: item.epoch)
        if any(item.epoch == best.epoch and item.slot != best.slot for item in sound):
            raise KeystoreCorruptError("the copies tell of different root slots", what="active")
        return best

    def active_for_sure(self) -> Active | None:
        """See RootSlot."""
        if any(self._read_active(directory) == "damaged" for directory in self._directories):
            raise KeystoreCorruptError(
                "a copy cannot be read that may tell which root slot counts", what="active"
            )
        return self.active()

    def _read_active(self, directory: Path) -> Active | str:
        try:
            raw = (directory / "active").read_bytes()
        except FileNotFoundError:
            return "missing"
        except OSError:
            return "damaged"
        return parse_active(raw) or "damaged"

    def write(self, slot: int, root: RootKey) -> None:
        """See RootSlot. In place, without a temporary file: no copy of a root key is left lying about."""
        for directory in self._directories:
            self._write_slot(directory, slot, root)
            self._fault(f"slot written in {directory.name}")

    @staticmethod
    def _write_slot(directory: Path, slot: int, root: RootKey) -> None:
        fd = os.open(
            directory / f"root-{slot}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            os.fchmod(fd, 0o600)
            os.pwrite(fd, root.pack(slot), 0)
            os.ftruncate(fd, SLOT_BYTES)
            os.fsync(fd)
        finally:
            os.close(fd)
        sync_directory(directory)

    def read(self, slot: int) -> RootKey:
        """See RootSlot."""
        read = [self._read_slot(directory, slot) for directory in self._directories]
        sound = [item for item in read if isinstance(item, RootKey)]
        if not sound:
            raise RootKeyMissingError("no copy of the root slot can be read", slot=slot)
        best = max(sound, key=lambda item: item.epoch)
        if any(item.epoch == best.epoch and item.key != best.key for item in sound):
            raise KeystoreCorruptError(
                "the copies hold different root keys for one epoch", what=f"root-{slot}"
            )
        return best

    def _read_slot(self, directory: Path, slot: int) -> RootKey | str:
        try:
            raw = (directory / f"root-{slot}").read_bytes()
        except FileNotFoundError:
            return "missing"
        except OSError:
            return "damaged"
        return parse_slot(raw, slot) or "damaged"

    def activate(self, active: Active) -> None:
        """See RootSlot."""
        for directory in self._directories:
            write_durably(directory / "active", active.pack())
            self._fault(f"flipped in {directory.name}")

    def mend(self, active: Active, root: RootKey) -> list[str]:
        """See RootSlot."""
        done = []
        for directory in self._directories:
            for name, have, wanted in (
                (f"root-{active.slot}", self._read_slot(directory, active.slot), root),
                ("active", self._read_active(directory), active),
            ):
                if have == wanted:
                    continue
                what = f"{directory.name}/{name}: {have if isinstance(have, str) else 'behind'}"
                try:
                    if isinstance(wanted, RootKey):
                        # What was there may be the key of an older epoch.
                        self._destroy_slot(directory, active.slot)
                        self._write_slot(directory, active.slot, root)
                    else:
                        write_durably(directory / "active", active.pack())
                    done.append(f"{what}, repaired")
                except OSError as error:
                    done.append(f"{what}, not repaired: {error.strerror}")
        return done

    def destroy(self, slot: int) -> None:
        """See RootSlot: overwritten, synced, unlinked, the directory synced. One that refuses keeps no other one."""
        errors = []
        for directory in self._directories:
            try:
                self._destroy_slot(directory, slot)
            except OSError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _destroy_slot(self, directory: Path, slot: int) -> None:
        path = directory / f"root-{slot}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        try:
            length = max(os.fstat(fd).st_size, SLOT_BYTES)
            os.pwrite(fd, secrets.token_bytes(length), 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        self._fault(f"slot overwritten in {directory.name}")
        path.unlink(missing_ok=True)
        sync_directory(directory)
        self._fault(f"slot removed in {directory.name}")
