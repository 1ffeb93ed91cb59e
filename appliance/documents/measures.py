"""Technical and organisational measures, as they are in force: sections that several documents share."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from appliance.documents import words
from appliance.documents.blocks import UNKNOWN, Section, Table, Text, listing, pairs, table
from appliance.documents.facts import Box, Line, Prompt, Tenant


def security(box: Box, tenant: Tenant | None, zone: ZoneInfo) -> Section:
    """Security of processing (UK GDPR Art. 32)."""
    said = [("Encryption of recordings", "each with a key of its own, AES-256-GCM, sealed frame by frame")]
    if tenant is not None:
        said.append(("Tenant's keys", _keys(tenant)))
    said += [
        ("Key exchange", "HPKE with MLKEM768-X25519, to the tenant's public key"),
        ("Root key lies in", {"file": "a file of the box", "tpm": "a TPM of the box"}[box.root_slot]),
        (
            "Store of recordings",
            box.vault.backend if box.vault else f"{box.configured_backend} (as configured)",
        ),
        ("State of the store", _store(box)),
        ("Copies elsewhere", _replicas(box)),
        ("Erasure", _erasure(box, zone)),
        ("Clock of retention", UNKNOWN if box.vault is None else _clock(box.vault.clock_frozen)),
        ("Access to the interface", "mutual TLS, or tokens over TLS; nothing in the clear"),
        ("Identity providers", words.number(box.identity_providers)),
        ("Log of who did what", _audit(box)),
        ("Log forwarded elsewhere", words.yes(box.audit.forwarded)),
        ("Catalogue on", box.catalogue),
        ("Alarms told by", _channels(box)),
        ("Version", box.version),
    ]
    return Section("Technical and organisational measures in force", (pairs(*said),))


def lines(some: tuple[Line, ...]) -> Section:
    """What is recorded, and how long it is kept."""
    kept = table(
        "Retention by line",
        "Line | State | Kept for | Said by | Grace after deletion | Waits",
        [
            (
                one.name,
                one.state,
                one.kept.retention if one.kept else UNKNOWN,
                one.kept.from_whom if one.kept else UNKNOWN,
                words.some(one.kept.grace_days, "day") if one.kept else UNKNOWN,
                "; ".join(one.kept.waiting) or "nothing" if one.kept else UNKNOWN,
            )
            for one in some
        ],
    )
    scope = table(
        "What is recorded",
        "Line | Directions | >Numbers | >Trunks | All else | >Not recorded | How",
        [
            (
                one.name,
                ", ".join(one.directions),
                str(one.numbers),
                str(one.trunks),
                words.yes(one.catch_all),
                str(one.do_not_record),
                _way(one),
            )
            for one in some
        ],
    )
    control = table(
        "Pause, end, listening in",
        "Line | Agents may | >Others by number | Resumes by itself | Listening in | Whisper to the agent",
        [
            (
                one.name,
                one.rights,
                str(one.agents_with_rights),
                f"after {one.auto_resume_s} s" if one.auto_resume_s else "no",
                one.listening,
                _said(one.whisper) if one.whisper else "none",
            )
            for one in some
        ],
    )
    return Section("Lines", (scope, kept, control))


def transparency(some: tuple[Line, ...]) -> Section:
    """What people who are recorded are told (UK GDPR Art. 13)."""
    blocks: list[Table | Text] = []
    for one in some:
        told = "told by other means than an announcement" if one.purposes else "told of no purpose otherwise"
        if not one.announcement:
            blocks.append(
                Text(
                    f"{one.name}: no announcement is played by the box. Callers are {told}"
                    + (f": {', '.join(one.purposes)}." if one.purposes else ".")
                )
            )
            continue
        rows = [
            (prompt.language, _said(prompt), ", ".join(prompt.purposes) or "none")
            for prompt in one.announcement
        ]
        how = f"{one.name}: announced {one.announce_when.replace('-', ' ')}" + (
            ", a key ends it" if one.interruptible else ""
        )
        if one.tone_s:
            how += f", a tone every {one.tone_s} s"
        blocks.append(table(how, "Language | Words | Purposes stated", rows))
    return Section("What callers are told", tuple(blocks) or (Text("There is no line."),))


def purposes(tenant: Tenant) -> Section:
    """What recordings may be used for."""
    rows = [(one.name, one.id, one.basis or UNKNOWN) for one in tenant.purposes]
    return Section(
        "Purposes and legal bases",
        (
            table("Purposes in use", "Purpose | Id | Law it stands on", rows),
            Text("A read names one of these, and is refused where callers were not told of it."),
        ),
    )


def roles(some: tuple[tuple[str, tuple[str, ...]], ...], caption: str, *, named: bool) -> Table:
    """Who has which role: counted, or by name."""
    rows = [(role.replace("-", " "), str(len(people)), ", ".join(people)) for role, people in some]
    if named:
        return table(caption, "Role | >Identities | Names", rows)
    return table(caption, "Role | >Identities", [row[:2] for row in rows])


def grants(tenant: Tenant, zone: ZoneInfo, *, named: bool) -> Table:
    """Support grants that are open now."""
    rows = []
    for one in tenant.grants:
        row = [
            one.id,
            one.state,
            one.purpose,
            words.when(one.begin_ns, zone) if one.begin_ns is not None else "at the approval",
            words.when(one.end_ns, zone),
            str(one.recordings),
            f"{one.reads} of {one.max_reads}",
            words.yes(one.include_parties),
        ]
        rows.append([*row, ", ".join(one.people)] if named else [*row, str(len(one.people))])
    head = "Grant | State | Purpose | From | Until | >Recordings | >Reads | Names shown | "
    return table("Support grants that are open", head + ("People" if named else ">People"), rows)


def promises(tenant: Tenant) -> Section:
    """How each term of UK GDPR Art. 28(3) is kept, from what is in force."""
    attended = tenant.keys is not None and tenant.keys.attended
    return Section(
        "Terms of UK GDPR Art. 28(3)",
        (
            listing(
                (
                    "(a) On documented instructions alone: lines, purposes and retention are the tenant's own settings; "
                    "each change is kept with who made it and when.",
                    "(b) Confidentiality: the provider's staff read no recording without a support grant of the tenant; "
                    f"{words.some(len(tenant.grants), 'grant')} open now.",
                    "(c) Security: the measures below.",
                    "(d) Other processors: none is engaged by the box. Whom the provider engages is not known to it.",
                    "(e) Rights of people: subject access packs, restriction and objection, erasure with a certificate; "
                    f"{words.some(tenant.restrictions, 'restriction')} in force now.",
                    "(f) Help with Art. 32 to 36: this document, alarms, the audit log"
                    + (", keys under the tenant's own passphrase." if attended else "."),
                    "(g) At the end: an exit pack of everything, then erasure by retention; the tenant is "
                    f"{tenant.state}.",
                    "(h) Audits: the log of who did what is open to the tenant's auditor, and proves itself offline.",
                )
            ),
        ),
    )


def _way(line: Line) -> str:
    if not line.inline:
        return "beside calls (SIPREC)"
    if line.media_encrypted is None:
        return "in the path of calls"
    return f"in the path of calls, {'SRTP' if line.media_encrypted else 'not all SRTP'} onwards"


def _keys(tenant: Tenant) -> str:
    if tenant.keys is None:
        return UNKNOWN
    if not tenant.keys.attended:
        return "automatic: the box opens them by itself"
    state = "locked at this time" if tenant.keys.locked else "unlocked at this time"
    return f"attended: under a passphrase of the tenant's own; {state}"


def _store(box: Box) -> str:
    if box.vault is None:
        return f"{UNKNOWN}: the vault did not answer"
    room = f"{words.size(box.vault.free_bytes)} of {words.size(box.vault.total_bytes)} free"
    return (
        "; ".join((room, *box.vault.ailments)) if box.vault.ailments else f"{room}; nothing is wrong with it"
    )


def _replicas(box: Box) -> str:
    return ", ".join(f"{one.name} ({one.backend})" for one in box.replicas) or "none"


def _erasure(box: Box, zone: ZoneInfo) -> str:
    if box.vault is None:
        return UNKNOWN
    last = box.vault.last_shred_ns
    when = f"last on {words.when(last, zone)}" if last else "none so far"
    return f"keys are destroyed and certified; {when}; epoch {box.vault.epoch}"


def _clock(frozen: bool) -> str:
    return "frozen: nothing is destroyed until it is accepted" if frozen else "goes as it should"


def _audit(box: Box) -> str:
    said = f"{box.audit.entries:,} entries in a hash tree with signed checkpoints, generation {box.audit.generation}"
    return f"{said}, {box.audit.origin}"


def _channels(box: Box) -> str:
    return ", ".join(f"{kind} ({count})" for kind, count in box.alarm_channels) or "none beside the interface"


def _said(prompt: Prompt) -> str:
    return f"the words are {UNKNOWN}" if prompt.text is None else f"“{prompt.text}”"
