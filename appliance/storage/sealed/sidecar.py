"""The sidecar of a recording: what was added later (notes, tags), chained, encrypted and signed. Bytes in, bytes out.

An entry's content is a JSON object with `id` (26 characters; the same id is entered once), `what`, `by` and `at_ns`; the
rest is for who wrote it. docs/sealed-format.md, section Sidecar.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.model import id_bytes, is_id
from appliance.storage.sealed.layout import TAG_BYTES, leaf_hash
from appliance.storage.sealed.sidecarerrors import (
    SidecarCorruptError,
    SidecarEntryError,
    SidecarFullError,
    SidecarProblem,
    sentence,
)
from appliance.storage.sealed.sidecarlayout import (
    ENTRY_SYNC,
    HEADER_BYTES,
    KEY_CONTEXT,
    MAX_BYTES,
    MAX_CONTENT,
    MAX_ENTRIES,
    NONCE_BYTES,
    PREFIX,
    PREFIX_BYTES,
    SALT_BYTES,
    SEAL_BYTES,
    SidecarEntry,
    SidecarHeader,
    SidecarSeal,
    entry_aad,
)

MAX_ACTOR: Final = 300
MAX_WHAT: Final = 40


@dataclass(frozen=True, slots=True)
class Head:
    """How far a sidecar goes: entries, bytes, and the hash of its last seal (SHA-256, lower-case hexadecimal).

    `begun`: how often it was begun anew, as the vault's journal counts; 0 in what `parse` gives.
    """

    entries: int
    size: int
    sha256: str
    begun: int = 0


@dataclass(frozen=True, slots=True)
class SidecarFinding:
    """Something that is not as it was written. `offset` in bytes, `index` of the entry; -1: no one place."""

    problem: SidecarProblem
    offset: int = -1
    index: int = -1

    def __str__(self) -> str:
        return sentence(self.problem)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar taken apart: every block in its place, chained, and a seal at the end. Signatures are not checked yet."""

    header: SidecarHeader
    header_hash: bytes
    entries: tuple[SidecarEntry, ...]
    seals: tuple[SidecarSeal, ...]
    size: int

    @property
    def head(self) -> Head:
        """As of the last seal."""
        return Head(len(self.entries), self.size, self.seals[-1].hash().hex())

    def head_at(self, entries: int) -> str | None:
        """The hash of the seal after so many entries; None where none is there."""
        return next((one.hash().hex() for one in self.seals if one.entries == entries), None)


def parse(raw: bytes) -> Sidecar:
    """SidecarCorruptError at the first thing that is not in its place."""
    if len(raw) > MAX_BYTES:
        raise SidecarCorruptError(SidecarProblem.CORRUPT, MAX_BYTES, -1)
    header = SidecarHeader.parse(raw)
    header_hash = chain = leaf_hash(raw[:HEADER_BYTES])
    entries: list[SidecarEntry] = []
    seals: list[SidecarSeal] = []
    offset, sealed = HEADER_BYTES, False
    while offset < len(raw):
        if (entry := SidecarEntry.parse(raw, offset)) is not None:
            if (entry.index, entry.chain) != (len(entries), chain):
                raise SidecarCorruptError(SidecarProblem.MISPLACED, offset, len(entries))
            entries.append(entry)
            if len(entries) > MAX_ENTRIES:
                raise SidecarCorruptError(SidecarProblem.CORRUPT, offset, len(entries))
            chain, sealed = entry.hash(), False
            offset += PREFIX_BYTES + len(entry.ciphertext)
        elif (seal := SidecarSeal.parse(raw, offset)) is not None:
            if (seal.entries, seal.chain, sealed) != (len(entries), chain, False) or not entries:
                raise SidecarCorruptError(SidecarProblem.MISPLACED, offset, len(entries))
            seals.append(seal)
            chain, sealed = seal.hash(), True
            offset += SEAL_BYTES
        else:
            raise SidecarCorruptError(SidecarProblem.CORRUPT, offset, len(entries))
    if not sealed:
        raise SidecarCorruptError(SidecarProblem.UNSIGNED, len(raw), len(entries))
    return Sidecar(header, header_hash, tuple(entries), tuple(seals), len(raw))


def pack_content(content: Mapping[str, Any]) -> bytes:
    """An entry's content as it is encrypted: JSON, keys sorted, no spaces, UTF-8. SidecarEntryError."""
    _check_content(content)
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise SidecarEntryError("a text of the entry is no Unicode", field="content") from error
    if len(raw) > MAX_CONTENT:
        raise SidecarEntryError(f"an entry has at most {MAX_CONTENT} bytes", field="content")
    return raw


def unpack_content(raw: bytes) -> dict[str, Any]:
    """What an entry says. SidecarEntryError where that is not in the form `pack_content` gives it."""
    try:
        found = json.loads(raw)
        again = pack_content(found) if isinstance(found, dict) else b""
    except (ValueError, TypeError, RecursionError) as error:
        raise SidecarEntryError("an entry is a JSON object", field="content") from error
    if again != raw:
        raise SidecarEntryError("an entry is JSON with sorted keys and no spaces", field="content")
    return dict(found)


def _check_content(content: Mapping[str, Any]) -> None:
    def text(name: str, most: int) -> bool:
        value = content.get(name)
        return isinstance(value, str) and 1 <= len(value) <= most

    at_ns = content.get("at_ns")
    if not (isinstance(content.get("id"), str) and is_id(content["id"])):
        raise SidecarEntryError("an entry has an id", field="id")
    if not text("what", MAX_WHAT) or not text("by", MAX_ACTOR):
        raise SidecarEntryError("an entry says what was done, and by whom", field="what")
    if not isinstance(at_ns, int) or isinstance(at_ns, bool) or not 0 <= at_ns < 1 << 63:
        raise SidecarEntryError("an entry says when, in nanoseconds since the Unix epoch", field="at_ns")


def append(
    raw: bytes,
    made: SidecarHeader,
    data_key: bytes,
    contents: Sequence[bytes],
    device_key: Ed25519PrivateKey,
    now_ns: int,
) -> bytes:
    """The sidecar with these entries and one seal more. `raw` empty: there was none, and `made` is its header.

    `contents` as `pack_content` gives them; `data_key`: the recording's, 32 bytes. SidecarCorruptError, SidecarFullError.
    """
    if not contents:
        raise SidecarEntryError("at least one entry is entered", field="contents")
    raw = raw or made.pack()
    if len(raw) == HEADER_BYTES:
        header, header_hash = made, leaf_hash(raw)
        chain, index = header_hash, 0
    else:
        found = parse(raw)
        header, header_hash = found.header, found.header_hash
        chain, index = found.seals[-1].hash(), len(found.entries)
    cipher = _cipher(header, data_key)
    parts = [raw]
    for content in contents:
        nonce = secrets.token_bytes(NONCE_BYTES)
        prefix = PREFIX.pack(ENTRY_SYNC, len(content) + TAG_BYTES, index, chain, nonce)
        ciphertext = cipher.encrypt(nonce, content, entry_aad(header_hash, prefix))
        entry = SidecarEntry(index, 0, chain, nonce, prefix, ciphertext)
        parts += [prefix, ciphertext]
        chain, index = entry.hash(), index + 1
    public = device_key.public_key().public_bytes_raw()
    parts.append(SidecarSeal(0, index, now_ns, chain, public, b"").sign(device_key, header_hash).pack())
    result = b"".join(parts)
    if index > MAX_ENTRIES or len(result) > MAX_BYTES:
        raise SidecarFullError("the recording's sidecar takes no more entries", limit=MAX_BYTES)
    return result


def new_header(recording_id: str, tenant_id: str, line_id: str, root: bytes) -> SidecarHeader:
    """With a fresh salt. `root`: that of the recording's footer."""
    return SidecarHeader(recording_id, tenant_id, line_id, root, secrets.token_bytes(SALT_BYTES))


def read(found: Sidecar, data_key: bytes) -> list[dict[str, Any]]:
    """What the entries say, in order. SidecarCorruptError where one does not open or is malformed."""
    cipher, said = _cipher(found.header, data_key), []
    for entry in found.entries:
        try:
            plain = cipher.decrypt(entry.nonce, entry.ciphertext, entry_aad(found.header_hash, entry.prefix))
        except InvalidTag as error:
            raise SidecarCorruptError(SidecarProblem.FORGED, entry.offset, entry.index) from error
        try:
            said.append(unpack_content(plain))
        except SidecarEntryError as error:
            raise SidecarCorruptError(SidecarProblem.CONTENT, entry.offset, entry.index) from error
    return said


def check(
    raw: bytes,
    device_public_key: bytes,
    data_key: bytes | None,
    *,
    recording_id: str,
    root: bytes = b"",
    known: Head | None = None,
) -> list[SidecarFinding]:
    """What is not as it was written; empty where all holds. Without `data_key` entries are not opened.

    `root`: that of the recording's footer, where known; `known`: how far it went when that was last written down: a sidecar
    that goes further is no finding, one that is shorter or has another history is.
    """
    try:
        found = parse(raw)
    except SidecarCorruptError as error:
        return [SidecarFinding(error.problem, error.offset, error.index)]
    findings: list[SidecarFinding] = []
    header = found.header
    if header.recording_id != recording_id or (root and header.root != root):
        findings.append(SidecarFinding(SidecarProblem.OTHER_RECORDING, 0))
    for seal in found.seals:
        if not seal.holds(found.header_hash):
            findings.append(SidecarFinding(SidecarProblem.SIGNATURE_INVALID, seal.offset))
        elif seal.device_key != device_public_key:
            findings.append(SidecarFinding(SidecarProblem.SIGNER_UNKNOWN, seal.offset))
    if known is not None and found.head_at(known.entries) != known.sha256:
        findings.append(SidecarFinding(SidecarProblem.CUT, found.size))
    if data_key is not None:
        try:
            read(found, data_key)
        except SidecarCorruptError as error:
            findings.append(SidecarFinding(error.problem, error.offset, error.index))
    return findings


def _cipher(header: SidecarHeader, data_key: bytes) -> AESGCM:
    info = KEY_CONTEXT + id_bytes(header.recording_id)
    return AESGCM(HKDF(SHA256(), 32, header.salt, info).derive(data_key))
