"""The ports of the public API: one for client certificates, and one for tokens where the site wants it.

gRPC's C core could ask for a client certificate without requiring one, but its Python API gives no way to it; so there are
two ports on one server.
"""

from __future__ import annotations

from typing import Final

import grpc
import grpc.aio

from appliance.config.layout import Layout
from appliance.config.settings import ApiSettings
from appliance.model import UnavailableError

MAX_REQUEST: Final = 1 << 20  # bytes; the largest are a line with its agents, and a part of an upload
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_REQUEST),
    ("grpc.max_concurrent_streams", 200),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),
)


class PortTakenError(UnavailableError):
    """The address of the API cannot be listened on."""

    reason = "API_ADDRESS_UNAVAILABLE"


class Certificates:
    """The server's certificate, read again after a renewal, for new connections."""

    def __init__(self, layout: Layout) -> None:
        self._folder = layout.pki
        self._read: tuple[bytes, bytes, bytes] = (b"", b"", b"")
        self.reload()

    def reload(self) -> None:
        self._read = tuple(
            (self._folder / name).read_bytes() for name in ("server.key", "server.crt", "ca.crt")
        )  # type: ignore[assignment]

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        key, certificate, authority = self._read
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authority)

    def bare_configuration(self) -> grpc.ServerCertificateConfiguration:
        key, certificate, _ = self._read
        return grpc.ssl_server_certificate_configuration([(key, certificate)])

    def credentials(self) -> grpc.ServerCredentials:
        """For clients with a certificate of this box's authority."""
        return grpc.dynamic_ssl_server_credentials(
            self.configuration(), self.configuration, require_client_authentication=True
        )

    def bare_credentials(self) -> grpc.ServerCredentials:
        """For clients that show no certificate: they bring a token with each call."""
        return grpc.dynamic_ssl_server_credentials(
            self.bare_configuration(), self.bare_configuration, require_client_authentication=False
        )


def listen(server: grpc.aio.Server, api: ApiSettings, certificates: Certificates) -> tuple[int, int | None]:
    """The port for certificates, and the one for tokens where there is one; PortTakenError."""
    port = _listen(server, api.address, api.port, certificates.credentials(), "api.port")
    if api.token_port < 0:
        return port, None
    return port, _listen(
        server, api.address, api.token_port, certificates.bare_credentials(), "api.token_port"
    )


def _listen(
    server: grpc.aio.Server, address: str, port: int, credentials: grpc.ServerCredentials, key: str
) -> int:
    host = f"[{address}]" if ":" in address else address
    try:
        return int(server.add_secure_port(f"{host}:{port}", credentials))
    except RuntimeError as error:
        raise PortTakenError(
            f"{address}:{port} (api.address, {key}) cannot be listened on: is it taken?", port=port
        ) from error
