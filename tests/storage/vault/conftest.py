"""Fixtures of the vault's tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conftest_vault import House
from ground import Ground, grounds


@pytest.fixture
def ground(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[Ground]:
    """A medium of the backend asked for."""
    yield from grounds(pytestconfig.getoption("--backend"), tmp_path)


@pytest.fixture
def house(tmp_path: Path, ground: Ground) -> Iterator[House]:
    """A data directory, opened by the test."""
    made = House(tmp_path / "data", ground)
    yield made
    made.let_go()
    made.close()
