"""How a process of the box begins, says that it is ready, serves its Unix socket, and is told to stop."""

from __future__ import annotations

import argparse
import gc
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog

from appliance.config.layout import Layout
from appliance.config.settings import Settings
from appliance.model import EarwitnessError, InvalidError
from appliance.process import logs, notify
from appliance.process.interceptors import AioErrorInterceptor, ErrorInterceptor
from appliance.process.rpc import OPTIONS, Register, target
from appliance.process.status import AioProcessServicer, ProcessServicer, Status
from earwitness.internal.v1 import process_pb2_grpc

LIFELINE = "EARWITNESS_LIFELINE_FD"
STOP_DEADLINE_S = 30.0
THREADS = 8

log = structlog.get_logger()


class Child:
    """One process of the box."""

    def __init__(self, name: str, settings: Settings, worker: int = 0) -> None:
        self.name = name
        self.settings = settings
        self.worker = worker
        self.status = Status()
        self.stopping = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def layout(self) -> Layout:
        """Where things are."""
        return self.settings.layout

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Calls `callback` once, from another thread, when the process shall stop (at once where it already shall)."""
        with self._lock:
            if not self.stopping.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def stop(self, why: str) -> None:
        """Asks this process to stop. A process that does not come to its end in time is ended."""
        with self._lock:
            if self.stopping.is_set():
                return
            self.stopping.set()
            callbacks, self._callbacks = self._callbacks, []
        log.info("stopping", why=why)
        deadline = threading.Timer(STOP_DEADLINE_S, os._exit, (70,))
        deadline.daemon = True
        deadline.start()
        for callback in callbacks:
            callback()
        try:
            notify.stopping()
        except OSError as error:  # the supervisor is gone: that may be why
            log.info("nobody to tell", error=type(error).__name__)

    def ready(self, **addresses: str) -> None:
        """Tells the supervisor that this process serves; `addresses` (api, sip_udp, …) reach who started the box."""
        log.info("ready", **addresses)
        notify.ready(**{f"X_{name.upper()}": value for name, value in addresses.items()})

    def serve(self, register: Callable[[grpc.Server], None], threads: int = THREADS) -> grpc.Server:
        """Starts a synchronous gRPC server on this process's Unix socket, ProcessService included."""
        server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="rpc"),
            interceptors=[ErrorInterceptor()],
            options=OPTIONS,
        )
        process_pb2_grpc.add_ProcessServiceServicer_to_server(
            ProcessServicer(self.name, os.getpid(), self.status), server
        )
        register(server)
        self._bind(server)
        server.start()
        return server

    async def serve_aio(self, register: Register) -> grpc.aio.Server:
        """The same with grpc.aio, in the running loop."""
        server = grpc.aio.server(interceptors=[AioErrorInterceptor()], options=OPTIONS)
        process_pb2_grpc.add_ProcessServiceServicer_to_server(
            AioProcessServicer(self.name, os.getpid(), self.status), server
        )
        register(server)
        self._bind(server)
        await server.start()
        return server

    def _bind(self, server: Any) -> None:
        path = self.layout.socket(self.name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(
            missing_ok=True
        )  # left by a process that was killed; the lock on the data directory is ours
        server.add_insecure_port(target(self.layout, self.name))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="A process of the box; started by `earwitness serve` or by systemd."
    )
    parser.add_argument("--settings", type=Path, required=True, help="settings of the box, JSON")
    parser.add_argument("--worker", type=int, default=0, help="which capture worker")
    return parser.parse_args(argv)


def start(name: str, argv: list[str] | None = None, *, numbered: bool = False) -> Child:
    """Begins a process: arguments, logs, signals, lifeline. `numbered`: the name gets the worker's number."""
    # What is imported lives for ever: to look through it again and again stops every thread for up to a tenth of a second.
    gc.freeze()
    # Keys, passphrases and speech are in the memory of these processes: no dump of it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    arguments = _arguments(argv)
    settings = Settings.model_validate_json(arguments.settings.read_bytes())
    child = Child(f"{name}-{arguments.worker}" if numbered else name, settings, arguments.worker)
    logs.configure(child.name, settings.log_level)
    # Libraries start threads at import, so a mask would come too late for them: the signals' numbers go into a pipe,
    # whichever thread they reach, and a thread of its own reads it. No handler runs in the middle of other code.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _noted)
    threading.Thread(target=_await_signal, args=(child, reading), name="signals", daemon=True).start()
    if fd := os.environ.pop(LIFELINE, ""):
        os.set_inheritable(int(fd), False)
        threading.Thread(target=_await_orphan, args=(child, int(fd)), name="lifeline", daemon=True).start()
    return child


def _noted(number: int, frame: object) -> None:
    """Python wants a handler; the pipe says it all."""


def _await_signal(child: Child, reading: int) -> None:
    while True:
        for number in os.read(reading, 64):
            if number in (signal.SIGTERM, signal.SIGINT):
                child.stop(signal.Signals(number).name)


def _await_orphan(child: Child, fd: int) -> None:
    while os.read(fd, 1):
        pass
    child.stop("supervisor gone")


def run(main: Callable[[], None]) -> None:
    """Runs a process's main function; an error of the house is told to the supervisor, not thrown at the terminal."""
    try:
        main()
    except EarwitnessError as error:
        log.error("cannot go on", reason=error.reason, message=error.message)
        notify.failed(error.reason, error.message.replace("\n", " "))
        sys.exit(78 if isinstance(error, InvalidError) else 1)
    except Exception as error:  # noqa: BLE001 - it ends the process
        # Threads that wait for a loop that is gone would keep the process for ever; its supervisor starts it anew.
        try:
            log.exception("fault", error=type(error).__name__)
            sys.stderr.flush()
        finally:
            os._exit(70)
