"""What both halves of AccessService stand on: whom the caller sees and manages, changes done once, pages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import sqlalchemy as sa

from appliance.access import register, rights
from appliance.access.register import Entry
from appliance.api import accessview
from appliance.api.parts import Note, Parts
from appliance.api.roll import Roll
from appliance.api.scope import caller
from appliance.api.signing import SignIns
from earwitness.v1 import access_pb2 as pb
from earwitness.v1 import access_pb2_grpc

Result = TypeVar("Result")


class _Tried(Exception):
    """Takes a transaction back that was only to be tried."""


class AccessBase(access_pb2_grpc.AccessServiceServicer):
    """No method of the contract by itself."""

    def __init__(self, parts: Parts, roll: Roll, sign_ins: SignIns) -> None:
        self._parts = parts
        self._roll = roll
        self._sign_ins = sign_ins

    async def _change(
        self, method: str, request: Any, name: str, change: Callable[[sa.Connection], Entry]
    ) -> pb.Identity:
        """Do a change of one identity, once for a request id, or only try it; the identity after it."""
        if request.validate_only:
            return await self._tried(lambda connection: accessview.whole(connection, change(connection)))

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> tuple[str, Collection[str]]:
                change(connection)
                note(connection, name)
                return name, [name]

            return await self._roll.change(work)

        return await self._whole(await self._parts.once(method, request, act))

    async def _tried(self, work: Callable[[sa.Connection], Result]) -> Result:
        """What a change would give; nothing of it stays."""
        found: list[Result] = []

        def run(connection: sa.Connection) -> None:
            found.append(work(connection))
            raise _Tried

        with contextlib.suppress(_Tried):
            await self._parts.store.write(run)
        return found[0]

    async def _whole(self, name: str) -> pb.Identity:
        return await self._parts.store.read(
            lambda connection: accessview.whole(connection, self._seen(connection, name))
        )

    def _seen(self, connection: sa.Connection, name: str) -> Entry:
        """An identity that the caller sees; IdentityNotFoundError."""
        entry = register.get(connection, name)
        if not rights.sees(caller(), register.target(connection, entry)):
            raise register.no_such_identity()
        return entry

    def _managed(self, connection: sa.Connection, name: str) -> Entry:
        """An identity that the caller may change; IdentityNotFoundError, ManageDeniedError."""
        entry = self._seen(connection, name)
        rights.check_manages(caller(), register.target(connection, entry))
        return entry
