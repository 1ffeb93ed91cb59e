"""Holdings by recording id, made from the journal and kept in SQLite so that starting costs nothing at a million.

A cache: it says up to which byte of the journal it goes, takes in the rest when opened, and is made anew where it is
damaged or the journal is not the one it knows.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from appliance.model import id_bytes
from appliance.storage.keystore.files import make_directory
from appliance.storage.keystore.reach import UNKNOWN, Reach
from appliance.storage.names import BucketId
from appliance.storage.vault.errors import StoreUnavailableError
from appliance.storage.vault.holding import HOLDING, KEPT, Entry, Holding, HoldingState
from appliance.storage.vault.journal import Journal, parse_line

log = structlog.get_logger()

_MARK_EVERY = 128  # entries between two places that Watch can begin to read at
_VERSION = 2
_PAGE = 500
_SCHEMA = """
CREATE TABLE holdings (
    recording BLOB PRIMARY KEY, state TEXT NOT NULL, size INTEGER NOT NULL, tenant TEXT NOT NULL, line TEXT NOT NULL,
    slice TEXT NOT NULL, created INTEGER NOT NULL, since INTEGER NOT NULL,
    parked TEXT NOT NULL, held_in TEXT NOT NULL, epoch INTEGER NOT NULL, erased INTEGER NOT NULL, body TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX by_bucket ON holdings (tenant, line, slice, held_in, state, size, since);
CREATE INDEX by_time ON holdings (tenant, created);
CREATE INDEX by_state ON holdings (state);
CREATE INDEX by_epoch ON holdings (epoch) WHERE epoch > 0;
CREATE INDEX by_erasure ON holdings (erased) WHERE erased > 0;
CREATE INDEX out_of_place ON holdings (held_in) WHERE held_in <> '';
CREATE TABLE marks (position INTEGER PRIMARY KEY, offset INTEGER NOT NULL);
CREATE TABLE journal (
    only INTEGER PRIMARY KEY CHECK (only = 1), position INTEGER NOT NULL, offset INTEGER NOT NULL, line BLOB NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """Recordings by state, and bytes of those that have a file in a bucket."""

    by_state: dict[HoldingState, int]
    stored_bytes: int


class Holdings:
    """Journal and index together. Safe to use from any thread."""

    def __init__(self, folder: Path) -> None:
        make_directory(folder)
        self.findings: list[str] = []
        """What was damaged, as sentences."""
        self.reached = UNKNOWN
        """How far the keystore was known to go, by the journal: each entry says it, so that it costs no sync of its own."""
        self.reach: Callable[[], Reach] = lambda: UNKNOWN
        """Tells how far it goes now; whoever opened it sets this."""
        self._journal = Journal(folder / "journal")
        self._behind = False
        self._changed = threading.Condition()
        self._lock = threading.RLock()
        path = folder / "index.db"
        try:
            self._database = self._open(path)
        except (sqlite3.DatabaseError, _StaleError):
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._database = self._open(path)
        self._counts = self._count()

    def _open(self, path: Path) -> sqlite3.Connection:
        database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            if database.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                if database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
                    raise _StaleError
                database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
            database.execute("BEGIN")
            self._catch_up(database)
            database.execute("COMMIT")
        except BaseException:
            database.close()
            raise
        return database

    def _settle(self) -> None:
        """Brings the index up to the journal where it is behind."""
        if not self._behind:
            return
        try:
            self._database.execute("BEGIN")
            moved = self._catch_up(self._database)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise StoreUnavailableError("the index of holdings cannot be written", errno=0) from error
        self._behind = False
        for state, count, size in moved:
            had = self._counts.get(state, (0, 0))
            self._counts[state] = (had[0] + count, had[1] + size)

    def _catch_up(self, database: sqlite3.Connection) -> list[tuple[str, int, int]]:
        """Takes in what the journal has and the index not; cuts a torn last line. What came and went by state."""
        row = database.execute("SELECT position, offset, line FROM journal").fetchone()
        position, start = 0, 0
        if row is not None:
            position, at, line = row
            start = at + len(line)
            if next((found for _, found in self._journal.lines(at)), b"") != line:
                raise _StaleError  # another journal than the one this index was made from
            known = parse_line(line)
            self.reached = max(self.reached, known.keystore if known is not None else UNKNOWN)
        last: tuple[int, bytes] | None = None
        damaged: int | None = None
        moved: list[tuple[str, int, int]] = []
        for offset, line in self._journal.lines(start):
            entry = parse_line(line)
            if entry is None or entry.position <= position:
                damaged = offset if damaged is None else damaged
                continue
            if damaged is not None:
                self.findings.append(f"the journal is damaged from byte {damaged} to {offset}")
                damaged = None
            moved += self._take(database, entry, offset)
            position, last = entry.position, (offset, line)
            self.reached = max(self.reached, entry.keystore)
        if damaged is not None:
            self.findings.append(
                f"the journal's last {self._journal.size - damaged} bytes were torn and are cut off"
            )
            self._journal.cut(damaged)
        self._journal.position = position
        if last is not None:
            self._end(database, position, *last)
        return moved

    @staticmethod
    def _take(database: sqlite3.Connection, entry: Entry, offset: int) -> list[tuple[str, int, int]]:
        holding = entry.holding
        before = database.execute(
            "SELECT state, -1, -size FROM holdings WHERE recording = ?", (id_bytes(holding.recording_id),)
        ).fetchall()
        database.execute(
            "INSERT OR REPLACE INTO holdings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                id_bytes(holding.recording_id),
                str(holding.state),
                holding.size,
                holding.tenant_id,
                holding.line_id,
                holding.slice,
                holding.created_ns,
                holding.since_ns,
                holding.parked,
                holding.case,
                holding.certificate.epoch if holding.certificate else 0,
                holding.certificate.erased_ns if holding.certificate else 0,
                HOLDING.dump_json(holding).decode(),
            ),
        )
        if entry.position % _MARK_EVERY == 1:
            database.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (entry.position, offset))
        return [*before, (str(holding.state), 1, holding.size)]

    @staticmethod
    def _end(database: sqlite3.Connection, position: int, offset: int, line: bytes) -> None:
        database.execute("INSERT OR REPLACE INTO journal VALUES (1, ?, ?, ?)", (position, offset, line))

    def _count(self) -> dict[str, tuple[int, int]]:
        rows = self._database.execute("SELECT state, COUNT(*), SUM(size) FROM holdings GROUP BY state")
        return {state: (count, size) for state, count, size in rows}

    def close(self) -> None:
        """Lets go of the files; whoever waits is woken."""
        with self._lock:
            self._database.close()
            self._journal.close()

    @property
    def position(self) -> int:
        """The journal's last entry; 0: none."""
        return self._journal.position

    def get(self, recording_id: str) -> Holding | None:
        """One holding."""
        with self._lock:
            self._settle()
            row = self._database.execute(
                "SELECT body FROM holdings WHERE recording = ?", (id_bytes(recording_id),)
            ).fetchone()
        return HOLDING.validate_json(row[0]) if row else None

    def all(self) -> Iterator[Holding]:
        """Every holding, in the order of its id; what changes meanwhile may be seen before or after."""
        return self.where()

    def where(self, condition: str = "1", values: Sequence[object] = ()) -> Iterator[Holding]:
        """Holdings that fit a condition in SQL over the index's columns, as `all`. `values`: its parameters."""
        # Which first, in one pass; a page at a time would be sorted anew for each page.
        names = sorted(
            row[0] for row in self.rows(f"SELECT recording FROM holdings WHERE {condition}", values)
        )
        for first in range(0, len(names), _PAGE):
            some = names[first : first + _PAGE]
            marks = ",".join("?" * len(some))
            found = self.rows(
                f"SELECT recording, body FROM holdings WHERE recording IN ({marks}) AND ({condition}) ORDER BY recording",
                (*some, *values),
            )
            for _, body in found:
                yield HOLDING.validate_json(body)

    def rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """A query over the index, for sums and groups."""
        with self._lock:
            self._settle()
            return self._database.execute(query, tuple(values)).fetchall()

    def in_bucket(self, bucket: BucketId) -> Iterator[Holding]:
        """Holdings whose file is, or was, in a bucket."""
        return self.where(*_in_bucket(bucket))

    def fingerprint(self, bucket: BucketId) -> str:
        """Of all that the journal says of a bucket's holdings: whatever is entered of one of them, it is another.

        SHA-256 over their entries in the order of their ids, the first 16 bytes in hexadecimal.
        """
        condition, values = _in_bucket(bucket)
        rows = self.rows(f"SELECT body FROM holdings WHERE {condition} ORDER BY recording", values)
        digest = hashlib.sha256()
        for (body,) in rows:
            digest.update(body.encode() + b"\n")
        return digest.hexdigest()[:32]

    def newest_created_ns(self) -> int:
        """When the newest recording was created; 0: there is none."""
        return int(self.rows("SELECT COALESCE(MAX(created), 0) FROM holdings")[0][0])

    def counts(self) -> Counts:
        """How many there are of each state."""
        with self._lock:
            found = dict(self._counts)
        return Counts(
            {state: found.get(state, (0, 0))[0] for state in HoldingState},
            sum(found.get(state, (0, 0))[1] for state in KEPT),
        )

    def last_erasure_ns(self) -> int:
        """When the last certificate was written; 0: never."""
        return int(self.rows("SELECT COALESCE(MAX(erased), 0) FROM holdings WHERE erased > 0")[0][0])

    def last_epoch(self) -> int:
        """The newest epoch of the keystore that a certificate names; 0: there is none."""
        return int(self.rows("SELECT COALESCE(MAX(epoch), 0) FROM holdings WHERE epoch > 0")[0][0])

    def append(self, holdings: Sequence[Holding]) -> None:
        """Journals these changes, durably, and tells whoever watches. On OSError nothing changed."""
        if not holdings:
            return
        with self._lock:
            self._settle()
            first = self._journal.position + 1
            self.reached = max(self.reached, self.reach())
            entries = [Entry(first + place, holding, self.reached) for place, holding in enumerate(holdings)]
            self._journal.enter(entries)
            self._behind = True
            try:
                self._settle()
            except StoreUnavailableError:
                # What counts is durable; the index takes it in as soon as it can be written.
                log.warning("the index is behind the journal")
        with self._changed:
            self._changed.notify_all()

    def since(self, after: int, limit: int = 256) -> list[Entry]:
        """Up to `limit` entries after a position."""
        with self._lock:
            if after >= self._journal.position:
                return []
            self._settle()
            row = self._database.execute(
                "SELECT offset FROM marks WHERE position <= ? ORDER BY position DESC LIMIT 1", (after + 1,)
            ).fetchone()
            found: list[Entry] = []
            for _, line in self._journal.lines(row[0] if row else 0):
                entry = parse_line(line)
                if entry is not None and entry.position > after:
                    found.append(entry)
                    if len(found) == limit:
                        break
            return found

    def wait(self, after: int, given_up: Callable[[], bool]) -> None:
        """Waits until there is an entry after a position, or `given_up` says so when `wake` is called."""
        with self._changed:
            self._changed.wait_for(lambda: given_up() or self._journal.position > after)

    def wake(self) -> None:
        """Makes those who wait look again."""
        with self._changed:
            self._changed.notify_all()


def _in_bucket(bucket: BucketId) -> tuple[str, tuple[str, ...]]:
    if bucket.of_hold:
        return "held_in = ? AND tenant = ?", (bucket.slice, bucket.tenant_id)
    condition = "tenant = ? AND line = ? AND slice = ? AND held_in = ''"
    return condition, (bucket.tenant_id, bucket.line_id, bucket.slice)


class _StaleError(Exception):
    """The index does not belong to this journal."""
