"""A vault to be tested, and a capture worker of few lines that fills its spool as the real one does."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ground import Ground

from appliance.config.layout import Layout
from appliance.model import RecordingInfo, new_id
from appliance.process.status import Status
from appliance.storage.keystore import Depositor, load_deposit_key
from appliance.storage.retention.clock import Reading, Witness
from appliance.storage.sealed import SealedWriter, pack_evidence, pack_info, verify
from appliance.storage.vault.assembly import Assembly
from appliance.storage.vault.core import Vault
from appliance.storage.vault.holding import Holding
from appliance.storage.vault.reconciled import Reconciled

CREATED_NS = 1_790_000_000_000_000_000  # 2026-09-21
NOW_NS = CREATED_NS + 60 * 10**9
SLICE = "2026-09"  # kept for three years, where nobody says otherwise


DAY_NS = 86_400 * 10**9


class Crash(BaseException):
    """Stands for a power cut: no handler of the code under test may catch it."""


class Faults:
    """Notes steps; crashes at the one asked for, by name or by number."""

    def __init__(self, at: str | int | None = None) -> None:
        self.at = at
        self.steps: list[str] = []

    def __call__(self, step: str) -> None:
        self.steps.append(step)
        if self.at == step or self.at == len(self.steps) - 1:
            raise Crash(step)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Clocks:
    """The machine's clocks, as a test sets them. `pass_` moves all of them; `wall_ns` alone is the wall clock jumping."""

    def __init__(self) -> None:
        self.wall_ns = NOW_NS
        self.boot_id = "first"
        self.boottime_ns = 1000 * 10**9
        self.witnessed = False

    def __call__(self) -> Reading:
        names = ("time server", "hardware clock") if self.witnessed else ()
        witnesses = tuple(Witness(name, self.wall_ns) for name in names)
        return Reading(self.wall_ns, self.boot_id, self.boottime_ns, witnesses)

    def pass_(self, ns: int) -> None:
        self.wall_ns += ns
        self.boottime_ns += ns

    def power_off(self, ns: int) -> None:
        self.wall_ns += ns
        self.boottime_ns = 10**9
        self.boot_id += "+"


class House:
    """A data directory with a vault on it; `open` it as often as it crashed."""

    def __init__(self, root: Path, ground: Ground) -> None:
        self.layout = Layout(root)
        self.ground = ground
        self.clocks = Clocks()
        self.tenant, self.line = new_id(), new_id()
        self.depositor = Depositor()
        self.keys: dict[str, bytes] = {}
        self.clock = Clock()
        self.vault: Vault | None = None
        self.locks: list[IO[bytes]] = []

    def open(self, fault: Callable[[str], None] = lambda step: None) -> Vault:
        """As the process starts, up to reconciling."""
        self.close()
        self.fault = fault
        self.status = Status()
        self.parts = Assembly.open(
            self.layout,
            self.status,
            store=self.ground.open(fault),
            fault=fault,
            clock=lambda: self.clocks.wall_ns,
            read=self.clocks,
            monotonic=self.clock,
            orphan_age_s=0,
        )
        self.vault = self.parts.vault
        self.intake, self.filer, self.eraser = self.parts.intake, self.parts.filer, self.parts.eraser
        self.public = self.vault.keystore.create_tenant(self.tenant)
        return self.vault

    def settle(self) -> Reconciled:
        """What the process does before its first round."""
        assert self.vault is not None
        return self.parts.settle()

    def close(self) -> None:
        if self.vault is not None:
            if isinstance(self.fault, Faults):
                self.fault.at = None  # what the test asked for is over: a store that is shut takes steps, too
            self.parts.close()
            self.vault = None

    def let_go(self) -> None:
        """The capture workers are dead."""
        while self.locks:
            self.locks.pop().close()

    def poll(self) -> int:
        self.intake.poll()
        filed = self.filer.poll()
        self.parts.parker.poll()
        return filed

    # Capture's side.

    def deposit(self, recording: str, key: bytes, tenant: str = "", public: bytes = b"") -> Path:
        raw = self.depositor.deposit(
            recording,
            tenant or self.tenant,
            public or self.public,
            load_deposit_key(self.layout.deposit_key),
            key,
            0,
        )
        path = self.layout.spool_keys / f"{new_id()}.deposit"
        path.write_bytes(raw)
        return path

    def record(
        self,
        *,
        frames: int = 3,
        ended: bool = True,
        deposited: bool = True,
        live: bool = False,
        tail: bytes = b"",
        created_ns: int = CREATED_NS,
        payload: bytes = b"",
    ) -> str:
        """A recording in the spool; its id. `live`: a `.part` held by its writer. Not `ended`: a `.part` that is not."""
        recording = new_id()
        key = self.keys[recording] = self.depositor.new_data_key()
        if deposited:
            self.deposit(recording, key)
        writer = SealedWriter(recording, self.tenant, self.line, created_ns, key)
        info = pack_info(
            RecordingInfo(
                recording_id=recording,
                call_id=new_id(),
                tenant_id=self.tenant,
                line_id=self.line,
                started_ns=created_ns,
            )
        )
        more = [pack_evidence("test", "application/octet-stream", created_ns, payload)] if payload else []
        raw = writer.header + b"".join(writer.frame([info, *more]) for _ in range(frames))
        if ended:
            raw += writer.end(created_ns + 1)
        path = self.layout.spool_recordings / f"{recording}{'.sealed' if ended else '.part'}"
        path.write_bytes(raw + tail)
        if live:
            file = path.open("rb")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.locks.append(file)
        return recording

    def filed(self, count: int = 1) -> list[str]:
        names = [self.record() for _ in range(count)]
        assert self.poll() == count
        return names

    # What must hold.

    def check_readable(self, name: str) -> Holding:
        """The recording opens with the key the vault gives, nothing in it differs, and this box has signed it."""
        assert self.vault is not None
        held = self.vault.readable(name)
        key = self.vault.lease(name)
        assert key == self.keys[name]
        with self.vault.read(name) as file:
            report = verify(file, self.vault.keystore.device_public_key, key)
        assert [str(item) for item in report.findings] == []
        assert report.intact and report.trusted and report.opened
        assert report.recording_id == name
        assert report.whole == held.whole
        return held

    def stored(self, name: str) -> bytes:
        """The bytes of a filed recording, as the store gives them."""
        assert self.vault is not None
        with self.vault.read(name) as file:
            return file.read()

    def everywhere(self, name: str) -> list[Path]:
        found = [path for path in self.layout.root.parent.rglob(f"*{name}*") if path.is_file()]
        return [path for path in found if "snapshots" not in path.parts]
