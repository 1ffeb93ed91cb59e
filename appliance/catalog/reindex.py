"""The search index made anew: after an update that changes its rules, or when the site's numbering was changed.

In batches, each a transaction of its own: the catalogue is read and written meanwhile, and a restart goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from appliance.catalog import state, tables, terms
from appliance.catalog.building import build
from appliance.catalog.database import Database, numbering_of
from appliance.catalog.records import Description

BATCH: Final = 200  # recordings
_DONE: Final = "terms-done"  # for which rules, and up to which recording
_r = tables.recordings


@dataclass(frozen=True)
class Progress:
    """How far it is."""

    done: int  # number of the last recording
    most: int  # of the newest


def is_due(database: Database) -> bool:
    """Whether the index is not by the present rules."""
    with database.read() as connection:
        return not terms.is_current(connection)


def run(database: Database) -> Iterator[Progress]:
    """Makes it anew, a batch a step; nothing where nothing is due. CatalogueUnavailableError: call it again later."""
    while is_due(database):
        with database.write() as connection:
            yield step(connection)


def step(connection: sa.Connection) -> Progress:
    """The next batch; the last one finds nothing more, and says that the index is by the present rules."""
    rules = terms.rules(connection)
    said = (state.get(connection, _DONE) or "").rpartition(" ")
    after = int(said[2]) if said[0] == rules else 0
    rows = connection.execute(sa.select(_r).where(_r.c.seq > after).order_by(_r.c.seq).limit(BATCH)).all()
    most = int(connection.execute(sa.select(sa.func.max(_r.c.seq))).scalar() or 0)
    if not rows:
        terms.note_current(connection)
        return Progress(most, most)
    for row, recording in zip(rows, build(connection, rows, full=True), strict=True):
        content = Description(
            start_ns=recording.start_ns,
            end_ns=recording.end_ns,
            parties=recording.parties,
            marks=recording.marks,
            identifiers=recording.identifiers,
            flags=recording.flags,
        )
        found = terms.of_content(content, numbering_of(connection))
        additions = terms.of_additions(connection, recording.recording_id)
        terms.put(connection, row.seq, row.tenant_id, found | additions)
    state.put(connection, _DONE, f"{rules} {rows[-1].seq}")
    return Progress(rows[-1].seq, most)
