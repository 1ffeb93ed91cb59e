"""Inline calls in the signaling process: whose they are, and what holds over restarts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
from provider import Provider
from signaling_kit import LINE, MULTIPART, TENANT, House, Taken, a_house, make_settings, usual, write_table

from appliance.media.inline.call import InlineCall
from appliance.media.sip.events import Answered
from appliance.model import Mark, MarkKind, new_id
from appliance.model.routing import InlineRules, Line, Target


def inline(inbound: str = "", outbound: str = "", **more: Any) -> Line:
    rules = InlineRules(
        inbound=(Target(uri=inbound),) if inbound else (),
        outbound=(Target(uri=outbound),) if outbound else (),
    )
    return LINE.model_copy(update={"inline": rules, "reminder_s": 0, **more})


def at(house: House, user: str) -> str:
    host, port = house.address(next(iter(house.signaling.listeners)))
    return f"sip:{user}@{host}:{port}"


def only(house: House) -> InlineCall:
    [live] = house.signaling.inline.calls.values()
    return live.core


@contextlib.asynccontextmanager
async def talking(tmp_path: Path, **more: Any) -> Any:
    """The house, and capture's session of a call that talks."""
    async with (
        Provider(realm=None) as desk,
        Provider(realm=None) as outside,
        a_house(tmp_path, inline(desk.uri, **more)) as house,
    ):
        outside.call(at(house, "01632960100"))
        await outside.until(lambda: any(isinstance(one, Answered) for one in outside.events))
        await house.capture.until(lambda: len(house.capture.history[0].context) > 1)
        yield house, house.capture.history[0]


async def until(met: Any) -> None:
    async with asyncio.timeout(20):
        while not met():
            await asyncio.sleep(0.01)


# -- over restarts -----------------------------------------------------------------------------------------------------


def test_a_pause_of_which_the_word_was_lost_with_signaling_holds(tmp_path: Path) -> None:
    async def run() -> None:
        async with talking(tmp_path) as (house, taken):
            await house.vanish()
            taken.paused = True  # asked for in its last moment
            await house.again()
            await until(lambda: len(house.signaling.inline.calls) == 1)
            assert only(house).ground.paused
            assert taken.paused

    asyncio.run(run())


@pytest.mark.parametrize("restart", [False, True])
def test_a_pause_that_capture_has_not_heard_of_is_asked_again(tmp_path: Path, restart: bool) -> None:
    async def run() -> None:
        async with talking(tmp_path) as (house, taken):
            [live] = house.signaling.inline.calls.values()
            live.drive(lambda: live.core.act("pause", "me", "", lambda failed: None))
            await house.capture.until(lambda: taken.paused)
            await until(lambda: live._working is None or live._working.done())
            if restart:
                await house.vanish()
            taken.paused = False
            if restart:
                await house.again()
            await house.capture.until(lambda: taken.paused)
            await until(lambda: only(house).ground.paused)

    asyncio.run(run())


def test_what_waits_from_before_an_unhold_that_capture_did_not_hear_of_is_not_kept(tmp_path: Path) -> None:
    async def run() -> None:
        async with talking(tmp_path) as (house, first):
            [live] = house.signaling.inline.calls.values()
            await house.capture.crash()
            unheld = Mark(kind=MarkKind.UNHELD, at_ns=time.time_ns(), track=0)
            live.drive(lambda: live.core.ground.sync([unheld]))
            await house.capture.start()
            second = await house.capture.until(lambda: house.capture.history[1:] and house.capture.history[1])
            assert (first.request.keep_from_ns, second.request.keep_from_ns) == (0, unheld.at_ns)

    asyncio.run(run())


@pytest.mark.parametrize("ends", [0, 1])
def test_a_call_that_ends_before_capture_is_back_has_what_waited_in_a_last_part(
    tmp_path: Path, ends: int
) -> None:
    async def run() -> None:
        async with talking(tmp_path) as (house, first):
            [live] = house.signaling.inline.calls.values()
            await house.capture.crash()
            one = live.core.ground.participants[ends]
            live.drive(lambda: live.core.ground.hang_up(one))
            live.drive(lambda: live.core.hang_up("bye"))
            await until(lambda: not house.signaling.inline.calls)
            ended_ns = time.time_ns()
            await house.capture.start()
            second = await house.capture.until(lambda: house.capture.history[1:] and house.capture.history[1])
            await house.capture.until(lambda: second.closed)
            assert (second.closed, second.ports) == ("bye", first.ports)
            assert (second.info.part, second.info.call_id) == (2, first.info.call_id)
            assert second.kinds[:2] == ["restarted", "gap"]
            assert second.ended_ns <= ended_ns < second.marks[0].at_ns
            assert second.seen_active == first.seen_active
            for spec in second.request.tracks:
                assert not spec.HasField("remote") and not spec.HasField("hears"), "nobody hears it any more"
            await house.signaling.desk.idle()
            assert house.signaling.desk.workers.all[0].load == 0
            await house.capture.listed_again()
            assert len(house.capture.history) == 2

    asyncio.run(run())


@pytest.mark.parametrize("what", ["pause", "end"])
def test_nothing_is_opened_for_a_call_that_ended_unrecorded_while_capture_was_away(
    tmp_path: Path, what: str
) -> None:
    async def run() -> None:
        async with talking(tmp_path) as (house, _):
            [live] = house.signaling.inline.calls.values()
            live.drive(lambda: live.core.act(what, "me", "", lambda failed: None))
            await until(lambda: live._working is None or live._working.done())
            await house.capture.crash()
            live.drive(lambda: live.core.hang_up("bye"))
            await until(lambda: not house.signaling.inline.calls)
            await house.signaling.desk.idle()
            await house.capture.start()
            await house.capture.listed_again()
            assert len(house.capture.history) == 1

    asyncio.run(run())


# -- whose it is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["999", "112"])
def test_an_emergency_call_from_the_switchboard_needs_no_number_of_a_line(
    tmp_path: Path, number: str
) -> None:
    async def run() -> None:
        async with (
            Provider(realm=None) as board,
            Provider(realm=None) as trunk,
            a_house(tmp_path, inline(board.uri, trunk.uri)) as house,
        ):
            board.call(at(house, number), from_="<sip:anonymous@anonymous.invalid>")
            await board.until(lambda: any(isinstance(one, Answered) for one in board.events))
            [invite] = trunk.invites
            assert invite.uri.user == number
            assert only(house).ground.recording

    asyncio.run(run())


def test_a_switchboard_of_several_tenants_is_carried_and_shown_to_none(tmp_path: Path) -> None:
    async def run() -> None:
        async with Provider(realm=None) as board, Provider(realm=None) as trunk:
            other = TENANT.model_copy(update={"tenant_id": new_id()})
            mine = inline(board.uri, trunk.uri)
            theirs = mine.model_copy(
                update={"line_id": new_id(), "tenant_id": other.tenant_id, "numbers": ("01632960999",)}
            )
            settings = make_settings(tmp_path)
            async with a_house(tmp_path, mine, theirs, settings=settings) as house:
                write_table(settings, mine, theirs, tenants=(TENANT, other))
                board.call(at(house, "999"), from_="<sip:anonymous@anonymous.invalid>")
                await board.until(lambda: any(isinstance(one, Answered) for one in board.events))
                [invite] = trunk.invites
                assert invite.uri.user == "999"
                taken: Taken = house.capture.history[0]
                assert taken.request.relay_only and not taken.request.tenant_id
                assert not house.signaling.board.listing()

    asyncio.run(run())


def test_parties_are_asked_whether_they_are_there_when_no_media_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.media.signaling.keeper.PROBE_AFTER_S", 0.1)
    monkeypatch.setattr("appliance.media.signaling.keeper.PROBE_EVERY_S", 0.1)

    async def run() -> None:
        async with talking(tmp_path) as (house, _):
            await until(lambda: house.signaling.inline.calls == {} or only(house).presence._unanswered)
            assert set(only(house).presence._unanswered.values()) == {0}, "they are"

    asyncio.run(run())


def test_who_was_called_and_never_came_is_no_party_of_the_recording(tmp_path: Path) -> None:
    async def run() -> None:
        async with talking(tmp_path) as (house, taken):
            [live] = house.signaling.inline.calls.values()
            ground = live.core.ground
            never, came = ground.join_in(agent=True), ground.join_in(agent=True)
            never.aor, came.aor = "sip:201@pbx.example", "sip:202@pbx.example"
            never.gone, came.answered = True, True
            live.drive(ground.sync)
            await house.capture.until(lambda: len(taken.infos) > 1 and len(taken.infos[-1].parties) == 3)
            info = taken.infos[-1]
            assert info.parties[2].aor == came.aor
            assert [(one.track, one.party) for one in info.tracks] == [(0, 0), (1, 1), (3, 2)]

    asyncio.run(run())


def test_invite_that_we_fail_at_is_answered_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> bool:
        raise RuntimeError("a fault of ours")

    async def run() -> None:
        async with a_house(tmp_path) as house:
            src = await house.src()
            monkeypatch.setattr(house.signaling.inline, "takes", fails)
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            _, response = await src.invite(usual(), MULTIPART)
            assert response.status == 500
            await src.close()

    asyncio.run(run())
