"""The process: what a capture worker is made of, from start to stop."""

from __future__ import annotations

import fcntl
import gc
import os
import queue
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import structlog

from appliance.media.capture.clock import StepClock
from appliance.media.capture.deposits import SpoolDeposits
from appliance.media.capture.disk import Disk, PartFile
from appliance.media.capture.loop import CaptureLoop
from appliance.media.capture.monitors import MAX_OF_WORKER
from appliance.media.capture.prompts import PromptShelf, warm
from appliance.media.capture.recorder import Recorder
from appliance.media.capture.service import CaptureServicer
from appliance.media.rtp.ports import PortPool
from appliance.media.rtp.rollover import RolloverStore
from appliance.process import child, notify
from earwitness.internal.v1 import capture_pb2_grpc

PRIORITY = -11
"""As audio servers ask for; the lowest is -20."""

log = structlog.get_logger()


class Keeper:
    """Tells the supervisor of sockets, in order and in a thread of its own: the loop waits for nobody."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def store(self, name: str, sock: socket.socket) -> None:
        """Hands a socket over. A copy of it, since the socket itself may be closed before its turn comes."""
        fd = os.dup(sock.fileno())

        def send() -> None:
            try:
                notify.store_fds(name, [fd])
            finally:
                os.close(fd)

        self._queue.put(send)

    def remove(self, name: str) -> None:
        self._queue.put(lambda: notify.remove_fds(name))

    def stop(self) -> None:
        """Ends the thread after what was asked of it."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (send := self._queue.get()) is not None:
            try:
                send()
            except OSError as error:
                # Without the store a crash of this worker ends its calls' recordings early; the calls go on.
                log.warning("the supervisor takes no sockets", error=type(error).__name__)


def _stored_sockets() -> dict[str, socket.socket]:
    return {name: socket.socket(fileno=fds[0]) for name, fds in notify.stored_fds().items() if fds}


def _sweep(folder: Path, age_s: float = 60.0) -> None:
    """Removes files that a crash left before they had their name: nothing was in them, and nobody holds them."""
    for path in folder.glob("*.new"):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - os.fstat(file.fileno()).st_mtime > age_s:
                    path.unlink()
        except (BlockingIOError, FileNotFoundError):
            continue  # another worker's, just being made


def _ask_for_priority() -> None:
    """Bridged calls wait for nobody else on the machine. Where that is not permitted, the unit has to say it (`Nice=`)."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    except PermissionError:
        log.info("no scheduling priority: relayed media may be late while the machine is busy")


def main() -> None:
    """Runs until told to stop."""
    process = child.start("capture", numbered=True)
    # A thousand recordings make no cycles worth a search each commit.
    gc.set_threshold(50_000, 20, 50)
    # What is relayed waits for no other thread of this process longer than this.
    sys.setswitchinterval(0.0005)
    _ask_for_priority()
    warm()
    settings, layout = process.settings, process.layout
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for folder in (layout.spool_recordings, layout.spool_keys, layout.capture):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(folder)

    keeper = Keeper()
    first, last = settings.media.worker_ports(process.worker)
    pool = PortPool(
        first,
        last,
        int(settings.media.cool_down_s * 1e9),
        opened=keeper.store,
        closing=keeper.remove,
    )
    pool.adopt(_stored_sockets())
    clock = StepClock()
    recorder = Recorder(
        pool=pool,
        clock=clock,
        part_file=lambda name: PartFile(layout.spool_recordings, name),
        rollovers=RolloverStore(layout.capture / f"rollover-{process.worker}.bin"),
    )
    disk = Disk(
        layout.spool_recordings,
        SpoolDeposits(layout.spool_keys, layout.deposit_key),
        lambda cycle: loop.finished(cycle),
    )
    loop = CaptureLoop(
        recorder,
        disk.submit,
        process.status,
        clock,
        release_stored=lambda: pool.release_stored(clock.monotonic()),
    )
    disk.start()

    def register(server: grpc.Server) -> None:
        capture_pb2_grpc.add_CaptureServiceServicer_to_server(
            CaptureServicer(loop, recorder, PromptShelf(layout.prompts)), server
        )

    server = process.serve(register, threads=16 + MAX_OF_WORKER)
    process.on_stop(loop.stop)
    process.ready()
    loop.run()
    recorder.feed.close()
    server.stop(grace=5).wait()
    disk.stop()
    recorder.shut()
    keeper.stop()
    log.info("stopped")
