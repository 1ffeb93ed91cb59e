"""The asyncio shell: UDP, TCP and TLS sockets around a `SipEndpoint`, and the loop's clock.

    transports = SipTransports(endpoint, on_event)
    await transports.listen(Transport.UDP, "127.0.0.1")          # port 0: any; the result tells which
    with transports.acting() as now:                             # act on the endpoint, then send what comes of it
        endpoint.invite(..., now=now)
    await transports.close()

`on_event` is called in the loop's thread for each event, in order; it may act on the endpoint with `transports.now()`.
What it raises goes to the loop's exception handler, and the next event still comes.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from appliance.media.sip.connections import DEFAULT_TRANSPORT_LIMITS, StreamConnection, TransportLimits
from appliance.media.sip.datagrams import DatagramSocket
from appliance.media.sip.endpoint import SipEndpoint
from appliance.media.sip.events import Event
from appliance.media.sip.flow import Flow, Listener, Target, Transmit, Transport
from appliance.media.sip.framing import FramingError
from appliance.media.sip.listening import ListenError, bind
from appliance.media.sip.uri import is_numeric

QUEUED = 1000  # messages that wait for one connection to be set up
ACCEPT_PAUSE = 0.1  # seconds, when the process is out of file descriptors
Peer = tuple[Transport, str, int]

__all__ = ["ListenError", "SipTransports"]


class SipTransports:
    """Sockets for one endpoint. Make it, and use it, in a running loop."""

    def __init__(
        self,
        endpoint: SipEndpoint,
        on_event: Callable[[Event], None],
        *,
        limits: TransportLimits = DEFAULT_TRANSPORT_LIMITS,
        tls_client: ssl.SSLContext | Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.limits = limits
        self.counted: Counter[str] = Counter()
        self._on_event = on_event
        self._tls_client = tls_client
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._listeners: list[Listener] = []
        self._udp: list[DatagramSocket] = []
        self._servers: list[socket.socket] = []
        self._connections: dict[int, StreamConnection] = {}
        self._by_peer: dict[Peer, StreamConnection] = {}
        self._connecting: dict[Peer, list[Transmit]] = {}
        self._accepted: Counter[str] = Counter()  # by host, handshakes included
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    # -- for the application -------------------------------------------------------------------------------------

    @property
    def listeners(self) -> tuple[Listener, ...]:
        return tuple(self._listeners)

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def counters(self) -> Mapping[str, int]:
        """What was refused or lost at the sockets, by name."""
        return MappingProxyType(self.counted)

    def now(self) -> float:
        return self._loop.time()

    @contextmanager
    def acting(self) -> Iterator[float]:
        """Act on the endpoint, then pump."""
        try:
            yield self.now()
        finally:
            self.pump()

    async def listen(
        self,
        transport: Transport,
        host: str,
        port: int = 0,
        *,
        advertised: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Listener:
        """Bind a numeric address. `advertised` is the host told to peers, needed for a wildcard; `tls` for TLS.

        Raises `ListenError` (no TLS context, no numeric host, a wildcard without `advertised`) and `OSError`.
        """
        sock, listener = bind(transport, host, port, advertised, tls)
        if transport is Transport.UDP:
            datagrams = DatagramSocket(self, listener, sock.family == socket.AF_INET6)
            await self._loop.create_datagram_endpoint(lambda: datagrams, sock=sock)
            self._udp.append(datagrams)
        self._listeners.append(listener)
        self.endpoint.set_listeners(self._listeners)
        if transport is not Transport.UDP:
            self._servers.append(sock)
            self._spawn(self._accept(sock, listener, tls))
        return listener

    def pump(self) -> None:
        """Hand out events, send what is to be sent, set the clock. Needed after acting on the endpoint."""
        if self._pumping or self._closed:
            return
        self._pumping = True
        try:
            busy = True
            while busy:
                busy = False
                for event in self.endpoint.events():
                    busy = True
                    try:
                        self._on_event(event)
                    except Exception as error:  # noqa: BLE001 - one bad event must not stop the others
                        self._loop.call_exception_handler(
                            {"message": f"handling {type(event).__name__}", "exception": error}
                        )
                for transmit in self.endpoint.transmits():
                    busy = True
                    self._send(transmit)
        finally:
            self._pumping = False
        self._set_timer()

    async def close(self, grace: float = 2.0) -> None:
        """Stop: no new connections, what is written goes out within `grace` seconds, then all sockets are closed."""
        if self._closed:
            return
        self.pump()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            server.close()
        for datagrams in self._udp:
            datagrams.close()
        for connection in tuple(self._connections.values()):
            connection.close()
        try:
            await asyncio.wait_for(self._empty.wait(), grace)
        except TimeoutError:
            for connection in tuple(self._connections.values()):
                connection.abort()
            await self._empty.wait()

    # -- what the sockets tell -----------------------------------------------------------------------------------

    def received(self, data: bytes, flow: Flow) -> None:
        if not self._closed:
            self.endpoint.receive(data, flow, self.now())
            self.pump()

    def datagram_failed(self) -> None:
        self.counted["datagrams_failed"] += 1  # retransmission is the remedy

    def damaged(self, error: FramingError, flow: Flow) -> None:
        self.counted["streams_damaged"] += 1
        self.endpoint.refuse_malformed(error, flow)
        self.pump()

    def opened(self, connection: StreamConnection) -> None:
        self._connections[connection.number] = connection
        self._by_peer[(connection.flow.transport, *connection.flow.remote)] = connection
        self._empty.clear()

    def closed(self, connection: StreamConnection) -> None:
        self._connections.pop(connection.number, None)
        peer = (connection.flow.transport, *connection.flow.remote)
        if self._by_peer.get(peer) is connection:
            del self._by_peer[peer]
        for name in [name for name, other in self._by_peer.items() if other is connection]:
            del self._by_peer[name]  # the name it was connected by
        if not self._connections:
            self._empty.set()
        if not self._closed:
            self.endpoint.connection_closed(connection.number, self.now(), keys=connection.expecting)
            self.pump()

    # -- sending -------------------------------------------------------------------------------------------------

    def _send(self, transmit: Transmit) -> None:
        target = transmit.target
        if target.transport is Transport.UDP:
            self._send_datagram(transmit)
            return
        connection = self._connections.get(target.connection) if target.connection is not None else None
        if connection is not None and connection.send(transmit):
            return
        peer = (target.transport, target.host, target.port)
        connection = self._by_peer.get(peer)
        if connection is not None and connection.send(transmit):
            return
        waiting = self._connecting.get(peer)
        if waiting is not None and len(waiting) < QUEUED:
            waiting.append(transmit)
        elif waiting is not None or not target.port or len(self._connections) >= self.limits.connections:
            self._failed(transmit)
        else:
            self._connecting[peer] = [transmit]
            self._spawn(self._connect(peer))

    def _failed(self, transmit: Transmit) -> None:
        self.counted["messages_not_sent"] += 1
        if transmit.key:
            # Not from within: the endpoint is in the middle of telling what to send.
            self._loop.call_soon(self._tell_failed, transmit.key)

    def _tell_failed(self, key: str) -> None:
        if not self._closed:
            self.endpoint.transmit_failed(key, self.now())
            self.pump()

    def _send_datagram(self, transmit: Transmit) -> None:
        if is_numeric(transmit.target.host):
            self._send_to(transmit, transmit.target.host)
        else:
            self._spawn(self._resolve_and_send(transmit))

    def _send_to(self, transmit: Transmit, host: str) -> None:
        datagrams = self._udp_socket(transmit.target, host)
        if datagrams is None or not datagrams.send(transmit.data, (host, transmit.target.port)):
            self._failed(transmit)

    def _udp_socket(self, target: Target, host: str) -> DatagramSocket | None:
        """The socket the target names, else one of its family."""
        for datagrams in self._udp:
            if target.local == (datagrams.listener.host, datagrams.listener.port):
                return datagrams
        wanted = socket.AF_INET6 if ":" in host else socket.AF_INET
        return next((datagrams for datagrams in self._udp if datagrams.family == wanted), None)

    async def _resolve_and_send(self, transmit: Transmit) -> None:
        try:
            found = await self._loop.getaddrinfo(
                transmit.target.host, transmit.target.port, type=socket.SOCK_DGRAM
            )
        except (OSError, ValueError):  # the latter for names that are none
            self._failed(transmit)
            return
        for *_, address in found:
            if self._udp_socket(transmit.target, str(address[0])) is not None:
                self._send_to(transmit, str(address[0]))
                return
        self._failed(transmit)

    # -- connections ---------------------------------------------------------------------------------------------

    def _local(self, transport: Transport) -> tuple[str, int]:
        """What a peer is told of where we are, on a connection of ours."""
        for listener in self._listeners:
            if listener.transport is transport:
                return (listener.host, listener.port)
        return ("", 0)

    async def _connect(self, peer: Peer) -> None:
        transport, host, port = peer
        context = None
        connection = StreamConnection(self, next(self._numbers), transport, self._local(transport))
        connected = False
        try:
            if transport is Transport.TLS:
                chosen = self._tls_client or ssl.create_default_context
                context = chosen if isinstance(chosen, ssl.SSLContext) else chosen()
            async with asyncio.timeout(self.limits.connect):
                await self._loop.create_connection(
                    lambda: connection, host, port, ssl=context, server_hostname=host if context else None
                )
            self._by_peer[peer] = connection
            connected = True
        except (OSError, ValueError, TimeoutError):  # ValueError for names that are none
            self.counted["connections_failed"] += 1
        finally:
            # Whatever went wrong: what waited is told, and the next message tries anew.
            for transmit in self._connecting.pop(peer, ()):
                if not connected or not connection.send(transmit):
                    self._failed(transmit)

    async def _accept(self, server: socket.socket, listener: Listener, tls: ssl.SSLContext | None) -> None:
        while True:
            try:
                sock, address = await self._loop.sock_accept(server)
            except OSError:
                # Out of descriptors, or the peer has gone already: the listener itself must live on.
                self.counted["accepts_failed"] += 1
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            host = address[0]
            if self._accepted[host] >= self.limits.connections_per_host or not self._room():
                self.counted["connections_refused"] += 1
                sock.close()
                continue
            self._accepted[host] += 1
            self._spawn(self._serve(sock, host, listener, tls))

    def _room(self) -> bool:
        """Whether one more may connect: the one idle for longest gives way, if it has been idle for a while."""
        if sum(self._accepted.values()) < self.limits.connections:
            return True
        idlest = min(self._connections.values(), key=lambda connection: connection.last_active, default=None)
        if idlest is None or self.now() - idlest.last_active < self.limits.first_message:
            return False
        idlest.abort()
        self.counted["connections_dropped"] += 1
        return True

    async def _serve(
        self, sock: socket.socket, host: str, listener: Listener, tls: ssl.SSLContext | None
    ) -> None:
        """Hold the place of an accepted connection from the handshake to its end."""
        local = (listener.host, listener.port)
        connection = _Accepted(self, next(self._numbers), listener.transport, local)
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=tls,
                ssl_handshake_timeout=self.limits.handshake if tls else None,
            )
            await connection.gone.wait()
        except OSError:  # the handshake failed, or took too long
            self.counted["handshakes_failed"] += 1
            sock.close()
        finally:
            connection.close()
            self._accepted[host] -= 1
            if not self._accepted[host]:
                del self._accepted[host]

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "a SIP transport task failed", "exception": error})

    def _set_timer(self) -> None:
        when = self.endpoint.next_timer()
        if self._timer is not None:
            if when is not None and not self._timer.cancelled() and self._timer.when() == when:
                return
            self._timer.cancel()
            self._timer = None
        if when is not None and not self._closed:
            self._timer = self._loop.call_at(when, self._time)

    def _time(self) -> None:
        self._timer = None
        self.endpoint.handle_timeout(self.now())
        self.pump()


class _Accepted(StreamConnection):
    """A connection that a peer made."""

    must_speak = True

    def __init__(
        self, owner: SipTransports, number: int, transport: Transport, local: tuple[str, int]
    ) -> None:
        super().__init__(owner, number, transport, local)
        self.gone = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        super().connection_lost(exc)
