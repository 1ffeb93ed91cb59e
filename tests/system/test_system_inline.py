"""Inline calls through the box: real phones and sipp on both sides, and what each of them heard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import captured
import inline_kit
import numpy as np
import pytest
import sound
import wire
from inline_kit import ANNOUNCEMENT, WHISPER, Office, kinds, on, to_phone
from peers import Sipp
from phone import phones
from speech import speech

from appliance.cli.demonstration.embedded import EmbeddedBox
from earwitness.v1 import calls_pb2, tenants_pb2

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(180),
]

RECORDING = calls_pb2.CALL_STATE_RECORDING
# What is said in the calls: all of it different, so that each is found where it was said and nowhere else.
CALLER = speech("appointment-caller", 6.0, 9.0)
AGENT = speech("appointment-agent", 0.0, 3.0)
CARD = speech("payment-caller", 3.0, 6.0)
MEANWHILE = speech("payment-agent", 6.5, 9.5)
CALLER_LATER = speech("prescription-caller", 3.0, 6.0)
AGENT_LATER = speech("appointment-agent", 10.5, 13.5)
SAY_S = 3.5  # all of these are three seconds long


@pytest.fixture
def office(box: EmbeddedBox, tmp_path: Path) -> Iterator[Office]:
    yield from inline_kit.offices(box, tmp_path)


def test_a_call_in_announced_and_whispered(office: Office, tmp_path: Path) -> None:
    """sipp over UDP and RTP as the trunk, a phone over TLS and SRTP as the agent."""
    agent = office.phone("agent", tls=True)
    number = office.line(inbound=[agent.uri], srtp=True, announced=True, whispered=True)
    pcap, started = tmp_path / "lo.pcapng", time.time()
    with phones(agent), captured.capture(pcap):
        later = np.concatenate([np.zeros(4 * sound.RATE, np.int16), CALLER])  # not into the whisper
        with Sipp(tmp_path, "trunk-ended", to=office.box.sip("udp"), number=number, speaks=later) as trunk:
            agent.answer()
            office.wait_state(RECORDING)
            agent.say(AGENT)
            time.sleep(4 + SAY_S)
            agent.hangup()
            trunk.finish()
        ended = time.time()
    caller_heard = wire.heard(pcap, trunk.media_port).sound(started, ended)
    agent_heard, _ = to_phone(pcap, agent, started, ended)
    assert sound.said(ANNOUNCEMENT, caller_heard) and not sound.said(ANNOUNCEMENT, agent_heard)
    assert sound.said(WHISPER, agent_heard) and not sound.said(WHISPER, caller_heard)
    assert sound.said(WHISPER, agent.heard()), "the phone could decode it"
    assert sound.said(AGENT, caller_heard) and not sound.said(AGENT, agent_heard)
    assert sound.said(CALLER, agent_heard) and not sound.said(CALLER, caller_heard)
    announced, _ = sound.find(ANNOUNCEMENT, caller_heard)
    spoken, _ = sound.find(AGENT, caller_heard)
    assert announced + 3.0 <= spoken, "the announcement was over when they were joined"

    recording, channels = office.recording()
    assert len(channels) == 2, "caller left, agent right"
    assert on(CALLER, channels) == [0] and on(AGENT, channels) == [1]
    assert on(ANNOUNCEMENT, channels) == [1], "the box speaks for the house"
    assert on(WHISPER, channels) == []
    said = kinds(recording)
    assert said.index("ANNOUNCED") < said.index("WHISPERED")
    announced_mark = recording.marks[said.index("ANNOUNCED")]
    assert "quality" in str(announced_mark) and recording.whole
    # Where it stands in the recording is when it was heard, within a tick and the wire's time.
    at_caller = started + announced
    in_recording = recording.start_time.ToNanoseconds() / 1e9 + sound.find(ANNOUNCEMENT, channels[1])[0]
    assert in_recording == pytest.approx(at_caller, abs=0.1)


@pytest.mark.parametrize("after_answer", [False, True], ids=["before-answer", "after-answer"])
def test_a_phone_can_decode_the_announcement(after_answer: bool, office: Office, tmp_path: Path) -> None:
    """As early media, and after the answer: the agent's phone rings only when it is over."""
    caller, agent = office.phone("caller", tls=True), office.phone("agent")
    number = office.line(inbound=[agent.uri], announced=True, after_answer=after_answer)
    with phones(caller, agent):
        caller.dial(office.number_at_box(number, "tls"))
        caller.wait("CALL_ESTABLISHED" if after_answer else "CALL_PROGRESS")
        office.wait_state(calls_pb2.CALL_STATE_ANNOUNCING)
        agent.wait("CALL_INCOMING")
        heard_by_then = caller.heard()
        agent.command("accept")
        office.wait_state(RECORDING)
        assert [m.first for m in caller.messages if m.first.startswith("SIP/2.0 183")] or after_answer
        agent.say(AGENT)
        time.sleep(SAY_S)
        caller.hangup()
        agent.wait("CALL_CLOSED")
    # A phone takes some packets to begin to listen.
    assert sound.said(ANNOUNCEMENT, np.pad(heard_by_then, (sound.RATE // 4, 0)))
    assert sound.said(AGENT, caller.heard()) and not caller.undecrypted


def test_both_hear_each_other_and_the_recording_is_what_was_said(office: Office, tmp_path: Path) -> None:
    caller, agent = office.phone("caller"), office.phone("agent", tls=True)
    number = office.line(inbound=[agent.uri], srtp=True)
    pcap, started = tmp_path / "lo.pcapng", time.time()
    with phones(caller, agent), captured.capture(pcap):
        caller.dial(office.number_at_box(number))
        agent.answer()
        caller.wait("CALL_ESTABLISHED")
        office.wait_state(RECORDING)
        caller.say(CALLER)
        agent.say(AGENT)
        time.sleep(SAY_S)
        caller.hangup()
        agent.wait("CALL_CLOSED")
        ended = time.time()
    for phone, words, own in ((caller, AGENT, CALLER), (agent, CALLER, AGENT)):
        heard, came = to_phone(pcap, phone, started, ended)
        assert sound.find(words, heard)[1] > 0.9 and not sound.said(own, heard)
        assert sound.find(words, phone.heard())[1] > 0.9, "and the phone decoded it"
        assert came.gaps() == 0
    _, channels = office.recording()
    assert on(CALLER, channels) == [0] and on(AGENT, channels) == [1]
    assert sound.find(CALLER, channels[0])[1] > 0.95 and sound.find(AGENT, channels[1])[1] > 0.95
    # Both spoke at the same time, and so they stand in the recording.
    assert abs(sound.find(CALLER, channels[0])[0] - sound.find(AGENT, channels[1])[0]) < 0.5


def test_a_call_out(office: Office, tmp_path: Path) -> None:
    with Sipp(tmp_path, "switchboard", speaks=AGENT_LATER) as outside:
        number = office.line(outbound=[outside.uri])
        agent = office.phone(number, tls=True)
        pcap, started = tmp_path / "lo.pcapng", time.time()
        with phones(agent), captured.capture(pcap):
            agent.dial(office.number_at_box("02079460999", "tls"))
            agent.wait("CALL_ESTABLISHED")
            agent.say(AGENT)
            time.sleep(SAY_S)
            agent.hangup()
            outside.finish()
            ended = time.time()
    assert sound.said(AGENT, wire.heard(pcap, outside.media_port).sound(started, ended))
    assert sound.said(AGENT_LATER, to_phone(pcap, agent, started, ended)[0])
    assert "02079460999@" in outside.messages()
    recording, channels = office.recording()
    assert len(on(AGENT, channels)) == 1 and len(on(AGENT_LATER, channels)) == 1
    assert recording.direction == 2, "outbound"


def test_pause_and_resume_by_the_agents_keys(office: Office, tmp_path: Path) -> None:
    caller, agent = office.phone("caller"), office.phone("agent", tls=True)
    number = office.line(inbound=[agent.uri], srtp=True)
    pcap, started = tmp_path / "lo.pcapng", time.time()
    with phones(caller, agent), captured.capture(pcap):
        caller.dial(office.number_at_box(number))
        agent.answer()
        office.wait_state(RECORDING)
        caller.say(CALLER)
        time.sleep(SAY_S)
        agent.send_digits("*2")
        paused = office.wait_state(calls_pb2.CALL_STATE_PAUSED)
        caller.say(CARD)
        agent.say(MEANWHILE)
        time.sleep(SAY_S)
        agent.send_digits("*3")
        office.wait_state(RECORDING)
        agent.say(AGENT_LATER)
        agent.send_digits("7")  # is for the other side
        time.sleep(SAY_S)
        agent.hangup()
        caller.wait("CALL_CLOSED")
        ended = time.time()
    assert paused.detail, "it says who paused"
    caller_heard, to_caller = to_phone(pcap, caller, started, ended)
    agent_heard, to_agent = to_phone(pcap, agent, started, ended)
    assert sound.said(MEANWHILE, caller_heard), "they go on hearing each other"
    assert sound.said(CARD, agent_heard)
    assert to_caller.keys() == "7" and to_agent.keys() == ""
    assert to_caller.gaps() == 0, "what is kept back leaves no gap"
    recording, channels = office.recording()
    assert on(CARD, channels) == [] and on(MEANWHILE, channels) == []
    assert len(on(CALLER, channels)) == 1 and len(on(AGENT_LATER, channels)) == 1
    said = kinds(recording)
    assert said.index("PAUSED") < said.index("RESUMED")


def test_an_agent_without_the_right_does_not_pause(office: Office, tmp_path: Path) -> None:
    caller, agent = office.phone("caller"), office.phone("agent")
    number = office.line(inbound=[agent.uri], rights=tenants_pb2.RIGHTS_PAUSE)
    with phones(caller, agent):
        caller.dial(office.number_at_box(number))
        agent.answer()
        office.wait_state(RECORDING)
        agent.send_digits("*4")
        agent.say(AGENT)
        time.sleep(SAY_S)
        office.wait_state(RECORDING)
        agent.hangup()
    recording, channels = office.recording()
    assert len(on(AGENT, channels)) == 1
    assert "STOPPED" not in kinds(recording)


def test_the_end_is_of_the_recording_and_not_of_the_call(office: Office, tmp_path: Path) -> None:
    caller, agent = office.phone("caller"), office.phone("agent", tls=True)
    number = office.line(inbound=[agent.uri], srtp=True)
    pcap, started = tmp_path / "lo.pcapng", time.time()
    with phones(caller, agent), captured.capture(pcap):
        caller.dial(office.number_at_box(number))
        agent.answer()
        office.wait_state(RECORDING)
        agent.say(AGENT)
        time.sleep(SAY_S)
        agent.send_digits("*4")
        office.wait_state(calls_pb2.CALL_STATE_NOT_RECORDED)
        recording, channels = office.recording()
        agent.say(AGENT_LATER)
        caller.say(CALLER)
        time.sleep(SAY_S)
        agent.send_digits("*3")  # final: nothing begins again
        office.wait_state(calls_pb2.CALL_STATE_NOT_RECORDED)
        caller.hangup()
        agent.wait("CALL_CLOSED")
        ended = time.time()
    assert sound.said(AGENT_LATER, to_phone(pcap, caller, started, ended)[0])
    assert sound.said(CALLER, to_phone(pcap, agent, started, ended)[0])
    assert len(on(AGENT, channels)) == 1 and "STOPPED" in kinds(recording)
    office.wait_over()
    office.recording()
    assert office.shown(recording.name).end_time == recording.end_time


def test_hold_and_resume(office: Office, tmp_path: Path) -> None:
    caller, agent = office.phone("caller"), office.phone("agent", tls=True)
    number = office.line(inbound=[agent.uri], srtp=True)
    pcap, started = tmp_path / "lo.pcapng", time.time()
    with phones(caller, agent), captured.capture(pcap):
        caller.dial(office.number_at_box(number))
        agent.answer()
        office.wait_state(RECORDING)
        agent.hold()
        told = caller.wait_message("INVITE ")  # the one that holds: the caller has had none before
        caller.say(CARD)
        time.sleep(SAY_S)
        agent.resume()
        caller.wait_message("INVITE ", body="a=sendrecv")
        time.sleep(1)
        agent.say(AGENT)
        caller.say(CALLER)
        time.sleep(SAY_S)
        agent.hangup()
        caller.wait("CALL_CLOSED")
        ended = time.time()
    caller_heard, _ = to_phone(pcap, caller, started, ended)
    agent_heard, _ = to_phone(pcap, agent, started, ended)
    assert sound.said(AGENT, caller_heard) and sound.said(CALLER, agent_heard)
    assert "a=sendonly" in told.body or "a=inactive" in told.body
    assert not sound.said(CARD, agent_heard), "who is held is not heard"
    recording, channels = office.recording()
    assert len(on(AGENT, channels)) == 1 and len(on(CALLER, channels)) == 1 and on(CARD, channels) == []
    said = kinds(recording)
    assert said.index("HELD") < said.index("UNHELD")


@pytest.mark.parametrize("attended", [False, True], ids=["blind", "attended"])
def test_transfers(attended: bool, office: Office, tmp_path: Path) -> None:
    caller, agent, colleague = (office.phone(name) for name in ("caller", "agent", "colleague"))
    number = office.line(inbound=[agent.uri], outbound=[colleague.uri])
    pcap, started = tmp_path / "lo.pcapng", time.time()
    with phones(caller, agent, colleague), captured.capture(pcap):
        caller.dial(office.number_at_box(number))
        agent.answer()
        office.wait_state(RECORDING)
        agent.say(AGENT)
        time.sleep(SAY_S)
        if attended:
            agent.hold()
            agent.dial(colleague.uri)
            colleague.answer()
            agent.wait("CALL_ESTABLISHED")
            consulted = colleague.wait_message("INVITE ").headers["call-id"]
            agent.use(1)
            agent.transfer_attended(colleague.uri, consulted)
            colleague.answer()  # this phone does not know Replaces: it rings once more
        else:
            agent.transfer(colleague.uri)
            colleague.answer()
        agent.wait_message("SIP/2.0 202")
        agent.wait_message("NOTIFY ", body="SIP/2.0 200")
        office.wait_state(RECORDING)
        time.sleep(1)
        colleague.say(AGENT_LATER)
        caller.say(CALLER)
        time.sleep(SAY_S)
        caller.hangup()
        colleague.wait("CALL_CLOSED")
        office.wait_over()
        ended = time.time()
    caller_heard, _ = to_phone(pcap, caller, started, ended)
    assert sound.said(AGENT, caller_heard) and sound.said(AGENT_LATER, caller_heard)
    assert sound.said(CALLER, colleague.heard())
    recording, channels = office.recording()
    for words in (AGENT, AGENT_LATER, CALLER):
        assert len(on(words, channels)) == 1
    assert "TRANSFERRED" in kinds(recording)


def test_two_calls_through_the_box_become_one(office: Office, tmp_path: Path) -> None:
    """Attended transfer where the consultation, too, is a call of the box: its dialog is joined, nobody is called anew."""
    caller, agent, colleague = (office.phone(name) for name in ("caller", "agent", "colleague"))
    number = office.line(inbound=[agent.uri])
    ward = office.line(inbound=[colleague.uri])
    pcap, started = tmp_path / "lo.pcapng", time.time()
    with phones(caller, agent, colleague), captured.capture(pcap):
        caller.dial(office.number_at_box(number))
        agent.answer()
        office.wait_state(RECORDING)
        agent.hold()
        agent.dial(office.number_at_box(ward))
        colleague.answer()
        agent.wait("CALL_ESTABLISHED")
        agent.say(AGENT)
        time.sleep(SAY_S)
        consulted = next(m for m in agent.messages if m.sent and f"sip:{ward}@" in m.first).headers["call-id"]
        agent.use(1)
        agent.transfer_attended(office.number_at_box(ward), consulted)
        agent.wait_message("NOTIFY ", body="SIP/2.0 200")
        office.wait_state(RECORDING)
        time.sleep(1)
        colleague.say(AGENT_LATER)
        caller.say(CALLER)
        time.sleep(SAY_S)
        caller.hangup()
        colleague.wait("CALL_CLOSED")
        office.wait_over()
        ended = time.time()
    assert (
        len(
            [m for m in colleague.messages if m.first.startswith("INVITE ") and "tag=" not in m.headers["to"]]
        )
        == 1
    )
    colleague_heard, _ = to_phone(pcap, colleague, started, ended)
    assert sound.said(AGENT, colleague_heard) and sound.said(CALLER, colleague_heard)
    caller_heard, _ = to_phone(pcap, caller, started, ended)
    assert sound.said(AGENT_LATER, caller_heard) and not sound.said(AGENT, caller_heard)
    kept = [channels for _, channels in office.recordings_with_sound(2)]
    for words in (AGENT, CALLER, AGENT_LATER):
        assert sum(len(on(words, channels)) for channels in kept) == 1


def test_busy_is_told_to_the_caller(office: Office, tmp_path: Path) -> None:
    with Sipp(tmp_path, "switchboard-refuses", values={"STATUS": "486"}) as board:
        number = office.line(inbound=[board.uri])
        to = office.box.sip("udp")
        with Sipp(tmp_path, "trunk-refused", to=to, number=number, values={"STATUS": "486"}) as trunk:
            trunk.finish()
        board.finish()
    office.wait_over()


def test_where_nobody_answers_the_next_target_is_called(office: Office, tmp_path: Path) -> None:
    pcap, started = tmp_path / "lo.pcapng", time.time()
    with (
        captured.capture(pcap),
        Sipp(tmp_path, "switchboard-rings") as first,
        Sipp(tmp_path, "switchboard", speaks=AGENT) as second,
    ):
        number = office.line(inbound=[first.uri, second.uri], ring_s=2)
        to = office.box.sip("udp")
        with Sipp(tmp_path, "trunk", to=to, number=number, speaks=CALLER, wait_s=4) as trunk:
            trunk.finish()
        first.finish()
        second.finish()
        ended = time.time()
    assert sound.said(AGENT, wire.heard(pcap, trunk.media_port).sound(started, ended))
    assert sound.said(CALLER, wire.heard(pcap, second.media_port).sound(started, ended))
    office.recording()


def test_a_caller_who_gives_up_is_not_rung_for(office: Office, tmp_path: Path) -> None:
    with Sipp(tmp_path, "switchboard-rings") as board:
        number = office.line(inbound=[board.uri])
        with Sipp(tmp_path, "trunk-cancel", to=office.box.sip("udp"), number=number) as trunk:
            trunk.finish()
        board.finish()
    office.wait_over()


def test_a_redirection_within_the_switchboard_is_followed(office: Office, tmp_path: Path) -> None:
    with Sipp(tmp_path, "switchboard", speaks=AGENT) as second:
        moved = {"STATUS": "302", "MORE": f"\nContact: <sip:ward@127.0.0.1:{second.port}>"}
        with Sipp(tmp_path, "switchboard-refuses", values=moved) as first:
            number = office.line(inbound=[first.uri])
            with Sipp(tmp_path, "trunk", to=office.box.sip("udp"), number=number, wait_s=2) as trunk:
                trunk.finish()
            first.finish()
        second.finish()
        assert "INVITE sip:ward@" in second.messages()
    office.recording()


def test_an_emergency_call_goes_straight_through(office: Office, tmp_path: Path) -> None:
    pcap, started = tmp_path / "lo.pcapng", time.time()
    with captured.capture(pcap), Sipp(tmp_path, "switchboard", speaks=AGENT, wait_s=0.1) as outside:
        number = office.line(outbound=[outside.uri], announced=True, whispered=True)
        to = office.box.sip("udp")
        with Sipp(tmp_path, "trunk", to=to, number="999", caller=number, speaks=CALLER, wait_s=4) as ward:
            ward.finish()
        outside.finish()
        ended = time.time()
    assert "INVITE sip:999@" in outside.messages()
    to_ward = wire.heard(pcap, ward.media_port).sound(started, ended)
    to_outside = wire.heard(pcap, outside.media_port).sound(started, ended)
    for prompt in (ANNOUNCEMENT, WHISPER):
        assert not sound.said(prompt, to_ward) and not sound.said(prompt, to_outside)
    assert sound.said(AGENT, to_ward) and sound.said(CALLER, to_outside)
    recording, _ = office.recording()
    assert "ANNOUNCED" not in kinds(recording)
