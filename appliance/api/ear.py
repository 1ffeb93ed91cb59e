"""One listener to one recording: packets from capture in, chunks and events out.

A task takes what capture gives at once, so that a slow client is this listener's loss alone; decoding is done in threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

from pydantic import ValidationError

from appliance.api.listenpost import Found, ListenPost
from appliance.media.audio.live import Arrived, Chunk, Live, LivePayloads, LiveSound
from appliance.media.capture.monitor import ListenerTooSlowError
from appliance.media.signaling.errors import CaptureUnavailableError
from appliance.model import CorruptError, EarwitnessError, RecordingInfo
from earwitness.internal.v1 import capture_pb2

TICK_S: Final = 0.02
MAX_WAITING: Final = 2000  # packets that wait for a client that takes nothing
MAX_EVENTS: Final = 128

Item = Arrived | capture_pb2.MonitorEvent


class InfoUnreadableError(CorruptError):
    """What capture says of a recording cannot be read."""

    reason = "RECORDING_INFO_UNREADABLE"


class Heard:
    """What a tick brings, in this order: events, chunks."""

    __slots__ = ("chunks", "events", "lost")

    def __init__(self, events: list[capture_pb2.MonitorEvent], chunks: list[Chunk], lost: int) -> None:
        self.events, self.chunks, self.lost = events, chunks, lost


def info_of(raw: bytes) -> RecordingInfo:
    """InfoUnreadableError."""
    try:
        return RecordingInfo.model_validate_json(raw)
    except ValidationError:
        # Not chained: it quotes its input, which is personal data.
        raise InfoUnreadableError("what capture says of the recording cannot be read") from None


class Ear:
    """See the module. `error` may be set from outside: it ends the listening."""

    def __init__(self, post: ListenPost, *, opus: bool, mixed: bool, payload: bool) -> None:
        self._post = post
        # Time by the wall clock as it was, which does not jump when that is set.
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        self._live: Live = LivePayloads() if payload else LiveSound(self.now_ns(), opus=opus, mixed=mixed)
        self.rate = self._live.rate
        self.error: EarwitnessError | None = None
        self._inbox: list[Item] = []
        self._events = self._lost = 0
        self._over = self._ended = False

    def now_ns(self) -> int:
        return time.monotonic_ns() + self._epoch_ns

    @asynccontextmanager
    async def listening(self, found: Found, request: capture_pb2.MonitorRequest) -> AsyncIterator[None]:
        """Capture copies what it records, as long as this lasts."""
        self._inbox, self._over, self._ended, self._events = [], False, False, 0
        task = asyncio.create_task(self._take(found, request))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _take(self, found: Found, request: capture_pb2.MonitorRequest) -> None:
        try:
            async with aclosing(self._post.monitor(found.worker, request)) as stream:
                async for message in stream:
                    self._put(message)
        except EarwitnessError as error:
            self.error = self.error or error
        finally:
            self._over = True

    def _put(self, message: capture_pb2.MonitorResponse) -> None:
        self._lost += message.lost
        shift_ns = self.now_ns() - time.time_ns()
        for packet in message.packets:
            if len(self._inbox) >= MAX_WAITING:
                self._lost += 1
                continue
            self._inbox.append(
                Arrived(
                    packet.track,
                    packet.sequence,
                    packet.timestamp,
                    packet.ssrc,
                    packet.payload_type,
                    packet.arrival_ns + shift_ns,
                    packet.payload,
                )
            )
        if message.HasField("event"):
            message.event.at_ns += shift_ns
            self._events += 1
            if self._events > MAX_EVENTS:
                self.error = self.error or ListenerTooSlowError(
                    "more has happened than was taken", limit=MAX_EVENTS
                )
            self._inbox.append(message.event)

    async def heard(self) -> AsyncGenerator[Heard, None]:
        """Tick by tick, until the recording ends, or `error` is raised."""
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        while True:
            self._post.changed.check()  # the box's API stops: streams end at once
            if self.error is not None:
                raise self.error
            over, inbox, self._inbox = self._over, self._inbox, []
            lost, self._lost, self._events = self._lost, 0, 0
            yield await loop.run_in_executor(self._post.threads, self._work, inbox, lost)
            if over:
                if not self._ended:
                    raise CaptureUnavailableError("capture has gone while it was listened to")
                return
            next_s = max(next_s + TICK_S, loop.time())
            await asyncio.sleep(next_s - loop.time())

    def _work(self, inbox: list[Item], lost: int) -> Heard:
        """In a thread; one at a time."""
        events: list[capture_pb2.MonitorEvent] = []
        take: Callable[[Arrived], None] = self._live.put
        for item in inbox:
            if isinstance(item, Arrived):
                take(item)
                continue
            events.append(item)
            match item.WhichOneof("what"):
                case "begun":
                    self._live.describe(info_of(item.begun.info_json).tracks)
                case "info_json":
                    self._live.describe(info_of(item.info_json).tracks)
                case "paused" if item.paused:
                    self._live.revoke(item.at_ns)
                case "held":
                    self._live.revoke(item.at_ns, item.held)
                case "ended":
                    self._live.revoke(item.at_ns)
                    self._ended = True
        chunks = self._live.due(self.now_ns())
        return Heard(events, chunks, lost + self._live.take_lost())
