"""The picture of a recording."""

from google.protobuf.duration_pb2 import Duration

from appliance.cli import picture
from earwitness.v1 import party_pb2, recordings_pb2


def duration(value: float) -> Duration:
    return Duration(seconds=int(value), nanos=round((value % 1) * 1e9))


def waveform(
    caller: list[int], agent: list[int], *marks: tuple[int, float]
) -> recordings_pb2.GetWaveformResponse:
    return recordings_pb2.GetWaveformResponse(
        duration=duration(len(caller)),
        column_duration=duration(1),
        channels=[
            recordings_pb2.WaveformChannel(role=party_pb2.PARTY_ROLE_CALLER, peaks=caller),
            recordings_pb2.WaveformChannel(role=party_pb2.PARTY_ROLE_AGENT, peaks=agent),
        ],
        marks=[recordings_pb2.Mark(kind=kind, offset=duration(at), actor="desk") for kind, at in marks],
    )


def test_loud_and_silent_columns() -> None:
    lines = picture.draw(waveform([0] * 10 + [32768] * 10, [32768] * 10 + [0] * 10))
    caller, agent = lines[0:3], lines[3:6]
    assert [line[9:] for line in caller] == [" " * 10 + "█" * 10] * 3
    assert [line[9:] for line in agent] == ["█" * 10] * 3
    assert caller[1].startswith("caller") and agent[1].startswith("agent")


def test_a_paused_span_is_shaded_between_its_marks_and_named() -> None:
    marks = ((recordings_pb2.MARK_KIND_PAUSED, 5), (recordings_pb2.MARK_KIND_RESUMED, 8))
    lines = picture.draw(waveform([0] * 20, [0] * 20, *marks))
    assert all(line[9:].rstrip() == "     ░░░" for line in lines[:6])
    assert lines[6][9 + 5] == "P" and lines[6][9 + 8] == "R"
    assert "P 0:05.0 paused by desk" in lines[8]


def test_a_pause_without_an_end_lasts_to_the_end() -> None:
    (span,) = picture.spans(
        [recordings_pb2.Mark(kind=recordings_pb2.MARK_KIND_PAUSED, offset=duration(4))], 9.0
    )
    assert (span.begin, span.end) == (4.0, 9.0)


def test_ascii_where_the_terminal_has_nothing_else() -> None:
    lines = picture.draw(
        waveform([12000] * 30, [100] * 30, (recordings_pb2.MARK_KIND_HELD, 3)), unicode=False
    )
    assert all(line.isascii() for line in lines)


def test_nothing_to_draw() -> None:
    assert picture.draw(recordings_pb2.GetWaveformResponse()) == ["(no sound)"]


def test_two_marks_in_one_column_are_both_seen() -> None:
    row = picture.mark_row(
        [
            recordings_pb2.Mark(kind=recordings_pb2.MARK_KIND_PAUSED, offset=duration(1.2)),
            recordings_pb2.Mark(kind=recordings_pb2.MARK_KIND_RESUMED, offset=duration(1.4)),
        ],
        10,
        1.0,
    )
    assert row == " PR       "
