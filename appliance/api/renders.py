"""Rendered audio, held in anonymous memory: never plaintext on a disk. Bounded, least recently used goes first.

A download resumes on the same bytes as long as they are held; where they are not any more, the audio is rendered again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from appliance.api.errors import RenderTooLargeError

MAX_TOTAL: Final = 512 << 20  # bytes held in all, but for what is being read
MAX_ONE: Final = 1 << 30  # bytes of one rendering: about nine hours of WAV at 8 kHz
MAX_AGE_S: Final = 900.0  # nobody asked for it again: plaintext is not kept longer than that
WORKERS: Final = 2

Key = tuple[str, str]  # recording id, format
Progress = Callable[[float], None]


class Rendered:
    """Bytes in anonymous memory. Closed when it is dropped and nobody reads it any more."""

    def __init__(self, fd: int, size: int, sha256: bytes) -> None:
        self.size = size
        self.sha256 = sha256
        self.used_s = time.monotonic()
        self._fd = fd
        self._readers = 0
        self._dropped = False

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the bytes while within."""
        self._readers += 1
        self.used_s = time.monotonic()
        try:
            yield
        finally:
            self._readers -= 1
            self._close_unused()

    @property
    def dropped(self) -> bool:
        return self._dropped

    def drop(self) -> None:
        self._dropped = True
        self._close_unused()

    def _close_unused(self) -> None:
        if self._dropped and not self._readers and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class MemoryFile:
    """A file in anonymous memory to render into; RenderTooLargeError past the bound. Closes on every way out but one."""

    def __init__(self, limit: int = MAX_ONE) -> None:
        self._fd = os.memfd_create("render", os.MFD_CLOEXEC)
        self._limit = limit
        self._at = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        if self._at + len(data) > self._limit:
            raise RenderTooLargeError("the rendered audio would be too large", limit=self._limit)
        view = memoryview(data).cast("B")
        while view:
            written = os.pwrite(self._fd, view, self._at)
            self._at += written
            view = view[written:]
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: os.fstat(self._fd).st_size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        most = os.fstat(self._fd).st_size - self._at
        data = os.pread(self._fd, most if size < 0 else min(size, most), self._at) if most > 0 else b""
        self._at += len(data)
        return data

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        """Nothing waits."""

    def done(self) -> Rendered:
        """The bytes as they are now; this file must not be used after it."""
        size = os.fstat(self._fd).st_size
        digest = hashlib.sha256()
        for offset in range(0, size, 1 << 20):
            digest.update(os.pread(self._fd, 1 << 20, offset))
        fd, self._fd = self._fd, -1
        return Rendered(fd, size, digest.digest())

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@dataclass
class Job:
    """A rendering on its way; several downloads may await the same one."""

    task: asyncio.Task[Rendered]
    fraction: list[float]  # one cell, written by the worker
    waiting: int = 0
    cancelled: list[bool] = field(default_factory=lambda: [False])


class RenderCancelled(Exception):
    """Nobody waits for this rendering any more."""


class Renders:
    """Renderings held and being made. Everything but the rendering itself happens on the event loop."""

    def __init__(self, total: int = MAX_TOTAL, age_s: float = MAX_AGE_S, workers: int = WORKERS) -> None:
        self._held: OrderedDict[Key, Rendered] = OrderedDict()
        self._jobs: dict[Key, Job] = {}
        self._total = total
        self._age_s = age_s
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="render")

    def held(self, key: Key) -> Rendered | None:
        """What is rendered already."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
            found.used_s = time.monotonic()
        return found

    @contextmanager
    def job(self, key: Key, work: Callable[[MemoryFile, Progress], None]) -> Iterator[Job]:
        """The rendering under this key, begun where it was not. Ended early when nobody waits for it any more."""
        job = self._jobs.get(key)
        if job is None:
            fraction, cancelled = [0.0], [False]
            task = asyncio.create_task(self._run(key, work, fraction, cancelled))
            made = job = self._jobs[key] = Job(task, fraction, cancelled=cancelled)
            task.add_done_callback(lambda _: self._ended(key, made))
        job.waiting += 1
        try:
            yield job
        finally:
            job.waiting -= 1
            if not job.waiting and not job.task.done():
                job.cancelled[0] = True
                self._ended(key, job)
                # Its end is nobody's business any more; looked at so that asyncio does not complain.
                job.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def _ended(self, key: Key, job: Job) -> None:
        if self._jobs.get(key) is job:  # else it was called off, and another one is on its way
            del self._jobs[key]

    async def _run(
        self,
        key: Key,
        work: Callable[[MemoryFile, Progress], None],
        fraction: list[float],
        cancelled: list[bool],
    ) -> Rendered:
        def progress(done: float) -> None:
            fraction[0] = done
            if cancelled[0]:
                raise RenderCancelled

        def run() -> Rendered:
            file = MemoryFile()
            try:
                work(file, progress)
                return file.done()
            finally:
                file.close()

        rendered = await asyncio.get_running_loop().run_in_executor(self._threads, run)
        if cancelled[0]:
            rendered.drop()
            raise RenderCancelled
        self._hold(key, rendered)
        return rendered

    def _hold(self, key: Key, rendered: Rendered) -> None:
        before = self._held.pop(key, None)
        if before is not None:
            before.drop()
        self._held[key] = rendered
        while len(self._held) > 1 and sum(one.size for one in self._held.values()) > self._total:
            self._held.popitem(last=False)[1].drop()

    def recordings(self) -> list[str]:
        """Ids of the recordings that are held, or being rendered."""
        return sorted({key[0] for key in (*self._held, *self._jobs)})

    def forget(self, recording_id: str) -> None:
        """Drop every rendering of a recording: it was deleted or erased."""
        for key in [key for key in self._held if key[0] == recording_id]:
            self._held.pop(key).drop()
        for key in [key for key in self._jobs if key[0] == recording_id]:
            self._jobs.pop(key).cancelled[0] = True

    def expire(self) -> None:
        """Drop what nobody asked for in a while."""
        oldest = time.monotonic() - self._age_s
        for key in [key for key, one in self._held.items() if one.used_s < oldest]:
            self._held.pop(key).drop()

    def close(self) -> None:
        for job in self._jobs.values():
            job.cancelled[0] = True
        for rendered in self._held.values():
            rendered.drop()
        self._held.clear()
        self._threads.shutdown(wait=True)
