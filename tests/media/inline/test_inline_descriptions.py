"""Inline calls: what is said of media, under awkward offers and answers; and what peers must not be able to do."""

from __future__ import annotations

import pytest
from inline_kit import (
    CALLEE,
    CALLER,
    SECOND,
    Kit,
    sdp,
)
from test_inline_review import inject, one_target
from test_inline_talk import refer, reply, talking

from appliance.media.inline.ground import Life
from appliance.media.inline.negotiation import reachable
from appliance.media.sip.events import (
    Answered,
    IncomingInvite,
    ReInvite,
    ResponseReceived,
    SessionEnded,
)
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.sdp import parse_sdp
from appliance.media.sip.session import SipSession

# -- keys and descriptions ---------------------------------------------------------------------------------------------

CRYPTO = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40


def test_a_caller_that_speaks_srtp_is_never_asked_to_speak_in_the_clear() -> None:
    kit = one_target()
    secure = sdp(CALLER, 4000, more=CRYPTO).replace(b"RTP/AVP", b"RTP/SAVP")
    kit.dial(body=secure)
    kit.answer()
    given = parse_sdp(kit.caller.one(Answered).response.body).media[0]
    kit.callee.endpoint.reinvite(
        kit.incoming().session,
        now=kit.link.now,
        body=sdp(CALLEE, 5000, "8 101", direction="sendonly", version=2),
        content_type="application/sdp",
    )
    kit.run(0.4)
    offered = parse_sdp(kit.caller.one(ReInvite).inbound.request.body).media[0]
    assert offered.proto == "RTP/SAVP"
    assert [one.keys for one in offered.cryptos] == [one.keys for one in given.cryptos]
    answer = secure.replace(b"o=- 77 1", b"o=- 77 2") + b"a=recvonly\r\n"
    reply(kit, kit.caller.one(ReInvite), answer)
    assert kit.capture.tracks[0].srtp is not None
    assert kit.capture.tracks[0].far.srtp is not None  # type: ignore[union-attr]


def test_a_callee_is_not_asked_for_an_offer_that_it_may_give_in_a_reliable_provisional() -> None:
    """The answer to it would have to come in our PRACK, before the caller has given one."""
    kit = one_target()
    kit.dial(body=b"")
    assert "100rel" not in kit.incoming().inbound.request.supported
    assert "timer" in kit.incoming().inbound.request.supported
    kit = one_target()
    kit.dial()
    assert "100rel" in kit.incoming().inbound.request.supported


def test_a_callee_that_nothing_can_be_sent_to_ends_its_own_call_alone() -> None:
    kit = one_target()
    kit.dial(body=b"")
    kit.answer(headers=[("Contact", f"<sip:x@{CALLEE};transport=sctp>")])
    event = kit.caller.one(Answered)
    assert event.wants_ack
    kit.caller.endpoint.ack(
        event.session, now=kit.link.now, body=sdp(CALLER, 4000, "8 101"), content_type="application/sdp"
    )
    kit.run(40)
    assert kit.call.ended
    assert kit.caller.one(SessionEnded)


def test_an_acknowledgement_without_an_answer_ends_no_call() -> None:
    kit, session, _ = talking()
    kit.caller.endpoint.reinvite(session, now=kit.link.now)
    kit.run(0.4)
    event = kit.caller.seen(ResponseReceived)[-1]
    assert event.wants_ack
    kit.caller.endpoint.ack(session, now=kit.link.now)
    kit.run(1)
    assert kit.call.life is Life.TALKING
    assert kit.capture.tracks[0].far.rtp_port == 4000  # type: ignore[union-attr]


def test_a_change_that_is_taken_back_while_the_other_side_thinks() -> None:
    kit, session, _ = talking()
    kit.caller.endpoint.reinvite(
        session,
        now=kit.link.now,
        body=sdp(CALLER, 4600, "8 101", direction="sendonly", version=2),
        content_type="application/sdp",
    )
    kit.run(0.2)
    asked = kit.callee.one(ReInvite)
    invite = kit.caller.requests("INVITE")[-1]
    cancel = SipRequest("CANCEL", invite.uri)
    for name in ("Via", "From", "To", "Call-ID", "Max-Forwards"):
        cancel.headers.add(name, invite.headers.get(name) or "")
    cancel.headers.add("CSeq", f"{invite.cseq.number} CANCEL")
    inject(kit, cancel, CALLER)
    reply(kit, asked, sdp(CALLEE, 5000, "8 101", direction="recvonly", version=2))
    kit.run(0.5)
    assert kit.capture.tracks[0].far.rtp_port == 4000  # type: ignore[union-attr]
    assert not kit.call.ground.participants[0].held
    # The callee is told that all is as it was.
    again = parse_sdp(kit.callee.seen(ReInvite)[-1].inbound.request.body)
    assert len(kit.callee.seen(ReInvite)) == 2
    assert again.direction_of(again.media[0]).value == "sendrecv"


# -- what peers must not be able to do ---------------------------------------------------------------------------------


def test_more_provisional_answers_than_a_caller_acknowledges_end_nothing() -> None:
    kit = one_target()
    kit.link.meddle = lambda sender, message: (
        not (isinstance(message, SipRequest) and message.method == "PRACK")
    )
    kit.dial(headers=[("Require", "100rel")])
    inbound = kit.incoming().inbound
    for _ in range(20):
        kit.callee.endpoint.respond(inbound, 180, now=kit.link.now)
        kit.run(0.2)
    assert any("SIP_SESSION_STATE" in note for note in kit.call.ground.notes)
    kit.answer()
    assert kit.call.life is Life.TALKING


def test_a_change_before_the_answer_where_media_goes_past_the_box() -> None:
    kit = one_target()
    kit.fails = lambda command: "away"
    session = kit.dial()
    kit.answer(status=183, body=sdp(CALLEE, 5000, "8 101"))
    kit.caller.endpoint._core.sessions[session.id].client.invite = None  # a phone that does not wait
    kit.caller.endpoint.update(
        session, now=kit.link.now, body=sdp(CALLER, 4600, "8 101", version=2), content_type="application/sdp"
    )
    kit.run(0.5)
    assert kit.caller.seen(ResponseReceived)[-1].response.status in (488, 491, 500)


@pytest.mark.parametrize(
    "replaces",
    [
        "x%0D%0AX-Smuggled:1%3Bto-tag%3D1%3Bfrom-tag%3D2",
        "x",
        "x%3Bto-tag%3D1",
        "a%00b%3Bto-tag%3D1%3Bfrom-tag%3D2",
    ],
)
def test_a_transfer_to_a_dialog_that_is_none(replaces: str) -> None:
    kit, _, other = talking()
    refer(kit, other, f"sip:201@{SECOND}:5060?Replaces={replaces}")
    assert kit.callee.seen(ResponseReceived)[-1].response.status == 400
    assert not kit.second.seen(IncomingInvite)
    assert not kit.call.transfers.pending


def test_a_transfer_goes_to_the_host_it_names_not_to_another_one() -> None:
    kit, _, other = talking()
    refer(kit, other, f"sip:201@{CALLEE}:5060;maddr={SECOND}")
    assert not kit.second.seen(IncomingInvite)
    assert "maddr" not in str(kit.callee.seen(IncomingInvite)[-1].inbound.request.uri)


def test_a_redirection_goes_to_the_host_it_names_not_to_another_one() -> None:
    kit = one_target()
    kit.dial()
    kit.answer(status=302, headers=[("Contact", f"<sip:7@{CALLEE}:5060;maddr={SECOND}>")])
    assert not kit.second.seen(IncomingInvite)
    assert "maddr" not in str(kit.callee.seen(IncomingInvite)[-1].inbound.request.uri)


def test_who_takes_a_place_under_other_numbers_is_understood() -> None:
    """Media is relayed as it comes: both sides must mean the same by a payload type."""
    kit, _, _ = talking()
    dialog = kit.incoming().session.dialog
    assert dialog is not None
    more = "a=rtpmap:96 telephone-event/8000|a=fmtp:96 0-16"
    kit.dial(
        kit.second,
        body=sdp(SECOND, 6000, "8 96", more),
        headers=[("Replaces", f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}")],
    )
    kit.run(1)
    assert kit.second.one(Answered)
    offered = parse_sdp(kit.caller.one(ReInvite).inbound.request.body).media[0]
    assert offered.formats == ("8", "96")


# -- more of offer and answer ------------------------------------------------------------------------------------------


def ask(kit: Kit, session: SipSession, body: bytes) -> ReInvite:
    """A re-INVITE of one side, and what the other side is asked."""
    host, far = (
        (kit.caller, kit.callee)
        if session in kit.caller.endpoint.sessions.values()
        else (kit.callee, kit.caller)
    )
    host.endpoint.reinvite(session, now=kit.link.now, body=body, content_type="application/sdp")
    kit.run(0.4)
    return far.seen(ReInvite)[-1]


def said(kit: Kit, event: ReInvite) -> str:
    offer = parse_sdp(event.inbound.request.body)
    return offer.direction_of(offer.media[0]).value


def test_both_sides_hold_and_come_back_one_after_the_other() -> None:
    kit, caller, callee = talking()
    event = ask(kit, caller, sdp(CALLER, 4000, "8 101", direction="sendonly", version=2))
    assert said(kit, event) == "sendonly"
    reply(kit, event, sdp(CALLEE, 5000, "8 101", direction="recvonly", version=2))
    event = ask(kit, callee, sdp(CALLEE, 5000, "8 101", direction="inactive", version=3))
    assert said(kit, event) == "inactive"
    reply(kit, event, sdp(CALLER, 4000, "8 101", direction="inactive", version=3))
    assert [kit.capture.tracks[track].active for track in (0, 1)] == [False, False]
    # The first comes back; the other still holds.
    event = ask(kit, caller, sdp(CALLER, 4000, "8 101", version=4))
    reply(kit, event, sdp(CALLEE, 5000, "8 101", direction="sendonly", version=4))
    answer = parse_sdp(kit.caller.seen(ResponseReceived)[-1].response.body)
    assert answer.direction_of(answer.media[0]).value == "sendonly"
    assert kit.capture.tracks[1].far is None
    event = ask(kit, callee, sdp(CALLEE, 5000, "8 101", version=5))
    reply(kit, event, sdp(CALLER, 4000, "8 101", version=5))
    assert [kit.capture.tracks[track].active for track in (0, 1)] == [True, True]
    assert (kit.capture.tracks[0].hears, kit.capture.tracks[1].hears) == (1, 0)


def test_a_refused_change_is_not_said_again_by_a_refresh() -> None:
    kit, _, callee = talking()
    event = ask(kit, callee, sdp(CALLEE, 5000, "8 101", direction="sendonly", version=2))
    reply(kit, event, b"", 488)
    box = kit.call.ground.participants[0].sip
    assert box is not None and box.description is not None
    offer = parse_sdp(box.description[1])
    assert offer.direction_of(offer.media[0]).value == "sendrecv"


def test_the_number_and_order_of_lines_stays_though_audio_is_not_the_first() -> None:
    kit = one_target()
    body = sdp(CALLER, 4000).replace(b"m=audio", b"m=video 4100 RTP/AVP 31\r\nm=audio")
    kit.dial(body=body)
    kit.answer()
    answer = parse_sdp(kit.caller.one(Answered).response.body)
    assert [(one.kind, bool(one.port)) for one in answer.media] == [("video", False), ("audio", True)]
    event = ask(kit, kit.incoming().session, sdp(CALLEE, 5000, "8 101", direction="sendonly", version=2))
    offer = parse_sdp(event.inbound.request.body)
    assert [(one.kind, bool(one.port)) for one in offer.media] == [("video", False), ("audio", True)]
    assert offer.origin is not None and answer.origin is not None
    assert (offer.origin.session_id, offer.origin.version) == (
        answer.origin.session_id,
        answer.origin.version + 1,
    )


def test_audio_that_is_taken_away_leaves_the_call_as_it_was() -> None:
    kit, caller, _ = talking()
    kit.caller.endpoint.reinvite(
        caller, now=kit.link.now, body=sdp(CALLER, 0, "8 101", version=2), content_type="application/sdp"
    )
    kit.run(0.5)
    assert kit.caller.seen(ResponseReceived)[-1].response.status == 488
    assert kit.call.life is Life.TALKING


def test_an_offer_in_a_prack_is_answered() -> None:
    kit = one_target()
    session = kit.dial(headers=[("Supported", "100rel")])
    held: list[SipRequest] = []

    def meddle(sender: object, message: SipRequest | SipResponse) -> bool:
        if isinstance(message, SipRequest) and message.method == "PRACK" and not message.body:
            held.append(message)
            return False
        return True

    kit.link.meddle = meddle
    kit.answer(status=183, body=sdp(CALLEE, 5000, "8 101"))
    prack = held[0].copy()
    prack.headers.set("Content-Type", "application/sdp")
    prack.body = sdp(CALLER, 4700, "8 101", version=2)
    inject(kit, prack, CALLER)
    answer = kit.box.responses(200, "PRACK")[0]
    assert parse_sdp(answer.body).media[0].port
    assert kit.capture.tracks[0].far.rtp_port == 4700  # type: ignore[union-attr]
    assert session.live


def test_an_answer_that_comes_after_the_time_to_ring_is_acknowledged_and_ended() -> None:
    kit = Kit()
    kit.dial()
    kit.answer(status=180, body=b"")
    late: list[SipResponse] = []

    def meddle(sender: object, message: SipRequest | SipResponse) -> bool:
        if (
            isinstance(message, SipResponse)
            and message.status == 200
            and message.cseq.method == "INVITE"
            and not late
        ):
            late.append(message)
            return False
        return True

    kit.link.meddle = meddle
    kit.run(28.8)
    kit.answer()  # lost; what is repeated comes while the next place rings
    kit.run(3)
    assert kit.incoming(kit.second)
    assert kit.callee.one(SessionEnded)
    assert kit.box.requests("ACK") and kit.box.requests("BYE")
    kit.answer(kit.second)
    assert kit.call.life is Life.TALKING
    assert kit.capture.tracks[1].far.host == SECOND  # type: ignore[union-attr]


@pytest.mark.parametrize("address", ["phone.example", "224.0.0.5", "255.255.255.255"])
def test_media_for_an_address_that_is_none_goes_to_where_signaling_comes_from(address: str) -> None:
    kit = one_target()
    kit.dial(body=sdp(CALLER, 4000).replace(f"c=IN IP4 {CALLER}".encode(), f"c=IN IP4 {address}".encode()))
    kit.answer()
    assert kit.call.life is Life.TALKING
    assert kit.call.ground.recording
    assert kit.capture.tracks[0].far.host == CALLER  # type: ignore[union-attr]


@pytest.mark.parametrize("address", ["fe80::1%eth0", "ff02::5", "192.0.2.1"])
def test_so_it_does_where_addresses_are_of_ipv6(address: str) -> None:
    assert reachable(address, "2001:db8::7") == "2001:db8::7"
    assert reachable("2001:db8::8", "2001:db8::7") == "2001:db8::8"
