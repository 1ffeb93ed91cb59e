"""Epochs on disk: loading the present one, and turning to the next so that a crash anywhere leaves the old or the new.

Steps of a turn: fresh root key into the idle slot; both copies of the new epoch; everything read back and compared;
the flip, which is the point of no return; then the old slot is destroyed and the old files go.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from appliance.model import EarwitnessError
from appliance.storage.keystore import epochfile
from appliance.storage.keystore.carryover import carry_over
from appliance.storage.keystore.contents import DEVICE_KEY_BYTES, Contents
from appliance.storage.keystore.copies import Copies, keystore_id
from appliance.storage.keystore.epochfile import derive, equal_files, peek_epoch, read_epoch, write_epoch
from appliance.storage.keystore.errors import (
    SLOT_ERRORS,
    KeystoreCorruptError,
    KeystoreDegradedError,
    KeystoreLostError,
    KeystoreWriteError,
    RootKeyMissingError,
    why,
)
from appliance.storage.keystore.files import remove_durably
from appliance.storage.keystore.keyjournal import End, KeyJournal, create_journal
from appliance.storage.keystore.places import Places
from appliance.storage.keystore.reach import Reach
from appliance.storage.keystore.records import apply_record, pack_before
from appliance.storage.keystore.rootslot import ROOT_KEY_BYTES, SLOTS, Active, Fault, RootKey, RootSlot


@dataclass(frozen=True, slots=True)
class _Pending:
    """A turn that is at its flip."""

    before: Active | None
    to: Active
    contents: Contents
    journal: KeyJournal


class Epochs:
    """The files of one keystore. Not for several threads at once."""

    def __init__(self, directories: Sequence[Path], slots: RootSlot, fault: Fault) -> None:
        self._places = Places(directories)
        self._slots = slots
        self._fault = fault
        self._active: Active | None = None
        self._version = epochfile.VERSION  # of the present epoch's format
        self.unfinished = False
        """A turn has flipped, and what is old is not all destroyed yet."""
        self._pending: _Pending | None = None
        self.copies = Copies(directories, fault)
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

    def exists(self) -> bool:
        """Whether there is a keystore, whole or not."""
        if self._slots.active() is not None:
            return True
        return not self._places.marked() and bool(self._places.files())

    def _owner(self, directory: Path) -> bytes | None:
        """Id of the keystore in a directory, by what it holds alone; None where that does not open."""
        slots = self._slots.alone(directory)
        try:
            active = slots.active()
            root = slots.read(active.slot) if active is not None else None
        except (KeystoreCorruptError, RootKeyMissingError):
            return None
        return self._owner_by(root, directory) if root is not None else None

    @staticmethod
    def _owner_by(root: RootKey, directory: Path) -> bytes | None:
        path = directory / f"epoch-{root.epoch:010d}.keys"
        head = peek_epoch(path, derive(root.key, root.epoch, b"keys"), root.epoch)
        return keystore_id(head[:DEVICE_KEY_BYTES]) if head is not None else None

    def create(self, contents: Contents) -> KeyJournal:
        """The first epoch. A crash before its end leaves nothing, and it may be made again."""
        self._places.mark()
        for slot in SLOTS:
            self._slots.destroy(slot)
        self._fault("marked")
        contents.copies = {item.id: item for item in self.copies.create(keystore_id(contents.device_key))}
        return self._turn(contents, Active(SLOTS[0], 1))

    def load(self, floor: Reach) -> tuple[Contents, KeyJournal]:
        """The present epoch with its journal, with what was damaged in one copy repaired.

        KeystoreRolledBackError where no copy goes as far as `floor`, KeystoreForeignError; errors as Keystore.open.
        """
        self.findings += self._places.make()
        self.copies.survey(self._owner)
        empty = self._places.empty()
        self._use(empty)
        active = self._slots.active() or self._adopt()
        floor.refuse_older_epoch(active.epoch)
        root = self._root(active)
        if not self._slots.in_copies:
            self._refuse_others_root(root)
        floor.refuse_older_journal(root, self._places.paths(root.epoch, "journal"))
        current = self._places.current(active.epoch)
        contents, version, journal = self._read(root)
        self.copies.check(keystore_id(contents.device_key))
        # Only now, that everything has opened, is what may hold another key overwritten.
        self._active, self._version = active, version
        if self._place(empty, contents):
            *_, journal = self._read(root)
        if self._carry(contents, journal):
            contents, _, journal = self._read(root)
        self._look_after(root, contents, current)
        return contents, journal

    def _carry(self, contents: Contents, journal: KeyJournal) -> bool:
        """What a copy took in alone comes along; whether one is left out because that cannot be read."""
        used = self._places.used
        left, said = carry_over(self._slots, used, contents, journal)
        self.findings += said
        self._use([item for item in self._places.all if item in left or item not in used])
        return bool(left)

    def _refuse_others_root(self, root: RootKey) -> None:
        """A root key that does not come with the copies may be another keystore's."""
        if not any(path.name.startswith("epoch-") for path in self._places.files()):
            raise KeystoreLostError("there is a root key, and no copy of the keystore it is of")
        if all(self._owner_by(root, directory) is None for directory in self._places.all):
            raise RootKeyMissingError(
                "the root key opens no copy of the keystore: it is another keystore's, or the copies are damaged"
            )

    def _use(self, without: Sequence[Path]) -> None:
        self._places.use(without)
        self._slots.use(self._places.used)

    def _place(self, empty: Sequence[Path], contents: Contents) -> bool:
        """Makes copies of directories that hold nothing, except where a disk should be mounted; whether any was."""
        away, done = self.copies.place(empty, contents.copies)
        self.findings += done
        self._use(away)
        return len(away) < len(empty)

    def _root(self, active: Active) -> RootKey:
        root = self._slots.read(active.slot)
        if root.epoch != active.epoch:
            raise KeystoreCorruptError("the active root slot is of another epoch", what="root slot")
        return root

    def _read(self, root: RootKey) -> tuple[Contents, int, KeyJournal]:
        key = derive(root.key, root.epoch, b"keys")
        plain, version = read_epoch(self._places.paths(root.epoch, "keys"), key, root.epoch, self.findings)
        contents = Contents.decode(plain, version)
        journal = self._journal(root, version)
        for record in journal.records:
            apply_record(record, contents)
        journal.records.clear()
        return contents, version, journal

    def _look_after(self, root: RootKey, contents: Contents, current: Collection[Path]) -> None:
        """Brings every directory up to the present epoch, and says who bears which id."""
        active = self._present()
        self.findings += self._slots.mend(active, root)
        self.findings += self.copies.settle(self._places.used, current, contents.copies)
        done = {item.id for item in contents.copies.values() if item.epoch >= active.epoch}
        for directory, name in self.copies.borne.items():
            if name in done:
                # Its last turn was completed: what is of an older epoch here was put back since.
                self.findings += self._strangers(directory)
        self.unfinished = True
        try:
            self.finish()
        except SLOT_ERRORS as error:
            self.findings.append(f"what is old could not be destroyed yet: {why(error)}")

    def _strangers(self, directory: Path) -> list[str]:
        """What is of an earlier epoch; what is of the next one a turn left that did not come to its end."""
        active, found = self._present(), []
        try:
            old = self._slots.alone(directory).read(1 - active.slot)
            if old.epoch < active.epoch:
                found.append(f"{directory.name}: a root key of epoch {old.epoch}, destroyed")
        except (RootKeyMissingError, KeystoreCorruptError):
            pass  # nothing that opens anything
        return found + [
            f"{directory.name}/{path.name}: of an earlier epoch, removed"
            for path in self._places.earlier(directory, active.epoch)
        ]

    def _adopt(self) -> Active:
        """Where no copy tells which slot counts but just one can be read, it is that one."""
        found = []
        for slot in SLOTS:
            try:
                found.append(Active(slot, self._slots.read(slot).epoch))
            except RootKeyMissingError:
                continue
        if len(found) != 1:
            raise RootKeyMissingError(self._slots.absent)
        self.findings.append("active: missing in both copies, repaired")
        return found[0]

    def _journal(self, root: RootKey, version: int) -> KeyJournal:
        key = derive(root.key, root.epoch, b"journal")
        return KeyJournal(self._places.paths(root.epoch, "journal"), key, root.epoch, self.findings, version)

    def reopen_journal(self) -> KeyJournal:
        """Reads both copies of the present journal again and repairs them; `findings` tells."""
        return self._journal(self._root(self._present()), self._version)

    def scrub(self, contents: Contents, journal: KeyJournal) -> None:
        """Reads both copies of all but the journal again and repairs them; `findings` tells.

        A directory that is another than before becomes a copy; one that is back is brought up to date.
        """
        active = self._present()
        self.findings += self._places.make()
        self.copies.survey(self._owner)
        found = self._slots.active()
        if found is not None and found.epoch > active.epoch:
            raise KeystoreCorruptError(
                "a copy is of a later epoch than the one that is open; it is taken up at the next start",
                what="active",
            )
        root = self._root(active)
        current = self._places.current(active.epoch)
        self._place(self._places.empty(), contents)
        self._carry(contents, journal)
        key = derive(root.key, active.epoch, b"keys")
        read_epoch(self._places.paths(active.epoch, "keys"), key, active.epoch, self.findings)
        self._look_after(root, contents, current)

    def turn(self, contents: Contents, end: End) -> KeyJournal:
        """Makes `contents` the next epoch; its journal, new. The caller then calls `finish`.

        `end`: of the present journal, all of which is in `contents` but for what is to go.

        KeystoreWriteError where a copy cannot be written: the old epoch is as it was.
        """
        active = self._present()
        if self.unfinished:
            self.finish()
        return self._turn(contents, Active(1 - active.slot, active.epoch + 1), end)

    def _turn(self, contents: Contents, to: Active, end: End | None = None) -> KeyJournal:
        before = self._active
        try:
            journal = self._write(contents, to, end)
        except SLOT_ERRORS as error:
            self._undo(to)
            raise KeystoreWriteError(
                f"the next epoch cannot be written: {why(error)}", epoch=to.epoch
            ) from error
        except EarwitnessError:
            self._undo(to)
            raise
        self._fault("verified")
        self._pending = _Pending(before, to, contents, journal)
        try:
            self._slots.activate(to)
        except SLOT_ERRORS as error:
            if self.resolve() is None:
                raise KeystoreWriteError(
                    f"the root slot cannot be flipped: {why(error)}", epoch=to.epoch
                ) from error
        else:
            self._flipped(self._pending)
        self._fault("flipped")
        return journal

    def _flipped(self, pending: _Pending) -> None:
        self._pending = None
        self._active, self._version = pending.to, epochfile.VERSION
        self.unfinished = True

    @property
    def complete(self) -> bool:
        """Whether every copy is in use and of the present epoch, so that none alone is an older keystore."""
        return self._places.used == self._places.all and not (self.unfinished or self.in_doubt)

    @property
    def in_doubt(self) -> bool:
        """Whether the medium failed in a flip so that it is not known which epoch counts."""
        return self._pending is not None

    def resolve(self) -> tuple[Contents, KeyJournal] | None:
        """Asks which epoch counts after a flip that failed: what the new one holds; None where it did not happen.

        KeystoreDegradedError where it still cannot be told: nothing may be written to either.
        """
        pending = self._pending
        if pending is None:
            return None
        try:
            now = self._slots.active()
            if now == pending.before:
                now = self._slots.active_for_sure()
        except (*SLOT_ERRORS, KeystoreCorruptError) as error:
            raise KeystoreDegradedError(
                "it cannot be told yet whether the next epoch counts; nothing is written until every copy can be read",
                copies=[],
            ) from error
        if now == pending.before:
            self._pending = None
            self._undo(pending.to)
            return None
        # It reached one copy, and the highest epoch counts: this has happened. `finish` does the rest.
        self._flipped(pending)
        return pending.contents, pending.journal

    def _write(self, contents: Contents, to: Active, end: End | None) -> KeyJournal:
        parts = contents.encode()
        root = RootKey(to.epoch, secrets.token_bytes(ROOT_KEY_BYTES))
        self._slots.write(to.slot, root)
        self._fault("slot written")
        paths = self._places.paths(to.epoch, "keys")
        write_epoch(paths, derive(root.key, to.epoch, b"keys"), to.epoch, parts)
        self._fault("epoch written")
        create_journal(self._places.paths(to.epoch, "journal"), to.epoch)
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
            self._places.paths(to.epoch, "journal"),
            derive(kept.key, to.epoch, b"journal"),
            to.epoch,
            findings,
        )
        if findings:
            raise KeystoreCorruptError("the next epoch's journal reads back otherwise", what="key journal")
        if end is not None:
            journal.append(pack_before(end))
            if journal.degraded:
                raise OSError(errno.EIO, "a copy of the next epoch's journal takes no record")
        return journal

    def _undo(self, to: Active) -> None:
        paths = (*self._places.paths(to.epoch, "keys"), *self._places.paths(to.epoch, "journal"))
        steps = [partial(self._slots.destroy, to.slot), *(partial(remove_durably, path) for path in paths)]
        for step in steps:
            try:
                step()
            except SLOT_ERRORS as error:
                # They are no part of the present epoch; the next turn, or opening, does it again.
                self.unfinished = self._active is not None
                self.findings.append(f"a next epoch that failed could not be removed: {why(error)}")

    def finish(self) -> None:
        """Destroys what is old: the other slot, then files of other epochs. SLOT_ERRORS where it cannot yet."""
        active = self._present()
        root = self._slots.read(active.slot)
        self._slots.mend(active, root)
        self._slots.activate(active)
        for slot in SLOTS:
            if slot != active.slot:
                self._slots.destroy(slot)
        if self._slots.in_copies:
            self._refuse_other_roots(active, root)
        self._fault("old slot destroyed")
        self._places.clean(active.epoch)
        self._fault("old files removed")
        self.unfinished = False

    def _refuse_other_roots(self, active: Active, root: RootKey) -> None:
        """In a copy that was behind, the old root key may lie in the slot that is now the active one."""
        for directory in self._places.used:
            try:
                found = self._slots.alone(directory).read(active.slot)
            except (RootKeyMissingError, KeystoreCorruptError):
                found = None
            if found != root:
                raise OSError(errno.EIO, f"{directory.name}: a root slot cannot be written")
