"""Versions of tenants, lines and purposes over the API: who makes them, and listing them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from google.protobuf.message import Message

from appliance.api import convert, differences, gate
from appliance.api.parts import Parts, page_size, query_of
from appliance.api.scope import caller
from appliance.catalog import versions
from appliance.catalog.errors import PageTokenError
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
    size = page_size(request.page_size)
    query = query_of(method, request)
    now_s = parts.clock_ns() / 1e9
    below: int | None = None
    if request.page_token:
        match parts.tokens.read_page(request.page_token, query, now_s):
            case [int(below)]:
                pass
            case _:
                raise PageTokenError("not a page token of this query", field="page_token")

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
    token = parts.tokens.page(query, [found[size - 1][0].version], now_s) if len(found) > size else ""
    return [_message(*one) for one in found[:size]], token


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
