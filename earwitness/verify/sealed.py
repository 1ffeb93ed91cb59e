"""A sealed recording without its data key: header, chain of frames, hash tree, footer (docs/sealed-format.md).

The file is read once, from front to back, a frame at a time; nothing in it is believed before it was checked.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HEADER: Final = 128
FOOTER: Final = 200
PREFIX: Final = 32
CHECK: Final = 8
MIN_CIPHERTEXT: Final = 16
MAX_CIPHERTEXT: Final = 34_603_008
MOST_FINDINGS: Final = 100
_HEADER_MAGIC: Final = bytes.fromhex("894557530D0A1A0A")
_FOOTER_MAGIC: Final = bytes.fromhex("894557460D0A1A0A")
_SYNC: Final = bytes.fromhex("E7455752")
_SIGNED: Final = b"earwitness sealed footer v1\0"
_LAST: Final = 2


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written."""

    code: str  # as in docs/sealed-format.md, docs/evidence.md
    sentence: str
    offset: int = -1  # byte in the file; -1: no one place
    frame: int = -1


@dataclass
class SealedReport:
    """What a file shows without its key."""

    recording: str = ""  # opaque ids as they are written in names
    tenant: str = ""
    line: str = ""
    created_ns: int = 0
    frames: int = 0  # that are as they were written
    size: int = 0  # bytes
    sha256: str = ""  # of the whole file
    root: bytes = b""
    ended: bool = False  # there is a last frame
    signed: bool = False  # the footer's signature holds
    device_key: bytes = b""  # whose
    signed_ns: int = 0
    dropped: int = 0  # bytes that were cut off when the file was recovered
    findings: list[Finding] = field(default_factory=list)

    @property
    def untouched(self) -> bool:
        """Every byte is as it was when it was signed."""
        return self.signed and not self.findings


class _Walk:
    """One pass over a file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.at = 0
        self.digest = hashlib.sha256()
        self.report = SealedReport()
        # Roots of the full subtrees to the left, largest first, with their heights (RFC 6962 section 2.1).
        self._subtrees: list[tuple[int, bytes]] = []
        self._ahead = b""

    def read(self, size: int) -> bytes:
        """That many bytes, or what is left."""
        data = self._ahead[:size]
        self._ahead = self._ahead[size:]
        if len(data) < size:
            data += self.file.read(size - len(data))
        self.at += len(data)
        self.digest.update(data)
        return data

    def peek(self, size: int) -> bytes:
        if len(self._ahead) < size:
            self._ahead += self.file.read(size - len(self._ahead))
        return self._ahead[:size]

    def finding(self, code: str, sentence: str, offset: int, frame: int = -1) -> None:
        if len(self.report.findings) < MOST_FINDINGS:
            self.report.findings.append(Finding(code, sentence, offset, frame))

    def leaf(self, content: bytes) -> bytes:
        leaf = hashlib.sha256(b"\0" + content).digest()
        height, node = 0, leaf
        while self._subtrees and self._subtrees[-1][0] == height:
            node = hashlib.sha256(b"\1" + self._subtrees.pop()[1] + node).digest()
            height += 1
        self._subtrees.append((height, node))
        return leaf

    def root(self) -> bytes:
        node = b""
        for _, left in reversed(self._subtrees):
            node = hashlib.sha256(b"\1" + left + node).digest() if node else left
        return node


def check_sealed(file: BinaryIO, device_keys: Collection[bytes] | None = None) -> SealedReport:
    """Check a sealed recording. `device_keys`: raw Ed25519 keys of boxes that are trusted; None: whoever signed.

    Never raises for what is in the file: everything is a finding. OSError where it cannot be read.
    """
    walk = _Walk(file)
    chain = _header(walk)
    if chain is not None:
        _frames(walk, chain)
        walk.report.root = walk.root()
        _footer(walk, device_keys)
    while walk.read(1 << 20):
        pass
    walk.report.size = walk.at
    walk.report.sha256 = walk.digest.hexdigest()
    return walk.report


def _header(walk: _Walk) -> bytes | None:
    raw = walk.read(HEADER)
    if raw[:8] != _HEADER_MAGIC:
        walk.finding("NOT_SEALED", "this is no sealed recording", 0)
        return None
    if len(raw) < HEADER:
        walk.finding("HEADER_CUT", "the file ends within its header", len(raw))
        return None
    versions = (_number(raw[8:10]), _number(raw[10:12]), *raw[12:16])
    if (
        _number(raw[124:128]) != zlib.crc32(raw[:124])
        or versions != (1, HEADER, 1, 1, 1, 1)
        or any(raw[79:124])
    ):
        walk.finding("HEADER_CORRUPT", "the header is not what was written, or of a newer version", 0)
        return None
    report = walk.report
    report.recording, report.tenant, report.line = (_id(raw[at : at + 16]) for at in (16, 32, 48))
    report.created_ns = int.from_bytes(raw[64:72], "little", signed=True)
    return walk.leaf(raw)


def _frames(walk: _Walk, chain: bytes) -> None:
    counter = 0
    while walk.peek(4) == _SYNC:
        start = walk.at
        prefix = walk.read(PREFIX)
        length = _number(prefix[4:8])
        if len(prefix) < PREFIX or not MIN_CIPHERTEXT <= length <= MAX_CIPHERTEXT:
            walk.finding("FRAME_CORRUPT", "a frame's beginning is not what was written", start, counter)
            return
        rest = walk.read(length + CHECK)
        ciphertext, check = rest[:length], rest[length:]
        leaf = hashlib.sha256(b"\0" + prefix + ciphertext).digest()
        if check != leaf[:CHECK]:
            walk.finding("FRAME_CORRUPT", "a frame is not what was written, or is cut", start, counter)
            return
        if _number(prefix[8:12]) != counter or prefix[16:32] != chain[:16] or any(prefix[13:16]):
            walk.finding(
                "FRAME_MISPLACED",
                "a frame does not follow the one before it: something was cut out, moved or put in",
                start,
                counter,
            )
            return
        if walk.report.ended:
            walk.finding("TRAILING", "a frame stands after the last one", start, counter)
            return
        walk.report.ended = prefix[12] == _LAST
        chain = walk.leaf(prefix + ciphertext)
        counter += 1
        walk.report.frames = counter


def _footer(walk: _Walk, device_keys: Collection[bytes] | None) -> None:
    start = walk.at
    raw = walk.read(FOOTER)
    if walk.report.findings:
        return  # what the footer says cannot be held against a file that is broken before it
    if not raw:
        walk.finding("CUT", "the file ends without a signature: it is cut, or was never filed", start)
        return
    if raw[:8] != _FOOTER_MAGIC or len(raw) < FOOTER:
        walk.finding(
            "FRAME_CORRUPT", "what follows is neither a frame nor a footer", start, walk.report.frames
        )
        return
    if (
        _number(raw[196:200]) != zlib.crc32(raw[:196])
        or (_number(raw[8:10]), _number(raw[10:12]), _number(raw[192:196])) != (1, FOOTER, FOOTER)
        or raw[12] > 3
        or any(raw[13:16])
    ):
        walk.finding("FOOTER_CORRUPT", "the footer is not what was written, or of a newer version", start)
        return
    _signed(walk, raw, start, device_keys)
    if walk.peek(1):
        walk.finding("TRAILING", "bytes stand after the footer", walk.at)


def _signed(walk: _Walk, raw: bytes, start: int, device_keys: Collection[bytes] | None) -> None:
    report = walk.report
    if (bool(raw[12] & 1), _number(raw[16:24]), _number(raw[24:32])) != (report.ended, report.frames, start):
        walk.finding("TOTALS_MISMATCH", "the footer is of a file with other frames", start)
    if raw[48:80] != report.root:
        walk.finding("ROOT_MISMATCH", "the footer is of a file with other contents", start)
    key = raw[96:128]
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(raw[128:192], _SIGNED + raw[:128])
    except (InvalidSignature, ValueError):
        walk.finding("SIGNATURE_INVALID", "the signature does not hold", start)
        return
    if raw[80:96] != hashlib.sha256(key).digest()[:16]:
        walk.finding("FOOTER_CORRUPT", "the footer names another device than signed it", start)
        return
    report.signed, report.device_key = True, key
    report.signed_ns = int.from_bytes(raw[40:48], "little", signed=True)
    report.dropped = _number(raw[32:40]) if raw[12] & 2 else 0
    if device_keys is not None and key not in device_keys:
        walk.finding("SIGNER_UNKNOWN", "another box than those that are trusted signed it", start)


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _id(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()
