"""What the service needs of the loop, and waiting for it in a thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Protocol, TypeVar

import grpc

from appliance.media.capture.commands import Close, Closed, Open, Ports, Update
from appliance.model import UnavailableError

T = TypeVar("T")
WAIT_S = 10.0


class CaptureBusyError(UnavailableError):
    """The worker, or its disk, takes too long; what was asked is carried out all the same."""

    reason = "CAPTURE_BUSY"


class Loop(Protocol):
    """Runs things in the thread that owns all recordings."""

    def call(self, function: Callable[[], T]) -> Future[T]: ...

    def open(self, command: Open) -> Future[list[Ports]]: ...

    def update(self, command: Update) -> Future[list[Ports]]: ...

    def close(self, command: Close) -> Future[Closed]: ...


def awaited(future: Future[T], context: grpc.ServicerContext) -> T:
    """The loop's answer, as long as its caller waits for it; CaptureBusyError then: the command is carried out."""
    left = context.time_remaining()
    try:
        return future.result(WAIT_S if left is None else min(left, WAIT_S))
    except FutureTimeoutError:
        raise CaptureBusyError(
            "the worker has not answered in time; it goes on with what was asked"
        ) from None
