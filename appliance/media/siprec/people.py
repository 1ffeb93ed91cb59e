"""The parties of a recording session over time: joined, left, corrected, and who speaks on which track."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.media.siprec.hints import Hints
from appliance.media.siprec.model import CallData, Metadata, Participant
from appliance.media.siprec.numbers import same_number, subscriber
from appliance.media.siprec.roles import Candidate, judge
from appliance.media.siprec.state import PeopleState, TrackState
from appliance.media.siprec.voices import UNKNOWN_PARTY, Voice, present_participants, voices
from appliance.model import Direction, Mark, MarkKind, Party, Role

MAX_PARTIES = 128
FROM_HEADERS = "parties-from-headers"
_NEAR, _FAR = "#near", "#far"
_CALLING, _CALLED = "#calling", "#called"
MAX_AOR = 512
MAX_NAME = 256


@dataclass(frozen=True, slots=True)
class PeopleChange:
    """Marks for the timeline, the party of each track, and the flags that hold now."""

    marks: tuple[Mark, ...]
    party_of: dict[int, int]
    flags: tuple[str, ...]


class People:
    """Indices of parties never change while marks may name them."""

    def __init__(self, state: PeopleState | None = None) -> None:
        state = state or PeopleState()
        self.parties = list(state.parties)
        self.index = dict(state.index)
        self.here = set(state.here)
        self.from_headers = state.from_headers
        self.direction = state.direction
        self._begun = bool(state.index)

    def state(self) -> PeopleState:
        """To be remembered."""
        return PeopleState(
            parties=tuple(self.parties),
            index=self.index,
            here=tuple(sorted(self.here)),
            from_headers=self.from_headers,
            direction=self.direction,
        )

    def update(
        self,
        metadata: Metadata | None,
        hints: Hints,
        call: CallData,
        tracks: Sequence[TrackState],
        ours: Callable[[str], bool],
        now_ns: int,
    ) -> PeopleChange:
        """Takes in what is known now. `tracks` are those on a media line, in order of the lines."""
        if metadata is not None and not metadata.empty:
            marks = self._from_metadata(metadata, now_ns)
            spoken = voices(metadata, [track.label for track in tracks])
        else:
            self._from_headers(hints)
            marks = []
            spoken = [Voice(flags=(UNKNOWN_PARTY,)) for _ in tracks]
        if hints.fork is not None and len(tracks) == 1 and not spoken[0].participant_id:
            spoken = [Voice(_NEAR if hints.fork.near else _FAR)]
        self._judge(metadata, hints, call, ours)
        party_of = {}
        flags: dict[str, None] = {FROM_HEADERS: None} if self.from_headers else {}
        for track, voice in zip(tracks, spoken, strict=True):
            flags.update(dict.fromkeys(voice.flags))
            party = self.index.get(voice.participant_id, -1) if voice.participant_id else -1
            if party < 0:
                continue  # what was known before stays
            party_of[track.number] = party
            if track.party not in (-1, party):
                self._inherit(track.party, party)
                marks.append(
                    Mark(
                        kind=MarkKind.TRANSFERRED,
                        at_ns=now_ns,
                        track=track.number,
                        data={"from_party": track.party, "party": party},
                    )
                )
        return PeopleChange(tuple(marks), party_of, tuple(flags))

    # -- from metadata -------------------------------------------------------------------------------------------

    def _from_metadata(self, metadata: Metadata, now_ns: int) -> list[Mark]:
        if self.from_headers:
            # What headers made us believe is replaced by what is said outright; no mark names it.
            self.parties.clear()
            self.index.clear()
            self.here.clear()
            self.from_headers = False
            self._begun = False
        first = not self._begun
        marks: list[Mark] = []
        ids = {one.id for one in metadata.participants}
        for participant in metadata.participants:
            marks += self._take(participant, ids, now_ns)
        before = self.here
        present = {one.id for one in present_participants(metadata)}
        self.here = {self.index[one] for one in present if one in self.index}
        if not first:
            for party in sorted(self.here - before):
                marks.append(Mark(kind=MarkKind.PARTY_JOINED, at_ns=now_ns, data={"party": party}))
            for party in sorted(before - self.here):
                marks.append(Mark(kind=MarkKind.PARTY_LEFT, at_ns=now_ns, data={"party": party}))
        self._begun = bool(self.index)
        return marks

    def _take(self, participant: Participant, ids: set[str], now_ns: int) -> list[Mark]:
        """One participant of the newest state; gives a mark where a party turns out to be somebody else."""
        address = participant.address
        new = Party(
            aor=address.aor[:MAX_AOR], name=address.name[:MAX_NAME], participant_id=participant.id[:MAX_NAME]
        )
        place = self.index.get(participant.id)
        if place is None:
            place = self._same_under_other_id(new, ids)
        if place is None:
            if len(self.parties) < MAX_PARTIES:
                self.index[participant.id] = len(self.parties)
                self.parties.append(new)
            return []
        self.index[participant.id] = place
        old = self.parties[place]
        number, before = subscriber(new.aor), subscriber(old.aor)
        self.parties[place] = old.model_copy(
            update={
                "aor": new.aor or old.aor,
                "name": new.name
                or ("" if number and before and not same_number(number, before) else old.name),
                "participant_id": new.participant_id,
            }
        )
        if number and before and not same_number(number, before):
            return [Mark(kind=MarkKind.NOTE, at_ns=now_ns, reason="party-corrected", data={"party": place})]
        return []

    def _same_under_other_id(self, new: Party, ids: set[str]) -> int | None:
        """A party that the other side now calls by another id: it has the address, or it was a placeholder."""
        number = subscriber(new.aor)
        gone = [place for one, place in self.index.items() if one not in ids]
        taken = {place for one, place in self.index.items() if one in ids}
        free = [place for place in dict.fromkeys(gone) if place not in taken]
        for place in free:
            if number and same_number(number, subscriber(self.parties[place].aor)):
                return place
        placeholders = [place for place in free if not subscriber(self.parties[place].aor)]
        return placeholders[0] if len(placeholders) == 1 else None

    # -- from headers --------------------------------------------------------------------------------------------

    def _from_headers(self, hints: Hints) -> None:
        """No metadata: near and far end of a forked call, or else From and To where they can be parties."""
        if self._begun and not self.from_headers:
            return
        found: list[tuple[str, Party]] = []
        if hints.fork is not None:
            for key, address in ((_NEAR, hints.fork.near_address), (_FAR, hints.fork.far_address)):
                found.append((key, Party(aor=address[:MAX_AOR], participant_id="")))
        else:
            for key, number, name in (
                (_CALLING, hints.calling, hints.calling_name),
                (_CALLED, hints.called, ""),
            ):
                if number:
                    found.append((key, Party(aor=number[:MAX_AOR], name=name[:MAX_NAME])))
        roles = {key: self.parties[place].role for key, place in self.index.items()}
        self.parties = [
            party.model_copy(update={"role": roles.get(key, Role.UNKNOWN)}) for key, party in found
        ]
        self.index = {key: place for place, (key, _) in enumerate(found)}
        self.here = set(self.index.values())
        self.from_headers = bool(found)

    # -- sides ---------------------------------------------------------------------------------------------------

    def _judge(
        self, metadata: Metadata | None, hints: Hints, call: CallData, ours: Callable[[str], bool]
    ) -> None:
        order = sorted(self.here)
        said: dict[int, bool | None] = {}
        for one in metadata.participants if metadata is not None else ():
            place = self.index.get(one.id)
            if place is not None and one.calling is not None:
                said[place] = one.calling
        if self.from_headers and hints.fork is None and len(order) == 2:
            said = {self.index[_CALLING]: True, self.index[_CALLED]: False}
        near: dict[int, bool] = {}
        if hints.fork is not None:
            for place in order:
                number = subscriber(self.parties[place].aor)
                if place == self.index.get(_NEAR) or same_number(number, subscriber(hints.fork.near_address)):
                    near[place] = True
                elif place == self.index.get(_FAR) or same_number(number, subscriber(hints.fork.far_address)):
                    near[place] = False
        candidates = [
            Candidate(subscriber(self.parties[place].aor), said.get(place), near.get(place))
            for place in order
        ]
        verdict = judge(candidates, call, ours)
        for place, role in zip(order, verdict.roles, strict=True):
            if role is not Role.UNKNOWN:
                self.parties[place] = self.parties[place].model_copy(update={"role": role})
        if self.direction is Direction.UNKNOWN:
            self.direction = verdict.direction

    def _inherit(self, old: int, new: int) -> None:
        """Who takes over a voice takes over its side, where nothing else says it."""
        if self.parties[new].role is Role.UNKNOWN and 0 <= old < len(self.parties):
            self.parties[new] = self.parties[new].model_copy(update={"role": self.parties[old].role})
