"""What is done to recordings otherwise than over the API, kept until control has written it down (signaling.proto).

Control asks for what comes after the last act that it has, so one that restarts misses nothing and is told nothing
twice. An agent's number is not told: it stands on the recording's timeline, and goes with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from appliance.model import new_id
from earwitness.internal.v1 import signaling_pb2 as pb

MAX_KEPT = 4096
MAX_REFUSED_A_CALL = 50
"""Refusals told of one call; whoever goes on pressing keys fills no log."""
MAX_WHY = 64


class Acts:
    """The newest acts of this life of signaling; the oldest go where nobody asks for them."""

    def __init__(self, kept: int = MAX_KEPT) -> None:
        self.epoch = new_id()
        self._kept: deque[pb.Act] = deque(maxlen=kept)
        self._serial = 0
        self._news = asyncio.Event()

    def tell(
        self,
        call: pb.LiveCall,
        action: pb.CallAction.ValueType,
        by: pb.ActBy.ValueType,
        at_ns: int,
        refused: str = "",
    ) -> None:
        """`refused` says why not, "" where it was done."""
        self._serial += 1
        self._kept.append(
            pb.Act(
                serial=self._serial,
                at_ns=at_ns,
                call_id=call.call_id,
                tenant_id=call.tenant_id,
                line_id=call.line_id,
                recording_id=call.recording_ids[-1] if call.recording_ids else "",
                action=action,
                by=by,
                refused=refused[:MAX_WHY],
            )
        )
        self._news.set()
        self._news = asyncio.Event()

    async def watch(self, epoch: str, after: int) -> AsyncIterator[pb.WatchActsResponse]:
        """First the life, then each act that the caller has not seen."""
        seen = after if epoch == self.epoch else 0
        yield pb.WatchActsResponse(epoch=self.epoch)
        while True:
            news = self._news
            for act in [one for one in self._kept if one.serial > seen]:
                yield pb.WatchActsResponse(epoch=self.epoch, act=act)
                seen = act.serial
            await news.wait()
