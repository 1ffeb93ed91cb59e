"""Where a session's media is awaited, and what is known of its tracks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliance.media.capture.commands import Ports, TrackFigures
from appliance.media.capture.intake import Intake
from appliance.media.capture.session import MediaSession


def ports(session: MediaSession) -> list[Ports]:
    """In the order in which the tracks were opened; the box's own voice has port 0."""
    pairs = {number: track.pair for number, track in session.tracks.items()}
    return [
        Ports(number, pairs[number].port, pairs[number].rtcp_port) if number in pairs else Ports(number, 0, 0)
        for number in session.order
    ]


def track_figures(
    session: MediaSession, number: int, intake: Intake, pending: NDArray[np.int64], sent: NDArray[np.int64]
) -> TrackFigures:
    """What is known of one track. `pending` (packets kept and not gathered yet) and `sent` are tables by slot."""
    voice = session.voices.get(number)
    if voice is not None:
        last = session.wall_time(voice.last_ns) if voice.last_ns else 0
        return TrackFigures(number, 0, voice.packets, voice.dropped, 0, 0, last)
    opened = session.tracks[number]
    slot = opened.slot
    last = int(intake.last_ns[slot])
    return TrackFigures(
        number,
        opened.pair.port,
        int(intake.kept[slot]) + int(pending[slot]),
        int(intake.dropped[slot]),
        int(intake.refused[slot]),
        int(intake.overflowed[slot]),
        session.wall_time(last) if last else 0,
        int(sent[slot]),
    )
