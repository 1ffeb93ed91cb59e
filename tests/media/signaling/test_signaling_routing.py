"""Which tenant and line a call belongs to."""

from __future__ import annotations

import pytest

from appliance.media.signaling.context import CallContext, SessionContext, pack, unpack
from appliance.media.signaling.errors import ContextError
from appliance.media.signaling.routing import (
    AMBIGUOUS,
    NO_LINE,
    NO_TENANT,
    Facts,
    barred,
    decide,
    named_trunks,
    withheld,
)
from appliance.media.siprec.model import Address, Metadata, Participant
from appliance.media.siprec.state import SessionState
from appliance.model import Direction
from appliance.model.routing import Barred, Line, RoutingTable, Tenant


def line(name: str, *numbers: str, trunks: tuple[str, ...] = (), **more: object) -> Line:
    return Line(
        line_id=name,
        tenant_id=f"tenant-{name[0]}",
        display_name=name,
        numbers=numbers,
        trunks=trunks,
        **more,  # type: ignore[arg-type]
    )


def test_who_is_barred_is_known_however_the_number_is_written() -> None:
    found = RoutingTable(
        barred=(
            Barred(tenant_id="t", numbers=("201", "+441632960201", "ada.lovelace")),
            Barred(tenant_id="u", numbers=("7",)),
        )
    )
    for number in ("201", "01632960201", "00441632960201", "+441632960201", "Ada.Lovelace"):
        assert barred(found, "t", number), number
    for number in ("202", "7", "", "anonymous", "1632960201"):
        assert not barred(found, "t", number), number
    assert not barred(found, "u", "201") and not barred(None, "t", "201")


def table(*lines: Line) -> RoutingTable:
    names = {one.tenant_id for one in lines}
    return RoutingTable(
        tenants=tuple(Tenant(tenant_id=name, display_name=name, public_key=b"k") for name in names),
        lines=lines,
    )


LINES = table(
    line("a", "01632960100"),
    line("a2", "0163296*"),
    line("b", "5*", trunks=("192.0.2.0/24",)),
    line("c", trunks=("192.0.2.7", "sbc.example")),
    line("d", catch_all=True),
)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(("07700900101", "01632960100")), "a"),
        (Facts(("07700900101", "+441632960100")), "a"),
        (Facts(("01632960199",)), "a2"),
        (Facts(("07700900101",), "192.0.2.9"), "b"),
        (Facts(("07700900101",), "192.0.2.7"), "c"),  # the longer prefix
        (Facts(("07700900101",), "::ffff:192.0.2.7"), "c"),
        (Facts(("07700900101",), "198.51.100.1", ("sbc.example",)), "c"),
        (Facts(("01632960100",), "192.0.2.7", ("sbc.example",)), "a"),  # a number before a trunk
        (Facts((), "198.51.100.1"), "d"),
        (Facts((), "nonsense"), "d"),
    ],
)
def test_decide(facts: Facts, expected: str) -> None:
    decision = decide(LINES, facts)
    assert decision.line is not None and decision.line.line_id == expected
    assert decision.tenant is not None and decision.tenant.tenant_id == decision.line.tenant_id


def test_trunk_decides_between_equal_numbers() -> None:
    lines = table(line("a", "100"), line("b", "100", trunks=("192.0.2.0/24",)))
    found = decide(lines, Facts(("100",), "192.0.2.1"))
    assert found.line is not None and found.line.line_id == "b" and not found.flags
    both = decide(table(line("a", "100"), line("b", "100")), Facts(("100",)))
    assert both.line is not None and both.line.line_id == "a" and both.flags == (AMBIGUOUS,)


def test_nothing_takes_it() -> None:
    assert decide(RoutingTable(), Facts(("1",))).reason == NO_LINE
    assert decide(RoutingTable(lines=(line("a", "1"),)), Facts(("1",))).reason == NO_TENANT


def test_withheld() -> None:
    one = line("a", "100", do_not_record=("0770*",), directions=(Direction.INBOUND,))
    assert withheld(one, ("07700900101", "100"), Direction.INBOUND) == "do-not-record"
    assert withheld(one, ("0888", "100"), Direction.OUTBOUND) == "direction-not-contracted"
    assert withheld(one, ("0888", "100"), Direction.INBOUND) == ""


def test_named_trunks() -> None:
    assert named_trunks(LINES) and not named_trunks(table(line("a", trunks=("192.0.2.0/24",))))


def a_context(metadata: Metadata | None = None) -> SessionContext:
    call = CallContext(call_id="c", tenant_id="t", line_id="l", started_ns=1)
    return SessionContext(
        call=call,
        recordings=("r",),
        started_ns=1,
        sip={"version": 1},
        srs=SessionState(metadata=metadata, sdp=b"v=0\r\n"),
    )


def test_context_comes_back() -> None:
    metadata = Metadata(participants=(Participant("p", (Address("sip:1@x", "N"),)),))
    context = a_context(metadata)
    assert unpack(pack(context)) == context
    assert "sip:1@x" not in repr(context)


def test_context_has_a_bound() -> None:
    import secrets

    noise = tuple(Participant(str(n), (Address(secrets.token_hex(4000)),)) for n in range(400))
    packed = pack(a_context(Metadata(participants=noise)))
    assert len(packed) <= 1 << 20 and unpack(packed).srs.metadata is None and unpack(packed).srs.sdp


@pytest.mark.parametrize(
    "data", [b"", b"junk", b"1junk", b"2" + pack(a_context())[1:], pack(a_context())[:-20]]
)
def test_context_that_is_none(data: bytes) -> None:
    with pytest.raises(ContextError):
        unpack(data)
