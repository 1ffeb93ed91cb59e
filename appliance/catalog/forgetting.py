"""What the catalogue knows of a recording, and how it goes when the recording does, by whatever way.

`TAKEN` and `STAYS` together name every table with a recording's id (a test holds them to that): an erasure, and a
recording that the vault does not hold any more, pass through `forget`, and so does what a damage left of none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import sqlalchemy as sa

from appliance.catalog import completeness, reads, reviews, subjectpacks, subjectrequests, tables, terms
from appliance.catalog.completenesstables import call_records
from appliance.catalog.contracttables import reads as read_table
from appliance.catalog.database import erasing
from appliance.catalog.reviewtables import review_considered, review_pending
from appliance.catalog.reviewtables import reviews as review_table
from appliance.catalog.searchtables import notes, recording_tags, sidecars
from appliance.catalog.subjecttables import subject_choices, subject_pack_recordings

Way = Callable[[sa.Connection, str], None]
_r = tables.recordings


def _rows_of(table: sa.Table) -> Way:
    def work(connection: sa.Connection, recording_id: str) -> None:
        connection.execute(sa.delete(table).where(table.c.recording_id == recording_id))

    return work


CONTENT: Final = (tables.parties, tables.tracks, tables.identifiers, tables.flags, tables.marks)
"""What the sealed file says of a recording, beside its own row."""
# In this order: call records are known by the numbers of the parties.
TAKEN: Final[Mapping[sa.Table, Way]] = {
    call_records: completeness.forget_recording,
    **{table: _rows_of(table) for table in (*CONTENT, notes, recording_tags, sidecars)},
    read_table: reads.forget,
    subject_choices: subjectrequests.forget_recording,
    subject_pack_recordings: subjectpacks.forget_recording,
    **dict.fromkeys((review_table, review_pending, review_considered), reviews.forget),
}
"""Tables that personal data of a recording is taken from, and what takes it."""
STAYS: Final[Mapping[str, str]] = {
    "tombstones": "what is told of an erased recording: opaque id, times, reason, certificate",
    "witnessed": "its entry in the audit log: opaque ids and times",
    "grant_recordings": "which opaque ids a grant named",
    "grant_uses": "that an opaque id was read under a grant, and when",
    "restricted": "opaque ids; erasure alone takes it, and why with the last, as what comes back from a copy is restricted",
}
"""Tables in which a recording's id stays, and why: nothing there says anything of people."""
LEFT: Final[Mapping[str, str]] = {
    "reads": "who read an opaque id, when and for what; the reason of an override goes",
    "call_records": "that a call was, when, and what became of it; its numbers go",
    "subject_pack_recordings": "which opaque ids a pack had; the pack goes, and its passphrase",
}
"""Tables of `TAKEN` in which a row with the id stays, and why."""
_STANDS: Final[Mapping[sa.Table, sa.ColumnElement[bool]]] = {
    read_table: read_table.c.override_reason != "",
    call_records: completeness.SAID,
    subject_pack_recordings: subjectpacks.live_clause(),
}
"""Whether a row of these still has what is to go."""


def forget(connection: sa.Connection, recording_id: str) -> None:
    """Take away what is known of a recording; its own row, where there is one, is the caller's to bare or to delete."""
    for way in dict.fromkeys(TAKEN.values()):
        way(connection, recording_id)
    seq = connection.execute(sa.select(_r.c.seq).where(_r.c.id == recording_id)).scalar()
    if seq is not None:
        terms.put(connection, seq, "", set())
    erasing(connection)


def forget_orphans(connection: sa.Connection) -> None:
    """What is of recordings that are not there: saved from a damaged catalogue, and of nothing that the vault holds."""
    for recording_id in sorted(_orphans(connection)):
        forget(connection, recording_id)
    terms.drop_orphans(connection)


def _orphans(connection: sa.Connection) -> set[str]:
    found: set[str] = set()
    for table in TAKEN:
        named = table.c.recording_id
        stands = _STANDS.get(table, sa.true())
        query = sa.select(named).distinct().where(named != "", stands, ~sa.exists().where(_r.c.id == named))
        found.update(connection.execute(query).scalars())
    return found
