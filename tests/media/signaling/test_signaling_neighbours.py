"""Targets by name, and where calls come from."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from appliance.media.signaling.inline.neighbours import Neighbours
from appliance.model import Direction
from appliance.model.routing import InlineRules, Line, RoutingTable, Target, Tenant


def table(*uris: str) -> RoutingTable:
    rules = InlineRules(inbound=tuple(Target(uri=uri) for uri in uris))
    return RoutingTable(lines=(Line(line_id="l", tenant_id="t", display_name="", inline=rules),))


async def settled(neighbours: Neighbours) -> None:
    task = asyncio.create_task(neighbours.run())
    await asyncio.sleep(0.05)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What the names of the world stand for."""
    known: dict[str, list[str]] = {}
    real = asyncio.BaseEventLoop.getaddrinfo

    async def getaddrinfo(self: Any, host: str, port: object, **_: object) -> list[Any]:
        if ".." in host:
            return await real(self, host, None)
        if host not in known:
            raise socket.gaierror(-2, "not known")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return known


def test_a_named_target_is_known_by_its_addresses(names: dict[str, list[str]]) -> None:
    async def run() -> None:
        names["pbx.example"] = ["192.0.2.7", "192.0.2.8"]
        neighbours = Neighbours()
        wanted = table("sip:pbx.example", "sip:192.0.2.9")
        neighbours.follow_table(wanted)
        await settled(neighbours)
        assert wanted.lines[0].inline is not None
        targets = wanted.lines[0].inline.inbound
        assert neighbours.among("192.0.2.8", targets)
        assert neighbours.among("192.0.2.9", targets)
        assert not neighbours.among("192.0.2.10", targets)
        assert not neighbours.among("192.0.2.8", targets[1:])
        # Where media is to be awaited from, before anything has come from there.
        assert neighbours.nearest(["other.example", "pbx.example", "192.0.2.9"]) == "192.0.2.7"
        assert neighbours.nearest(["192.0.2.9", "pbx.example"]) == "192.0.2.9"
        assert neighbours.nearest(["other.example"]) == ""
        # A name server that is away for a while makes nobody a stranger.
        names.clear()
        neighbours.follow_table(wanted)
        await settled(neighbours)
        assert neighbours.among("192.0.2.8", targets)
        # A target that is no more is none.
        neighbours.follow_table(table("sip:192.0.2.9"))
        await settled(neighbours)
        assert not neighbours.among("192.0.2.8", targets)

    asyncio.run(run())


def test_whose_a_call_from_a_switchboard_is() -> None:
    neighbours = Neighbours()
    one, two = (Tenant(tenant_id=name, display_name="", public_key=b"") for name in ("t", "u"))
    mine = table("sip:192.0.2.9").model_copy(update={"tenants": (one, two)})
    found = neighbours.behind(mine, "192.0.2.9")
    assert found is not None and found.line == mine.lines[0] and found.tenant == one
    assert neighbours.behind(mine, "192.0.2.10") is None
    # The number is another tenant's: nobody's recording.
    found = neighbours.behind(mine, "192.0.2.9", two)
    assert found is not None and found.line is not None and found.tenant is not None
    assert (found.tenant.tenant_id, found.line.tenant_id, found.line.directions) == ("", "", ())


def test_a_call_from_a_named_switchboard_goes_out(names: dict[str, list[str]]) -> None:
    async def run() -> None:
        names["pbx.example"] = ["192.0.2.7"]
        neighbours = Neighbours()
        wanted = table("sip:pbx.example")
        neighbours.follow_table(wanted)
        await settled(neighbours)
        line = wanted.lines[0].model_copy(update={"numbers": ("02079460000",)})
        assert neighbours.direction(line, "", "07700900123", "192.0.2.7") is Direction.OUTBOUND
        assert neighbours.direction(line, "", "02079460000", "192.0.2.7") is Direction.INBOUND
        assert neighbours.direction(line, "", "07700900123", "192.0.2.8") is Direction.INBOUND

    asyncio.run(run())


def test_a_name_that_cannot_be_one_stops_nobody_elses(names: dict[str, list[str]]) -> None:
    async def run() -> None:
        names["pbx.example"] = ["192.0.2.7"]
        neighbours = Neighbours()
        # Looked up before the other, by the real resolver, which raises before it asks anybody.
        with pytest.raises(UnicodeError):
            await asyncio.get_running_loop().getaddrinfo("pbx..example", None)
        wanted = table("sip:pbx..example", "sip:pbx.example")
        neighbours.follow_table(wanted)
        await settled(neighbours)
        assert wanted.lines[0].inline is not None
        assert neighbours.among("192.0.2.7", wanted.lines[0].inline.inbound)

    asyncio.run(run())
