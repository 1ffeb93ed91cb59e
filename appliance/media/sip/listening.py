"""Binding the sockets we listen on."""

from __future__ import annotations

import ipaddress
import socket
import ssl

from appliance.media.sip.flow import Listener, Transport
from appliance.model import InvalidError

BACKLOG = 256


class ListenError(InvalidError):
    """An address that cannot be listened on; `data['field']` says why."""

    reason = "SIP_LISTEN"


def bind(
    transport: Transport, host: str, port: int, advertised: str | None, tls: ssl.SSLContext | None
) -> tuple[socket.socket, Listener]:
    """A bound, non-blocking socket, and how it is told to peers. Raises `ListenError` and `OSError`."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ListenError("listening needs a numeric address", field="host") from None
    if address.is_unspecified and advertised is None:
        raise ListenError("a wildcard address needs an advertised host", field="advertised")
    if (transport is Transport.TLS) != (tls is not None):
        raise ListenError("TLS, and TLS alone, needs a certificate", field="tls")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM if transport is Transport.UDP else socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if transport is not Transport.UDP:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        if transport is not Transport.UDP:
            sock.listen(BACKLOG)
        return sock, Listener(transport, advertised or host, sock.getsockname()[1])
    except BaseException:
        sock.close()
        raise
