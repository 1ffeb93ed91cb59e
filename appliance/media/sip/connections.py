"""One TCP or TLS connection of the asyncio shell: framing, keep-alives, and the bounds a hostile peer meets."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Protocol, cast

from appliance.media.sip.flow import Flow, Transmit, Transport
from appliance.media.sip.framing import PONG, FramingError, KeepAlive, StreamFramer
from appliance.media.sip.message import DEFAULT_LIMITS, Limits

REMEMBERED = 256  # requests of ours per connection whose answer it still may bring


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """What one peer may take of us. Times are seconds."""

    connections: int = 1024
    connections_per_host: int = 256
    idle: float = 7200.0  # no message and no keep-alive for so long; session timers are well below
    first_message: float = 30.0  # from the connection to its first whole message
    message: float = 20.0  # from the first octet of a message to its last
    connect: float = 5.0  # to set up a connection of ours, TLS included
    handshake: float = 10.0  # of TLS, where the peer connects
    unread: int = 1024 * 1024  # octets that the peer leaves unread
    messages: Limits = DEFAULT_LIMITS


DEFAULT_TRANSPORT_LIMITS = TransportLimits()


class ConnectionOwner(Protocol):
    """What a connection tells of itself."""

    limits: TransportLimits

    def opened(self, connection: StreamConnection) -> None: ...
    def received(self, data: bytes, flow: Flow) -> None: ...
    def damaged(self, error: FramingError, flow: Flow) -> None: ...
    def closed(self, connection: StreamConnection) -> None: ...


class StreamConnection(asyncio.Protocol):
    """Cuts messages out of one connection. `number` is never used twice by its owner."""

    must_speak = False  # whether silence from the start closes it

    def __init__(
        self, owner: ConnectionOwner, number: int, transport: Transport, local: tuple[str, int]
    ) -> None:
        self.owner = owner
        self.number = number
        self.expecting: dict[str, None] = {}  # keys of requests that went over it, oldest first
        self.flow = Flow(transport, local, ("", 0), number)
        self._kind = transport
        self._framer = StreamFramer(owner.limits.messages)
        self._wire: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._active = 0.0

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = wire = cast("asyncio.Transport", transport)
        wire.set_write_buffer_limits(high=self.owner.limits.unread)
        host, port = wire.get_extra_info("peername")[:2]
        tls: ssl.SSLObject | None = wire.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        self.flow = Flow(self._kind, self.flow.local, (host, port), self.number, certificate)
        loop = asyncio.get_running_loop()
        self._active = loop.time()
        if self.must_speak:
            self._deadline = loop.call_later(self.owner.limits.first_message, wire.abort)
        self._idle = loop.call_later(self.owner.limits.idle, self._check_idle)
        self.owner.opened(self)

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._active = loop.time()
        whole = False
        try:
            for item in self._framer.feed(data):
                whole = True
                if isinstance(item, KeepAlive):
                    self._write(PONG)
                else:
                    self.owner.received(item, self.flow)
        except FramingError as error:
            self.owner.damaged(error, self.flow)
            self.close()
            return
        if whole:
            self._cancel(self._deadline)
            self._deadline = None
        if self._framer.pending and self._deadline is None and self._wire is not None:
            self._deadline = loop.call_later(self.owner.limits.message, self._wire.abort)

    def pause_writing(self) -> None:
        """The peer does not read what we answer: it gets no more."""
        if self._wire is not None:
            self._wire.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire = None
        self._cancel(self._deadline)
        self._cancel(self._idle)
        self.owner.closed(self)

    # -- for the owner -------------------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        return self._wire is not None and not self._wire.is_closing()

    @property
    def last_active(self) -> float:
        """Loop time of the last octets received."""
        return self._active

    def send(self, transmit: Transmit) -> bool:
        """Write a message. False when the connection is closed."""
        if not self.open:
            return False
        if transmit.expects:
            self.expecting[transmit.key] = None
            if len(self.expecting) > REMEMBERED:
                del self.expecting[next(iter(self.expecting))]
        self._write(transmit.data)
        return True

    def close(self) -> None:
        """Close when all is written."""
        if self._wire is not None:
            self._wire.close()

    def abort(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    def _write(self, data: bytes) -> None:
        if self._wire is not None and not self._wire.is_closing():
            self._wire.write(data)

    def _check_idle(self) -> None:
        loop = asyncio.get_running_loop()
        due = self._active + self.owner.limits.idle
        if loop.time() >= due:
            self.close()
        else:
            self._idle = loop.call_at(due, self._check_idle)

    @staticmethod
    def _cancel(handle: asyncio.TimerHandle | None) -> None:
        if handle is not None:
            handle.cancel()
