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
        "See `earwitness alarms channels show` for what the far end said, and `earwitness alarms test` after"
        " a change."
        " Messages wait for a day; other channels are not held up.",
    ),
    Kind(
        "UnknownCondition",
        Severity.WARNING,
        "A process names a condition that is not known here",
        "See `earwitness box status`. Processes of different releases may be running: restart the box.",
    ),
    Kind(
        "CallNotRecorded",
        Severity.WARNING,
        "A contracted call was not recorded",
        "See `earwitness completeness records DAY --outcome missing` for the call, and the box's alarms and"
        " the switchboard's"
        " log of that minute for the cause. It clears itself when a recording of the call is found.",
    ),
    Kind(
        "ManyCallsNotRecorded",
        Severity.CRITICAL,
        "Many contracted calls of a day were not recorded",
        "See `earwitness completeness report DAY` for the hours in which they are missing: did the"
        " switchboard send calls to"
        " the box at all? It clears itself when their recordings are found.",
    ),
    Kind(
        "CallsRecordedUnwanted",
        Severity.WARNING,
        "Calls were recorded that were not to be",
        "See `earwitness completeness records DAY --outcome unwanted`; a records officer erases them, and"
        " looks at the line's"
        " do-not-record list and directions.",
    ),
    Kind(
        "CallRecordsClockOff",
        Severity.WARNING,
        "All times of a switchboard's call records are off",
        "Set its time zone: `earwitness completeness sources update SOURCE --time-zone`; or its clock. Until"
        " then records are"
        " compared with the shift that fits.",
    ),
    Kind(
        "CallRecordsAbsent",
        Severity.WARNING,
        "No call records came of a day on which calls were recorded",
        "See whether the switchboard still writes its file, and who brings it to the box: `earwitness"
        " completeness imports`."
        " Without records nobody can say what is missing. It clears itself when they are imported.",
    ),
    Kind(
        "CallRecordsRefused",
        Severity.WARNING,
        "A file of call records in the watched folder was refused",
        "The file lies in refused/ with a report beside it that says why. Set the column map with"
        " `earwitness completeness"
        " sources try` and `sources update`, and lay the file into the folder again. The next file that is"
        " taken clears it.",
    ),
    Kind(
        "ClosingDue",
        Severity.NOTICE,
        "A tenant or a line closes soon",
        "`earwitness tenants closing` says when, what is there, and whether an exit pack was made:"
        " `earwitness exit-pack create`"
        " makes one. Until the date the notice can be taken back. What is recorded stays readable afterwards, too.",
    ),
    Kind(
        "SubjectRequestDue",
        Severity.NOTICE,
        "A request for access is to be answered soon",
        "See `earwitness subjects show`: answer it, or extend or pause the clock for a reason that the person is told.",
    ),
    Kind(
        "SubjectRequestOverdue",
        Severity.WARNING,
        "The time to answer a request for access is over",
        "See `earwitness subjects show`: answer it now, say to the person why it is late, and record it as a breach of"
        " UK GDPR Art. 12(3) with the data protection officer.",
    ),
    Kind(
        "GrantRequested",
        Severity.NOTICE,
        "The provider's support asks to be let in",
        "A records officer approves or denies it: `earwitness grants list`, then `earwitness grants approve` or"
        " `earwitness grants deny`. A request that nobody answers is forgotten.",
    ),
)

_NOTICES: Final = (
    Kind(
        "NoticesOutstanding",
        Severity.NOTICE,
        "Staff has not acknowledged what it was told",
        "See who with `earwitness notices outstanding`; give them a link with `earwitness notices link`, or note a"
        " signature on paper. It clears when everybody has.",
    ),
)

ALL: Final = (*CONDITIONS, *_RAISED, *_NOTICES)
KINDS: Final[Mapping[str, Kind]] = MappingProxyType({kind.name: kind for kind in ALL})


def kind_of(name: str) -> Kind:
    """The kind of that name; a kind without a row is a mistake in the program."""
    if name not in KINDS:
        raise AssertionError(f"the kind of alarm {name} has no row in appliance/alarms")
    return KINDS[name]
