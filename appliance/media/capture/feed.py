"""What happens in the media, told to whoever watches: a bounded queue for each watcher."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field

from appliance.model import ExhaustedError

MAX_WAITING = 4096
"""Events that wait for one watcher; more are not kept for somebody who does not read."""
MAX_WATCHERS = 4  # each holds one of the server's threads


class WatcherTooSlowError(ExhaustedError):
    """The watcher did not read what it was told; it may watch anew, and ask for the state of things."""

    reason = "MEDIA_WATCHER_TOO_SLOW"


class TooManyWatchersError(ExhaustedError):
    """Enough callers watch this worker's media already; `data['limit']`."""

    reason = "TOO_MANY_WATCHERS"


@dataclass(frozen=True, slots=True)
class PlayEnd:
    """See PlayEnded of the contract."""

    play_id: str
    whole: bool
    played_ms: int
    interrupted: bool


@dataclass(frozen=True, slots=True)
class MediaEvent:
    """One thing that happened to a participant; `at_ns` by the wall clock. Exactly one of the last three says what."""

    session_id: str
    track: int
    at_ns: int
    key: str = field(default="", repr=False)  # what somebody keys in may be a card's number
    code: str = field(default="", repr=False)
    play: PlayEnd | None = None


class Watcher:
    """One who watches."""

    def __init__(self) -> None:
        self._queue: queue.Queue[MediaEvent | None] = queue.Queue(MAX_WAITING)
        self._overrun = threading.Event()

    def take(self, timeout_s: float) -> MediaEvent | None:
        """The next event; None where none came in time, or after `end`. WatcherTooSlowError once it was too much."""
        if self._overrun.is_set():
            raise WatcherTooSlowError("more has happened than was read", limit=MAX_WAITING)
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def wake(self) -> None:
        """Lets whoever waits look around."""
        self.put(None)

    def put(self, event: MediaEvent | None) -> bool:
        """False where there is no room."""
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._overrun.set()
            return False
        return True


class MediaFeed:
    """Safe from any thread; `publish` never waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: list[Watcher] = []
        self._closed = False

    @property
    def closed(self) -> bool:
        """The worker ends: nothing will be told any more."""
        return self._closed

    def watch(self) -> Watcher:
        """What happens from now on; give it back with `leave`."""
        with self._lock:
            if len(self._watchers) >= MAX_WATCHERS:
                raise TooManyWatchersError("too many watch already", limit=MAX_WATCHERS)
            watcher = Watcher()
            self._watchers.append(watcher)
            return watcher

    def leave(self, watcher: Watcher) -> None:
        with self._lock:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

    def publish(self, event: MediaEvent) -> None:
        with self._lock:
            self._watchers = [watcher for watcher in self._watchers if watcher.put(event)]

    def close(self) -> None:
        """Wakes all watchers for the last time."""
        with self._lock:
            self._closed = True
            for watcher in self._watchers:
                watcher.put(None)
