"""What RFC 7865 metadata says, with the vendors' additions, in one shape whatever the dialect.

Ids are as the other side wrote them, or made up here (`#…`) where it wrote none. Times are nanoseconds since the Unix
epoch, 0 where they are absent, unreadable, or of a clock that was never set; of an end that is told with such a time, 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Address:
    """One nameID: address of record as written, and a name to show."""

    aor: str = field(default="", repr=False)
    name: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Participant:
    """RFC 7865 section 6.5. `calling`: whether this is who placed the call, where a vendor says so."""

    id: str
    addresses: tuple[Address, ...] = ()
    session_ids: tuple[str, ...] = ()
    sends: tuple[str, ...] = ()
    receives: tuple[str, ...] = ()
    calling: bool | None = None
    joined_ns: int = 0
    left_ns: int = 0

    @property
    def address(self) -> Address:
        """The first address of record, with the first name given anywhere."""
        aor = next((address.aor for address in self.addresses if address.aor), "")
        name = next((address.name for address in self.addresses if address.name), "")
        return Address(aor, name)


@dataclass(frozen=True, slots=True)
class Stream:
    """RFC 7865 section 6.7. `label` is that of the media line (RFC 4574). `mixed`: several voices in one."""

    id: str
    session_id: str = ""
    label: str = ""
    mixed: bool = False
    started_ns: int = 0
    ended_ns: int = 0


@dataclass(frozen=True, slots=True)
class CommunicationSession:
    """RFC 7865 section 6.3: one call as the other side sees it."""

    id: str
    group_id: str = ""
    started_ns: int = 0
    ended_ns: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """RFC 7865 section 6.2: sessions that belong together."""

    id: str


@dataclass(frozen=True, slots=True)
class SessionLink:
    """participantsessionassoc (section 6.6)."""

    participant_id: str
    session_id: str = ""
    joined_ns: int = 0
    left_ns: int = 0


@dataclass(frozen=True, slots=True)
class StreamLink:
    """participantstreamassoc (section 6.8): which streams a participant sends and receives."""

    participant_id: str
    sends: tuple[str, ...] = ()
    receives: tuple[str, ...] = ()
    joined_ns: int = 0
    left_ns: int = 0


@dataclass(frozen=True, slots=True)
class CallData:
    """What vendors add about the call: who called whom, and how other systems name it.

    `identifiers` are `kind:value`, such as `ucid:001900014e3e7d5c`, normalised so that two spellings compare equal.
    `direction` is inbound or outbound as the vendor sees it, "" where nothing is said.
    """

    calling: tuple[str, ...] = field(default=(), repr=False)
    called: tuple[str, ...] = field(default=(), repr=False)
    identifiers: tuple[str, ...] = ()
    direction: str = ""


@dataclass(frozen=True, slots=True)
class Metadata:
    """A metadata document, or the state that several have made.

    `complete` is None where the document does not say whether it is complete or partial.
    """

    complete: bool | None = None
    groups: tuple[Group, ...] = ()
    sessions: tuple[CommunicationSession, ...] = ()
    participants: tuple[Participant, ...] = ()
    streams: tuple[Stream, ...] = ()
    session_links: tuple[SessionLink, ...] = ()
    stream_links: tuple[StreamLink, ...] = ()
    call: CallData = CallData()
    flags: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """It says nothing of any participant, stream or session."""
        return not (self.participants or self.streams or self.sessions or self.stream_links)

    def participant(self, participant_id: str) -> Participant | None:
        """By id."""
        return next((one for one in self.participants if one.id == participant_id), None)
