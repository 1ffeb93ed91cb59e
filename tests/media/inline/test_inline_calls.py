"""Inline calls from INVITE to BYE: straight, announced, whispered, failed over, refused."""

from __future__ import annotations

import pytest
from inline_kit import (
    BOX,
    CALLEE,
    PROMPT,
    SECOND,
    Change,
    Close,
    Command,
    Kit,
    Open,
    Play,
    announced,
    make_line,
    sdp,
)

from appliance.media.inline.ground import Life
from appliance.media.inline.media import PlayEnded, Tone
from appliance.media.sip.events import Answered, EndCause, IncomingInvite, Provisional, SessionEnded
from appliance.media.sip.flow import Flow
from appliance.media.sip.sdp import parse_sdp
from appliance.model.routing import AnnounceWhen, Target


def last_answer(kit: Kit) -> bytes:
    return kit.caller.one(Answered).response.body


def test_a_call_goes_through_and_is_recorded() -> None:
    kit = Kit(make_line())
    session = kit.dial()
    invite = kit.incoming().inbound.request
    assert str(invite.uri) == f"sip:02079460000@{CALLEE}:5060"
    assert "07700900123" in str(invite.from_)
    offer = parse_sdp(invite.body)
    assert offer.media[0].formats == ("8", "0", "101")
    assert offer.connection_of(offer.media[0]).address == BOX  # type: ignore[union-attr]
    kit.answer(status=180, body=b"")
    assert [event.response.status for event in kit.caller.seen(Provisional)] == [100, 180]
    kit.answer(body=sdp(CALLEE, 5000, "8 101"))
    answer = parse_sdp(last_answer(kit))
    assert answer.media[0].formats == ("8", "101")
    assert kit.call.life is Life.TALKING
    caller, callee = kit.capture.tracks[0], kit.capture.tracks[1]
    assert (caller.hears, callee.hears) == (1, 0)
    assert (caller.far.host, caller.far.rtp_port) == ("192.0.2.1", 4000)  # type: ignore[union-attr]
    assert (callee.far.host, callee.far.rtp_port) == (CALLEE, 5000)  # type: ignore[union-attr]
    assert answer.media[0].port == kit.capture.places[0].rtp_port
    assert kit.capture.recording
    kit.caller.endpoint.bye(session, now=kit.link.now)
    kit.run(1)
    assert kit.callee.one(SessionEnded).cause is EndCause.REMOTE_BYE
    assert kit.capture.of(Close)[0].reason == "bye"
    assert kit.call.ended
    assert not kit.box.endpoint.sessions


def test_the_callee_hangs_up() -> None:
    kit = Kit()
    kit.dial()
    kit.answer()
    kit.callee.endpoint.bye(kit.incoming().session, now=kit.link.now)
    kit.run(1)
    assert kit.caller.one(SessionEnded).cause is EndCause.REMOTE_BYE
    assert kit.call.ended


def test_early_media_is_heard() -> None:
    kit = Kit()
    kit.dial()
    kit.answer(status=183)
    assert kit.capture.tracks[0].hears == 1
    assert kit.capture.tracks[1].hears == -1
    (early,) = [event for event in kit.caller.seen(Provisional) if event.response.status == 183]
    kit.answer()
    assert early.response.body == last_answer(kit)


def test_an_announcement_before_the_answer() -> None:
    kit = Kit(announced())
    kit.dial()
    assert not kit.callee.seen(IncomingInvite)
    (early,) = [event for event in kit.caller.seen(Provisional) if event.response.status == 183]
    assert parse_sdp(early.response.body).media[0].formats == ("8", "101")
    (play,) = kit.capture.of(Play)
    assert (play.sound, play.track, play.record_track, play.codec.encoding) == (
        PROMPT.prompt_id,
        0,
        2,
        "PCMA",
    )
    assert kit.call.life is Life.ANNOUNCING
    kit.play_to_end()
    assert parse_sdp(kit.incoming().inbound.request.body).media[0].formats == ("8", "101")
    kit.answer(status=180, body=b"")
    assert kit.capture.of(Play)[-1].sound is Tone.RINGING
    kit.answer(body=sdp(CALLEE, 5000, "8 101"))
    whisper = kit.capture.of(Play)[-1]
    assert (whisper.track, whisper.record_track) == (1, -1)
    assert kit.call.life is Life.WHISPERING
    assert not kit.caller.seen(Answered)
    assert kit.capture.tracks[1].hears == -1
    kit.play_to_end()
    assert kit.call.life is Life.TALKING
    assert last_answer(kit) == early.response.body
    assert (kit.capture.tracks[0].hears, kit.capture.tracks[1].hears) == (1, 0)
    announced_mark, whispered = kit.capture.marks
    assert announced_mark.kind.value == "announced"
    assert announced_mark.data["heard"] == "whole"
    assert announced_mark.data["text_sha256"] == PROMPT.text_sha256
    assert announced_mark.data["purposes"] == "training"
    assert whispered.kind.value == "whispered"
    assert whispered.track == 1


def test_an_announcement_after_the_answer() -> None:
    kit = Kit(announced(when=AnnounceWhen.AFTER_ANSWER))
    kit.dial()
    assert kit.caller.seen(Answered)
    assert not kit.callee.seen(IncomingInvite)
    kit.play_to_end()
    kit.answer()
    kit.play_to_end()
    assert kit.call.life is Life.TALKING
    assert len(kit.caller.seen(Answered)) == 1


def test_an_announcement_interrupted_is_noted_as_heard_in_part() -> None:
    kit = Kit(announced())
    kit.dial()
    (play,) = kit.capture.of(Play)
    kit.call.media(PlayEnded(play.play_id, False, 700, True, kit.wall_ns()))
    kit.settle()
    kit.run(0.2)
    (mark,) = kit.capture.marks
    assert (mark.data["heard"], mark.data["played_ms"], mark.data["interrupted"]) == ("part", 700, True)
    assert kit.callee.seen(IncomingInvite)


def test_an_announcement_that_never_ends_does_not_hold_the_call() -> None:
    kit = Kit(announced())
    kit.dial()
    kit.run(6)
    assert kit.callee.seen(IncomingInvite)


def test_a_prompt_that_cannot_be_played_does_not_hold_the_call() -> None:
    kit = Kit(announced())
    kit.fails = lambda command: "PROMPT_NOT_FOUND" if isinstance(command, Play) else ""
    kit.dial()
    kit.run(0.5)
    kit.answer()
    kit.run(0.5)
    assert kit.call.life is Life.TALKING
    assert [mark.data["heard"] for mark in kit.capture.marks] == ["none", "none"]


def test_an_offer_that_the_box_cannot_speak_is_not_announced() -> None:
    kit = Kit(announced())
    kit.dial(body=sdp("192.0.2.1", 4000, "18"))
    assert kit.callee.seen(IncomingInvite)
    assert kit.capture.marks[0].reason == "no-codec"


def test_the_caller_leaves_the_offer_to_the_callee() -> None:
    kit = Kit()
    session = kit.dial(body=b"")
    assert kit.incoming().inbound.request.body == b""
    kit.answer(body=sdp(CALLEE, 5000, "8 0 101"))
    answered = kit.caller.one(Answered)
    assert answered.wants_ack
    assert parse_sdp(answered.response.body).media[0].formats == ("8", "0", "101")
    kit.caller.endpoint.ack(
        session, now=kit.link.now, body=sdp("192.0.2.1", 4000, "0 101"), content_type="application/sdp"
    )
    kit.run(0.5)
    assert kit.call.life is Life.TALKING
    acks = kit.box.requests("ACK")
    assert parse_sdp(acks[-1].body).media[0].formats == ("0", "101")
    assert kit.capture.tracks[0].hears == 1


def test_the_caller_leaves_the_offer_to_the_box_that_announces() -> None:
    kit = Kit(announced())
    session = kit.dial(body=b"")
    answered = kit.caller.one(Answered)
    assert answered.wants_ack
    kit.caller.endpoint.ack(
        session, now=kit.link.now, body=sdp("192.0.2.1", 4000, "0 101"), content_type="application/sdp"
    )
    kit.run(0.5)
    assert kit.capture.of(Play)[0].codec.encoding == "PCMU"
    kit.play_to_end()
    kit.answer(body=sdp(CALLEE, 5000, "0 101"))
    kit.play_to_end()
    assert kit.call.life is Life.TALKING
    assert kit.capture.tracks[0].hears == 1


def test_another_codec_than_the_announced_one_is_agreed_afterwards() -> None:
    kit = Kit(announced())
    kit.dial()
    kit.play_to_end()
    kit.answer(status=488)
    offer = parse_sdp(kit.incoming().inbound.request.body)
    assert offer.media[0].formats == ("8", "0", "101")
    kit.answer(body=sdp(CALLEE, 5000, "0 101"))
    kit.play_to_end()
    from appliance.media.sip.events import ReInvite

    again = kit.caller.one(ReInvite)
    assert parse_sdp(again.inbound.request.body).media[0].formats == ("0", "101")
    kit.caller.endpoint.respond(
        again.inbound,
        200,
        now=kit.link.now,
        body=sdp("192.0.2.1", 4000, "0 101", version=2),
        content_type="application/sdp",
    )
    kit.run(0.5)
    assert kit.capture.tracks[0].codecs[0].encoding == "PCMU"


@pytest.mark.parametrize("status", [486, 600, 603, 403])
def test_a_refusal_is_told(status: int) -> None:
    kit = Kit()
    kit.dial()
    kit.answer(status=status)
    kit.run(1)
    ended = kit.caller.one(SessionEnded)
    assert ended.response is not None
    assert ended.response.status == status
    assert not kit.second.seen(IncomingInvite)
    assert kit.call.ended


@pytest.mark.parametrize("status", [503, 404, 480, 500])
def test_the_next_place_is_tried(status: int) -> None:
    kit = Kit()
    kit.dial()
    kit.answer(status=status)
    assert kit.second.seen(IncomingInvite)
    kit.answer(kit.second)
    assert kit.call.life is Life.TALKING
    assert kit.capture.tracks[1].far.host == SECOND  # type: ignore[union-attr]


def test_nobody_answers_and_the_next_place_does() -> None:
    kit = Kit(make_line(rules={"ring_s": 10}))
    kit.dial()
    kit.answer(status=180, body=b"")
    kit.run(11)
    assert kit.callee.one(SessionEnded).cause is EndCause.CANCELLED
    kit.answer(kit.second)
    assert kit.call.life is Life.TALKING


def test_nobody_answers_anywhere() -> None:
    kit = Kit(make_line(rules={"ring_s": 10}))
    kit.dial()
    kit.run(25)
    ended = kit.caller.one(SessionEnded)
    assert ended.response is not None
    assert ended.response.status == 480
    kit.run(60)
    assert kit.call.ended
    assert not kit.box.endpoint.sessions


def test_a_place_that_is_dead() -> None:
    kit = Kit(make_line(rules={"ring_s": 60}))
    kit.callee.dead = True
    kit.dial()
    kit.run(40)
    assert kit.second.seen(IncomingInvite)
    kit.answer(kit.second)
    assert kit.call.life is Life.TALKING


def test_the_caller_gives_up_while_it_rings() -> None:
    kit = Kit()
    session = kit.dial()
    kit.answer(status=180, body=b"")
    kit.caller.endpoint.cancel(session, now=kit.link.now)
    kit.run(1)
    assert kit.callee.one(SessionEnded).cause is EndCause.CANCELLED
    assert kit.call.ended
    assert not kit.capture.open


def test_the_answer_and_the_cancel_meet() -> None:
    kit = Kit()
    session = kit.dial()
    kit.answer(status=180, body=b"")
    inbound = kit.incoming().inbound
    kit.callee.endpoint.respond(
        inbound, 200, now=kit.link.now, body=sdp(CALLEE, 5000), content_type="application/sdp"
    )
    kit.callee.pump()
    kit.caller.endpoint.cancel(session, now=kit.link.now)
    kit.run(40)
    assert kit.callee.one(SessionEnded)
    assert kit.caller.one(SessionEnded)
    assert kit.call.ended
    assert not kit.box.endpoint.sessions


def test_no_common_codec() -> None:
    kit = Kit()
    kit.dial(body=sdp("192.0.2.1", 4000, "8"))
    kit.answer(body=sdp(CALLEE, 5000, "0"))
    kit.run(1)
    ended = kit.caller.one(SessionEnded)
    assert ended.response is not None
    assert ended.response.status == 488
    assert kit.callee.one(SessionEnded).cause is EndCause.REMOTE_BYE
    assert kit.call.ended


def test_an_offer_without_audio() -> None:
    kit = Kit()
    kit.dial(body=b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=video 4000 RTP/AVP 31\r\n")
    ended = kit.caller.one(SessionEnded)
    assert ended.response is not None
    assert ended.response.status == 488
    assert not kit.calls[0].ground.open


def test_other_lines_of_an_offer_are_answered_by_port_0() -> None:
    kit = Kit()
    kit.dial(body=sdp("192.0.2.1", 4000) + b"m=video 4002 RTP/AVP 31\r\n")
    kit.answer()
    media = parse_sdp(last_answer(kit)).media
    assert [line.port == 0 for line in media] == [False, True]
    assert len(parse_sdp(kit.incoming().inbound.request.body).media) == 1


def test_a_line_without_a_target() -> None:
    kit = Kit(make_line(rules={"inbound": ()}))
    kit.dial()
    ended = kit.caller.one(SessionEnded)
    assert ended.response is not None
    assert ended.response.status == 404


def test_hops_are_counted() -> None:
    kit = Kit()
    kit.dial(headers=[("Max-Forwards", "5")])
    assert kit.incoming().inbound.request.max_forwards == 4


def test_an_emergency_goes_straight_through() -> None:
    kit = Kit(announced())
    kit.dial(kit.callee, "999", from_="<sip:02079460000@192.0.2.2>", body=sdp(CALLEE, 5000))
    assert not kit.capture.of(Play)
    assert str(kit.incoming(kit.caller).inbound.request.uri) == "sip:999@192.0.2.1:5060"
    kit.answer(kit.caller)
    assert kit.call.life is Life.TALKING
    assert kit.capture.recording


def test_an_outbound_call_is_announced_to_who_is_called() -> None:
    kit = Kit(announced())
    kit.dial(kit.callee, "07700900123", from_="<sip:02079460000@192.0.2.2>", body=sdp(CALLEE, 5000))
    kit.answer(kit.caller)
    assert kit.call.life is Life.WHISPERING
    plays = {play.sound: play for play in kit.capture.of(Play)}
    assert plays[PROMPT.prompt_id].track == 1
    assert plays[PROMPT.prompt_id].record_track == 2
    assert plays["w" * 26].track == 0
    assert kit.callee.seen(Answered)
    kit.play_to_end()
    assert kit.call.life is Life.TALKING


# -- capture in trouble ------------------------------------------------------------------------------------------------


def test_where_capture_cannot_record_the_call_is_relayed() -> None:
    kit = Kit(announced())

    def fails(command: Command) -> str:
        return "DISK_GONE" if isinstance(command, Open) and not command.relay_only else ""

    kit.fails = fails
    kit.dial()
    assert not kit.capture.of(Play)  # it is not recorded, so nobody is told that it is
    kit.answer()
    assert kit.call.life is Life.TALKING
    assert not kit.capture.recording
    assert kit.call.ground.why_not == "capture: DISK_GONE"
    assert kit.capture.tracks[0].hears == 1


def test_where_capture_is_gone_media_goes_past_the_box() -> None:
    kit = Kit(announced())
    kit.fails = lambda command: "away"
    session = kit.dial()
    mine = sdp("192.0.2.1", 4000)
    assert kit.incoming().inbound.request.body == mine
    kit.answer()
    assert last_answer(kit) == sdp(CALLEE, 5000)
    assert kit.call.life is Life.TALKING
    kit.caller.endpoint.bye(session, now=kit.link.now)
    kit.run(1)
    assert kit.call.ended


def test_a_call_that_is_not_to_be_recorded_is_not_announced() -> None:
    kit = Kit(announced())
    kit.withheld = "do-not-record"
    kit.dial()
    kit.answer()
    assert not kit.capture.of(Play)
    assert kit.capture.of(Open)[0].relay_only
    assert kit.call.life is Life.TALKING


@pytest.mark.parametrize("loss", [0.1, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_messages_get_lost(seed: int, loss: float) -> None:
    kit = Kit(announced(), seed=seed, loss=loss, jitter=0.3)
    session = kit.dial()
    kit.run(8)
    kit.play_to_end()
    kit.run(20)
    if not kit.callee.seen(IncomingInvite):
        pytest.fail("the callee was never called")
    kit.answer()
    kit.run(15)
    kit.play_to_end()
    kit.run(10)
    assert kit.call.life in (Life.TALKING, Life.ENDED)
    kit.caller.endpoint.bye(session, now=kit.link.now)
    kit.run(120)
    assert kit.call.ended
    assert not kit.box.endpoint.sessions
    assert kit.capture.of(Change)


def test_a_caller_with_100rel_gets_its_early_media_reliably() -> None:
    kit = Kit(announced())
    session = kit.dial(headers=[("Supported", "100rel")])
    assert session is not None
    early = [event.response for event in kit.caller.seen(Provisional) if event.response.status == 183]
    assert early[0].rseq is not None
    assert kit.caller.requests("PRACK")
    kit.play_to_end()
    kit.answer()
    kit.play_to_end()
    assert kit.call.life is Life.TALKING


def test_a_target_that_answers_twice_is_hung_up_on_once() -> None:
    """Two 2xx of a call that was forked further on: the second branch is ended at once (RFC 3261, 13.2.2.4)."""
    kit = Kit()
    kit.dial()
    inbound = kit.incoming().inbound
    kit.answer()
    twin = kit.callee.responses(200)[0].copy()
    twin.headers.set("To", str(twin.to.with_tag("another")))
    kit.box.endpoint.receive(twin.serialize(), inbound_flow(kit), kit.link.now)
    kit.box.pump()
    kit.run(1)
    assert [request.to.tag for request in kit.box.requests("BYE")] == ["another"]
    assert kit.call.life is Life.TALKING
    assert inbound.answered


def inbound_flow(kit: Kit) -> Flow:
    return Flow(kit.link.transport, (BOX, 5060), (CALLEE, 5060), None)


@pytest.mark.parametrize(("status", "words"), [(486, "busy"), (480, "nobody answered"), (603, "declined")])
def test_a_person_understands_why_a_call_did_not_come_about(status: int, words: str) -> None:
    kit = Kit(make_line(rules={"inbound": (Target(uri=f"sip:{CALLEE}:5060"),)}))
    kit.dial()
    kit.call.take_notes()
    kit.answer(status=status)
    assert any(words in note for note in kit.call.take_notes())


def test_sound_in_packets_that_are_too_large_is_not_offered_on() -> None:
    kit = Kit()
    more = "a=rtpmap:96 L16/44100/2|a=rtpmap:97 L16/8000|a=ptime:80"
    kit.dial(body=sdp("192.0.2.1", 4000, "96 97 8", more))
    offer = parse_sdp(kit.incoming().inbound.request.body)
    assert offer.media[0].formats == ("97", "8")
    assert offer.media[0].ptime == 40
