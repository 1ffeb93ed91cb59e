"""The sidecar of a recording without its key: header, chain of entries, seals (docs/sealed-format.md, section Sidecar).

What was added to a recording later (notes, tags) lies in it, sealed. Nothing in it is believed before it was checked.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from earwitness.verify.sealed import Finding, SealedReport

MAX_BYTES: Final = 3 << 20
_HEADER: Final = 128
_PREFIX: Final = 64
_SEAL: Final = 152
_MIN_CIPHERTEXT: Final = 17
_MAX_CIPHERTEXT: Final = 65_552
_MAGIC: Final = bytes.fromhex("8945574E0D0A1A0A")
_FORM: Final = bytes.fromhex("01008000") + bytes((2, 0, 1, 1))  # version, header length, algorithms
_ENTRY: Final = bytes.fromhex("E745574E")
_SEALED: Final = bytes.fromhex("E7455748")
_SIGNED: Final = b"earwitness sidecar seal v1\0"


@dataclass
class SidecarReport:
    """What a sidecar shows without the key. `heads`: block hash of the seal after so many entries, hexadecimal."""

    recording: str = ""
    root: bytes = b""
    entries: int = 0
    logged: int | None = None  # how many of them the box's log speaks of; None: no evidence was given
    begun: int = 0  # how often, as the log says, it was begun anew because the one before was damaged
    signed_ns: int = 0  # of the last seal
    heads: dict[int, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def _finding(self, code: str, sentence: str, offset: int = -1) -> None:
        self.findings.append(Finding(f"SIDECAR_{code}", sentence, offset, -1))


def check_sidecar(
    raw: bytes | None,
    sealed: SealedReport,
    device_keys: Collection[bytes],
    said: dict[str, Any] | None = None,
) -> SidecarReport:
    """Check a recording's sidecar beside it. Never raises for what is in it: everything is a finding.

    `raw` None: there is none. `said`: the recording's entry in the box's log, proved before; it tells of entries that were
    cut off at the end, and of a sidecar that was taken away.
    """
    report = SidecarReport()
    if raw is not None:
        _walk(raw, report, device_keys)
        if not report.findings and (report.recording, report.root) != (sealed.recording, sealed.root):
            report._finding("OTHER_RECORDING", "the sidecar is of another recording", 0)
    if said is not None:
        logged = said.get("sidecar_entries", 0)
        report.logged = logged if isinstance(logged, int) else 0
        begun = said.get("sidecar_begun", 0)
        report.begun = begun if isinstance(begun, int) else 0
        if report.logged and raw is None:
            report._finding(
                "MISSING", f"{report.logged} entries were added to the recording, and are not here"
            )
        elif (
            report.logged
            and not report.findings
            and report.heads.get(report.logged) != said.get("sidecar_sha256")
        ):
            report._finding("CUT", "the log speaks of entries that are missing, or are others here")
    return report


def _walk(raw: bytes, report: SidecarReport, device_keys: Collection[bytes]) -> None:
    header = raw[:_HEADER]
    if (
        len(raw) > MAX_BYTES
        or len(header) < _HEADER
        or header[:8] != _MAGIC
        or header[8:16] != _FORM
        or any(header[112:124])
        or zlib.crc32(header[:124]) != int.from_bytes(header[124:], "little")
    ):
        report._finding("HEADER", "this is no sidecar of a recording", 0)
        return
    report.recording = base64.b32encode(header[16:32]).decode().rstrip("=").lower()
    report.root = header[64:96]
    bound = chain = hashlib.sha256(b"\0" + header).digest()
    at, sealed = _HEADER, False
    while at < len(raw):
        block = _block(raw, at)
        if block is None:
            report._finding("CORRUPT", "the sidecar is not what was written", at)
            return
        entry = block[:4] == _ENTRY
        number = int.from_bytes(block[8:12], "little")
        if (number, block[16:48] if entry else block[24:56]) != (report.entries, chain) or (
            not entry and (sealed or not report.entries)
        ):
            report._finding("MISPLACED", "an entry of the sidecar stands where it was not written", at)
            return
        chain = hashlib.sha256(b"\0" + block).digest()
        if entry:
            report.entries, sealed = report.entries + 1, False
        else:
            _seal(block, bound, at, report, device_keys)
            report.heads[report.entries], sealed = chain.hex(), True
        at += len(block)
    if not sealed:
        report._finding("UNSIGNED", "the end of the sidecar is missing: no signature is over it", at)


def _block(raw: bytes, at: int) -> bytes | None:
    """An entry or a seal, whole; None where there is neither."""
    start = raw[at : at + 16]
    length = int.from_bytes(start[4:8], "little")
    if len(start) < 16 or any(start[12:16]):
        return None
    if start[:4] == _ENTRY and _MIN_CIPHERTEXT <= length <= _MAX_CIPHERTEXT:
        block = raw[at : at + _PREFIX + length]
        return block if len(block) == _PREFIX + length and not any(block[60:64]) else None
    if start[:4] == _SEALED and length == _SEAL:
        block = raw[at : at + _SEAL]
        return block if len(block) == _SEAL else None
    return None


def _seal(block: bytes, bound: bytes, at: int, report: SidecarReport, device_keys: Collection[bytes]) -> None:
    report.signed_ns = int.from_bytes(block[16:24], "little", signed=True)
    key = block[56:88]
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(block[88:], _SIGNED + bound + block[:88])
    except (InvalidSignature, ValueError):
        report._finding("SIGNATURE_INVALID", "a signature in the sidecar does not hold", at)
        return
    if key not in device_keys:
        report._finding("SIGNER_UNKNOWN", "another device signed the sidecar", at)
