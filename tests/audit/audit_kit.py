"""A log in a directory, with a clock that a test moves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.audit import entry, segments
from appliance.audit.log import Log
from appliance.audit.opening import Opened, open_log

START = 1_764_000_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = START

    def __call__(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns


@contextmanager
def running(control: Path, **options: object) -> Iterator[Log]:
    """The log of a control directory, closed in good order at the end."""
    control.mkdir(exist_ok=True)
    log = Log(open_log(control, Clock()), **{"sign_s": 3600.0, **options})
    try:
        yield log
    finally:
        log.close()


def opened(control: Path) -> Opened:
    return open_log(control, Clock())


def record(number: int, **more: object) -> dict[str, object]:
    return {"time_ns": START + number, "what": "asked", "request": f"r{number}", "who": "admin", **more}


def line(number: int, **more: object) -> bytes:
    return entry.pack(record(number, **more))


def write(log: Log, count: int, *, start: int = 0, durable: bool = True, **more: object) -> None:
    """So many entries, numbered from `start`."""
    wanted = [log.submit(line(number, **more), durable=durable) for number in range(start, start + count)]
    for one in wanted:
        one.result(10)


def lines(control: Path) -> list[bytes]:
    """All entries as they are on disk."""
    folder = control / "audit"
    return [
        found
        for serial in segments.serials(folder)
        for _, found in segments.lines(segments.path_of(folder, serial))
    ]


def records(control: Path) -> list[dict]:
    return [json.loads(one) for one in lines(control)]


def segment(control: Path, serial: int = 1) -> Path:
    return segments.path_of(control / "audit", serial)


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))
