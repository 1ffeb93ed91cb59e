"""What an operator is told of live calls."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from appliance.cli import callview, output
from earwitness.v1 import calls_pb2, party_pb2

BEGAN = 1_795_000_000
ID = "a" * 26
NAMES = (("Ada", party_pb2.PARTY_ROLE_CALLER, 0), ("200", party_pb2.PARTY_ROLE_AGENT, 1))


def call(word: str, detail: str = "", *, after: int = 0, silent: tuple[int, ...] = ()) -> calls_pb2.Call:
    made = calls_pb2.Call(
        name=f"tenants/{'b' * 26}/calls/{ID}",
        state=calls_pb2.CallState.Value(f"CALL_STATE_{word}"),
        start_time=Timestamp(seconds=BEGAN),
        state_time=Timestamp(seconds=BEGAN + after),
        detail=detail,
        silent_tracks=silent,
    )
    for name, role, track in NAMES:
        made.parties.add(display_name=name, role=role, tracks=[track])
    return made


@pytest.mark.parametrize(
    ("shown", "detail"),
    [
        (call("RECORDING"), ""),
        (call("PAUSED", "agent:01632960200"), "by agent 01632960200"),
        (call("PAUSED", "agent"), "by the agent"),
        (call("PAUSED", "reception"), "by reception"),
        (call("HELD"), ""),
        (call("NOT_RECORDED", "do-not-record"), "a number is on the do-not-record list"),
        (call("NOT_RECORDED", "stopped by agent:200"), "stopped by agent 200"),
        (call("NOT_RECORDED", "stopped by admin"), "stopped by admin"),
        (call("NOT_RECORDED", "capture: PORTS_EXHAUSTED"), "capture cannot record it (PORTS_EXHAUSTED)"),
        (call("NOT_RECORDED", "something new"), "something new"),
        (call("RINGING"), ""),
        (call("ANNOUNCING"), ""),
        (
            call("RINGING", "direction-not-contracted"),
            "not to be recorded: the line does not record this direction",
        ),
        (call("RECORDING", silent=(1,)), "nothing is heard of the agent"),
        (call("RECORDING", silent=(0, 7)), "nothing is heard of the caller, nothing is heard of track 7"),
        (call("ENDED", "stopped by admin", after=81), "after 1:21.0"),
    ],
)
def test_the_detail_says_who_and_why(shown: calls_pb2.Call, detail: str) -> None:
    assert callview.detail(shown) == detail


def test_a_row_says_when_it_began_and_since_when_it_is_so() -> None:
    shown = call("PAUSED", "agent:200", after=65)
    began, since = (output.when(stamp) for stamp in (shown.start_time, shown.state_time))
    cells = dict(zip(callview.COLUMNS, callview.row(shown), strict=True))
    assert cells == {
        "ID": ID,
        "Began": began,
        "State": "paused",
        "Since": since[11:],
        "Caller": "Ada",
        "Agent": "200",
        "Detail": "by agent 200",
    }
    two_days = call("RECORDING", after=2 * 86_400)
    assert dict(zip(callview.COLUMNS, callview.row(two_days), strict=True))["Since"] == output.when(
        two_days.state_time
    )


def test_a_line_of_a_watch() -> None:
    shown = call("WHISPERING", after=10)
    at = Timestamp(seconds=BEGAN + 10)
    assert callview.line(shown, at) == f"{output.when(at)}  {ID}  whispering    Ada and 200"
    later = Timestamp(seconds=BEGAN + 70)
    paused = call("PAUSED", "reception", after=10)
    assert callview.line(paused, later).endswith(
        f"Ada and 200  by reception, since {output.when(paused.state_time)[11:]}"
    )
    ended = call("ENDED", after=10)
    assert callview.line(ended, later).endswith("Ada and 200  after 0:10.0")


def test_parties_of_whom_nothing_is_known() -> None:
    shown = call("RECORDING", silent=(0,))
    for party in shown.parties:
        party.role = party_pb2.PARTY_ROLE_UNKNOWN
    cells = dict(zip(callview.COLUMNS, callview.row(shown), strict=True))
    assert cells["Caller"] == "Ada, 200" and cells["Detail"] == "nothing is heard of Ada"


def test_a_name_from_the_network_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    shown = call("RECORDING")
    shown.parties[0].display_name = "[/bold] \x1b[31mAda\x1b[0m \u202eeve"
    output.table(callview.COLUMNS, [callview.row(shown)], empty="")
    output.facts([("Parties", shown.parties[0].display_name)])
    told = capsys.readouterr().out
    assert "[/bold]" in told and "Ada" in told
    assert "\x1b[31m" not in told and "\u202e" not in told
