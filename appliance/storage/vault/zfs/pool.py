"""The state of a pool, from a file of the kernel that can be read while the pool is suspended."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from appliance.storage.vault.errors import StoreSuspendedError, StoreUnavailableError

KSTAT: Final = Path("/proc/spl/kstat/zfs")
MISSING: Final = "MISSING"
SUSPENDED: Final = "SUSPENDED"


class Pool:
    """One pool by name."""

    def __init__(self, name: str, kstat: Path = KSTAT) -> None:
        self.name = name
        self._state = kstat / name / "state"

    def state(self) -> str:
        """ONLINE, DEGRADED, FAULTED, SUSPENDED and the like; MISSING where it is not imported. Never waits for it."""
        try:
            return self._state.read_text().strip().upper()
        except OSError:
            return MISSING

    def refuse_hopeless(self) -> None:
        """StoreSuspendedError, StoreUnavailableError where it is plain that nothing can be done now."""
        state = self.state()
        if state == SUSPENDED:
            raise StoreSuspendedError(
                "the pool has stopped all input and output until its disks are back", errno=11
            )
        if state == MISSING:
            raise StoreUnavailableError("the pool is not there", errno=6)
