"""The control process as a program: started as the supervisor does, killed, started again, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

import earwitness
from appliance.config.settings import ApiSettings, MediaSettings, Settings
from appliance.process import rpc
from earwitness.internal.v1 import process_pb2, process_pb2_grpc
from earwitness.v1 import box_pb2


class Program:
    """`python -m appliance.api` with a NOTIFY_SOCKET."""

    def __init__(self, settings: Settings, folder) -> None:
        self.settings = settings
        self._file = folder / "settings.json"
        self._file.write_text(settings.model_dump_json())
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._notify.settimeout(40)
        self._environment = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify")}
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def start(self) -> None:
        command = [sys.executable, "-m", "appliance.api", "--settings", str(self._file)]
        self.process = subprocess.Popen(command, env=self._environment, stderr=subprocess.PIPE)
        said = self.said()
        assert said["READY"] == "1", said
        self.address = said["X_API"]

    def said(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self._notify.recv(4096).decode().splitlines())

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=40)
        return self.process.returncode

    def client(self) -> earwitness.Client:
        pki = self.settings.layout.pki
        return earwitness.connect(
            self.address, pki / "ca.crt", pki / "clients/admin.crt", pki / "clients/admin.key"
        )

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)
        self._notify.close()


@pytest.fixture
def neighbours(make_servers):
    return make_servers


def test_it_starts_serves_is_killed_and_starts_again(tmp_path, neighbours, sealing):
    settings = Settings(data=tmp_path / "box", api=ApiSettings(port=0), media=MediaSettings(workers=1))
    vault, _ = neighbours(settings.layout)
    program = Program(settings, tmp_path)
    try:
        program.start()
        with program.client() as client:
            status = client.box.GetBoxStatus(box_pb2.GetBoxStatusRequest())
            control = next(one for one in status.processes if one.process == "control")
            assert control.up and control.pid == program.process.pid
            assert {one.usage for one in status.certificates} == {"ca", "server", "sip", "admin"}
        with rpc.channel(settings.layout, "control") as channel:
            stub = process_pb2_grpc.ProcessServiceStub(channel)
            assert stub.GetProcessStatus(process_pb2.GetProcessStatusRequest()).process == "control"
        routing = settings.layout.routing.read_bytes()
        assert program.end(signal.SIGKILL) == -signal.SIGKILL
        program.start()
        with program.client() as client:
            events = earwitness.watch_events(client, from_oldest=True)
            from appliance.model.routing import RoutingTable

            table = RoutingTable.model_validate_json(routing)
            recording = sealing(table.tenants[0].tenant_id, table.lines[0].line_id)
            vault.file(recording)
            event = next(one for one in events if one.type == earwitness.EventType.EVENT_TYPE_RECORDING_FILED)
            assert event.subject.endswith(recording.info.recording_id)
            events.close()
        assert settings.layout.routing.read_bytes() == routing
        assert program.end(signal.SIGTERM) == 0
    finally:
        program.close()


def test_a_port_that_is_taken_is_said(tmp_path, neighbours):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(
            data=tmp_path / "box",
            api=ApiSettings(port=taken.getsockname()[1]),
            media=MediaSettings(workers=1),
        )
        neighbours(settings.layout)
        program = Program(settings, tmp_path)
        try:
            with pytest.raises(KeyError):  # it does not say READY
                program.start()
            assert program.process.wait(40) == 1
        finally:
            program.process.stderr.close()
            program.close()
