"""What the vault process does: rounds over spool and keystore, and its service. A Unix socket is all it talks to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

import grpc
import structlog

from appliance.config.settings import Settings
from appliance.model import EarwitnessError
from appliance.process import child
from appliance.process.status import WARNING
from appliance.storage.vault.assembly import Assembly
from appliance.storage.vault.attendanceservice import TenantKeysServicer
from appliance.storage.vault.calendar import Calendar
from appliance.storage.vault.openstore import open_slots, open_store
from appliance.storage.vault.retentionservice import RetentionServicer
from appliance.storage.vault.service import VaultServicer
from appliance.storage.vault.sidecarservice import SidecarServicer
from appliance.storage.vault.watch import Watchman
from earwitness.internal.v1 import retention_pb2_grpc, sidecars_pb2_grpc, tenantkeys_pb2_grpc, vault_pb2_grpc

POLL_S = 0.25
LOOK_EVERY_S = 5.0
JOIN_S = 10.0
THREADS = 24  # a watcher keeps one for as long as it watches

log = structlog.get_logger()


def upkeep(parts: Assembly, watchman: Watchman, stopping: threading.Event) -> None:
    """What takes its time, in a thread of its own so that filing does not wait for it.

    Completes what was begun before; compares buckets, journal and keystore at the start and nightly; the nightly retention
    run; locks buckets that are quiet; looks through the keystore's copies.
    """
    calendar = Calendar(parts)
    while not stopping.is_set():
        calendar.look()
        watchman.scrub()
        stopping.wait(LOOK_EVERY_S)


def rounds(parts: Assembly, watchman: Watchman, stopping: threading.Event) -> None:
    """Deposits and recordings out of the spool, and deleted ones out of their buckets, until told to stop."""
    looked = -LOOK_EVERY_S
    while not stopping.is_set():
        parts.attendance.poll()
        parts.intake.poll()
        parts.filer.poll()
        _park(parts)
        if time.monotonic() - looked >= LOOK_EVERY_S:
            watchman.look()
            looked = time.monotonic()
        stopping.wait(POLL_S)


def _park(parts: Assembly) -> None:
    try:
        parts.parker.poll()
    except (EarwitnessError, OSError) as error:
        log.error("deleted recordings not parked, tried again", error=type(error).__name__)
        parts.vault.status.raise_condition(
            "ParkingFailed", WARNING, "Deleted recordings still lie in their buckets. Look at the store."
        )
    else:
        parts.vault.status.clear_condition("ParkingFailed")


class Follower(Protocol):
    """Who keeps copies elsewhere up to date, in a thread of its own."""

    def run(self) -> None:
        """Until `stop`."""

    def stop(self) -> None:
        """Ends `run` soon."""

    def close(self) -> None:
        """Lets go of what it has; `run` has ended."""


Register = Callable[[grpc.Server], None]


def main(follow: Callable[[Assembly, Settings], tuple[Follower, Register]]) -> None:
    """Runs until told to stop. `follow`: makes who keeps copies elsewhere up to date, and what puts its service on ours."""
    process = child.start("vault")
    parts = Assembly.open(
        process.layout,
        process.status,
        store=open_store(process.settings),
        slots=open_slots(process.settings),
    )
    vault = parts.vault
    follower, offer = follow(parts, process.settings)
    watchman = Watchman(vault, time.monotonic)
    stopping = threading.Event()

    def register(server: grpc.Server) -> None:
        vault_pb2_grpc.add_VaultServiceServicer_to_server(VaultServicer(parts, stopping), server)
        sidecars_pb2_grpc.add_SidecarServiceServicer_to_server(SidecarServicer(vault), server)
        tenantkeys_pb2_grpc.add_TenantKeysServiceServicer_to_server(TenantKeysServicer(parts), server)
        retention_pb2_grpc.add_RetentionServiceServicer_to_server(RetentionServicer(parts), server)
        offer(server)

    def stop() -> None:
        stopping.set()
        vault.holdings.wake()
        follower.stop()

    server = process.serve(register, threads=THREADS)
    process.on_stop(stop)
    process.ready()

    def keep(name: str, what: Callable[[], None]) -> None:
        try:
            what()
        finally:
            if not stopping.is_set():
                process.stop(f"{name} has failed")

    keeping = [
        threading.Thread(target=keep, args=(name, what), name=name, daemon=True)
        for name, what in (
            ("upkeep", lambda: upkeep(parts, watchman, stopping)),
            ("replication", follower.run),
        )
    ]
    for thread in keeping:
        thread.start()
    try:
        rounds(parts, watchman, stopping)
    finally:
        # Whatever happened: those who watch must be let go, or their threads would keep a dead process.
        stop()
        server.stop(grace=5).wait()
        for thread in keeping:
            thread.join(JOIN_S)
        follower.close()
        parts.close()
    log.info("stopped")
