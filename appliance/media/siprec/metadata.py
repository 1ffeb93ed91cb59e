"""A tolerant reader of recording metadata (RFC 7865, its drafts, and what is really sent).

    metadata = read_metadata(part.content)      # never raises; flags say what was odd
    state = merge(state, metadata)              # appliance.media.siprec.merge: later documents on top of earlier ones

Every namespace and none; ids as `id=`, `session=` or `participant_id=`, `session_id=`, `stream_id=`, or missing;
`send` and `recv` in the participant or in an association; `datamode` or `dataMode`; times of any sort.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from appliance.media.siprec.extensions import calling_party, read_call_data
from appliance.media.siprec.model import (
    Address,
    CommunicationSession,
    Group,
    Metadata,
    Participant,
    SessionLink,
    Stream,
    StreamLink,
)
from appliance.media.siprec.tree import TRUNCATED, Node, read_tree

MAX_PARTICIPANTS = 128
MAX_STREAMS = 128
MAX_SESSIONS = 32
MAX_LINKS = 512
MAX_REFERENCES = 64  # streams one participant sends or receives

MISSING = "metadata-missing"
UNKNOWN = "metadata-unknown"  # XML, but no recording metadata
CLOCK_WRONG = "clock-wrong"
NO_ZONE = "times-without-zone"

_ROOTS = frozenset(
    {"recording", "recording_metadata", "recording-metadata", "recordingmetadata", "rs-metadata"}
)
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,12}))?"
    r"[ ]?([Zz]|[+-][0-9]{2}:?[0-9]{2})?"
)
_EPOCH = re.compile(r"[0-9]{9,13}")
_FIRST_YEAR = 2000  # an appliance whose clock was never set counts from 1970
_MIXED = frozenset({"mixed", "mix", "mono", "combined"})
_ID = {
    "participant": ("participant_id", "participantid", "id", "participant"),
    "stream": ("stream_id", "streamid", "id", "stream"),
    "session": ("session_id", "sessionid", "id"),
    "group": ("group_id", "groupid", "id"),
}
_SESSION = ("session_id", "sessionid", "session")
_PARTICIPANT = ("participant_id", "participantid", "participant", "id")
_JOINED = ("associate-time", "associatetime", "start-time", "starttime")
_LEFT = ("disassociate-time", "disassociatetime", "stop-time", "stoptime", "end-time", "endtime")


def read_metadata(data: bytes) -> Metadata:
    """Reads a document. Raises nothing, whatever the bytes; `flags` says what was odd."""
    tree = read_tree(data)
    if tree.root is None:
        return Metadata(flags=tree.flags or (MISSING,))
    return _Reader(tree.flags).read(tree.root)


class _Reader:
    """Reads one document; collects flags on the way."""

    def __init__(self, flags: tuple[str, ...]) -> None:
        self.flags = dict.fromkeys(flags)
        self.nodes: dict[str, list[tuple[Node, str]]] = {}

    def read(self, root: Node) -> Metadata:
        self._sort(root, "", 0)
        participants = self._participants()
        metadata = Metadata(
            complete=self._mode(root),
            groups=tuple(
                Group(found)
                for node, _ in self._take("group", 0, MAX_SESSIONS)
                if (found := _id_of(node, "group"))
            ),
            sessions=self._sessions(),
            participants=participants,
            streams=self._streams(),
            session_links=self._session_links(),
            stream_links=self._stream_links(),
            call=read_call_data(root),
        )
        if metadata.empty and root.name not in _ROOTS:
            self.flags[UNKNOWN] = None
        elif metadata.empty:
            self.flags.setdefault(MISSING)
        return Metadata(
            **{name: getattr(metadata, name) for name in Metadata.__slots__ if name != "flags"},
            flags=tuple(self.flags),
        )

    def _sort(self, node: Node, session: str, depth: int) -> None:
        """Gathers elements by kind, wherever they stand; those inside of a session belong to it."""
        for child in node.children:
            kind = child.name.replace("_", "").replace("-", "")
            if kind in ("communicationsession", "session"):
                self.nodes.setdefault("session", []).append((child, session))
                self._sort(child, _id_of(child, "session") or session, depth + 1)
                continue
            if kind in ("communicationsessiongroup", "sessiongroup"):
                kind = "group"
            self.nodes.setdefault(kind, []).append((child, session))
            if kind not in ("participant", "stream", "extensiondata", "calldata"):
                self._sort(child, session, depth + 1)
            elif kind == "participant":
                self._sort_extensions(child)

    def _sort_extensions(self, node: Node) -> None:
        for child in node.children:
            if child.name in ("participantstreamassoc", "stream"):
                self.nodes.setdefault(child.name, []).append((child, ""))

    def _take(self, kind: str, start: int, limit: int) -> list[tuple[Node, str]]:
        found = self.nodes.get(kind, [])
        if len(found) > limit:
            self.flags[TRUNCATED] = None
        return found[start:limit]

    def _mode(self, root: Node) -> bool | None:
        text = next((node.text for node, _ in self.nodes.get("datamode", []) if node.text), "")
        word = (text or root.attribute("datamode", "mode")).lower()
        if word in ("complete", "full"):
            return True
        if word in ("partial", "update", "delta"):
            return False
        # The first draft had an element of that name in place of the text.
        return True if "complete" in self.nodes else False if "partial" in self.nodes else None

    def _sessions(self) -> tuple[CommunicationSession, ...]:
        sessions: dict[str, CommunicationSession] = {}
        for node, _ in self._take("session", 0, MAX_SESSIONS):
            session_id = _id_of(node, "session")
            if session_id:
                sessions.setdefault(
                    session_id,
                    CommunicationSession(
                        session_id,
                        node.text_of("group-ref", "groupref", "group_ref")
                        or node.attribute("group", "group-ref", "group_id", "group_ref"),
                        self._time(node, *_JOINED),
                        self._left(node),
                    ),
                )
        return tuple(sessions.values())

    def _participants(self) -> tuple[Participant, ...]:
        said = self._calling_by_parent()
        participants: dict[str, Participant] = {}
        for number, (node, session) in enumerate(self._take("participant", 0, MAX_PARTICIPANTS)):
            # Without an id the place in the document has to do; it holds as long as the next document has the order.
            participant_id = _id_of(node, "participant") or f"#{number}"
            if participant_id.startswith("#") and not node.children and not node.attributes:
                continue  # nobody
            calling = calling_party(node)
            made = Participant(
                participant_id,
                _addresses(node),
                tuple(filter(None, [node.attribute(*_SESSION) or session])),
                self._references(node, "send"),
                self._references(node, "recv", "receive"),
                said.get(participant_id) if calling is None else calling,
                self._time(node, *_JOINED),
                self._left(node),
            )
            if participant_id in participants:
                made = _join_participants(participants[participant_id], made)
            participants[participant_id] = made
        return tuple(participants.values())

    def _calling_by_parent(self) -> dict[str, bool]:
        """Extension data beside its participant, which it names in `parent` (early drafts)."""
        said = {}
        for node, _ in self._take("extensiondata", 0, MAX_LINKS):
            parent = node.attribute("parent", "participant_id", "participant")
            calling = calling_party(node) if parent else None
            if calling is not None:
                said[parent] = calling
        return said

    def _streams(self) -> tuple[Stream, ...]:
        streams: dict[str, Stream] = {}
        for number, (node, session) in enumerate(self._take("stream", 0, MAX_STREAMS)):
            label = node.text_of("label", "stream-label") or node.attribute("label")
            stream_id = _id_of(node, "stream") or (f"#label:{label}" if label else f"#{number}")
            mode = (node.text_of("mode", "content") or node.attribute("mode", "content")).lower()
            streams[stream_id] = Stream(
                stream_id,
                node.attribute(*_SESSION) or session,
                label,
                mode in _MIXED,
                self._time(node, *_JOINED),
                self._left(node),
            )
        return tuple(streams.values())

    def _session_links(self) -> tuple[SessionLink, ...]:
        return tuple(
            SessionLink(
                participant_id,
                node.attribute(*_SESSION),
                self._time(node, *_JOINED),
                self._left(node),
            )
            for node, _ in self._take("participantsessionassoc", 0, MAX_LINKS)
            if (participant_id := node.attribute(*_PARTICIPANT))
        )

    def _stream_links(self) -> tuple[StreamLink, ...]:
        return tuple(
            StreamLink(
                participant_id,
                self._references(node, "send"),
                self._references(node, "recv", "receive"),
                self._time(node, *_JOINED),
                self._left(node),
            )
            for node, _ in self._take("participantstreamassoc", 0, MAX_LINKS)
            if (participant_id := node.attribute(*_PARTICIPANT))
        )

    def _references(self, node: Node, *names: str) -> tuple[str, ...]:
        """Streams named by `send` or `recv`: as text, several in one by white space too, or as an attribute."""
        found: dict[str, None] = {}
        for child in node.all(*names):
            for reference in (child.text or child.attribute(*_ID["stream"], "label")).split():
                if len(found) >= MAX_REFERENCES:
                    self.flags[TRUNCATED] = None
                    break
                found[reference] = None
        return tuple(found)

    def _left(self, node: Node) -> int:
        """When it ended. A time that cannot be believed still says that it has."""
        return max(1, self._time(node, *_LEFT)) if node.text_of(*_LEFT) else 0

    def _time(self, node: Node, *names: str) -> int:
        text = node.text_of(*names)
        if not text:
            return 0
        found, zone = read_time(text)
        if found and not zone:
            self.flags[NO_ZONE] = None
        if found and found < _FIRST_NS:
            self.flags[CLOCK_WRONG] = None
            return 0
        return found


def read_time(text: str) -> tuple[int, bool]:
    """Nanoseconds since the Unix epoch (0: unreadable), and whether a zone was given. Without one UTC is taken."""
    text = text.strip()
    match = _TIME.fullmatch(text)
    if match is None:
        if _EPOCH.fullmatch(text):
            return int(text) * (1_000_000 if len(text) > 11 else 1_000_000_000), True
        return 0, True
    zone = match[8]
    offset = UTC
    try:
        if zone and zone not in "Zz":
            sign = -1 if zone[0] == "-" else 1
            offset = timezone(sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:])))
        year, month, day, hour, minute, second = (int(match[part]) for part in range(1, 7))
        whole = datetime(year, month, day, hour, minute, second, tzinfo=offset)
    except (ValueError, OverflowError):
        return 0, True
    nanoseconds = int((match[7] or "0").ljust(9, "0")[:9])
    try:
        return int(whole.timestamp()) * 1_000_000_000 + nanoseconds, zone is not None
    except (ValueError, OverflowError):
        return 0, True


_FIRST_NS = int(datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000_000


def _id_of(node: Node, kind: str) -> str:
    return node.attribute(*_ID[kind])


def _addresses(node: Node) -> tuple[Address, ...]:
    found: list[Address] = []
    for child in node.all("nameid", "name-id", "name_id")[:8]:
        found.append(Address(child.attribute("aor", "uri") or child.text_of("aor", "uri"), _name(child)))
    if not any(address.aor for address in found):
        # Early drafts had both directly in the participant.
        aor = node.text_of("aor", "uri") or node.attribute("aor", "uri")
        found.insert(0, Address(aor, _name(node) if aor else ""))
    if not any(address.name for address in found) and (name := _name(node)):
        found.append(Address("", name))
    return tuple(address for address in found if address.aor or address.name)


def _name(node: Node) -> str:
    """The first name that is not empty, an English one first: the house's language."""
    names = [child for child in node.all("name", "displayname", "display-name") if child.text]
    english = [child for child in names if child.attribute("lang").lower().startswith("en")]
    return next((child.text for child in (*english, *names)), "") or node.attribute("name")


def _join_participants(first: Participant, second: Participant) -> Participant:
    """The same participant twice in one document: in two sessions, or with two addresses."""
    return Participant(
        first.id,
        tuple(dict.fromkeys((*first.addresses, *second.addresses)))[:8],
        tuple(dict.fromkeys((*first.session_ids, *second.session_ids))),
        tuple(dict.fromkeys((*first.sends, *second.sends))),
        tuple(dict.fromkeys((*first.receives, *second.receives))),
        second.calling if first.calling is None else first.calling,
        first.joined_ns or second.joined_ns,
        second.left_ns,
    )
