"""Tenants whose keys somebody has unlocked: their private keys, in memory alone, for a bounded time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from appliance.storage.keystore.secretmemory import Secret
from appliance.storage.keystore.tenantkeys import split_privates

MAX_UNLOCKED_S = 24 * 3600.0


def boot_clock() -> float:
    """Seconds since the machine's start, those asleep included: an unlocking does not outlast a suspended night."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class _Session:
    secret: Secret
    ends_s: float
    until_ns: int


class Unlocked:
    """Safe to use from any thread. `seconds`: a clock that nobody sets; `clock`: nanoseconds since the Unix epoch."""

    def __init__(self, clock: Callable[[], int], seconds: Callable[[], float] = boot_clock) -> None:
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._sessions: dict[bytes, _Session] = {}

    def put(self, tenant: bytes, privates: bytes, duration_s: float) -> int:
        """Unlocks from now on, or anew; until when, for show (nanoseconds since the Unix epoch)."""
        until_ns = self._clock() + int(duration_s * 1e9)
        session = _Session(Secret(privates), self._seconds() + duration_s, until_ns)
        with self._lock:
            before = self._sessions.pop(tenant, None)
            self._sessions[tenant] = session
        if before is not None:
            before.secret.wipe()
        return until_ns

    def privates(self, tenant: bytes) -> tuple[bytes, ...] | None:
        """The private keys, the present one first; None where locked, or where the time is over."""
        session = self._live(tenant)
        found = session.secret.read() if session is not None else None
        return split_privates(found) if found is not None else None

    def until_ns(self, tenant: bytes) -> int:
        """When it ends, for show; 0: locked."""
        session = self._live(tenant)
        return session.until_ns if session is not None else 0

    def _live(self, tenant: bytes) -> _Session | None:
        with self._lock:
            session = self._sessions.get(tenant)
        return session if session is not None and self._seconds() < session.ends_s else None

    def lock(self, tenant: bytes) -> bool:
        """Wipes at once; whether it was unlocked."""
        with self._lock:
            session = self._sessions.pop(tenant, None)
        if session is not None:
            session.secret.wipe()
        return session is not None

    def expire(self) -> list[bytes]:
        """Wipes what is past its time; whose it was."""
        now = self._seconds()
        with self._lock:
            over = {tenant: one for tenant, one in self._sessions.items() if now >= one.ends_s}
            for tenant in over:
                del self._sessions[tenant]
        for session in over.values():
            session.secret.wipe()
        return list(over)

    def lock_all(self) -> None:
        """Wipes everything."""
        with self._lock:
            tenants = list(self._sessions)
        for tenant in tenants:
            self.lock(tenant)
