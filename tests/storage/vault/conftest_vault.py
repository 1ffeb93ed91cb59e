"""A vault to be tested, and a capture worker of few lines that fills its spool as the real one does."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import IO

from appliance.config.layout import Layout
from appliance.model import RecordingInfo, new_id
from appliance.process.status import Status
from appliance.storage.keystore import Depositor, load_deposit_key
from appliance.storage.sealed import SealedWriter, pack_evidence, pack_info, verify
from appliance.storage.vault.core import Vault
from appliance.storage.vault.erasure import Eraser
from appliance.storage.vault.filing import Filer
from appliance.storage.vault.holding import Holding
from appliance.storage.vault.intake import Intake
from appliance.storage.vault.reconcile import Reconciled, reconcile

CREATED_NS = 1_790_000_000_000_000_000  # 2026-09-21
SLICE = "2026-09-21"


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


class House:
    """A data directory with a vault on it; `open` it as often as it crashed."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.tenant, self.line = new_id(), new_id()
        self.depositor = Depositor()
        self.keys: dict[str, bytes] = {}
        self.clock = Clock()
        self.vault: Vault | None = None
        self.locks: list[IO[bytes]] = []

    def open(self, fault: Callable[[str], None] = lambda step: None) -> Vault:
        """As the process starts, up to reconciling."""
        self.close()
        self.status = Status()
        self.vault = Vault.open(self.layout, self.status, fault=fault)
        self.intake = Intake(self.vault, monotonic=self.clock)
        self.filer = Filer(self.vault, orphan_age_s=0, monotonic=self.clock)
        self.eraser = Eraser(self.vault, self.intake)
        self.eraser.load()
        self.public = self.vault.keystore.create_tenant(self.tenant)
        return self.vault

    def settle(self) -> Reconciled:
        """What the process does before its first round."""
        assert self.vault is not None
        self.eraser.resume()
        return reconcile(self.vault)

    def close(self) -> None:
        if self.vault is not None:
            self.vault.close()
            self.vault = None

    def let_go(self) -> None:
        """The capture workers are dead."""
        while self.locks:
            self.locks.pop().close()

    def poll(self) -> int:
        self.intake.poll()
        return self.filer.poll()

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

    def everywhere(self, name: str) -> list[Path]:
        return [path for path in self.layout.root.rglob(f"*{name}*") if path.is_file()]
