"""A keystore to be tested: filled, damaged, crashed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.model import new_id
from appliance.storage.keystore import Depositor, DepositRequest, Keystore, RootSlot
from appliance.storage.keystore.rootslot import Fault


class Crash(BaseException):
    """Stands for a power cut: no handler of the code under test may catch it."""


class Faults:
    """Counts steps; crashes at the one asked for."""

    def __init__(self, at: int = -1) -> None:
        self.at = at
        self.steps: list[str] = []

    def __call__(self, step: str) -> None:
        self.steps.append(step)
        if len(self.steps) - 1 == self.at:
            raise Crash(step)


class Box:
    """A keystore with a tenant and a capture worker that deposits into it."""

    def __init__(self, root: Path, slots: Callable[[Fault], RootSlot] | None = None) -> None:
        self.slots = slots
        self.directories = (root / "a", root / "b")
        self.tenant = new_id()
        self.depositor = Depositor()
        self.keys: dict[str, bytes] = {}
        self.deposits: list[bytes] = []
        self.store: Keystore | None = None

    def open(
        self,
        fault: Callable[[str], None] = lambda step: None,
        *,
        create: bool = True,
        floor_epoch: int = 0,
        floor_records: int = 0,
    ) -> Keystore:
        self.close()
        slots = self.slots(fault) if self.slots is not None else None
        self.store = Keystore.open(
            self.directories,
            slots=slots,
            fault=fault,
            create=create,
            floor_epoch=floor_epoch,
            floor_records=floor_records,
        )
        return self.store

    def close(self) -> None:
        if self.store is not None:
            self.store.close()
            self.store = None

    def fill(self, count: int) -> list[str]:
        """Deposits keys of new recordings; their ids."""
        assert self.store is not None
        public = self.store.create_tenant(self.tenant)
        requests = [
            DepositRequest(new_id(), self.tenant, public, self.depositor.new_data_key()) for _ in range(count)
        ]
        raw = self.depositor.deposit_many(requests, self.store.deposit_public_key, 0)
        added = self.store.add([self.store.open_deposit(raw)])
        assert added.accepted == tuple(item.recording_id for item in requests)
        self.keys |= {item.recording_id: item.data_key for item in requests}
        self.deposits.append(raw)
        return list(added.accepted)

    def held(self) -> dict[str, bytes]:
        """Every key that opens."""
        assert self.store is not None
        found = {name: self.store.data_key(name) for name in self.store.recordings()}
        assert len(found) == len(self.store)
        return found

    def files(self) -> dict[str, bytes]:
        return {
            f"{path.parent.name}/{path.name}": path.read_bytes()
            for directory in self.directories
            for path in directory.iterdir()
            if path.name != "lock"
        }


def make_small(factory: pytest.TempPathFactory, copy: int, name: str) -> tuple[Box, Path]:
    """A keystore of a second epoch, closed, and one of its files."""
    box = Box(factory.mktemp("keystore"))
    store = box.open()
    names = box.fill(4)
    store.shred(names[:1])
    box.keys.pop(names[0])
    box.fill(2)
    box.close()
    return box, box.directories[copy] / name
