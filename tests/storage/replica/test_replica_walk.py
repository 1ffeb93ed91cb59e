"""A long walk through everything that can happen, in any order: at its end the replica is as the box is."""

from __future__ import annotations

import random

import pytest
from conftest_vault import Crash, Faults
from replica_kit import NAME, Pair
from test_replica_follow import days, keep
from test_replica_trouble import settled

from appliance.storage.retention.errors import RecordingHeldError
from appliance.storage.vault.errors import GraceOverError
from appliance.storage.vault.holding import HoldingState
from appliance.storage.vault.parking import undelete

WHO = "officer"


class Walk:
    """One seed's."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self.pair = pair
        self.random = random.Random(seed)
        self.faults = Faults()
        pair.open(self.faults)
        keep(pair, "12d", 3)

    def some(self, state: HoldingState) -> list[str]:
        found = [held.recording_id for held in self.pair.vault.holdings.where("state = ?", (state.value,))]
        return self.random.sample(found, min(len(found), self.random.randint(1, 3)))

    def file(self) -> None:
        house = self.pair.house
        for _ in range(self.random.randint(1, 3)):
            house.record(created_ns=house.clocks.wall_ns, frames=1)
        house.poll()

    def delete(self) -> None:
        for name in self.some(HoldingState.FILED):
            try:
                self.pair.vault.delete(name, "asked")
            except RecordingHeldError:
                continue
        if self.random.random() < 0.8:
            self.pair.house.poll()

    def undelete(self) -> None:
        for name in self.some(HoldingState.DELETED):
            try:
                undelete(self.pair.vault, name)
            except GraceOverError:
                continue

    def erase(self) -> None:
        for name in self.some(self.random.choice([HoldingState.FILED, HoldingState.DELETED])):
            try:
                self.pair.house.eraser.erase([name], "asked")
            except RecordingHeldError:
                continue

    def hold(self) -> None:
        legal = self.pair.house.parts.legal
        names = self.some(self.random.choice([HoldingState.FILED, HoldingState.DELETED]))
        if names:
            case = legal.create(self.pair.house.tenant, "inquiry", "asked for", WHO).case_id
            legal.add(case, WHO, names)

    def release(self) -> None:
        legal = self.pair.house.parts.legal
        cases = [one.case_id for one in legal.book.all() if one.open]
        if cases:
            legal.release(self.random.choice(cases), WHO, "over")

    def night(self) -> None:
        days(self.pair, self.random.choice([0.5, 1, 3, 5]))
        self.pair.house.settle()
        self.pair.house.parts.parker.poll()
        self.pair.house.parts.expiry.run(WHO, self.pair.house.parts.expiry.plan()[0].digest)

    def round(self) -> None:
        done = self.pair.look()
        assert self.pair.away or not [item for item in done.failures if item.reason == "REPLICA_DIVERGED"], (
            done
        )

    def sweep(self) -> None:
        self.pair.replicator._swept = float("-inf")
        self.round()

    def away(self) -> None:
        self.pair.away = not self.pair.away
        self.pair.replicator.close()

    def crash(self) -> None:
        self.faults.at = len(self.faults.steps) + self.random.randint(0, 40)
        try:
            self.round()
        except Crash:
            self.restart()
        self.faults.at = None

    def restart(self) -> None:
        self.faults = Faults()
        self.pair.open(self.faults)
        self.pair.house.settle()

    def go(self, steps: int) -> None:
        weights = {
            self.file: 6,
            self.delete: 4,
            self.undelete: 2,
            self.erase: 2,
            self.hold: 2,
            self.release: 1,
            self.night: 3,
            self.round: 5,
            self.sweep: 1,
            self.away: 1,
            self.crash: 2,
            self.restart: 1,
        }
        for _ in range(steps):
            (do,) = self.random.choices(list(weights), list(weights.values()))
            do()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(6))
def test_after_any_walk_the_replica_is_as_the_box_is(seed: int, pair: Pair) -> None:
    walk = Walk(pair, seed)
    walk.go(45)
    pair.away = False
    walk.restart()
    pair.house.poll()
    pair.house.settle()
    pair.go()
    pair.sweep()
    settled(pair)
    assert not pair.conditions() - {"ReplicaBehind"}
    # What is not at the box any more is not there, but what an open case keeps.
    here = set(pair.vault.store.buckets())
    extra = {bucket for bucket, copy in pair.target.copies().items() if bucket not in here and not copy.kept}
    assert extra == set()
    found = pair.house.settle()
    assert (found.missing, found.unknown) == (0, 0)
    assert NAME in pair.vault.confirmed
