"""Where messages come from and where they go: listeners, flows, targets and what is to be sent."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

DEFAULT_PORTS = {"UDP": 5060, "TCP": 5060, "TLS": 5061}


class Transport(enum.StrEnum):
    """Transports of RFC 3261; the value is what stands in a Via."""

    UDP = "UDP"
    TCP = "TCP"
    TLS = "TLS"

    @property
    def reliable(self) -> bool:
        return self is not Transport.UDP


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound address, as it is to be told to peers (Via, Contact): never a wildcard, never port 0."""

    transport: Transport
    host: str
    port: int

    @property
    def ipv6(self) -> bool:
        return ":" in self.host


@dataclass(frozen=True, slots=True)
class Flow:
    """The way a message came: for TCP and TLS one connection, for UDP one socket and one peer.

    `connection` is the shell's number for the connection, never used twice; None for UDP. `local` is the address the
    message arrived on, as told to peers. Addresses are (numeric host without brackets, port).
    """

    transport: Transport
    local: tuple[str, int]
    remote: tuple[str, int]
    connection: int | None = None
    peer_certificate: bytes | None = field(default=None, repr=False)  # DER, where the TLS peer showed one


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send a message: over `connection` if it is still open, else to `host` and `port`.

    `host` may be a name; the shell resolves it. `port` 0 means: over that connection or not at all.
    `local` says which UDP socket to send from (its address as told to peers), where it matters.
    """

    transport: Transport
    host: str
    port: int
    connection: int | None = None
    local: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Transmit:
    """One message to put on the wire. When that fails, give `key` back with `SipEndpoint.transmit_failed`.

    `expects` tells of a request that waits for its response: where its connection closes meanwhile,
    `SipEndpoint.connection_closed` wants to know.
    """

    data: bytes
    target: Target
    key: str
    expects: bool = False
