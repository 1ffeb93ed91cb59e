"""A zip file that only a passphrase opens: WinZip's AE-2 with AES-256, which 7-Zip, WinZip, Keka, libarchive and others
open.

Names of members lie in clear in such a file, so they never say anything of people. AE-2 keeps no CRC of what is inside,
which would tell of short members. Its key derivation is weak by today's measure (PBKDF2-HMAC-SHA1, 1000 rounds), which
is why a passphrase has to be long. Format: "AES Encryption Information: Encryption Specification AE-1 and AE-2"
(WinZip); APPNOTE.TXT.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from types import TracebackType
from typing import Any, BinaryIO, Final, Self
from zipfile import ZIP_STORED

from appliance.catalog.subjecterrors import SubjectPassphraseWeakError

MIN_LENGTH: Final = 16
MAX_LENGTH: Final = 128
MIN_DIFFERENT: Final = 8
_NAME = re.compile(r"(?:[a-z0-9]+/)?[A-Za-z0-9.-]{1,40}")
_WHEN: Final = (1980, 1, 1, 0, 0, 0)  # the format's first moment: when a pack was made is nobody's business


def check_passphrase(text: str, field: str = "passphrase") -> bytes:
    """The passphrase as bytes. SubjectPassphraseWeakError.

    ASCII alone, as programs differ in how they write other letters, and a pack that does not open is no answer.
    """
    if not MIN_LENGTH <= len(text) <= MAX_LENGTH or len(set(text)) < MIN_DIFFERENT:
        raise SubjectPassphraseWeakError(
            f"should have {MIN_LENGTH} to {MAX_LENGTH} characters, at least {MIN_DIFFERENT} different ones",
            field=field,
        )
    if not (text.isascii() and text.isprintable()):
        raise SubjectPassphraseWeakError("should have printable characters of ASCII alone", field=field)
    return text.encode("ascii")


class Zip:
    """Writes one into a seekable file. `sums` has the SHA-256 of each member, in the order they were written."""

    def __init__(self, file: BinaryIO, passphrase: bytes) -> None:
        import pyzipper  # a fifth of a second, seldom wanted
        from pyzipper.zipfile_aes import WZ_AES_V2

        self.sums: dict[str, str] = {}
        self._zip: Any = pyzipper.AESZipFile(file, "w", compression=ZIP_STORED, allowZip64=True)
        self._zip.setpassword(passphrase)
        self._zip.setencryption(pyzipper.WZ_AES, nbits=256, force_wz_aes_version=WZ_AES_V2)

    def add(self, name: str, pieces: Iterable[bytes], *, size: int | None = None) -> str:
        """A member with these bytes; gives their SHA-256 as hexadecimal digits. `size`: where it is known beforehand.

        Sound is stored as it is: how well a stretch shrinks would tell of what is in it.
        """
        if not _NAME.fullmatch(name) or name in self.sums:
            raise ValueError("not a name for a member")
        entry = self._zip.zipinfo_cls(name, _WHEN)
        entry.compress_type = ZIP_STORED
        entry.external_attr = 0o600 << 16
        large = size is None or size > 1 << 31
        digest = hashlib.sha256()
        with self._zip.open(entry, "w", force_zip64=large) as member:
            for piece in pieces:
                digest.update(piece)
                member.write(piece)
        self.sums[name] = digest.hexdigest()
        return self.sums[name]

    def close(self) -> None:
        """Write the directory. What is not closed is no zip file."""
        self._zip.close()

    def abandon(self) -> None:
        """Write no more, whatever is missing: who made the file takes it away."""
        self._zip.fp = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


def manifest(sums: dict[str, str]) -> bytes:
    """As `sha256sum` writes it, so that `sha256sum -c` and its like check it."""
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode("ascii")
