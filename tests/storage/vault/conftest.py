"""Fixtures of the vault's tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conftest_vault import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A data directory, opened by the test."""
    made = House(tmp_path / "data")
    yield made
    made.let_go()
    made.close()
