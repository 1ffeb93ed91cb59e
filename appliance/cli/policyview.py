"""Policies and what a change of them does, for people."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.cli import output, titles
from appliance.cli.titles import Titles, day
from earwitness.v1 import retention_pb2, tenants_pb2

LISTED = 20  # buckets, where not all are asked for
_FIELDS = {"retention": "Retention", "grace_days": "Grace", "grain": "Bucket", "cooling_days": "Cooling-off"}


def grain(value: tenants_pb2.Grain.ValueType) -> str:
    return output.enum_word(tenants_pb2.Grain, value)


def table(policies: list[retention_pb2.RetentionPolicy], lines: Titles) -> None:
    """What holds, one policy a row; what it says itself is marked."""

    def mark(value: str, is_own: bool) -> str:
        return f"{value} *" if is_own else value

    output.table(
        ("Policy", "Keeps", "Undelete for", "Bucket", "Waits"),
        (
            (
                titles.policy(one.name, lines),
                mark(one.effective.retention, bool(one.retention)),
                mark(f"{one.effective.grace_days} days", one.HasField("grace_days")),
                mark(grain(one.effective.grain), bool(one.grain)),
                "; ".join(
                    f"{_FIELDS[change.field].lower()} {change.new_value or 'inherited'}"
                    f" from {day(change.effective_time)}"
                    for change in one.pending_changes
                ),
            )
            for one in policies
        ),
        empty="No policy.",
    )
    output.console.print("(* its own; what is not inherits. Lines that say nothing follow their tenant.)")


def facts(one: retention_pb2.RetentionPolicy, lines: Titles) -> None:
    """One policy, with whose word each thing is."""
    holds = one.effective

    def said(value: str, name: str) -> str:
        return f"{value}, as {titles.policy(name, lines)} says" if name else value

    output.facts(
        [
            ("Policy", one.name),
            ("Keeps", said(holds.retention, holds.retention_policy)),
            ("Undelete for", said(f"{holds.grace_days} days", holds.grace_policy)),
            (
                "Bucket",
                said(grain(holds.grain), holds.grain_policy)
                if holds.grain_policy
                else f"{grain(holds.grain)}, which follows from the retention",
            ),
            ("Cooling-off", f"{one.cooling_days} days" if one.HasField("cooling_days") else ""),
            *(
                (
                    "Waits",
                    f"{_FIELDS[change.field].lower()} from {change.old_value or 'inherited'} to"
                    f" {change.new_value or 'inherited'}, from {output.when(change.effective_time)};"
                    f" {change.actor}, {output.when(change.make_time)}",
                )
                for change in one.pending_changes
            ),
        ]
    )


def impact(found: retention_pb2.PolicyImpact, lines: Titles, *, everything: bool) -> None:
    """The difference first, then what would be due by it, as a list that can be printed."""
    output.table(
        ("What", "Now", "Then", "Takes effect"),
        (
            (
                _FIELDS[part.field],
                part.old_value or "inherited",
                part.new_value or "inherited",
                f"{output.when(part.effective_time)}, after the cooling-off" if part.shortens else "at once",
            )
            for part in found.differences
        ),
        empty="Nothing changes.",
    )
    before, after = found.before, found.after
    if before.retention != after.retention:
        output.console.print(f"Recordings are kept for {after.retention} instead of {before.retention}.")
    if before.grace_days != after.grace_days:
        output.console.print(
            f"Deleted ones can be brought back for {after.grace_days} days instead of {before.grace_days}."
        )
    if not any(part.shortens for part in found.differences):
        return
    output.console.print(
        f"Due by it: {output.count(found.recording_count, 'recording')}, {output.size(found.size_bytes)}"
        + (f", {found.deleted_count} of them deleted" if found.deleted_count else "")
        + (f"; {found.held_count} more under legal hold, kept" if found.held_count else "")
        + "."
    )
    shown = found.expirations if everything else found.expirations[:LISTED]
    if shown:
        upcoming(shown, lines)
    if found.bucket_count > len(shown):
        more = "; --all lists them" if not everything else ""
        output.console.print(f"(and {found.bucket_count - len(shown)} more buckets{more})")


def upcoming(some: Iterable[retention_pb2.UpcomingExpiration], lines: Titles) -> None:
    """Buckets with when they are due."""
    output.table(
        ("Bucket", "Due", ">Recordings", ">Size", ">Held"),
        (
            (
                titles.bucket(one.bucket, lines),
                day(one.expire_time),
                str(one.recording_count),
                output.size(one.size_bytes),
                str(one.held_count or ""),
            )
            for one in some
        ),
        empty="Nothing.",
    )
