"""Capture's workers as seen from here: which answer, what they have open, and the commands they take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import structlog

from appliance.config.layout import Layout
from appliance.media.signaling.errors import CaptureUnavailableError
from appliance.model import EarwitnessError, Kind
from appliance.process import rpc
from appliance.process.status import ALARM, Status
from earwitness.internal.v1 import capture_pb2 as pb
from earwitness.internal.v1 import capture_pb2_grpc

LIST_INTERVAL_S = 1.0
RETRY_S = 0.1
MOST_RETRY_S = 1.0
COMMAND_S = 5.0
CLOSE_S = 30.0
DOWN = "CaptureUnreachable"
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)

log = structlog.get_logger()

Listed = Callable[["Worker", list[pb.SessionState], float], Awaitable[None]]


class Worker:
    """One capture process. `up` is set while it answers; `load` counts the sessions we have there."""

    def __init__(self, number: int, channel: grpc.aio.Channel) -> None:
        self.number = number
        self.name = f"capture-{number}"
        self.up = asyncio.Event()
        self.met = False  # its sessions have been looked through since our start
        self.load = 0
        self._channel = channel
        self._stub: Any = capture_pb2_grpc.CaptureServiceStub(channel)

    async def ask(self, method: str, request: Any, timeout: float = COMMAND_S) -> Any:
        """One command. Raises the error that capture raised, CaptureUnavailableError where it does not answer."""
        try:
            return await getattr(self._stub, method)(request, timeout=timeout)
        except grpc.RpcError as error:
            if error.code() in _AWAY:
                raise CaptureUnavailableError(
                    f"{self.name} does not answer",
                    worker=self.number,
                    late=error.code() is grpc.StatusCode.DEADLINE_EXCEEDED,
                ) from error
            raise rpc.from_rpc_error(error) from error

    async def watch(self, request: pb.WatchMediaRequest) -> AsyncIterator[pb.WatchMediaResponse]:
        """What happens in its media. Raises as `ask`."""
        try:
            async for message in self._stub.WatchMedia(request):
                yield message
        except grpc.RpcError as error:
            if error.code() in _AWAY:
                raise CaptureUnavailableError(f"{self.name} does not answer", worker=self.number) from error
            raise rpc.from_rpc_error(error) from error

    async def close(self) -> None:
        """Ends the channel."""
        await self._channel.close(None)


class Workers:
    """All workers. `listed` is called with what each has open, about once a second and when it comes back."""

    def __init__(
        self,
        layout: Layout,
        count: int,
        status: Status,
        listed: Listed,
        *,
        interval_s: float = LIST_INTERVAL_S,
    ) -> None:
        self.all = [Worker(number, rpc.aio_channel(layout, f"capture-{number}")) for number in range(count)]
        self._status = status
        self._listed = listed
        self._interval_s = interval_s
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to follow them."""
        self._tasks = [asyncio.create_task(self._follow(worker)) for worker in self.all]

    async def close(self) -> None:
        """Ends it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self.all:
            await worker.close()

    @property
    def any_up(self) -> bool:
        """Whether a call can be opened anywhere."""
        return any(worker.up.is_set() for worker in self.all)

    def by_load(self, first: Worker | None = None) -> list[Worker]:
        """Workers to try, `first` before all, then those that answer, the least busy first."""
        others = sorted(
            (worker for worker in self.all if worker is not first),
            key=lambda worker: (not worker.up.is_set(), worker.load, worker.number),
        )
        return [first, *others] if first is not None and first.up.is_set() else others

    async def _follow(self, worker: Worker) -> None:
        delay = RETRY_S
        while True:
            asked = time.monotonic()
            try:
                answer = await worker.ask("ListSessions", pb.ListSessionsRequest(brief=worker.met))
            except EarwitnessError as error:
                if worker.up.is_set():
                    log.warning("capture away", worker=worker.number, reason=error.reason)
                worker.up.clear()
                self._tell()
                await asyncio.sleep(delay)
                delay = min(2 * delay, MOST_RETRY_S)
                continue
            try:
                await self._listed(worker, list(answer.sessions), asked)
            except EarwitnessError as error:
                # A command in answer to the list failed; the next list shows what is still to be done.
                log.warning("capture not followed", worker=worker.number, reason=error.reason)
                if error.kind is Kind.UNAVAILABLE:
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, MOST_RETRY_S)
                    continue
            except Exception:
                log.exception("following capture failed", worker=worker.number)
            else:
                worker.met = True
            if not worker.up.is_set():
                log.info("capture answers", worker=worker.number, sessions=len(answer.sessions))
                worker.up.set()
                self._tell()
            delay = RETRY_S
            await asyncio.sleep(self._interval_s)

    def _tell(self) -> None:
        away = [worker.number for worker in self.all if not worker.up.is_set()]
        if not away:
            self._status.clear_condition(DOWN)
        else:
            numbers = ", ".join(map(str, away))
            self._status.raise_condition(
                DOWN,
                ALARM,
                f"Capture {numbers} of {len(self.all)} does not answer: nothing is recorded there.",
            )
