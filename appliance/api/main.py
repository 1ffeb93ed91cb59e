"""The control process as a program.

Asyncio (grpc.aio), since most of what is open at a time are watches that wait; whatever computes or blocks (database,
reading sealed files, rendering) is done in bounded pools of threads.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from appliance.api.control import PROVISION_S, Control
from appliance.process import child as process
from appliance.process.child import Child

START_S: Final = 15.0  # how long the catalogue's database is waited for before the box is ready without it


async def _serve(child: Child) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_stop() -> None:
        loop.call_soon_threadsafe(stop.set)

    child.on_stop(on_stop)
    control = Control(child.settings, child.status)
    try:
        internal = await child.serve_aio(lambda server: None)
        stopping: asyncio.Future[Any] = asyncio.create_task(stop.wait())
        starting = asyncio.create_task(control.start())
        await asyncio.wait({starting, stopping}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done() and not stop.is_set():
            # The catalogue's database is away: the box records without it, so it is not kept from starting.
            child.ready()
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await internal.stop(1.0)
            return
        port = starting.result()
        provisioned: asyncio.Future[Any] = asyncio.create_task(control.provisioned.wait())
        # A box that is ready takes calls: the first start waits for the vault to give the tenant its key.
        await asyncio.wait(
            {provisioned, stopping, control.failed}, timeout=PROVISION_S, return_when=asyncio.FIRST_COMPLETED
        )
        provisioned.cancel()
        if not stop.is_set() and not control.failed.done():
            address = child.settings.api.address
            host = f"[{address}]" if ":" in address else address
            ports = {"api": port, "tokens": control.token_port}
            child.ready(**{what: f"{host}:{number}" for what, number in ports.items() if number is not None})
            await asyncio.wait({stopping, control.failed}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await internal.stop(1.0)
        if control.failed.done():
            control.failed.result()
    finally:
        await control.stop()


def main() -> None:
    """Runs until the process is told to stop."""
    asyncio.run(_serve(process.start("control")))
