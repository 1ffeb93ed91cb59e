"""Fixtures of the replica's tests: the vault's house and ground, and a replica beside them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "vault"))

from conftest_vault import House
from ground import Ground, grounds
from replica_kit import Pair


@pytest.fixture
def ground(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[Ground]:
    """Two media of the backend asked for."""
    yield from grounds(pytestconfig.getoption("--backend"), tmp_path)


@pytest.fixture
def pair(tmp_path: Path, ground: Ground) -> Iterator[Pair]:
    """A box and its replica `north`, opened by the test."""
    made = Pair(House(tmp_path / "data", ground), tmp_path / "far")
    yield made
    made.house.let_go()
    made.close()
