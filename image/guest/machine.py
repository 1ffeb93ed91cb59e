"""One guest: its folder, its QEMU, and what may be done with it from outside."""

from __future__ import annotations

import json
import logging
import os
import random
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from image.commands import run as run_program
from image.commands import tail
from image.errors import GuestDied, GuestError, GuestTimeout
from image.guest import initrd, powercut
from image.guest import spec as spec_module
from image.guest.channel import Channel
from image.guest.qmp import Monitor
from image.guest.spec import Disk, Spec

BOOT_S = 120.0  # emulated, on a machine that also does other things
HELLO_S = 2.0
BOOTS = 3  # before a machine that does not come up is given up
STOP_S = 30.0
UNPLUG_S = 60.0  # until the guest has let go of a disk
PANIC = "Kernel panic - not syncing"

log = logging.getLogger("image")


class Machine:
    """Starts, resets, cuts and ends a guest. Its disks and its root overlay stay in its folder from start to start."""

    def __init__(self, folder: Path, image: Path, spec: Spec, *, outlive: bool = False) -> None:
        self.folder = folder.absolute()
        self.image = image
        self.spec = spec
        self.channel = Channel(self.folder, self.check)
        self._outlive = outlive  # whether QEMU goes on when this process ends
        self._process: subprocess.Popen[bytes] | None = None
        self._boot = ""
        self.chance = random.Random(0)
        """What a power cut takes of unflushed writes goes by it."""
        self.lost = powercut.Lost()

    @classmethod
    def open(cls, folder: Path) -> Self:
        """A guest that another process made. `GuestError` where there is none."""
        if not (folder / "guest.json").exists():
            raise GuestError(f"there is no guest in {folder}")
        said = json.loads((folder / "guest.json").read_text())
        return cls(folder, Path(said["image"]), Spec.loads(json.dumps(said["spec"])), outlive=True)

    def create(self) -> None:
        """Lays out the folder: overlay, disks, initrd."""
        self.folder.mkdir(parents=True, exist_ok=True)
        base = self.image / "root.ext4"
        run_program(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, self.folder / "root.qcow2"]
        )
        for disk in self.spec.disks:
            with open(self.folder / disk.file, "wb") as file:
                file.truncate(disk.size)
        said = {"image": str(self.image), "spec": json.loads(self.spec.dumps())}
        (self.folder / "guest.json").write_text(json.dumps(said))

    def start(self, timeout: float = BOOT_S) -> float:
        """Starts QEMU and waits for the agent; gives the seconds that took.

        An emulated kernel sometimes panics while it patches its own code at boot, before anything of ours runs: then it
        is booted again, up to BOOTS times in all.
        """
        began = time.monotonic()
        for again in range(BOOTS - 1, -1, -1):
            try:
                self._launch(timeout)
                break
            except GuestDied as error:
                if not again:
                    raise
                log.warning("the guest died before its agent answered, and is started again: %s", error)
                self.kill()
        return time.monotonic() - began

    def _launch(self, timeout: float) -> None:
        if self.pid() is not None:
            raise GuestError("the guest is already running")
        if not self.image.is_dir():
            raise GuestError(f"the guest's image is no longer in the cache: {self.image}")
        (self.folder / "initrd").write_bytes(initrd.build(self.image / "boot"))
        if self.spec.lossy:
            for disk in self.spec.disks:
                powercut.begin(self.folder / disk.file)
        self._mark_console()
        words = spec_module.command(self.spec, self.image / "vmlinux")
        if not self._outlive:
            # A test run that is killed must not leave an emulator behind.
            words = ["setpriv", "--pdeathsig", "KILL", "--", *words]
        with open(self.folder / "qemu.log", "ab") as said:
            self._process = subprocess.Popen(
                words,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        (self.folder / "qemu.pid").write_text(str(self._process.pid))
        self._await_agent(timeout)

    def reset(self, timeout: float = BOOT_S) -> None:
        """Presses the reset button: nothing is written any more; the guest boots again."""
        before = self._boot or self._hello()["boot"]
        with self.monitor() as monitor:
            self._mark_console()
            monitor.command("system_reset")
        try:
            self._await_agent(timeout, other_than=before)
        except GuestDied as error:  # as in `start`
            log.warning("the guest died before its agent answered, and is started again: %s", error)
            self.kill()
            self.start(timeout)

    def kill(self) -> None:
        """Cuts the power; `start` boots it again. What the guest had sent to its disks is there, and nothing else.

        Of a lossy one's, what it had flushed, and some of the rest; `lost` adds up what went.
        """
        if self.pid() is None:
            return
        self._signal(signal.SIGKILL)
        self._await_end(STOP_S)
        if self.spec.lossy:
            for disk in self.spec.disks:
                self.lost += powercut.cut(self.folder / disk.file, self.chance)

    def stop(self, timeout: float = STOP_S) -> None:
        """Powers off in good order; cuts the power where that takes too long."""
        if self.pid() is None:
            return
        try:
            self.channel.ask("off", 1.0)
        except GuestTimeout:
            pass  # it does not answer when it obeys
        except GuestDied:
            log.warning("the guest was dead already")
        try:
            self._await_end(timeout)
        except GuestTimeout:
            log.warning("the guest does not power off: killed")
            self.kill()

    def remove(self) -> None:
        """Forgets a guest that does not run: its disks, its overlay, its logs."""
        if self.pid() is not None:
            raise GuestError("the guest is still running")
        shutil.rmtree(self.folder)

    def unplug(self, disk: Disk) -> None:
        """Pulls a disk out; what is on it stays."""
        with self.monitor() as monitor:
            name = f"disk-{disk.name}"
            monitor.command("device_del", id=name)
            monitor.wait_event("DEVICE_DELETED", UNPLUG_S, device=name)

    def plug(self, disk: Disk) -> None:
        """Puts a disk back that was unplugged. The guest finds it a moment later."""
        with self.monitor() as monitor:
            monitor.command("device_add", **spec_module.device(self.spec, disk))

    def monitor(self) -> Monitor:
        """QEMU's monitor."""
        self.check()
        return Monitor(self.folder)

    # -- what is going on

    def pid(self) -> int | None:
        """QEMU's process, or None where it does not run."""
        if self._process is not None and self._process.poll() is not None:
            return None
        try:
            pid = int((self.folder / "qemu.pid").read_text())
            # Its working directory tells it from a stranger that got the number later.
            return pid if Path(os.readlink(f"/proc/{pid}/cwd")) == self.folder else None
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None

    def console(self) -> str:
        """What the guest wrote to its console since it was last started or reset."""
        with open(self.folder / "console.log", "rb") as file:
            file.seek(int((self.folder / "console.from").read_text()))
            return file.read().decode(errors="replace").replace("\r", "")

    def check(self) -> None:
        """`GuestDied` where the kernel panicked or QEMU ended."""
        if PANIC in self.console():
            raise GuestDied(f"the guest's kernel panicked\n{tail(self.console())}")
        if self.pid() is None:
            said = (self.folder / "qemu.log").read_text(errors="replace")
            raise GuestDied(f"the guest's machine has ended\n{tail(said)}\n{tail(self.console())}")

    def alive(self) -> bool:
        """Whether it runs and has not panicked."""
        try:
            self.check()
        except GuestDied:
            return False
        return True

    def describe(self, message: str) -> str:
        """A message with the console's tail."""
        return f"{message}\nconsole:\n{tail(self.console())}"

    def _mark_console(self) -> None:
        console = self.folder / "console.log"
        console.touch()
        (self.folder / "console.from").write_text(str(console.stat().st_size))

    def _await_agent(self, timeout: float, other_than: str = "") -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                hello = self._hello()
            except GuestTimeout as error:
                if time.monotonic() > deadline:
                    raise GuestTimeout(self.describe(f"no agent after {timeout:.0f} s")) from error
                time.sleep(0.1)
                continue
            if hello["boot"] != other_than:
                self._boot = hello["boot"]
                return

    def _hello(self) -> dict[str, Any]:
        return self.channel.ask("hello", HELLO_S)

    def _signal(self, number: int) -> None:
        pid = self.pid()
        if pid is not None:
            os.kill(pid, number)

    def _await_end(self, timeout: float) -> None:
        pid = self.pid()
        if pid is None:
            return
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if not select.select([handle], [], [], timeout)[0]:
                raise GuestTimeout(self.describe(f"the guest does not end in {timeout:.0f} s"))
        finally:
            os.close(handle)
        if self._process is not None:
            self._process.wait(timeout)
