"""Between the rooms' own values and the messages of capture's contract."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from appliance.media.sip.message import SipRequest
from appliance.media.siprec.state import TrackState
from appliance.model import Mark, RecordingInfo
from earwitness.internal.v1 import capture_pb2 as pb

MAX_EVIDENCE = 1 << 20
MAX_INFO = 1 << 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something as it was received."""

    kind: str
    content_type: str
    content: bytes = field(repr=False)
    at_ns: int


def request_evidence(request: SipRequest, at_ns: int) -> Evidence:
    """A SIP request, header by header as it came."""
    return Evidence(f"sip-{request.method.lower()}", "message/sip", request.serialize(), at_ns)


def track_spec(track: TrackState, *, active: bool | None = None, again: bool = False) -> pb.TrackSpec:
    """What capture is told of a track. `again`: it takes up its port after a restart of capture."""
    spec = pb.TrackSpec(
        track=track.number,
        active=track.active if active is None else active,
        payload_types=[
            pb.PayloadType(
                number=one.number,
                encoding=one.encoding,
                clock_rate=one.clock_rate,
                channels=one.channels,
                fmtp=one.fmtp,
            )
            for one in track.formats
        ],
        rtcp_mux=track.mux,
        port=track.rtp_port if again else 0,
    )
    if track.suite:
        spec.srtp.suite = track.suite
        spec.srtp.key_salt = track.key_salt
    return spec


def evidence(items: Iterable[Evidence]) -> list[pb.Evidence]:
    """Evidence, each item cut to what capture takes."""
    return [
        pb.Evidence(
            kind=item.kind,
            content_type=item.content_type,
            content=item.content[:MAX_EVIDENCE],
            at_ns=item.at_ns,
        )
        for item in items
    ]


def marks(items: Iterable[Mark]) -> list[pb.MarkJson]:
    """Marks as JSON."""
    return [pb.MarkJson(json=item.model_dump_json(exclude_defaults=True).encode()) for item in items]


def info_json(info: RecordingInfo) -> bytes:
    """The INFO block. One too large for capture goes without what can be read from the evidence too."""
    data = info.model_dump_json().encode()
    if len(data) <= MAX_INFO:
        return data
    tracks = tuple(
        track.model_copy(
            update={"formats": tuple(one.model_copy(update={"fmtp": ""}) for one in track.formats)}
        )
        for track in info.tracks
    )
    return (
        info.model_copy(update={"tracks": tracks, "flags": (*info.flags, "info-shortened")})
        .model_dump_json()
        .encode()
    )


def bound_ports(ports: Iterable[pb.TrackPorts]) -> dict[int, tuple[int, int]]:
    """RTP and RTCP port of each track."""
    return {one.track: (one.rtp_port, one.rtcp_port) for one in ports}
