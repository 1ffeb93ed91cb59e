"""The supervisor: starts the box's processes, keeps them up, keeps their sockets, and stops them in order.

Once they are up, a disk that takes nothing ends nothing: what is to be written is written when it can be.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from appliance.config.settings import Settings
from appliance.model import EarwitnessError, Kind
from appliance.process import datadir
from appliance.process.incidents import Incidents
from appliance.process.program import Program, State, programs

STOP_TIMEOUT_S = 15.0
TICK_S = 0.5
LOG_BYTES = 16 * 1024 * 1024
_UCRED = struct.Struct("3i")


class StartError(EarwitnessError):
    """A process could not start; `data['process']` names it."""

    reason = "START_FAILED"
    kind = Kind.PRECONDITION


class Supervisor:
    """One box in its embedded form."""

    def __init__(
        self, settings: Settings, announce: Callable[[str], None], children: list[Program] | None = None
    ) -> None:
        self._settings = settings
        self._layout = settings.layout
        self._announce = announce
        self._programs = programs(settings) if children is None else children
        self._incidents = Incidents(self._layout.incidents)
        self._selector = selectors.DefaultSelector()
        self._addresses: dict[str, str] = {}
        self._stopping = False
        self._ready = False
        self._unpublished = False

    def run(self) -> int:
        """Runs until SIGTERM or SIGINT; gives 0. StartError where the box does not come up."""
        datadir.prepare(self._layout)
        with datadir.locked(self._layout) as clean:
            self._incidents.trim()
            if not clean:
                self._incidents.add(
                    "box",
                    "unclean-stop",
                    "the box was not stopped cleanly before: power cut, or its supervisor was killed",
                )
            self._lifeline_read, self._lifeline_write = os.pipe()
            self._open_notify()
            previous = self._catch_signals()
            try:
                self._start_all()
                self._loop()
            finally:
                self._stop_all()
                self._restore_signals(previous)
                self._close()
        return 0

    # Start

    def _open_notify(self) -> None:
        self._notify_path = self._layout.run / "notify.sock"
        self._notify_path.unlink(missing_ok=True)
        self._notify = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._notify.bind(str(self._notify_path))
        self._notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._selector.register(self._notify, selectors.EVENT_READ, self._on_notify)

    def _catch_signals(self) -> list[object]:
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._on_wake)
        before: list[object] = [signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)]
        before += [signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)]
        return before

    def _restore_signals(self, before: list[object]) -> None:
        signal.set_wakeup_fd(before[0])  # type: ignore[arg-type]
        signal.signal(signal.SIGTERM, before[1])  # type: ignore[arg-type]
        signal.signal(signal.SIGINT, before[2])  # type: ignore[arg-type]

    def _start_all(self) -> None:
        self._write_settings()
        for program in self._programs:
            self._spawn(program)
        deadline = time.monotonic() + self._settings.start_timeout_s
        while not self._stopping and any(program.state is not State.READY for program in self._programs):
            self._turn(0.1)
            for program in self._programs:
                if program.state is State.DOWN:
                    raise self._failed(program, "ended while starting")
            if time.monotonic() > deadline:
                self._late([program for program in self._programs if program.state is not State.READY])
                break
        if self._stopping:
            return
        self._ready = True
        self._publish()
        self._announce(self._ready_line())

    def _late(self, late: list[Program]) -> None:
        """StartError where the box cannot record without one of these; else it goes on, and they come when they can."""
        words = f"is not ready after {self._settings.start_timeout_s:.0f} s"
        for program in sorted(late, key=lambda one: not one.needed):
            if program.needed:
                raise self._failed(program, words)
            self._incidents.add(
                program.name, "late", f"{words}; the box records without it meanwhile", pid=program.pid
            )

    def _failed(self, program: Program, what: str) -> StartError:
        if program.complaint:
            return StartError(f"{program.name}: {program.complaint}", process=program.name)
        words = program.last_words()
        return StartError(f"{program.name} {what}; its log says: {words}", process=program.name)

    def _ready_line(self) -> str:
        known = self._addresses
        sip = ", ".join(
            f"{known[key]} ({key[4:].upper()})" for key in ("sip_udp", "sip_tcp", "sip_tls") if key in known
        )
        return f"earwitness is ready: SIP {sip or '-'}; API {known.get('api', '-')}; data {self._layout.root}"

    def _write_settings(self) -> None:
        _replace(self._layout.run / "settings.json", self._pinned().model_dump_json(indent=1))

    def _pinned(self) -> Settings:
        """The settings with the ports that were really taken, so that a restarted process takes them again."""
        sip, api = dict[str, int](), dict[str, int]()
        for key, address in self._addresses.items():
            port = int(address.rsplit(":", 1)[1])
            if key == "api":
                api["port"] = port
            elif key == "tokens":
                api["token_port"] = port
            elif key.startswith("sip_"):
                sip[f"{key[4:]}_port"] = port
        return self._settings.model_copy(
            update={
                "sip": self._settings.sip.model_copy(update=sip),
                "api": self._settings.api.model_copy(update=api),
            }
        )

    def _publish(self) -> None:
        """What programs of this machine may want to know: addresses, process ids. Again in the next turn, where the disk
        does not take it."""
        self._unpublished = True
        try:
            self._write_settings()
            _replace(self._layout.run / "addresses.json", json.dumps(self._addresses, indent=1))
            self._write_processes()
        except OSError:
            return
        self._unpublished = False

    def _write_processes(self) -> None:
        state = {
            "pid": os.getpid(),
            "processes": [
                {
                    "name": program.name,
                    "pid": program.pid,
                    "restarts": program.restarts,
                    "state": program.state.value,
                }
                for program in self._programs
            ],
        }
        _replace(self._layout.run / "supervisor.json", json.dumps(state, indent=1))

    def _spawn(self, program: Program) -> None:
        program.start(
            settings=self._layout.run / "settings.json",
            log=datadir.log_directory(self._layout) / f"{program.name}.log",
            notify=self._notify_path,
            lifeline=self._lifeline_read,
        )
        self._selector.register(program.pidfd, selectors.EVENT_READ, lambda: self._on_exit(program))

    # While it runs

    def _loop(self) -> None:
        while not self._stopping:
            self._turn(TICK_S)
            now = time.monotonic()
            for program in self._programs:
                if program.state is State.DOWN and now >= program.restart_at and not self._stopping:
                    self._restart(program)
                self._trim(program)
            self._incidents.catch_up()
            if self._unpublished:
                self._publish()

    def _restart(self, program: Program) -> None:
        try:
            self._spawn(program)
        except OSError as error:
            self._ended(program, "not-started", f"could not be started: {error.strerror}")
        else:
            self._publish()

    def _trim(self, program: Program) -> None:
        try:
            kept = program.trim_log(LOG_BYTES)
        except OSError:
            return  # the next turn tries again
        if not kept:
            self._incidents.add(
                program.name, "log-cut", "its log was cut; there was no room for what it held"
            )

    def _turn(self, timeout: float) -> None:
        due = [
            program.restart_at - time.monotonic() for program in self._programs if program.state is State.DOWN
        ]
        wait = max(0.0, min([timeout, *due])) if self._ready and not self._stopping else timeout
        for key, _ in self._selector.select(wait):
            key.data()

    def _on_wake(self) -> None:
        if any(number in (signal.SIGTERM, signal.SIGINT) for number in self._wake_read.recv(64)):
            self._stopping = True

    def _on_notify(self) -> None:
        for _ in range(1000):
            try:
                data, ancillary, _, _ = self._notify.recvmsg(
                    65536, socket.CMSG_SPACE(4 * 253) + socket.CMSG_SPACE(_UCRED.size)
                )
            except BlockingIOError:
                return
            self._heard(data, ancillary)

    def _heard(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        fds: list[int] = []
        pid = 0
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds += [fd for (fd,) in struct.iter_unpack("i", content[: len(content) - len(content) % 4])]
            elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                pid = _UCRED.unpack(content[: _UCRED.size])[0]
        program = next((one for one in self._programs if one.pid == pid), None)
        if program is None:
            for fd in fds:
                os.close(fd)
            return
        values = dict(line.partition("=")[::2] for line in data.decode("utf-8", "replace").splitlines())
        found = program.heard(values, fds)
        if found is None:
            return
        self._addresses.update(found)
        if self._ready:
            self._publish()

    def _on_exit(self, program: Program) -> None:
        # What it said with its last breath lies in the notify socket still.
        self._on_notify()
        self._selector.unregister(program.pidfd)
        was_ready = program.state is State.READY
        end = program.reap()
        if self._stopping or not self._ready:
            return
        self._ended(program, end.kind, end.words, pid=end.pid, was_ready=was_ready)

    def _ended(
        self, program: Program, kind: str, words: str, *, pid: int = 0, was_ready: bool = False
    ) -> None:
        program.schedule(was_ready=was_ready)
        action = f"started again in {max(0.0, program.restart_at - time.monotonic()):.1f} s"
        self._incidents.add(program.name, kind, f"{words}; {action}", pid=pid, restarts=program.restarts)
        self._publish()

    # Stop

    def _stop_all(self) -> None:
        self._stopping = True
        for stage in sorted({program.stop_stage for program in self._programs}):
            members = [program for program in self._programs if program.stop_stage == stage]
            for program in members:
                program.signal(signal.SIGTERM)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while any(program.running for program in members) and time.monotonic() < deadline:
                self._turn(0.1)
            for program in members:
                if program.running:
                    self._incidents.add(program.name, "hung", "did not stop in time; killed", pid=program.pid)
                    program.signal(signal.SIGKILL)
            while any(program.running for program in members):
                self._turn(0.1)

    def _close(self) -> None:
        for program in self._programs:
            program.store.clear()
        for name in ("addresses.json", "supervisor.json", "notify.sock"):
            (self._layout.run / name).unlink(missing_ok=True)
        self._selector.close()
        for thing in (self._notify, self._wake_read, self._wake_write):
            thing.close()
        os.close(self._lifeline_read)
        os.close(self._lifeline_write)


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, "utf-8")
    fresh.replace(path)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(settings: Settings, announce: Callable[[str], None] = _say) -> int:
    """Runs the box of these settings until it is told to stop; gives the exit code."""
    return Supervisor(settings, announce).run()
