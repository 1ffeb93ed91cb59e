"""A sidecar begun anew in the place of one that is damaged beyond repair. docs/sealed-format.md, section Sidecar.

Its first entry says so: why, by whom, what was wrong, and how far the damaged one went. What could be read of that one lies
in it as well, sealed as it was, in entries of its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.model import id_text
from appliance.storage.sealed.sidecar import (
    Head,
    SidecarFinding,
    append,
    check,
    pack_content,
    parse,
    read,
    unpack_content,
)
from appliance.storage.sealed.sidecarerrors import SidecarCorruptError, SidecarEntryError, SidecarFullError
from appliance.storage.sealed.sidecarlayout import SidecarHeader

BEGUN: Final = "sidecar-begun-anew"
ASIDE: Final = "sidecar-set-aside"
PIECE: Final = 32 << 10  # bytes of the damaged one in one entry


@dataclass(frozen=True, slots=True)
class Damaged:
    """What is set aside. `raw`: as far as it can be read; `former`: how far it went when that was last written down."""

    raw: bytes
    wrong: SidecarFinding
    former: Head | None


def begin_anew(
    header: SidecarHeader,
    data_key: bytes,
    first: bytes,
    more: Sequence[bytes],
    damaged: Damaged,
    device_key: Ed25519PrivateKey,
    now_ns: int,
) -> tuple[bytes, bytes]:
    """The new sidecar, under one seal, and its first entry as it stands there.

    `first`: an entry `sidecar-begun-anew`, to which is added what is known of the damaged one; `more`: what comes after it.
    Where the damaged one's bytes do not fit, their digest alone is entered. SidecarEntryError, SidecarFullError.
    """
    said = first_entry(first)
    former = damaged.former
    said |= {
        "begun": 1 + (former.begun if former else 0),
        "problem": str(damaged.wrong.problem),
        "former_entries": former.entries if former else 0,
        "former_sha256": former.sha256 if former else "",
        "found_size": len(damaged.raw),
        "found_sha256": hashlib.sha256(damaged.raw).hexdigest() if damaged.raw else "",
    }
    aside = _aside(said, damaged.raw)
    for kept in (aside, []) if aside else ([],):
        entered = pack_content(said | {"kept": bool(kept)})
        try:
            return append(b"", header, data_key, [entered, *more, *kept], device_key, now_ns), entered
        except SidecarFullError:
            if not kept:
                raise
    raise AssertionError("one of the two was returned or raised")


def first_entry(content: bytes) -> dict[str, Any]:
    """What the entry says with which a sidecar is begun anew. SidecarEntryError where it is another."""
    said = unpack_content(content)
    if said["what"] != BEGUN:
        raise SidecarEntryError("the first entry says that a sidecar is begun anew", field="content")
    return said


def begun_with(raw: bytes, device_public_key: bytes, data_key: bytes, recording_id: str) -> dict[str, Any]:
    """The first entry of a sidecar that was begun anew and holds in itself; empty of any other."""
    if not raw or check(raw, device_public_key, None, recording_id=recording_id):
        return {}
    try:
        first = read(parse(raw), data_key)[0]
    except SidecarCorruptError:
        return {}
    return first if first["what"] == BEGUN else {}


def _aside(said: dict[str, Any], raw: bytes) -> list[bytes]:
    pieces = [raw[at : at + PIECE] for at in range(0, len(raw), PIECE)]
    return [
        pack_content(
            {
                "id": id_text(
                    hashlib.sha256(f"earwitness set aside {part} {said['id']}".encode()).digest()[:16]
                ),
                "what": ASIDE,
                "by": said["by"],
                "at_ns": said["at_ns"],
                "part": part,
                "parts": len(pieces),
                "data": base64.b64encode(piece).decode(),
            }
        )
        for part, piece in enumerate(pieces)
    ]
