"""A recording as a vCon (draft-ietf-vcon-vcon-core-02). Pure.

Its sound is put into it by who renders it: `with_sound`. Marks, notes and tags of ours are an attachment.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from typing import Any, Final

from appliance.packs.exitrecord import Whole, document, moment

VERSION: Final = "0.4.0"
MEDIA_TYPE: Final = "audio/x-wav"


def vcon(whole: Whole, created_ns: int) -> dict[str, Any]:
    """The vCon without its sound. `created_ns`: when it is made."""
    row = whole.row
    parties = [_party(one.number, one.aor, one.name, one.role.value) for one in row.parties] or [{}]
    known = document(whole)
    return {
        "vcon": VERSION,
        "extensions": ["CC"],  # draft-ietf-vcon-cc-extension: roles of parties
        "uuid": _uuid(row.recording_id),
        "created_at": moment(created_ns)[:-7] + "Z",  # to the microsecond, as most readers want it
        "subject": f"Recording {row.recording_id}",
        "parties": parties,
        "dialog": [
            {
                "type": "recording",
                "start": moment(row.start_ns)[:-4] + "Z",
                "duration": row.duration_ns / 1e9,
                "parties": list(range(len(parties))),
                **({"originator": first} if (first := _first(whole)) is not None else {}),
            }
        ],
        "analysis": [],
        "attachments": [
            {
                "type": "earwitness-recording",
                "purpose": "metadata",
                "start": moment(row.start_ns)[:-4] + "Z",
                "party": 0,
                "dialog": 0,
                "mediatype": "application/json",
                "encoding": "json",
                "body": json.dumps(known, ensure_ascii=False),
            }
        ],
    }


def _uuid(recording_id: str) -> str:
    """The same for the same recording: version 8 (RFC 9562 section 5.8), of its id's SHA-256."""
    raw = bytearray(hashlib.sha256(recording_id.encode()).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(raw)))


def _first(whole: Whole) -> int | None:
    return next((place for place, one in enumerate(whole.row.parties) if one.role.value == "caller"), None)


def _party(number: str, address: str, name: str, role: str) -> dict[str, Any]:
    said = {"tel": number, "sip": address if address.startswith("sip") else "", "name": name, "role": role}
    return {key: value for key, value in said.items() if value}


def with_sound(made: dict[str, Any], sound: bytes, file_name: str) -> bytes:
    """The vCon with its sound, a WAV, in it, as JSON. `body` is base64url (RFC 4648), `content_hash` its check."""
    digest = base64.urlsafe_b64encode(hashlib.sha512(sound).digest()).rstrip(b"=").decode()
    dialog = {
        **made["dialog"][0],
        "mediatype": MEDIA_TYPE,
        "mimetype": MEDIA_TYPE,  # as drafts before -02 called it, which readers still ask for
        "filename": file_name,
        "encoding": "base64url",
        "content_hash": f"sha512-{digest}",
        "body": base64.urlsafe_b64encode(sound).rstrip(b"=").decode(),
    }
    return json.dumps({**made, "dialog": [dialog]}, ensure_ascii=False).encode()
