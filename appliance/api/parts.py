"""What the servicers work with."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakValueDictionary

import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp

from appliance.api.board import Board
from appliance.api.errors import FieldInvalidError
from appliance.api.follow import Follower
from appliance.api.keystates import KeyStates
from appliance.api.linepolicies import LinePolicies
from appliance.api.listenpost import ListenPost
from appliance.api.processes import Processes
from appliance.api.promptstore import PromptStore
from appliance.api.renders import Renders
from appliance.api.routing import Routing
from appliance.api.scope import caller
from appliance.api.store import Store
from appliance.api.vault import Vault, VaultReader
from appliance.api.vaultkeys import VaultKeys
from appliance.api.vaultretention import VaultRetention
from appliance.catalog import requests
from appliance.catalog.paging import Tokens
from appliance.config.settings import Settings
from appliance.process.status import Status

MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 50
MAX_REASON: Final = 200
MAX_SECONDS: Final = 7_258_118_400  # the year 2200


class Locks:
    """A lock for each key, as long as somebody holds or awaits it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def held(self, key: str) -> AsyncIterator[None]:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        async with lock:
            yield


Note = Callable[[sa.Connection, str], None]
"""Writes down, in the transaction of the change, that the request was done, and to what."""


@dataclass
class Parts:
    """Everything there is one of."""

    settings: Settings
    status: Status
    store: Store
    tokens: Tokens
    link_key: bytes = field(repr=False)
    vault: Vault
    reader: VaultReader
    readers: ThreadPoolExecutor  # worker threads that read sealed files
    follower: Follower
    board: Board
    processes: Processes
    renders: Renders
    routing: Routing
    retention: VaultRetention
    line_policies: LinePolicies
    prompts: PromptStore
    vault_keys: VaultKeys
    key_states: KeyStates
    listening: ListenPost
    clock_ns: Callable[[], int] = time.time_ns
    locks: Locks = field(default_factory=Locks)

    async def once(self, method: str, request: Any, act: Callable[[Note], Awaitable[str]]) -> str:
        """Do what a request asks for, unless its request_id says it was done; gives the id of what it is about.

        `act` does it and calls the note it is given within its transaction.
        """
        request_id: str = request.request_id
        if not request_id:
            return await act(lambda connection, subject: None)
        requests.check_form(request_id)
        identity = caller().name
        digest = hashlib.sha256(
            method.encode() + b"\0" + request.SerializeToString(deterministic=True)
        ).hexdigest()
        now_ns = self.clock_ns()

        def note(connection: sa.Connection, subject: str) -> None:
            requests.note(connection, identity, request_id, digest, subject, now_ns)

        async with self.locks.held(f"request {identity} {request_id}"):
            done = await self.store.read(
                lambda connection: requests.find(connection, identity, request_id, digest, now_ns)
            )
            return done if done is not None else await act(note)


def page_size(asked: int) -> int:
    """How many to give; FieldInvalidError where the number is negative."""
    if asked < 0:
        raise FieldInvalidError("should not be negative", field="page_size")
    return min(asked or DEFAULT_PAGE, MAX_PAGE)


def query_of(method: str, request: Any) -> bytes:
    """What a page token is bound to: the method, who asks, and all that is asked but page_size and page_token."""
    bare = type(request)()
    bare.CopyFrom(request)
    bare.page_size = 0
    bare.page_token = ""
    return b"\0".join((method.encode(), caller().name.encode(), bare.SerializeToString(deterministic=True)))


def check_text(text: str, field_name: str, most: int = MAX_REASON, least: int = 0) -> str:
    """A text within its bounds, without control characters; FieldInvalidError."""
    if not least <= len(text) <= most or any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise FieldInvalidError(
            f"should have {least} to {most} characters, none of them control characters", field=field_name
        )
    return text


def moment(stamp: Timestamp, field_name: str) -> int:
    """Nanoseconds since the Unix epoch; FieldInvalidError where it is no time, or before 1970 or after 2200."""
    if not 0 <= stamp.nanos < 10**9 or not 0 <= stamp.seconds <= MAX_SECONDS:
        raise FieldInvalidError("should be a time between 1970 and 2200", field=field_name)
    return stamp.seconds * 10**9 + stamp.nanos
