"""What a process says of itself: named conditions and counters. Safe to use from any thread."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import grpc

from earwitness.internal.v1 import process_pb2, process_pb2_grpc

INFO = process_pb2.SEVERITY_INFO
WARNING = process_pb2.SEVERITY_WARNING
ALARM = process_pb2.SEVERITY_ALARM


@dataclass(frozen=True)
class Condition:
    """Something that somebody may have to act on."""

    type: str
    severity: process_pb2.Severity.ValueType
    message: str
    since_ns: int


class Status:
    """Conditions and counters of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._conditions: dict[str, Condition] = {}
        self._counters: dict[str, int] = {}

    def raise_condition(self, type_: str, severity: process_pb2.Severity.ValueType, message: str) -> None:
        """Names a condition; raising it again keeps its beginning. The message holds no personal data."""
        with self._lock:
            before = self._conditions.get(type_)
            since = before.since_ns if before else time.time_ns()
            self._conditions[type_] = Condition(type_, severity, message, since)

    def clear_condition(self, type_: str) -> None:
        """The condition is over; nothing happens where it was not there."""
        with self._lock:
            self._conditions.pop(type_, None)

    def count(self, name: str, amount: int = 1) -> None:
        """Adds to a counter."""
        with self._lock:
            self._counters[name] = self._counters.get(name, 0) + amount

    def gauge(self, name: str, value: int) -> None:
        """Sets a figure."""
        with self._lock:
            self._counters[name] = value

    def conditions(self) -> list[Condition]:
        """The present conditions."""
        with self._lock:
            return list(self._conditions.values())

    def counters(self) -> dict[str, int]:
        """The present figures."""
        with self._lock:
            return dict(self._counters)


class ProcessServicer(process_pb2_grpc.ProcessServiceServicer):
    """ProcessService: what `box status` gathers."""

    def __init__(self, process: str, pid: int, status: Status) -> None:
        self._process = process
        self._pid = pid
        self._started_ns = time.time_ns()
        self._began_ns = time.monotonic_ns()
        self._status = status

    def answer(self) -> process_pb2.GetProcessStatusResponse:
        """The state as a message."""
        return process_pb2.GetProcessStatusResponse(
            process=self._process,
            pid=self._pid,
            started_ns=self._started_ns,
            conditions=[
                process_pb2.Condition(
                    type=found.type, severity=found.severity, message=found.message, since_ns=found.since_ns
                )
                for found in self._status.conditions()
            ],
            counters=self._status.counters(),
            uptime_ns=time.monotonic_ns() - self._began_ns,
        )

    def GetProcessStatus(
        self, request: process_pb2.GetProcessStatusRequest, context: grpc.ServicerContext
    ) -> process_pb2.GetProcessStatusResponse:
        """See process.proto."""
        return self.answer()


class AioProcessServicer(process_pb2_grpc.ProcessServiceServicer):
    """The same for grpc.aio servers."""

    def __init__(self, process: str, pid: int, status: Status) -> None:
        self._inner = ProcessServicer(process, pid, status)

    async def GetProcessStatus(
        self, request: process_pb2.GetProcessStatusRequest, context: object
    ) -> process_pb2.GetProcessStatusResponse:
        """See process.proto."""
        return self._inner.answer()
