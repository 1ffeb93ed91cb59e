"""UDP port pairs of one worker: an even port for RTP, the next for RTCP (RFC 3550 section 11).

A pair that is given back cools down: its sockets stay bound, so that a straggler of one call lands in
nobody's file, and nobody else on the machine can take the port. What arrives meanwhile is thrown away. Only a call that
asked for its port by number, since it went on after a crash, may take the cooling pair back.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from appliance.media.rtp.receive import prepare_socket
from appliance.model import ExhaustedError, PreconditionError, UnavailableError


class PortsExhaustedError(ExhaustedError):
    """Every port pair of this worker is in use, cooling down, or taken by another program."""

    reason = "PORTS_EXHAUSTED"


class PortTakenError(PreconditionError):
    """The port that was asked for is not free; `data['port']` says which."""

    reason = "PORT_TAKEN"


class AddressError(UnavailableError):
    """The media address cannot be bound on this machine."""

    reason = "MEDIA_ADDRESS_UNUSABLE"


@dataclass(slots=True)
class PortPair:
    """The sockets of one track. Without `rtcp` the RTCP comes to the RTP port (rtcp-mux)."""

    address: str
    port: int
    rtp: socket.socket
    rtcp: socket.socket | None = None
    asked: bool = False
    """Taken by its number: by a call whose port it was before."""

    @property
    def rtcp_port(self) -> int:
        return self.port if self.rtcp is None else self.port + 1

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        return (self.rtp,) if self.rtcp is None else (self.rtp, self.rtcp)

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


class PortPool:
    """Pairs of the half-open range `first` to `last`. Times are nanoseconds of any clock that never goes back.

    `opened` and `closing` are told of each socket by name (`rtp-16384`, `rtcp-16385`), for whoever keeps
    sockets over a crash.
    """

    def __init__(
        self,
        first: int,
        last: int,
        cool_down_ns: int,
        *,
        receive_buffer: int = 256 * 1024,
        opened: Callable[[str, socket.socket], None] = lambda name, sock: None,
        closing: Callable[[str], None] = lambda name: None,
    ) -> None:
        if first % 2 or last - first < 2:
            raise ValueError("a range of ports begins with an even one and holds a pair")
        self._first = first
        self._pairs = (last - first) // 2
        self._next = 0
        self._cool_down_ns = cool_down_ns
        self._receive_buffer = receive_buffer
        self._opened = opened
        self._closing = closing
        self._used: set[int] = set()
        self._cooling: deque[tuple[int, PortPair]] = deque()
        self._stored: dict[int, PortPair] = {}

    @property
    def free(self) -> int:
        """Pairs neither in use nor cooling down."""
        return self._pairs - len(self._used)

    @property
    def cooling(self) -> list[PortPair]:
        """Pairs that cool down: drain them to nowhere."""
        return [pair for _, pair in self._cooling]

    @property
    def stored(self) -> list[int]:
        """RTP ports of sockets that outlived a crash and have not been taken up again."""
        return list(self._stored)

    def adopt(self, sockets: dict[str, socket.socket]) -> None:
        """Takes over sockets kept by the supervisor, by name. Those with other names, or out of range, are closed."""
        ports: dict[int, dict[str, socket.socket]] = {}
        for name, sock in sockets.items():
            kind, _, number = name.partition("-")
            port = sock.getsockname()[1] if number.isdigit() else -1
            in_range = self._first <= port < self._first + 2 * self._pairs
            if kind not in ("rtp", "rtcp") or port != int(number or -1) or not in_range:
                self._closing(name)
                sock.close()
                continue
            prepare_socket(sock, self._receive_buffer)
            ports.setdefault(port & ~1, {})[kind] = sock
        for port, found in ports.items():
            rtp = found.get("rtp")
            if rtp is None:
                self._closing(f"rtcp-{port + 1}")
                found["rtcp"].close()
                continue
            self._stored[port] = PortPair(rtp.getsockname()[0], port, rtp, found.get("rtcp"), asked=True)
            self._used.add(port)

    def release_stored(self, now_ns: int) -> int:
        """Lets stored sockets go that nobody took up; how many."""
        gone = list(self._stored.values())
        self._stored.clear()
        for pair in gone:
            self.give_back(pair, now_ns)
        return len(gone)

    def open(self, address: str, *, mux: bool = False, port: int = 0) -> PortPair:
        """The next free pair, or the one on `port`: a stored one as it is, with what has piled up in it, and so one that
        cools down and was asked for by number before.

        PortsExhaustedError where none is free, PortTakenError where `port` is not, AddressError where the
        address is not ours.
        """
        if port:
            pair = self._take_again(address, mux, port)
            if pair is None and not (
                port in self._used or port % 2 or not self._first <= port < self._first + 2 * self._pairs
            ):
                pair = self._bind_pair(address, port, mux)
            if pair is None:
                raise PortTakenError("the port is not free", port=port)
            pair.asked = True
            return pair
        for _ in range(self._pairs):
            candidate = self._first + 2 * self._next
            # Ports come round, so that the one just cooled is the last to be used again.
            self._next = (self._next + 1) % self._pairs
            if candidate in self._used:
                continue
            pair = self._bind_pair(address, candidate, mux)
            if pair is not None:
                return pair
        raise PortsExhaustedError("no port pair is free", pairs=self._pairs)

    def _take_again(self, address: str, mux: bool, port: int) -> PortPair | None:
        """The stored pair of this port, or one that cools down; it stays where it is if what it lacks cannot be bound."""
        cooling = (item for item in self._cooling if item[1].port == port and item[1].asked)
        item = next(cooling, None)
        pair = self._stored.get(port) if item is None else item[1]
        if pair is None:
            return None
        if pair.rtcp is None and not mux:
            pair.rtcp = self._bind(address, port + 1)
            self._opened(f"rtcp-{port + 1}", pair.rtcp)
        if item is None:
            del self._stored[port]
        else:
            self._cooling.remove(item)
        return pair

    def give_back(self, pair: PortPair, now_ns: int) -> None:
        """Begins a pair's cool-down."""
        self._cooling.append((now_ns + self._cool_down_ns, pair))

    def cool(self, now_ns: int) -> None:
        """Closes the pairs whose cool-down is over."""
        while self._cooling and self._cooling[0][0] <= now_ns:
            self._close(self._cooling.popleft()[1])

    def close(self) -> None:
        """Closes whatever cools down or is stored; pairs in use are their users' to close."""
        for _, pair in self._cooling:
            self._close(pair)
        self._cooling.clear()
        for pair in self._stored.values():
            self._close(pair)
        self._stored.clear()

    def _close(self, pair: PortPair) -> None:
        self._closing(f"rtp-{pair.port}")
        if pair.rtcp is not None:
            self._closing(f"rtcp-{pair.rtcp_port}")
        pair.close()
        self._used.discard(pair.port)

    def _bind_pair(self, address: str, port: int, mux: bool) -> PortPair | None:
        try:
            rtp = self._bind(address, port)
        except PortTakenError:
            return None
        rtcp = None
        if not mux:
            try:
                rtcp = self._bind(address, port + 1)
            except PortTakenError:
                rtp.close()
                return None
            except Exception:
                rtp.close()
                raise
        self._used.add(port)
        self._opened(f"rtp-{port}", rtp)
        if rtcp is not None:
            self._opened(f"rtcp-{port + 1}", rtcp)
        return PortPair(address, port, rtp, rtcp)

    def _bind(self, address: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:  # out of file descriptors
            raise PortsExhaustedError(f"cannot open a socket: {error.strerror}") from error
        try:
            prepare_socket(sock, self._receive_buffer)
            sock.bind((address, port))
        except OSError as error:
            sock.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise PortTakenError("the port is not free", port=port) from error
            raise AddressError(f"cannot bind the media address: {error.strerror}") from error
        return sock
