"""Our session descriptions: answers to offers of the recording client, and offers where it left that to us."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from appliance.media.sip.crypto import Crypto, InlineKey
from appliance.media.sip.offer_answer import LocalMedia, OfferMedia, answer, make_offer
from appliance.media.sip.sdp import STATIC_TYPES, Codec, Media, MediaDirection, SessionDescription
from appliance.media.siprec.state import TrackState
from appliance.model import PayloadFormat

DISCARD_PORT = 9
"""Named where nothing is recorded (RFC 863; as RFC 8829 has it for lines without an address)."""

_CODECS = tuple(Codec(number, *STATIC_TYPES[number]) for number in (0, 8, 9, 18)) + (
    Codec(101, "telephone-event", 8000, 1, "0-16"),
)
OFFERED = tuple(
    PayloadFormat(
        number=codec.payload_type,
        encoding=codec.encoding.upper(),
        clock_rate=codec.clock_rate,
        channels=codec.channels,
        fmtp=codec.fmtp or "",
    )
    for codec in _CODECS
)
"""What a new session is offered."""

_DIRECTIONS = frozenset(direction.value for direction in MediaDirection)


def build_answer(
    theirs: SessionDescription,
    tracks: Sequence[TrackState],
    previous: SessionDescription | None,
    address: str,
    *,
    silent: bool,
) -> tuple[SessionDescription, list[TrackState]]:
    """The answer to `theirs`, and the tracks with the SRTP keys it names. A track without a port refuses its line.

    `silent`: nothing is recorded; every line is inactive at the discard port.
    """
    local: dict[int, LocalMedia] = {}
    numbers: dict[int, int] = {}
    for track in tracks:
        if track.line < 0 or not (silent or track.rtp_port):
            continue
        key = track.own_key if track.own_key and track.own_suite == track.suite else None
        port, rtcp_port = (DISCARD_PORT, None) if silent else (track.rtp_port, track.rtcp_port)
        numbers[track.line] = track.number
        local[track.line] = LocalMedia(port, None if track.mux else rtcp_port, None, key)
    made = answer(_inactive(theirs) if silent else theirs, local, address=address, previous=previous)
    keys = {
        numbers[line.plan.index]: line.local_crypto
        for line in made.media
        if line.local_crypto is not None and line.plan.index in numbers
    }
    after = []
    for track in tracks:
        crypto = keys.get(track.number)
        if crypto is not None:
            track = track.model_copy(update={"own_suite": crypto.suite, "own_key": crypto.key_salt})
        after.append(track)
    return made.sdp, after


def build_offer(
    tracks: Sequence[TrackState], previous: SessionDescription | None, address: str, *, silent: bool
) -> SessionDescription:
    """The lines there are, in their places, each receiving (RFC 7866, section 7.2), or inactive while nothing is
    recorded. A line without a track stays refused."""
    lines: dict[int, OfferMedia] = {}
    for track in tracks:
        if track.line < 0 or not (silent or track.rtp_port):
            continue
        was = _line(previous, track.line)
        lines[track.line] = OfferMedia(
            port=DISCARD_PORT if silent else track.rtp_port,
            codecs=tuple(
                Codec(one.number, one.encoding, one.clock_rate, one.channels, one.fmtp or None)
                for one in track.formats
            ),
            proto=was.proto if was is not None else "RTP/AVP",
            label=track.label or None,
            mid=was.mid if was is not None else None,
            direction=MediaDirection.INACTIVE if silent else MediaDirection.RECVONLY,
            rtcp_port=None if silent or track.mux else track.rtcp_port,
            rtcp_mux=track.mux,
            cryptos=(Crypto(1, track.own_suite, (InlineKey(track.own_key),)),) if track.own_key else (),
        )
    last = len(previous.media) - 1 if previous is not None else -1
    media = [
        lines.get(place) or _refused(previous, place) for place in range(max([*lines, last], default=-1) + 1)
    ]
    return make_offer(media, address=address, previous=previous)


def _line(description: SessionDescription | None, place: int) -> Media | None:
    return description.media[place] if description is not None and place < len(description.media) else None


def _refused(previous: SessionDescription | None, place: int) -> OfferMedia:
    was = _line(previous, place)
    return OfferMedia(
        port=0,
        codecs=(was.codecs if was is not None else ()) or _CODECS[:1],
        kind=was.kind if was is not None else "audio",
        proto=was.proto if was is not None else "RTP/AVP",
        direction=MediaDirection.INACTIVE,
    )


def _inactive(offer: SessionDescription) -> SessionDescription:
    """The offer as if every line were on hold."""
    return replace(offer, media=tuple(replace(media, lines=_hushed(media)) for media in offer.media))


def _hushed(media: Media) -> tuple[tuple[str, str], ...]:
    kept = [line for line in media.lines if line[0] != "a" or line[1].strip().lower() not in _DIRECTIONS]
    return (*kept, ("a", MediaDirection.INACTIVE.value))
