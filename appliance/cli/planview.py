"""Plans and runs, for people: what goes first, then what is kept, by the rule that keeps it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from appliance.cli import output, titles
from appliance.cli.titles import Titles, day
from earwitness.v1 import retention_pb2 as pb

LISTED = 50  # things that go, where not all are asked for
_KINDS = {
    pb.PLAN_ITEM_KIND_ERASE_DELETED: "deleted, grace over: erased",
    pb.PLAN_ITEM_KIND_EXPIRE_BUCKET: "bucket expires",
    pb.PLAN_ITEM_KIND_DROP_HOLD_RECORDINGS: "hold released: destroyed",
    pb.PLAN_ITEM_KIND_DROP_SNAPSHOT: "snapshot not needed",
    pb.PLAN_ITEM_KIND_LOCK_BUCKET: "locked and kept",
    pb.PLAN_ITEM_KIND_KEEP_HELD: "held",
    pb.PLAN_ITEM_KIND_KEEP_DELETED: "deleted, can be brought back",
    pb.PLAN_ITEM_KIND_KEEP_BUCKET: "bucket kept",
    pb.PLAN_ITEM_KIND_KEEP_SNAPSHOT: "snapshot kept",
    pb.PLAN_ITEM_KIND_KEEP_UNKNOWN: "unknown: left alone",
}
_BY_TIME = (pb.RETENTION_RULE_RETENTION, pb.RETENTION_RULE_GRACE, pb.RETENTION_RULE_SLICE_OVER)


def kind(value: int) -> str:
    return _KINDS.get(value, "newer than this command line")  # type: ignore[call-overload]


def go_on(item: pb.PlanItem, more: pb.PlanItem) -> None:
    """What another message of the same item names comes to it."""
    item.recordings.extend(more.recordings)
    item.snapshots.extend(more.snapshots)
    for each in more.evacuations:
        if item.evacuations and item.evacuations[-1].legal_hold == each.legal_hold:
            item.evacuations[-1].recordings.extend(each.recordings)
        else:
            item.evacuations.append(each)


def header(found: pb.PlanHeader) -> None:
    """When, what it comes to, and what stands against it."""
    output.facts(
        [
            ("Plan of", output.when(found.make_time)),
            ("Digest", found.digest),
            ("FROZEN", found.freeze.message if found.HasField("freeze") else ""),
            ("BRAKED", found.brake.message if found.HasField("brake") else ""),
        ]
    )


def show(found: pb.PlanHeader, items: Sequence[pb.PlanItem], lines: Titles, *, everything: bool) -> None:
    """The whole plan."""
    header(found)
    doomed = [item for item in items if item.destroys]
    kept = [item for item in items if not item.destroys]
    output.console.print("\n[bold]Would be destroyed[/bold]")
    shown = doomed if everything else doomed[:LISTED]
    output.table(
        ("What", "Where", ">Recordings", ">Size", "Why"),
        (
            (
                kind(item.kind),
                _where(item, lines),
                str(item.recording_count or ""),
                output.size(item.size_bytes) if item.size_bytes else "",
                _why(item, lines),
            )
            for item in shown
        ),
        empty="Nothing.",
    )
    if len(doomed) > len(shown):
        output.console.print(f"(and {len(doomed) - len(shown)} more; --all lists them)")
    output.console.print("\n[bold]Kept[/bold]")
    if everything:
        output.table(
            ("What", "Where", ">Recordings", ">Size", "Why"),
            (
                (
                    kind(item.kind),
                    _where(item, lines),
                    str(item.recording_count or ""),
                    output.size(item.size_bytes) if item.size_bytes else "",
                    titles.sentence(item.reason.sentence, lines),
                )
                for item in kept
            ),
            empty="Nothing.",
        )
    else:
        grouped(kept, lines)
    if found.HasField("brake"):
        output.console.print(
            f"\nLook at it, then: earwitness retention run --confirm {found.digest}", soft_wrap=True
        )


def grouped(items: Iterable[pb.PlanItem], lines: Titles) -> None:
    """What is kept, one row a rule: by whose policy, or by which case."""
    groups: dict[tuple[int, str], list[pb.PlanItem]] = defaultdict(list)
    for item in items:
        groups[item.kind, _rule(item, lines)].append(item)
    output.table(
        ("What", ">Items", ">Recordings", ">Size", "Why", "Until"),
        (
            (
                kind(key[0]),
                str(len(some)),
                str(sum(item.recording_count for item in some) or ""),
                output.size(sum(item.size_bytes for item in some)),
                key[1],
                _until(some),
            )
            for key, some in groups.items()
        ),
        empty="Nothing.",
    )


def _where(item: pb.PlanItem, lines: Titles) -> str:
    place = titles.bucket(item.bucket, lines) if item.bucket else item.unknown_name
    return f"{place} ({', '.join(item.snapshots)})" if item.snapshots and not item.whole else place


def _why(item: pb.PlanItem, lines: Titles) -> str:
    moved = sum(len(each.recordings) for each in item.evacuations)
    why = titles.sentence(item.reason.sentence, lines)
    return f"{why}; first {output.count(moved, 'held recording')} to the hold's own bucket" if moved else why


def _rule(item: pb.PlanItem, lines: Titles) -> str:
    """A reason that items of one rule share; where they have none in common, the sentence."""
    reason = item.reason
    if reason.legal_holds:
        return f"held by {', '.join(name.rsplit('/', 1)[-1] for name in reason.legal_holds)}"
    if reason.rule in _BY_TIME and reason.policy:
        whose = titles.policy(reason.policy, lines)
        if reason.HasField("grace_days"):
            return f"grace of {reason.grace_days} days, as {whose} says"
        return f"kept for {reason.retention}, as {whose} says"
    return titles.sentence(reason.sentence, lines)


def _until(items: Sequence[pb.PlanItem]) -> str:
    times = sorted(
        (item.reason.until_time for item in items if item.reason.HasField("until_time")),
        key=lambda stamp: stamp.seconds,
    )
    if not times:
        return ""
    first, last = day(times[0]), day(times[-1])
    return first if first == last else f"{first} to {last}"


def outcome(run: pb.RetentionRun) -> str:
    return output.enum_word(pb.RunOutcome, run.outcome)


def run(found: pb.RetentionRun) -> None:
    """What a run came to."""
    output.facts(
        [
            ("Outcome", outcome(found)),
            ("", found.message),
            (
                "Destroyed",
                f"{output.count(found.recording_count, 'recording')}, {output.size(found.size_bytes)}"
                if found.recording_count
                else "",
            ),
            ("Buckets", f"{found.bucket_count} destroyed" if found.bucket_count else ""),
            (
                "Erased",
                f"{found.erased_count} of them deleted, their grace over" if found.erased_count else "",
            ),
            ("Moved to the hold", output.some(found.evacuated_count, "recording")),
            ("Confirmed by", found.confirmer),
            *(
                ("Failed", f"{one.item} at {one.step}: {one.message} [{one.reason}]")
                for one in found.failures
            ),
            ("Digest", found.digest),
            ("Run", found.name.rsplit("/", 1)[-1]),
        ]
    )


def runs(some: Sequence[pb.RetentionRun]) -> None:
    """Runs, one a row."""
    output.table(
        ("ID", "Began", "Outcome", ">Recordings", ">Size", ">Buckets", "Confirmed by", "Note"),
        (
            (
                one.name.rsplit("/", 1)[-1],
                output.when(one.start_time),
                outcome(one),
                str(one.recording_count or ""),
                output.size(one.size_bytes) if one.size_bytes else "",
                str(one.bucket_count or ""),
                one.confirmer,
                one.message or "; ".join(failure.message for failure in one.failures),
            )
            for one in some
        ),
        empty="No run yet.",
    )
