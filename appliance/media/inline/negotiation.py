"""Offer and answer of the two sides of an inline call (RFC 3264): what one side says is said to the other in our name.

The box is where each side sends to, and says so; payload types, parameters and directions go through as they are, so that
nothing needs to be transcoded. One audio line is carried; every other line is answered by port 0. SRTP, RTCP and addresses
are agreed with each side by itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from appliance.media.sip.crypto import Crypto, InlineKey, generate_key
from appliance.media.sip.offer_answer import (
    DEFAULT_SUITES,
    AnswerPolicy,
    LinePlan,
    LocalMedia,
    OfferMedia,
    Remote,
    answer,
    make_offer,
    plan_answer,
    read_answer,
)
from appliance.media.sip.sdp import Codec, Media, MediaDirection, SdpError, SessionDescription, parse_sdp
from appliance.model import InvalidError

EVENTS = "TELEPHONE-EVENT"
NOISE = "CN"
# In which a prompt is kept, in the order in which a codec is chosen where the box is alone with one side.
SPOKEN = (("PCMA", 8000), ("PCMU", 8000), ("G722", 8000), ("OPUS", 48000), ("L16", 8000))
MAX_PTIME = 40  # milliseconds that are asked for: a packet has to fit into 512 octets
OWN_OFFER = (
    Codec(8, "PCMA", 8000),
    Codec(0, "PCMU", 8000),
    Codec(9, "G722", 8000),
    Codec(101, "telephone-event", 8000, 1, "0-16"),
)
_POLICY = AnswerPolicy(sends=True)


class NoCommonMediaError(InvalidError):
    """There is no audio in a description that can be carried; the other side is answered 488."""

    reason = "NO_COMMON_MEDIA"


DESCRIPTION_ERRORS = (SdpError, NoCommonMediaError)
"""What a peer's description may raise."""


def spoken(codec: Codec) -> bool:
    """Whether the box can speak in it."""
    return (codec.encoding.upper(), codec.clock_rate) in SPOKEN


def carried(codec: Codec) -> bool:
    """Whether its packets of 20 ms fit into what capture takes: uncompressed sound of a high rate does not."""
    linear = codec.encoding.upper() in ("L16", "L20", "L24")
    return not linear or codec.clock_rate * codec.channels <= 8000


def companion(codec: Codec) -> bool:
    """Not speech itself: telephone-events and comfort noise go along with whatever is spoken."""
    return codec.encoding.upper() in (EVENTS, NOISE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one side sends to: our address and ports."""

    address: str
    rtp_port: int
    rtcp_port: int


@dataclass(slots=True)
class Side:
    """Offer and answer with one side.

    `theirs` and `ours` are the last descriptions either way; an offer that is not answered yet counts. `line` is the
    place of the audio line in them, -1 before there is one. `srtp`: offer RTP/SAVP.
    """

    srtp: bool = False
    theirs: SessionDescription | None = field(default=None, repr=False)
    ours: SessionDescription | None = field(default=None, repr=False)
    line: int = -1
    plan: LinePlan | None = field(default=None, repr=False)
    remote_crypto: Crypto | None = field(default=None, repr=False)
    local_crypto: Crypto | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    mux: bool = False

    # -- what they say ---------------------------------------------------------------------------------------------

    def offered(self, body: bytes) -> LinePlan:
        """Their offer. Raises `SdpError`, and `NoCommonMediaError` where there is no audio line that can be carried."""
        offer = parse_sdp(body)
        plans = plan_answer(offer, _POLICY)
        plan = next((one for one in plans if one.accepted and self.line in (-1, one.index)), None)
        plan = plan or next((one for one in plans if one.accepted), None)
        codecs = tuple(codec for codec in plan.codecs if carried(codec)) if plan is not None else ()
        if plan is None or not any(not companion(codec) for codec in codecs):
            raise NoCommonMediaError("no audio line that can be carried")
        plan = replace(plan, codecs=codecs)
        self.theirs, self.line, self.plan = offer, plan.index, plan
        return plan

    def answered(self, body: bytes) -> LinePlan:
        """Their answer to our offer. Raises as `offered`."""
        if self.ours is None:
            raise SdpError("an answer without an offer")
        theirs = parse_sdp(body)
        agreed = read_answer(self.ours, theirs, _POLICY)
        found = next((one for one in agreed if one.accepted), None)
        if found is None or not found.plan.codecs:
            raise NoCommonMediaError("the answer takes no audio")
        self.theirs, self.line, self.plan = theirs, found.plan.index, found.plan
        self.remote_crypto, self.local_crypto = found.remote_crypto, found.local_crypto
        if found.local_crypto is not None:
            # Kept when they offer next: a key that changes in mid stream is one that some phones do not follow.
            self.key = found.local_crypto.key_salt
        self.mux = found.plan.rtcp_mux
        return found.plan

    def repeats(self, body: bytes) -> bool:
        """Whether an offer only says again what they said last (a refresh, RFC 4028 section 7.4)."""
        before = self.theirs.origin if self.theirs is not None else None
        try:
            now = parse_sdp(body)
        except SdpError:
            return False
        if before is None or now.origin is None or self.theirs is None:
            return False
        same = (now.origin.session_id, now.origin.version) == (before.session_id, before.version)
        return same and now.media == self.theirs.media

    # -- what we say -----------------------------------------------------------------------------------------------

    def offer(
        self, codecs: Sequence[Codec], direction: MediaDirection, place: Place, *, ptime: int | None = None
    ) -> bytes:
        """Our offer: these codecs, by these numbers."""
        previous = self.ours
        # A session that is secured, or has a profile of its own, is never asked to go on by another one.
        proto = "RTP/SAVP" if self.srtp else "RTP/AVP"
        if previous is not None and previous.media:
            proto = previous.media[max(self.line, 0)].proto
        cryptos = self._our_cryptos() if "SAVP" in proto.upper() else ()
        line = OfferMedia(
            place.rtp_port,
            tuple(codecs),
            proto=proto,
            direction=direction,
            rtcp_port=place.rtcp_port,
            rtcp_mux=self.mux,
            ptime=min(ptime, MAX_PTIME) if ptime else None,
            cryptos=cryptos,
        )
        made = make_offer([line], address=place.address, previous=previous)
        if self.line > 0 or (previous is not None and len(previous.media) > 1):
            made = self._in_place(made, previous)
        self.ours = made
        return made.serialize()

    def _in_place(self, made: SessionDescription, previous: SessionDescription | None) -> SessionDescription:
        """A session keeps the number and order of its lines (section 8): ours stands where it stood, the rest stay shut."""
        assert previous is not None
        media = list(made.media)
        before = list(previous.media)
        lines = [replace(one, port=0) for one in before]
        lines[max(self.line, 0)] = media[0]
        whole = replace(made, media=tuple(lines))
        origin = whole.origin
        assert origin is not None
        version = origin.version if whole == previous else max(origin.version, _version(previous) + 1)
        return whole.with_origin(replace(origin, version=version))

    def _our_cryptos(self) -> tuple[Crypto, ...]:
        if self.local_crypto is not None:
            return (self.local_crypto,)
        kept = self.ours.media[max(self.line, 0)].cryptos if self.ours is not None and self.ours.media else ()
        return kept or tuple(
            Crypto(tag, suite, (InlineKey(generate_key(suite)),))
            for tag, suite in enumerate(DEFAULT_SUITES, 1)
        )

    def answer(
        self,
        codecs: Iterable[Codec],
        direction: MediaDirection,
        place: Place,
    ) -> bytes:
        """Our answer to their offer: of what they offered those codecs that the other side takes, with its parameters.

        Raises `NoCommonMediaError` where none is left.
        """
        if self.theirs is None or self.plan is None:
            raise SdpError("an answer without an offer")
        media = self.theirs.media[self.line]
        chosen = matching(self.plan.codecs, codecs)
        if not any(not companion(codec) for codec, _ in chosen):
            raise NoCommonMediaError("no codec is common to both sides")
        lines = list(self.theirs.media)
        lines[self.line] = _narrowed(media, chosen)
        given = LocalMedia(place.rtp_port, place.rtcp_port, key_salt=self._key_for(self.plan))
        made = answer(
            replace(self.theirs, media=tuple(lines)),
            {self.line: given},
            address=place.address,
            policy=_POLICY,
            previous=None,
        )
        agreed = made.media[self.line]
        said = _directed(made.sdp, self.line, direction)
        if self.ours is not None and (before := self.ours.origin) is not None:
            said = said.with_origin(replace(before, address=place.address))
            if said != self.ours:
                said = said.with_origin(replace(before, address=place.address, version=before.version + 1))
        self.ours = said
        self.plan = replace(self.plan, codecs=tuple(codec for codec, _ in chosen))
        self.remote_crypto, self.local_crypto = agreed.remote_crypto, agreed.local_crypto
        self.mux = self.plan.rtcp_mux
        return said.serialize()

    def _key_for(self, plan: LinePlan) -> bytes | None:
        if plan.crypto is None:
            return None
        length = len(generate_key(plan.crypto.suite))
        if self.key is None or len(self.key) != length:
            self.key = generate_key(plan.crypto.suite)
        return self.key

    # -- what holds ------------------------------------------------------------------------------------------------

    @property
    def direction(self) -> MediaDirection:
        """What they say that they do; inactive before they said anything."""
        if self.theirs is None or self.line < 0:
            return MediaDirection.INACTIVE
        media = self.theirs.media[self.line]
        connection = self.theirs.connection_of(media)
        said = self.theirs.direction_of(media)
        if connection is not None and connection.is_null:
            # RFC 2543's hold: they want nothing, and may send music.
            return MediaDirection.of(said.sends, False)
        return said

    @property
    def remote(self) -> Remote | None:
        return self.plan.remote if self.plan is not None else None

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """What has been agreed with them, or offered by them."""
        return self.plan.codecs if self.plan is not None else ()

    @property
    def speech(self) -> Codec | None:
        """The codec of speech that comes first."""
        return next((codec for codec in self.codecs if not companion(codec)), None)

    def speaks_as(self, other: Side) -> bool:
        """Whether both sides speak in the same codec."""
        mine, theirs = self.speech, other.speech
        return mine is not None and theirs is not None and same(mine, theirs)

    @property
    def ptime(self) -> int | None:
        return self.plan.media.ptime if self.plan is not None else None


def reachable(address: str, source: str) -> str:
    """Where media is sent to: the address of a description, or where the peer's SIP comes from (`source`, "" where that is
    not known) if it is a name, nobody's own, of another family, or one that holds on a single link only; symmetric RTP does
    the rest. "" for nowhere."""
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:
        return source
    other = bool(source) and (":" in source) != (wanted.version == 6)
    linked = isinstance(wanted, ipaddress.IPv6Address) and wanted.scope_id is not None
    return source if other or linked or wanted.is_multicast or str(wanted) == "255.255.255.255" else address


def matching(offered: Iterable[Codec], taken: Iterable[Codec]) -> list[tuple[Codec, Codec]]:
    """Which of the offered codecs are taken, in the order of who takes; each with what the taker says of it.

    By number where that means the same on both sides, else by name, rate and channels.
    """
    by_number = {codec.payload_type: codec for codec in offered}
    found: list[tuple[Codec, Codec]] = []
    used: set[int] = set()
    for codec in taken:
        own = by_number.get(codec.payload_type)
        if own is None or not same(own, codec):
            own = next((one for one in by_number.values() if same(one, codec)), None)
        if own is not None and own.payload_type not in used:
            used.add(own.payload_type)
            found.append((own, codec))
    return found


def same(one: Codec, other: Codec) -> bool:
    """The same format, whatever its number and parameters."""
    return (one.encoding.upper(), one.clock_rate, one.channels) == (
        other.encoding.upper(),
        other.clock_rate,
        other.channels,
    )


def alone(codecs: Sequence[Codec]) -> tuple[Codec, ...]:
    """What the box answers while it is alone with one side: one codec that it can speak, and what goes along.

    Empty where it can speak none of them.
    """
    order = {name: place for place, name in enumerate(SPOKEN)}
    able = [codec for codec in codecs if spoken(codec)]
    if not able:
        return ()
    first = (
        able[0]
        if able[0].encoding.upper() != "L16"
        else min(able, key=lambda codec: order[(codec.encoding.upper(), codec.clock_rate)])
    )
    return (first, *(codec for codec in codecs if companion(codec) and _fits(codec, first)))


def _fits(codec: Codec, speech: Codec) -> bool:
    """Events run on the clock of the speech (RFC 4733, section 2.1)."""
    return codec.clock_rate == speech.clock_rate


def _version(description: SessionDescription) -> int:
    origin = description.origin
    return origin.version if origin is not None else 0


def _narrowed(media: Media, chosen: list[tuple[Codec, Codec]]) -> Media:
    """A line with those formats alone, and the taker's parameters: an answer's parameters are those of who answers."""
    kept = {str(own.payload_type): theirs for own, theirs in chosen}
    lines: list[tuple[str, str]] = []
    for kind, value in media.lines:
        name, _, rest = value.partition(":")
        if kind == "a" and name in ("rtpmap", "fmtp"):
            number = rest.split(None, 1)[0] if rest.split() else ""
            if name == "rtpmap" and number in kept:
                lines.append((kind, value))
        else:
            lines.append((kind, value))
    lines += [("a", f"fmtp:{number} {codec.fmtp}") for number, codec in kept.items() if codec.fmtp]
    return replace(media, formats=tuple(kept), lines=tuple(lines))


def _directed(sdp: SessionDescription, line: int, direction: MediaDirection) -> SessionDescription:
    """The description with this direction on its line."""
    words = {one.value for one in MediaDirection}
    media = list(sdp.media)
    lines = [pair for pair in media[line].lines if not (pair[0] == "a" and pair[1] in words)]
    media[line] = replace(media[line], lines=(*lines, ("a", direction.value)))
    return replace(sdp, media=tuple(media))
