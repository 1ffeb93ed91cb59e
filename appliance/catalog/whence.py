"""Whence each table of the catalogue comes back when the catalogue is lost. A table that is in no row here fails a test."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from appliance.catalog import (
    alarmtables,
    closingtables,
    completenesstables,
    contracttables,
    documenttables,
    granttables,
    noticetables,
    operations,
    reviewtables,
    searchtables,
    subjecttables,
    tables,
    witnessed,
)


class Whence(enum.Enum):
    """Where else it is."""

    VAULT = "the vault"  # made anew from the sealed files and the vault's journal
    OWN = "a file of its own"
    COPY = "the general copy"
    NOWHERE = "may be lost"


WHENCE: Final[Mapping[sa.Table, tuple[Whence, str]]] = {
    tables.recordings: (Whence.VAULT, "holdings and sealed files"),
    tables.parties: (Whence.VAULT, "sealed files"),
    tables.tracks: (Whence.VAULT, "sealed files"),
    tables.identifiers: (Whence.VAULT, "sealed files"),
    tables.flags: (Whence.VAULT, "sealed files"),
    tables.marks: (Whence.VAULT, "sealed files"),
    tables.tombstones: (Whence.VAULT, "certificates of erasure"),
    searchtables.search_tenants: (Whence.VAULT, "made with the index"),
    searchtables.terms: (Whence.VAULT, "made from what is found"),
    searchtables.number_parts: (Whence.VAULT, "made from what is found"),
    searchtables.notes: (Whence.VAULT, "sidecars; what is in none is salvaged"),
    searchtables.recording_tags: (Whence.VAULT, "sidecars; what is in none is salvaged"),
    searchtables.sidecars: (Whence.VAULT, "holdings"),
    witnessed.table: (Whence.VAULT, "written into the audit log anew"),
    tables.tenants: (Whence.OWN, "state/routing.json"),
    tables.lines: (Whence.OWN, "state/routing.json"),
    contracttables.purposes: (Whence.OWN, "state/routing.json"),
    closingtables.closings: (Whence.OWN, "state/routing.json"),
    tables.prompts: (Whence.OWN, "prompts/"),
    tables.identities: (Whence.OWN, "control/identities.jsonl"),
    tables.certificates: (Whence.OWN, "control/identities.jsonl"),
    tables.subjects: (Whence.OWN, "control/identities.jsonl"),
    tables.passphrases: (Whence.OWN, "control/identities.jsonl"),
    tables.recovery_codes: (Whence.OWN, "control/identities.jsonl"),
    subjecttables.restrictions: (Whence.OWN, "control/restrictions.sealed"),
    subjecttables.restricted: (Whence.OWN, "control/restrictions.sealed"),
    tables.line_policies: (Whence.COPY, ""),
    tables.values: (Whence.COPY, "of its values those of `VALUES`"),
    contracttables.versions: (Whence.COPY, ""),
    contracttables.reads: (Whence.COPY, ""),
    noticetables.staff: (Whence.COPY, ""),
    noticetables.notices: (Whence.COPY, ""),
    noticetables.notice_versions: (Whence.COPY, ""),
    noticetables.acknowledgements: (Whence.COPY, ""),
    noticetables.notice_links: (Whence.COPY, ""),
    noticetables.notice_mails: (Whence.COPY, ""),
    reviewtables.scorecards: (Whence.COPY, ""),
    reviewtables.scorecard_versions: (Whence.COPY, ""),
    reviewtables.review_rules: (Whence.COPY, ""),
    reviewtables.review_counts: (Whence.COPY, ""),
    reviewtables.review_considered: (Whence.COPY, ""),
    reviewtables.reviews: (Whence.COPY, ""),
    reviewtables.review_settings: (Whence.COPY, ""),
    completenesstables.record_sources: (Whence.COPY, ""),
    completenesstables.record_imports: (Whence.COPY, ""),
    completenesstables.call_records: (Whence.COPY, ""),
    completenesstables.completeness_days: (Whence.COPY, ""),
    alarmtables.alarms: (Whence.COPY, ""),
    alarmtables.alarm_channels: (Whence.COPY, ""),
    alarmtables.alarm_messages: (Whence.COPY, ""),
    documenttables.documents: (Whence.COPY, ""),
    documenttables.served: (Whence.COPY, ""),
    documenttables.planned_work: (Whence.COPY, ""),
    subjecttables.subject_requests: (Whence.COPY, ""),
    subjecttables.subject_choices: (Whence.COPY, ""),
    subjecttables.subject_packs: (Whence.COPY, ""),
    subjecttables.subject_pack_recordings: (Whence.COPY, ""),
    closingtables.exit_packs: (Whence.COPY, ""),
    operations.table: (Whence.COPY, ""),
    granttables.grants: (Whence.COPY, ""),
    granttables.grant_recordings: (Whence.COPY, ""),
    granttables.grant_uses: (Whence.COPY, ""),
    tables.events: (Whence.NOWHERE, "watches begin anew"),
    tables.sessions: (Whence.NOWHERE, "people sign in again"),
    tables.sources: (Whence.NOWHERE, "a network that somebody comes from is called new once more"),
    tables.live_calls: (Whence.NOWHERE, "signaling tells them"),
    tables.conditions: (Whence.NOWHERE, "processes tell them"),
    tables.requests: (
        Whence.NOWHERE,
        "they count for a day; a change asked for twice around the loss is made twice",
    ),
    reviewtables.review_pending: (Whence.NOWHERE, "recordings that are read anew are looked at anew"),
}
"""With where just, or why it may be."""

VALUES: Final = ("call-records-key", "notice-link-key")
"""Lasting values that are nowhere else: without their keys no row of call records is known again, and no mailed link."""


def copied() -> list[sa.Table]:
    """Tables of the general copy; what others refer to comes before them."""
    return [one for one in tables.metadata.sorted_tables if WHENCE[one][0] is Whence.COPY]
