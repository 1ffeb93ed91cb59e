"""Record of processing (UK GDPR Art. 30) and data-protection annex (Art. 28(3))."""

from __future__ import annotations

from typing import Final
from zoneinfo import ZoneInfo

from appliance.documents import measures, words
from appliance.documents.blocks import UNKNOWN, Document, Pairs, Section, Text, listing, pairs, table
from appliance.documents.facts import Box, Held, Tenant

CATEGORIES: Final = (
    "Callers and those who are called: patients, their relatives and carers, others.",
    "Staff who talk on the recorded lines.",
)
DATA: Final = (
    "Voice and what is said, which may be data concerning health (UK GDPR Art. 9).",
    "Numbers, display names and addresses of the parties, times, direction, the switchboard's own call id.",
    "Marks on the timeline (pause, hold, transfer, announcement), notes and tags of staff.",
    "Who read a recording, when and what for.",
)
FILL_IN: Final = f"{UNKNOWN} to the box: to be filled in by hand"


def of_tenant(box: Box, tenant: Tenant, made_ns: int, zone: ZoneInfo) -> Document:
    """The controller's part, Art. 30(1)."""
    first = Section(
        "Controller",
        (
            pairs(
                ("Controller", tenant.name),
                ("Contact for records", tenant.contact or UNKNOWN),
                ("Data protection officer", FILL_IN),
                ("Joint controllers", FILL_IN),
                ("Processor", "the provider of the recording service: name and contact " + FILL_IN),
                (
                    "Processing",
                    "recording of telephone calls, and keeping, finding, playing and erasing recordings",
                ),
                ("On this box since", words.when(tenant.create_ns, zone)),
                ("State of the service", tenant.state),
            ),
        ),
    )
    sections = (
        first,
        measures.purposes(tenant),
        Section(
            "People and data",
            (
                Text("Categories of people:"),
                listing(CATEGORIES),
                Text("Categories of data:"),
                listing(DATA),
                _held(tenant.held, zone),
            ),
        ),
        Section(
            "Recipients and transfers",
            (
                listing(
                    (
                        "Those who have a role of the tenant, as counted below.",
                        f"The provider's staff under support grants: {len(tenant.grants)} open now.",
                        f"Copies elsewhere: {', '.join(one.name for one in box.replicas) or 'none'}.",
                        "Transfers to third countries: none is made by the box. Where copies and the receiver of the log "
                        f"stand is {UNKNOWN} to it.",
                    )
                ),
                measures.roles(tenant.roles, "Roles of the tenant", named=False),
            ),
        ),
        measures.lines(tenant.lines),
        _duties(tenant),
        measures.security(box, tenant, zone),
    )
    return Document("Record of processing (UK GDPR Art. 30(1))", tenant.name, made_ns, zone.key, sections)


def of_box(box: Box, made_ns: int, zone: ZoneInfo) -> Document:
    """The processor's part, Art. 30(2)."""
    sections = (
        Section(
            "Processor",
            (
                pairs(
                    ("Processor", FILL_IN),
                    ("Contact, data protection officer", FILL_IN),
                    (
                        "Processing",
                        "recording telephone calls for each controller, and keeping recordings until they end",
                    ),
                ),
                table(
                    "Controllers",
                    "Controller | State | Contact | >Lines | >Recordings",
                    [
                        (name, state, contact or UNKNOWN, str(lines), words.number(count))
                        for name, state, contact, lines, count in box.tenants
                    ],
                ),
            ),
        ),
        Section(
            "Transfers",
            (
                Text(
                    "Transfers to third countries: none is made by the box. Where copies and the receiver of the log "
                    f"stand is {UNKNOWN} to it."
                ),
            ),
        ),
        measures.security(box, None, zone),
        Section("Who runs the box", (measures.roles(box.roles, "Roles of the box", named=False),)),
    )
    return Document(
        "Record of processing (UK GDPR Art. 30(2))", "All tenants of the box", made_ns, zone.key, sections
    )


def annex(box: Box, tenant: Tenant, made_ns: int, zone: ZoneInfo, *, named: bool) -> Document:
    """Annex to the contract between controller and processor."""
    sections = (
        Section(
            "Parties and subject",
            (
                pairs(
                    ("Controller", tenant.name),
                    ("Contact for records", tenant.contact or UNKNOWN),
                    ("Processor", FILL_IN),
                    (
                        "Subject and nature",
                        "recording of telephone calls; keeping, finding, playing, erasing recordings",
                    ),
                    ("Duration", "while anything is retained, as the retention below says"),
                    ("State of the service", tenant.state),
                ),
                Text("Categories of people:"),
                listing(CATEGORIES),
                Text("Categories of data:"),
                listing(DATA),
            ),
        ),
        measures.promises(tenant),
        measures.security(box, tenant, zone),
        measures.purposes(tenant),
        measures.transparency(tenant.lines),
        measures.lines(tenant.lines),
        Section(
            "Who may do what",
            (
                measures.roles(tenant.roles, "Roles of the tenant", named=named),
                measures.roles(box.roles, "Roles of the box", named=False),
                measures.grants(tenant, zone, named=named),
            ),
        ),
        _duties(tenant),
    )
    return Document("Data-protection annex (UK GDPR Art. 28(3))", tenant.name, made_ns, zone.key, sections)


def _held(held: Held, zone: ZoneInfo) -> Pairs:
    return pairs(
        ("Recordings held", words.number(held.filed)),
        ("Deleted, within the grace", words.number(held.deleted)),
        ("Erased, with a certificate", words.number(held.erased)),
        ("In quarantine", words.number(held.quarantined)),
        ("Size", words.size(held.bytes)),
        ("The oldest is of", "none" if held.oldest_ns is None else words.day(held.oldest_ns, zone)),
        ("The newest is of", "none" if held.newest_ns is None else words.day(held.newest_ns, zone)),
    )


def _duties(tenant: Tenant) -> Section:
    return Section(
        "Staff, holds, restrictions",
        (
            pairs(
                ("Notices to staff that are required", words.number(tenant.notices)),
                ("Staff on the list", words.number(tenant.staff)),
                ("Who have not acknowledged all", words.number(tenant.not_acknowledged)),
                ("Legal holds in force", words.number(tenant.holds)),
                ("Restrictions in force (Art. 18)", words.number(tenant.restrictions)),
            ),
        ),
    )
