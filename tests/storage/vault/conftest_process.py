"""The vault as a process of its own, with a client and a capture worker of few lines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
from conftest_vault import House
from ground import DirectoryGround

from appliance.config.settings import Settings, VaultSettings
from appliance.process import rpc
from earwitness.internal.v1 import process_pb2, process_pb2_grpc, vault_pb2, vault_pb2_grpc

WAIT_S = 60.0 if "EARWITNESS_GUEST" not in os.environ else 240.0  # emulated


class Process:
    """`python -m appliance.storage` on a data directory."""

    def __init__(self, root: Path, vault: VaultSettings | None = None) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.house = House(root, DirectoryGround(root.parent))  # for capture's side alone
        self.layout = self.house.layout
        self._settings = root / "settings.json"
        self._settings.write_text(Settings(data=root, vault=vault or VaultSettings()).model_dump_json())
        self._process: subprocess.Popen[bytes] | None = None
        self.log = root / "vault.log"

    def start(self) -> None:
        """Returns when the process says that it is ready."""
        notify = self.layout.root / "notify.sock"
        notify.unlink(missing_ok=True)
        # Kept open for as long as the process lives, as its supervisor does.
        self._notify = listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listening.bind(str(notify))
        listening.settimeout(WAIT_S)
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "appliance.storage", "--settings", str(self._settings)],
                env=dict(os.environ, NOTIFY_SOCKET=str(notify)),
                stdout=log,
                stderr=log,
            )
        message = listening.recv(4096)
        assert b"READY=1" in message, (message, self.log.read_text())
        self.channel = rpc.channel(self.layout, "vault")
        self.stub = vault_pb2_grpc.VaultServiceStub(self.channel)
        self.house.public = self.stub.CreateTenantKey(
            vault_pb2.CreateTenantKeyRequest(tenant_id=self.house.tenant), wait_for_ready=True, timeout=WAIT_S
        ).public_key

    def end(self, how: signal.Signals) -> int:
        """Ends it; its exit code."""
        assert self._process is not None
        self.channel.close()
        self._process.send_signal(how)
        code = self._process.wait(WAIT_S)
        self._notify.close()
        self._process = None
        return code

    def stop(self) -> None:
        """Whatever state it is in."""
        if self._process is not None:
            self.end(signal.SIGKILL)

    def watch(self, after: int, count: int) -> list[vault_pb2.WatchRecordingsResponse]:
        """The next entries, waited for."""
        stream = self.stub.WatchRecordings(vault_pb2.WatchRecordingsRequest(after=after), timeout=WAIT_S)
        found = []
        for entry in stream:
            found.append(entry)
            if len(found) == count:
                stream.cancel()
                break
        return found

    def holding(self, name: str) -> vault_pb2.Holding:
        return self.stub.GetHolding(vault_pb2.GetHoldingRequest(recording_id=name), timeout=WAIT_S).holding

    def lease(self, name: str) -> bytes:
        request = vault_pb2.LeaseKeyRequest(recording_id=name, actor="test", purpose="test")
        return self.stub.LeaseKey(request, timeout=WAIT_S).data_key

    def read(self, name: str, offset: int = 0, length: int = 0) -> bytes:
        request = vault_pb2.ReadSealedRequest(recording_id=name, offset=offset, length=length)
        return b"".join(item.data for item in self.stub.ReadSealed(request, timeout=WAIT_S))

    def erase(self, *names: str, reason: str = "") -> list[vault_pb2.ErasureCertificate]:
        request = vault_pb2.EraseRecordingsRequest(recording_ids=names, reason=reason)
        return list(self.stub.EraseRecordings(request, timeout=WAIT_S).certificates)

    def status(self) -> vault_pb2.GetVaultStatusResponse:
        return self.stub.GetVaultStatus(vault_pb2.GetVaultStatusRequest(), timeout=WAIT_S)

    def process_status(self) -> process_pb2.GetProcessStatusResponse:
        return process_pb2_grpc.ProcessServiceStub(self.channel).GetProcessStatus(
            process_pb2.GetProcessStatusRequest(), timeout=WAIT_S
        )


def refused(call: object, *arguments: object) -> tuple[str, str]:
    """Status code and reason with which a call is refused."""
    try:
        call(*arguments)  # type: ignore[operator]
    except grpc.RpcError as error:
        found = rpc.from_rpc_error(error)
        return error.code().name, found.reason
    raise AssertionError("it was not refused")
