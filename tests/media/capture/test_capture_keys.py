"""Keys of the participants: told, passed on, or taken out, and what the recording has of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from bridge_kit import Call, Packet
from capture_kit import EVENT, LOOPBACK, Box, rtp, tone

from appliance.media.capture.commands import Update
from appliance.media.capture.keys import MAX_PRESSES
from appliance.media.rtp.events import EventReader

CODES = ("*2", "*3", "*4")


@pytest.fixture
def call(box: Box) -> Iterator[Call]:
    """The agent's keys are the box's own."""
    found = Call(box, codes=CODES)
    yield found
    found.close()


def pressed(packets: list[Packet]) -> str:
    """The keys that a receiver reads out of what it got."""
    reader = EventReader()
    return "".join(
        event.key
        for packet in packets
        if packet.pt == EVENT
        for event, new in reader.read(packet.ssrc, packet.ts, packet.payload, 0)
        if new
    )


def no_gap(packets: list[Packet]) -> bool:
    return [packet.seq for packet in packets] == [packets[0].seq + at for at in range(len(packets))]


def test_a_code_is_told_and_nobody_else_hears_or_keeps_it(box: Box, call: Call) -> None:
    box.recorder.intake.arena.cells[:] = (
        0  # memory is not ours alone: what other tests left in it is no matter
    )
    before = call.agent.say(*[tone(1)] * 3)
    box.tick()
    star = call.agent.key("*")
    between = call.agent.say(tone(2))
    box.tick()
    two = call.agent.key("2")
    after = call.agent.say(tone(3), tone(4))
    box.tick()
    heard = call.caller.hears()
    assert [packet.payload for packet in heard] == [raw[12:] for raw in before + between + after]
    assert no_gap(heard)
    assert [packet.ts for packet in heard][-1] == int.from_bytes(after[-1][4:8], "big")
    (told,) = call.told()
    assert (told.session_id, told.track, told.code, told.key) == (call.session, 1, "*2", "")
    assert box.figures(call.session, 1).packets == 6
    memory = box.recorder.intake.arena.cells.tobytes()
    assert not any(raw in memory for raw in star + two)
    content = box.close(call.session)
    assert content.packets(1, audio=False) == []
    assert len(content.packets(1)) == 6


def test_the_other_sides_keys_are_not_the_agents(box: Box, call: Call) -> None:
    sent = call.caller.key("*") + call.caller.key("2")
    box.tick()
    assert [packet.raw for packet in call.agent.hears()] == sent
    assert call.keys() == ["*", "2"]
    assert len(box.close(call.session).packets(0, audio=False)) == len(sent)


def test_a_key_of_no_code_passes_at_once(box: Box, call: Call) -> None:
    sent = call.agent.key("7")
    box.recorder.receiving.tick_fast()
    assert [packet.raw for packet in call.caller.hears()] == sent
    assert call.keys() == ["7"]


def test_what_turns_out_to_be_no_code_is_sent_after_all_in_order(box: Box, call: Call) -> None:
    call.agent.say(*[tone(1)] * 5)
    box.tick()
    heard = call.caller.hears()
    originals = call.agent.key("*")
    box.tick()
    assert call.caller.hears() == [] and call.keys() == []
    originals += call.agent.key("5")
    box.tick()
    assert call.keys() == ["*", "5"]
    for _ in range(50):
        call.agent.say(tone(2))
        box.advance(20)
    heard += call.caller.hears()
    assert pressed(heard) == "*5"
    assert no_gap(heard)
    events = [packet for packet in heard if packet.pt == EVENT]
    starts = sorted({packet.ts for packet in events})
    # Each begins where the sound is by then, behind the one before, and ends three times.
    first, second = ([packet for packet in events if packet.ts == start] for start in starts)
    assert starts[0] > heard[4].ts and starts[1] - starts[0] >= 800
    for packets in (first, second):
        assert packets[0].marker and not any(packet.marker for packet in packets[1:])
        assert [packet.payload[1] >> 7 for packet in packets][-3:] == [1, 1, 1]
    # Sound goes on when the keys are through, with a marker where it begins anew.
    assert heard[-1].payload == tone(2) and any(p.marker for p in heard if p.pt == 0)
    # The recording has the keys as they came.
    content = box.close(call.session)
    assert sorted(payload for _, _, payload in content.packets(1, audio=False)) == sorted(
        raw[12:] for raw in originals
    )


def test_a_key_that_nothing_follows_is_sent_after_three_seconds(box: Box, call: Call) -> None:
    call.agent.say(tone(1))
    call.agent.key("*")
    box.tick()
    box.advance(2900)
    assert call.keys() == [] and pressed(call.caller.hears()) == ""
    box.advance(400)
    assert call.keys() == ["*"]
    assert pressed(call.caller.hears()) == "*"
    assert len(box.close(call.session).packets(1, audio=False)) == 6


def test_codes_work_while_the_recording_is_paused(box: Box, call: Call) -> None:
    call.agent.say(tone(1))
    box.recorder.pause(call.session)
    call.agent.key("*")
    call.agent.key("3")
    call.agent.key("*")
    box.tick()
    box.recorder.resume(call.session)
    call.agent.key("9")
    box.advance(500)
    assert call.keys() == ["[*3]", "*", "9"]
    assert pressed(call.caller.hears()) == "*9"
    # The star was pressed in the pause: it is not brought back.
    content = box.close(call.session)
    assert {payload[0] for _, _, payload in content.packets(1, audio=False)} == {9}


def test_a_pause_that_began_before_covers_a_key_that_waits(box: Box, call: Call) -> None:
    call.agent.say(tone(1))
    began = box.wall()
    call.agent.key("*")
    box.tick()
    box.recorder.pause(call.session, at_ns=began)
    call.agent.key("5")
    box.tick()
    assert box.close(call.session).packets(1, audio=False) == []


def test_packets_lost_or_repeated_change_nothing(box: Box, call: Call) -> None:
    star = call.agent.key("*", ends=0)  # its end is lost
    box.tick()
    two = call.agent.key("2", updates=1)
    call.agent.send(*star, *two)
    box.tick()
    call.agent.key("2", updates=1)  # pressed again
    box.tick()
    assert call.keys() == ["[*2]", "2"]
    assert pressed(call.caller.hears()) == "2"


def test_strays_press_no_keys(box: Box, call: Call) -> None:
    call.agent.say(*[tone(1)] * 4)
    box.tick()
    call.caller.hears()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stray:
        for number, key in enumerate((10, 2)):
            packet = rtp(number, bytes([key, 10, 0, 160]), ssrc=9, pt=EVENT, ts=1000 * number)
            stray.sendto(packet, (LOOPBACK, call.agent.to))
        box.tick()
    assert call.keys() == [] and call.caller.hears() == []
    assert box.close(call.session).packets(1, audio=False) == []


def test_a_flood_of_keys_is_no_way_around_the_codes(box: Box, call: Call) -> None:
    for number in range(MAX_PRESSES + 30):
        payload = bytes([number % 10, 10, 0, 160])
        call.agent.send(rtp(number, payload, ssrc=200, pt=EVENT, ts=1000 * number))
    box.tick()
    assert len(call.keys()) == MAX_PRESSES
    assert len(pressed(call.caller.hears())) == MAX_PRESSES


def test_other_codes_from_an_update(box: Box, call: Call) -> None:
    call.agent.key("*")
    box.tick()
    box.recorder.update(Update(call.session, (call.track(1, codes=("#1",)),)))
    call.agent.key("2")
    call.agent.key("#")
    call.agent.key("1")
    box.tick()
    assert call.keys() == ["*", "2", "[#1]"]
    box.recorder.update(Update(call.session, (call.track(1),)))
    call.agent.key("#")
    box.tick()
    assert call.keys() == ["#"]


def test_keys_of_a_call_that_is_not_relayed_are_told(box: Box) -> None:
    watcher = box.recorder.feed.watch()
    session, port = box.open_one()
    box.send(
        port, [rtp(0), rtp(1, b"\x05\x0a\x00\xa0", pt=EVENT), rtp(2, b"\x05\x8a\x00\xa0", pt=EVENT, ts=160)]
    )
    box.tick()
    event = watcher.take(0)
    assert event is not None and (event.session_id, event.key) == (session, "5")
    assert watcher.take(0.001) is None
    assert len(box.close(session).packets(0, audio=False)) == 2


def test_a_code_within_sound_that_goes_on(box: Box, call: Call) -> None:
    """Some phones send the sound of the key beside the event: numbers of both stay without a gap."""
    payloads = [os.urandom(160) for _ in range(30)]
    for at in range(10):
        call.agent.say(payloads[3 * at])
        if at in (2, 5):
            call.agent.key("*2"[at == 5], updates=1, ends=1)
        call.agent.say(*payloads[3 * at + 1 : 3 * at + 3])
        box.tick()
    heard = call.caller.hears()
    assert [packet.payload for packet in heard] == payloads
    assert no_gap(heard)
    assert call.keys() == ["[*2]"]
