"""The vault process: `python -m appliance.storage.vault`. A Unix socket is all it talks to."""

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
THREADS = 24  # a watcher keeps one for as long as it watches

log = structlog.get_logger()


class Rounds:
    """What the process does over and over, each part of it so that its failure stops no other."""

    def __init__(self, vault: Vault, eraser: Eraser, intake: Intake) -> None:
        self._vault = vault
        self._eraser = eraser
        self._intake = intake
        self._filer = Filer(vault)
        self._watchman = Watchman(vault, time.monotonic)
        self._looked = 0.0
        self._reconciled = False

    def once(self) -> None:
        """One round."""
        if not self._reconciled:
            self._eraser.resume()
            self._reconciled = self._reconcile()
        self._intake.poll()
        self._filer.poll()
        if time.monotonic() - self._looked >= LOOK_EVERY_S:
            self._looked = time.monotonic()
            self._eraser.resume()
            self._watchman.look()
            self._watchman.scrub()

    def _reconcile(self) -> bool:
        try:
            reconcile(self._vault)
        except (EarwitnessError, OSError) as error:
            log.error("not reconciled, tried again", error=type(error).__name__)
            self._vault.status.raise_condition(
                "NotReconciled",
                ALARM,
                "Files and journal cannot be compared. Look at the disk of the buckets.",
            )
            return False
        self._vault.status.clear_condition("NotReconciled")
        return True


def main() -> None:
    """Runs until told to stop."""
    process = child.start("vault")
    vault = Vault.open(process.layout, process.status)
    intake = Intake(vault)
    eraser = Eraser(vault, intake)
    eraser.load()
    rounds = Rounds(vault, eraser, intake)
    stopping = threading.Event()

    def register(server: grpc.Server) -> None:
        vault_pb2_grpc.add_VaultServiceServicer_to_server(VaultServicer(vault, eraser, stopping), server)

    def stop() -> None:
        stopping.set()
        vault.holdings.wake()

    server = process.serve(register, threads=THREADS)
    process.on_stop(stop)
    process.ready()
    while not stopping.is_set():
        rounds.once()
        stopping.wait(POLL_S)
    server.stop(grace=5).wait()
    vault.close()
    log.info("stopped")


if __name__ == "__main__":
    child.run(main)
