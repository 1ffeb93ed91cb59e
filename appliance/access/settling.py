"""At each start: catalogue, copy and anchor are held against each other, and revocations never get lost in between.

| catalogue | copy | what is done |
| --- | --- | --- |
| new, empty | has identities | they are restored |
| older than the copy | | what changed since is put into it again; an alarm |
| newer than the copy | | the copy is written anew; a warning |
| older than the anchor, as the copy is | | an alarm: nobody can say here what was revoked since |
| any | has revocations | they hold |
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import sqlalchemy as sa

from appliance.access import records
from appliance.access.journal import Journal
from appliance.catalog import state


class Finding(enum.Enum):
    """What was not as it was left."""

    RESTORED = "restored"  # the catalogue was new; everybody came from the copy
    CATALOGUE_OLDER = "catalogue-older"
    COPY_OLDER = "copy-older"
    COPY_ALTERED = "copy-altered"
    ROLLED_BACK = "rolled-back"
    REVOKED_AGAIN = "revoked-again"


@dataclass(frozen=True)
class Settled:
    """What was found; `count` of identities that were restored or changed."""

    findings: frozenset[Finding]
    count: int


def settle(connection: sa.Connection, journal: Journal, now_ns: int) -> Settled:
    """Bring the catalogue up to the copy, in one transaction; `rewrite` the copy after it is committed."""
    content = journal.read()
    own = records.serial(connection)
    anchor = journal.anchored()
    findings, count = set(), 0
    if not content.whole:
        findings.add(Finding.COPY_ALTERED)
    newer = {name: record for name, (serial, record) in content.records.items() if serial > own}
    if newer:
        fresh = own == 0 and not records.names(connection)
        findings.add(Finding.RESTORED if fresh else Finding.CATALOGUE_OLDER)
        for name, record in newer.items():
            records.restore(connection, name, record)
        count = len(newer)
        records.reseal(connection, journal.sealing, again=True)
    elif own > content.serial and (content.lines or anchor):
        findings.add(Finding.COPY_OLDER)
    records.reseal(connection, journal.sealing, again=False)
    if records.revoke(connection, content.revoked, now_ns):
        findings.add(Finding.REVOKED_AGAIN)
    newest = max(own, content.serial)
    if anchor < 0 or anchor > newest:
        findings.add(Finding.ROLLED_BACK)
        newest = max(newest, anchor)
    if newest > own:
        state.put_int(connection, records.SERIAL, newest)
    return Settled(frozenset(findings), count)


def everybody(connection: sa.Connection) -> tuple[int, dict[str, records.Record]]:
    """The newest serial and all records: what `rewrite` writes."""
    return records.serial(connection), {
        name: records.read(connection, name) for name in records.names(connection)
    }
