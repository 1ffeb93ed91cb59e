"""Language tags (BCP 47)."""

from __future__ import annotations

import re

from appliance.api.errors import FieldInvalidError

_LANGUAGE = re.compile(r"([A-Za-z]{2,3})(-[A-Za-z]{4})?(-(?:[A-Za-z]{2}|[0-9]{3}))?((?:-[A-Za-z0-9]{5,8})*)")


def language_tag(text: str, field: str) -> str:
    """A language tag in the usual case: en-GB, zh-Hant-TW (RFC 5646 section 2.1.1). FieldInvalidError."""
    found = _LANGUAGE.fullmatch(text)
    if found is None or len(text) > 35:
        raise FieldInvalidError("should be a language tag (BCP 47), such as en-GB", field=field)
    return "".join(
        [
            found[1].lower(),
            (found[2] or "").title(),
            (found[3] or "").upper(),
            (found[4] or "").lower(),
        ]
    )
