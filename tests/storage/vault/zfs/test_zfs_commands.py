"""Commands have a deadline; what cannot be ended is counted."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.storage.vault.errors import StoreSuspendedError, StoreUnavailableError
from appliance.storage.vault.zfs.commands import Commands
from appliance.storage.vault.zfs.pool import Pool
from appliance.storage.vault.zfs.trouble import Trouble


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    (tmp_path / "tank").mkdir()
    (tmp_path / "tank/state").write_text("ONLINE\n")
    yield Pool("tank", tmp_path)


def test_output_and_errors(pool: Pool) -> None:
    run = Commands(pool, 10.0)
    assert run.run("printf", "%s", "a; $HOME") == "a; $HOME", "no shell is between"
    assert run.json("printf", "%s", '{"a": 1}') == {"a": 1}
    assert "LC_ALL=C.UTF-8" in run.run("env").split()
    with pytest.raises(Trouble) as trouble:
        run.run("sh", "-c", "echo \"cannot open 'x': dataset does not exist\" >&2; exit 1")
    assert trouble.value.number == errno.ENOENT and "dataset" not in str(trouble.value)
    with pytest.raises(StoreUnavailableError):
        run.json("printf", "%s", "no JSON")
    with pytest.raises(StoreUnavailableError):
        run.run("there-is-no-such-command")


def test_a_deadline_ends_a_command(pool: Pool, tmp_path: Path) -> None:
    run = Commands(pool, 0.3)
    before = time.monotonic()
    with pytest.raises(StoreUnavailableError) as late:
        run.run("sleep", "60")
    assert time.monotonic() - before < 3 and late.value.data["errno"] == errno.ETIMEDOUT
    assert run.stuck() == [], "it could be killed"
    (tmp_path / "tank/state").write_text("SUSPENDED\n")
    with pytest.raises(StoreSuspendedError):
        run.run("sleep", "60")
