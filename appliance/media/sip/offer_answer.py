"""Offer and answer (RFC 3264), with the rules of a recorder: take every audio as it is offered, send nothing.

    plans = plan_answer(offer)                       # what can be taken, and how
    if not any(plan.accepted for plan in plans): ... # 488
    result = answer(offer, {plan.index: LocalMedia(port) for plan in plans if plan.accepted}, address="192.0.2.1")
    result.sdp.serialize(); result.media[0].remote, .local_crypto, .remote_crypto, .direction

An answer has the lines of its offer in the same number and order; labels and mids are echoed; a line is refused by
port 0. No codec is chosen: whatever comes is recorded as it comes. SRTP is answered in kind with a key of our own for
the first crypto line that can be used, by its tag and suite (RFC 4568, section 5.1.2).
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from appliance.media.sip.crypto import Crypto, InlineKey, generate_key
from appliance.media.sip.sdp import (
    Codec,
    Connection,
    Media,
    MediaDirection,
    Origin,
    SdpError,
    SessionDescription,
)

DEFAULT_SUITES = ("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM")  # those that appliance.media.rtp.srtp opens
PROFILES = frozenset({"RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF"})
_ECHOED = ("label", "mid")


class Refusal(enum.StrEnum):
    """Why a media line is answered by port 0."""

    OFFERED_ZERO = "offered-zero"  # the offer itself has port 0
    KIND = "kind"  # no audio
    PROFILE = "profile"  # no RTP by a profile we know
    SRTP = "srtp"  # SRTP, and no crypto line that can be used
    NO_PORT = "no-port"  # the caller has none to give


@dataclass(frozen=True, slots=True)
class AnswerPolicy:
    """What is taken. `sends`: also send (a user agent, no recorder); `suites` in no order, the offer's counts."""

    kinds: frozenset[str] = frozenset({"audio"})
    suites: tuple[str, ...] = DEFAULT_SUITES
    sends: bool = False


DEFAULT_POLICY = AnswerPolicy()


@dataclass(frozen=True, slots=True)
class Remote:
    """Where the other side receives. `address` is as written (a name is possible); ports are 0 where it is refused."""

    address: str
    port: int
    rtcp_address: str
    rtcp_port: int


@dataclass(frozen=True, slots=True)
class LinePlan:
    """One media line of a description of the other side, and what we make of it.

    `direction` is ours: what we may do. `crypto` is their line that we take. `codecs` are theirs, in their order.
    """

    index: int
    media: Media
    refusal: Refusal | None
    direction: MediaDirection
    remote: Remote | None
    rtcp_mux: bool
    crypto: Crypto | None
    codecs: tuple[Codec, ...]

    @property
    def accepted(self) -> bool:
        return self.refusal is None

    @property
    def label(self) -> str | None:
        return self.media.label

    @property
    def on_hold(self) -> bool:
        """Nothing is to come for now: inactive, or a null address."""
        return self.direction is MediaDirection.INACTIVE


@dataclass(frozen=True, slots=True)
class LocalMedia:
    """What we have for one line: ports, an address where it is not that of the session, SRTP key and salt of ours.

    `rtcp_port` is the RTP port plus one where None, and the RTP port itself where rtcp-mux is used. Without a key a
    fresh one is made; give the same again when a session is re-negotiated.
    """

    port: int
    rtcp_port: int | None = None
    address: str | None = None
    key_salt: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AnsweredMedia:
    """One line after offer and answer, seen from us. Crypto is None for plain RTP."""

    plan: LinePlan
    local: LocalMedia | None
    local_crypto: Crypto | None
    remote_crypto: Crypto | None

    @property
    def accepted(self) -> bool:
        return self.local is not None


@dataclass(frozen=True, slots=True)
class Answer:
    """The description to send, and what was agreed, line by line."""

    sdp: SessionDescription
    media: tuple[AnsweredMedia, ...]


@dataclass(frozen=True, slots=True)
class OfferMedia:
    """One line of an offer of ours. `suites` with a profile of SRTP: one crypto line each, with fresh keys.

    `cryptos` gives those lines instead. `extra` are further attributes, as (name, value).
    """

    port: int
    codecs: tuple[Codec, ...]
    kind: str = "audio"
    proto: str = "RTP/AVP"
    label: str | None = None
    mid: str | None = None
    direction: MediaDirection = MediaDirection.SENDRECV
    address: str | None = None
    rtcp_port: int | None = None
    rtcp_mux: bool = False
    ptime: int | None = None
    suites: tuple[str, ...] = ()
    cryptos: tuple[Crypto, ...] = ()
    extra: tuple[tuple[str, str | None], ...] = ()


def plan_answer(theirs: SessionDescription, policy: AnswerPolicy = DEFAULT_POLICY) -> tuple[LinePlan, ...]:
    """What each line of their description allows: for an offer before it is answered, and for an answer to ours."""
    return tuple(_plan(theirs, index, media, policy) for index, media in enumerate(theirs.media))


def answer(
    offer: SessionDescription,
    local: Mapping[int, LocalMedia] | Sequence[LocalMedia | None],
    *,
    address: str,
    policy: AnswerPolicy = DEFAULT_POLICY,
    previous: SessionDescription | None = None,
) -> Answer:
    """The answer to `offer`, from what we have for each line (by index; a line that is missing is refused).

    `address` is our numeric address. `previous` is what we sent last in this session: the session id stays, and the
    version grows by one if anything else has changed (section 8).
    """
    given = (
        dict(local) if isinstance(local, Mapping) else {i: m for i, m in enumerate(local) if m is not None}
    )
    answered = []
    media = []
    for plan in plan_answer(offer, policy):
        ours = given.get(plan.index)
        if plan.accepted and ours is None:
            plan = replace(plan, refusal=Refusal.NO_PORT)
        if not plan.accepted or ours is None:
            answered.append(AnsweredMedia(plan, None, None, None))
            media.append(_refused(plan.media))
            continue
        crypto = None
        if plan.crypto is not None:
            key = ours.key_salt or generate_key(plan.crypto.suite)
            crypto = Crypto(plan.crypto.tag, plan.crypto.suite, (InlineKey(key),))
        answered.append(AnsweredMedia(plan, ours, crypto, plan.crypto))
        media.append(_accepted(plan, ours, crypto, address))
    times = [("t", value) for value in offer.values("t")] or [("t", "0 0")]
    return Answer(_session(address, times, media, previous), tuple(answered))


def make_offer(
    media: Iterable[OfferMedia], *, address: str, previous: SessionDescription | None = None
) -> SessionDescription:
    """An offer of ours; `previous` as for `answer`."""
    return _session(address, [("t", "0 0")], [_offered(line, address) for line in media], previous)


def read_answer(
    offer: SessionDescription, theirs: SessionDescription, policy: AnswerPolicy = DEFAULT_POLICY
) -> tuple[AnsweredMedia, ...]:
    """What an answer to our offer agrees to, line by line. Raises `SdpError` where its lines are not those of the offer.

    A line whose crypto answers none of ours is refused (RFC 4568, section 5.1.3).
    """
    if len(theirs.media) != len(offer.media):
        raise SdpError("an answer has another number of lines than its offer")
    agreed = []
    for plan, ours in zip(plan_answer(theirs, policy), offer.media, strict=True):
        direction = MediaDirection.of(
            plan.direction.sends and offer.direction_of(ours).sends,
            plan.direction.receives and offer.direction_of(ours).receives,
        )
        plan = replace(plan, direction=direction, rtcp_mux=plan.rtcp_mux and ours.rtcp_mux)
        mine = None
        if plan.crypto is not None:
            same = (plan.crypto.tag, plan.crypto.suite)
            mine = next((crypto for crypto in ours.cryptos if (crypto.tag, crypto.suite) == same), None)
        if plan.accepted and plan.media.secure and mine is None:
            plan = replace(plan, refusal=Refusal.SRTP)
        if not plan.accepted or ours.port == 0:
            agreed.append(AnsweredMedia(plan, None, None, None))
            continue
        connection = offer.connection_of(ours)
        rtcp_port = ours.port if plan.rtcp_mux else (ours.rtcp[0] if ours.rtcp else ours.port + 1)
        local = LocalMedia(
            ours.port, rtcp_port, connection.address if connection else None, mine.key_salt if mine else None
        )
        agreed.append(AnsweredMedia(plan, local, mine, plan.crypto))
    return tuple(agreed)


def _plan(theirs: SessionDescription, index: int, media: Media, policy: AnswerPolicy) -> LinePlan:
    connection = theirs.connection_of(media)
    offered = theirs.direction_of(media)
    if connection is not None and connection.is_null:
        offered = MediaDirection.INACTIVE
    direction = MediaDirection.of(offered.receives and policy.sends, offered.sends)
    crypto = None
    if media.secure:
        crypto = next(
            (line for line in media.cryptos if line.suite in policy.suites and line.plain_use), None
        )
    if media.port == 0:
        refusal: Refusal | None = Refusal.OFFERED_ZERO
    elif media.kind not in policy.kinds:
        refusal = Refusal.KIND
    elif media.proto.upper() not in PROFILES:
        refusal = Refusal.PROFILE
    elif media.secure and crypto is None:
        refusal = Refusal.SRTP
    else:
        refusal = None
    return LinePlan(
        index, media, refusal, direction, _remote(media, connection), media.rtcp_mux, crypto, media.codecs
    )


def _remote(media: Media, connection: Connection | None) -> Remote | None:
    if connection is None:
        return None
    rtcp_port, rtcp_address = media.rtcp or (media.port + 1 if 0 < media.port < 65535 else 0, None)
    if media.rtcp_mux:
        rtcp_port, rtcp_address = media.port, None
    return Remote(connection.address, media.port, rtcp_address or connection.address, rtcp_port)


def _echoes(media: Media) -> list[tuple[str, str]]:
    return [("a", f"{name}:{value}") for name in _ECHOED for value in media.attributes(name)[:1] if value]


def _refused(media: Media) -> Media:
    formats = media.formats or ("0",)
    return Media(tuple(_echoes(media)), media.kind, 0, media.proto, formats)


def _accepted(plan: LinePlan, ours: LocalMedia, crypto: Crypto | None, session_address: str) -> Media:
    media = plan.media
    lines: list[tuple[str, str]] = []
    if ours.address is not None and ours.address != session_address:
        lines.append(("c", str(Connection(ours.address))))
    known = set(media.formats)
    for name in ("rtpmap", "fmtp"):
        for value in media.attributes(name):
            if value.split(None, 1)[:1] and value.split(None, 1)[0] in known:
                lines.append(("a", f"{name}:{value}"))
    if media.ptime:
        lines.append(("a", f"ptime:{media.ptime}"))
    lines += _echoes(media)
    if crypto is not None:
        lines.append(("a", f"crypto:{crypto}"))
    if plan.rtcp_mux:
        lines.append(("a", "rtcp-mux"))
    elif ours.rtcp_port is not None and ours.rtcp_port != ours.port + 1:
        lines.append(("a", f"rtcp:{ours.rtcp_port}"))
    lines.append(("a", plan.direction.value))
    return Media(tuple(lines), media.kind, ours.port, media.proto, media.formats or ("0",))


def _offered(line: OfferMedia, session_address: str) -> Media:
    lines: list[tuple[str, str]] = []
    if line.address is not None and line.address != session_address:
        lines.append(("c", str(Connection(line.address))))
    for codec in line.codecs:
        channels = f"/{codec.channels}" if codec.channels > 1 else ""
        lines.append(("a", f"rtpmap:{codec.payload_type} {codec.encoding}/{codec.clock_rate}{channels}"))
        if codec.fmtp is not None:
            lines.append(("a", f"fmtp:{codec.payload_type} {codec.fmtp}"))
    if line.ptime:
        lines.append(("a", f"ptime:{line.ptime}"))
    for name, value in (("label", line.label), ("mid", line.mid)):
        if value is not None:
            lines.append(("a", f"{name}:{value}"))
    cryptos = line.cryptos or tuple(
        Crypto(tag, suite, (InlineKey(generate_key(suite)),)) for tag, suite in enumerate(line.suites, 1)
    )
    lines += [("a", f"crypto:{crypto}") for crypto in cryptos]
    if line.rtcp_mux:
        lines.append(("a", "rtcp-mux"))
    if line.rtcp_port is not None and line.rtcp_port != line.port + 1:
        lines.append(("a", f"rtcp:{line.rtcp_port}"))
    lines += [("a", name if value is None else f"{name}:{value}") for name, value in line.extra]
    lines.append(("a", line.direction.value))
    formats = tuple(str(codec.payload_type) for codec in line.codecs) or ("0",)
    return Media(tuple(lines), line.kind, line.port, line.proto, formats)


def _session(
    address: str, times: list[tuple[str, str]], media: list[Media], previous: SessionDescription | None
) -> SessionDescription:
    before = previous.origin if previous is not None else None
    if before is None:
        origin = Origin("-", secrets.randbits(62), 1, address)
    else:
        origin = replace(before, address=address)
    lines = [("v", "0"), ("o", str(origin)), ("s", "-"), ("c", str(Connection(address))), *times]
    made = SessionDescription(tuple(lines), tuple(media))
    if previous is None or before is None or made == previous:
        return made
    return made.with_origin(replace(origin, version=before.version + 1))
