"""Whether tracks can be what is asked of them, found out before anything is changed."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.media.capture.session import MAX_TRACKS, MediaSession, SessionError, TrackRequest
from appliance.media.capture.wiring import check_remote
from appliance.media.rtp.keypad import check_codes
from appliance.media.rtp.srtp import check_key


def check_tracks(requests: Sequence[TrackRequest], session: MediaSession, address: str) -> None:
    """SessionError, KeyCodeError, RemoteAddressError, SrtpKeyError. `address` is our own, where media is awaited."""
    numbers = {request.number for request in requests}
    if len(numbers) != len(requests):
        raise SessionError("a track is named twice", field="tracks.track")
    if len(numbers | set(session.order)) > MAX_TRACKS:
        raise SessionError("too many tracks", field="tracks", limit=MAX_TRACKS)
    voices = {request.number for request in requests if request.box_voice} | set(session.voices)
    sources = (numbers | set(session.order)) - voices
    for request in requests:
        number = request.number
        if (number in session.tracks) if request.box_voice else (number in voices):
            raise SessionError("the box's own voice has no sockets, ever", field="tracks.box_voice")
        if request.box_voice and (request.remote or request.codes or request.hears is not None):
            raise SessionError("the box's own voice hears nobody", field="tracks.box_voice")
        if request.hears is not None and (request.hears == number or request.hears not in sources):
            raise SessionError("there is no such participant to hear", field="tracks.hears")
        check_codes(request.codes, "tracks.codes")
        if request.srtp is not None:
            check_key(*request.srtp)
        if request.remote is not None:
            check_remote(request.remote, address)
