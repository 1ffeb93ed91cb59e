"""The directories of a keystore and the files in them that are its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from appliance.storage.keystore.copies import read_identity
from appliance.storage.keystore.errors import KeystoreDegradedError
from appliance.storage.keystore.files import make_directory, sync_directory, write_durably
from appliance.storage.keystore.rootslot import SLOTS

_EPOCH = re.compile(r"epoch-(\d{10})\.(keys|journal)")
_OURS = re.compile(rf"{_EPOCH.pattern}|\.({_EPOCH.pattern}|active|copy|new)\.\d+\.tmp")
_ROOTS = frozenset({"active", *(f"root-{slot}" for slot in SLOTS)})
_MARKER = "new"  # there while the very first epoch is being made


class Places:
    """See the module. `used`: all but those whose disk is not mounted."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self.all = tuple(directories)
        self.used = self.all

    def use(self, without: Sequence[Path]) -> None:
        """Leaves directories out. Where nothing else is left, they are all used, and it is told what is missing."""
        self.used = tuple(item for item in self.all if item not in without) or self.all

    def make(self) -> list[str]:
        """Makes the directories; which cannot be used, as sentences. KeystoreDegradedError where none can."""
        errors = []
        for directory in self.all:
            try:
                make_directory(directory)
            except OSError as error:
                errors.append((directory.name, error))
        if len(errors) == len(self.all):
            raise KeystoreDegradedError(
                "neither copy of the keystore can be used", copies=[name for name, _ in errors]
            ) from errors[0][1]
        return [f"{name}: cannot be used: {error.strerror}" for name, error in errors]

    def mark(self) -> None:
        """Says that the very first epoch is being made; until `clean`, what is there counts for nothing."""
        for directory in self.all:
            make_directory(directory)
            write_durably(directory / _MARKER, b"")

    def marked(self) -> bool:
        """Whether a first epoch was begun and not completed."""
        return any((directory / _MARKER).exists() for directory in self.all)

    def paths(self, epoch: int, kind: str) -> tuple[Path, ...]:
        """Of an epoch's `keys` or `journal`, in every directory that is used."""
        return tuple(directory / f"epoch-{epoch:010d}.{kind}" for directory in self.used)

    def files(self) -> list[Path]:
        """Everything of a keystore, in all directories; `copy` says whose it is, and does not count."""
        return [
            path
            for directory in self.all
            if directory.is_dir()
            for path in directory.iterdir()
            if _OURS.fullmatch(path.name) or path.name in _ROOTS
        ]

    def empty(self) -> list[Path]:
        """Directories that can be used and hold nothing of a keystore."""
        holding = {path.parent for path in self.files()}
        return [
            directory
            for directory in self.all
            if read_identity(directory) in ("missing", "damaged") and directory not in holding
        ]

    def current(self, epoch: int) -> set[Path]:
        """Directories that have this epoch."""
        return {path.parent for path in self.paths(epoch, "keys") if path.exists()}

    def others(self, directory: Path, epoch: int) -> list[Path]:
        """What is of another epoch than this one, or was left lying."""
        keep = {path.name for kind in ("keys", "journal") for path in self.paths(epoch, kind)}
        return [
            path
            for path in sorted(directory.iterdir())
            if path.name == _MARKER or (_OURS.fullmatch(path.name) and path.name not in keep)
        ]

    def earlier(self, directory: Path, epoch: int) -> list[Path]:
        """What is of an epoch before this one."""
        found = ((path, _EPOCH.fullmatch(path.name)) for path in self.others(directory, epoch))
        return [path for path, match in found if match is not None and int(match[1]) < epoch]

    def clean(self, epoch: int) -> None:
        """Removes what is of other epochs, durably. OSError."""
        for directory in self.used:
            for path in self.others(directory, epoch):
                path.unlink(missing_ok=True)
            sync_directory(directory)
