"""Resource names: tenants/{tenant}, and lines, recordings and calls below it. "-" stands for any tenant."""

from __future__ import annotations

import re
from typing import Final

from appliance.api.errors import NameInvalidError
from appliance.model import is_id

ANY: Final = "-"
_PARENT = re.compile(r"tenants/([a-z2-7]{26}|-)")
_CHILD = re.compile(r"tenants/([a-z2-7]{26}|-)/(lines|recordings|calls)/([a-z2-7]{26})")


def parent(text: str, field: str = "parent") -> str | None:
    """The tenant's id; None for all tenants."""
    found = _PARENT.fullmatch(text)
    if found is None or not _known(found[1]):
        raise NameInvalidError("should be tenants/{tenant}, or tenants/- for all", field=field)
    return None if found[1] == ANY else found[1]


def one_tenant(text: str, field: str = "name") -> str:
    """The id of one tenant."""
    tenant_id = parent(text, field)
    if tenant_id is None:
        raise NameInvalidError("should name one tenant: tenants/{tenant}", field=field)
    return tenant_id


def child(text: str, collection: str, field: str = "name") -> tuple[str | None, str]:
    """The tenant's id (None: any) and the id of what is named."""
    found = _CHILD.fullmatch(text)
    if found is None or found[2] != collection or not (_known(found[1]) and is_id(found[3])):
        raise NameInvalidError(f"should be tenants/{{tenant}}/{collection}/{{id}}", field=field)
    return None if found[1] == ANY else found[1], found[3]


def is_name(text: str) -> bool:
    """Whether this is a resource name, and so holds no personal data."""
    return _PARENT.fullmatch(text) is not None or _CHILD.fullmatch(text) is not None


def tenant(tenant_id: str) -> str:
    return f"tenants/{tenant_id}"


def line(tenant_id: str, line_id: str) -> str:
    """Empty where the line is not known, as for some recordings in quarantine."""
    return f"tenants/{tenant_id}/lines/{line_id}" if tenant_id and line_id else ""


def recording(tenant_id: str, recording_id: str) -> str:
    return f"tenants/{tenant_id or ANY}/recordings/{recording_id}"


def call(tenant_id: str, call_id: str) -> str:
    return f"tenants/{tenant_id}/calls/{call_id}" if tenant_id and call_id else ""


def _known(tenant_id: str) -> bool:
    return tenant_id == ANY or is_id(tenant_id)
