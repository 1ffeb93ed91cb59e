"""Renderings that are called off, and what is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from appliance.api.renders import MemoryFile, Progress, RenderCancelled, Renders

KEY = ("a" * 26, "wav")


def test_a_rendering_that_was_called_off_does_not_hide_the_one_after_it():
    first, second = threading.Event(), threading.Event()

    def work(until: threading.Event):
        def render(file: MemoryFile, progress: Progress) -> None:
            assert until.wait(10)
            file.write(b"speech")
            progress(1.0)

        return render

    async def run() -> None:
        renders = Renders()
        try:
            with renders.job(KEY, work(first)) as one:
                pass  # whoever wanted it has gone
            with renders.job(KEY, work(second)) as two:
                first.set()
                with contextlib.suppress(RenderCancelled):
                    await one.task
                assert renders.recordings() == [KEY[0]], "it is on its way"
                renders.forget(KEY[0])  # erased, or its tenant's keys were locked
                second.set()
                with pytest.raises(RenderCancelled):
                    await two.task
            assert renders.recordings() == [] and renders.held(KEY) is None
        finally:
            renders.close()

    asyncio.run(run())
