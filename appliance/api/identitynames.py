"""Resource names of identities, their certificates and sessions."""

from __future__ import annotations

import re
from typing import Final

from appliance.api.errors import NameInvalidError
from appliance.model import is_id

_IDENTITY: Final = r"identities/([a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?)"
_ONE = re.compile(_IDENTITY)
_CERTIFICATE = re.compile(_IDENTITY + r"/certificates/([0-9a-f]{64})")
_SESSION = re.compile(_IDENTITY + r"/sessions/([a-z2-7]{26})")


def read(text: str, field: str = "name") -> str:
    """The identity's name; NameInvalidError."""
    found = _ONE.fullmatch(text)
    if found is None:
        raise NameInvalidError("should be identities/{identity}", field=field)
    return found[1]


def read_certificate(text: str, field: str = "name") -> tuple[str, str]:
    """The identity's name and the certificate's fingerprint; NameInvalidError."""
    found = _CERTIFICATE.fullmatch(text)
    if found is None:
        raise NameInvalidError("should be identities/{identity}/certificates/{fingerprint}", field=field)
    return found[1], found[2]


def read_session(text: str, field: str = "name") -> tuple[str, str]:
    """The identity's name and the session's id; NameInvalidError."""
    found = _SESSION.fullmatch(text)
    if found is None or not is_id(found[2]):
        raise NameInvalidError("should be identities/{identity}/sessions/{session}", field=field)
    return found[1], found[2]


def owner(text: str) -> str | None:
    """The identity that a name of any of these kinds is about; None: it is no such name."""
    for form in (_ONE, _CERTIFICATE, _SESSION):
        if found := form.fullmatch(text):
            return found[1]
    return None


def identity(name: str) -> str:
    return f"identities/{name}"


def certificate(name: str, fingerprint: str) -> str:
    return f"identities/{name}/certificates/{fingerprint}"


def session(name: str, session_id: str) -> str:
    return f"identities/{name}/sessions/{session_id}"
