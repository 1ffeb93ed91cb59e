"""What the vault process does: rounds over spool and keystore, and its service. A Unix socket is all it talks to."""

from __future__ import annotations

import threading
import time

import grpc
import structlog

from appliance.model import EarwitnessError
from appliance.process import child
from appliance.process.status import ALARM
from appliance.storage.vault.core import Vault
from appliance.storage.vault.erasure import Eraser
from appliance.storage.vault.filing import Filer
from appliance.storage.vault.intake import Intake
from appliance.storage.vault.reconcile import reconcile
from appliance.storage.vault.service import VaultServicer
from appliance.storage.vault.watch import Watchman
from earwitness.internal.v1 import vault_pb2_grpc

POLL_S = 0.25
LOOK_EVERY_S = 5.0
JOIN_S = 10.0
THREADS = 24  # a watcher keeps one for as long as it watches

log = structlog.get_logger()


def upkeep(vault: Vault, eraser: Eraser, watchman: Watchman, stopping: threading.Event) -> None:
    """What takes its time, in a thread of its own so that filing does not wait for it.

    Completes erasures that were begun; compares files, journal and keystore once; looks through the keystore's copies.
    """
    reconciled = False
    while not stopping.is_set():
        eraser.resume()
        reconciled = reconciled or _reconcile(vault)
        watchman.scrub()
        stopping.wait(LOOK_EVERY_S)


def _reconcile(vault: Vault) -> bool:
    try:
        reconcile(vault)
    except (EarwitnessError, OSError) as error:
        log.error("not reconciled, tried again", error=type(error).__name__)
        vault.status.raise_condition(
            "NotReconciled", ALARM, "Files and journal cannot be compared. Look at the disk of the buckets."
        )
        return False
    vault.status.clear_condition("NotReconciled")
    return True


def rounds(vault: Vault, intake: Intake, watchman: Watchman, stopping: threading.Event) -> None:
    """Deposits and recordings out of the spool, until told to stop."""
    filer = Filer(vault)
    looked = -LOOK_EVERY_S
    while not stopping.is_set():
        intake.poll()
        filer.poll()
        if time.monotonic() - looked >= LOOK_EVERY_S:
            watchman.look()
            looked = time.monotonic()
        stopping.wait(POLL_S)


def main() -> None:
    """Runs until told to stop."""
    process = child.start("vault")
    vault = Vault.open(process.layout, process.status)
    intake = Intake(vault)
    eraser = Eraser(vault, intake)
    eraser.load()
    watchman = Watchman(vault, time.monotonic)
    stopping = threading.Event()

    def register(server: grpc.Server) -> None:
        vault_pb2_grpc.add_VaultServiceServicer_to_server(VaultServicer(vault, eraser, stopping), server)

    def stop() -> None:
        stopping.set()
        vault.holdings.wake()

    server = process.serve(register, threads=THREADS)
    process.on_stop(stop)
    process.ready()

    def keep() -> None:
        try:
            upkeep(vault, eraser, watchman, stopping)
        finally:
            if not stopping.is_set():
                process.stop("upkeep has failed")

    keeping = threading.Thread(target=keep, name="upkeep", daemon=True)
    keeping.start()
    try:
        rounds(vault, intake, watchman, stopping)
    finally:
        # Whatever happened: those who watch must be let go, or their threads would keep a dead process.
        stop()
        server.stop(grace=5).wait()
        keeping.join(JOIN_S)
        vault.close()
    log.info("stopped")
