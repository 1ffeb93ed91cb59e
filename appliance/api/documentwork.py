"""Everything that documents need, put together for the control process."""

from __future__ import annotations

from appliance.api.documents import Documents
from appliance.api.parts import Parts
from appliance.api.serving import Serving
from appliance.audit.trail import Trail


class DocumentWork:
    """`servicer` answers, `run` notes how the box serves, until it is cancelled."""

    def __init__(self, parts: Parts, trail: Trail) -> None:
        self.serving = Serving(parts.store, parts.follower, parts.clock_ns)
        self.servicer = Documents(parts, trail, self.serving)

    async def run(self) -> None:
        await self.serving.run()
