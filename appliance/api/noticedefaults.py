"""Texts of notices that come with the box, with what a tenant's lines are configured to do filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Final

from appliance.model.purpose import Purpose
from appliance.model.routing import Line, Rights, Tenant
from appliance.model.staff import Audience

LANGUAGE: Final = "en-GB"
MAX_GROUPS: Final = 30  # of lines that are configured alike
MAX_NAMES: Final = 8  # of lines that are named in one sentence
MAX_PURPOSES: Final = 40


@dataclass(frozen=True)
class Default:
    """A notice that comes with the box."""

    default_id: str
    display_name: str
    audience: Audience
    required: bool = True

    def text(self, tenant: Tenant, lines: Sequence[Line], purposes: Sequence[Purpose]) -> str:
        """Its text for a tenant."""
        path = resources.files("appliance.data.notices") / f"{self.default_id}.{LANGUAGE}.txt"
        open_lines = [one for one in lines if not one.closed]
        return (
            Template(path.read_text("utf-8"))
            .substitute(
                lines=recorded(open_lines),
                purposes=stated(purposes),
                pausing=pausing(open_lines),
                contact=f" ({tenant.contact})" if tenant.contact else "",
            )
            .strip()
        )


DEFAULTS: Final = (
    Default("calls-are-recorded", "Calls are recorded", Audience.ALL),
    Default("pausing-and-ending", "How and when to pause or end a recording", Audience.AGENTS),
    Default("use-within-the-law", "The law governs the use of recordings", Audience.ALL),
)


def recorded(lines: Sequence[Line]) -> str:
    """Which lines are recorded, a list."""
    if not lines:
        return "Our records officer can tell you which lines these are."
    if any(one.catch_all for one in lines):
        return "This goes for all lines."
    some = [one.display_name for one in lines[:MAX_GROUPS]]
    more = len(lines) - len(some)
    return "\n".join([*(f"- {name}" for name in some), *([f"- and {more} more"] if more else [])])


def stated(purposes: Sequence[Purpose]) -> str:
    """What recordings may be used for, a list."""
    some = [one.display_name for one in purposes if one.archive_ns is None][:MAX_PURPOSES]
    return "\n".join(f"- {name}" for name in some) or "- as our records officer can tell you"


def pausing(lines: Sequence[Line]) -> str:
    """How to pause and end on each line, as it is configured: an item for lines that are alike."""
    groups: dict[str, list[str]] = {}
    for one in lines:
        groups.setdefault(how(one), []).append(one.display_name)
    if not groups:
        return "- No line is set up yet."
    items = []
    for sentence, names in list(groups.items())[:MAX_GROUPS]:
        where = "On every line" if len(groups) == 1 else f"On {_list(names)}"
        items.append(f"- {where}: {sentence}")
    if len(groups) > MAX_GROUPS:
        items.append("- On other lines: ask our records officer.")
    return "\n".join(items)


def how(line: Line) -> str:
    """What an agent can do on a line, and by which keys."""
    some = [one.may for one in line.agents]
    best = max([line.rights, *some], key=list(Rights).index)
    if best is Rights.NONE:
        return "recordings are not paused or ended by agents."
    said = []
    if line.rights is Rights.NONE:
        said.append("agents who were given the right can do this")
    elif any(one is not line.rights for one in some):
        said.append("some agents have other rights than most")
    keys = line.keys
    pressed = []
    if line.inline is not None:  # keys are heard only where the box stands in the path of the call
        pressed += [f"press {keys.pause} to pause"] if keys.pause else []
        pressed += [f"{keys.resume} to resume"] if keys.resume else []
        pressed += [f"{keys.end} to end it for good"] if keys.end and best is Rights.END else []
    if pressed:
        said.append(_list(pressed))
    else:
        what = "pause, resume and end" if best is Rights.END else "pause and resume"
        said.append(f"{what} in the console, not by the telephone's keys")
    if best is not Rights.END:
        said.append("recordings cannot be ended by agents")
    if line.auto_resume_s:
        said.append(f"a pause ends by itself after {_seconds(line.auto_resume_s, 'a ')}")
    if line.reminder_s and line.inline is not None:
        said.append(f"while it is paused a tone reminds you every {_seconds(line.reminder_s)}")
    return "; ".join(said) + "."


def _seconds(count: int, one: str = "") -> str:
    if count % 60 == 0:
        return f"{one}minute" if count == 60 else f"{count // 60} minutes"
    return f"{count} seconds"


def _list(some: Sequence[str]) -> str:
    names = list(some[:MAX_NAMES])
    if len(some) > len(names):
        names.append(f"{len(some) - len(names)} more")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
