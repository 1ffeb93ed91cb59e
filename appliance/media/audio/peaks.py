"""The picture of a recording: how loud each side was, and where its marks stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.media.audio.mix import Mixer
from appliance.media.audio.recording import Recording
from appliance.model import InvalidError, Mark

MAX_COLUMNS = 10_000


@dataclass(frozen=True, slots=True)
class Peaks:
    """Envelope in columns of equal length.

    `low`, `high` and `rms` are (channels, columns) of 16-bit sample values. `marks` are (column, mark); marks outside the
    recording stand at its edge. `losses` are (channel's track, first column, last column) of what never came.
    """

    low: npt.NDArray[np.int16]
    high: npt.NDArray[np.int16]
    rms: npt.NDArray[np.float32]
    duration_ns: int
    marks: list[tuple[int, Mark]]
    losses: list[tuple[int, int, int]]


def peaks(recording: Recording, columns: int, layout: str = "sides") -> Peaks:
    """The envelope in so many columns; an empty recording gives silence."""
    if not 1 <= columns <= MAX_COLUMNS:
        raise InvalidError(f"between 1 and {MAX_COLUMNS} columns", field="columns")
    mixer = Mixer(recording, layout=layout)
    shape = (mixer.channels, columns)
    low = np.zeros(shape, np.int16)
    high = np.zeros(shape, np.int16)
    power = np.zeros(shape, np.float64)
    edges = np.arange(columns + 1) * mixer.samples // columns
    at = 0
    for piece in mixer.pieces():
        # Columns that begin in this piece, and the one that goes on into it.
        first = int(np.searchsorted(edges, at, side="right")) - 1
        last = int(np.searchsorted(edges, at + len(piece), side="left"))
        index = np.arange(first, min(last, columns))
        starts = np.maximum(edges[index] - at, 0)
        filled = np.append(starts[1:], len(piece)) > starts
        index, starts = index[filled], starts[filled]
        for channel in range(mixer.channels):
            sound = np.ascontiguousarray(piece[:, channel])
            low[channel, index] = np.minimum(low[channel, index], np.minimum.reduceat(sound, starts))
            high[channel, index] = np.maximum(high[channel, index], np.maximum.reduceat(sound, starts))
            power[channel, index] += np.add.reduceat(np.square(sound, dtype=np.float64), starts)
        at += len(piece)
    rms = np.sqrt(power / np.maximum(np.diff(edges), 1)).astype(np.float32)
    span = max(recording.duration_ns, 1)

    def column(at_ns: int) -> int:
        return min(max(at_ns * columns // span, 0), columns - 1)

    return Peaks(
        low=low,
        high=high,
        rms=rms,
        duration_ns=recording.duration_ns,
        marks=[(column(mark.at_ns - recording.start_ns), mark) for mark in recording.marks],
        losses=[
            (track.number, column(begin), column(until))
            for track in recording.tracks
            for begin, until in track.losses
        ],
    )
