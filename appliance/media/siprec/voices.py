"""Who speaks on which media line: line to stream by label, stream to participant by association. Never by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.media.siprec.model import Metadata, Participant, Stream

INFERRED = "party-inferred"  # by elimination, not by what was said
MIXED = "track-mixed"  # several voices in one line
UNKNOWN_PARTY = "party-unknown"
NO_LABEL = "label-missing"
UNKNOWN_LABEL = "label-unknown"  # a line's label is that of no stream
TWICE = "label-twice"


@dataclass(frozen=True, slots=True)
class Voice:
    """One media line's. `participant_id` is "" where it is not known, or where several speak."""

    participant_id: str = ""
    flags: tuple[str, ...] = ()


def present_participants(metadata: Metadata) -> list[Participant]:
    """Those who take part now: not said to have left, or said to have joined again since."""
    present = []
    for one in metadata.participants:
        links = [link for link in metadata.session_links if link.participant_id == one.id]
        gone = _over(one.joined_ns, one.left_ns) or (
            bool(links) and all(_over(link.joined_ns, link.left_ns) for link in links)
        )
        if not gone:
            present.append(one)
    return present


def _over(joined_ns: int, left_ns: int) -> bool:
    return bool(left_ns) and left_ns >= joined_ns


def voices(metadata: Metadata, labels: Sequence[str]) -> list[Voice]:
    """For each media line, by its label ("" where it has none), who speaks there."""
    if metadata.empty:
        return [Voice(flags=(UNKNOWN_PARTY,)) for _ in labels]
    present = present_participants(metadata)
    sends, receives = _associations(metadata, present)
    found: list[Voice] = []
    for place, label in enumerate(labels):
        stream = stream_of(metadata, label)
        voice = _voice(metadata, present, sends, receives, label, stream)
        if label and label in labels[:place]:
            voice = Voice(voice.participant_id, (*voice.flags, TWICE))
        found.append(voice)
    return _eliminate(found, present)


def stream_of(metadata: Metadata, label: str) -> Stream | None:
    """The stream of a label: the last one that has not ended, as labels may be used again; else the last."""
    if not label:
        return None
    streams = [stream for stream in metadata.streams if stream.label == label]
    live = [stream for stream in streams if not _over(stream.started_ns, stream.ended_ns)]
    return next(iter([*reversed(live), *reversed(streams)]), None)


def _associations(
    metadata: Metadata, present: list[Participant]
) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """What each present participant sends and receives, from wherever it is said."""
    sends = {one.id: set(one.sends) for one in present}
    receives = {one.id: set(one.receives) for one in present}
    for link in metadata.stream_links:
        if link.participant_id in sends and not _over(link.joined_ns, link.left_ns):
            sends[link.participant_id] |= set(link.sends)
            receives[link.participant_id] |= set(link.receives)
    return sends, receives


def _voice(
    metadata: Metadata,
    present: list[Participant],
    sends: dict[str, set[str]],
    receives: dict[str, set[str]],
    label: str,
    stream: Stream | None,
) -> Voice:
    if not label:
        return Voice(flags=(NO_LABEL,))
    # An association may name a stream by its id or, for want of one, by its label.
    names = {label, f"#label:{label}"} if stream is None else {stream.id}
    if stream is not None and not any(one.id == label for one in metadata.streams):
        names.add(label)
    senders = [one.id for one in present if sends[one.id] & names]
    if len(senders) > 1 or (stream is not None and stream.mixed and len(senders) != 1):
        return Voice(flags=(MIXED,))
    if senders:
        return Voice(senders[0])
    if stream is None:
        return Voice(flags=(UNKNOWN_LABEL,))
    hearers = [one.id for one in present if receives[one.id] & names]
    others = [one.id for one in present if one.id not in hearers]
    if hearers and len(others) == 1:
        return Voice(others[0], (INFERRED,))  # who hears everybody else's stream but not this one sends it
    return Voice(flags=(UNKNOWN_PARTY,))


def _eliminate(found: list[Voice], present: list[Participant]) -> list[Voice]:
    """One line and one participant are left over in a call of as many lines as participants: they belong together."""
    open_lines = [place for place, voice in enumerate(found) if not voice.participant_id]
    spoken = {voice.participant_id for voice in found}
    silent = [one.id for one in present if one.id not in spoken]
    if (
        len(open_lines) == len(silent) == 1
        and len(found) == len(present) > 1
        and MIXED not in found[open_lines[0]].flags
    ):
        place = open_lines[0]
        found[place] = Voice(silent[0], (*found[place].flags, INFERRED))
    return found
