"""Checkpoints on disk. `checkpoint` is the newest, put anew every few seconds; `checkpoints.jsonl` has those that are kept.

A line is {"time_ns", "note"}: the note is what counts, the time is the box's word.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.audit import files, key
from appliance.audit.errors import NoteError, NoteUnverifiedError
from appliance.audit.note import Checkpoint, Signer, open_note

NEWEST: Final = "checkpoint"
KEPT: Final = "checkpoints.jsonl"
_BLOCK: Final = 1 << 16
_MAX_LINE: Final = 4096


@dataclass(frozen=True)
class Signed:
    """A checkpoint with its note, and when it was signed (ns since the Unix epoch)."""

    checkpoint: Checkpoint
    time_ns: int
    note: str

    def line(self) -> bytes:
        return json.dumps({"time_ns": self.time_ns, "note": self.note}).encode() + b"\n"


def sign(signer: Signer, generation: int, size: int, root: bytes, time_ns: int) -> Signed:
    """Sign what the log is now."""
    named = signer.named(key.origin(signer, generation))
    checkpoint = Checkpoint(named.name, size, root)
    return Signed(checkpoint, time_ns, named.sign(checkpoint.text()))


def parse(line: bytes) -> Signed:
    """Of a line, its signature not looked at; NoteError."""
    try:
        record = json.loads(line) if len(line) <= _MAX_LINE else None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise NoteError("not a line of checkpoints")
    note, time_ns = record.get("note"), record.get("time_ns")
    if not isinstance(note, str) or not isinstance(time_ns, int) or not 0 <= time_ns < 2**63:
        raise NoteError("not a line of checkpoints")
    return Signed(Checkpoint.parse(note.partition("\n\n")[0] + "\n"), time_ns, note)


class Checkpoints:
    """See the module. One thread writes; several may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept = folder / KEPT
        self._fd = os.open(self._kept, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        files.sync_directory(folder)
        size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, _BLOCK, max(0, size - _BLOCK))
        torn = len(tail) - (tail.rfind(b"\n") + 1)
        if torn:  # a crash came between its bytes
            os.ftruncate(self._fd, size - torn)
        self.size = size - torn

    def newest(self, signer: Signer) -> tuple[Signed | None, bool]:
        """The newest that this key has signed; and whether all that was looked at is its."""
        found: list[Signed] = []
        genuine = True
        rows, _ = self.before(None, 100)
        rows = rows[::-1]
        try:
            newest = (self._folder / NEWEST).read_bytes()
        except FileNotFoundError:
            newest = b""
        if newest:
            rows.append(newest)
        for row in rows:
            try:
                one = parse(row)
                if not key.is_of(one.checkpoint.origin, signer):
                    continue  # of a key that was lost: evidence, no more
                open_note(one.note, [signer.named(one.checkpoint.origin).verifier])
                found.append(one)
            except (NoteError, NoteUnverifiedError):
                genuine = False
        rank = [(key.generation_of(one.checkpoint.origin), one.checkpoint.size) for one in found]
        return (found[rank.index(max(rank))] if found else None), genuine

    def put(self, signed: Signed, *, keep: bool) -> None:
        """Replace the newest one, durably; with `keep` it stays for good. OSError."""
        files.replace(self._folder / NEWEST, signed.line())
        if keep:
            line = signed.line()
            # What a failure left behind the end that is known would shift every line after it.
            os.ftruncate(self._fd, self.size)
            if os.write(self._fd, line) != len(line):
                raise OSError("short write")
            os.fdatasync(self._fd)
            self.size += len(line)

    def before(self, end: int | None, limit: int) -> tuple[list[bytes], int]:
        """Lines that end at a byte or before, newest first, and where they begin (0: no more)."""
        end = self.size if end is None else min(end, self.size)
        start, held = end, b""
        while start > 0 and held.count(b"\n") <= limit:
            before = max(0, start - _BLOCK)
            held = os.pread(self._fd, start - before, before) + held
            start = before
        whole = held.split(b"\n")[:-1]
        if start > 0:
            del whole[0]  # it began before the block
        found = whole[: -limit - 1 : -1]
        return found, end - sum(len(one) + 1 for one in found)

    def close(self) -> None:
        os.close(self._fd)
