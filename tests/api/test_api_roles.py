"""Every method with every role: on the wire a role is refused exactly where the table of the docs has no mark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from anycall import call, methods

from appliance.access.identities import TENANT_ROLES, Role
from appliance.access.policy import ALLOWED
from appliance.api.limits import RateLimit

DOCS = Path(__file__).parents[2] / "docs" / "roles.md"


def documented() -> dict[str, frozenset[Role]]:
    """docs/roles.md, which people read: method by roles."""
    lines = DOCS.read_text("utf-8").splitlines()
    head = next(line for line in lines if line.startswith("| method "))
    order = [Role(cell.strip()) for cell in head.strip("| ").split("|")[1:]]
    found = {}
    for line in lines:
        if named := re.match(r"\| `([A-Za-z]+/[A-Za-z]+)` \|", line):
            marks = [cell.strip() for cell in line.strip().strip("|").split("|")[1:]]
            assert len(marks) == len(order) and set(marks) <= {"", "x"}, line
            found[f"/earwitness.v1.{named[1]}"] = frozenset(
                role for role, mark in zip(order, marks, strict=True) if mark
            )
    return found


def test_the_docs_say_what_the_table_says():
    rows = {method: roles for method, roles in ALLOWED.items() if method.startswith("/earwitness.")}
    assert documented() == rows, "write docs/roles.md anew: python tools/write_roles.py"


@pytest.mark.parametrize("role", list(Role))
def test_a_role_is_let_in_where_the_docs_say_so(make_box, role):
    box = make_box(rate=RateLimit(10_000, 10_000))
    tenant_id, _ = box.default_line()
    client = box.enroll("someone", role, tenant_id=tenant_id if role in TENANT_ROLES else "")
    expected, seen = documented(), {}
    for method in methods():
        # An empty request names nothing, so that it changes nothing where the role may call.
        seen[method.path] = not call(client.channel, method, method.request_type()).refused_by_role
    wrong = {path: let for path, let in seen.items() if let != (role in expected[path])}
    assert not wrong
    assert any(seen.values()) and not all(seen.values())
