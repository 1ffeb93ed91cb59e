"""A case is released while another one takes up what it held: the key stays pinned, whichever comes first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

import pytest
from conftest_vault import House

from appliance.storage.keystore import Keystore

WHO = "officer"


class Two:
    """A recording that one case holds and is about to let go, and another case."""

    def __init__(self, house: House) -> None:
        self.at: dict[str, Callable[[], None]] = {}
        self.vault = house.open(self.fault)
        (self.name,) = house.filed()
        self.legal = house.parts.legal
        self.first, self.second = (
            self.legal.create(house.tenant, title, "reason", "owner").case_id for title in ("one", "two")
        )
        self.legal.add(self.first, WHO, [self.name])

    def fault(self, step: str) -> None:
        """Does what the test wants done at a step, once."""
        self.at.pop(step, lambda: None)()

    def check(self, house: House) -> None:
        assert self.vault.keystore.pinned() == [self.name]
        facts = house.parts.expiry.facts()
        assert [item.cases for bucket in facts.buckets for item in bucket.held] == [(self.second,)]


def test_a_case_that_comes_after_the_pins_were_found(house: House) -> None:
    two = Two(house)
    two.at["pins found"] = lambda: (two.legal.add(two.second, WHO, [two.name]), None)[1]
    two.legal.release(two.first, WHO, "over")
    two.check(house)


def test_a_case_that_comes_while_the_pins_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    two = Two(house)
    entered, settled = threading.Event(), threading.Event()

    def add() -> None:
        two.legal.add(two.second, WHO, [two.name])
        settled.set()

    other = threading.Thread(target=add)
    unpin = Keystore.unpin

    def slow(keystore: Keystore, names: Collection[str]) -> None:
        two.at["hold journalled"] = entered.set
        other.start()
        assert entered.wait(10)
        settled.wait(0.2)  # it must not come to its end before this one: then its pin would go
        unpin(keystore, names)

    monkeypatch.setattr(Keystore, "unpin", slow)
    two.legal.release(two.first, WHO, "over")
    other.join(10)
    assert settled.is_set()
    two.check(house)


def test_a_case_that_came_before(house: House) -> None:
    two = Two(house)
    two.legal.add(two.second, WHO, [two.name])
    two.legal.release(two.first, WHO, "over")
    two.check(house)


def test_a_release_that_comes_while_a_recording_that_is_not_filed_is_pinned(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    vault, name, legal = house.open(), house.record(), house.parts.legal
    house.intake.poll()
    case = legal.create(house.tenant, "one", "reason", "owner").case_id

    def release() -> None:
        legal.release(case, WHO, "over")
        released.set()

    other = threading.Thread(target=release)
    pin = Keystore.pin

    def slow(keystore: Keystore, names: Collection[str]) -> None:
        other.start()
        released.wait(0.2)  # it must not come to its end before this one: then the pin would stay
        pin(keystore, names)

    monkeypatch.setattr(Keystore, "pin", slow)
    legal.add(case, WHO, [name])
    other.join(10)
    assert released.is_set() and vault.keystore.pinned() == []
