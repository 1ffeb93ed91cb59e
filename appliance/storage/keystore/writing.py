"""How a keystore is written: its journal, its turns, its copies. `store` has what is done with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from appliance.model import id_bytes, id_text
from appliance.storage.keystore import keyjournal
from appliance.storage.keystore.contents import Contents
from appliance.storage.keystore.copies import CopyRecord, CopyState, missing
from appliance.storage.keystore.epochs import Epochs
from appliance.storage.keystore.errors import (
    SLOT_ERRORS,
    KeystoreCopyMissingError,
    KeystoreCopyPresentError,
    KeystoreCopyUnknownError,
    KeystoreCorruptError,
    KeystoreDegradedError,
    KeystoreWriteError,
    why,
)
from appliance.storage.keystore.keyjournal import KeyJournal
from appliance.storage.keystore.locks import unlock
from appliance.storage.keystore.opened import Opened
from appliance.storage.keystore.reach import UNKNOWN, Reach
from appliance.storage.keystore.reading import KeystoreReader
from appliance.storage.keystore.records import apply_record, pack_copies, pack_forget
from appliance.storage.keystore.rootslot import Fault
from appliance.storage.keystore.unlocked import Unlocked

JOURNAL_LIMIT = 16 << 20  # bytes; beyond it the journal is merged into a new epoch


class KeystoreWriter(KeystoreReader):
    """One writer at a time, behind a lock of its own."""

    def __init__(
        self,
        epochs: Epochs,
        contents: Contents,
        journal: KeyJournal,
        locks: list[int],
        clock: Callable[[], int],
        fault: Fault,
        roots_in_copies: bool,
    ) -> None:
        self._epochs = epochs
        self._fault = fault
        self._roots_in_copies = roots_in_copies
        super().__init__(contents, Unlocked(clock))
        self._journal = journal
        self._locks = locks
        self._clock = clock
        self._write = threading.RLock()
        self._changing = threading.Lock()
        """One change of a tenant's key mode or passphrase at a time; taken before the writer's lock."""
        self.reached = UNKNOWN
        """How far every copy is known to go, durably; while one is away it stays as it was."""
        self.findings: list[str] = []
        """What was damaged and repaired at the opening, or could not be repaired, as sentences."""

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """The one writer. Where a turn's flip failed, it is found out first which epoch counts."""
        with self._write:
            found = self._epochs.resolve()
            if found is not None:
                contents, self._journal = found
                self._replace(contents)
            yield
            self._note_reach()

    def _note_reach(self) -> None:
        if self._epochs.complete and not self._journal.degraded:
            end = self._journal.end
            self.reached = Reach(end.epoch, end.number)

    def _replace(self, contents: Contents) -> None:
        """Another epoch's contents; what was open of the one before is wiped."""
        before, self._open = self._open, Opened(contents)
        before.forget()

    def close(self) -> None:
        """Lets another process open it."""
        with self._write:
            self._unlocked.lock_all()
            self._open.forget()
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
        """Copies that do not take records at present, with the cause, and unfinished destruction; `copies` has more."""
        found = [f"{name}: {why}" for name, why in dict(self._journal.degraded).items()]
        found += ["what is old is not destroyed yet"] if self._epochs.unfinished else []
        found += ["it is not known which epoch counts"] if self._epochs.in_doubt else []
        return found

    @property
    def in_doubt(self) -> bool:
        """Whether the last turn may have happened or not: a medium failed in its flip, and cannot be read yet."""
        return self._epochs.in_doubt

    def copies(self) -> list[CopyState]:
        """Every copy that is known, those that are missing too, by directory name."""
        listed = dict(self._open.contents.copies)
        here = {item.id: item for item in self._epochs.copies.records(self.epoch)}
        if self._epochs.unfinished:
            here = {name: listed.get(name, item) for name, item in here.items()}
        states = [
            CopyState(id_text(item.id), item.directory, item.id in here, item.epoch)
            for item in (listed | here).values()
        ]
        return sorted(states, key=lambda item: (item.directory, not item.present, item.id))

    def _missing(self) -> list[CopyRecord]:
        """Copies that are not here and may hold root keys."""
        if not self._roots_in_copies:
            return []
        return missing(self._open.contents.copies.values(), self._epochs.copies.records(self.epoch))

    def forget_copy(self, copy_id: str) -> None:
        """Declares that the disk with this copy is destroyed: erasing no longer waits for it.

        Raises KeystoreCopyUnknownError, KeystoreCopyPresentError, KeystoreWriteError.
        """
        with self._writing():
            self._look_again()
            name = id_bytes(copy_id)
            if name not in self._open.contents.copies:
                raise KeystoreCopyUnknownError("the keystore lists no such copy", copy=copy_id)
            if name in self._epochs.copies.borne.values():
                raise KeystoreCopyPresentError("this copy is there", copy=copy_id)
            self._append(pack_forget(name))

    def _note_copies(self) -> None:
        """Lists the copies that are here, as having completed the present epoch's turn. KeystoreWriteError."""
        if self._epochs.unfinished or self._journal.version != keyjournal.VERSION:
            return
        listed, here = self._open.contents.copies, self._epochs.copies.records(self.epoch)
        fresh = [item for item in here if listed.get(item.id) != item]
        if fresh:
            self._append(pack_copies(fresh))
            self._fault("copies noted")
        if not self._roots_in_copies:
            # One that was replaced holds no root key, so nobody need care what became of it.
            served = {item.directory for item in here}
            for item in missing(list(listed.values()), here):
                if item.directory in served:
                    self._append(pack_forget(item.id))

    def compact(self) -> bool:
        """Merges the journal into a new epoch where it has grown large; whether it did."""
        with self._writing():
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
        here = self._epochs.copies.records(self.epoch)
        contents.copies = self._open.contents.copies | {item.id: item for item in here}
        self._journal = self._epochs.turn(contents, self._journal.end)
        self._replace(contents)

    def _destroy_old(self, contents: Contents) -> None:
        """A turn, marked as one that destroys: a copy that misses it may hold what is to be gone."""
        contents.erased_in = self.epoch + 1
        self._turn(contents)

    def _refuse_missed(self) -> None:
        """KeystoreCopyMissingError where a copy that is away has not followed the last turn that destroyed."""
        erased_in = self._open.contents.erased_in
        self._refuse_missing([item for item in self._missing() if item.epoch < erased_in])

    def _finish(self) -> None:
        try:
            if self._epochs.unfinished:
                self._epochs.finish()
            self._note_copies()
        except SLOT_ERRORS as error:
            raise KeystoreDegradedError(
                f"the old root key is not destroyed everywhere yet: {why(error)}", copies=[]
            ) from error
        except KeystoreWriteError as error:
            raise KeystoreDegradedError(
                "the old root key is destroyed, and that could not be noted", copies=[]
            ) from error

    def _look_again(self) -> None:
        """Where a directory is another than before (a disk came or went), it is looked after at once."""
        if not self._epochs.copies.unchanged():
            self.findings += self.scrub()

    def _refuse_degraded(self) -> None:
        if self._journal.degraded:
            self._reopen_journal()
        if self._journal.degraded:
            raise KeystoreDegradedError(
                "a copy of the keystore cannot be written", copies=sorted(self._journal.degraded)
            )

    def scrub(self) -> list[str]:
        """Reads both copies again and repairs; what was found, as sentences."""
        with self._writing():
            self._epochs.findings.clear()
            self._epochs.scrub(self._open.contents, self._journal)
            self._reopen_journal()
            if not self._epochs.unfinished:
                self._finish()
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

    def _append(self, record: bytes) -> None:
        try:
            self._journal.append(record)
        except OSError as error:
            raise KeystoreWriteError(f"the key journal cannot be written: {error.strerror}") from error
        apply_record(record, self._open.contents)

    @staticmethod
    def _refuse_missing(copies: list[CopyRecord]) -> None:
        if copies:
            raise KeystoreCopyMissingError(
                "a copy of the keystore is away and may hold what is to be erased",
                copies=[id_text(item.id) for item in copies],
            )
