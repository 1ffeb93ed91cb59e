"""Who watches is told in order, and is never waited for."""

from __future__ import annotations

import pytest

from appliance.media.capture.feed import (
    MAX_WAITING,
    MAX_WATCHERS,
    MediaEvent,
    MediaFeed,
    TooManyWatchersError,
    WatcherTooSlowError,
)


def event(at: int) -> MediaEvent:
    return MediaEvent("s", 0, at, key="1")


def test_each_watcher_is_told_all_from_when_it_came() -> None:
    feed = MediaFeed()
    feed.publish(event(1))
    first = feed.watch()
    feed.publish(event(2))
    second = feed.watch()
    feed.publish(event(3))
    assert [first.take(0), first.take(0)] == [event(2), event(3)]
    assert second.take(0) == event(3)
    assert second.take(0.001) is None
    feed.leave(first)
    feed.leave(first)
    feed.publish(event(4))
    assert first.take(0.001) is None


def test_who_does_not_read_is_ended_and_the_others_are_not() -> None:
    feed = MediaFeed()
    slow, good = feed.watch(), feed.watch()
    for at in range(MAX_WAITING + 10):
        feed.publish(event(at))
        assert good.take(0) == event(at)
    with pytest.raises(WatcherTooSlowError):
        slow.take(0)
    feed.publish(event(-1))
    assert good.take(0) == event(-1)


def test_only_so_many_watch() -> None:
    feed = MediaFeed()
    watchers = [feed.watch() for _ in range(MAX_WATCHERS)]
    with pytest.raises(TooManyWatchersError):
        feed.watch()
    feed.leave(watchers[0])
    feed.watch()


def test_the_end_wakes_whoever_waits() -> None:
    feed = MediaFeed()
    watcher = feed.watch()
    feed.close()
    assert watcher.take(30) is None
    assert feed.closed
