"""The real processes: signaling and capture as they are started on the box, over UDP and TLS, through kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from signaling_kit import (
    LINE,
    MULTIPART,
    TENANT,
    Src,
    a_house,
    described,
    make_settings,
    sdp,
    usual,
    write_table,
)

from appliance.access import certificates
from appliance.config.settings import MediaSettings, Settings, SipSettings
from appliance.media.sip.flow import Transport
from appliance.media.sip.sdp import MediaDirection
from appliance.process import datadir
from appliance.storage.keystore import hpke, publish_deposit_key


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(met: Callable[[], Any], seconds: float = 30) -> Any:
    """For what only the file system tells."""
    deadline = time.monotonic() + seconds
    while not (value := met()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return value


class Process:
    """One program of the box, and what it tells the supervisor."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._folder = tempfile.TemporaryDirectory(prefix="ew-")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._path = Path(self._folder.name, "notify")
        self._notify.bind(str(self._path))
        self.values: dict[str, str] = {}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end
        self._told = threading.Event()
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()
        self.process: subprocess.Popen[bytes] | None = None

    def _hear(self) -> None:
        while True:
            message, fds, _, _ = socket.recv_fds(self._notify, 4096, 16)
            for fd in fds:
                os.close(fd)
            if message == b"end":
                return
            values = dict(line.split("=", 1) for line in message.decode().splitlines())
            if "READY" in values or "X_REASON" in values:
                self.values = values
                self._told.set()

    def start(self) -> None:
        """Returns when it says that it is ready."""
        self._told.clear()
        environment = dict(os.environ, NOTIFY_SOCKET=str(self._path))
        self.process = subprocess.Popen(self._command, env=environment, stderr=self._log)
        until(lambda: self._told.is_set() or (self.process and self.process.poll() is not None), 60)
        assert self._told.is_set(), self.said()
        assert self.values.get("READY") == "1", self.values

    def said(self) -> bytes:
        """The last of its log."""
        self._log.seek(0)
        return self._log.read()[-3000:]

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(40)

    def close(self) -> None:
        if self.process is not None:
            self.end(signal.SIGKILL)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", str(self._path))
        self._hearing.join(10)
        self._notify.close()
        self._log.close()
        self._folder.cleanup()


def test_call_through_the_death_of_both_processes(tmp_path: Path) -> None:
    settings = Settings(
        data=tmp_path / "data",
        sip=SipSettings(
            udp_port=free_port(socket.SOCK_DGRAM), tcp_port=free_port(socket.SOCK_STREAM), tls_port=-1
        ),
        media=MediaSettings(workers=1, cool_down_s=0.1),
    )
    layout = settings.layout
    datadir.prepare(layout)
    publish_deposit_key(layout.deposit_key, hpke.public_key(hpke.new_private_key()))
    tenant = TENANT.model_copy(update={"public_key": hpke.public_key(hpke.new_private_key())})
    write_table(settings, LINE, tenants=(tenant,))
    site = tmp_path / "settings.json"
    site.write_text(settings.model_dump_json())
    capture = Process("appliance.media.capture", "--settings", str(site), "--worker", "0")
    signaling = Process("appliance.media.signaling", "--settings", str(site))
    spool = layout.spool_recordings

    async def run() -> None:
        src = await Src(Transport.UDP, ("127.0.0.1", settings.sip.udp_port)).open()
        session, response = await src.invite(usual(), MULTIPART)
        assert response.status == 200
        ports = [media.port for media in described(response).media]
        assert all(port % 2 == 0 and port >= settings.media.port_min for port in ports)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as voice:
            for number in range(20):
                header = bytes([0x80, 0, 0, number]) + (160 * number).to_bytes(4, "big") + b"\0\0\0\7"
                voice.sendto(header + b"\xd5" * 160, ("127.0.0.1", ports[0]))
        await asyncio.to_thread(until, lambda: list(spool.glob("*.part")))

        # Signaling dies: the dialog lives on.
        signaling.end(signal.SIGKILL)
        await asyncio.to_thread(signaling.start)
        held = await src.change(session, "INVITE", sdp("1 inactive", "2 inactive"), "application/sdp")
        assert held.status == 200 and [media.port for media in described(held).media] == ports
        back = await src.change(session, "INVITE", sdp("1", "2"), "application/sdp")
        assert described(back).direction_of(described(back).media[0]) is MediaDirection.RECVONLY

        # Capture dies: a second part, on the same ports.
        [first] = spool.glob("*.part")
        capture.end(signal.SIGKILL)
        await asyncio.to_thread(capture.start)
        await asyncio.to_thread(until, lambda: set(spool.glob("*.part")) - {first})
        again = await src.change(session, "INVITE", sdp("1", "2"), "application/sdp")
        assert [media.port for media in described(again).media] == ports

        await src.bye(session)
        await asyncio.to_thread(until, lambda: list(spool.glob("*.sealed")))

        # A call that is up when the box is stopped ends in good order.
        session, response = await src.invite(usual("c2Vzc2lvbi0y"), MULTIPART)
        assert response.status == 200
        stopping = asyncio.create_task(asyncio.to_thread(signaling.end, signal.SIGTERM))
        await src.byed(session)
        assert await stopping == 0
        await asyncio.to_thread(until, lambda: len(list(spool.glob("*.sealed"))) == 2)
        await src.close()

    try:
        capture.start()
        signaling.start()
        assert signaling.values["X_SIP_UDP"] == f"127.0.0.1:{settings.sip.udp_port}"
        asyncio.run(run())
        assert capture.end(signal.SIGTERM) == 0
    finally:
        signaling.close()
        capture.close()


def test_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        settings = make_settings(tmp_path / "data").model_copy(
            update={"sip": SipSettings(udp_port=port, tcp_port=0, tls_port=-1)}
        )
        datadir.prepare(settings.layout)
        write_table(settings, LINE)
        site = tmp_path / "settings.json"
        site.write_text(json.dumps(json.loads(settings.model_dump_json())))
        done = subprocess.run(
            [sys.executable, "-m", "appliance.media.signaling", "--settings", str(site)],
            capture_output=True,
            timeout=60,
        )
    assert done.returncode == 1 and b"SIP_PORT_UNUSABLE" in done.stderr and str(port).encode() in done.stderr


# -- TLS -------------------------------------------------------------------------------------------------------------


def tls_settings(root: Path) -> tuple[Settings, Any]:
    settings = make_settings(root)
    settings = settings.model_copy(update={"sip": SipSettings(udp_port=0, tcp_port=0, tls_port=0)})
    pki = settings.layout.pki
    pki.mkdir(parents=True)
    now = datetime.now(UTC)
    authority = certificates.make_authority("test", now)
    server = certificates.make_server(authority, "127.0.0.1", ["127.0.0.1", "localhost"], now)
    (pki / "ca.crt").write_bytes(authority.certificate_pem)
    (pki / "sip.crt").write_bytes(server.certificate_pem)
    (pki / "sip.key").write_bytes(server.key_pem)
    return settings, authority


def client_context(settings: Settings, pair: Any = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(settings.layout.pki / "ca.crt"))
    if pair is not None:
        with tempfile.NamedTemporaryFile("wb") as file:
            file.write(pair.key_pem + pair.certificate_pem)
            file.flush()
            context.load_cert_chain(file.name)
    return context


@pytest.mark.parametrize("named", [False, True])
def test_tls_and_the_name_in_the_certificate(tmp_path: Path, named: bool) -> None:
    settings, authority = tls_settings(tmp_path)
    trunk = LINE.model_copy(update={"numbers": (), "trunks": ("sbc.example",)})
    pair = (
        certificates.make_server(authority, "sbc.example", ["sbc.example"], datetime.now(UTC))
        if named
        else None
    )

    async def run() -> None:
        async with a_house(tmp_path, trunk, settings=settings) as house:
            src = await house.src(Transport.TLS, client_context(settings, pair))
            session, response = await src.invite(usual(), MULTIPART)
            assert response.status == 200
            assert bool(house.capture.history) is named
            assert (described(response).media[0].port != 9) is named
            await src.bye(session)
            await src.close()

    asyncio.run(run())


def test_readiness_waits_for_table_and_certificate(tmp_path: Path) -> None:
    from appliance.media.signaling.service import Signaling
    from appliance.process.child import Child

    settings, _ = tls_settings(tmp_path)
    certificate = settings.layout.pki / "sip.crt"
    certificate.unlink()

    async def run() -> None:
        signaling = Signaling(Child("signaling", settings), list_interval_s=0.05, farewell_s=0.1)
        conditions = signaling.child.status.conditions
        starting = asyncio.create_task(signaling.start())
        while [one.type for one in conditions()] != ["RoutingTableMissing"]:
            await asyncio.sleep(0.01)
        write_table(settings, LINE)
        while [one.type for one in conditions()] != ["SipCertificateMissing"]:
            await asyncio.sleep(0.01)
        assert not signaling.listeners
        signaling.stop()
        assert await starting is False
        await signaling.close()

    asyncio.run(asyncio.wait_for(run(), 30))
