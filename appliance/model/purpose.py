"""Purposes: what recordings may be used for (terms 4), and those that every tenant begins with."""

from __future__ import annotations

import re
from typing import Final

from pydantic import BaseModel, ConfigDict

FORM: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
"""Of a purpose's id."""


class Purpose(BaseModel):
    """A purpose of one tenant. It is archived, never removed: recordings were made under it."""

    tenant_id: str
    purpose_id: str
    display_name: str
    legal_basis: str = ""
    seeded: bool = False
    create_ns: int = 0
    archive_ns: int | None = None  # None: in use

    model_config = ConfigDict(frozen=True, extra="ignore")


_SI: Final = "SI 2018/356 reg. 3(2)"
# Of regulation 3: what it lets be recorded, not only monitored (3) or listened to at helplines (4).
SEEDS: Final = (
    ("evidence", "Establishing what was said", f"{_SI}(a): to establish the existence of facts"),
    (
        "compliance",
        "Compliance with rules and procedures",
        f"{_SI}(b): to ascertain compliance with regulatory or self-regulatory practices or procedures",
    ),
    (
        "quality",
        "Standards of service",
        f"{_SI}(c): to ascertain or demonstrate the standards which are achieved",
    ),
    ("training", "Training of staff", f"{_SI}(c): the standards which ought to be achieved"),
    ("crime-prevention", "Preventing or detecting crime", f"{_SI}: to prevent or detect crime"),
    (
        "system-misuse",
        "Unauthorised use of the telephone system",
        f"{_SI}: to investigate or detect unauthorised use of a telecommunication system",
    ),
    (
        "system-operation",
        "Keeping the telephone system working",
        f"{_SI}: the effective operation of the system",
    ),
    # What health services commonly state beside it.
    ("direct-care", "Care of the patient", "UK GDPR Art. 6(1)(e) and 9(2)(h)"),
    (
        "patient-safety",
        "Investigating patient safety incidents",
        "UK GDPR Art. 9(2)(h); SI 2014/2936 reg. 20",
    ),
    ("complaints", "Answering complaints", "SI 2009/309; UK GDPR Art. 6(1)(c)"),
    ("safeguarding", "Protecting children and adults at risk", "Data Protection Act 2018 Sch. 1 para. 18"),
    ("legal-claims", "Legal claims", "UK GDPR Art. 9(2)(f)"),
    ("subject-access", "Answering those who were recorded", "UK GDPR Art. 15"),
)
"""Id, name, and the law it stands on."""


def seeded(tenant_id: str, create_ns: int) -> list[Purpose]:
    """What a tenant begins with."""
    return [
        Purpose(
            tenant_id=tenant_id,
            purpose_id=purpose_id,
            display_name=display_name,
            legal_basis=legal_basis,
            seeded=True,
            create_ns=create_ns,
        )
        for purpose_id, display_name, legal_basis in SEEDS
    ]
