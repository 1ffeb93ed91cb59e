"""Who watches the calls, and what they have not been told yet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Protocol

from appliance.media.signaling.errors import CallNotFoundError, WatcherTooSlowError
from earwitness.internal.v1 import signaling_pb2 as pb

MAX_UNTOLD = 10_000
"""Calls that have changed and of which a watcher has not taken the newest state."""


class _Watcher:
    """Only the newest state of each call waits for a watcher, so a slow one costs little and misses no end."""

    def __init__(self) -> None:
        self.untold: dict[str, pb.LiveCall] = {}
        self.wake = asyncio.Event()
        self.lost = False

    def tell(self, message: pb.LiveCall) -> None:
        self.untold[message.call_id] = message
        if len(self.untold) > MAX_UNTOLD:
            self.lost = True
            self.untold.clear()
        self.wake.set()


class Shown(Protocol):
    """A live call, as it is shown."""

    call_id: str

    def message(self, now_ns: int) -> pb.LiveCall: ...


class Board:
    """All live calls by id."""

    def __init__(self) -> None:
        self.calls: dict[str, Shown] = {}
        self._watchers: set[_Watcher] = set()
        self._told: dict[str, pb.LiveCall] = {}

    def call(self, call_id: str) -> Shown:
        """CallNotFoundError where there is no live call of this id."""
        found = self.calls.get(call_id)
        if found is None:
            raise CallNotFoundError("no such live call", call=call_id)
        return found

    def publish(self, call: Shown) -> pb.LiveCall:
        """Tells watchers of a call as it is now, where that is news. A call that has ended is forgotten."""
        message = call.message(time.time_ns())
        if message.state == pb.CALL_STATE_ENDED:
            self.calls.pop(call.call_id, None)
            before = self._told.pop(call.call_id, None)
            if before is None:
                return message
            # A call that is over is told with the parties it had.
            del message.parties[:]
            message.parties.extend(before.parties)
        else:
            self.calls[call.call_id] = call
            if self._told.get(call.call_id) == message:
                return message
            self._told[call.call_id] = message
        for watcher in self._watchers:
            watcher.tell(message)
        return message

    def listing(self) -> list[pb.LiveCall]:
        """All live calls, oldest first."""
        return sorted(self._told.values(), key=lambda call: (call.started_ns, call.call_id))

    async def watch(self) -> AsyncIterator[pb.WatchCallsResponse]:
        """First all calls, then each change. WatcherTooSlowError ends it for who does not keep up."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            for message in self.listing():
                yield pb.WatchCallsResponse(call=message)
            yield pb.WatchCallsResponse(in_sync=True)
            while True:
                await watcher.wake.wait()
                watcher.wake.clear()
                if watcher.lost:
                    raise WatcherTooSlowError("too many changes wait to be taken", limit=MAX_UNTOLD)
                while watcher.untold:
                    yield pb.WatchCallsResponse(call=watcher.untold.pop(next(iter(watcher.untold))))
        finally:
            self._watchers.discard(watcher)
