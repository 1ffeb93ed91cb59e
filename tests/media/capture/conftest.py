from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_kit import Box


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    found = Box(tmp_path / "data")
    yield found
    found.shut()
