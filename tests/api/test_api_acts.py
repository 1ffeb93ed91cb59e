"""What is done to recordings by keypad, and by the clock: in the audit file and in the events feed, each once."""

from __future__ import annotations

import os

import pytest
import sqlalchemy as sa

import earwitness
from appliance.catalog import state
from earwitness.internal.v1 import signaling_pb2
from earwitness.v1 import events_pb2

PAUSE, RESUME, STOP = (
    signaling_pb2.CALL_ACTION_PAUSE,
    signaling_pb2.CALL_ACTION_RESUME,
    signaling_pb2.CALL_ACTION_STOP,
)


def audited(box, what: str = "act") -> list[dict]:
    return [one for one in box.audited() if one["what"] == what]


def told(client, count: int) -> list[events_pb2.Event]:
    found = []
    kinds = [events_pb2.EVENT_TYPE_CALL_ACTION]
    for event in earwitness.watch_events(client, from_oldest=True, types=kinds):
        found.append(event)
        if len(found) == count:
            return found
    raise AssertionError


@pytest.fixture
def call(box):
    call_id = box.signaling.begin(*box.default_line())
    box.wait(lambda: box.control.parts.board.in_sync and box.signaling.acts_asked)
    return call_id


def test_an_act_is_in_the_audit_file_and_in_the_feed(box, call):
    tenant, line = box.default_line()
    box.signaling.acted(call, PAUSE)
    box.signaling.acted(call, STOP, refused="no-right")
    box.signaling.acted(call, RESUME, by=signaling_pb2.ACT_BY_AUTOMATIC)
    events = told(box.client(), 3)
    assert [(event.state, event.message) for event in events] == [
        ("PAUSE", "Asked by keypad."),
        ("STOP", "Asked by keypad, and refused: the agent has no right to."),
        ("RESUME", "The pause ended by itself."),
    ]
    assert {event.subject for event in events} == {f"tenants/{tenant}/calls/{call}"}
    assert events[0].line == f"tenants/{tenant}/lines/{line}"
    lines = audited(box)
    assert [(one["who"], one["action"], one["outcome"]) for one in lines] == [
        ("agent", "PAUSE", "OK"),
        ("agent", "STOP", "NO_RIGHT"),
        ("automatic", "RESUME", "OK"),
    ]
    first, act = lines[0], box.signaling.acts[0]
    assert first["subject"] == f"tenants/{tenant}/calls/{call}"
    assert first["line"] == f"tenants/{tenant}/lines/{line}"
    assert first["recording"] == f"tenants/{tenant}/recordings/{act.recording_id}"
    assert first["asked_ns"] == act.at_ns and first["time_ns"] > act.at_ns
    assert first["request"] == f"{box.signaling.epoch}/1"


def test_over_a_restart_of_control_none_is_lost_and_none_is_told_twice(box, call):
    box.signaling.acted(call, PAUSE)
    told(box.client(), 1)
    box.stop()
    box.signaling.acted(call, RESUME)
    box.start()
    events = told(box.client(), 2)
    assert [event.state for event in events] == ["PAUSE", "RESUME"]
    assert [one["action"] for one in audited(box)] == ["PAUSE", "RESUME"]
    assert box.signaling.acts_asked[-1] == ("first", 1)


def test_numbers_begin_anew_with_a_new_life_of_signaling(box, call):
    box.signaling.acted(call, PAUSE)
    told(box.client(), 1)
    box.signaling.stop()
    box.signaling.epoch = "second"
    box.signaling.acts.clear()
    box.signaling.acted(call, STOP)
    box.signaling.start()
    assert [event.state for event in told(box.client(), 2)] == ["PAUSE", "STOP"]
    assert [one["request"] for one in audited(box)] == ["first/1", "second/1"]
    assert not audited(box, "acts-lost")


def test_what_signaling_has_forgotten_is_said(box, call):
    box.signaling.acted(call, PAUSE)
    told(box.client(), 1)
    box.signaling.acted(call, STOP, serial=5)
    told(box.client(), 2)
    [lost] = audited(box, "acts-lost")
    assert (lost["count"], lost["request"]) == (3, "first/2-4")
    assert box.status.counters()["acts_lost"] == 3


def test_without_audit_an_act_waits(box, call):
    tail = box.control.trail.log._tail
    kept = tail._fd
    full = os.open("/dev/full", os.O_RDWR)
    tail._fd = full
    try:
        box.signaling.acted(call, PAUSE)
        box.wait(lambda: [one for one in box.status.conditions() if one.type == "AuditUnwritable"])
        assert "acts_written_down" not in box.status.counters()
    finally:
        tail._fd = kept
        os.close(full)
    assert [event.state for event in told(box.client(), 1)] == ["PAUSE"]
    assert len(audited(box)) == 1


def test_an_act_whose_event_a_crash_took_is_told_and_not_audited_again(box, call):
    box.signaling.acted(call, PAUSE)
    told(box.client(), 1)

    def as_before(connection: sa.Connection) -> None:
        state.put(connection, "acts-position", "first 0")
        connection.execute(sa.text("DELETE FROM events WHERE type = 'call-action'"))

    box.write(as_before)
    box.stop()
    segment = box.layout.control / "audit" / "entries-000001.jsonl"
    segment.write_bytes(segment.read_bytes() + b'{"what":"act","request":"torn')
    box.start()
    told(box.client(), 1)
    assert [one["request"] for one in audited(box)] == ["first/1"]


def test_the_end_of_the_audit_file_is_read_in_whole_lines(box):
    trail = box.control.trail
    for number in range(10):
        trail.write({"what": "act", "request": f"n/{number}"}, durable=False)
    size = 2 * len('{"what":"act","request":"n/8"}\n') + 5
    assert [one["request"] for one in trail.tail(size)] == ["n/8", "n/9"]
