"""Fixtures of the keystore's tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conftest_keystore import Box


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A keystore's directories, opened by the test."""
    made = Box(tmp_path / "keystore")
    yield made
    made.close()
