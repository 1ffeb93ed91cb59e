"""Gates and tracks without sockets or clocks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.media.capture.gate import Gate
from appliance.media.capture.track import MAX_CANDIDATES, QUIET_SAID_NS, RUN, Track, TrackColumns, Verdict

MS = 1_000_000


def columns(packets: list[tuple[int, int, int, int]], first_row: int = 0) -> TrackColumns:
    """Packets as (arrival ms, ssrc, source, sequence)."""
    return TrackColumns(
        np.arange(first_row, first_row + len(packets)),
        np.array([packet[0] * MS for packet in packets], np.int64),
        np.ones(len(packets), np.bool_),
        np.zeros(len(packets), np.bool_),
        np.array([packet[1] for packet in packets], np.uint32),
        np.array([packet[2] for packet in packets], np.uint64),
        np.array([packet[3] for packet in packets], np.uint16),
    )


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=12),
    st.lists(st.integers(0, 700), max_size=40),
)
def test_a_gate_drops_what_a_plain_reading_of_its_spans_drops(
    steps: list[tuple[bool, int]], arrivals: list[int]
) -> None:
    gate, now, shut_at = Gate(), 0, None
    spans: list[tuple[int, float]] = []
    for shut, ahead in steps:
        now += ahead
        if shut:
            gate.shut_from(now)
            shut_at = now if shut_at is None else shut_at
        else:
            gate.open_from(now)
            if shut_at is not None:
                spans.append((shut_at, now))
            shut_at = None
    if shut_at is not None:
        spans.append((shut_at, float("inf")))
    expected = [any(start <= at < end for start, end in spans) for at in arrivals]
    assert gate.dropped(np.array(arrivals, np.int64)).tolist() == expected
    assert gate.shut == (shut_at is not None)


def test_a_gate_forgets_only_what_is_over() -> None:
    gate = Gate()
    gate.shut_from(10)
    gate.prune(1000)
    assert gate.shut
    gate.open_from(20)
    gate.prune(15)
    assert gate.dropped(np.array([12])).tolist() == [True]
    gate.prune(30)
    assert gate.idle


def test_packets_go_by_when_they_arrived_not_by_when_they_are_read() -> None:
    track = Track(0)
    track.pause.shut_from(100 * MS)
    track.pause.open_from(200 * MS)
    verdicts = track.admit(columns([(at, 1, 1, at) for at in (50, 99, 100, 150, 199, 200, 300)]))
    keep, drop = Verdict.KEEP, Verdict.DROP
    assert verdicts.tolist() == [keep, keep, drop, drop, drop, keep, keep]


def test_a_newcomer_needs_a_run() -> None:
    track = Track(0)
    track.admit(columns([(0, 1, 1, 0)]))
    first = track.admit(columns([(20 * i, 2, 1, i) for i in range(RUN - 1)], 1))
    assert set(first.tolist()) == {Verdict.WAIT}
    last = track.admit(columns([(20 * RUN, 2, 1, RUN - 1)], RUN))
    assert last.tolist() == [Verdict.KEEP]
    assert track.released == list(range(1, RUN))
    assert track.ssrc == 2


def test_an_interleaved_foreign_source_never_gets_in() -> None:
    track = Track(0)
    packets = [(10 * i, 1, 1 + i % 2, i // 2) for i in range(400)]
    verdicts = np.concatenate([track.admit(columns(packets[i : i + 20], i)) for i in range(0, 400, 20)])
    assert (verdicts[::2] == Verdict.KEEP).all()
    assert (verdicts[1::2] == Verdict.WAIT).all()
    # When the first falls silent, what the other said meanwhile stays out.
    late = track.admit(columns([(4000 + 300 + 20 * i, 1, 2, 200 + i) for i in range(RUN)], 400))
    assert late[-1] == Verdict.KEEP
    assert min(track.released, default=400) >= 399


def test_who_speaks_from_where_signaling_says_is_the_participant_whoever_was_first() -> None:
    track = Track(0)
    track.said = 7
    track.admit(columns([(0, 1, 9, 0)]))
    assert track.source == 9
    # Both speak at once: the stranger cannot talk the participant out of its place.
    packets = [(10 * i, 1 + i % 2, 9 if i % 2 == 0 else 7, i // 2) for i in range(2, 2 + 2 * RUN)]
    verdicts = np.concatenate([track.admit(columns([packet], i + 1)) for i, packet in enumerate(packets)])
    assert track.source == 7
    assert verdicts[-1] == Verdict.KEEP
    late = 10 * (2 + 2 * RUN)
    assert track.admit(columns([(late, 1, 9, 100)], 50)).tolist() == [Verdict.WAIT]


def test_a_silence_of_the_participant_is_no_door_for_a_stranger() -> None:
    track = Track(0)
    track.said = 7
    track.admit(columns([(0, 1, 7, 0)]))
    quiet = QUIET_SAID_NS // MS
    track.admit(columns([(300 + 20 * i, 2, 9, i) for i in range(60)], 1))
    assert track.source == 7
    # One that has been silent for long may be elsewhere after all.
    track.admit(columns([(quiet + 20 * i, 2, 9, 100 + i) for i in range(RUN)], 100))
    assert track.source == 9


def test_what_a_newcomer_said_in_a_pause_is_not_brought_back() -> None:
    track = Track(0)
    track.admit(columns([(0, 1, 1, 0)]))
    track.pause.shut_from(10 * MS)
    track.pause.open_from(50 * MS)
    verdicts = track.admit(columns([(at, 2, 1, at // 10) for at in (20, 30, 40, 60)], 1))
    assert verdicts.tolist() == [Verdict.DROP, Verdict.DROP, Verdict.DROP, Verdict.KEEP]
    assert track.released == []


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 3), st.integers(0, 65535)),
        max_size=200,
    )
)
def test_any_traffic_leaves_a_track_within_bounds(packets: list[tuple[int, int, int, int]]) -> None:
    track = Track(0)
    now = 0
    for row, (ahead, ssrc, source, sequence) in enumerate(packets):
        now += ahead * 50
        verdicts = track.admit(columns([(now, ssrc, source, sequence)], row))
        assert len(verdicts) == 1
        assert not set(track.released) - set(range(row + 1))
        track.released.clear()
        track.expire(now * MS)
        assert len(track._candidates) <= MAX_CANDIDATES
