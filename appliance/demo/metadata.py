"""RFC 7865 metadata as a well-behaved recording client writes it."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lxml import etree

NAMESPACE = "urn:ietf:params:xml:ns:recording:1"


def new_id() -> str:
    """A random id as recording clients write them: 16 bytes in base64."""
    return base64.b64encode(uuid.uuid4().bytes).decode()


@dataclass(frozen=True)
class Participant:
    """A party of the recorded call, and the label of the stream that it sends."""

    aor: str
    name: str
    label: str
    participant_id: str = field(default_factory=new_id)
    stream_id: str = field(default_factory=new_id)


def write(session_id: str, participants: Sequence[Participant], *, complete: bool = True) -> bytes:
    """The metadata document (RFC 7865 section 6): one communication session, each party hears every other."""
    root = etree.Element(f"{{{NAMESPACE}}}recording", nsmap={None: NAMESPACE})

    def add(parent: etree._Element, tag: str, text: str | None = None, **attributes: str) -> etree._Element:
        element = etree.SubElement(parent, f"{{{NAMESPACE}}}{tag}", attributes)
        element.text = text
        return element

    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    add(root, "datamode", "complete" if complete else "partial")
    session = add(root, "session", session_id=session_id)
    add(session, "start-time", now)
    for party in participants:
        participant = add(root, "participant", participant_id=party.participant_id)
        name = add(participant, "nameID", aor=party.aor)
        if party.name:
            add(name, "name", party.name)
    for party in participants:
        stream = add(root, "stream", stream_id=party.stream_id, session_id=session_id)
        add(stream, "label", party.label)
    for party in participants:
        association = add(
            root, "participantsessionassoc", participant_id=party.participant_id, session_id=session_id
        )
        add(association, "associate-time", now)
    for party in participants:
        association = add(root, "participantstreamassoc", participant_id=party.participant_id)
        add(association, "send", party.stream_id)
        for other in participants:
            if other is not party:
                add(association, "recv", other.stream_id)
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8"))
