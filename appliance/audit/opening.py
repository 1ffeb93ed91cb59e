"""Opening the log: what a crash tore is cut away, and what is there is held against what was signed.

The tree's hashes are a cache. Those of closed segments are taken as they are; the last segment is read and hashed, and the
root at the newest checkpoint's size must be the signed one, which vouches for the hashes before it, too. Where it is not,
everything is read and hashed anew. Where the root is still another one, the log was broken: rolled back, cut or changed. It
goes on as the next generation, in a new segment, which begins by saying so; old checkpoints and leaves stay as evidence.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from appliance.audit import checkpoints, entry, files, key, segments, takeover
from appliance.audit.checkpoints import Checkpoints, Signed
from appliance.audit.hashes import Hashes
from appliance.audit.note import Checkpoint, Signer
from appliance.audit.segments import Closed, Table, Tail
from appliance.audit.tree import CompactRange, leaf_hash, root_of

FOLDER: Final = "audit"
_SPAN: Final = 4096  # leaves compared at a time


@dataclass
class Opened:
    """A log, ready to be appended to."""

    folder: Path
    signer: Signer
    generation: int
    range: CompactRange
    hashes: Hashes
    checkpoints: Checkpoints
    table: Table
    tail: Tail
    tail_first: int  # number of the first entry in the tail
    newest: Signed | None  # of this generation
    sayings: list[dict[str, object]] = field(default_factory=list)
    """What the log is to say of its opening, as entries, before anything else."""
    alarm: str = ""
    """Why what was found is not what was signed, as a stable word."""


@dataclass
class _Scan:
    """What reading entries gave."""

    range: CompactRange
    last_serial: int
    last_first: int  # number of the first entry in the last segment
    closed: list[Closed] = field(default_factory=list)
    root: bytes | None = None  # at the signed size, where that was reached
    end: int = 0  # of the sound part of the last segment
    torn: int = 0  # bytes behind it


def open_log(control: Path, clock_ns: Callable[[], int] = time.time_ns) -> Opened:
    """Open, or begin, the log below the control directory; OSError."""
    folder = control / FOLDER
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True)
        files.sync_directory(control)
    signer, made = key.obtain(control)
    kept = Checkpoints(folder)
    if not kept.size and not segments.serials(folder):
        # Signed before anything is written: entries without a checkpoint are those of a log that lost it.
        kept.put(checkpoints.sign(signer, 1, 0, CompactRange().root(), clock_ns()), keep=True)
    sayings = takeover.settle(control, folder, clock_ns)
    newest, genuine = kept.newest(signer)
    generation = key.generation_of(newest.checkpoint.origin) if newest else _known_generations(folder)
    signed = newest.checkpoint if newest else None
    reason = "" if newest else "key-lost" if made else "checkpoints-missing"
    table, hashes = Table(folder), Hashes(folder, str(generation))
    scan = _last_segment(folder, table, hashes, signed) if signed else None
    trusted = scan is not None
    if scan is None:
        fresh, scan = _everything(folder, signed)
        if signed and scan.root != signed.root:
            reason = "shorter" if scan.range.size < signed.size else "other"
        difference = _difference(hashes, fresh, scan.range.size)
        hashes.close()
        generation += bool(reason)
        hashes = fresh.rename(str(generation))
        table.closed = scan.closed
    if scan.torn:
        segments.cut(segments.path_of(folder, scan.last_serial), scan.end)
        sayings.append({"time_ns": clock_ns(), "what": "recovered", "bytes": scan.torn})
    if not genuine:
        sayings.append({"time_ns": clock_ns(), "what": "checkpoint-forged"})
    if reason:
        said = _saying(reason, generation, signed, scan, difference)
        sayings.append({"time_ns": clock_ns(), "what": "broken", **said})
        newest = None
        if segments.serials(folder):
            count = scan.range.size - scan.last_first
            table.closed.append(Closed(scan.last_serial, scan.last_first, count, scan.end))
            scan.last_serial, scan.last_first = scan.last_serial + 1, scan.range.size
    tail = Tail(folder, scan.last_serial)
    if not trusted:
        table.write()
    alarm = reason or ("" if genuine else "checkpoint-forged")
    return Opened(
        folder, signer, generation, scan.range, hashes, kept, table, tail, scan.last_first, newest, sayings, alarm
    )  # fmt: skip


def _last_segment(folder: Path, table: Table, hashes: Hashes, signed: Checkpoint) -> _Scan | None:
    """Read the last segment on top of the hashes before it; None where that does not lead to what was signed."""
    present = segments.serials(folder)
    if not table.read(folder) or not hashes.holds(first := table.next):
        return None
    nodes: list[tuple[int, bytes]] = []
    scan = _read(folder, present[-1:], first, CompactRange.kept(first, hashes.get), signed, nodes.extend)
    if signed.size < first:
        scan.root = root_of(signed.size, hashes.get)
    if scan.root != signed.root:
        return None
    hashes.cut(first)
    with contextlib.suppress(OSError):  # no space: they are held, and come with what is written later
        hashes.append(nodes)
        hashes.flush()
    scan.closed = table.closed
    return scan


def _everything(folder: Path, signed: Checkpoint | None) -> tuple[Hashes, _Scan]:
    """Read and hash all segments."""
    stale = Hashes(folder, "new")
    stale.remove()  # of an opening that was broken off
    fresh = Hashes(folder, "new")
    return fresh, _read(folder, segments.serials(folder), 0, CompactRange(), signed, fresh.append)


def _read(
    folder: Path,
    serials: Sequence[int],
    first: int,
    growing: CompactRange,
    signed: Checkpoint | None,
    take: Callable[[list[tuple[int, bytes]]], None],
) -> _Scan:
    scan = _Scan(growing, serials[-1] if serials else 1, first)
    size = signed.size if signed else -1
    if growing.size == size:
        scan.root = growing.root()
    for serial in serials:
        path = segments.path_of(folder, serial)
        scan.last_first, scan.end = growing.size, 0
        for offset, line in segments.lines(path):
            if serial == serials[-1] and growing.size >= size and entry.parse(line) is None:
                break  # torn: what comes behind it was not durable either
            take(growing.append(leaf_hash(line)))
            scan.end = offset + len(line) + 1
            if growing.size == size:
                scan.root = growing.root()
        if serial != serials[-1]:
            count = growing.size - scan.last_first
            scan.closed.append(Closed(serial, scan.last_first, count, path.stat().st_size))
        else:
            scan.torn = path.stat().st_size - scan.end
    return scan


def _difference(old: Hashes, new: Hashes, size: int) -> int:
    """The first entry whose leaf is another one than what was signed; -1: none of those that both have."""
    for start in range(0, size, _SPAN):
        count = min(_SPAN, size - start, max(0, old.leaves - start))
        if count <= 0:
            break
        before, now = old.span(0, start, count), new.span(0, start, count)
        if before != now:
            return start + next(at // 32 for at in range(len(now)) if before[at] != now[at])
    return -1


def _saying(
    reason: str, generation: int, signed: Checkpoint | None, scan: _Scan, difference: int
) -> dict[str, object]:
    """What the log says of a break."""
    said: dict[str, object] = {"reason": reason, "generation": generation}
    if signed is not None:
        said |= {"signed_size": signed.size, "signed_root": signed.root.hex()}
    said |= {"found_size": scan.range.size, "found_root": scan.range.root().hex()}
    if difference >= 0:
        said["first_difference"] = difference
    return said


def _known_generations(folder: Path) -> int:
    """The last generation of which leaves are there; at least 1."""
    labels = [one.name.removeprefix("leaves-") for one in folder.glob("leaves-*")]
    return max([int(label) for label in labels if label.isdigit()], default=1)
