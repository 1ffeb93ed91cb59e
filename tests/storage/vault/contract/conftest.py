"""The store under test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ground import Ground

from appliance.storage.vault.contract import BucketStore


@pytest.fixture
def store(ground: Ground) -> Iterator[BucketStore]:
    opened = ground.open()
    yield opened
    opened.close()
