"""The vault's own process on a pool that is not there when it starts, that comes, and that goes while it works."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest
from conftest import Shell, until

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "storage" / "vault"))

from conftest_process import WAIT_S, Process, refused

from appliance.config.settings import VaultSettings
from appliance.process import rpc
from appliance.storage.sealed import verify
from earwitness.internal.v1 import retention_pb2, retention_pb2_grpc, vault_pb2

POOL = "late"
patiently = partial(until, seconds=2 * WAIT_S)


class Disk:
    """A pool on one file, which comes and goes."""

    def __init__(self, folder: Path, sh: Shell) -> None:
        self.folder, self.sh = folder, sh
        with open(folder / "disk", "wb") as file:
            file.truncate(256 << 20)
        sh("zpool", "create", "-f", "-o", "ashift=12", "-O", "mountpoint=none", POOL, str(folder / "disk"))
        self.away()

    def away(self) -> None:
        self.sh("zpool", "export", "-f", POOL)

    def back(self) -> None:
        self.sh("zpool", "import", "-d", str(self.folder), "-N", POOL)


@pytest.fixture
def disk(tmp_path: Path, sh: Shell) -> Iterator[Disk]:
    made = Disk(tmp_path, sh)
    yield made
    if Path(f"/proc/spl/kstat/zfs/{POOL}").exists():
        sh("zpool", "destroy", "-f", POOL)


@pytest.fixture
def process(tmp_path: Path, disk: Disk) -> Iterator[Process]:
    """Not started; its pool is away."""
    made = Process(tmp_path / "data", VaultSettings(backend="zfs", root=f"{POOL}/rec", deadline_s=60.0))
    yield made
    made.stop()
    made.house.let_go()


def conditions(process: Process) -> set[str]:
    return {one.type for one in process.process_status().conditions}


def readable(process: Process, name: str) -> bool:
    report = verify(process.read(name), process.status().device_public_key, process.lease(name))
    return report.intact and report.trusted and report.opened


def state(process: Process, name: str) -> str:
    """Filed, or the reason why there is no holding."""
    try:
        return vault_pb2.HoldingState.Name(process.holding(name).state).removeprefix("HOLDING_STATE_")
    except grpc.RpcError as error:
        return rpc.from_rpc_error(error).reason


def hold(process: Process, name: str) -> None:
    """Puts it under a legal hold of its own."""
    stub = retention_pb2_grpc.RetentionServiceStub(process.channel)
    case = retention_pb2.CreateHoldRequest(
        tenant_id=process.house.tenant, title="Inquest", reason="coroner asked", owner="governance"
    )
    made = stub.CreateHold(case, timeout=WAIT_S).hold.case_id
    stub.AddToHold(
        retention_pb2.AddToHoldRequest(case_id=made, who="governance", recording_ids=[name]), timeout=WAIT_S
    )


def held(sh: Shell) -> int:
    """How many holds of cases there are in the pool."""
    names = sh("zfs", "list", "-H", "-o", "name", "-t", "snapshot", "-r", POOL).split()
    return sum(sh("zfs", "holds", "-H", name).count("ew.case.") for name in names)


def test_without_its_pool_it_starts_keeps_keys_says_so_and_files_when_the_pool_comes(
    process: Process, disk: Disk, sh: Shell
) -> None:
    process.start()
    first = process.house.record(frames=3)
    patiently(lambda: first in process.house.keys and process.status().keys == 1)
    patiently(lambda: "PoolMissing" in conditions(process))
    status = process.status()
    assert (status.spooled, status.filed, status.store_answers) == (1, 0, False)
    assert state(process, first) == "RECORDING_NOT_FILED"
    assert refused(process.read, first) == ("FAILED_PRECONDITION", "RECORDING_NOT_FILED")

    # What is not filed outlives the process, and a start without the pool.
    assert process.end(signal.SIGKILL) == -signal.SIGKILL
    process.start()
    second = process.house.record(frames=3)
    patiently(lambda: process.status().keys == 2)
    assert process.status().spooled == 2
    hold(process, second)

    disk.back()
    patiently(lambda: process.status().filed == 2)
    assert process.status().spooled == 0 and readable(process, first) and readable(process, second)
    assert refused(process.erase, second)[1] == "RECORDING_HELD", "held before it was filed"
    patiently(lambda: held(sh) == 1)
    patiently(lambda: "PoolMissing" not in conditions(process))

    # Gone without a word while the vault works, and back again.
    disk.away()
    third = process.house.record(frames=3)
    patiently(lambda: "PoolMissing" in conditions(process))
    assert state(process, third) == "RECORDING_NOT_FILED"
    assert refused(process.read, first)[1] == "STORE_UNAVAILABLE"
    disk.back()
    patiently(lambda: state(process, third) == "FILED" and "PoolMissing" not in conditions(process))
    for name in (first, second, third):
        assert readable(process, name)
    assert process.end(signal.SIGTERM) == 0
