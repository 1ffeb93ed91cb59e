"""What is wrong with a pool, told within a second, with what to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.storage.vault.errors import StoreUnavailableError
from appliance.storage.vault.stored import Space
from appliance.storage.vault.zfs.health import Health, disks
from appliance.storage.vault.zfs.pool import Pool
from appliance.storage.vault.zfs.trouble import Trouble

ROOM = Space(60, 100)


def status(pool: str = "ONLINE", lost: str = "0", **disk: str) -> dict[str, Any]:
    leaf = {"state": "ONLINE", "read_errors": "0", "write_errors": "0", "checksum_errors": "0"}
    return {
        "name": "tank",
        "state": pool,
        "error_count": lost,
        "vdevs": {
            "tank": {
                "name": "tank",
                "vdevs": {
                    "mirror-0": {
                        "name": "mirror-0",
                        "state": pool,
                        "vdevs": {
                            "vda": {"name": "vda", **leaf},
                            "vdb": {"name": "vdb", **leaf, **disk},
                        },
                    }
                },
            }
        },
    }


class House:
    def __init__(self, folder: Path) -> None:
        self.state = folder / "tank/state"
        self.state.parent.mkdir()
        self.state.write_text("ONLINE\n")
        self.now, self.stuck, self.relieved = 0.0, 0, False
        self.found: tuple[dict[str, Any], Space] | Exception = (status(), ROOM)
        self.looks = 0
        self.wait = threading.Event()
        self.wait.set()
        self.health = Health(
            Pool("tank", folder), self.look, lambda: self.stuck, lambda: self.relieved, lambda: self.now
        )

    def look(self) -> tuple[dict[str, Any], Space]:
        self.looks += 1
        self.wait.wait(20)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def names(self, later: float = 10.0) -> list[str]:
        self.now += later
        return [one.name for one in self.health.ailments()]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.wait.set()


def test_a_sound_pool_says_nothing(house: House) -> None:
    assert house.names() == []
    assert house.names(1.0) == [] and house.looks == 1, "what was just found is not looked up again"


def test_missing_and_suspended_are_told_without_looking(house: House) -> None:
    for text, name in (("SUSPENDED\n", "PoolSuspended"), (None, "PoolMissing")):
        house.state.write_text(text) if text else house.state.unlink()
        (told,) = house.health.ailments()
        assert told.name == name and told.alarm and "zpool" in told.message
    assert house.looks == 0


def test_an_answer_within_a_second_where_the_pool_gives_none(house: House) -> None:
    house.found = (status("DEGRADED"), ROOM)
    assert house.names() == ["PoolDegraded"]
    house.wait.clear()
    house.stuck = 2
    for _ in range(3):
        before = time.monotonic()
        assert house.names() == ["PoolStuck", "PoolDegraded"], "what was known stays"
        assert time.monotonic() - before < 1.0
    assert house.looks == 2, "one look at a time"
    house.wait.set()
    house.stuck, house.found = 0, (status(), ROOM)
    time.sleep(0.1)
    assert house.names() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [StoreUnavailableError("not now", errno=5), Trouble(5), KeyError("pools")])
def test_a_look_that_fails_is_no_end(house: House, error: Exception) -> None:
    house.found = error
    assert house.names() == []
    house.found = (status("DEGRADED"), ROOM)
    assert house.names() == ["PoolDegraded"]


@pytest.mark.parametrize(
    ("space", "relieved", "names"),
    [
        (Space(50, 100), False, []),
        (Space(9, 100), False, ["PoolFilling"]),
        (Space(2, 100), False, ["PoolFull"]),
        (Space(50, 100), True, ["PoolFull"]),
    ],
)
def test_room(house: House, space: Space, relieved: bool, names: list[str]) -> None:
    house.found, house.relieved = (status(), space), relieved
    assert house.names() == names


@pytest.mark.parametrize(
    ("told", "name", "alarm", "words"),
    [
        (status("DEGRADED", state="UNAVAIL"), "PoolDegraded", True, "vdb (unavail)"),
        (status(checksum_errors="3"), "PoolErrors", False, "vdb"),
        (status(read_errors="1.5K"), "PoolErrors", False, "vdb"),
        (status(lost="4"), "PoolErrors", True, "4 places"),
    ],
)
def test_disks(told: dict[str, Any], name: str, alarm: bool, words: str) -> None:
    (found,) = disks("tank", told)
    assert (found.name, found.alarm) == (name, alarm) and words in found.message
