"""While the parties talk: hold, other codecs, refreshes, keys, pause and end, transfers."""

from __future__ import annotations

from typing import Any

import pytest
from inline_kit import (
    BOX,
    CALLEE,
    CALLER,
    SECOND,
    Command,
    EndRecording,
    Kit,
    Pause,
    Play,
    make_line,
    sdp,
)

from appliance.media.inline.ground import Life
from appliance.media.inline.media import Tone
from appliance.media.sip.events import (
    Answered,
    IncomingInvite,
    IncomingRequest,
    ReInvite,
    ResponseReceived,
    SessionEnded,
    Update,
)
from appliance.media.sip.sdp import parse_sdp
from appliance.media.sip.session import SipSession
from appliance.model.routing import AgentRights, Rights


def talking(kit: Kit | None = None) -> tuple[Kit, SipSession, SipSession]:
    """A call that is up: the kit, the caller's session, the callee's."""
    kit = kit or Kit()
    session = kit.dial()
    kit.answer()
    assert kit.call.life is Life.TALKING
    return kit, session, kit.incoming().session


def reply(kit: Kit, event: Any, body: bytes, status: int = 200) -> None:
    host = next(host for host in (kit.caller, kit.callee, kit.second) if event in host.log)
    host.endpoint.respond(
        event.inbound, status, now=kit.link.now, body=body, content_type="application/sdp" if body else None
    )
    kit.run(0.5)


# -- changes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_hold_and_back(method: str) -> None:
    kit, session, _ = talking()
    change = kit.caller.endpoint.update if method == "UPDATE" else kit.caller.endpoint.reinvite
    change(session, now=kit.link.now, body=sdp(CALLER, 4000, direction="sendonly", version=2))
    kit.run(0.3)
    asked = kit.callee.one(Update if method == "UPDATE" else ReInvite)
    offer = parse_sdp(asked.inbound.request.body)
    assert offer.direction_of(offer.media[0]).value == "sendonly"
    assert offer.connection_of(offer.media[0]).address == BOX  # type: ignore[union-attr]
    reply(kit, asked, sdp(CALLEE, 5000, direction="recvonly", version=2))
    answer = parse_sdp(kit.caller.seen(ResponseReceived)[-1].response.body)
    assert answer.direction_of(answer.media[0]).value == "recvonly"
    assert (kit.capture.tracks[0].hears, kit.capture.tracks[1].hears) == (-1, 0)
    assert not kit.capture.tracks[1].active
    assert kit.capture.kinds() == ["held"]
    assert kit.capture.marks[0].track == 0
    change(session, now=kit.link.now, body=sdp(CALLER, 4000, version=3))
    kit.run(0.3)
    reply(kit, kit.callee.seen(type(asked))[-1], sdp(CALLEE, 5000, version=3))
    assert (kit.capture.tracks[0].hears, kit.capture.tracks[1].hears) == (1, 0)
    assert kit.capture.kinds() == ["held", "unheld"]


def test_a_refresh_is_not_passed_on() -> None:
    kit, session, _ = talking()
    kit.caller.endpoint.reinvite(session, now=kit.link.now, body=sdp(CALLER, 4000))
    kit.run(0.5)
    assert not kit.callee.seen(ReInvite)
    assert kit.caller.seen(ResponseReceived)[-1].response.body == kit.caller.one(Answered).response.body


def test_a_change_that_the_other_side_refuses_changes_nothing() -> None:
    kit, session, _ = talking()
    before = dict(kit.capture.tracks)
    kit.caller.endpoint.reinvite(session, now=kit.link.now, body=sdp(CALLER, 4444, version=2))
    kit.run(0.3)
    reply(kit, kit.callee.one(ReInvite), b"", 488)
    assert kit.caller.seen(ResponseReceived)[-1].response.status == 488
    assert kit.capture.tracks == before


def test_both_sides_change_at_once() -> None:
    kit, session, other = talking()
    kit.caller.endpoint.reinvite(
        session, now=kit.link.now, body=sdp(CALLER, 4000, direction="sendonly", version=2)
    )
    kit.callee.endpoint.reinvite(
        other, now=kit.link.now, body=sdp(CALLEE, 5000, direction="sendonly", version=2)
    )
    for _ in range(40):
        kit.run(0.5)
        for host, address, port in ((kit.caller, CALLER, 4000), (kit.callee, CALLEE, 5000)):
            for event in host.seen(ReInvite):
                if not event.inbound.answered:
                    reply(kit, event, sdp(address, port, direction="recvonly", version=9))
    # How long each waits before it tries again is random (RFC 3261, section 14.1): one of them may give up.
    ends = [host.seen(ResponseReceived)[-1].response.status for host in (kit.caller, kit.callee)]
    assert 200 in ends
    assert set(ends) <= {200, 491}
    assert kit.call.life is Life.TALKING


def test_a_re_invite_without_an_offer() -> None:
    kit, session, _ = talking()
    kit.caller.endpoint.reinvite(session, now=kit.link.now)
    kit.run(0.3)
    got = kit.caller.seen(ResponseReceived)[-1]
    assert got.wants_ack
    kit.caller.endpoint.ack(
        session,
        now=kit.link.now,
        body=sdp(CALLER, 4000, direction="sendonly", version=2),
        content_type="application/sdp",
    )
    kit.run(0.5)
    offer = parse_sdp(kit.callee.one(ReInvite).inbound.request.body)
    assert offer.direction_of(offer.media[0]).value == "sendonly"
    reply(kit, kit.callee.one(ReInvite), sdp(CALLEE, 5000, direction="recvonly", version=2))
    assert kit.capture.kinds() == ["held"]


def test_rfc_2543_hold() -> None:
    kit, session, _ = talking()
    body = sdp("0.0.0.0", 4000, version=2)
    kit.caller.endpoint.reinvite(session, now=kit.link.now, body=body)
    kit.run(0.3)
    offer = parse_sdp(kit.callee.one(ReInvite).inbound.request.body)
    assert offer.direction_of(offer.media[0]).value == "sendonly"


def test_info_goes_to_the_other_side() -> None:
    kit, session, _ = talking()
    kit.caller.endpoint.request(
        "INFO", now=kit.link.now, session=session, body=b"<x/>", content_type="application/x"
    )
    kit.run(0.3)
    event = kit.callee.one(IncomingRequest)
    assert event.inbound.request.body == b"<x/>"
    kit.callee.endpoint.respond(event.inbound, 415, now=kit.link.now)
    kit.run(0.3)
    assert kit.caller.seen(ResponseReceived)[-1].response.status == 415


# -- pause and end -----------------------------------------------------------------------------------------------------


def tones(kit: Kit) -> list[Any]:
    return [play.sound for play in kit.capture.of(Play)]


def test_pause_resume_and_end_by_keypad() -> None:
    kit, _, _ = talking()
    assert kit.capture.tracks[1].codes == ("*2", "*3", "*4")
    assert kit.capture.tracks[0].codes == ()
    kit.key("*2")
    assert kit.capture.paused
    assert kit.call.ground.paused
    assert tones(kit) == [Tone.CONFIRMED]
    kit.key("*3")
    assert not kit.capture.paused
    kit.key("*4")
    assert not kit.capture.recording
    assert kit.capture.open
    assert kit.capture.tracks[1].codes == ()
    assert kit.capture.kinds() == ["paused", "resumed", "stopped"]
    assert [act.action for act in kit.call.take_acts()] == ["pause", "resume", "end"]
    assert kit.capture.tracks[0].hears == 1
    kit.key("*2")
    assert not kit.capture.paused


def test_who_has_no_right_is_told_so() -> None:
    kit, _, _ = talking(
        Kit(make_line(rights=Rights.NONE, agents=(AgentRights(number="0207*", may=Rights.PAUSE),)))
    )
    kit.call.ground.participants[1].number = "02079461111"
    kit.key("*4")
    assert kit.capture.recording
    assert tones(kit) == [Tone.REFUSED]
    (act,) = kit.call.take_acts()
    assert (act.action, act.refused) == ("end", "no-right")
    assert kit.capture.marks[-1].reason == "end-refused"
    kit.key("*2")
    assert kit.capture.paused


def test_who_has_not_acknowledged_a_notice_may_resume_alone_until_it_is_done() -> None:
    kit, _, _ = talking()
    kit.call.ground.participants[1].number = "201"
    barred: set[str] = set()
    kit.call.keeping.barred = barred.__contains__
    kit.key("*2")
    assert kit.capture.paused
    barred.add("201")
    kit.key("*3")
    assert not kit.capture.paused, "what was paused is recorded again, whoever asks"
    for code in ("*2", "*4"):
        kit.key(code)
    assert kit.capture.recording and not kit.capture.paused
    assert tones(kit)[-2:] == [Tone.REFUSED, Tone.REFUSED]
    assert [(act.action, act.refused) for act in kit.call.take_acts()][2:] == [
        ("pause", "notice-not-acknowledged"),
        ("end", "notice-not-acknowledged"),
    ]
    barred.clear()
    kit.key("*2")
    assert kit.capture.paused


def test_nobody_may_use_keys_then_none_are_listened_for() -> None:
    kit, _, _ = talking(Kit(make_line(rights=Rights.NONE)))
    assert kit.capture.tracks[1].codes == ()


def test_a_pause_ends_by_itself_and_is_reminded_of() -> None:
    kit, _, _ = talking(Kit(make_line(auto_resume_s=60, reminder_s=20)))
    kit.key("*2")
    kit.run(65)
    assert not kit.capture.paused
    assert tones(kit).count(Tone.REMINDER) == 2
    assert kit.capture.marks[-1].actor == "automatic"


def test_a_pause_that_capture_refuses_is_told() -> None:
    kit, _, _ = talking()
    kit.fails = lambda command: "BROKEN" if isinstance(command, Pause) else ""
    kit.key("*2")
    assert not kit.call.ground.paused
    assert tones(kit) == [Tone.REFUSED]


def test_a_pause_while_capture_is_away_holds() -> None:
    kit, _, _ = talking()
    kit.fails = lambda command: "away" if isinstance(command, Pause) else ""
    kit.key("*2")
    assert kit.call.ground.paused


def test_asked_from_outside_twice_is_once() -> None:
    kit, _, _ = talking()
    told: list[Any] = []
    for _ in range(2):
        kit.call.act("pause", "ops", "card", told.append)
        kit.settle()
    assert told == [None, None]
    assert len(kit.capture.of(Pause)) == 1
    for _ in range(2):
        kit.call.act("end", "ops", "asked", told.append)
        kit.settle()
    assert told == [None] * 4
    assert len(kit.capture.of(EndRecording)) == 1
    kit.call.act("pause", "ops", "", told.append)
    assert told[-1].reason == "not-recorded"


def test_keys_by_info() -> None:
    kit, _, other = talking()

    def press(key: str) -> None:
        body = f"Signal={key}\r\nDuration=160\r\n".encode()
        kit.callee.endpoint.request(
            "INFO", now=kit.link.now, session=other, body=body, content_type="application/dtmf-relay"
        )
        kit.run(0.2)

    press("*")
    press("2")
    assert kit.capture.paused
    assert not kit.caller.seen(IncomingRequest)
    press("5")
    assert kit.caller.one(IncomingRequest).inbound.request.body == b"Signal=5\r\nDuration=160\r\n"
    press("*")
    kit.run(4)
    assert len(kit.caller.seen(IncomingRequest)) == 2


def test_the_recording_tone() -> None:
    kit, _, _ = talking(Kit(make_line(rules={"tone_s": 15})))
    kit.run(20)
    assert tones(kit) == [Tone.RECORDING] * 4
    kit.key("*2")
    kit.run(30)
    assert tones(kit).count(Tone.RECORDING) == 4


# -- transfers ---------------------------------------------------------------------------------------------------------


def refer(kit: Kit, session: SipSession, to: str) -> None:
    kit.callee.endpoint.request("REFER", now=kit.link.now, session=session, headers=[("Refer-To", f"<{to}>")])
    kit.run(0.5)


def notified(kit: Kit) -> list[bytes]:
    bodies = []
    for event in kit.callee.seen(IncomingRequest):
        if event.inbound.method == "NOTIFY":
            bodies.append(event.inbound.request.body.split(b" ")[1])
            if not event.inbound.answered:
                kit.callee.endpoint.respond(event.inbound, 200, now=kit.link.now)
    kit.run(0.1)
    return bodies


def test_a_blind_transfer() -> None:
    kit, _, other = talking()
    refer(kit, other, f"sip:201@{SECOND}:5060")
    assert kit.callee.seen(ResponseReceived)[-1].response.status == 202
    assert notified(kit) == [b"100"]
    kit.answer(kit.second, 180, b"")
    kit.answer(kit.second)
    assert notified(kit) == [b"100", b"180", b"200"]
    assert (kit.capture.tracks[0].hears, kit.capture.tracks[2].hears) == (2, 0)
    assert kit.capture.tracks[2].far.host == SECOND  # type: ignore[union-attr]
    assert kit.capture.kinds() == ["transferred"]
    kit.run(6)
    assert kit.callee.one(SessionEnded)
    assert kit.call.life is Life.TALKING
    kit.second.endpoint.bye(kit.incoming(kit.second).session, now=kit.link.now)
    kit.run(1)
    assert kit.caller.one(SessionEnded)
    assert kit.call.ended


def test_who_transfers_hangs_up_before_anybody_answers() -> None:
    kit, _, other = talking()
    refer(kit, other, f"sip:201@{SECOND}:5060")
    kit.callee.endpoint.bye(other, now=kit.link.now)
    kit.run(0.5)
    assert not kit.caller.seen(SessionEnded)
    assert tones(kit) == [Tone.RINGING]
    kit.answer(kit.second)
    assert kit.capture.tracks[0].hears == 2
    assert kit.call.life is Life.TALKING


def test_a_transfer_that_fails_leaves_the_call_as_it_was() -> None:
    kit, _, other = talking()
    refer(kit, other, f"sip:201@{SECOND}:5060")
    kit.answer(kit.second, 486)
    assert notified(kit) == [b"100", b"486"]
    assert kit.call.life is Life.TALKING
    assert kit.capture.tracks[0].hears == 1
    refer(kit, other, f"sip:202@{SECOND}:5060")
    assert str(kit.incoming(kit.second).inbound.request.uri).startswith("sip:202@")


def test_a_transfer_that_fails_after_its_maker_has_gone_ends_the_call() -> None:
    kit, _, other = talking()
    refer(kit, other, f"sip:201@{SECOND}:5060")
    kit.callee.endpoint.bye(other, now=kit.link.now)
    kit.run(0.5)
    kit.answer(kit.second, 486)
    kit.run(1)
    assert kit.caller.one(SessionEnded)
    assert kit.call.ended


def test_a_caller_cannot_have_numbers_dialled() -> None:
    kit, session, _ = talking()
    kit.caller.endpoint.request(
        "REFER", now=kit.link.now, session=session, headers=[("Refer-To", f"<sip:00881@{SECOND}>")]
    )
    kit.run(0.5)
    assert kit.caller.seen(ResponseReceived)[-1].response.status == 603
    assert not kit.second.seen(IncomingInvite)


def test_a_host_that_is_not_ours_is_reached_through_the_switchboard() -> None:
    kit, _, other = talking()
    refer(kit, other, "sip:201@evil.example")
    assert str(kit.callee.seen(IncomingInvite)[-1].inbound.request.uri) == f"sip:201@{CALLEE}:5060"


def test_an_attended_transfer_of_two_calls_of_ours() -> None:
    kit, _, other = talking()
    # The agent asks a colleague: a call of its own, through the box too.
    consult = kit.dial(kit.callee, "02079460000", from_="<sip:02079460001@192.0.2.2>", body=sdp(CALLEE, 5100))
    event = kit.incoming()
    kit.callee.endpoint.respond(event.inbound, 503, now=kit.link.now)
    kit.run(0.5)
    kit.answer(kit.second)
    second_call = kit.call
    assert second_call.life is Life.TALKING
    first = kit.calls[0]
    dialog = consult.dialog
    assert dialog is not None
    replaces = f"{dialog.call_id}%3Bto-tag%3D{dialog.remote_tag}%3Bfrom-tag%3D{dialog.local_tag}"
    refer(kit, other, f"sip:02079460000@{BOX}?Replaces={replaces}")
    reply(kit, kit.second.one(ReInvite), sdp(SECOND, 5000, "8 101", version=2))
    media = kit.media[first.call_id]
    assert (media.tracks[0].hears, media.tracks[2].hears) == (2, 0)
    assert media.tracks[2].far.host == SECOND  # type: ignore[union-attr]
    assert b"200" in notified(kit)
    kit.run(6)
    assert second_call.ended
    assert first.life is Life.TALKING
    kit.second.endpoint.bye(kit.incoming(kit.second).session, now=kit.link.now)
    kit.run(1)
    assert first.ended
    assert kit.caller.one(SessionEnded)
    assert not kit.box.endpoint.sessions


def test_an_invite_with_replaces_takes_a_place() -> None:
    kit, _, _ = talking()
    invite = kit.incoming().session
    dialog = invite.dialog
    assert dialog is not None
    kit.dial(
        kit.second,
        body=sdp(SECOND, 6000),
        headers=[("Replaces", f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}")],
    )
    kit.run(1)
    assert kit.second.one(Answered)
    assert (kit.capture.tracks[0].hears, kit.capture.tracks[2].hears) == (2, 0)
    assert kit.callee.one(SessionEnded)
    assert len(kit.calls) == 1
    assert kit.call.life is Life.TALKING


def test_capture_goes_away_in_mid_call_and_the_call_goes_on() -> None:
    kit, session, _ = talking()

    def fails(command: Command) -> str:
        return "away"

    kit.fails = fails
    kit.caller.endpoint.reinvite(
        session, now=kit.link.now, body=sdp(CALLER, 4000, direction="sendonly", version=2)
    )
    kit.run(0.3)
    reply(kit, kit.callee.one(ReInvite), sdp(CALLEE, 5000, direction="recvonly", version=2))
    assert kit.caller.seen(ResponseReceived)[-1].response.status == 200
    kit.caller.endpoint.bye(session, now=kit.link.now)
    kit.run(1)
    assert kit.callee.one(SessionEnded)
    assert kit.call.ended
