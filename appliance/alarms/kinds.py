"""All kinds of alarms, by name: conditions of processes from `conditions`, what parts of the box raise by themselves here.

docs/alarms.md is written from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from appliance.alarms.conditions import CONDITIONS
from appliance.alarms.kind import Kind
from appliance.alarms.severity import Severity

_RAISED: Final = (
    Kind(
        "AlarmChannelFailing",
        Severity.WARNING,
        "Alarms cannot be delivered through a channel",
        "See `earwitness alarms channels show` for what the far end said, and `earwitness alarms test` after a change."
        " Messages wait for a day; other channels are not held up.",
    ),
    Kind(
        "GrantRequested",
        Severity.NOTICE,
        "The provider's support asks to be let in",
        "A records officer approves or denies it: `earwitness grants list`, then `earwitness grants approve` or"
        " `earwitness grants deny`. A request that nobody answers is forgotten.",
    ),
)

KINDS: Final[Mapping[str, Kind]] = MappingProxyType({kind.name: kind for kind in (*CONDITIONS, *_RAISED)})


def kind_of(name: str) -> Kind:
    """The kind of that name; a kind without a row is a mistake in the program."""
    if name not in KINDS:
        raise AssertionError(f"the kind of alarm {name} has no row in appliance/alarms")
    return KINDS[name]
