"""Who the copies of a keystore are: each directory bears an id, and the keystore lists the ids it knows.

A listed copy that no directory bears is *missing*: a disk that is not mounted, or was replaced. It may still hold a root
key, so nothing can be erased until it is back and brought up to date, or is declared destroyed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.storage.keystore.errors import KeystoreForeignError
from appliance.storage.keystore.files import write_durably
from appliance.storage.keystore.rootslot import Fault
from appliance.storage.keystore.wrap import ID_BYTES

FILE = "copy"
_IDENTITY = struct.Struct("<8sHHI16s16s8s")  # magic, version, zero, zero, keystore id, copy id, checksum
_MAGIC = b"\x89EWCOPY\n"
_VERSION = 1
_CONTEXT = b"earwitness keystore id v1\x00"
_NAME_BYTES = 36
COPY = struct.Struct(f"<{ID_BYTES}sQI{_NAME_BYTES}s")
_MOUNTED = 1


def keystore_id(device_key: bytes) -> bytes:
    """16 bytes that name a keystore: its device key is made with it and never changes."""
    public = Ed25519PrivateKey.from_private_bytes(device_key).public_key().public_bytes_raw()
    return hashlib.sha256(_CONTEXT + public).digest()[:ID_BYTES]


@dataclass(frozen=True, slots=True)
class Identity:
    """What the file `copy` in a directory says. Raw ids."""

    keystore: bytes
    copy: bytes

    def pack(self) -> bytes:
        body = _IDENTITY.pack(_MAGIC, _VERSION, 0, 0, self.keystore, self.copy, bytes(8))[:-8]
        return body + hashlib.sha256(body).digest()[:8]


def read_identity(directory: Path) -> Identity | str:
    """Whose copy lies here; `missing` or `damaged` where that cannot be told, `away` where nothing can be read."""
    try:
        raw = (directory / FILE).read_bytes()
    except FileNotFoundError:
        return "missing" if directory.is_dir() else "away"
    except NotADirectoryError:
        return "away"
    except OSError:
        return "damaged"
    if len(raw) != _IDENTITY.size:
        return "damaged"
    *_, keystore, copy, _ = _IDENTITY.unpack(raw)
    found = Identity(keystore, copy)
    return found if found.pack() == raw else "damaged"


def place_name(directory: Path) -> str:
    """How a directory is told of in the list: its name, or the head of it."""
    return directory.name.encode()[:_NAME_BYTES].decode(errors="ignore")


def is_mount(directory: Path) -> bool:
    """Whether a file system of its own is mounted here."""
    return os.path.ismount(directory)


@dataclass(frozen=True, slots=True)
class CopyRecord:
    """A copy that the keystore lists. `epoch`: the last one whose turn it is known to have completed.

    `mounted`: its directory is where a file system of its own is mounted.
    """

    id: bytes
    epoch: int
    directory: str
    mounted: bool

    def pack(self) -> bytes:
        return COPY.pack(self.id, self.epoch, _MOUNTED if self.mounted else 0, self.directory.encode())

    @classmethod
    def unpack(cls, raw: bytes | memoryview, offset: int = 0) -> CopyRecord:
        name, epoch, flags, directory = COPY.unpack_from(raw, offset)
        return cls(name, epoch, directory.rstrip(b"\0").decode(errors="replace"), bool(flags & _MOUNTED))


@dataclass(frozen=True, slots=True)
class CopyState:
    """A copy as an operator sees it. `last_epoch`: the last one whose turn it is known to have completed.

    `present`: a directory bears its id, and what it holds is up to date.
    """

    id: str
    directory: str
    present: bool
    last_epoch: int


class Copies:
    """The directories and the ids they bear. Not for several threads at once."""

    def __init__(self, directories: Sequence[Path], fault: Fault) -> None:
        self._directories = tuple(directories)
        self._fault = fault
        self._keystore: bytes | None = None
        self._made: set[bytes] = set()
        self.borne: dict[Path, bytes] = {}
        """Which copy lies in which directory, as it was when last looked after."""

    def survey(self, peek: Callable[[Path], bytes | None]) -> None:
        """Learns whose the directories are; changes nothing. `peek` tells the keystore id of one by what it holds.

        KeystoreForeignError where they are not all of one keystore, or of another one than before.
        """
        owners: dict[str, bytes] = {}
        for directory in self._directories:
            found = read_identity(directory)
            owner = found.keystore if isinstance(found, Identity) else peek(directory)
            if owner is not None:
                owners[directory.name] = owner
        ids = set(owners.values()) | ({self._keystore} if self._keystore else set())
        if len(ids) > 1:
            self._refuse(name for name, owner in owners.items() if owner != self._keystore)
        self._keystore = next(iter(ids), None)

    def check(self, owner: bytes) -> None:
        """KeystoreForeignError where the directories are named as those of another keystore than their content is of."""
        if self._keystore not in (None, owner):
            self._refuse(directory.name for directory in self._directories)
        self._keystore = owner

    @staticmethod
    def _refuse(names: Iterable[str]) -> None:
        raise KeystoreForeignError(
            "the directories hold different keystores; nothing is changed", directories=sorted(names)
        )

    def place(
        self, empty: Iterable[Path], listed: Mapping[bytes, CopyRecord]
    ) -> tuple[list[Path], list[str]]:
        """Directories that hold nothing become new copies, named before anything is put there: so a disk that came in
        another's place is never taken for it, wherever a crash comes.

        But where a disk should be mounted and is not, nothing is put beneath it: those are returned, and what was done.
        """
        away, done = [], []
        for directory in empty:
            here = [item for item in listed.values() if item.directory == place_name(directory)]
            if any(item.mounted for item in here) and not is_mount(directory):
                away.append(directory)
                done.append(f"{directory.name}: its disk is not mounted")
            else:
                done += self._name(
                    directory, secrets.token_bytes(ID_BYTES), "holds no keystore, a new copy is made"
                )
        return away, done

    def settle(
        self, used: Sequence[Path], current: Collection[Path], listed: Mapping[bytes, CopyRecord]
    ) -> list[str]:
        """Every directory that is used bears an id of its own after this; what was done, as sentences.

        `current`: those that held the present epoch before anything was repaired.
        """
        done: list[str] = []
        found = {directory: read_identity(directory) for directory in used}
        borne: dict[Path, bytes] = {}
        # Where two bear the same id (one was cloned), the one in the place that is listed keeps it.
        for directory in sorted(found, key=lambda item: not self._at_home(item, found[item], listed)):
            item = found[directory]
            if isinstance(item, Identity) and item.copy not in borne.values():
                borne[directory] = item.copy
                if listed and item.copy not in listed and item.copy not in self._made:
                    done.append(f"{directory.name}/{FILE}: a copy that was not listed, taken in")
        for directory, item in found.items():
            if directory in borne or item == "away":
                continue
            name, what = secrets.token_bytes(ID_BYTES), f"{item}, a new copy is made"
            if isinstance(item, Identity):
                what = "the same id as another directory's, a new one is given"
            elif directory in current:
                at_home = [known.id for known in listed.values() if known.directory == place_name(directory)]
                name = next((known for known in at_home if known not in borne.values()), name)
                what = f"{item}, repaired"
            trouble = self._name(directory, name, what)
            if listed:  # else it is of a format without ids, and gets them without fuss
                done += trouble
            if isinstance(read_identity(directory), Identity):
                borne[directory] = name
        self.borne = borne
        return done

    @staticmethod
    def _at_home(directory: Path, found: Identity | str, listed: Mapping[bytes, CopyRecord]) -> bool:
        known = listed.get(found.copy) if isinstance(found, Identity) else None
        return known is not None and known.directory == place_name(directory)

    def _name(self, directory: Path, name: bytes, what: str) -> list[str]:
        if self._keystore is None:
            raise AssertionError("not surveyed")
        self._made.add(name)
        try:
            write_durably(directory / FILE, Identity(self._keystore, name).pack())
        except OSError as error:
            return [f"{directory.name}/{FILE}: {what}, not done: {error.strerror}"]
        self._fault(f"copy named in {directory.name}")
        return [f"{directory.name}/{FILE}: {what}"]

    def create(self, owner: bytes) -> list[CopyRecord]:
        """The copies of a new keystore, of its first epoch. OSError."""
        self._keystore = owner
        for directory in self._directories:
            self.borne[directory] = secrets.token_bytes(ID_BYTES)
            write_durably(directory / FILE, Identity(owner, self.borne[directory]).pack())
            self._fault(f"copy named in {directory.name}")
        return self.records(1)

    def unchanged(self) -> bool:
        """Whether every directory bears what it bore when last looked after."""
        for directory in self._directories:
            found = read_identity(directory)
            if (found.copy if isinstance(found, Identity) else None) != self.borne.get(directory):
                return False
        return True

    def records(self, epoch: int) -> list[CopyRecord]:
        """The copies that are here, as having completed this epoch."""
        return [
            CopyRecord(name, epoch, place_name(directory), is_mount(directory))
            for directory, name in self.borne.items()
            if isinstance(found := read_identity(directory), Identity) and found.copy == name
        ]


def missing(listed: Iterable[CopyRecord], here: Iterable[CopyRecord]) -> list[CopyRecord]:
    """Those listed that are not here."""
    present = {item.id for item in here}
    return [item for item in listed if item.id not in present]
