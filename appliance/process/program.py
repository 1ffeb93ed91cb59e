"""One supervised process: how it is started, what it has said, when it is to be started again."""

from __future__ import annotations

import enum
import os
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from appliance.config.settings import Settings
from appliance.process.fdstore import FdStore
from appliance.process.spawn import spawn

BACKOFF_S = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
STEADY_S = 10.0  # up for so long: the next restart is at once again


class State(enum.Enum):
    """Where a process is."""

    DOWN = "down"
    STARTING = "starting"
    READY = "ready"


@dataclass(frozen=True)
class End:
    """How a process ended."""

    pid: int
    kind: str
    words: str


@dataclass
class Program:
    """A process of the box and what the supervisor knows of it."""

    name: str
    arguments: tuple[str, ...]  # for python, such as ("-m", "appliance.storage")
    stop_stage: int  # lower ones are stopped first
    keeps_sockets: bool = False
    needed: bool = True  # the box does not come up without it
    state: State = State.DOWN
    pid: int = 0
    pidfd: int = -1
    restarts: int = 0
    restart_at: float = 0.0
    complaint: str = ""
    store: FdStore = field(default_factory=FdStore)
    log: Path | None = None
    _failures: int = 0
    _started: float = 0.0

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self.state is not State.DOWN

    def start(self, *, settings: Path, log: Path, notify: Path, lifeline: int) -> None:
        """Starts it; OSError where the system cannot. What a crash left in the store is given to it again."""
        self.log = log
        self.complaint = ""
        pid = spawn(
            [*self.arguments, "--settings", str(settings)],
            log=log,
            notify=notify,
            lifeline=lifeline,
            store=self.store,
            environment=dict(os.environ),
        )
        try:
            self.pidfd = os.pidfd_open(pid)
        except OSError:  # nobody would hear of its end
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self.pid = pid
        self.state = State.STARTING
        self._started = time.monotonic()

    def heard(self, values: dict[str, str], fds: list[int]) -> dict[str, str] | None:
        """Takes in one message of sd_notify; gives the addresses it named when it said that it is ready."""
        name = values.get("FDNAME", "")
        if values.get("FDSTORE") == "1" and name and self.keeps_sockets:
            self.store.add(name, fds)
            fds = []
        for fd in fds:
            os.close(fd)
        if values.get("FDSTOREREMOVE") == "1":
            self.store.remove(name)
        if "X_MESSAGE" in values:
            self.complaint = f"{values['X_MESSAGE']} [{values.get('X_REASON', '')}]"
        if values.get("READY") == "1":
            self.state = State.READY
            return {key[2:].lower(): value for key, value in values.items() if key.startswith("X_")}
        return None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal where it runs."""
        if self.running:
            signal.pidfd_send_signal(self.pidfd, number)

    def reap(self) -> End:
        """Takes the end of the process in."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        pid, self.pid, self.pidfd, self.state = self.pid, 0, -1, State.DOWN
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return End(pid, "killed", f"ended by {signal.Signals(-code).name}")
        return End(pid, "exited", self.complaint or f"ended with exit code {code}")

    def schedule(self, *, was_ready: bool) -> None:
        """Decides when it is started again: at once after a steady life, later and later in a crash loop."""
        steady = was_ready and time.monotonic() - self._started > STEADY_S
        self._failures = 0 if steady else self._failures + 1
        self.restart_at = time.monotonic() + BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        self.restarts += 1

    def last_words(self, lines: int = 3) -> str:
        """The end of its log."""
        if self.log is None or not self.log.exists():
            return "(nothing)"
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 4096))
            tail = file.read().decode("utf-8", "replace").strip().splitlines()
        return " | ".join(tail[-lines:]) or "(nothing)"

    def trim_log(self, limit: int) -> bool:
        """Keeps the log and one older one. The process appends, so that the file may be cut under it.

        False where the disk had no room for the older one: the log is cut all the same. OSError where it cannot be cut.
        """
        if self.log is None or not self.log.exists() or self.log.stat().st_size <= limit:
            return True
        older = self.log.with_suffix(".log.1")
        kept = True
        try:
            shutil.copyfile(self.log, older)
        except OSError:
            kept = False
            older.unlink(missing_ok=True)
        os.truncate(self.log, 0)
        return kept


def programs(settings: Settings) -> list[Program]:
    """The processes of a box. Signaling stops first (it ends the calls), the vault after capture (it files them).

    Recording waits for no other: what is filed and asked later can wait for a vault or a control that starts slowly.
    """
    capture = [
        Program(
            f"capture-{worker}",
            ("-m", "appliance.media.capture", "--worker", str(worker)),
            stop_stage=1,
            keeps_sockets=True,
        )
        for worker in range(settings.media.worker_count)
    ]
    return [
        Program("vault", ("-m", "appliance.storage"), stop_stage=3, needed=False),
        Program("control", ("-m", "appliance.api"), stop_stage=2, needed=False),
        *capture,
        Program("signaling", ("-m", "appliance.media.signaling"), stop_stage=0),
    ]
