"""What listening stands on: capture's workers, threads that decode, and who listens to what now."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio

from appliance.api.store import Signal
from appliance.config.settings import Settings
from appliance.media.signaling.errors import CaptureUnavailableError
from appliance.model import EarwitnessError, ExhaustedError, Kind
from appliance.process import rpc
from earwitness.internal.v1 import capture_pb2 as pb
from earwitness.internal.v1 import capture_pb2_grpc

MAX_OF_CALL: Final = 4
MAX_OF_BOX: Final = 16
_ASK_S: Final = 5.0
_THREADS: Final = 2


class ListenersFullError(ExhaustedError):
    """As many listen to this call, or to calls of this box, as may; `data['limit']`."""

    reason = "TOO_MANY_LISTENERS"


@dataclass(frozen=True)
class Found:
    """A recording that is being made, and in which worker."""

    worker: int
    recording_id: str
    session: pb.GetSessionResponse


class ListenPost:
    """See the module. `changed` is notified when somebody begins or ends to listen."""

    def __init__(self, settings: Settings, changed: Signal) -> None:
        workers = range(settings.media.worker_count)
        self._channels = [rpc.aio_channel(settings.layout, f"capture-{number}") for number in workers]
        self._stubs: list[capture_pb2_grpc.CaptureServiceAsyncStub] = [
            capture_pb2_grpc.CaptureServiceStub(channel) for channel in self._channels
        ]
        self.changed = changed
        self._all: Counter[str] = Counter()
        self._shown: Counter[str] = Counter()
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="listening")

    def count(self, call_id: str, *, to_agent: bool) -> int:
        """How many listen to a call; an agent is told where its line says so."""
        return (self._shown if to_agent else self._all)[call_id]

    @contextlib.contextmanager
    def place(self, call_id: str, *, shown: bool) -> Iterator[None]:
        """Somebody listens, as long as this lasts. ListenersFullError."""
        for count, limit in ((self._all[call_id], MAX_OF_CALL), (self._all.total(), MAX_OF_BOX)):
            if count >= limit:
                raise ListenersFullError("as many listen as may", limit=limit)
        counters = (self._all, self._shown) if shown else (self._all,)
        for counter in counters:
            counter[call_id] += 1
        self.changed.notify()
        try:
            yield
        finally:
            for counter in counters:
                counter[call_id] -= 1
                if not counter[call_id]:
                    del counter[call_id]
            self.changed.notify()

    async def find(self, recording_ids: Sequence[str]) -> Found | None:
        """The newest of these recordings that is being made; None: none is. CaptureUnavailableError."""
        away: EarwitnessError | None = None
        for recording_id in reversed(recording_ids):
            for worker in range(len(self._stubs)):
                try:
                    return Found(worker, recording_id, await self.session(worker, recording_id))
                except EarwitnessError as error:
                    # Not here, or not recorded any more.
                    if error.kind is Kind.UNAVAILABLE:
                        away = error
                    elif error.kind not in (Kind.NOT_FOUND, Kind.PRECONDITION):
                        raise
        if away is not None:
            raise away
        return None

    async def session(self, worker: int, recording_id: str) -> pb.GetSessionResponse:
        """What capture says of it; CaptureUnavailableError, or what capture refuses."""
        request = pb.GetSessionRequest(session_id=recording_id)
        try:
            return await self._stubs[worker].GetSession(request, timeout=_ASK_S)
        except grpc.RpcError as error:
            raise _capture_error(error) from error

    async def monitor(
        self, worker: int, request: pb.MonitorRequest
    ) -> AsyncGenerator[pb.MonitorResponse, None]:
        """What is recorded, as it comes. Errors as `session`; who ends early ends it in capture."""
        stream = self._stubs[worker].Monitor(request)
        try:
            async for message in stream:
                yield message
        except grpc.RpcError as error:
            raise _capture_error(error) from error
        finally:
            stream.cancel()

    async def close(self) -> None:
        await asyncio.gather(*(channel.close(None) for channel in self._channels))
        self.threads.shutdown(wait=False, cancel_futures=True)


def _capture_error(error: grpc.RpcError) -> EarwitnessError:
    found = rpc.from_rpc_error(error)
    if found.reason in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"):
        return CaptureUnavailableError("capture does not answer: nothing can be listened to")
    return found
