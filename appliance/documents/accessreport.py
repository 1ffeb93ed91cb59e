"""Access report of a span: who read recordings, what for, what was refused (terms 4, 7, 8)."""

from __future__ import annotations

from typing import Final
from zoneinfo import ZoneInfo

from appliance.documents import plots, words
from appliance.documents.blocks import Block, Document, Picture, Section, Table, Text, pairs, table
from appliance.documents.facts import Access, ReadCounts, Span

# This document is kept longer than a recording may be, and a reason may tell of people.
_REASONS: Final = (
    "Each reason was given in words. They are in the report of reads of the month (earwitness purposes report, "
    "GetReadReport) for as long as the recording is not erased."
)


def of(access: Access, span: Span, whose: str, made_ns: int, zone: ZoneInfo) -> Document:
    """The report. It names who read: that is what it is for."""
    total = access.total
    first: tuple[Block, ...] = (
        pairs(
            ("From", words.when(span.from_ns, zone)),
            ("Until", words.when(min(span.until_ns, made_ns), zone)),
            ("Reads", words.number(total.reads)),
            ("Different recordings", words.number(total.recordings)),
            ("For a purpose that was not stated (overridden)", words.number(total.overrides)),
            ("Where nothing is known to have been announced", words.number(total.not_announced)),
            ("Under support grants", words.number(total.granted)),
            ("Refused", words.number(total.refusals)),
        ),
        Text("What was resumed by who began it counts once."),
    )
    sections = [Section("In short", first), _purposes(access)]
    sections.append(
        Section(
            "By role and person",
            (_counts("By role", "Role", access.by_role), _counts("By person", "Identity", access.by_person)),
        )
    )
    sections.append(_unusual(access, zone))
    return Document(f"Access report, {span.label}", whose, made_ns, zone.key, tuple(sections))


def _purposes(access: Access) -> Section:
    rows = [(name or "(none of the tenant's)", one) for name, one in access.by_purpose]
    blocks: list[Block] = []
    if rows:
        drawn = plots.bars([(name, one.reads, one.refusals) for name, one in rows[:20]])
        alt = "; ".join(f"{name}: {one.reads} read, {one.refusals} refused" for name, one in rows[:20]) + "."
        blocks.append(Picture(drawn, "Reads by purpose", alt))
    blocks.append(_counts("By purpose", "Purpose", tuple(rows)))
    return Section("By purpose", tuple(blocks))


def _unusual(access: Access, zone: ZoneInfo) -> Section:
    return Section(
        "Overrides, refusals, grants",
        (
            table(
                "Reads for a purpose that was not stated to the caller",
                "When | By | Purpose | Recording | Reason",
                [
                    (
                        words.when(one.at_ns, zone),
                        one.who,
                        one.purpose,
                        one.recording,
                        "given" if one.told else "erased",
                    )
                    for one in access.overrides
                ],
            ),
            *((Text(_REASONS),) if access.overrides else ()),
            table("Refusals", "Reason | >Times", [(reason, str(count)) for reason, count in access.refusals]),
            table(
                "Support grants used",
                "Grant | Purpose | People | >Uses",
                [(one.id, one.purpose, ", ".join(one.people), str(one.uses)) for one in access.grants],
            ),
        ),
    )


def _counts(caption: str, head: str, rows: tuple[tuple[str, ReadCounts], ...]) -> Table:
    return table(
        caption,
        f"{head} | >Reads | >Overridden | >Not announced | >Under grants | >Refused | >Recordings",
        [
            (
                name,
                *map(
                    words.number,
                    (one.reads, one.overrides, one.not_announced, one.granted, one.refusals, one.recordings),
                ),
            )
            for name, one in rows
        ],
    )
