"""sipp's trunk and switchboard against each other and against a phone, without the box."""

from __future__ import annotations

import re
import time
from pathlib import Path

import captured
import pytest
import sound
import wire
from peers import Sipp, encode_alaw
from phone import Phone
from speech import speech

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


def test_alaw_is_coded_to_the_nearest() -> None:
    codes = bytes(range(256))
    assert encode_alaw(captured.decode_alaw(codes)) == codes


def test_trunk_and_switchboard_hear_each_other(tmp_path: Path) -> None:
    out, back = speech("appointment-agent", 0, 3), speech("prescription-caller", 3, 6)
    pcap = tmp_path / "lo.pcapng"
    started = time.time()
    with captured.capture(pcap), Sipp(tmp_path, "switchboard", speaks=back) as board:
        address = ("127.0.0.1", board.port)
        with Sipp(tmp_path, "trunk", to=address, speaks=out, wait_s=4) as trunk:
            trunk.finish()
        board.finish()
    ended = time.time()
    assert sound.find(out, wire.heard(pcap, board.media_port).sound(started, ended))[1] > 0.95
    assert sound.find(back, wire.heard(pcap, trunk.media_port).sound(started, ended))[1] > 0.95


def test_calls_that_come_to_nothing(tmp_path: Path) -> None:
    with (
        Sipp(tmp_path, "switchboard-refuses", values={"STATUS": "486"}) as board,
        Sipp(tmp_path, "trunk-refused", to=("127.0.0.1", board.port), values={"STATUS": "486"}) as trunk,
    ):
        trunk.finish()
        board.finish()
    with (
        Sipp(tmp_path, "switchboard-rings") as board,
        Sipp(tmp_path, "trunk-cancel", to=("127.0.0.1", board.port)) as trunk,
    ):
        trunk.finish()
        board.finish()
    branches = re.findall(r"sent .*?\n\n(?:INVITE|CANCEL) .*?branch=(\S+)", trunk.messages(), re.S)
    assert len(branches) == 2 and branches[0] == branches[1], "a CANCEL has the branch of what it cancels"


@pytest.mark.parametrize("ends", ["trunk", "phone"])
def test_trunk_and_phone(ends: str, tmp_path: Path) -> None:
    words = speech("appointment-agent", 0, 3)
    with Phone(tmp_path, "agent") as agent:
        address = ("127.0.0.1", int(agent.uri.rpartition(":")[2]))
        scenario = "trunk" if ends == "trunk" else "trunk-ended"
        with Sipp(tmp_path, scenario, to=address, number="agent", speaks=words, wait_s=4) as trunk:
            agent.answer()
            if ends == "phone":
                time.sleep(4)
                agent.hangup()
            agent.wait("CALL_CLOSED")
            trunk.finish()
        assert sound.find(words, agent.heard())[1] > 0.95
