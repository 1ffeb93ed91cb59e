"""One UDP socket of the asyncio shell."""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol, cast

from appliance.media.sip.flow import Flow, Listener, Transport

LARGEST_DATAGRAM = 65_507
UNSENT = (
    4 * 1024 * 1024
)  # octets that the kernel has not taken yet: more is dropped, retransmission is the remedy


class DatagramOwner(Protocol):
    """Who gets what comes."""

    def received(self, data: bytes, flow: Flow) -> None: ...
    def datagram_failed(self) -> None: ...


class DatagramSocket(asyncio.DatagramProtocol):
    """Takes and sends datagrams at one address."""

    def __init__(self, owner: DatagramOwner, listener: Listener, ipv6: bool) -> None:
        self.listener = listener
        self.family = socket.AF_INET6 if ipv6 else socket.AF_INET
        self._local = (listener.host, listener.port)
        self._owner = owner
        self._wire: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("asyncio.DatagramTransport", transport)
        if hasattr(transport, "max_size"):
            transport.max_size = (
                65_536  # asyncio allocates so much for each datagram; its own default is 256 KiB
            )

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._owner.received(data, Flow(Transport.UDP, self._local, (addr[0], addr[1])))

    def error_received(self, exc: Exception) -> None:
        self._owner.datagram_failed()

    def send(self, data: bytes, address: tuple[str, int]) -> bool:
        """Hand a datagram to the kernel. False where it cannot take it."""
        if self._wire is None or len(data) > LARGEST_DATAGRAM:
            return False
        if cast("asyncio.WriteTransport", self._wire).get_write_buffer_size() > UNSENT:
            return False
        self._wire.sendto(data, address)
        return True

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
