"""A collector of syslog over TLS, with certificates of its own, that can be made to fail."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# RFC 5424 section 6, as far as these messages use it.
MESSAGE = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([!-~]+) earwitness - ([!-~]{1,32})"
    rb' \[audit@32473((?: [a-z]+="(?:[^"\\\]]|\\["\\\]])*")*)\] (.*)',
    re.DOTALL,
)


@dataclass(frozen=True)
class Got:
    priority: int
    kind: str
    data: dict[str, str]
    message: bytes


def authority(folder: Path, name: str = "ca") -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        _builder(subject, subject, key)
        .add_extension(x509.BasicConstraints(True, 0), True)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return made, key


def issue(
    folder: Path, name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]
) -> tuple[Path, Path]:
    """Certificate and key of a host or client."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        _builder(subject, issuer[0].subject, private)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .sign(issuer[1], hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


class Collector:
    """Takes messages. `deaf`: its system takes bytes, and it never reads them. `patience`: reads so many messages of a
    connection, and then breaks it off."""

    def __init__(self, certificate: tuple[Path, Path], clients: Path | None = None, port: int = 0) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*map(str, certificate))
        if clients is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(str(clients))
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.got: list[Got] = []
        self.connections = 0
        self.deaf = False
        self.patience: int | None = None
        self.changed = threading.Condition()
        self._open: list[ssl.SSLSocket] = []
        self._stopped = False
        self._threads = [threading.Thread(target=self._run, daemon=True)]
        self._threads[0].start()

    def entries(self) -> list[int]:
        """Numbers of entries in the order in which they came."""
        with self.changed:
            return [int(one.data["index"]) for one in self.got if one.kind != "checkpoint"]

    def wait(self, condition, seconds: float = 20.0) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, seconds), f"{len(self.got)} messages"

    def close(self) -> None:
        self._stopped = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # who waits in accept keeps it open else
        self._listener.close()
        self.break_off()
        for one in self._threads:
            one.join(5)

    def break_off(self) -> None:
        """Every connection is reset: what was not read is lost."""
        for one in list(self._open):
            try:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is gone already

    def _run(self) -> None:
        while not self._stopped:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            one = threading.Thread(target=self._serve, args=(plain,), daemon=True)
            self._threads.append(one)
            one.start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            with self._context.wrap_socket(plain, server_side=True) as connection:
                self._open.append(connection)
                self._read(connection)
        except (OSError, ValueError):
            plain.close()

    def _read(self, connection: ssl.SSLSocket) -> None:
        held, taken = b"", 0
        while not self._stopped:
            if self.deaf:
                threading.Event().wait(0.02)
                continue
            some = connection.recv(1 << 16)
            if not some:
                return
            held += some
            while (space := held.find(b" ")) > 0 and len(held) > space + int(held[:space]):
                size = int(held[:space])
                frame, held = held[space + 1 : space + 1 + size], held[space + 1 + size :]
                self._take(frame)
                taken += 1
                if self.patience is not None and taken >= self.patience:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return

    def _take(self, frame: bytes) -> None:
        found = MESSAGE.fullmatch(frame)
        assert found, frame
        pairs = re.findall(rb' ([a-z]+)="((?:[^"\\\]]|\\.)*)"', found[5])
        data = {name.decode(): re.sub(r"\\(.)", r"\1", value.decode()) for name, value in pairs}
        with self.changed:
            self.got.append(Got(int(found[1]), found[4].decode(), data, found[6]))
            self.changed.notify_all()
