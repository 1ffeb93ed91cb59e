"""Filters that are wrong are pointed at; counts become bars; times on the timeline are read."""

from __future__ import annotations

import io

import pytest
from google.protobuf.duration_pb2 import Duration
from rich.console import Console

from appliance.cli import counts, filters, notes, output
from appliance.cli.counts import By
from appliance.cli.exits import Failure
from earwitness.v1 import recordings_pb2


def answer(*groups: tuple[str, int]) -> recordings_pb2.CountRecordingsResponse:
    return recordings_pb2.CountRecordingsResponse(
        groups=[
            recordings_pb2.RecordingCount(key=key, count=count, duration=Duration(seconds=60 * count))
            for key, count in groups
        ],
        count=sum(count for _, count in groups),
        duration=Duration(seconds=3600),
    )


@pytest.fixture
def printed(monkeypatch):
    """What is shown, on a terminal that has all characters or few."""

    def show(encoding, *arguments):
        file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
        monkeypatch.setattr(output, "console", Console(file=file, width=100, highlight=False))
        counts.show(*arguments)
        file.seek(0)
        return file.read().splitlines()

    return show


@pytest.mark.parametrize(
    ("text", "position", "shown"),
    [
        ("a=1 b", 4, ["  a=1 b", "      ^"]),
        ("a=", 2, ["  a=", "    ^"]),
        ("", 0, ["  ", "  ^"]),
        ("a=1", 99, ["  a=1", "     ^"]),
        ("名=1 b", 4, ["  名=1 b", "       ^"]),
        ("a\n=\x1b[2J1 b", 9, ["  a =\N{REPLACEMENT CHARACTER}[2J1 b", "           ^"]),
    ],
)
def test_the_caret_stands_below_the_place(text, position, shown):
    assert filters.pointed(text, position) == shown


def test_a_long_filter_is_cut_around_the_place():
    text = " ".join(f"a={n}" for n in range(400))
    line, caret = filters.pointed(text, 1000)
    assert len(line) < 100 and line.startswith("  …") and line.endswith("…")
    assert line[caret.index("^")] == text[1000]


def test_days_are_bars_and_those_without_recordings_are_shown(printed):
    lines = printed("utf-8", answer(("2026-11-02", 10), ("2026-11-04", 5)), By.DAY)
    assert [line[:14] for line in lines[1:4]] == ["Mon 2026-11-02", "Tue 2026-11-03", "Wed 2026-11-04"]
    full, half = lines[1].count("█"), lines[3].count("█")
    assert full == counts.BAR and half == counts.BAR // 2 and "█" not in lines[2]
    assert lines[-1] == "15 recordings, 1:00:00"


def test_a_terminal_without_blocks_gets_hashes(printed):
    lines = printed("ascii", answer(("urgent", 4), ("rare", 1)), By.TAG)
    assert lines[1].split()[:3] == ["urgent", "#" * counts.BAR, "4"]
    assert lines[2].split()[:3] == ["rare", "#" * (counts.BAR // 4), "1"]


def test_a_long_row_of_days_is_shown_without_the_empty_ones(printed):
    assert len(printed("utf-8", answer(("2020-01-01", 1), ("2026-01-01", 1)), By.DAY)) == 4
    assert printed("utf-8", answer(), By.DAY) == ["No recording."]


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("90", 90e9), ("1:30", 90e9), ("1:00:00.5", 3600.5e9), ("0", 0)],
)
def test_times_on_the_timeline(text, nanoseconds):
    assert notes.offset_of(text).ToNanoseconds() == nanoseconds


@pytest.mark.parametrize("text", ["", "x", "1:2:3:4", "-1", "1.5.5"])
def test_what_is_no_time_on_the_timeline(text):
    with pytest.raises(Failure):
        notes.offset_of(text)
