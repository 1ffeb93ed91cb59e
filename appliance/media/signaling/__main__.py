"""`python -m appliance.media.signaling --settings FILE`."""

from __future__ import annotations

import asyncio

from appliance.media.signaling.service import Signaling
from appliance.process import child


async def _serve(process: child.Child) -> None:
    await Signaling(process).run()


def main() -> None:
    """Runs until told to stop."""
    process = child.start("signaling")
    asyncio.run(_serve(process))


if __name__ == "__main__":
    child.run(main)
