"""Between an inline call's own values and the messages of capture's contract."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.media.inline.ground import Ground
from appliance.media.inline.media import Evidence, Keyed, MediaEvent, PlayEnded, Tone, TrackPlan
from appliance.media.signaling import conversions
from appliance.media.sip.sdp import Codec
from appliance.model import Party, PayloadFormat, RecordingInfo, Role, TrackInfo
from earwitness.internal.v1 import capture_pb2 as pb

TONES = {
    Tone.RINGING: pb.TONE_RINGING,
    Tone.CONFIRMED: pb.TONE_CONFIRMED,
    Tone.REFUSED: pb.TONE_REFUSED,
    Tone.REMINDER: pb.TONE_REMINDER,
    Tone.RECORDING: pb.TONE_RECORDING,
}


def payload_type(codec: Codec) -> pb.PayloadType:
    return pb.PayloadType(
        number=codec.payload_type,
        encoding=codec.encoding.upper(),
        clock_rate=codec.clock_rate,
        channels=codec.channels,
        fmtp=codec.fmtp or "",
    )


def track_spec(plan: TrackPlan, port: int = 0) -> pb.TrackSpec:
    """What capture is told of a track; `port` where it is taken up again after a restart of capture."""
    spec = pb.TrackSpec(
        track=plan.number,
        active=plan.active,
        payload_types=[payload_type(codec) for codec in plan.codecs],
        rtcp_mux=plan.mux,
        port=port,
        codes=plan.codes,
        box_voice=plan.box_voice,
    )
    if plan.srtp is not None:
        spec.srtp.suite, spec.srtp.key_salt = plan.srtp
    if plan.far is not None:
        spec.remote.host = plan.far.host
        spec.remote.rtp_port, spec.remote.rtcp_port = plan.far.rtp_port, plan.far.rtcp_port
        if plan.far.srtp is not None:
            spec.remote.srtp.suite, spec.remote.srtp.key_salt = plan.far.srtp
    if plan.hears >= 0:
        spec.hears = plan.hears
    return spec


def evidence(items: tuple[Evidence, ...]) -> list[pb.Evidence]:
    return conversions.evidence(
        conversions.Evidence(one.kind, one.content_type, one.content, one.at_ns) for one in items
    )


def media_event(message: pb.WatchMediaResponse) -> MediaEvent | None:
    """What happened, as the call is told; None for what it does not ask for."""
    what = message.WhichOneof("what")
    if what == "code":
        return Keyed(message.track, message.code, message.at_ns)
    if what == "play_ended":
        ended = message.play_ended
        return PlayEnded(ended.play_id, ended.whole, ended.played_ms, ended.interrupted, message.at_ns)
    return None


def recording_info(
    ground: Ground,
    recording_id: str,
    *,
    part: int,
    started_ns: int,
    sip_call_id: str,
    identifiers: tuple[str, ...],
) -> RecordingInfo:
    """What the recording is of, as far as it is known now."""
    # Who was called and never came is no party of the conversation.
    people = [one for one in ground.participants.values() if one.answered or not one.gone]
    parties = [Party(aor=one.aor, name=one.name, role=one.role) for one in people]
    tracks = [
        TrackInfo(track=one.track, party=place, formats=formats(one.side.codecs))
        for place, one in enumerate(people)
    ]
    if ground.voice >= 0:
        spoken = tuple(codec for one in people for codec in one.side.codecs)
        tracks.append(TrackInfo(track=ground.voice, label="box", party=len(parties), formats=formats(spoken)))
        parties.append(Party(role=Role.BOX))
    return RecordingInfo(
        recording_id=recording_id,
        call_id=ground.call_id,
        tenant_id=ground.line.tenant_id,
        line_id=ground.line.line_id,
        part=part,
        started_ns=started_ns,
        source="inline",
        direction=ground.plan.direction,
        parties=tuple(parties),
        tracks=tuple(tracks),
        sip_call_id=sip_call_id,
        session_ids=identifiers,
        flags=(
            *(("emergency",) if ground.plan.emergency else ()),
            *(() if ground.was_joined else ("not-answered",)),
        ),
    )


def formats(codecs: tuple[Codec, ...]) -> tuple[PayloadFormat, ...]:
    """Payload types, each once."""
    found: Mapping[int, PayloadFormat] = {
        codec.payload_type: PayloadFormat(
            number=codec.payload_type,
            encoding=codec.encoding.upper(),
            clock_rate=codec.clock_rate,
            channels=codec.channels,
            fmtp=codec.fmtp or "",
        )
        for codec in codecs
    }
    return tuple(found.values())
