"""The vault's store, root slot and replicas by settings: errors name the key, and what is away is waited for."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest_process import WAIT_S, Process
from conftest_vault import House
from ground import DirectoryGround
from replica_kit import Pair

from appliance.config.settings import ConfigError, Settings, load
from appliance.process.status import ALARM
from appliance.storage.keystore import FileRootSlot, TpmRootSlot
from appliance.storage.replica.local import LocalTarget
from appliance.storage.replica.wiring import connect, replication, state_of
from appliance.storage.vault.directory import DirectoryStore
from appliance.storage.vault.errors import StoreUnavailableError
from appliance.storage.vault.openstore import open_slots, open_staging, open_store
from appliance.storage.vault.watch import Watchman

NORTH = '[[vault.replicas]]\nname = "north"\nroot = "/north"\n'


def given(tmp_path: Path, text: str) -> Settings:
    (tmp_path / "site.toml").write_text(text)
    return load(tmp_path / "site.toml", default_data=tmp_path / "data")


def test_the_defaults_are_the_data_directory(tmp_path: Path) -> None:
    settings = given(tmp_path, "")
    assert (settings.vault.backend, settings.vault.root, settings.vault.replicas) == ("directory", "", ())
    store = open_store(settings)
    assert isinstance(store, DirectoryStore) and store.health() == []
    assert (tmp_path / "data" / "vault" / "buckets").is_dir()
    assert isinstance(open_slots(settings), FileRootSlot)
    assert isinstance(open_staging(settings), DirectoryStore)


def test_everything_can_be_set_and_reaches_the_processes(tmp_path: Path) -> None:
    settings = given(
        tmp_path,
        '[vault]\nbackend = "zfs"\nroot = "tank/rec"\nmounts = "/run/ew"\nroot_slot = "tpm"\ntpm = "swtpm"\n'
        f'tpm_pcrs = [7]\n{NORTH}[[vault.replicas]]\nname = "south"\nbackend = "zfs"\nroot = "cold/rec"\n',
    )
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
    assert [(one.name, one.backend, one.root) for one in settings.vault.replicas] == [
        ("north", "directory", "/north"),
        ("south", "zfs", "cold/rec"),
    ]
    assert isinstance(open_slots(settings), TpmRootSlot)
    north, south = settings.vault.replicas
    assert state_of(settings, north) == Path("/north/replica")
    assert state_of(settings, south) == tmp_path / "data" / "replicas" / "south"


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ('[vault]\nbackend = "tape"', "vault.backend", "directory"),
        ('[vault]\nbackend = "zfs"', "vault", "dataset"),
        ('[vault]\nbackend = "zfs"\nroot = "tank"', "vault", "dataset"),
        ('[vault]\nbackend = "zfs"\nroot = "tank/rec@snap"', "vault", "dataset"),
        ('[vault]\nroot = "here"', "vault", "absolute"),
        ('[vault]\nmounts = "here"', "vault", "absolute"),
        ('[vault]\nroot_slot = "pocket"', "vault.root_slot", "file"),
        ("[vault]\ntpm_pcrs = [24]", "vault.tpm_pcrs.0", "23"),
        ("[vault]\ndeadline_s = 0", "vault.deadline_s", "1"),
        ("[vault]\nreplica = 1", "vault.replica", "permitted"),
        ('[[vault.replicas]]\nroot = "/x"', "vault.replicas.0.name", "required"),
        ('[[vault.replicas]]\nname = "the north"\nroot = "/x"', "vault.replicas.0.name", "pattern"),
        ('[[vault.replicas]]\nname = "north"', "vault.replicas.0", "root"),
        ('[[vault.replicas]]\nname = "north"\nroot = "x"', "vault.replicas.0", "absolute"),
        (f'{NORTH}state = "x"', "vault.replicas.0", "absolute"),
        (NORTH + NORTH, "vault", "two replicas are named north"),
        (f'{NORTH}[[vault.replicas]]\nname = "south"\nroot = "/north/s"', "vault", "lies where"),
        (f'[vault]\nroot = "/north/rec"\n{NORTH}', "vault", "lies where"),
        (NORTH.replace('"/north"', '"/"'), "settings", "data directory"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(text: str, key: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as wrong:
        given(tmp_path, text)
    assert wrong.value.data["key"] == key and says in wrong.value.message


def test_a_replica_is_connected_to_when_it_is_needed(tmp_path: Path) -> None:
    settings = given(tmp_path, NORTH.replace("/north", str(tmp_path / "north")))
    target = connect(settings, settings.vault.replicas[0])
    assert isinstance(target, LocalTarget) and (tmp_path / "north" / "replica" / "identity").exists()
    target.close()
    house = House(tmp_path / "data", DirectoryGround(tmp_path))
    house.open()
    found = replication(house.parts, settings)
    assert (
        house.vault is not None
        and house.vault.replicas == ("north",)
        and house.vault.confirmed == {"north": 0}
    )
    found.close()
    house.close()


# A medium that is not there.


class Away:
    """A store whose medium is not there; nothing of it works until it comes."""

    def __init__(self, store: object) -> None:
        self._store = store
        self.away = True

    def __getattr__(self, name: str) -> object:
        found = getattr(self._store, name)
        if not self.away or not callable(found) or name == "close":
            return found

        def unavailable(*args: object, **words: object) -> object:
            raise StoreUnavailableError("the pool is not there", errno=6)

        return unavailable

    def health(self) -> list[object]:
        from appliance.storage.vault.stored import Ailment

        return [Ailment("PoolMissing", "The pool is not there.", alarm=True)] if self.away else []


def test_a_vault_whose_pool_is_not_there_starts_and_files_when_it_comes(pair: Pair) -> None:
    opened: list[Away] = []
    ground_open = pair.ground.open

    def open_away(*args: object) -> object:
        opened.append(Away(ground_open(*args)))  # type: ignore[arg-type]
        return opened[-1]

    pair.ground.open = open_away  # type: ignore[method-assign, assignment]
    vault = pair.open()
    names = [pair.house.record() for _ in range(2)]
    assert pair.house.poll() == 0
    Watchman(vault, pair.house.clock).look()
    told = {item.type: item.severity for item in pair.house.status.conditions()}
    assert told["PoolMissing"] == ALARM and told["FilingFailed"] == ALARM
    assert [item.reason for item in pair.look().failures] == ["STORE_UNAVAILABLE"]
    assert len(list(pair.house.layout.spool_recordings.glob("*.sealed"))) == 2
    opened[-1].away = False
    pair.house.clock.now += 10
    assert pair.house.poll() == 2
    pair.house.settle()
    for name in names:
        pair.house.check_readable(name)
    pair.go()
    pair.check_same()


# The process.


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path / "data")
    settings = given(tmp_path, NORTH.replace("/north", str(tmp_path / "north")))
    made._settings.write_text(settings.model_dump_json())
    yield made
    made.stop()


def test_the_process_replicates_and_a_kill_costs_nothing(process: Process, tmp_path: Path) -> None:
    process.start()
    names = [process.house.record() for _ in range(4)]
    process.watch(0, 4)
    buckets = tmp_path / "north" / "buckets"

    def erased_there(name: str) -> bool:
        log = tmp_path / "north" / "replica" / "log"
        return log.exists() and name in log.read_text()

    (certificate,) = process.erase(names[0])
    assert list(certificate.replicas) == ["north"] and certificate.log_number == 1
    wait_for(lambda: erased_there(names[0]))
    process.end(signal.SIGKILL)
    process.start()
    wait_for(lambda: any(buckets.glob("*/*/*/snapshots/r-north-*")))
    (snapshot,) = buckets.glob("*/*/*/snapshots/r-north-*")
    wait_for(lambda: len([path for path in os.listdir(snapshot) if path.endswith(".ewr")]) == 3)
    counters = process.process_status().counters
    assert counters["replica_north_lag_entries"] == 0
    assert process.end(signal.SIGTERM) == 0
