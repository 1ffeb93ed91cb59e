"""The log: entries come from many threads, one thread writes them.

What waits is written together and made durable by one fdatasync (group commit). A batch is in the log as a whole or not at
all: where the disk is full it is cut away again, and whoever waited for it is refused. What was given to the system but not
made durable is held until it is: after a failed fdatasync nobody knows what of it is on disk, so that it is written again.
A checkpoint is signed over what is durable alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

import structlog

from appliance.audit import checkpoints, entry, key, segments
from appliance.audit.checkpoints import Signed
from appliance.audit.errors import AuditUnavailableError
from appliance.audit.note import Verifier
from appliance.audit.opening import Opened
from appliance.audit.segments import Closed, Tail
from appliance.audit.tree import leaf_hash, root_of

log = structlog.get_logger()

SIGN_S: Final = 2.0  # a checkpoint at least so often, where something came
KEEP_S: Final = 60.0  # one that stays for good
MAX_WAITING: Final = 10_000  # entries
MAX_BATCH: Final = 1 << 20  # bytes
MAX_UNSYNCED: Final = 4 << 20  # bytes held until they are durable


@dataclass
class _Wanted:
    """An entry that waits to be written."""

    line: bytes
    durable: bool
    done: Future[int] = field(default_factory=Future)


class Log:
    """See the module. `size` entries are in it, `signed` is its newest checkpoint."""

    def __init__(
        self,
        opened: Opened,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        segment: int = segments.SEGMENT,
        sign_s: float = SIGN_S,
        told: Callable[[OSError | None], None] = lambda error: None,
    ) -> None:
        """`told` hears of each failure to write, and (None) of each success after one."""
        self.folder = opened.folder
        self.signer = opened.signer
        self.generation = opened.generation
        self.hashes = opened.hashes
        self.checkpoints = opened.checkpoints
        self.table = opened.table
        self.signed = opened.newest
        self.grown = threading.Condition()
        """Notified when entries were written, and at the end."""
        self.ended = False
        self._range = opened.range
        self.size = opened.range.size
        self._tail = opened.tail
        self._tail_first = opened.tail_first
        self._clock_ns = clock_ns
        self._segment = segment
        self._sign_s = sign_s
        self._told = told
        self._synced = opened.tail.end  # bytes of the tail that are durable
        self._unsynced = bytearray()  # what follows them
        self._waiting: list[_Wanted] = []
        self._wake = threading.Condition()
        self._closing = False
        self._sign_wanted: list[Future[Signed]] = []
        self._signed_s = self._kept_s = float("-inf")
        self._kept_size = -1  # of the checkpoint that was kept last
        self._failed = False
        opened.tail.sync()  # what a process left that was killed is durable before it is signed
        self._sayings = [_Wanted(entry.pack(record), True) for record in opened.sayings]
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    @property
    def verifier(self) -> Verifier:
        """What checkpoints of this generation are verified with."""
        return self.signer.named(key.origin(self.signer, self.generation)).verifier

    def bytes_on_disk(self) -> int:
        """Of all entries."""
        return sum(one.size for one in self.table.closed) + self._tail.end

    def submit(self, line: bytes, *, durable: bool) -> Future[int]:
        """Have a line (`entry.pack`) written; the future gives its number, or AuditUnavailableError.

        `durable`: it is on disk when the future is done. Raises AuditUnavailableError where too much waits.
        """
        wanted = _Wanted(line, durable)
        with self._wake:
            if self._closing or len(self._waiting) >= MAX_WAITING:
                raise AuditUnavailableError("the audit log takes nothing more now")
            self._waiting.append(wanted)
            if len(self._waiting) == 1:
                self._wake.notify()
        return wanted.done

    def sign(self) -> Signed:
        """The checkpoint of all that is written now, kept for good; AuditUnavailableError."""
        wanted: Future[Signed] = Future()
        with self._wake:
            if self._closing:
                raise AuditUnavailableError("the audit log is closed")
            self._sign_wanted.append(wanted)
            self._wake.notify()
        return wanted.result()

    def close(self) -> None:
        """Everything written, durable and signed; then the files are closed. Doing it twice is success."""
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify()
        self._thread.join()
        with self.grown:
            self.ended = True
            self.grown.notify_all()
        self._tail.close()
        self.checkpoints.close()
        self.hashes.close()

    def wait(self, size: int, timeout_s: float) -> bool:
        """Wait until there are more entries than `size`; False where that took too long, or the log ended."""
        with self.grown:
            self.grown.wait_for(lambda: self.size > size or self.ended, timeout_s)
            return self.size > size

    # The rest runs in the log's own thread.

    def _run(self) -> None:
        while True:
            with self._wake:
                if not (self._waiting or self._sign_wanted or self._closing):
                    self._wake.wait(self._sign_s if self._behind() else None)
                batch = self._next_batch()
                asked, self._sign_wanted = self._sign_wanted, []
                closing = self._closing and not self._waiting
            due = self._behind() and time.monotonic() - self._signed_s >= self._sign_s
            if batch or (self._sayings and (due or closing)):
                # What the log has to say of its opening comes before anything else, however often that fails.
                self._write([*self._sayings, *batch])
            if asked or due or closing:
                self._sign(asked, keep=bool(asked) or closing)
            if closing:
                return

    def _behind(self) -> bool:
        return self.signed is None or self.signed.checkpoint.size != self.size or bool(self._sayings)

    def _next_batch(self) -> list[_Wanted]:
        size = count = 0
        while count < len(self._waiting) and size < MAX_BATCH:
            size += len(self._waiting[count].line) + 1
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        for one in batch:
            one.done.set_running_or_notify_cancel()  # from here on nobody can call it off
        return batch

    def _write(self, batch: list[_Wanted]) -> None:
        lines = [one.line for one in batch]
        data = b"\n".join(lines) + b"\n"
        start = self._synced + len(self._unsynced)
        try:
            if self._failed:
                self._again()
            self._tail.write(data, start)
            self._unsynced += data
            if any(one.durable for one in batch) or len(self._unsynced) > MAX_UNSYNCED:
                try:
                    self._sync()
                except OSError:
                    del self._unsynced[-len(data) :]
                    raise
        except OSError as error:
            self._fail(error)
            for one in batch[len(self._sayings) :]:
                if not one.done.cancelled():
                    one.done.set_exception(AuditUnavailableError("the audit log cannot be written"))
            return
        self._succeed()
        self._sayings = []
        first = self.size
        for line in lines:
            self._add(leaf_hash(line))
        with self.grown:
            self.size = self._range.size
            self.grown.notify_all()
        for number, one in enumerate(batch, first):
            if not one.done.cancelled():
                one.done.set_result(number)
        if self._tail.end >= self._segment:
            self._rotate()

    def _add(self, leaf: bytes) -> None:
        try:
            self.hashes.append(self._range.append(leaf))
        except OSError as error:
            # The entries are what counts; hashes are held in memory, and made anew at the next start.
            log.warning("audit hashes not written", errno=error.errno)

    def _sync(self) -> None:
        self._tail.sync()
        self._synced += len(self._unsynced)
        self._unsynced.clear()

    def _again(self) -> None:
        """After a failure: cut to what is durable, and write again what was acknowledged without being so."""
        self._tail.cut(self._synced)
        self._tail.write(bytes(self._unsynced), self._synced)

    def _fail(self, error: OSError) -> None:
        self._failed = True
        self._told(error)
        try:
            self._tail.cut(self._synced + len(self._unsynced))
        except OSError as second:
            log.warning("audit log not cut back", errno=second.errno)  # done before the next is written

    def _succeed(self) -> None:
        if self._failed:
            self._failed = False
            self._told(None)

    def _rotate(self) -> None:
        """A new segment. Everything before it is durable, hashes too: the next opening does not read it."""
        try:
            if self._unsynced:
                self._sync()
            self.hashes.sync()
            tail = Tail(self.folder, self._tail.serial + 1)
            try:
                count = self.size - self._tail_first
                self.table.add(Closed(self._tail.serial, self._tail_first, count, self._tail.end))
            except OSError:
                tail.close()
                raise
        except OSError as error:
            log.warning("audit segment goes on", errno=error.errno)  # tried again with the next batch
            return
        self._tail.close()
        self._tail, self._tail_first = tail, self.size
        self._synced = tail.end
        self._sign([], keep=True)

    def _sign(self, asked: list[Future[Signed]], *, keep: bool) -> None:
        now_s = time.monotonic()
        self._signed_s = now_s
        keep = keep or now_s - self._kept_s >= KEEP_S
        try:
            if self._failed:
                self._again()
            if self._unsynced:
                self._sync()
            self.hashes.flush()
            signed = self.signed
            if signed is None or self._behind() or keep:
                root = self._range.root()
                signed = checkpoints.sign(self.signer, self.generation, self.size, root, self._clock_ns())
                known = self.signed is not None and signed.checkpoint == self.signed.checkpoint
                if not (known and self._kept_size == self.size):
                    self.checkpoints.put(signed, keep=keep)
                if keep:
                    self._kept_s, self._kept_size = now_s, self.size
                self.signed = signed
        except OSError as error:
            self._fail(error)
            for one in asked:
                one.set_exception(AuditUnavailableError("the audit log cannot be written"))
            return
        self._succeed()
        for one in asked:
            one.set_result(signed)


def root_at(log_: Log, size: int) -> bytes:
    """Root hash of an earlier size; TreeSizeError."""
    return root_of(size, log_.hashes.get)
