"""Either half dies and the call goes on; media that does not come; tables that break; clients that are gone."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from signaling_kit import (
    LINE,
    MULTIPART,
    PATIENT,
    SURGERY,
    CaptureDouble,
    House,
    a_house,
    described,
    make_settings,
    metadata,
    sdp,
    usual,
    write_table,
)

from appliance.media.signaling import keeper, parts
from appliance.media.signaling.capture import Workers
from appliance.media.signaling.errors import CaptureUnavailableError
from appliance.media.sip.events import IncomingRequest, SessionEnded
from appliance.media.sip.sdp import MediaDirection
from appliance.process.child import Child
from earwitness.internal.v1 import capture_pb2 as capture_pb
from earwitness.internal.v1 import signaling_pb2 as pb


def in_house(root: Path, scenario: object, **options: object) -> None:
    async def run() -> None:
        async with a_house(root, **options) as house:  # type: ignore[arg-type]
            await scenario(house)  # type: ignore[operator]

    asyncio.run(run())


def test_capture_dies_and_the_recording_goes_on_as_a_second_part(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        session, _ = await src.invite(usual(), MULTIPART)
        first = house.capture.history[0]
        await src.change(session, "INVITE", sdp("1", "2 inactive"), "application/sdp")
        await house.capture.crash()
        await house.capture.start()
        await house.capture.until(lambda: len(house.capture.history) == 2)
        second = house.capture.history[1]
        assert second.ports == first.ports == {0: 20_000, 1: 20_002}
        assert [spec.active for spec in second.specs.values()] == [True, False]
        assert (second.info.part, second.info.call_id) == (2, first.info.call_id)
        assert second.info.recording_id != first.info.recording_id
        assert second.info.started_ns > first.info.started_ns
        assert second.kinds == ["restarted", "gap"]
        assert second.marks[1].data["until_ns"] >= second.marks[1].at_ns
        assert [party.aor for party in second.info.parties] == [PATIENT, SURGERY]
        await house.signaling.desk.idle()
        await src.bye(session)
        await house.capture.until(lambda: second.closed)
        assert second.closed == "bye"
        await src.close()

    in_house(tmp_path, scenario)


def test_what_was_paused_is_paused_after_the_death_of_capture(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        await src.invite(usual(), MULTIPART)
        [call] = house.signaling.board.listing()
        from appliance.media.signaling.control import Control

        await Control(house.signaling.desk).act(call.call_id, pb.CALL_ACTION_PAUSE, "me", "")
        await house.capture.crash()
        await house.capture.start()
        second = await house.capture.until(
            lambda: next(
                (one for one in house.capture.history[1:] if all(s.active for s in one.specs.values())), None
            )
        )
        assert second.paused
        # The tracks were let in only after the pause held.
        assert not any(spec.active for spec in second.request.tracks)
        assert house.capture.calls.index("pause", house.capture.calls.index("pause") + 1) > 0
        await src.close()

    in_house(tmp_path, scenario)


def test_pause_while_capture_is_away_holds_when_it_is_back(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        from appliance.media.signaling.control import Control

        src = await house.src()
        await src.invite(usual(), MULTIPART)
        [call] = house.signaling.board.listing()
        await house.capture.crash()
        asking = asyncio.create_task(
            Control(house.signaling.desk).act(call.call_id, pb.CALL_ACTION_PAUSE, "me", "")
        )
        await asyncio.sleep(0)
        await house.capture.start()
        assert (await asking).state == pb.CALL_STATE_PAUSED
        assert house.capture.history[-1].paused
        await src.close()

    in_house(tmp_path, scenario)


def test_what_waits_in_the_sockets_of_a_call_that_ends_while_capture_is_away_is_a_part(
    tmp_path: Path,
) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        session, _ = await src.invite(usual(), MULTIPART)
        first = house.capture.history[0]
        await house.capture.crash()
        ended_ns = time.time_ns()
        await src.bye(session)
        assert len(house.signaling.board.listing()) == 1, "live until its recording is ended"
        await house.capture.start()
        second = await house.capture.until(lambda: house.capture.history[1:] and house.capture.history[1])
        await house.capture.until(lambda: second.closed)
        assert (second.closed, second.ports) == ("bye", first.ports)
        assert (second.info.part, second.info.call_id) == (2, first.info.call_id)
        assert second.kinds[:2] == ["restarted", "gap"]
        assert ended_ns <= second.ended_ns < second.marks[0].at_ns, (
            "what came after the call's end is not of it"
        )
        await house.signaling.desk.idle()
        assert not house.signaling.desk.legs and not house.signaling.board.listing()
        assert house.signaling.desk.workers.all[0].load == 0
        await house.capture.listed_again()
        assert len(house.capture.history) == 2  # and no more is opened for a call that is over
        await src.close()

    in_house(tmp_path, scenario)


def test_nothing_is_opened_for_a_call_that_ended_in_a_pause_while_capture_was_away(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        from appliance.media.signaling.control import Control

        src = await house.src()
        session, _ = await src.invite(usual(), MULTIPART)
        [call] = house.signaling.board.listing()
        await Control(house.signaling.desk).act(call.call_id, pb.CALL_ACTION_PAUSE, "me", "")
        await house.capture.crash()
        await src.bye(session)
        await house.signaling.desk.idle()
        assert not house.signaling.desk.legs
        await house.capture.start()
        await house.capture.listed_again()
        assert len(house.capture.history) == 1
        await src.close()

    in_house(tmp_path, scenario)


def test_a_call_that_ended_is_given_up_where_capture_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "LATE_S", 0.5)

    async def scenario(house: House) -> None:
        src = await house.src()
        session, _ = await src.invite(usual(), MULTIPART)
        await house.capture.crash()
        await src.bye(session)
        assert house.signaling.desk.legs
        await house.signaling.desk.idle()
        assert not house.signaling.desk.legs and not house.signaling.board.listing()
        await house.capture.start()
        await house.capture.listed_again()
        assert len(house.capture.history) == 1
        await src.close()

    in_house(tmp_path, scenario)


def test_signaling_dies_and_takes_its_calls_up_again(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        session, response = await src.invite(usual(), MULTIPART)
        taken = house.capture.history[0]
        before = described(response)
        # The ACK is remembered too, or the dialog would be given up after the restart.
        await house.capture.until(lambda: house.capture.calls.count("annotate") >= 2)
        [call] = house.signaling.board.listing()
        await house.vanish()
        await house.again()
        [found] = house.signaling.board.listing()
        assert (found.call_id, list(found.recording_ids)) == (call.call_id, list(call.recording_ids))
        assert [party.aor for party in found.parties] == [PATIENT, SURGERY]
        await house.capture.until(lambda: "restarted" in taken.kinds)
        response = await src.change(session, "INVITE", sdp("1 inactive", "2 inactive"), "application/sdp")
        answer = described(response)
        assert response.status == 200
        assert [media.port for media in answer.media] == [media.port for media in before.media]
        assert answer.origin is not None and before.origin is not None
        assert (answer.origin.session_id, answer.origin.version) == (
            before.origin.session_id,
            before.origin.version + 1,
        )
        assert {answer.direction_of(media) for media in answer.media} == {MediaDirection.INACTIVE}
        document = metadata({"a": ("sip:0123@x", "1")}, complete=False)
        assert (await src.change(session, "UPDATE", document, "application/rs-metadata+xml")).status == 200
        assert taken.info.parties[0].aor == "sip:0123@x"
        await src.bye(session)
        await house.capture.until(lambda: taken.closed)
        assert taken.closed == "bye"
        await src.close()

    in_house(tmp_path, scenario)


def test_both_die_at_once(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        session, _ = await src.invite(usual(), MULTIPART)
        await house.vanish()
        await house.capture.crash()
        await house.capture.start()
        await house.again()
        # Nobody remembers: the client is told so, and may begin anew.
        assert (await src.change(session, "INVITE", sdp("1", "2"), "application/sdp")).status == 481
        await src.close()

    in_house(tmp_path, scenario)


def test_session_that_nobody_knows_is_closed(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        from signaling_kit import TENANT

        from appliance.model import RecordingInfo, new_id
        from earwitness.internal.v1 import capture_pb2

        info = RecordingInfo(
            recording_id=new_id(),
            call_id=new_id(),
            tenant_id=TENANT.tenant_id,
            line_id=LINE.line_id,
            started_ns=1,
        )
        capture: CaptureDouble = house.capture
        await capture.OpenSession(
            capture_pb2.OpenSessionRequest(
                session_id=info.recording_id, info_json=info.model_dump_json().encode(), context=b"junk"
            ),
            None,
        )
        await capture.until(lambda: capture.history[0].closed)
        assert capture.history[0].closed == "orphaned"

    in_house(tmp_path, scenario)


def test_no_media_is_told_within_the_time_and_taken_back(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        session, _ = await src.invite(usual(), MULTIPART)
        taken = house.capture.history[0]
        await house.capture.until(lambda: "no-media" in taken.kinds)
        assert taken.marks[-1].track == -1
        assert "CallsWithoutMedia" in house.conditions()
        taken.last_packet_ns = dict.fromkeys(taken.ports, time.time_ns() + 3_600_000_000_000)
        await house.capture.listed_again()
        assert "CallsWithoutMedia" not in house.conditions()
        assert not taken.closed
        await src.bye(session)
        await src.close()

    in_house(tmp_path, scenario, no_media_alarm_s=1)


def test_hold_awaits_no_media(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        await src.invite(usual(offer=sdp("1 inactive", "2 inactive")), MULTIPART)
        taken = house.capture.history[0]
        await house.capture.listed_again(26)
        assert taken.kinds == ["held"] and not taken.closed
        assert "CallsWithoutMedia" not in house.conditions()
        await src.close()

    in_house(tmp_path, scenario, no_media_alarm_s=1)


def test_client_that_forgot_the_session_ends_it(tmp_path: Path, monkeypatch: object) -> None:
    async def scenario(house: House) -> None:
        keeper.PROBE_AFTER_S, before_after = 0.2, keeper.PROBE_AFTER_S
        keeper.PROBE_EVERY_S, before_every = 0.1, keeper.PROBE_EVERY_S
        try:
            src = await house.src()
            session, _ = await src.invite(usual(), MULTIPART)
            taken = house.capture.history[0]
            probe = await src.take(IncomingRequest)
            assert probe.inbound.method == "OPTIONS" and not taken.closed
            # The client starts anew without its memory, at the same address.
            src.endpoint._core.sessions.clear()
            src.endpoint._core.dialogs.clear()
            await house.capture.until(lambda: taken.closed)
            assert taken.closed == "source-lost"
            assert not src.endpoint.sessions and not [
                one for one in src.events if isinstance(one, SessionEnded)
            ]
            assert session.live
            await src.close()
        finally:
            keeper.PROBE_AFTER_S, keeper.PROBE_EVERY_S = before_after, before_every

    in_house(tmp_path, scenario)


def test_broken_table_keeps_the_old_one(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        path = house.settings.layout.routing
        table = house.signaling.table
        before = table.table
        path.write_text('{"version": 7, "lines": [{"line_id": 5}]}')
        assert table.look() and table.table is before
        assert "RoutingTableUnusable" in house.conditions()
        _, response = await src.invite(usual("session-1"), MULTIPART)
        assert response.status == 200 and described(response).media[0].port != 9
        path.unlink()
        assert table.look() and table.table is before
        write_table(house.settings, LINE.model_copy(update={"numbers": ("5",)}))
        assert table.look() and table.table is not before
        assert "RoutingTableUnusable" not in house.conditions()
        _, response = await src.invite(usual("session-2"), MULTIPART)
        assert described(response).media[0].port == 9
        await src.close()

    in_house(tmp_path, scenario)


def test_client_that_answers_nothing_is_given_a_second_chance(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        await src.invite(usual(), MULTIPART)
        [leg] = house.signaling.desk.legs
        taken = house.capture.history[0]
        house.signaling.desk.unanswered(leg)
        assert not leg.over and leg.unanswered == 1
        leg.unanswered = 0
        for _ in range(2):
            house.signaling.desk.unanswered(leg)
        await house.capture.until(lambda: taken.closed)
        assert taken.closed == "source-lost"
        # While the call is held, silence says even less.
        await src.invite(usual("session-2", sdp("1 inactive", "2 inactive")), MULTIPART)
        [leg] = house.signaling.desk.legs
        for _ in range(11):
            house.signaling.desk.unanswered(leg)
        await house.signaling.desk.idle()
        assert not leg.over
        await src.close()

    in_house(tmp_path, scenario)


def test_one_that_cannot_be_reopened_opens_no_other_twice(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src, capture = await house.src(), house.capture
        for session_id in ("session-1", "session-2"):
            await src.invite(usual(session_id), MULTIPART)
        await house.signaling.desk.idle()
        capture.away, held = 1, asyncio.Event()
        capture.stuck["open"] = held
        capture.sessions.clear()
        await capture.until(lambda: "open stuck" in capture.calls)
        await asyncio.sleep(0.5)  # time for another list, were one asked for
        del capture.stuck["open"]
        held.set()
        await capture.until(lambda: len(capture.sessions) >= 2)
        await capture.listed_again()
        assert [one.info.part for one in capture.history] == [1, 1, 2, 2]
        await src.close()

    in_house(tmp_path, scenario)


def test_stray_whose_end_takes_long_keeps_nobody_from_being_reopened(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src, capture = await house.src(), house.capture
        await src.invite(usual(), MULTIPART)
        await house.signaling.desk.idle()
        capture.stuck["close"] = asyncio.Event()
        await capture.OpenSession(capture_pb.OpenSessionRequest(session_id="stray", context=b"junk"), None)
        await capture.until(lambda: "close stuck" in capture.calls)
        mine = capture.history[0].info
        del capture.sessions[mine.recording_id]
        await capture.until(lambda: len(capture.history) == 3)
        assert capture.history[2].info.call_id == mine.call_id
        assert capture.calls.count("close stuck") == 1  # asked once, however often it is listed
        capture.stuck.pop("close").set()
        await capture.until(lambda: capture.history[1].closed)
        await src.close()

    in_house(tmp_path, scenario)


def test_list_that_cannot_be_followed_is_not_asked_for_without_pause(tmp_path: Path) -> None:
    async def run() -> None:
        async def listed(*_: object) -> None:
            raise CaptureUnavailableError("busy")

        settings = make_settings(tmp_path)
        capture = CaptureDouble(settings.layout)
        await capture.start()
        workers = Workers(settings.layout, 1, Child("signaling", settings).status, listed, interval_s=0.01)
        workers.start()
        await asyncio.sleep(0.6)
        await workers.close()
        await capture.stop()
        assert 1 <= capture.calls.count("list") <= 4  # after 0.1, 0.3 and 0.7 s

    asyncio.run(run())
