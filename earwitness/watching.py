"""The feed of events as an iterator that goes on where it was when the connection breaks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

import grpc

from earwitness.client import Client
from earwitness.errors import details
from earwitness.v1 import events_pb2 as pb

# Breaks of the connection or of the box, and what is answered otherwise when asked anew; all else is said to the caller.
_AGAIN: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.ABORTED,  # what the caller may see has changed
)
FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 30.0


def watch_events(
    client: Client,
    parent: str = "tenants/-",
    *,
    resume_token: str = "",
    from_oldest: bool = False,
    types: Sequence[pb.EventType.ValueType] = (),
    attempts: int | None = None,
) -> Iterator[pb.Event]:
    """Events, each once and in order, without end. Keep `event.resume_token` of the last one you are done with: given
    back, it makes the next watch go on after that one, also in another process.

    A broken connection is taken up again, for ever or `attempts` times in a row. grpc.RpcError with reason
    RESUME_TOKEN_EXPIRED (see `errors.details`) says that events were lost to you: list anew, and watch without a token.
    """
    failures = 0
    token = resume_token
    while True:
        request = pb.WatchEventsRequest(
            parent=parent, resume_token=token, from_oldest=from_oldest and not token, types=types
        )
        stream = client.events.WatchEvents(request)
        try:
            for message in stream:
                failures = 0
                if message.HasField("event"):
                    yield message.event
                # After the yield: what the caller was not given is asked for again.
                token = message.resume_token
        except grpc.RpcError as error:
            found = details(error)
            failures += 1
            if found.code not in _AGAIN or (attempts is not None and failures > attempts):
                raise
            time.sleep(found.retry_after_s or min(FIRST_WAIT_S * 2**failures, LONGEST_WAIT_S))
        finally:
            stream.cancel()
