"""Recordings in several parts, where capture died in between: the seam, and the last part of a call that ended before
capture was back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from appliance.media.signaling.capture import Worker
from appliance.model import EarwitnessError, Mark, MarkKind

CAPTURE_RESTARTED = "capture-restart"
LATE_S = 30.0  # capture is back in one or two; a box that is busy with all of them takes longer
LATE_EVERY_S = 0.5
LATE_AT_ONCE = 16

log = structlog.get_logger()


def seam(before: str, started_ns: int, gap_from_ns: int, cause: str) -> tuple[int, tuple[Mark, Mark]]:
    """When the part behind `before`, which began at `started_ns`, begins, and the marks that say why.

    What waited in the sockets is older than the new part: its timeline begins where the one before may have ended, at
    `gap_from_ns` where that is known.
    """
    now_ns = time.time_ns()
    begin_ns = max(min(gap_from_ns or now_ns, now_ns), started_ns + 1)
    data: dict[str, str | int | float | bool] = {
        "until_ns": now_ns,
        "from_ns": gap_from_ns,
        "cause": cause,
    }
    return begin_ns, (
        Mark(kind=MarkKind.RESTARTED, at_ns=now_ns, reason=cause, data={"previous": before}),
        Mark(kind=MarkKind.GAP, at_ns=begin_ns, reason=cause, data=data),
    )


class Late:
    """Last parts of calls that are over: what waits in their sockets."""

    def __init__(self) -> None:
        self._at_once = asyncio.Semaphore(LATE_AT_ONCE)

    async def keep(
        self,
        worker: Worker,
        call_id: str,
        wanted: Callable[[], bool],
        reopen: Callable[[], Awaitable[None]],
        close: Callable[[], Awaitable[bool]],
    ) -> None:
        """Opens the last part and closes it, once the worker is back: tried for LATE_S, as long as it is `wanted`.

        `reopen` raises EarwitnessError where there is no session yet; `close` gives False where its worker has died
        again. The worker's load is counted here until `reopen` is through, and given back by `close`.
        """
        deadline = time.monotonic() + LATE_S
        while wanted() and time.monotonic() < deadline:
            try:
                await asyncio.wait_for(worker.up.wait(), LATE_EVERY_S)  # what still goes on is opened before
            except TimeoutError:
                continue
            async with self._at_once:
                worker.load += 1
                try:
                    await reopen()
                except EarwitnessError as error:
                    worker.load -= 1
                    log.info("not opened again yet", reason=error.reason, call=call_id)
                else:
                    if await close():
                        return
            await asyncio.sleep(LATE_EVERY_S)
        log.warning("what waited in the sockets of a call that ended is lost", call=call_id)
