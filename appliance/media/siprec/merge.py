"""Later metadata on top of earlier (RFC 7865 section 6.1.1: complete and partial updates), for those who keep the rule and
for those who do not: a "complete" document that leaves out what has not changed takes nothing away but participants.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, TypeVar

from appliance.media.siprec.extensions import join_call_data
from appliance.media.siprec.metadata import MAX_LINKS, MAX_PARTICIPANTS, MAX_SESSIONS, MAX_STREAMS, MISSING
from appliance.media.siprec.model import Metadata, Participant, SessionLink, Stream, StreamLink
from appliance.media.siprec.tree import MALFORMED, TRUNCATED


class _Named(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_Named)


def merge(state: Metadata | None, update: Metadata) -> Metadata:
    """The state after `update`. One that could not be read, or says nothing, changes nothing but the flags."""
    if state is None:
        return update
    flags = tuple(dict.fromkeys((*state.flags, *update.flags)))
    if update.empty:
        call = join_call_data(update.call, state.call)
        return replace(
            state, call=call, flags=tuple(flag for flag in flags if flag != MISSING or state.empty)
        )
    flags = tuple(flag for flag in flags if flag != MISSING)
    complete = update.complete
    if complete is None:
        complete = bool(update.participants and update.streams)
    if MALFORMED in update.flags or TRUNCATED in update.flags:
        complete = False  # what is not in half a document may have been in the other half
    merged = _replace(state, update) if complete else _overlay(state, update)
    return replace(merged, complete=True, call=join_call_data(update.call, state.call), flags=flags)


def _replace(state: Metadata, update: Metadata) -> Metadata:
    """A complete document. What it is silent about altogether stays as it was."""
    participants = tuple(_updated(state.participant(one.id), one) for one in update.participants)
    present = {one.id for one in participants}
    says_who_sends = bool(update.stream_links) or any(
        one.sends or one.receives for one in update.participants
    )
    if not update.participants:
        participants = state.participants
    elif not says_who_sends:
        sends = {one.id: one for one in state.participants}
        participants = tuple(
            replace(one, sends=sends[one.id].sends, receives=sends[one.id].receives)
            if one.id in sends
            else one
            for one in participants
        )
    return replace(
        update,
        groups=update.groups or state.groups,
        sessions=update.sessions or state.sessions,
        participants=participants,
        streams=update.streams or state.streams,
        session_links=update.session_links or _of(state.session_links, present),
        stream_links=update.stream_links if says_who_sends else state.stream_links,
    )


def _of(links: tuple[SessionLink, ...], present: set[str]) -> tuple[SessionLink, ...]:
    return tuple(link for link in links if not present or link.participant_id in present)


def _overlay(state: Metadata, update: Metadata) -> Metadata:
    """A partial document: what it names is new or changed, the rest stays."""
    participants = {one.id: one for one in state.participants}
    for participant in update.participants:
        participants[participant.id] = _updated(participants.get(participant.id), participant)
    streams = {one.id: one for one in state.streams}
    for stream in update.streams:
        if stream.label:
            # A label stands for one stream at a time: the newest that claims it.
            streams = {
                key: one for key, one in streams.items() if one.label != stream.label or key == stream.id
            }
        streams[stream.id] = _updated_stream(streams.get(stream.id), stream)
    session_links = {(link.participant_id, link.session_id): link for link in state.session_links}
    for session_link in update.session_links:
        session_links[(session_link.participant_id, session_link.session_id)] = session_link
    stream_links: list[StreamLink] = list(state.stream_links)
    renewed = {link.participant_id for link in update.stream_links}
    if renewed:
        stream_links = [link for link in stream_links if link.participant_id not in renewed]
        stream_links += update.stream_links
    # A stream has one sender unless a document names several at once: whoever is newly said to send it.
    taken = {stream for link in update.stream_links if not link.left_ns for stream in link.sends}
    taken |= {stream for one in update.participants if not one.left_ns for stream in one.sends}
    senders = renewed | {one.id for one in update.participants if one.sends}
    stream_links = [
        link if link.participant_id in senders else replace(link, sends=_without(link.sends, taken))
        for link in stream_links
    ]
    return Metadata(
        groups=_newest(state.groups, update.groups, MAX_SESSIONS),
        sessions=_newest(state.sessions, update.sessions, MAX_SESSIONS),
        participants=tuple(
            one if one.id in senders else replace(one, sends=_without(one.sends, taken))
            for one in participants.values()
        )[-MAX_PARTICIPANTS:],
        streams=tuple(streams.values())[-MAX_STREAMS:],
        session_links=tuple(session_links.values())[-MAX_LINKS:],
        stream_links=tuple(stream_links)[-MAX_LINKS:],
    )


def _without(sends: tuple[str, ...], taken: set[str]) -> tuple[str, ...]:
    return tuple(stream for stream in sends if stream not in taken)


def _newest(old: tuple[T, ...], new: tuple[T, ...], limit: int) -> tuple[T, ...]:
    merged = {one.id: one for one in old}
    merged.update({one.id: one for one in new})
    return tuple(merged.values())[-limit:]


def _updated(old: Participant | None, new: Participant) -> Participant:
    """What the newer one does not say stays; addresses are replaced whole, as a correction is."""
    if old is None:
        return new
    return Participant(
        new.id,
        new.addresses or old.addresses,
        tuple(dict.fromkeys((*old.session_ids, *new.session_ids))),
        new.sends or old.sends,
        new.receives or old.receives,
        old.calling if new.calling is None else new.calling,
        new.joined_ns or old.joined_ns,
        new.left_ns,
    )


def _updated_stream(old: Stream | None, new: Stream) -> Stream:
    if old is None:
        return new
    return replace(
        new,
        session_id=new.session_id or old.session_id,
        label=new.label or old.label,
        started_ns=new.started_ns or old.started_ns,
    )
