"""Media lines and tracks: which line of an offer carries which track, and what changes with a new offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance.media.sip.offer_answer import LinePlan, Refusal
from appliance.media.siprec.numbers import clean
from appliance.media.siprec.state import TrackState
from appliance.model import Mark, MarkKind, PayloadFormat

MAX_TRACKS = 64  # as many as capture takes in one session
MAX_FORMATS = 32
MAX_LABEL = 256
EXHAUSTED = "tracks-exhausted"
SRTP_REFUSED = "srtp-refused"
LINE_REFUSED = "line-refused"

_REFUSED = {Refusal.SRTP: SRTP_REFUSED, Refusal.KIND: LINE_REFUSED, Refusal.PROFILE: LINE_REFUSED}


def srtp_impossible(plans: Sequence[LinePlan]) -> bool:
    """Nothing of an offer can be taken, and the reason is SRTP that we cannot do: the one cause for a 488."""
    if not plans or any(plan.accepted for plan in plans):
        return False
    return any(
        plan.refusal is Refusal.SRTP
        or (plan.refusal is Refusal.PROFILE and "SAVP" in plan.media.proto.upper())
        for plan in plans
    )


def refusal_flags(plans: Sequence[LinePlan]) -> list[str]:
    """What to say of lines that are answered by port 0."""
    return [flag for plan in plans if plan.refusal is not None and (flag := _REFUSED.get(plan.refusal))]


def label_of(plan: LinePlan, known: frozenset[str]) -> str:
    """The line's label; its mid where that is what the metadata calls a label."""
    label = plan.label or ""
    if not label and plan.media.mid in known:
        label = plan.media.mid or ""
    return clean(label, MAX_LABEL)


def assign(
    tracks: Sequence[TrackState],
    plans: Sequence[LinePlan],
    labels: Sequence[str],
    other_party: Callable[[TrackState, str], bool],
) -> tuple[list[TrackState], list[str]]:
    """The tracks after an offer, and flags. `labels` has one entry for each plan.

    A track follows its label, wherever the line stands now; a line that has no label, or a new one, keeps the track
    of its place, unless the new label is known to be somebody else's (`other_party`): that is a track of its own.
    """
    flags = refusal_flags(plans)
    after = {track.number: track.model_copy(update={"line": -1, "active": False}) for track in tracks}
    chosen: dict[int, int] = {}  # line to track
    wanted = [plan for plan in plans if plan.accepted]
    for plan in wanted:
        label = labels[plan.index]
        same = [
            track
            for track in tracks
            if label and track.label == label and track.number not in chosen.values()
        ]
        same.sort(key=lambda track: (track.line != plan.index, track.line < 0, -track.number))
        if same:
            chosen[plan.index] = same[0].number
    for plan in wanted:
        if plan.index in chosen:
            continue
        label = labels[plan.index]
        here = next(
            (track for track in tracks if track.line == plan.index and track.number not in chosen.values()),
            None,
        )
        if here is not None and not (label and here.label and other_party(here, label)):
            chosen[plan.index] = here.number
        elif len(after) < MAX_TRACKS:
            number = max(after, default=-1) + 1
            after[number] = TrackState(number=number)
            chosen[plan.index] = number
        elif here is not None:
            flags.append(EXHAUSTED)
            chosen[plan.index] = here.number
        else:
            flags.append(EXHAUSTED)  # the line is refused: there is no port to give
    for plan in wanted:
        if plan.index in chosen:
            number = chosen[plan.index]
            after[number] = planned(after[number], plan, plan.index, labels[plan.index])
    return [after[number] for number in sorted(after)], flags


def planned(track: TrackState, plan: LinePlan, line: int, label: str) -> TrackState:
    """The track on a media line, as the line says."""
    formats = {known.number: known for known in track.formats}
    for codec in plan.codecs[:MAX_FORMATS]:
        # What an earlier offer called a number stays known until the number means something else.
        formats[codec.payload_type] = PayloadFormat(
            number=codec.payload_type,
            encoding=clean(codec.encoding.upper(), 64),
            clock_rate=codec.clock_rate,
            channels=codec.channels,
            fmtp=clean(codec.fmtp or "", 256),
        )
    while len(formats) > MAX_FORMATS:
        del formats[next(iter(formats))]
    return track.model_copy(
        update={
            "line": line,
            "label": label or track.label,
            "active": plan.direction.receives,
            "formats": tuple(formats.values()),
            "suite": plan.crypto.suite if plan.crypto is not None else "",
            "key_salt": plan.crypto.key_salt if plan.crypto is not None else b"",
            "mux": plan.rtcp_mux,
        }
    )


def changed(before: Sequence[TrackState], after: Sequence[TrackState]) -> tuple[int, ...]:
    """Tracks that capture has to be told of: new ones, and those of another direction, key or set of formats."""
    old = {track.number: track for track in before}
    return tuple(
        track.number
        for track in after
        if track.number not in old
        or any(
            getattr(track, name) != getattr(old[track.number], name)
            for name in ("active", "suite", "key_salt", "formats", "mux")
        )
    )


def hold_marks(before: Sequence[TrackState], after: Sequence[TrackState], now_ns: int) -> list[Mark]:
    """Held and unheld: one mark for the whole call where it is about every track on a line, else one for each track."""
    was = {track.number: track.active for track in before if track.line >= 0}
    live = [track for track in after if track.line >= 0]
    marks: list[Mark] = []
    for kind, active in ((MarkKind.HELD, False), (MarkKind.UNHELD, True)):
        changed_ones = [
            track for track in live if track.active is active and was.get(track.number, True) is not active
        ]
        if not changed_ones:
            continue
        whole = len(changed_ones) == len(live) and (not was or len(set(was.values())) == 1)
        places = [-1] if whole else [track.number for track in changed_ones]
        marks += [Mark(kind=kind, at_ns=now_ns, track=place) for place in places]
    return marks
