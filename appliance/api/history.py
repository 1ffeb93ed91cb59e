"""Versions of tenants, lines and purposes over the API: who makes them, and listing them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from google.protobuf.message import Message

from appliance.api import convert, differences, gate
from appliance.api.pages import Page
from appliance.api.parts import Parts
from appliance.api.scope import caller
from appliance.catalog import versions
from appliance.catalog.versions import Author, Subject, Version
from earwitness.v1 import tenants_pb2 as pb


def author(parts: Parts, restored: int = 0) -> Author:
    """Who is calling, now."""
    return Author(parts.clock_ns(), caller().name, gate.current().request_id, restored)


async def listed(
    parts: Parts,
    method: str,
    request: Any,
    find: Callable[[sa.Connection], tuple[Subject, str, str, Callable[[dict[str, Any]], Message]]],
) -> tuple[list[pb.Version], str]:
    """A page of versions, newest first, and the token of the next.

    `find` gives kind, tenant and id of what there are versions of, and how its content becomes a public message; what it
    raises is the answer.
    """
    page = Page(parts, method, request, (int,))
    size = page.size
    below: int | None = page.after[0] if page.after else None

    def work(connection: sa.Connection) -> list[tuple[Version, list[pb.FieldChange], int]]:
        kind, tenant_id, subject, shown = find(connection)
        some = versions.listed(connection, kind, tenant_id, subject, size + 1, below)
        return [
            (
                one,
                *differences.between(None if one.before is None else shown(one.before), shown(one.content)),
            )
            for one in some
        ]

    found = await parts.store.read(work)
    some = [_message(*one) for one in found[:size]]
    size = page.cut(some)
    return some, page.token(found[size - 1][0].version) if len(found) > size else ""


def _message(one: Version, changes: list[pb.FieldChange], more: int) -> pb.Version:
    return pb.Version(
        version=one.version,
        create_time=convert.timestamp(one.at_ns),
        actor=one.who,
        request=one.request,
        changes=changes,
        more_changes=more,
        restored_version=one.restored,
        redacted=one.redacted,
    )
