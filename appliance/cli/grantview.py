"""Support grants as people see them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from appliance.cli import output
from appliance.cli.connection import bare
from earwitness.v1 import grants_pb2 as pb

_NOT_OVER: Final = (pb.GRANT_STATE_REQUESTED, pb.GRANT_STATE_APPROVED, pb.GRANT_STATE_ACTIVE)


def state(grant: pb.SupportGrant) -> str:
    """Active; used up; not begun."""
    if grant.state == pb.GRANT_STATE_APPROVED:
        return "not begun"
    return output.enum_word(pb.GrantState, grant.state)


def left(stamp: Timestamp, now: datetime | None = None) -> str:
    """How long until then: 2 d 3 h, 5 h 12 min, 9 min 30 s; nothing where it is over, or not said."""
    if not stamp.seconds:
        return ""
    span = datetime.fromtimestamp(stamp.seconds, UTC) - (now or datetime.now(UTC))
    if span <= timedelta():
        return ""
    seconds = int(span.total_seconds())
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"


def countdown(grant: pb.SupportGrant) -> str:
    """What is left of its time: until it begins, then until it ends."""
    if grant.state == pb.GRANT_STATE_APPROVED:
        return f"begins in {left(grant.begin_time)}"
    return left(grant.end_time) if grant.state in _NOT_OVER else ""


def reads(grant: pb.SupportGrant) -> str:
    """2 of 3 left."""
    if grant.state in (pb.GRANT_STATE_APPROVED, pb.GRANT_STATE_ACTIVE):
        return f"{grant.remaining_reads} of {grant.max_reads} left"
    if grant.state == pb.GRANT_STATE_REQUESTED:
        return f"{grant.max_reads} asked for"
    return f"{grant.read_count} of {grant.max_reads} used"


def table(some: Iterable[pb.SupportGrant]) -> None:
    """One a line."""
    output.table(
        ("ID", "State", "Who", "Reads", "Time left"),
        (
            (
                bare(one.name),
                state(one),
                ", ".join(one.identities),
                reads(one),
                countdown(one),
            )
            for one in some
        ),
        empty="No support grant: the provider's staff can read no recording.",
    )


def show(grant: pb.SupportGrant, json: bool, *, recordings: bool = False) -> None:
    """One in full."""
    if json:
        output.print_json(output.as_dict(grant))
        return
    output.facts(
        [
            ("Grant", grant.name),
            ("State", state(grant)),
            ("Time left", countdown(grant)),
            ("Reads", reads(grant)),
            ("Who may read", ", ".join(grant.identities)),
            ("Purpose", grant.purpose),
            ("Necessity", grant.necessity),
            ("Which", _which(grant)),
            ("Names, numbers", "shown" if grant.include_parties else "left out"),
            ("From", output.when(grant.begin_time) or "when it is approved"),
            ("Until", output.when(grant.end_time)),
            ("Asked", _by(grant.request_time, grant.requester)),
            ("Approved", _by(grant.approve_time, grant.approver)),
            ("Ended", _by(grant.ended_time, grant.ender)),
            ("Why", grant.end_reason),
            ("Last use", output.when(grant.last_use_time)),
            ("Sealed keys for", "the holder of a key pair" if grant.public_key else ""),
        ]
    )
    if recordings:
        for name in grant.recordings:
            output.console.print(bare(name), markup=False)


def coverage(found: pb.GrantCoverage) -> None:
    """What will be readable: how many, of which lines, from when to when."""
    missing = output.some(found.missing_count, "recording")
    output.facts(
        [
            ("Readable", output.count(found.recording_count, "recording")),
            (
                "Of lines",
                ", ".join(f"{bare(one.line) or 'unknown'} ({one.recording_count})" for one in found.lines),
            ),
            (
                "Recorded",
                f"{output.when(found.first_start_time)} to {output.when(found.last_start_time)}"
                if found.recording_count
                else "",
            ),
            ("Not there", missing and f"{missing} that were named"),
        ]
    )


def uses(some: Iterable[pb.GrantUse]) -> None:
    """Each read, one a line: the recording's id, when, who, how, and whether something was given out."""
    output.table(
        ("ID", "When", "Who", "How", "Out"),
        (
            (
                bare(one.recording),
                output.when(one.time),
                one.identity,
                f"{output.enum_word(pb.GrantUseKind, one.kind)} {one.format}".strip(),
                "yes" if one.served else "no",
            )
            for one in some
        ),
        empty="Nothing was read under it.",
    )


def _which(grant: pb.SupportGrant) -> str:
    if grant.recording_count:
        return output.count(grant.recording_count, "recording")
    said = grant.scope
    if said.recordings:
        return output.count(len(said.recordings), "recording") + " by name"
    parts = [
        f"line {bare(said.line)}" if said.line else "all lines",
        f"from {output.when(said.from_time)}" if said.HasField("from_time") else "",
        f"to {output.when(said.to_time)}" if said.HasField("to_time") else "",
        said.filter,
    ]
    return ", ".join(filter(None, parts))


def _by(time: Timestamp, who: str) -> str:
    return f"{output.when(time)} {f'by {who}' if who else ''}".strip() if time.seconds else ""
