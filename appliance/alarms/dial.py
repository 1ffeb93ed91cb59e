"""Connections to where channels lead: a tenant's never to the box itself."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

from appliance.alarms.errors import DeliveryError
from appliance.audit.forward import failure_word
from appliance.process.tls import client_context

CONNECT_S: Final = 10.0
MAX_ADDRESSES: Final = 8


def tls(pem: str) -> ssl.SSLContext:
    """Checked against these certificates, or the system's. DeliveryError where they cannot be read."""
    try:
        return client_context(None, pem or None)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise DeliveryError("certificates-unreadable") from error


def is_inward(address: str) -> bool:
    """Whether it leads to the box itself, or to no machine at all."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified


def check_literal(host: str) -> None:
    """DeliveryError where the host is an address that leads inwards, or is one by an old way of writing it (127.1)."""
    try:
        inward = is_inward(host.strip("[]"))
    except ValueError:
        # A name's addresses are looked at when it is resolved; what looks like an address is not resolved at all.
        inward = ":" in host or host.replace(".", "").isdigit()
    if inward:
        raise DeliveryError("address-not-allowed")


async def addresses(host: str, port: int, *, inward: bool) -> list[tuple[int, Any]]:
    """Families and addresses. `inward`: also those of the box itself. DeliveryError."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the latter for labels that are none
        raise DeliveryError("name-unknown") from error
    some: list[tuple[int, Any]] = [(family, address) for family, _, _, _, address in found]
    fit: list[tuple[int, Any]] = [one for one in some if inward or not is_inward(str(one[1][0]))][
        :MAX_ADDRESSES
    ]
    if not fit:
        raise DeliveryError("address-not-allowed" if some else "name-unknown")
    return fit


async def connected(host: str, port: int, *, inward: bool) -> socket.socket:
    """A connected socket that does not block, to the first address that answers. DeliveryError."""
    loop = asyncio.get_running_loop()
    why: DeliveryError | None = None
    for family, address in await addresses(host, port, inward=inward):
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.sock_connect(made, address)
        except (OSError, TimeoutError) as error:
            made.close()
            why = DeliveryError(failure_word(error))
        except BaseException:
            made.close()
            raise
        else:
            return made
    assert why is not None  # there is an address, or DeliveryError was raised
    raise why


class Resolver(AbstractResolver):
    """Names for a tenant's webhooks."""

    def __init__(self, *, inward: bool) -> None:
        self._inward = inward

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See AbstractResolver."""
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=one,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for one, address in await addresses(host, port, inward=self._inward)
        ]

    async def close(self) -> None:
        """Nothing is held."""
