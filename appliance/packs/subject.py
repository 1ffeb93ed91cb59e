"""What a person gets who asked for their recordings (UK GDPR Art. 15): the facts, as JSON by a published schema.

Pure: facts in, bytes out. Names of other people, their numbers, and names of staff are not among the facts: of who read a
recording the person is told the roles.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

FORMAT: Final = "earwitness subject pack v1"
SCHEMA: Final = "subject-pack.schema.json"
GROUNDS: Final = {
    "third-party": (
        "It would tell of another person, who does not agree (Data Protection Act 2018, Schedule 2, paragraph 16)."
    ),
    "legal-privilege": (
        "It is covered by legal professional privilege (Data Protection Act 2018, Schedule 2, paragraph 19)."
    ),
    "serious-harm": (
        "It would be likely to cause serious harm to somebody's health (Data Protection Act 2018, Schedule 3, Part 2)."
    ),
    "crime": (
        "It would prejudice the prevention or detection of crime (Data Protection Act 2018, Schedule 2, paragraph 2)."
    ),
    "negotiations": (
        "It would prejudice negotiations with you (Data Protection Act 2018, Schedule 2, paragraph 23)."
    ),
    "not-about-the-person": "It holds no personal data of yours.",
    "other": "",
}
"""Why something is withheld, as the person reads it."""
EVERYBODY: Final = "everybody"


@dataclass(frozen=True)
class Use:
    """Recordings were made, or read, for this."""

    name: str
    legal_basis: str


@dataclass(frozen=True)
class ReadBy:
    """Somebody read a recording. `time` is RFC 3339."""

    time: str
    roles: tuple[str, ...]
    purpose: str


@dataclass(frozen=True)
class Muted:
    """A stretch that is silent, of a role's voice or EVERYBODY's. `to_ms` None: to the end."""

    whose: str
    from_ms: int
    to_ms: int | None


@dataclass(frozen=True)
class MarkOf:
    """Something that happened in a call: paused, held, an announcement played."""

    kind: str
    at_ms: int
    to_ms: int | None


@dataclass(frozen=True)
class Given:
    """A recording that is given. Times are RFC 3339; `channels` are what left and right hold, in this order."""

    file: str
    sha256: str
    time: str
    duration_ms: int
    direction: str
    line: str
    channels: tuple[str, ...]
    whole: bool
    purposes: tuple[Use, ...]
    told: str  # announced, line, not-announced
    kept_until: str  # empty: not known, or without end
    reads: tuple[ReadBy, ...] = ()
    reads_more: int = 0
    marks: tuple[MarkOf, ...] = ()
    muted: tuple[Muted, ...] = ()
    ground: str = ""
    text: str = ""


@dataclass(frozen=True)
class Withheld:
    """A recording that is not given, and why."""

    time: str
    ground: str
    text: str


@dataclass(frozen=True)
class Facts:
    """All of a pack but the sound."""

    controller: str
    contact: str
    reference: str
    received: str  # a date
    made: str  # RFC 3339
    time_zone: str
    given: tuple[Given, ...]
    withheld: tuple[Withheld, ...]


def reason(ground: str, text: str) -> str:
    """Why, in words: what the law says, and what the officer says."""
    return " ".join(filter(None, (GROUNDS.get(ground, ""), text)))


def index(facts: Facts) -> bytes:
    """index.json: UTF-8, by the schema."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "controller": {"name": facts.controller, "contact": facts.contact},
        "reference": facts.reference,
        "received": facts.received,
        "made": facts.made,
        "time_zone": facts.time_zone,
        "recordings": [_given(one) for one in facts.given],
        "withheld": [
            {"time": one.time, "ground": one.ground, "reason": reason(one.ground, one.text)}
            for one in facts.withheld
        ],
        "complaint": {
            "to": "Information Commissioner's Office",
            "address": "Wycliffe House, Water Lane, Wilmslow, Cheshire SK9 5AF",
            "web": "https://ico.org.uk/make-a-complaint/",
            "telephone": "0303 123 1113",
        },
    }
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()


def _given(one: Given) -> dict[str, Any]:
    return {
        "file": one.file,
        "sha256": one.sha256,
        "time": one.time,
        "duration_ms": one.duration_ms,
        "direction": one.direction,
        "line": one.line,
        "channels": list(one.channels),
        "whole": one.whole,
        "purposes": [{"name": use.name, "legal_basis": use.legal_basis} for use in one.purposes],
        "told": one.told,
        "kept_until": one.kept_until or None,
        "reads": [
            {"time": read.time, "roles": list(read.roles), "purpose": read.purpose} for read in one.reads
        ],
        "reads_more": one.reads_more,
        "marks": [{"kind": mark.kind, "at_ms": mark.at_ms, "to_ms": mark.to_ms} for mark in one.marks],
        "muted": [{"whose": mute.whose, "from_ms": mute.from_ms, "to_ms": mute.to_ms} for mute in one.muted],
        "muted_reason": reason(one.ground, one.text) if one.muted else None,
    }


def schema() -> bytes:
    """The published schema (JSON Schema 2020-12), which a pack carries along."""
    return (resources.files("appliance.packs") / SCHEMA).read_bytes()


def clock(ms: int | None) -> str:
    """As 1:02:03, or 2:03."""
    if ms is None:
        return "the end"
    seconds = ms // 1000
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


def roles_in_words(roles: Sequence[str]) -> str:
    """As records officer, supervisor."""
    return ", ".join(role.replace("-", " ") for role in roles) or "the box"
