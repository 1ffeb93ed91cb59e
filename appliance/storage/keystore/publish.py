"""The file by which the vault tells capture its present public deposit key: raw bytes, replaced atomically."""

from __future__ import annotations

from pathlib import Path

from appliance.model import UnavailableError
from appliance.storage.keystore import hpke
from appliance.storage.keystore.files import write_durably


def load_deposit_key(path: Path) -> bytes:
    """The public deposit key (Layout.deposit_key), 1,216 bytes.

    UnavailableError where the vault has not published one yet; KeyFormatError where the file holds none.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise UnavailableError("the vault has not published its deposit key yet") from error
    hpke.check_public_key(raw)
    return raw


def publish_deposit_key(path: Path, public: bytes) -> None:
    """Replaces the file, durably."""
    hpke.check_public_key(public)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, public, mode=0o644)
