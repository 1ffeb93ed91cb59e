"""Asks every process of the box how it is; conditions that come and go become events."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import Final

import grpc
import grpc.aio

from appliance.alarms import life
from appliance.alarms.kinds import KINDS
from appliance.alarms.severity import Severity
from appliance.api.store import Store
from appliance.catalog import alarmsync, told
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.config.settings import Settings
from appliance.process import rpc
from appliance.process.status import ALARM, WARNING, ProcessServicer, Status
from earwitness.internal.v1 import process_pb2, process_pb2_grpc

EVERY_S: Final = 3.0
SILENCE_S: Final = 8.0  # before a process is said to be down: a start and a restart take a moment
_ASK_S: Final = 2.0
DOWN: Final = "ProcessDown"
_ALARMS: Final = {
    ALARM: Severity.CRITICAL,
    WARNING: Severity.WARNING,
}  # conditions that are alarms while they stand


@dataclass
class Seen:
    """What is known of one process."""

    process: str
    answer: process_pb2.GetProcessStatusResponse | None = None
    silent_since: tuple[float, int] | None = None  # by the clock that does not jump, and by the wall clock
    stood_since: dict[str, int] = field(default_factory=dict)  # by type, on the clock that does not jump

    def take(self, answer: process_pb2.GetProcessStatusResponse) -> None:
        """It answers."""
        now_ns = time.monotonic_ns()
        self.answer, self.silent_since = answer, None
        self.stood_since = {one.type: self.stood_since.get(one.type, now_ns) for one in answer.conditions}

    def is_starting(self, type_: str) -> bool:
        """Whether this condition is no alarm yet, as the process has just started."""
        if self.answer is None or type_ not in self.stood_since:
            return False
        stood_ns = time.monotonic_ns() - self.stood_since[type_]
        kind = KINDS.get(type_)
        return kind is not None and life.is_starting(kind.at_start, self.answer.uptime_ns, stood_ns)

    @property
    def known(self) -> bool:
        """Whether it answers, or was silent for long enough to say that it does not."""
        return self.up or (
            self.silent_since is not None and time.monotonic() - self.silent_since[0] >= SILENCE_S
        )

    @property
    def up(self) -> bool:
        return self.answer is not None

    def conditions(self) -> list[process_pb2.Condition]:
        """Its own, or that it is down."""
        if self.answer is not None:
            return list(self.answer.conditions)
        if self.silent_since is None or not self.known:
            return []
        return [
            process_pb2.Condition(
                type=DOWN,
                severity=ALARM,
                message="This process does not answer; the supervisor restarts it.",
                since_ns=self.silent_since[1],
            )
        ]


class Processes:
    """All processes of the box, control included."""

    def __init__(self, settings: Settings, store: Store, status: Status) -> None:
        workers = [f"capture-{number}" for number in range(settings.media.worker_count)]
        names = ["signaling", *workers, "vault"]
        self._store = store
        self._own = ProcessServicer("control", os.getpid(), status)
        self._control = Seen("control")
        self._seen = {name: Seen(name) for name in names}
        self._channels = {name: rpc.aio_channel(settings.layout, name) for name in names}
        self._stubs: dict[str, process_pb2_grpc.ProcessServiceAsyncStub] = {
            name: process_pb2_grpc.ProcessServiceStub(channel) for name, channel in self._channels.items()
        }

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except CatalogueUnavailableError:
                pass  # its condition is raised, and told once it can be written
            await asyncio.sleep(EVERY_S)

    async def look(self, *, tells: bool = True) -> list[Seen]:
        """Ask all of them now; with `tells`, what changed becomes events."""
        await asyncio.gather(*(self._ask(seen) for seen in self._seen.values()))
        self._control.take(self._own.answer())
        everybody = [*self._seen.values(), self._control]
        if not tells:
            return everybody
        standing = [(seen, condition) for seen in everybody for condition in seen.conditions()]
        present = {(seen.process, condition.type): condition.message for seen, condition in standing}
        starting = {
            (seen.process, condition.type) for seen, condition in standing if seen.is_starting(condition.type)
        }
        weights = {
            (seen.process, condition.type): _ALARMS[condition.severity]
            for seen, condition in standing
            if condition.severity in _ALARMS and (seen.process, condition.type) not in starting
        }
        # Of who is silent for a moment nothing new is known.
        asked = [seen.process for seen in everybody if seen.known]
        now_ns = time.time_ns()
        if await self._store.read(lambda connection: told.differ(connection, present, asked)):
            await self._store.write(lambda connection: told.conditions(connection, present, asked, now_ns))
        if await self._store.read(lambda connection: alarmsync.differ(connection, weights, asked, starting)):
            await self._store.write(
                lambda connection: alarmsync.sync(connection, weights, asked, now_ns, starting)
            )
        return everybody

    async def _ask(self, seen: Seen) -> None:
        try:
            answer = await self._stubs[seen.process].GetProcessStatus(
                process_pb2.GetProcessStatusRequest(), timeout=_ASK_S
            )
        except grpc.RpcError:
            # No answer is the answer: it is shown as such.
            seen.answer = None
            if seen.silent_since is None:
                seen.silent_since = (time.monotonic(), time.time_ns())
        else:
            seen.take(answer)

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)
