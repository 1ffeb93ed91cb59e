"""Whence a call comes, as far as limits count it: an IPv4 address, or an IPv6 network of 64 bits. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import unquote

UNKNOWN: Final = "unknown"
_V6_BITS: Final = (
    64  # what one subscriber has at least (RFC 6177): counting single addresses would count nothing
)


def network_of(peer: str) -> str:
    """The network of a peer as gRPC names it (`ipv4:192.0.2.7:40000`, `ipv6:%5B2001:db8::1%5D:40000`).

    IPv4 inside IPv6 (RFC 4291, 2.5.5.2) counts as IPv4. What has no address, as a Unix socket, is `unknown`.
    """
    family, _, rest = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return UNKNOWN
    host = unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return UNKNOWN
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(address) >> _V6_BITS << _V6_BITS, _V6_BITS)))
    return str(address)
