"""Packs under a passphrase: opened by what is not ours, and by nothing else."""

from __future__ import annotations

import hashlib
import hmac
import io
import struct
import zipfile

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from appliance.catalog.subjecterrors import SubjectPassphraseWeakError
from appliance.packs.zipping import Zip, check_passphrase, manifest

PASSPHRASE = b"seven brown otters swim"
MEMBERS = {"audio/0001.wav": b"RIFF" + bytes(100_000) + b"x", "index.json": b"{}", "README.txt": b""}


def made(members=MEMBERS, passphrase: bytes = PASSPHRASE) -> tuple[bytes, dict[str, str]]:
    file = io.BytesIO()
    with Zip(file, passphrase) as pack:
        for name, content in members.items():
            pack.add(name, [content[:7], content[7:]], size=len(content))
    return file.getvalue(), pack.sums


def opened(data: bytes, passphrase: bytes) -> dict[str, bytes]:
    """By WinZip's specification of AE-2, with nothing but the standard library's reader of zip files and AES itself."""
    found = {}
    for entry in zipfile.ZipFile(io.BytesIO(data)).infolist():
        kind, size, version, vendor, strength, method = struct.unpack("<HHH2sBH", entry.extra[:11])
        assert (kind, size, version, vendor, strength, method) == (0x9901, 7, 2, b"AE", 3, 0), (
            "AE-2, AES-256, stored"
        )
        assert (entry.compress_type, entry.CRC, entry.flag_bits & 1) == (99, 0, 1)
        name_size, extra_size = struct.unpack(
            "<HH", data[entry.header_offset + 26 : entry.header_offset + 30]
        )
        begin = entry.header_offset + 30 + name_size + extra_size
        raw = data[begin : begin + entry.compress_size]
        salt, check, body, mac = raw[:16], raw[16:18], raw[18:-10], raw[-10:]
        keys = PBKDF2HMAC(hashes.SHA1(), 66, salt, 1000).derive(passphrase)
        if keys[64:] != check or hmac.digest(keys[32:64], body, hashlib.sha1)[:10] != mac:
            raise ValueError("does not open")
        blocks = -(-len(body) // 16)
        counters = b"".join(number.to_bytes(16, "little") for number in range(1, blocks + 1))
        stream = Cipher(algorithms.AES(keys[:32]), modes.ECB()).encryptor().update(counters)
        found[entry.filename] = bytes(a ^ b for a, b in zip(body, stream, strict=False))
    return found


def test_another_reader_opens_it_with_the_passphrase_alone():
    data, sums = made()
    assert opened(data, PASSPHRASE) == MEMBERS
    assert sums == {name: hashlib.sha256(content).hexdigest() for name, content in MEMBERS.items()}
    with pytest.raises(ValueError, match="open"):
        opened(data, b"seven brown otters sink")
    assert b"RIFF" not in data and PASSPHRASE not in data


def test_what_was_changed_does_not_open():
    data, _ = made()
    spoiled = bytearray(data)
    spoiled[200] ^= 1
    with pytest.raises(ValueError, match="open"):
        opened(bytes(spoiled), PASSPHRASE)


def test_the_manifest_is_what_sha256sum_checks():
    _, sums = made({"index.json": b"{}"})
    assert manifest(sums) == hashlib.sha256(b"{}").hexdigest().encode() + b"  index.json\n"


@pytest.mark.parametrize(
    "name", ["../x", "/x", "Ada Lovelace.wav", "audio/07700 900123.wav", "a/b/c", "ü.txt", ""]
)
def test_names_of_members_say_nothing_of_people_and_stay_inside(name):
    with pytest.raises(ValueError, match="name"):
        made({name: b""})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "short",
        "a" * 40,
        "abababababababababab",
        "x" * 129,
        "пароль пароль пароль",
        "with\na line feed 123",
    ],
)
def test_a_weak_passphrase_is_refused_and_not_repeated(text):
    with pytest.raises(SubjectPassphraseWeakError) as caught:
        check_passphrase(text)
    assert caught.value.data["field"] == "passphrase" and (not text or text not in str(caught.value))
