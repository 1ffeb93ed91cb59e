"""Waiting for the loop, in a thread of the service."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeVar

import grpc

from appliance.model import UnavailableError

T = TypeVar("T")
WAIT_S = 10.0


class CaptureBusyError(UnavailableError):
    """The worker, or its disk, takes too long; what was asked is carried out all the same."""

    reason = "CAPTURE_BUSY"


def awaited(future: Future[T], context: grpc.ServicerContext) -> T:
    """The loop's answer, as long as its caller waits for it; CaptureBusyError then: the command is carried out."""
    left = context.time_remaining()
    try:
        return future.result(WAIT_S if left is None else min(left, WAIT_S))
    except FutureTimeoutError:
        raise CaptureBusyError(
            "the worker has not answered in time; it goes on with what was asked"
        ) from None
