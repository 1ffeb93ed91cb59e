"""Resource names of identities, their certificates and sessions: of the box, or below a tenant.

Within the box an identity is known by its key (`access.naming`). A caller of a tenant may leave its own tenant out, as
clients did when names were unique on the whole box.
"""

from __future__ import annotations

import re
from typing import Final

from appliance.access import naming
from appliance.api.errors import NameInvalidError
from appliance.api.scope import caller, confine
from appliance.model import is_id

_IDENTITY: Final = r"(?:tenants/([a-z2-7]{26})/)?identities/([a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?)"
_ONE = re.compile(_IDENTITY)
_CERTIFICATE = re.compile(_IDENTITY + r"/certificates/([0-9a-f]{64})")
_SESSION = re.compile(_IDENTITY + r"/sessions/([a-z2-7]{26})")
_FORM: Final = "identities/{identity} or tenants/{tenant}/identities/{identity}"


def read(text: str, field: str = "name") -> str:
    """The identity's key; NameInvalidError. Another tenant's, for a caller of a tenant, is one that nobody has."""
    return _confined(_match(_ONE, text, field, _FORM))


def read_new(text: str, tenant_id: str) -> tuple[str, str]:
    """Tenant's id and name of an identity to be made; `tenant_id`: as it was said beside the name, or empty."""
    found = _match(_ONE, text, "identity.name", _FORM)
    below, name = naming.parts(_confined(found))
    if tenant_id and found[1] and tenant_id != below:
        raise NameInvalidError("should be below the tenant that is named", field="identity.name")
    return tenant_id or below, name


def read_stranger(text: str, field: str = "name") -> str:
    """As `read`, of who signs in: nobody is calling yet, so that the tenant has to be said. NameInvalidError."""
    found = _match(_ONE, text, field, _FORM)
    return naming.key(found[1] or "", found[2])


def read_certificate(text: str, field: str = "name") -> tuple[str, str]:
    """The identity's key and the certificate's fingerprint; NameInvalidError."""
    found = _match(_CERTIFICATE, text, field, f"{_FORM}, then /certificates/{{fingerprint}}")
    return _confined(found), found[3]


def read_session(text: str, field: str = "name") -> tuple[str, str]:
    """The identity's key and the session's id; NameInvalidError."""
    form = f"{_FORM}, then /sessions/{{session}}"
    found = _match(_SESSION, text, field, form)
    if not is_id(found[3]):
        raise NameInvalidError(f"should be {form}", field=field)
    return _confined(found), found[3]


def owner(text: str) -> str | None:
    """The key of whom a name of any of these kinds is about, whoever says it; None: it is no such name."""
    for form in (_ONE, _CERTIFICATE, _SESSION):
        if found := form.fullmatch(text):
            return naming.key(found[1] or "", found[2])
    return None


def full(text: str, tenant_id: str) -> str:
    """A resource name with the tenant that was left out of an identity's, as it is written down."""
    return f"tenants/{tenant_id}/{text}" if tenant_id and text.startswith("identities/") else text


def identity(key: str) -> str:
    tenant_id, name = naming.parts(key)
    return f"tenants/{tenant_id}/identities/{name}" if tenant_id else f"identities/{name}"


def certificate(key: str, fingerprint: str) -> str:
    return f"{identity(key)}/certificates/{fingerprint}"


def session(key: str, session_id: str) -> str:
    return f"{identity(key)}/sessions/{session_id}"


def _match(form: re.Pattern[str], text: str, field: str, said: str) -> re.Match[str]:
    found = form.fullmatch(text)
    if found is None or not (found[1] is None or is_id(found[1])):
        raise NameInvalidError(f"should be {said}", field=field)
    return found


def _confined(found: re.Match[str]) -> str:
    tenant_id = caller().tenant_id if found[1] is None else confine(found[1])
    return naming.key(tenant_id or "", found[2])
