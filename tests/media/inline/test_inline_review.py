"""Inline calls where peers and timing are awkward: forks, races, who has gone, keys, answers for others."""

from __future__ import annotations

import pytest
from inline_kit import (
    BOX,
    CALLEE,
    CALLER,
    SECOND,
    Change,
    Command,
    EndRecording,
    Kit,
    Pause,
    Resume,
    announced,
    make_line,
    sdp,
)
from test_inline_talk import refer, reply, talking

from appliance.media.inline.ground import Life
from appliance.media.sip.events import (
    Answered,
    IncomingInvite,
    IncomingRequest,
    Provisional,
    ReInvite,
    SessionEnded,
)
from appliance.media.sip.flow import Flow
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.sdp import parse_sdp
from appliance.media.sip.session import SipSession
from appliance.model.routing import Target


def inject(kit: Kit, message: SipRequest | SipResponse, source: str = CALLEE) -> None:
    """A message as if it came from a peer."""
    flow = Flow(kit.link.transport, (BOX, 5060), (source, 5060), None)
    kit.box.endpoint.receive(message.serialize(), flow, kit.link.now)
    kit.box.pump()
    kit.settle()
    kit.run(0.3)


def forked(kit: Kit, status: int, tag: str, body: bytes = b"") -> SipResponse:
    """A response of another branch to our INVITE."""
    request = kit.incoming().inbound.request
    twin = kit.callee.responses(180)[0].copy()
    made = SipResponse(status, "Of a branch", twin.headers)
    made.headers.set("To", str(request.to.with_tag(tag)))
    made.headers.set("Contact", f"<sip:{tag}@{CALLEE}:5060>")
    if body:
        made.headers.set("Content-Type", "application/sdp")
        made.body = body
    return made


def one_target() -> Kit:
    return Kit(make_line(rules={"inbound": (Target(uri=f"sip:{CALLEE}:5060"),)}))


# -- who has gone ------------------------------------------------------------------------------------------------------


def test_who_transferred_and_hung_up_hears_nothing_and_is_not_recorded() -> None:
    kit, _, other = talking()
    refer(kit, other, f"sip:201@{SECOND}:5060")
    kit.callee.endpoint.bye(other, now=kit.link.now)
    kit.run(0.5)
    gone = kit.capture.tracks[1]
    assert (gone.active, gone.far, gone.hears, gone.codes) == (False, None, -1, ())
    kit.answer(kit.second)
    gone = kit.capture.tracks[1]
    assert (gone.active, gone.far, gone.hears) == (False, None, -1)


def test_who_transferred_and_is_hung_up_afterwards_is_not_recorded() -> None:
    kit, _, other = talking()
    refer(kit, other, f"sip:201@{SECOND}:5060")
    kit.answer(kit.second)
    assert kit.call.take_changed()
    kit.run(6)
    assert kit.call.take_changed(), "it is shown without who has gone"
    gone = kit.capture.tracks[1]
    assert (gone.active, gone.far, gone.hears) == (False, None, -1)


# -- forks -------------------------------------------------------------------------------------------------------------


def test_the_branch_that_answers_is_heard_not_the_one_that_had_early_media() -> None:
    kit = one_target()
    kit.dial()
    kit.answer(status=180, body=b"")
    inject(kit, forked(kit, 183, "first", sdp(CALLEE, 5100, "8 101")))
    assert kit.capture.tracks[1].far.rtp_port == 5100  # type: ignore[union-attr]
    inject(kit, forked(kit, 200, "second", sdp(CALLEE, 5200, "8 101")))
    assert kit.call.life is Life.TALKING
    assert kit.capture.tracks[1].far.rtp_port == 5200  # type: ignore[union-attr]
    assert (kit.capture.tracks[0].hears, kit.capture.tracks[1].hears) == (1, 0)


def test_the_branch_that_answers_may_speak_another_codec() -> None:
    kit = one_target()
    kit.dial()
    kit.answer(status=180, body=b"")
    inject(kit, forked(kit, 183, "first", sdp(CALLEE, 5100, "8 101")))
    inject(kit, forked(kit, 200, "second", sdp(CALLEE, 5200, "0 101")))
    assert kit.call.life is Life.TALKING
    kit.run(0.5)
    offer = parse_sdp(kit.caller.one(ReInvite).inbound.request.body)
    assert offer.media[0].formats == ("0", "101")


def test_an_answer_that_moves_the_media_of_its_own_early_media_is_followed() -> None:
    kit = one_target()
    kit.dial()
    kit.answer(status=183, body=sdp(CALLEE, 5100, "8 101"))
    kit.answer(body=sdp(CALLEE, 5200, "8 101"))
    assert kit.capture.tracks[1].far.rtp_port == 5200  # type: ignore[union-attr]


# -- races -------------------------------------------------------------------------------------------------------------


def test_a_callee_that_hangs_up_before_the_caller_is_told_leaves_no_caller_waiting() -> None:
    kit = one_target()
    kit.dial()
    held: list[Command] = []

    def settle() -> None:
        return None

    carry_out, kit._carry_out = kit._carry_out, settle  # type: ignore[method-assign]
    kit.answer()
    kit.callee.endpoint.bye(kit.incoming().session, now=kit.link.now)
    kit.run(0.5)
    kit._carry_out = carry_out  # type: ignore[method-assign]
    kit.settle()
    kit.run(2)
    assert not held
    assert kit.caller.one(SessionEnded)
    assert kit.call.ended


def test_a_callee_that_hangs_up_while_the_answer_waits_for_a_prack() -> None:
    kit = one_target()
    kit.link.meddle = lambda sender, message: (
        not (isinstance(message, SipRequest) and message.method == "PRACK" and not passing)
    )
    passing: list[int] = []
    kit.dial(headers=[("Supported", "100rel")])
    kit.answer(status=183, body=sdp(CALLEE, 5000, "8 101"))
    kit.answer(body=sdp(CALLEE, 5000, "8 101"))
    kit.callee.endpoint.bye(kit.incoming().session, now=kit.link.now)
    kit.run(0.5)
    passing.append(1)
    kit.run(10)
    assert kit.caller.one(SessionEnded)
    assert kit.call.ended
    assert not kit.box.endpoint.sessions


@pytest.mark.parametrize("status", [401, 407, 420, 422, 481, 487, 491])
def test_what_means_nothing_to_the_caller_is_said_in_other_words(status: int) -> None:
    """A challenge, or a word about our own request, is between us and who said it (RFC 3261, section 16.7)."""
    kit = one_target()
    kit.dial()
    kit.answer(status=status)
    kit.run(1)
    ended = kit.caller.one(SessionEnded)
    assert ended.response is not None
    assert ended.response.status == {401: 403, 407: 403}.get(status, 480 if status > 480 else 500)


def test_a_call_that_has_no_hops_left_is_refused() -> None:
    kit = Kit()
    kit.dial(headers=[("Max-Forwards", "0")])
    ended = kit.caller.one(SessionEnded)
    assert ended.response is not None
    assert ended.response.status == 483
    assert not kit.callee.seen(IncomingInvite)


# -- capture does not hear ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["away", "PORTS_EXHAUSTED"])
def test_what_capture_did_not_hear_or_could_not_do_is_said_again(why: str) -> None:
    kit, _, other = talking()
    kit.fails = lambda command: why if isinstance(command, Change) else ""
    kit.callee.endpoint.reinvite(
        other, now=kit.link.now, body=sdp(CALLEE, 5600, "8 101", version=2), content_type="application/sdp"
    )
    kit.run(0.4)
    reply(kit, kit.caller.one(ReInvite), sdp(CALLER, 4000, "8 101", version=2))
    assert kit.capture.tracks[1].far.rtp_port == 5000  # type: ignore[union-attr]
    kit.fails = lambda command: ""
    kit.run(6)
    assert kit.capture.tracks[1].far.rtp_port == 5600  # type: ignore[union-attr]
    asked = len(kit.capture.of(Change))
    kit.run(5)
    assert len(kit.capture.of(Change)) == asked, "said once"


@pytest.mark.parametrize("why", ["away", "PORTS_EXHAUSTED"])
def test_marks_that_capture_did_not_hear_are_said_again(why: str) -> None:
    kit = Kit(announced())
    kit.dial()
    kit.fails = lambda command: why if isinstance(command, Change) else ""
    kit.play_to_end()
    assert kit.capture.kinds() == []
    kit.fails = lambda command: ""
    kit.run(6)
    assert kit.capture.kinds() == ["announced"]


def test_a_pause_that_capture_did_not_hear_is_asked_again() -> None:
    kit, _, _ = talking()
    kit.fails = lambda command: "away" if isinstance(command, Pause) else ""
    kit.key("*2")
    assert kit.call.ground.paused and not kit.capture.paused
    kit.fails = lambda command: ""
    kit.call.keeping.compare(paused=False, recording=True)
    kit.settle()
    assert kit.capture.paused
    asked = len(kit.capture.of(Pause))
    kit.call.keeping.compare(paused=True, recording=True)
    kit.settle()
    assert len(kit.capture.of(Pause)) == asked


def test_an_end_that_capture_did_not_hear_is_asked_again() -> None:
    kit, _, _ = talking()
    kit.fails = lambda command: "away" if isinstance(command, EndRecording) else ""
    kit.key("*4")
    assert kit.call.ground.stopped and kit.capture.recording
    kit.fails = lambda command: ""
    kit.call.keeping.compare(paused=False, recording=True)
    kit.settle()
    assert not kit.capture.recording
    kit.call.keeping.compare(paused=False, recording=False)
    kit.settle()
    assert kit.call.ground.stopped


def test_what_capture_has_ended_or_paused_stays_so() -> None:
    """The word of it was lost, with the process that had asked."""
    kit, _, _ = talking()
    kit.call.keeping.compare(paused=True, recording=True)
    assert kit.call.ground.paused
    kit.key("*3")
    assert not kit.call.ground.paused
    assert kit.capture.of(Resume)
    kit.call.keeping.compare(paused=False, recording=False)
    kit.settle()
    assert kit.call.ground.stopped and not kit.call.ground.recording
    kit.key("*3")
    assert len(kit.capture.of(Resume)) == 1
    assert kit.capture.tracks[1].codes == ()


# -- two calls ---------------------------------------------------------------------------------------------------------


def consulting() -> tuple[Kit, SipSession, SipSession]:
    """A call, and a second one of its agent's to a colleague; the agent's sessions in both."""
    kit, _, other = talking()
    consult = kit.dial(kit.callee, "02079460000", from_="<sip:02079460001@192.0.2.2>", body=sdp(CALLEE, 5100))
    kit.callee.endpoint.respond(kit.incoming().inbound, 503, now=kit.link.now)
    kit.run(0.5)
    kit.answer(kit.second)
    return kit, other, consult


def hand_over(kit: Kit, other: SipSession, consult: SipSession) -> None:
    dialog = consult.dialog
    assert dialog is not None
    replaces = f"{dialog.call_id}%3Bto-tag%3D{dialog.remote_tag}%3Bfrom-tag%3D{dialog.local_tag}"
    refer(kit, other, f"sip:02079460000@{BOX}?Replaces={replaces}")
    # It does not wait for the word that it has come about.
    kit.callee.endpoint.bye(consult, now=kit.link.now)
    kit.callee.endpoint.bye(other, now=kit.link.now)
    kit.run(0.5)


def test_who_hands_over_may_hang_up_both_calls_at_once() -> None:
    kit, other, consult = consulting()
    hand_over(kit, other, consult)
    assert not kit.second.seen(SessionEnded)
    assert not kit.caller.seen(SessionEnded)
    reply(kit, kit.second.one(ReInvite), sdp(SECOND, 5000, "8 101", version=2))
    first, second = kit.calls
    assert second.ended
    media = kit.media[first.call_id]
    assert (media.tracks[0].hears, media.tracks[2].hears) == (2, 0)
    assert first.life is Life.TALKING
    kit.caller.endpoint.bye(kit.caller.seen(Answered)[0].session, now=kit.link.now)
    kit.run(1)
    assert first.ended
    assert not kit.box.endpoint.sessions


def test_a_hand_over_that_fails_after_its_maker_has_gone_leaves_nobody() -> None:
    kit, other, consult = consulting()
    hand_over(kit, other, consult)
    reply(kit, kit.second.one(ReInvite), b"", 488)
    kit.run(1)
    assert kit.caller.one(SessionEnded)
    assert kit.second.one(SessionEnded)
    assert all(call.ended for call in kit.calls)
    assert not kit.box.endpoint.sessions


@pytest.mark.parametrize(("code", "kinds"), [("*4", ["stopped"]), ("*2", ["paused"]), ("", [])])
def test_what_was_ended_or_paused_in_the_call_that_is_handed_over_is_so_in_the_other(
    code: str, kinds: list[str]
) -> None:
    kit, other, consult = consulting()
    if code:
        kit.key(code)
    hand_over(kit, other, consult)
    reply(kit, kit.second.one(ReInvite), sdp(SECOND, 5000, "8 101", version=2))
    first = kit.calls[0]
    media = kit.media[first.call_id]
    assert media.kinds()[: len(kinds)] == kinds
    assert (first.ground.stopped, first.ground.paused) == (code == "*4", code == "*2")
    assert first.life is Life.TALKING


def test_a_transfer_to_a_number_that_is_not_recorded_ends_the_recording() -> None:
    kit, _, other = talking(Kit(make_line(do_not_record=("0201*",))))
    refer(kit, other, f"sip:0201@{SECOND}:5060")
    assert kit.capture.recording
    kit.answer(kit.second)
    assert not kit.capture.recording
    stopped = kit.capture.marks[-1]
    assert (stopped.kind.value, stopped.actor, stopped.reason) == ("stopped", "automatic", "do-not-record")
    assert (kit.capture.tracks[0].hears, kit.capture.tracks[2].hears) == (2, 0)


# -- who is not there any more -----------------------------------------------------------------------------------------


def test_a_party_that_does_not_know_the_call_any_more_ends_it() -> None:
    kit, _, callee = talking()
    kit.call.presence.ask(2)
    kit.run(0.5)
    for host in (kit.caller, kit.callee):
        event = host.seen(IncomingRequest)[-1]
        assert event.inbound.method == "OPTIONS"
        host.endpoint.respond(event.inbound, 405, now=kit.link.now)
    kit.run(0.5)
    assert kit.call.life is Life.TALKING, "whatever it says, it is there"
    kit.callee.endpoint._core.dialogs.clear()  # its power was off for a moment
    kit.call.presence.ask(2)
    kit.run(1)
    assert kit.call.over
    assert kit.caller.one(SessionEnded)
    assert callee.live


def test_parties_that_do_not_answer_are_gone_after_the_second_time() -> None:
    kit, _, _ = talking()
    kit.caller.dead = kit.callee.dead = True
    kit.call.presence.ask(2)
    kit.call.presence.ask(2)  # one question at a time
    kit.run(40)
    assert kit.call.life is Life.TALKING
    kit.call.presence.ask(2)
    kit.run(80)
    assert kit.call.ended
    assert not kit.box.endpoint.sessions


def test_a_transfer_past_the_switchboard_goes_by_way_of_it() -> None:
    """What its users may call is for the switchboard to say: the trunk would let them call anybody."""
    kit, _, other = talking()
    refer(kit, other, f"sip:0090123456@{CALLER}:5060")
    assert not kit.caller.seen(IncomingInvite)
    assert str(kit.callee.seen(IncomingInvite)[-1].inbound.request.uri) == f"sip:0090123456@{CALLEE}:5060"


# -- while the caller waits --------------------------------------------------------------------------------------------


def test_a_caller_that_waits_is_told_so_each_minute() -> None:
    kit = Kit(announced(rules={"ring_s": 300}))
    kit.dial()
    kit.play_to_end()
    kit.run(125)
    early = [event.response for event in kit.caller.seen(Provisional) if event.response.status == 183]
    assert len(early) == 3
    assert len({one.body for one in early}) == 1
    kit.answer()
    kit.play_to_end()
    assert kit.call.life is Life.TALKING
    kit.run(125)
    assert len([event for event in kit.caller.seen(Provisional) if event.response.status == 183]) == 3


def test_what_goes_wrong_again_and_again_is_noted_once() -> None:
    kit, _, _ = talking()
    kit.call.take_notes()
    for _ in range(3):
        kit.call.ground.notes += ["one"]
        kit.call.ground.notes += ["one", "one"]
        assert kit.call.take_notes() in (["one"], [])
    kit.call.ground.notes += ["two", "one"]
    assert kit.call.take_notes() == ["two", "one"]
