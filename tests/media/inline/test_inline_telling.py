"""What capture does not hear, or refuses: it is told again, and nothing else waits for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from inline_kit import CALLEE, CALLER, SECOND, Change, Command, Kit, sdp
from test_inline_talk import reply, talking

from appliance.media.inline.media import Close, Evidence
from appliance.media.sip.events import ReInvite
from appliance.model import Mark, MarkKind


def mark(at_ns: int) -> Mark:
    return Mark(kind=MarkKind.NOTE, at_ns=at_ns, reason="noted")


def noted(kit: Kit) -> list[int]:
    return [one.at_ns for one in kit.capture.marks if one.reason == "noted"]


def moved(kit: Kit, track: int, port: int) -> None:
    """A participant receives elsewhere, as agreed by offer and answer."""
    side = kit.call.ground.participants[track].side
    assert side.plan is not None and side.plan.remote is not None
    side.plan = replace(side.plan, remote=replace(side.plan.remote, port=port))


def refused(*ports: int) -> Any:
    """Capture that sends nothing to these."""

    def fails(command: Command) -> str:
        tracks = command.tracks if isinstance(command, Change) else ()
        bad = any(plan.far is not None and plan.far.rtp_port in ports for plan in tracks)
        return "REMOTE_ADDRESS" if bad else ""

    return fails


def ports(kit: Kit) -> list[int]:
    return [kit.capture.tracks[track].far.rtp_port for track in (0, 1)]  # type: ignore[union-attr]


def no_port(command: Command) -> str:
    new = isinstance(command, Change) and any(plan.number > 1 for plan in command.tracks)
    return "PORTS_EXHAUSTED" if new else ""


def test_an_address_that_capture_refuses_holds_up_no_other_participant_and_no_mark() -> None:
    kit, session, _ = talking()
    kit.fails = refused(5600)
    moved(kit, 1, 5600)
    moved(kit, 0, 4600)
    paper = Evidence("sip-invite", "message/sip", b"INVITE", 5)
    kit.call.ground.sync([mark(5)], [paper])
    kit.settle()
    assert ports(kit) == [4600, 5000]
    assert noted(kit) == [5]
    assert [one for one in kit.capture.of(Change) if one.evidence == (paper,) and not one.tracks]
    # So it is as long as that lasts.
    kit.run(12)
    body = sdp(CALLER, 4600, "8 101", direction="inactive", version=2)
    kit.caller.endpoint.reinvite(session, now=kit.link.now, body=body, content_type="application/sdp")
    kit.run(0.4)
    reply(kit, kit.callee.one(ReInvite), sdp(CALLEE, 5600, "8 101", direction="inactive", version=2))
    assert not kit.capture.tracks[0].active, "who holds is not kept"
    assert "held" in kit.capture.kinds()
    kit.fails = lambda command: ""
    kit.run(6)
    assert not kit.capture.tracks[1].active
    assert noted(kit) == [5], "once"


def test_a_newer_word_comes_after_what_was_refused_beside_another_track() -> None:
    kit, _, _ = talking()
    kit.fails = refused(5600)
    moved(kit, 1, 5600)
    moved(kit, 0, 4600)
    kit.call.ground.sync()
    moved(kit, 0, 4700)
    kit.call.ground.sync()
    kit.settle()
    assert ports(kit) == [4700, 5000]


def test_what_was_refused_beside_another_track_is_said_before_the_end() -> None:
    kit, _, _ = talking()
    kit.fails = refused(5600)
    moved(kit, 1, 5600)
    kit.call.ground.sync([mark(5)])
    kit.call.ground.finish("bye")
    kit.settle()
    assert noted(kit) == [5]
    assert isinstance(kit.capture.asked[-1], Close)
    kit.run(2)
    assert kit.call.ended


def test_what_was_not_heard_while_the_call_ended_is_said_with_the_end() -> None:
    kit, _, _ = talking()
    kit.fails = lambda command: "away" if isinstance(command, Change) else ""
    kit.call.ground.sync([mark(5)])
    kit.call.ground.finish("bye", [mark(6)])
    kit.settle()
    assert noted(kit) == [5, 6]
    kit.run(2)
    assert kit.call.ended


def test_a_track_for_which_there_is_no_port_is_asked_for_by_itself() -> None:
    kit, _, other = talking()
    kit.fails = lambda command: "away" if isinstance(command, Change) else ""
    moved(kit, 0, 4600)
    kit.call.ground.sync([mark(5)])
    kit.settle()
    kit.fails = no_port
    # Before the time has come to say it again, somebody calls in to take the callee's place.
    assert other.dialog is not None
    replaces = f"{other.dialog.call_id};to-tag={other.dialog.remote_tag};from-tag={other.dialog.local_tag}"
    kit.dial(kit.second, headers=[("Replaces", replaces)], body=sdp(SECOND, 6000))
    new = [one for one in kit.capture.of(Change) if any(plan.number == 2 for plan in one.tracks)]
    assert [(len(one.tracks), one.marks) for one in new] == [(1, ())]
    assert ports(kit) == [4600, 5000]
    assert noted(kit) == [5]
    kit.run(12)
    assert kit.capture.of(Change).count(new[0]) == 1, "who is refused needs no port any more"


@pytest.mark.parametrize("why", ["away", "BROKEN"])
def test_of_two_changes_on_their_way_that_both_fail_neither_is_lost(why: str) -> None:
    kit, _, _ = talking()
    kit.fails = lambda command: why if isinstance(command, Change) else ""
    papers = [Evidence("sip-info", "message/sip", b"%d" % at_ns, at_ns) for at_ns in (1, 2)]
    for at_ns, paper in zip((1, 2), papers, strict=True):
        kit.call.ground.sync([mark(at_ns)], [paper])
    kit.settle()
    kit.fails = lambda command: ""
    kit.run(6)
    assert noted(kit) == [1, 2]
    assert kit.capture.asked[-1] == Change((), kit.capture.asked[-1].marks, tuple(papers))  # type: ignore[union-attr]


def test_where_two_changes_of_a_track_failed_the_first_is_not_taken_for_done() -> None:
    kit, _, _ = talking()
    kit.fails = lambda command: "away" if isinstance(command, Change) else ""
    for port in (5600, 5700):
        moved(kit, 1, port)
        kit.call.ground.sync()
    kit.settle()
    kit.fails = lambda command: ""
    moved(kit, 1, 5600)
    kit.call.ground.sync()
    kit.settle()
    assert ports(kit) == [4000, 5600]


def test_that_more_waits_than_is_kept_is_noted() -> None:
    kit, _, _ = talking()
    kit.fails = lambda command: "away" if isinstance(command, Change) else ""
    kit.call.take_notes()
    kit.call.ground.sync([mark(at_ns) for at_ns in range(70)])
    kit.settle()
    assert "media: more waits for capture than is kept, the oldest is lost" in kit.call.take_notes()
    kit.fails = lambda command: ""
    kit.run(2)
    assert noted(kit) == list(range(6, 70))
