"""Tokens of links by which a notice is acknowledged without signing in: signed, expiring, used once.

Base64url of 16 bytes of the link's id, 16 of a secret, 8 of when it expires (seconds since 1970, big endian) and 16 of
HMAC-SHA256 over these. The catalogue knows the secret's SHA-256 alone: neither who reads it, nor who has the key alone, can
make one that is taken. What is no token of ours is refused before the catalogue is asked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from appliance.catalog import noticelinks as links
from appliance.model import new_id
from appliance.model.ids import ID_BYTES, id_bytes, id_text
from appliance.model.staff import StaffMember

_SECRET: Final = 16
_TAG: Final = 16
_WHOLE: Final = ID_BYTES + _SECRET + 8 + _TAG
_FORM = re.compile(r"[A-Za-z0-9_-]{75}")  # stands in a path as it is
_LABEL: Final = b"earwitness notice link v1"


@dataclass(frozen=True, repr=False)
class LinkToken:
    """What is in a token; `digest`: as the catalogue has the secret."""

    link_id: str
    secret: bytes
    expire_s: int

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.secret).hexdigest()


def make(key: bytes, expire_s: int) -> tuple[LinkToken, str]:
    """A fresh token, and as it stands in a URL."""
    token = LinkToken(new_id(), secrets.token_bytes(_SECRET), expire_s)
    body = id_bytes(token.link_id) + token.secret + expire_s.to_bytes(8, "big")
    return token, base64.urlsafe_b64encode(body + _tag(key, body)).decode().rstrip("=")


def issue(
    connection: sa.Connection,
    key: bytes,
    base: str,
    member: StaffMember,
    notice_id: str,
    now_ns: int,
    expire_s: int,
) -> tuple[str, str]:
    """A link of one person to a notice, which the catalogue knows from now on: its id, and its address below `base`."""
    token, text = make(key, expire_s)
    links.add(connection, token.link_id, member, notice_id, token.digest, now_ns, expire_s * 10**9)
    return token.link_id, f"{base}/n/{text}"


def read(key: bytes, text: str, now_s: float) -> LinkToken | None:
    """None where it is not one of ours, or it is over."""
    if not _FORM.fullmatch(text):
        return None
    raw = base64.urlsafe_b64decode(text + "=")
    body, tag = raw[:-_TAG], raw[-_TAG:]
    if len(raw) != _WHOLE or not hmac.compare_digest(tag, _tag(key, body)):
        return None
    expire_s = int.from_bytes(body[-8:], "big")
    if now_s >= expire_s:
        return None
    return LinkToken(id_text(body[:ID_BYTES]), body[ID_BYTES : ID_BYTES + _SECRET], expire_s)


def _tag(key: bytes, body: bytes) -> bytes:
    own = hmac.digest(key, _LABEL, hashlib.sha256)  # the key may serve other tokens, too
    return hmac.digest(own, body, hashlib.sha256)[:_TAG]
