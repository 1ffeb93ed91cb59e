"""A recording as a picture of text: one band a channel, spans that were not kept shaded, marks and a time axis below."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from earwitness.v1 import party_pb2, recordings_pb2

BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII = " .:-=+*#%"
FLOOR_DB = -48.0
ROWS = 3

_LETTERS = {
    recordings_pb2.MARK_KIND_PAUSED: ("P", "paused"),
    recordings_pb2.MARK_KIND_RESUMED: ("R", "resumed"),
    recordings_pb2.MARK_KIND_HELD: ("H", "held"),
    recordings_pb2.MARK_KIND_UNHELD: ("U", "taken off hold"),
    recordings_pb2.MARK_KIND_TRANSFERRED: ("T", "transferred"),
    recordings_pb2.MARK_KIND_PARTY_JOINED: ("J", "party joined"),
    recordings_pb2.MARK_KIND_PARTY_LEFT: ("L", "party left"),
    recordings_pb2.MARK_KIND_GAP: ("G", "gap"),
    recordings_pb2.MARK_KIND_NO_MEDIA: ("N", "no media"),
    recordings_pb2.MARK_KIND_STOPPED: ("S", "stopped"),
    recordings_pb2.MARK_KIND_RESTARTED: ("X", "box restarted a part of itself"),
    recordings_pb2.MARK_KIND_ENDED: ("E", "ended"),
    recordings_pb2.MARK_KIND_ANNOUNCED: ("A", "announcement"),
    recordings_pb2.MARK_KIND_WHISPERED: ("W", "whisper"),
    recordings_pb2.MARK_KIND_NOTE: ("n", "note"),
}
_SHADES = {
    recordings_pb2.MARK_KIND_PAUSED: (recordings_pb2.MARK_KIND_RESUMED, "paused"),
    recordings_pb2.MARK_KIND_HELD: (recordings_pb2.MARK_KIND_UNHELD, "held"),
}
_SIDES = {party_pb2.PARTY_ROLE_CALLER: "caller", party_pb2.PARTY_ROLE_AGENT: "agent"}


@dataclass(frozen=True)
class Span:
    """A stretch of the timeline that was not kept; seconds from the beginning."""

    begin: float
    end: float
    word: str


def seconds(duration: object) -> float:
    """A protobuf Duration in seconds."""
    return duration.seconds + duration.nanos / 1e9  # type: ignore[attr-defined]


def spans(marks: Sequence[recordings_pb2.Mark], length: float) -> list[Span]:
    """The paused and held stretches that the marks name; one without an end lasts to the end."""
    result = []
    for opening, (closing, word) in _SHADES.items():
        begin: float | None = None
        for mark in sorted(marks, key=lambda mark: seconds(mark.offset)):
            if mark.kind == opening and begin is None:
                begin = seconds(mark.offset)
            elif mark.kind == closing and begin is not None:
                result.append(Span(begin, seconds(mark.offset), word))
                begin = None
        if begin is not None:
            result.append(Span(begin, length, word))
    return result


def level(peak: int) -> float:
    """0 (silence) to 1 (full scale), linear in decibels."""
    if peak <= 0:
        return 0.0
    return min(1.0, max(0.0, 1 - 20 * math.log10(peak / 32768) / FLOOR_DB))


def band(peaks: Sequence[int], shaded: Sequence[bool], *, glyphs: str, shade: str) -> list[str]:
    """The rows of one channel, top first."""
    steps = len(glyphs) - 1
    heights = [round(level(peak) * ROWS * steps) for peak in peaks]
    rows = []
    for row in reversed(range(ROWS)):
        line = ""
        for height, dark in zip(heights, shaded, strict=True):
            cell = min(max(height - row * steps, 0), steps)
            line += shade if dark and not cell else glyphs[cell]
        rows.append(line)
    return rows


def axis(columns: int, length: float) -> str:
    """Times below the picture, about every fifteen columns."""
    cells = [" "] * columns
    marks = max(1, columns // 15)
    for place in range(marks + 1):
        at = length * place / marks
        text = f"{int(at // 60)}:{at % 60:04.1f}" if length < 600 else f"{int(at // 60)}:{int(at % 60):02}"
        begin = min(round((columns - 1) * place / marks), columns - len(text))
        cells[begin : begin + len(text)] = text
    return "".join(cells)


def draw(waveform: recordings_pb2.GetWaveformResponse, *, unicode: bool = True) -> list[str]:
    """The lines of the picture. Needs as many columns as the waveform has, plus nine for the names."""
    glyphs, shade = (BLOCKS, "░") if unicode else (ASCII, "/")
    length = seconds(waveform.duration)
    step = seconds(waveform.column_duration) or 1.0
    columns = max((len(channel.peaks) for channel in waveform.channels), default=0)
    if not columns:
        return ["(no sound)"]
    dark = spans(waveform.marks, length)
    shaded = [
        any(span.begin <= column * step and (column + 1) * step <= span.end for span in dark)
        for column in range(columns)
    ]
    lines = []
    for number, channel in enumerate(waveform.channels, 1):
        name = _SIDES.get(channel.role, f"party {number}")
        for row, text in enumerate(band(channel.peaks, shaded, glyphs=glyphs, shade=shade)):
            lines.append(f"{name if row == ROWS // 2 else '':<8} {text}")
    lines.append(" " * 9 + mark_row(waveform.marks, columns, step))
    lines.append(" " * 9 + axis(columns, length))
    lines += legend(waveform.marks)
    return [line.rstrip() for line in lines]


def mark_row(marks: Iterable[recordings_pb2.Mark], columns: int, step: float) -> str:
    """One letter a mark, below where it happened."""
    cells = [" "] * columns
    for mark in marks:
        place = min(max(int(seconds(mark.offset) / step), 0), columns - 1)
        while place < columns - 1 and cells[place] != " ":
            place += 1
        cells[place] = _LETTERS.get(mark.kind, ("?", ""))[0]
    return "".join(cells)


def legend(marks: Sequence[recordings_pb2.Mark]) -> list[str]:
    """What each letter stands for, with time, who and why."""
    lines = []
    for mark in sorted(marks, key=lambda mark: seconds(mark.offset)):
        letter, word = _LETTERS.get(mark.kind, ("?", "mark"))
        at = seconds(mark.offset)
        text = f"  {letter} {int(at // 60)}:{at % 60:04.1f} {word}"
        if mark.actor:
            text += f" by {mark.actor}"
        if mark.reason:
            text += f": {mark.reason}"
        lines.append(text)
    return lines
