"""Work in a running guest: commands, files, the checkout."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from image.commands import tail
from image.errors import GuestDied, GuestError, GuestTimeout
from image.guest import checkout
from image.guest.machine import BOOT_S, Machine
from image.guest.root import CHECKOUT

ASK_S = 30.0  # for the agent's answer; it never does anything slow itself
POLL_S = 0.25  # how long the agent may think about a job before others get their turn
PIECE = 384 * 1024  # of a file in one request
SYNC_S = 120.0

Output = Callable[[bytes, bytes], None]


@dataclass(frozen=True)
class Result:
    """How a command ended: its exit code (negative: the signal), standard output and standard error."""

    argv: tuple[str, ...]
    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the last line break."""
        return self.out.decode(errors="replace").rstrip("\n")

    def describe(self) -> str:
        """For an error message."""
        said = tail((self.out + self.err).decode(errors="replace"))
        return f"{' '.join(self.argv)} ended with {self.code}\n{said}"


class Job:
    """A command that runs in the guest, and goes on while nobody asks for it."""

    def __init__(self, guest: Guest, name: str, argv: Sequence[str]) -> None:
        self.guest = guest
        self.name = name
        self.argv = tuple(argv)
        self.out = b""
        self.err = b""

    def poll(self, wait: float = 0.0) -> int | None:
        """Takes what it wrote meanwhile; gives its exit code, or None where it still runs after `wait` seconds."""
        said = self.guest.channel.ask(
            "poll", ASK_S, job=self.name, out=len(self.out), err=len(self.err), wait=wait
        )
        self.out += base64.b64decode(said["out"])
        self.err += base64.b64decode(said["err"])
        code: int | None = said["code"]
        return code

    def wait(self, timeout: float, output: Output | None = None) -> Result:
        """Its result. `GuestTimeout` where it still runs after `timeout` seconds.

        However this ends, the command is over then, with everything that it started, unless the guest is dead.
        """
        deadline = time.monotonic() + timeout
        code = None
        try:
            while code is None:
                had_out, had_err = len(self.out), len(self.err)
                code = self.poll(POLL_S)
                if output is not None and (len(self.out), len(self.err)) != (had_out, had_err):
                    output(self.out[had_out:], self.err[had_err:])
                if code is None and time.monotonic() > deadline:
                    raise GuestTimeout(self._late(timeout))
        finally:
            if self.guest.alive():
                self.guest.channel.ask("forget", ASK_S, job=self.name)
        return Result(self.argv, code, self.out, self.err)

    def _late(self, timeout: float) -> str:
        said = tail((self.out + self.err).decode(errors="replace"))
        message = f"{' '.join(self.argv)}: still running after {timeout:.0f} s\n{said}"
        return self.guest.describe(message)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signals the command and everything that it started."""
        self.guest.channel.ask("kill", ASK_S, job=self.name, signal=int(number))


class Guest(Machine):
    """A guest with the checkout in it."""

    def start(self, timeout: float = BOOT_S) -> float:
        """As a machine's; the disks are there, too."""
        began = time.monotonic()
        super().start(timeout)
        self.settle()
        return time.monotonic() - began

    def reset(self, timeout: float = BOOT_S) -> None:
        """As a machine's; the disks are there, too."""
        super().reset(timeout)
        self.settle()

    def begin(
        self,
        argv: Sequence[str],
        *,
        cwd: str = CHECKOUT,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
    ) -> Job:
        """Starts a command; programs of the project's environment are on its path."""
        name = self._stage(stdin) if stdin else None
        try:
            said = self.channel.ask("start", ASK_S, argv=list(argv), cwd=cwd, env=dict(env or {}), stdin=name)
        finally:
            if name is not None:
                self.channel.ask("unstage", ASK_S, name=name)
        return Job(self, said["job"], argv)

    def run(
        self,
        argv: Sequence[str],
        timeout: float = 60.0,
        *,
        check: bool = True,
        cwd: str = CHECKOUT,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        output: Output | None = None,
    ) -> Result:
        """Runs a command to its end. `GuestError` where it ends with another code than 0 and `check` is set."""
        result = self.begin(argv, cwd=cwd, env=env, stdin=stdin).wait(timeout, output)
        if check and result.code:
            raise GuestError(result.describe())
        return result

    def put(self, data: bytes, target: str, mode: int = 0o644, timeout: float = 60.0) -> None:
        """Writes a file in the guest, with its directories."""
        name = self._stage(data)
        try:
            source = f"/run/earwitness/stage/{name}"
            self.run(["install", "-D", "-m", f"{mode:o}", source, target], timeout, cwd="/")
        finally:
            self.channel.ask("unstage", ASK_S, name=name)

    def get(self, source: str, timeout: float = 60.0) -> bytes:
        """Reads a file of the guest."""
        return self.run(["cat", "--", source], timeout, cwd="/").out

    def settle(self, timeout: float = 30.0) -> None:
        """Waits until ZFS is loaded and udev has named every disk; not for a disk that is unplugged."""
        self.run(["modprobe", "zfs"], timeout, cwd="/")
        devices = [disk.device for disk in self.spec.disks]
        if devices:
            self.run(["udevadm", "wait", f"--timeout={timeout:.0f}", *devices], timeout + 5, cwd="/")
        self.run(["udevadm", "settle", f"--timeout={timeout:.0f}"], timeout + 5, cwd="/")  # partitions, too

    def sync(self, root: Path) -> int:
        """Brings the checkout in the guest up to date with the one on this machine; gives how many files it sent."""
        wanted = checkout.files(root)
        known = self.run(["cat", checkout.MANIFEST], check=False, cwd="/").out
        change = checkout.difference(root, wanted, checkout.parse(known))
        if not change.send and not change.drop:
            return 0
        archive = self._stage(checkout.archive(root, change.send))
        try:
            self.run(
                ["sh", "-ec", checkout.UNPACK, "unpack", f"/run/earwitness/stage/{archive}", CHECKOUT],
                SYNC_S, cwd="/", stdin="".join(f"{name}\0" for name in change.drop).encode() or None,
            )  # fmt: skip
        finally:
            self.channel.ask("unstage", ASK_S, name=archive)
        # Last: a guest that is cut before has the old list, and gets the files again.
        self.put(checkout.render(wanted), checkout.MANIFEST)
        return len(change.send)

    def close(self) -> None:
        """Ends the guest, however it is, and forgets it."""
        try:
            self.stop()
        except GuestDied:
            self.kill()
        self.remove()

    def _stage(self, data: bytes) -> str:
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        for offset in range(0, max(len(data), 1), PIECE):
            piece = base64.b64encode(data[offset : offset + PIECE]).decode()
            self.channel.ask("stage", ASK_S, name=name, data=piece, first=offset == 0)
        return name
