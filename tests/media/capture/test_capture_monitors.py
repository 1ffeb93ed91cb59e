"""Who listens hears what is recorded and nothing else, stands on its timeline, and never slows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from capture_kit import EVENT, Box, rtp, tone

from appliance.demo.stream import SrtpKey
from appliance.media.capture.commands import SessionNotFoundError, Update
from appliance.media.capture.kept import Kept
from appliance.media.capture.monitor import (
    MAX_EVENTS,
    MAX_WAITING,
    Happened,
    Heard,
    ListenerError,
    ListenerTooSlowError,
    Monitor,
)
from appliance.media.capture.monitoring import Monitoring
from appliance.media.capture.monitors import MAX_OF_SESSION, TooManyListenersError
from appliance.media.capture.session import RelayOnlyError, TrackRequest
from appliance.media.capture.waiting import CaptureBusyError
from appliance.model import MarkKind
from earwitness.internal.v1 import capture_pb2


def listen(box: Box, session: str, name: str = "supervisor") -> Monitor:
    monitor = Monitor(name, "training", f"l-{name}")
    box.recorder.monitors.begin(box.recorder.recorded(session), monitor)
    return monitor


def taken(monitor: Monitor) -> tuple[list[tuple[int, int, bytes]], list[str], int]:
    """All that waits: packets (track, sequence, payload), track by track, what happened, how many were lost."""
    packets, events, lost = [], [], 0
    while (found := monitor.take(0)) is not None:
        packets += [(one.track, one.sequence, one.payload) for one in found.packets]
        lost += found.lost
        if found.event is not None:
            events.append(found.event.what)
    packets.sort(key=lambda one: one[0])  # which socket is drained first is nobody's promise
    return packets, events, lost


def test_a_listener_hears_what_is_recorded_in_fast_ticks_and_stands_on_the_timeline(box: Box) -> None:
    session, ports = box.open(TrackRequest(0, events=frozenset({EVENT})), TrackRequest(1))
    box.send(ports[0].rtp_port, [rtp(0, tone(0))])
    box.tick()
    assert box.recorder.fast_due_ns is None
    monitor = listen(box, session)
    assert box.recorder.fast_due_ns is not None, "sockets are drained each 10 ms now"
    before = time.time_ns()
    box.send(ports[0].rtp_port, [rtp(1, tone(1)), rtp(2, b"\x01\x00\x00\xa0", pt=EVENT), rtp(3, tone(3))])
    box.send(ports[1].rtp_port, [rtp(9, tone(9), ssrc=2)])
    box.advance(10)
    first = monitor.take(0)
    assert first is not None and first.event is not None and first.event.what == "begun"
    info_json, paused = first.event.value
    assert b'"recording_id"' in info_json and not paused
    packets, _, lost = taken(monitor)
    assert packets == [(0, 1, tone(1)), (0, 3, tone(3)), (1, 9, tone(9))] and not lost, "no keys, ever"
    box.send(ports[0].rtp_port, [rtp(4, tone(4))])
    box.advance(10)
    (one,) = monitor.take(0).packets  # type: ignore[union-attr]
    assert (one.timestamp, one.ssrc, one.payload_type) == (640, 7, 0)
    assert before < one.arrival_ns <= time.time_ns()
    box.recorder.monitors.end(monitor)
    box.recorder.monitors.end(monitor)
    assert box.recorder.fast_due_ns is None and not box.recorder.monitors.open
    content = box.close(session)
    assert content.sequences(0) == [0, 1, 3, 4] and content.sequences(1) == [9]
    began, ended = [mark for mark in content.marks if mark.kind is MarkKind.LISTENED]
    assert began.actor == ended.actor == "supervisor"
    assert began.data == {"purpose": "training", "listener": "l-supervisor", "phase": "began"}
    assert ended.data["phase"] == "ended" and ended.data["since_ns"] == began.at_ns <= ended.at_ns


def test_a_new_description_is_told_by_the_clock_of_the_recorder(box: Box) -> None:
    session, _ = box.open(TrackRequest(0))
    monitor = listen(box, session)
    info_json = monitor.take(0).event.value[0]  # type: ignore[union-attr]
    box.advance(60_000)
    before = box.wall()
    box.recorder.update(Update(session, info_json=info_json))
    told = monitor.take(0).event  # type: ignore[union-attr]
    assert told is not None and (told.what, told.value) == ("info_json", info_json)
    assert before <= told.at_ns <= box.wall()
    box.recorder.update(Update(session, info_json=info_json, at_ns=before + 7))
    assert monitor.take(0).event.at_ns == before + 7  # type: ignore[union-attr]


def test_nothing_of_a_pause_or_a_hold_is_heard_though_it_was_not_taken_yet(box: Box) -> None:
    session, ports = box.open(TrackRequest(0), TrackRequest(1))
    monitor = listen(box, session)
    box.send(ports[0].rtp_port, [rtp(0, tone(0))])
    box.tick()
    since = time.time_ns()
    box.send(ports[0].rtp_port, [rtp(1, tone(1))])
    box.tick()  # copied before the pause, which began before it came, is known
    box.recorder.pause(session, since)
    box.send(ports[0].rtp_port, [rtp(2, tone(2))])
    box.tick()
    box.recorder.resume(session)
    box.send(ports[0].rtp_port, [rtp(3, tone(3))])
    box.tick()
    packets, events, lost = taken(monitor)
    heard = [sequence for _, sequence, _ in packets]
    assert heard == [0, 3] and not lost
    assert events == ["begun", "paused", "paused"]
    box.recorder.update(Update(session, (TrackRequest(1, active=False),)))
    box.recorder.update(Update(session, (TrackRequest(1, active=False),)))
    box.send(ports[1].rtp_port, [rtp(1, tone(1))])
    box.tick()
    box.recorder.update(Update(session, (TrackRequest(1), TrackRequest(2))))
    port = box.recorder.update(Update(session))[2].rtp_port
    box.send(port, [rtp(7, tone(7), ssrc=9)])
    box.tick()
    packets, events, _ = taken(monitor)
    assert packets == [(2, 7, tone(7))] and events == ["held", "unheld"]
    second = listen(box, session, "second")
    content = box.close(session)
    assert taken(monitor)[1] == ["ended"] and taken(second)[1] == ["begun", "ended"]
    phases = [(mark.actor, mark.data["phase"]) for mark in content.marks if mark.kind is MarkKind.LISTENED]
    assert phases == [
        ("supervisor", "began"),
        ("second", "began"),
        ("supervisor", "ended"),
        ("second", "ended"),
    ]
    assert content.marks[-1].kind is MarkKind.ENDED
    assert 1 not in content.sequences(0) and 2 not in content.sequences(0)


def test_who_does_not_take_loses_it_and_the_recording_loses_nothing(box: Box) -> None:
    session, port = box.open_one()
    monitor = listen(box, session)
    count = MAX_WAITING + 40
    for seq in range(count):
        box.send(port, [rtp(seq, tone(seq % 256))])
        if seq % 20 == 19:
            box.advance(10)
    box.advance(10)
    packets, _, lost = taken(monitor)
    assert (len(packets), lost) == (MAX_WAITING, 40)
    assert packets[-1][1] == MAX_WAITING - 1, "what came first"
    assert box.close(session).sequences(0) == list(range(count))


def test_so_many_listen_and_only_to_what_is_recorded(box: Box) -> None:
    session, _ = box.open_one()
    for number in range(MAX_OF_SESSION):
        listen(box, session, f"n{number}")
    with pytest.raises(TooManyListenersError) as caught:
        listen(box, session)
    assert caught.value.data["limit"] == MAX_OF_SESSION
    relayed, _ = box.open(TrackRequest(0), relay_only=True)
    with pytest.raises(RelayOnlyError):
        listen(box, relayed)
    with pytest.raises(SessionNotFoundError):
        listen(box, "a" * 26)
    for field, words in (
        ("actor", ("", "p", "l")),
        ("purpose", ("a", "", "l")),
        ("listener_id", ("a", "p", "l" * 65)),
    ):
        with pytest.raises(ListenerError) as wrong:
            Monitor(*words)
        assert wrong.value.data["field"] == field


def test_what_is_taken_back_leaves_events_where_they_were() -> None:
    def packet(at_ns: int) -> Heard:
        return Heard(0, at_ns, 0, 0, 0, at_ns, b"")

    monitor = Monitor("a", "p", "l")
    monitor.put([packet(1), packet(2), packet(5)])
    monitor.tell(Happened(5, "held", 0))
    monitor.put([packet(6)])
    monitor.revoke(5, track=1)
    monitor.revoke(5)
    monitor.tell(Happened(5, "paused", True))
    monitor.put([packet(9)])
    found = [monitor.take(0), monitor.take(0), monitor.take(0)]
    assert [[one.sequence for one in item.packets] for item in found if item] == [[1, 2], [], [9]]
    assert [item.event.what if item and item.event else "" for item in found] == ["held", "paused", ""]
    for number in range(MAX_EVENTS + 1):
        monitor.tell(Happened(number, "held", 0))
    with pytest.raises(ListenerTooSlowError):
        monitor.take(0)


def test_what_came_encrypted_is_heard_in_the_clear_and_so_is_what_the_box_says(box: Box) -> None:
    key = SrtpKey.make("AEAD_AES_256_GCM")
    session, ports = box.open(
        TrackRequest(0, srtp=(key.suite, key.key_salt)), TrackRequest(1, box_voice=True)
    )
    monitor = listen(box, session)
    protect = key.session().protect
    box.send(ports[0].rtp_port, [protect(rtp(5, tone(5))), rtp(6, tone(6))])
    box.tick()
    now = time.time_ns()
    said = box.recorder.recorded(session)
    said.keep(1, Kept(False, now, 1, 160, 9, 0x80, tone(77)))
    said.keep(1, Kept(True, now, 2, 160, 9, EVENT, b"\x01\x00\x00\xa0"))
    packets, _, _ = taken(monitor)
    assert packets == [(0, 5, tone(5)), (1, 1, tone(77))], "what is not of the key is nobody's"
    assert box.close(session).sequences(0) == [5]


class SlowLoop:
    """Carries out what it is asked only afterwards."""

    def __init__(self) -> None:
        self.asked: list[tuple[Future[Any], Callable[[], Any]]] = []

    def call(self, command: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self.asked.append((future, command))
        return future


class Caller:
    def time_remaining(self) -> float:
        return 0.01


def test_a_listener_that_a_slow_loop_begins_too_late_is_ended(box: Box) -> None:
    session, _ = box.open(TrackRequest(0))
    service = Monitoring()
    loop = SlowLoop()
    service._loop, service._recorder = loop, box.recorder  # type: ignore[assignment]
    request = capture_pb2.MonitorRequest(session_id=session, actor="a", purpose="p", listener_id="l")
    with pytest.raises(CaptureBusyError):
        next(service.Monitor(request, Caller()))  # type: ignore[call-overload]
    for _, command in loop.asked:
        command()
    assert not box.recorder.monitors.open
