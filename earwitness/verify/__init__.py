"""Checks what a box recorded, anywhere, with nothing but public keys: whole, untouched, by that box, in that order.

Written from docs/sealed-format.md, docs/audit.md and docs/evidence.md alone: it shares no code with what writes them. Needs
`cryptography` besides Python. `python -m earwitness.verify FILE --keys box-keys.json`.
"""

from earwitness.verify.evidence import Evidence, EvidenceError
from earwitness.verify.keys import BoxKeys, KeysError
from earwitness.verify.report import Verdict, verify_file
from earwitness.verify.sealed import Finding, SealedReport, check_sealed

__all__ = [
    "BoxKeys",
    "Evidence",
    "EvidenceError",
    "Finding",
    "KeysError",
    "SealedReport",
    "Verdict",
    "check_sealed",
    "verify_file",
]
