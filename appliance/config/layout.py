"""Where things are in a data directory. One place says it; every process asks here."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

_SOCKET_PATH_MAX = 100  # sun_path holds 108 bytes, the longest name of ours is capture-99.sock


@dataclass(frozen=True)
class Layout:
    """The data directory of one box."""

    root: Path

    @property
    def lock(self) -> Path:
        """Locked (flock) by the one supervisor that runs on this directory."""
        return self.root / "lock"

    @property
    def run(self) -> Path:
        """Unix sockets. Moves to the temporary directory where the path would be too long for a socket."""
        run = self.root / "run"
        if len(os.fsencode(run.absolute())) + len("/capture-99.sock") <= _SOCKET_PATH_MAX:
            return run
        digest = hashlib.sha256(os.fsencode(run.absolute())).hexdigest()[:16]
        return Path(tempfile.gettempdir(), f"earwitness-{os.getuid()}-{digest}")

    def socket(self, process: str) -> Path:
        """The Unix socket of a process: vault, control, signaling, capture-0."""
        return self.run / f"{process}.sock"

    @property
    def incidents(self) -> Path:
        """What happened to processes, one JSON object a line, appended by the supervisor."""
        return self.root / "state" / "incidents.jsonl"

    @property
    def routing(self) -> Path:
        """Tenants, lines and public keys, for signaling. Written by control, atomically."""
        return self.root / "state" / "routing.json"

    @property
    def prompts(self) -> Path:
        """Prompts, a folder each, named by its id: `prompt.json`, and one file for each codec it is rendered in,
        `<ENCODING>-<clock rate>-<channels>.packets`: one RTP payload of 20 ms after the other, each behind its length
        (16 bits, big-endian). Written by control, whole (renamed into place), never changed; read by capture."""
        return self.root / "prompts"

    @property
    def deposit_key(self) -> Path:
        """The vault's public deposit key, for capture. Written by the vault, atomically."""
        return self.root / "state" / "deposit.pub"

    @property
    def pki(self) -> Path:
        """Own certificate authority, server and client certificates."""
        return self.root / "pki"

    @property
    def keystores(self) -> tuple[Path, Path]:
        """The keystore's two copies."""
        return (self.root / "keystore" / "a", self.root / "keystore" / "b")

    @property
    def vault(self) -> Path:
        """Buckets and journal of the vault."""
        return self.root / "vault"

    @property
    def mounts(self) -> Path:
        """Where datasets are mounted, by store: `vault`, `restoring`, a replica's name."""
        return self.root / "mounts"

    @property
    def spool_keys(self) -> Path:
        """Key deposits from capture to the vault: `<anything>.deposit`."""
        return self.root / "spool" / "keys"

    @property
    def spool_recordings(self) -> Path:
        """Sealed files being written (`<id>.part`, held by flock) and done (`<id>.sealed`)."""
        return self.root / "spool" / "recordings"

    @property
    def control(self) -> Path:
        """Catalogue and settings of control."""
        return self.root / "control"

    @property
    def capture(self) -> Path:
        """Small state of the capture workers that outlives a crash, such as SRTP rollover counters."""
        return self.root / "run-state" / "capture"
