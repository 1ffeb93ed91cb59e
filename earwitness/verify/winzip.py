"""Reads zip files whose members are encrypted as WinZip does it: AE-2, AES-256, nothing compressed.

Written from "AES Encryption Information: Encryption Specification AE-1 and AE-2" (WinZip) and APPNOTE.TXT. A member is a
salt, two bytes that tell a wrong passphrase mostly, the ciphertext (CTR, little-endian, from 1), ten bytes of HMAC-SHA1.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from earwitness.verify.notes import UnreadableError

MAX_MEMBERS: Final = 10_000
AE2: Final = b"\x01\x99\x07\x00\x02\x00AE\x03\x00\x00"  # id, length, version 2, vendor, AES-256, stored
_AES: Final = 99  # the method of compression that says so
_SALT: Final = 16
_CHECK: Final = 2
_MAC: Final = 10
_ROUNDS: Final = 1000
_BLOCK: Final = 1 << 20  # whole blocks of AES
_LOCAL: Final = struct.Struct("<4s22xHH")


class NotSealedError(UnreadableError):
    """A member is not encrypted in this way, or does not lie within the file."""


class WrongPassphraseError(UnreadableError):
    """The passphrase does not open a member."""


class MemberDamagedError(UnreadableError):
    """What a member holds is not what was put there."""


class SealedZip:
    """The members of one, in their order. A context."""

    def __init__(self, path: Path) -> None:
        """OSError; UnreadableError where it is no zip file, is cut off, or has too many members."""
        self._file = path.open("rb")
        try:
            with zipfile.ZipFile(self._file) as opened:
                self._members = {one.filename: one for one in opened.infolist()}
                count = len(opened.infolist())
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error):
            self._file.close()
            raise UnreadableError("it is no zip file, or was cut off") from None
        except BaseException:
            self._file.close()
            raise
        if count != len(self._members) or count > MAX_MEMBERS:
            self._file.close()
            raise UnreadableError("it has members of one name, or too many")

    def __enter__(self) -> SealedZip:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def names(self) -> list[str]:
        """Of all members."""
        return list(self._members)

    def place(self, name: str) -> tuple[int, int]:
        """Where a member's salt begins, and how many bytes are of it. NotSealedError; OSError."""
        member = self._members[name]
        self._file.seek(member.header_offset)
        raw = self._file.read(_LOCAL.size)
        size = member.compress_size
        if len(raw) < _LOCAL.size or raw[:4] != b"PK\x03\x04" or size < _SALT + _CHECK + _MAC:
            raise NotSealedError(f"{name} is not where the zip file says")
        _, name_size, extra_size = _LOCAL.unpack(raw)
        begin = member.header_offset + _LOCAL.size + name_size + extra_size
        if member.compress_type != _AES or AE2 not in member.extra or not member.flag_bits & 1:
            raise NotSealedError(f"{name} is not encrypted as the others of such a pack are")
        self._file.seek(begin + size - 1)
        if not self._file.read(1) or member.file_size != size - _SALT - _CHECK - _MAC:
            raise NotSealedError(f"{name} was cut off")
        return begin, size

    def read(self, name: str, passphrase: bytes) -> Iterator[bytes]:
        """What a member holds, in pieces; only at the end is it known to be whole: until then nothing is to be believed.

        NotSealedError, WrongPassphraseError, MemberDamagedError; OSError.
        """
        begin, size = self.place(name)
        self._file.seek(begin)
        salt, check = self._file.read(_SALT), self._file.read(_CHECK)
        keys = hashlib.pbkdf2_hmac("sha1", passphrase, salt, _ROUNDS, 64 + _CHECK)
        if not hmac.compare_digest(keys[64:], check):
            raise WrongPassphraseError("the passphrase does not open it")
        encrypt = Cipher(AES(keys[:32]), ECB()).encryptor()
        mac = hmac.new(keys[32:64], digestmod=hashlib.sha1)
        left, number = size - _SALT - _CHECK - _MAC, 1
        at = self._file.tell()
        while left:
            self._file.seek(at)  # somebody else may have read meanwhile
            sealed = self._file.read(min(_BLOCK, left))
            if not sealed:
                raise MemberDamagedError(f"{name} was cut off")
            at, left = at + len(sealed), left - len(sealed)
            mac.update(sealed)
            blocks = -(-len(sealed) // 16)
            counters = b"".join(n.to_bytes(16, "little") for n in range(number, number + blocks))
            number += blocks
            stream = encrypt.update(counters)[: len(sealed)]
            yield (int.from_bytes(sealed, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(sealed), "big")
        self._file.seek(at)
        if not hmac.compare_digest(mac.digest()[:_MAC], self._file.read(_MAC)):
            raise MemberDamagedError(f"{name} is not what was put there")
