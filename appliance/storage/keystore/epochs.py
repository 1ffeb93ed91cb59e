"""Epochs on disk: loading the present one, and turning to the next so that a crash anywhere leaves the old or the new.

Steps of a turn: fresh root key into the idle slot; both copies of the new epoch; everything read back and compared;
the flip, which is the point of no return; then the old slot is destroyed and the old files go.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from appliance.model import EarwitnessError
from appliance.storage.keystore import epochfile
from appliance.storage.keystore.contents import Contents
from appliance.storage.keystore.epochfile import derive, equal_files, read_epoch, write_epoch
from appliance.storage.keystore.errors import (
    KeystoreCorruptError,
    KeystoreDegradedError,
    KeystoreWriteError,
    RootKeyMissingError,
)
from appliance.storage.keystore.files import make_directory, remove_durably, sync_directory, write_durably
from appliance.storage.keystore.keyjournal import KeyJournal, create_journal
from appliance.storage.keystore.rootslot import ROOT_KEY_BYTES, SLOTS, Active, Fault, RootKey, RootSlot

_OURS = re.compile(r"epoch-(\d{10})\.(keys|journal)|\.(epoch-\d{10}\.(keys|journal)|active|new)\.\d+\.tmp")
_MARKER = "new"  # there while the very first epoch is being made


class Epochs:
    """The files of one keystore. Not for several threads at once."""

    def __init__(self, directories: Sequence[Path], slots: RootSlot, fault: Fault) -> None:
        self._directories = tuple(directories)
        self._slots = slots
        self._fault = fault
        self._active: Active | None = None
        self._version = epochfile.VERSION  # of the present epoch's format
        self.unfinished = False
        """A turn has flipped, and what is old is not all destroyed yet."""
        self.findings: list[str] = []
        """What was damaged and is repaired, or could not be, as sentences."""

    @property
    def epoch(self) -> int:
        """The present epoch, from 1."""
        return self._present().epoch

    def _present(self) -> Active:
        if self._active is None:
            raise AssertionError("not loaded")
        return self._active

    def _paths(self, epoch: int, kind: str) -> tuple[Path, ...]:
        return tuple(directory / f"epoch-{epoch:010d}.{kind}" for directory in self._directories)

    def exists(self) -> bool:
        """Whether there is a keystore, whole or not."""
        if self._slots.active() is not None:
            return True
        return not self._marked() and any(self._files())

    def _marked(self) -> bool:
        return any((directory / _MARKER).exists() for directory in self._directories)

    def _files(self) -> list[Path]:
        found = []
        for directory in self._directories:
            if directory.is_dir():
                found += [path for path in directory.iterdir() if _OURS.fullmatch(path.name)]
                found += [path for path in directory.iterdir() if path.name in {f"root-{n}" for n in SLOTS}]
        return found

    def create(self, contents: Contents) -> KeyJournal:
        """The first epoch. A crash before its end leaves nothing, and it may be made again."""
        for directory in self._directories:
            make_directory(directory)
            write_durably(directory / _MARKER, b"")
        for slot in SLOTS:
            self._slots.destroy(slot)
        self._fault("marked")
        return self._turn(contents, Active(SLOTS[0], 1))

    def load(self) -> tuple[Contents, KeyJournal]:
        """The present epoch, with what was damaged in one copy repaired."""
        self._make_directories()
        active = self._slots.active() or self._adopt()
        root = self._slots.read(active.slot)
        if root.epoch != active.epoch:
            raise KeystoreCorruptError("the active root slot is of another epoch", what="root slot")
        contents, journal = self._read(root)
        # Only now, that everything has opened, is anything changed.
        self._active = active
        self.findings += self._slots.mend(active, root)
        self.unfinished = True
        try:
            self.finish()
        except OSError as error:
            self.findings.append(f"what is old could not be destroyed yet: {error.strerror}")
        return contents, journal

    def _make_directories(self) -> None:
        errors = []
        for directory in self._directories:
            try:
                make_directory(directory)
            except OSError as error:
                errors.append(error)
                self.findings.append(f"{directory.name}: cannot be used: {error.strerror}")
        if len(errors) == len(self._directories):
            raise KeystoreDegradedError(
                "neither copy of the keystore can be used", copies=[item.name for item in self._directories]
            ) from errors[0]

    def _adopt(self) -> Active:
        """Where no copy tells which slot counts but just one can be read, it is that one."""
        found = []
        for slot in SLOTS:
            try:
                found.append(Active(slot, self._slots.read(slot).epoch))
            except RootKeyMissingError:
                continue
        if len(found) != 1:
            raise RootKeyMissingError("there is a keystore, and no root key that can be told to be its own")
        self.findings.append("active: missing in both copies, repaired")
        return found[0]

    def _read(self, root: RootKey) -> tuple[Contents, KeyJournal]:
        epoch = root.epoch
        key = derive(root.key, epoch, b"keys")
        plain, version = read_epoch(self._paths(epoch, "keys"), key, epoch, self.findings)
        self._version = version
        return Contents.decode(plain, version), self._journal(root)

    def _journal(self, root: RootKey) -> KeyJournal:
        key = derive(root.key, root.epoch, b"journal")
        return KeyJournal(self._paths(root.epoch, "journal"), key, root.epoch, self.findings, self._version)

    def reopen_journal(self) -> KeyJournal:
        """Reads both copies of the present journal again and repairs them; `findings` tells."""
        return self._journal(self._slots.read(self._present().slot))

    def scrub(self) -> None:
        """Reads both copies of all but the journal again and repairs them; `findings` tells."""
        active = self._present()
        self._make_directories()
        root = self._slots.read(active.slot)
        key = derive(root.key, active.epoch, b"keys")
        read_epoch(self._paths(active.epoch, "keys"), key, active.epoch, self.findings)
        self.findings += self._slots.mend(active, root)

    def turn(self, contents: Contents) -> KeyJournal:
        """Makes `contents` the next epoch; its empty journal. The caller then calls `finish`.

        KeystoreWriteError where a copy cannot be written: the old epoch is as it was.
        """
        active = self._present()
        if self.unfinished:
            self.finish()
        return self._turn(contents, Active(1 - active.slot, active.epoch + 1))

    def _turn(self, contents: Contents, to: Active) -> KeyJournal:
        before = self._active
        try:
            journal = self._write(contents, to)
        except (OSError, EarwitnessError) as error:
            self._undo(to)
            if isinstance(error, OSError):
                raise KeystoreWriteError(
                    f"the next epoch cannot be written: {error.strerror}", epoch=to.epoch
                ) from error
            raise
        self._fault("verified")
        try:
            self._slots.activate(to)
        except OSError as error:
            if self._slots.active() == before:
                self._undo(to)
                raise KeystoreWriteError(
                    f"the root slot cannot be flipped: {error.strerror}", epoch=to.epoch
                ) from error
            # It reached one copy, and the highest epoch counts: this has happened. `finish` does the rest.
        self._active = to
        self._version = epochfile.VERSION
        self.unfinished = True
        self._fault("flipped")
        return journal

    def _write(self, contents: Contents, to: Active) -> KeyJournal:
        parts = contents.encode()
        root = RootKey(to.epoch, secrets.token_bytes(ROOT_KEY_BYTES))
        self._slots.write(to.slot, root)
        self._fault("slot written")
        paths = self._paths(to.epoch, "keys")
        write_epoch(paths, derive(root.key, to.epoch, b"keys"), to.epoch, parts)
        self._fault("epoch written")
        create_journal(self._paths(to.epoch, "journal"), to.epoch)
        self._fault("journal created")
        # What counts is what can be read back from slot and disk, not what is in memory.
        findings: list[str] = []
        kept = self._slots.read(to.slot)
        plain, _ = read_epoch(paths[:1], derive(kept.key, to.epoch, b"keys"), to.epoch, findings)
        at = 0
        for part in parts:
            if memoryview(plain)[at : at + len(part)] != part:
                raise KeystoreCorruptError(
                    "the next epoch reads back otherwise", what=paths[0].name, offset=at
                )
            at += len(part)
        if findings or at != len(plain) or not all(equal_files(paths[0], path) for path in paths[1:]):
            raise KeystoreCorruptError("the copies of the next epoch differ", what=paths[0].name, offset=0)
        journal = KeyJournal(
            self._paths(to.epoch, "journal"), derive(kept.key, to.epoch, b"journal"), to.epoch, findings
        )
        if findings:
            raise KeystoreCorruptError("the next epoch's journal reads back otherwise", what="key journal")
        return journal

    def _undo(self, to: Active) -> None:
        try:
            self._slots.destroy(to.slot)
            for path in (*self._paths(to.epoch, "keys"), *self._paths(to.epoch, "journal")):
                remove_durably(path)
        except OSError as error:
            # They are no part of the present epoch; the next turn, or opening, does it again.
            self.unfinished = self._active is not None
            self.findings.append(f"a next epoch that failed could not be removed: {error.strerror}")

    def finish(self) -> None:
        """Destroys what is old: the other slot, then files of other epochs. OSError where it cannot be done yet."""
        active = self._present()
        self._slots.mend(active, self._slots.read(active.slot))
        self._slots.activate(active)
        for slot in SLOTS:
            if slot != active.slot:
                self._slots.destroy(slot)
        self._fault("old slot destroyed")
        keep = {path.name for kind in ("keys", "journal") for path in self._paths(active.epoch, kind)}
        for directory in self._directories:
            for path in list(directory.iterdir()):
                if path.name == _MARKER or (_OURS.fullmatch(path.name) and path.name not in keep):
                    path.unlink(missing_ok=True)
            sync_directory(directory)
        self._fault("old files removed")
        self.unfinished = False
