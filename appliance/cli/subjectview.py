"""What the commands on requests for access share: how things are read, named and shown."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import typer
from google.protobuf.duration_pb2 import Duration

from appliance.cli import output
from appliance.cli.connection import bare, resource
from appliance.cli.exits import Exit, Failure
from earwitness.v1 import subjects_pb2 as pb

RequestArgument = Annotated[str, typer.Argument(metavar="REQUEST", help="Name or id of the request.")]
_SPAN: Final = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{2}(?:\.\d{1,3})?)")


def value(enum: Any, prefix: str, text: str, option: str) -> Any:
    """An enumeration's value, as people write it; Failure OPTION_INVALID."""
    name = prefix + text.upper().replace("-", "_")
    names = list(enum.keys())
    if name not in names[1:]:
        known = [one.removeprefix(prefix).lower().replace("_", "-") for one in enum.keys()[1:]]
        raise Failure(Exit.USAGE, f"{option}: {text!r} is none of {', '.join(known)}", "OPTION_INVALID")
    return enum.Value(name)


def offset(text: str, option: str) -> Duration:
    """A place in a recording such as 1:05 or 1:02:03.5; Failure OPTION_INVALID."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or float(found[3]) >= 60:
        raise Failure(Exit.USAGE, f"{option}: {text!r} is no place such as 1:05", "OPTION_INVALID")
    ms = round((int(found[1] or 0) * 3600 + int(found[2]) * 60 + float(found[3])) * 1000)
    return Duration(seconds=ms // 1000, nanos=ms % 1000 * 10**6)


def named(text: str) -> str:
    """The full name of a request."""
    return resource("subjectRequests", text)


def left(one: pb.SubjectRequest) -> str:
    """How much time there is."""
    if one.HasField("close_time"):
        return ""
    if not one.due_date:
        return f"awaits {output.enum_word(pb.SubjectClockPause, one.pause)}"
    return (
        f"{output.count(-one.days_left, 'day')} over"
        if one.days_left < 0
        else output.count(one.days_left, "day")
    )


def chosen(one: pb.SubjectCandidate) -> str:
    """What was decided of a recording."""
    choice = one.choice
    word = "" if not choice.recording else "muted" if choice.mutes else "given" if choice.give else "withheld"
    return f"{word} (restricted)".strip() if one.restricted else word


def show_request(one: pb.SubjectRequest, json: bool) -> None:
    """A request, for people or as JSON."""
    if json:
        output.print_json(output.as_dict(one))
        return
    output.facts(
        [
            ("Request", bare(one.name) or "not made"),
            ("Reference", one.reference),
            ("State", f"{output.enum_word(pb.SubjectRequestState, one.state)} {one.close_reason}".rstrip()),
            ("Received", one.receive_date),
            ("Due", f"{one.due_date} {left(one)}".strip()),
            ("Extended", one.extension_reason or "no"),
            ("Identified", one.identification or "not yet"),
            ("Numbers", ", ".join(each.number for each in one.numbers)),
            ("Handler", one.handler),
            *((output.when(act.time), f"{act.act} {act.reason}".strip()) for act in one.acts),
        ]
    )
