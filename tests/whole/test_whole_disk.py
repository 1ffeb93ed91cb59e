"""A disk that is full in the middle of a call: what was durable stays, what came meanwhile waits in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import whole_kit as kit
from embedded_kit import started

from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.demo.sbc import Sbc

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted, which wants root"),
]
SECONDS = 8.0


@contextlib.contextmanager
def small_disk(path: Path, mebibytes: int) -> Iterator[None]:
    path.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0700", "tmpfs", str(path)], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def conditions(box: EmbeddedBox) -> set[str]:
    return {one["type"] for one in kit.status(box)["conditions"]}


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(512))


def test_a_full_disk_loses_nothing_of_a_call_that_outlasts_it(tmp_path: Path) -> None:
    payloads = [kit.noise(SECONDS, 1), kit.noise(SECONDS, 2)]

    async def call(box: EmbeddedBox, filler: Path) -> None:
        async with Sbc("udp", box.sip("udp")) as sbc:
            placed = await sbc.place(kit.parties(1), payloads)
            playing = asyncio.create_task(placed.play())
            await asyncio.sleep(2)  # the call goes on while the disk is filled
            await asyncio.to_thread(fill, filler)
            await asyncio.to_thread(
                kit.until, lambda: "DiskFull" in conditions(box), "the box says that its disk is full"
            )
            filler.unlink()
            await playing
            await placed.hang_up()

    disk = tmp_path / "disk"
    with small_disk(disk, 32), started(disk / "data") as box:
        asyncio.run(call(box, disk / "filler"))
        (found,) = kit.until(lambda: kit.recordings(box), "the recording is filed")
        sound = kit.wav(box, found["name"], tmp_path)
        for payload, channel in zip(payloads, sound, strict=True):
            assert kit.heard_whole(channel, payload)
        assert found["whole"]
        kit.until(lambda: "DiskFull" not in conditions(box), "the condition is over")
