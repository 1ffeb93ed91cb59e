"""Options of the whole suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        choices=("directory", "zfs"),
        default="directory",
        help="what keeps the buckets in the vault's tests; zfs wants a pool (see tests/storage/vault/ground.py)",
    )
