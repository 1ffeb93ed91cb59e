"""Page and resume tokens: opaque, signed, bound to what was asked, and expiring.

A token holds positions only, never personal data: base64url of 16 bytes HMAC-SHA256 and a JSON array.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import state
from appliance.catalog.errors import (
    PageTokenError,
    PageTokenExpiredError,
    ResumeTokenError,
)

PAGE_TOKEN_S: Final = 24 * 3600
MAX_TOKEN: Final = 2000
_TAG: Final = 16


def beyond(
    query: sa.Select[Any],
    first: sa.ColumnElement[int],
    second: sa.ColumnElement[str],
    after: tuple[int, str] | None,
    *,
    newest_first: bool = False,
) -> sa.Select[Any]:
    """What comes after the row at these values of two columns, which the query is ordered by; None: all."""
    if after is None:
        return query
    here = sa.tuple_(first, second)
    there = sa.tuple_(sa.literal(after[0], sa.BigInteger), sa.literal(after[1], sa.String))
    return query.where(here < there if newest_first else here > there)


KEY: Final = "token-key"


@dataclass(frozen=True)
class Tokens:
    """Makes and reads tokens under one key."""

    key: bytes

    @classmethod
    def of(cls, connection: sa.Connection) -> Tokens:
        """With the catalogue's own key, made at the first call (needs a writing connection then)."""
        return cls(state.key(connection, KEY))

    def page(self, query: bytes, position: list[int | str], now_s: float) -> str:
        """A page token: `query` says what was asked (it is hashed), `position` where to go on."""
        return self._seal(["p", int(now_s), _digest(query), position])

    def read_page(self, token: str, query: bytes, now_s: float) -> list[int | str]:
        """The position in a page token; PageTokenExpiredError, or PageTokenError where it is of another query."""
        wrong = PageTokenError("not a page token of this query", field="page_token")
        fields = self._open(token)
        match fields:
            case ["p", int(made_s), str(digest), list(position)] if digest == _digest(query):
                if now_s - made_s > PAGE_TOKEN_S:
                    raise PageTokenExpiredError("the page token is older than a day", field="page_token")
                return position
            case _:
                raise wrong

    def resume(self, seq: int, feed: str = "r") -> str:
        """A resume token of the events feed, or of another one."""
        return self._seal([feed, seq])

    def read_resume(self, token: str, feed: str = "r") -> int:
        """The position in a resume token; ResumeTokenError."""
        fields = self._open(token)
        if fields is None or len(fields) != 2 or fields[0] != feed or not isinstance(fields[1], int):
            raise ResumeTokenError("not a resume token of this box", field="resume_token")
        return fields[1]

    def _seal(self, fields: list[object]) -> str:
        body = json.dumps(fields, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._tag(body) + body).decode().rstrip("=")

    def _open(self, token: str) -> list[object] | None:
        if len(token) > MAX_TOKEN:
            return None
        try:
            raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            return None
        tag, body = raw[:_TAG], raw[_TAG:]
        if not hmac.compare_digest(tag, self._tag(body)):
            return None
        fields = json.loads(body)  # ours: the tag says so
        return fields if isinstance(fields, list) else None

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self.key, body, hashlib.sha256)[:_TAG]


def _digest(query: bytes) -> str:
    return hashlib.sha256(query).hexdigest()[:32]
