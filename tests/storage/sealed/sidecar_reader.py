"""A reader of sidecars written from docs/sealed-format.md alone: it imports nothing of the appliance."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def read(raw: bytes, data_key: bytes, device: bytes) -> tuple[bytes, bytes, list[dict]]:
    """Recording id, the recording's root, and the entries; AssertionError or InvalidTag where something is wrong."""
    header = raw[:128]
    assert header[:8] == bytes.fromhex("8945574E0D0A1A0A")
    assert struct.unpack("<HH", header[8:12]) == (1, 128) and header[12:16] == bytes([2, 0, 1, 1])
    assert header[112:124] == bytes(12)
    assert zlib.crc32(header[:124]) == struct.unpack("<I", header[124:])[0]
    recording, root, salt = header[16:32], header[64:96], header[96:112]
    key = HKDF(SHA256(), 32, salt, b"earwitness sidecar key v1\0" + recording).derive(data_key)
    bound = chain = hashlib.sha256(b"\0" + header).digest()
    at, entries, sealed = 128, [], False
    while at < len(raw):
        if raw[at : at + 4] == bytes.fromhex("E745574E"):
            prefix = raw[at : at + 64]
            length, index = struct.unpack("<II", prefix[4:12])
            assert prefix[12:16] == bytes(4) == prefix[60:64]
            assert (index, prefix[16:48]) == (len(entries), chain)
            cipher = raw[at + 64 : at + 64 + length]
            plain = AESGCM(key).decrypt(
                prefix[48:60], cipher, b"earwitness sidecar entry v1\0" + bound + prefix
            )
            entries.append(json.loads(plain))
            block, sealed = prefix + cipher, False
        else:
            block = raw[at : at + 152]
            assert block[:4] == bytes.fromhex("E7455748")
            assert struct.unpack("<III", block[4:16]) == (152, len(entries), 0) and block[24:56] == chain
            assert block[56:88] == device
            Ed25519PublicKey.from_public_bytes(device).verify(
                block[88:], b"earwitness sidecar seal v1\0" + bound + block[:88]
            )
            sealed = True
        chain = hashlib.sha256(b"\0" + block).digest()
        at += len(block)
    assert sealed and at == len(raw)
    return recording, root, entries
