"""Kinds of alarms about the catalogue and about access: conditions by their types."""

from __future__ import annotations

from typing import Final

from appliance.alarms.kind import Kind, critical, warning
from appliance.alarms.severity import Severity

_CATALOGUE: Final = (
    critical(
        "CatalogueUnwritable",
        "The catalogue cannot be written; recording goes on",
        "Make space, look at the disk, or at the database's server.",
    ),
    warning(
        "CatalogueRebuilt",
        "The catalogue was lost and made anew from the recordings",
        "Look through what the box says it could not save (docs/catalogue.md), then clear this.",
        by_hand=True,
    ),
    warning(
        "DamagedCatalogueKept",
        "A damaged catalogue lies in the control directory, in plain text",
        "Copy it elsewhere if somebody is to look for more in it (docs/catalogue.md), then remove it. It goes by itself"
        " with the next erasure, or after 30 days.",
    ),
    Kind(
        "NotesUnsealed",
        Severity.NOTICE,
        "Notes of an older release are not all sealed yet",
        "They are sealed by and by, while the box is quiet; those of a tenant whose keys are locked wait for the unlocking"
        " (docs/catalogue.md).",
    ),
    critical(
        "CatalogueCopyUnwritable",
        "The copy of what the catalogue alone knows cannot be written",
        "Make space: a lost catalogue would take the newest changes with it; what was erased is in the copy until then.",
    ),
    critical(
        "CatalogueCopyRefused",
        "The copy of the catalogue is damaged, older than it was, gone, or of another box",
        "What the box says of it tells whether the catalogue was lost, too. Find out who had the disk in hand, look at what"
        " was put aside (docs/catalogue.md), then clear this.",
        by_hand=True,
    ),
    warning(
        "SearchIndexIncomplete",
        "The search index is made anew",
        "Filters may not find everything until it is done; nothing to do.",
        at_start=True,
    ),
)

_RIGHTS: Final = (
    critical(
        "RestrictionsCopyUnwritable",
        "The copy of restrictions beside the catalogue cannot be written",
        "Make space: a lost catalogue would lift the newest restrictions.",
    ),
    critical(
        "RestrictionsCopyAltered",
        "The copy of restrictions is damaged, or of another box",
        "It was written anew from the catalogue; what was there is kept beside it. Was the catalogue lost, too? Then look"
        " through the audit for"
        " CreateRestriction. Clear this when you have.",
        by_hand=True,
    ),
    warning(
        "RestrictionsRestored",
        "Restrictions came back from the copy beside the catalogue",
        "The catalogue was new or older than the copy: find out why, then clear this.",
        by_hand=True,
    ),
    critical(
        "RestrictionDutyFailing",
        "The vault refuses the legal hold or release that a restriction wants",
        "Retention may take what somebody needs for a claim: see `earwitness recordings restrictions` and"
        " `earwitness holds list`.",
    ),
)

_ACCESS: Final = (
    critical(
        "AuditUnwritable",
        "The audit log cannot be written, so calls of the API are refused",
        "Make space on the disk of the data directory.",
    ),
    critical(
        "AuditRolledBack",
        "The audit log is not what was written or signed",
        "Find out who had the disk in hand; verify the log against checkpoints kept elsewhere (docs/audit.md). Clear this"
        " when you have.",
        by_hand=True,
    ),
    warning(
        "AuditForwardingFailing",
        "The audit log cannot be forwarded",
        "See that the collector of syslog answers and takes the box's certificate; entries are kept until then.",
    ),
    warning(
        "AuditForwardingBehind",
        "Entries of the audit log wait for the collector",
        "Is the collector too slow?",
    ),
    critical(
        "IdentitiesCopyUnwritable",
        "The copy of identities beside the catalogue cannot be written",
        "Make space: a lost catalogue would take the newest changes with it.",
    ),
    warning(
        "IdentitiesRestored",
        "Identities and their credentials came back from the copy beside the catalogue",
        "Look through them with `earwitness identities list`, then clear this.",
        by_hand=True,
    ),
    critical(
        "CatalogueOlder",
        "The catalogue was older than the copy of identities",
        "What changed since holds again. Was an old catalogue put back? Clear this when you know.",
        by_hand=True,
    ),
    warning(
        "IdentitiesCopyOlder",
        "The copy of identities was older than the catalogue",
        "It was written anew. Was an old copy put back? Clear this when you know.",
        by_hand=True,
    ),
    critical(
        "IdentitiesCopyAltered",
        "Lines of the copy of identities are torn, altered, or of another box",
        "It was written anew from the catalogue; what was there is kept beside it. Find out who had the disk in hand, then"
        " clear this.",
        by_hand=True,
    ),
    critical(
        "IdentitiesRolledBack",
        "Catalogue and copy of identities are both older than they were",
        "Revocations may be lost: look through the audit for RevokeCertificate and DisableIdentity, do them again, then"
        " clear this.",
        by_hand=True,
    ),
    critical(
        "CertificatesRevokedAgain",
        "The catalogue had certificates in use that were revoked before",
        "They are revoked again. Was an old catalogue put back? Clear this when you know.",
        by_hand=True,
    ),
    warning(
        "CertificateExpiring",
        "Certificates of the box end within 30 days",
        "Issue new ones (docs/site.md).",
    ),
    critical(
        "CertificatesNotRenewed",
        "Certificates of the box cannot be renewed or taken up",
        "Make space, look at the catalogue, put back what the message names; it is tried again every ten minutes.",
    ),
    critical(
        "AuthorityNotYetValid",
        "The box's certificate authority is not valid yet: no client trusts the box",
        "Set the clock right. Where it is right, the authority was made while the clock was more than ten years ahead.",
    ),
    warning(
        "ClientCertificateExpiring",
        "Client certificates end soon and have no younger one",
        "Renew them; `earwitness identities list --expiring` names them.",
    ),
    warning(
        "IdentityProviderSilent",
        "An identity provider does not give its keys",
        "See that it answers: tokens are checked with the last keys until those are too old.",
    ),
    Kind(
        "ClockStepped",
        Severity.NOTICE,
        "The wall clock was set while calls were recorded",
        "Look at time synchronisation. Recordings keep true intervals; their times of day may differ by the step.",
    ),
)

KINDS: Final = (*_CATALOGUE, *_RIGHTS, *_ACCESS)
