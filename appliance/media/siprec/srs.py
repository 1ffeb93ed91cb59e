"""One recording session as the recording server sees it (RFC 7866), sans-IO.

    session = RecordingSession()
    change = session.receive(read_body(request), hints=read_hints(request), ours=..., now_ns=...)
    if change.refusal: answer it (488)
    ...let capture open or change `change.tracks` as `session.spec(number)` says...
    session.bind(ports)
    sdp = session.answer(address)             # for a 200; or session.offer(address) where the request had no SDP
    change = session.answered(ack_body, ...)  # the answer to our offer

The order of belief: record first, understand second, refuse almost never. Nothing that metadata says, or fails to
say, makes an answer differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appliance.media.sip.offer_answer import LinePlan, plan_answer, read_answer
from appliance.media.sip.sdp import SdpError, SessionDescription, parse_sdp
from appliance.media.siprec.bodies import Body
from appliance.media.siprec.describe import OFFERED, build_answer, build_offer
from appliance.media.siprec.extensions import join_call_data, read_gtd
from appliance.media.siprec.hints import Hints
from appliance.media.siprec.lines import (
    assign,
    changed,
    hold_marks,
    label_of,
    planned,
    refusal_flags,
    srtp_impossible,
)
from appliance.media.siprec.merge import merge
from appliance.media.siprec.metadata import MISSING, read_metadata
from appliance.media.siprec.model import CallData, Metadata
from appliance.media.siprec.numbers import subscriber
from appliance.media.siprec.people import People
from appliance.media.siprec.state import SessionState, TrackState
from appliance.media.siprec.stitch import Fingerprint
from appliance.media.siprec.voices import present_participants, stream_of, voices
from appliance.model import Direction, Mark, Party, TrackInfo

MAX_FLAGS = 32
SDP_MALFORMED = "sdp-malformed"
_OFFER_LINES = 2
_MAX_OFFER_LINES = 8

Ours = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Change:
    """What a message changed. `tracks` are numbers of tracks that capture must open or change; `info` tells whether
    parties, tracks or flags differ. `refusal` is a SIP status to answer with instead: then nothing has changed."""

    tracks: tuple[int, ...] = ()
    marks: tuple[Mark, ...] = ()
    info: bool = False
    refusal: int = 0
    has_offer: bool = False


class RecordingSession:
    """The state of one recording session. Raises nothing on whatever a peer sends."""

    def __init__(self, state: SessionState | None = None) -> None:
        state = state or SessionState()
        self.tracks: list[TrackState] = list(state.tracks)
        self.people = People(state.people)
        self.metadata: Metadata | None = state.metadata
        self.call: CallData = state.call
        self.hints: Hints = state.hints
        self.offered = state.offered
        self._flags = dict.fromkeys(state.flags)
        self._voice_flags = state.voice_flags
        self._sdp: SessionDescription | None = _parse(state.sdp)
        self._theirs: SessionDescription | None = _parse(state.theirs)

    def state(self) -> SessionState:
        """To be remembered; `RecordingSession(state)` takes it up again."""
        return SessionState(
            tracks=tuple(self.tracks),
            people=self.people.state(),
            metadata=self.metadata,
            call=self.call,
            hints=self.hints,
            flags=tuple(self._flags),
            voice_flags=self._voice_flags,
            sdp=self._sdp.serialize() if self._sdp is not None else b"",
            theirs=self._theirs.serialize() if self._theirs is not None else b"",
            offered=self.offered,
        )

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def parties(self) -> tuple[Party, ...]:
        return tuple(self.people.parties)

    @property
    def present(self) -> frozenset[int]:
        """Indices of the parties that take part now."""
        return frozenset(self.people.here)

    @property
    def direction(self) -> Direction:
        return self.people.direction

    @property
    def flags(self) -> tuple[str, ...]:
        """What was not understood or had to be inferred, in no order of importance."""
        said = self.metadata.flags if self.metadata is not None else (MISSING,)
        return tuple(dict.fromkeys((*said, *self._flags, *self._voice_flags)))[:MAX_FLAGS]

    @property
    def session_ids(self) -> tuple[str, ...]:
        """How other systems name this call: communication session ids as written, others as `kind:value`."""
        sessions = [one.id for one in self.metadata.sessions] if self.metadata is not None else []
        groups = [f"group:{group}" for group in sorted(self._groups())]
        found = (*sessions, *self.call.identifiers, *self.hints.identifiers, *groups)
        return tuple(text[:256] for text in dict.fromkeys(found))[:64]

    @property
    def track_infos(self) -> tuple[TrackInfo, ...]:
        return tuple(
            TrackInfo(track=track.number, label=track.label, party=track.party, formats=track.formats)
            for track in self.tracks
        )

    @property
    def numbers(self) -> tuple[str, ...]:
        """Normalised numbers and names of whoever takes or may take part, those of parties first."""
        said = [subscriber(party.aor) for party in self.people.parties]
        said += [subscriber(address) for address in (*self.call.calling, *self.call.called)]
        return tuple(dict.fromkeys(filter(None, (*said, *self.hints.numbers))))

    @property
    def on_hold(self) -> bool:
        """Every track on a line is held."""
        live = [track for track in self.tracks if track.line >= 0]
        return bool(live) and not any(track.active for track in live)

    def track(self, number: int) -> TrackState:
        """By number."""
        return next(track for track in self.tracks if track.number == number)

    def fingerprint(self, tenant_id: str) -> Fingerprint:
        """By what this session may be recognised as belonging to a call."""
        sessions = [one.id for one in self.metadata.sessions] if self.metadata is not None else []
        keys = {f"session:{one}" for one in sessions if len(one) >= 4 and one.strip("0")}
        fork = self.hints.fork
        speaking = {track.party for track in self.tracks if track.party >= 0}
        return Fingerprint(
            tenant_id,
            frozenset(keys | set(self.call.identifiers) | set(self.hints.identifiers)),
            frozenset(self._groups()),
            fork.key if fork is not None else "",
            fork.near if fork is not None else None,
            frozenset(filter(None, (subscriber(party.aor) for party in self.people.parties))),
            frozenset(filter(None, (subscriber(self.people.parties[party].aor) for party in speaking))),
        )

    def _groups(self) -> set[str]:
        if self.metadata is None:
            return set()
        found = {group.id for group in self.metadata.groups} | {
            one.group_id for one in self.metadata.sessions
        }
        return {group[:200] for group in found if len(group) >= 4}

    # -- a request -----------------------------------------------------------------------------------------------

    def receive(self, body: Body, *, ours: Ours, now_ns: int, hints: Hints | None = None) -> Change:
        """An INVITE, re-INVITE or UPDATE. `ours` tells whether a number is one of the line's; `hints` are of the INVITE."""
        offer: SessionDescription | None = None
        plans: tuple[LinePlan, ...] = ()
        if body.sdp is not None:
            try:
                offer = parse_sdp(body.sdp)
            except SdpError:
                return Change(refusal=488)
            plans = plan_answer(offer)
            if srtp_impossible(plans):
                return Change(refusal=488)
        before = self._shown()
        old = list(self.tracks)
        self._flags.update(dict.fromkeys(body.flags))
        if hints is not None:
            self.hints = hints
        self._learn(body)
        marks: list[Mark] = []
        if offer is not None:
            self._theirs = offer
            self.offered = False
            known = (
                frozenset(stream.label for stream in self.metadata.streams) if self.metadata else frozenset()
            )
            labels = [label_of(plan, known) for plan in plans]
            self.tracks, flags = assign(self.tracks, plans, labels, self._somebody_else)
            self._flags.update(dict.fromkeys(flags))
            marks += hold_marks(old, self.tracks, now_ns)
        marks += self._identify(ours, now_ns)
        return Change(
            changed(old, self.tracks), tuple(marks), self._shown() != before, has_offer=offer is not None
        )

    def _learn(self, body: Body) -> None:
        if body.metadata is not None:
            self.metadata = merge(self.metadata, read_metadata(body.metadata))
        call = self.metadata.call if self.metadata is not None else CallData()
        for kind, content in body.others:
            if kind == "application/gtd":
                self.call = join_call_data(self.call, read_gtd(content))
        self.call = join_call_data(call, self.call)

    def _somebody_else(self, track: TrackState, label: str) -> bool:
        """Whether a label is known to be of another participant than the track's."""
        if self.metadata is None or stream_of(self.metadata, label) is None:
            return False
        speaker = voices(self.metadata, [label])[0].participant_id
        if not speaker:
            return False
        party = self.people.index.get(speaker)
        if party is None:
            # Not known yet by this id: another address than the track's party has.
            found = self.metadata.participant(speaker)
            number = subscriber(found.address.aor) if found is not None else ""
            mine = subscriber(self.people.parties[track.party].aor) if track.party >= 0 else ""
            return bool(number and mine and number != mine)
        return track.party not in (-1, party)

    def _identify(self, ours: Ours, now_ns: int) -> list[Mark]:
        """Parties, sides, and who speaks on which track, from all that is known."""
        on_lines = sorted((track for track in self.tracks if track.line >= 0), key=lambda track: track.line)
        change = self.people.update(self.metadata, self.hints, self.call, on_lines, ours, now_ns)
        self._voice_flags = change.flags
        self.tracks = [
            track.model_copy(update={"party": change.party_of[track.number]})
            if track.number in change.party_of
            else track
            for track in self.tracks
        ]
        return list(change.marks)

    def _shown(self) -> tuple[object, ...]:
        return (self.parties, self.track_infos, self.flags, self.direction, self.session_ids)

    # -- ports and answers ---------------------------------------------------------------------------------------

    def bind(self, ports: Mapping[int, tuple[int, int]]) -> None:
        """Takes up the RTP and RTCP ports that capture has for tracks."""
        self.tracks = [
            track.model_copy(update=dict(zip(("rtp_port", "rtcp_port"), ports[track.number], strict=True)))
            if track.number in ports
            else track
            for track in self.tracks
        ]

    def answer(self, address: str, *, silent: bool = False) -> bytes:
        """The answer to the last offer: complete, every line in its place. Call `bind` first.

        `silent`: nothing is recorded; every line is inactive and has no port of ours. "" where there was no offer.
        """
        if self._theirs is None:
            return b""
        self._sdp, self.tracks = build_answer(self._theirs, self.tracks, self._sdp, address, silent=silent)
        return self._sdp.serialize()

    # -- our own offer -------------------------------------------------------------------------------------------

    def prepare_offer(self) -> Change:
        """The request had no SDP, so ours is the offer: sees to it that there are tracks for it.

        A new session gets a track for each stream that the metadata names, or two: one voice each way.
        """
        if any(track.line >= 0 for track in self.tracks) or self._theirs is not None:
            return Change()
        labels: list[str] = []
        if self.metadata is not None:
            labels = [stream.label for stream in self.metadata.streams if stream.label][:_MAX_OFFER_LINES]
        lines = labels or [""] * max(_OFFER_LINES, len(self._present()))
        self.tracks = [
            TrackState(number=number, line=number, label=label, formats=OFFERED)
            for number, label in enumerate(lines[:_MAX_OFFER_LINES])
        ]
        return Change(tuple(track.number for track in self.tracks), info=True)

    def _present(self) -> list[str]:
        return [one.id for one in present_participants(self.metadata)] if self.metadata is not None else []

    def offer(self, address: str, *, silent: bool = False) -> bytes:
        """Our offer: the lines there are, each receiving (RFC 7866, section 7.2), or inactive while nothing is recorded."""
        self._sdp = build_offer(self.tracks, self._sdp, address, silent=silent)
        self.offered = True
        return self._sdp.serialize()

    def answered(self, body: Body, *, ours: Ours, now_ns: int) -> Change:
        """The answer to our offer (in an ACK, or a 200). Without one, or with one that cannot be read, the lines stay as
        they were offered: media that comes is recorded."""
        if not self.offered or self._sdp is None:
            return Change()
        self.offered = False
        before, old = self._shown(), list(self.tracks)
        if body.sdp is None:
            self._flags[SDP_MALFORMED] = None
            return Change(info=True)
        try:
            theirs = parse_sdp(body.sdp)
            agreed = read_answer(self._sdp, theirs)
        except SdpError:
            self._flags[SDP_MALFORMED] = None
            return Change(info=True)
        self._learn(body)
        self._flags.update(dict.fromkeys(refusal_flags([line.plan for line in agreed])))
        by_line = {line.plan.index: line for line in agreed}
        after = []
        for track in self.tracks:
            line = by_line.get(track.line)
            if line is None:
                after.append(track)
                continue
            after.append(
                planned(track, line.plan, track.line, label_of(line.plan, frozenset()))
                if line.accepted
                else track.model_copy(update={"line": -1, "active": False})
            )
        self.tracks = after
        marks = hold_marks(old, self.tracks, now_ns) + self._identify(ours, now_ns)
        return Change(changed(old, self.tracks), tuple(marks), self._shown() != before)


def _parse(data: bytes) -> SessionDescription | None:
    return parse_sdp(data) if data else None
