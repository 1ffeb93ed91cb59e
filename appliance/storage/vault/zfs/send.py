"""Buckets as streams: `zfs send --raw` and a receive that can go on where it broke off.

What a stream is (of which snapshot, going on from which) stands in its first record. It is compared with what is there
before a byte is taken in, so that whether a stream fits is no question of what a command says when it fails.
"""

from __future__ import annotations

import errno
import os
import select
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final

from appliance.storage.names import GUARD, BucketId, SnapshotId, check_snapshot_name
from appliance.storage.vault.errors import ReplicaDivergedError, SnapshotMissingError, StoreUnavailableError
from appliance.storage.vault.stored import Stream
from appliance.storage.vault.zfs.commands import Commands, environment, number_of
from appliance.storage.vault.zfs.datasets import Datasets
from appliance.storage.vault.zfs.pool import Pool
from appliance.storage.vault.zfs.programs import KIND, ORIGIN, RECEIVED, Facts
from appliance.storage.vault.zfs.snapshots import Snapshots, said
from appliance.storage.vault.zfs.trouble import Trouble, contract_error

PIECE: Final = 256 << 10
HEAD: Final = 312
_BEGIN: Final = struct.Struct("<IIQQQIIQQ256s")
_MAGIC: Final = 0x2F5BACBAC
_RAW, _RESUMING = 1 << 24, 1 << 20
WORDS: Final = (
    "canmount=noauto",
    "mountpoint=legacy",
    "readonly=on",
    "atime=off",
    "devices=off",
    "setuid=off",
    "exec=off",
    f"{KIND}=bucket",
    f"{ORIGIN}={RECEIVED}",
)


@dataclass(frozen=True, slots=True)
class Begin:
    """The first record of a stream."""

    to_guid: int
    from_guid: int
    snapshot: str
    raw: bool
    resuming: bool


def parse_begin(head: bytes) -> Begin | None:
    """None where it is no stream of ZFS."""
    if len(head) < HEAD:
        return None
    kind, _, magic, version, _, _, _, to_guid, from_guid, name = _BEGIN.unpack_from(head)
    if kind != 0 or magic != _MAGIC:
        return None
    features = (version >> 2) & ((1 << 30) - 1)
    snapshot = name.partition(b"\0")[0].decode(errors="replace").partition("@")[2]
    return Begin(to_guid, from_guid, snapshot, bool(features & _RAW), bool(features & _RESUMING))


class Copies:
    """See the module. The caller holds the bucket's lock while it calls; a stream is taken from later, without it."""

    def __init__(
        self, datasets: Datasets, snapshots: Snapshots, commands: Commands, pool: Pool, deadline_s: float
    ) -> None:
        self._datasets = datasets
        self._tree = datasets.tree
        self._snapshots = snapshots
        self._commands = commands
        self._pool = pool
        self._deadline_s = deadline_s
        self._processes: set[subprocess.Popen[bytes]] = set()

    # Sending.

    def send(self, bucket: BucketId, snapshot: str, base: str, resume: str) -> Stream:
        """SnapshotMissingError: the snapshot, or the base, which may be a bookmark that was left of it."""
        for name in filter(None, (snapshot, base)):
            check_snapshot_name(name)
        facts = self._datasets.require(bucket, snapshots=True)
        there = facts.snapshot(snapshot)
        if there is None:
            raise self._missing(bucket, snapshot)
        command = ["zfs", "send", "-w"]
        if resume:
            command = ["zfs", "send", "-t", resume]
        else:
            if base:
                command += ["-i", self._base(bucket, facts, base)]
            command.append(self._tree.snapshot(SnapshotId(bucket, snapshot)))
        return Stream(bucket, snapshot, base, self._pieces(bucket, command, there.guid))

    def _base(self, bucket: BucketId, facts: Facts, base: str) -> str:
        if facts.snapshot(base):
            return f"@{base}"
        if base in self._snapshots.bookmarks(bucket):
            return f"#{base}"
        raise self._missing(bucket, base)

    @staticmethod
    def _missing(bucket: BucketId, name: str) -> SnapshotMissingError:
        return SnapshotMissingError("there is no such snapshot", snapshots=[said(bucket, name)])

    def _pieces(self, bucket: BucketId, command: list[str], guid: int) -> Iterator[bytes]:
        with self._running(command, subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None
            reader = _Paced(process.stdout, self._late, self._deadline_s)
            first = reader.read(HEAD)
            while len(first) < HEAD and (more := reader.read(HEAD - len(first))):
                first += more
            begin = parse_begin(first)
            if first and (begin is None or begin.to_guid != guid):
                raise ReplicaDivergedError("the token is of another stream", bucket=bucket.path)
            if first:
                yield first
            while piece := reader.read(PIECE):
                yield piece
            self._end(process, bucket)

    def _end(self, process: subprocess.Popen[bytes], bucket: BucketId) -> None:
        assert process.stderr is not None
        try:
            process.wait(self._deadline_s)
        except subprocess.TimeoutExpired as error:
            raise self._late() from error
        if process.returncode != 0:
            number = number_of(process.stderr.read(4096).decode(errors="replace"))
            raise contract_error(Trouble(number, "Command"), bucket)

    @contextmanager
    def _running(
        self, command: list[str], out: int, stdin: int = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[bytes]]:
        self._pool.refuse_hopeless()
        process = subprocess.Popen(
            command, stdin=stdin, stdout=out, stderr=subprocess.PIPE, env=environment()
        )
        self._processes.add(process)
        try:
            yield process
        finally:
            self._processes.discard(process)
            self._commands.abandon(process, command)

    def close(self) -> None:
        """Ends what is being sent and received: what was received so far is kept, and can be gone on with."""
        for process in list(self._processes):
            process.terminate()

    def _late(self) -> StoreUnavailableError:
        self._pool.refuse_hopeless()
        return StoreUnavailableError("the pool does not answer in time", errno=errno.ETIMEDOUT)

    # Receiving.

    def receive(self, bucket: BucketId, stream: Stream, lock: Callable[[], None]) -> None:
        """See BucketStore. `lock`: unmounts the bucket and forgets its key, where it is open."""
        pieces = iter(stream.pieces)
        try:
            head = b""
            while len(head) < HEAD and (piece := next(pieces, b"")):
                head += piece
            begin = parse_begin(head)
            if begin is None or not begin.raw or begin.snapshot != stream.snapshot:
                raise self._diverged(bucket, "it is no stream of this snapshot")
            check_snapshot_name(begin.snapshot)
            facts = self._datasets.bucket(bucket, snapshots=True)
            if not self._fits(bucket, facts, begin):
                return
            if facts is not None and facts.key_loaded:
                lock()
            self._datasets.make_parents(bucket)
            if self._token(bucket) and not begin.resuming:
                self.abort(bucket)
            self._take(bucket, begin, head, pieces)
        finally:
            close = getattr(pieces, "close", None)
            if close:
                close()
        if begin.snapshot == GUARD:
            self._snapshots.guard(bucket, self._datasets.require(bucket, snapshots=True))

    def _fits(self, bucket: BucketId, facts: Facts | None, begin: Begin) -> bool:
        """Whether there is anything to take in. ReplicaDivergedError."""
        if facts is not None and facts.kind not in ("bucket", ""):
            raise self._diverged(bucket, "something that is no bucket is here")
        if begin.resuming:
            if not self._token(bucket):
                raise self._diverged(bucket, "nothing was broken off here")
            return True
        whole = facts if facts is not None and not facts.unfinished else None
        there = whole.snapshot(begin.snapshot) if whole else None
        if there:
            if there.guid == begin.to_guid:
                return False
            raise self._diverged(bucket, "another snapshot of this name is here")
        if not begin.from_guid:
            if whole:
                raise self._diverged(bucket, "another bucket of this name is here")
        elif not whole or not whole.snapshots or whole.snapshots[-1].guid != begin.from_guid:
            raise self._diverged(bucket, "the snapshot it goes on from is not the last one here")
        return True

    @staticmethod
    def _diverged(bucket: BucketId, why: str) -> ReplicaDivergedError:
        return ReplicaDivergedError(f"what was received does not fit: {why}", bucket=bucket.path)

    def _take(self, bucket: BucketId, begin: Begin, head: bytes, pieces: Iterator[bytes]) -> None:
        options = [part for word in WORDS for part in ("-o", word)]
        command = ["zfs", "receive", "-s", "-u", *options]
        command.append(self._tree.snapshot(SnapshotId(bucket, begin.snapshot)))
        with self._running(command, subprocess.DEVNULL, subprocess.PIPE) as process:
            assert process.stdin is not None
            writer = _Paced(process.stdin, self._late, self._deadline_s)
            try:
                writer.write(head)
                for piece in pieces:
                    writer.write(piece)
            except BrokenPipeError:
                pass  # it has ended: why, is asked below
            except BaseException:
                self._break_off(process)
                raise
            process.stdin.close()
            self._end(process, bucket)

    def _break_off(self, process: subprocess.Popen[bytes]) -> None:
        """The end of its input lets it note how far it came."""
        assert process.stdin is not None
        try:
            process.stdin.close()
            process.wait(self._deadline_s)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            pass  # it is ended the hard way; what it took in so far may be lost, and comes again

    def _token(self, bucket: BucketId) -> str:
        name = self._tree.dataset(bucket)
        try:
            found = self._commands.json("zfs", "get", "-j", "-p", "receive_resume_token", name)
        except Trouble as trouble:
            if trouble.number == errno.ENOENT:
                return ""
            raise
        value = str(found["datasets"][name]["properties"]["receive_resume_token"]["value"])
        return "" if value == "-" else value

    def resume_token(self, bucket: BucketId) -> str:
        """Where a receive goes on; empty where none was broken off."""
        return self._token(bucket)

    def abort(self, bucket: BucketId) -> None:
        """Forgets a receive that was broken off; success where there is none."""
        try:
            self._commands.run("zfs", "receive", "-A", self._tree.dataset(bucket))
        except Trouble as trouble:
            if self._token(bucket):
                raise
            if trouble.number not in (errno.ENOENT, errno.EPROTO):
                raise


class _Paced:
    """Reads and writes of a pipe, each given up when nothing moves for the deadline."""

    def __init__(self, stream: IO[bytes], late: Callable[[], Exception], deadline_s: float) -> None:
        self._descriptor = stream.fileno()
        self._late = late
        self._deadline_s = deadline_s
        os.set_blocking(self._descriptor, False)

    def _wait(self, event: int) -> None:
        end = time.monotonic() + self._deadline_s
        poll = select.poll()
        poll.register(self._descriptor, event)
        if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
            raise self._late()

    def read(self, size: int) -> bytes:
        """At most so many; none at the end."""
        self._wait(select.POLLIN)
        return os.read(self._descriptor, size)

    def write(self, data: bytes) -> None:
        """All of it. BrokenPipeError."""
        view = memoryview(data)
        while view:
            self._wait(select.POLLOUT)
            view = view[os.write(self._descriptor, view) :]
