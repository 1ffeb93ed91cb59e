"""A file whose bytes come from the agent reads as any other; damage and absence are told."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from appliance.storage.vault.errors import StoredFileCorruptError, StoreUnavailableError
from appliance.storage.vault.zfs.reading import BUFFER, PIECE, open_remote
from appliance.storage.vault.zfs.trouble import Trouble
from appliance.storage.vault.zfs.worker import Answer

RAW = os.urandom(2 * PIECE + 77)


class Agent:
    def __init__(self) -> None:
        self.broken = len(RAW)
        self.number = errno.EIO
        self.calls = 0

    def call(self, op: str, *, handle: int, size: int, at: int) -> Answer:
        assert (op, handle) == ("pread", 5) and size <= PIECE
        self.calls += 1
        if at >= self.broken:
            raise Trouble(self.number)
        return Answer(None, RAW[at : at + size])


def reader(agent: Agent, closed: list[int]) -> Any:
    return open_remote(agent, 5, len(RAW), "recording", lambda: closed.append(1))  # type: ignore[arg-type]


def test_it_reads_from_anywhere_and_is_closed_once() -> None:
    closed: list[int] = []
    agent = Agent()
    with reader(agent, closed) as file:
        assert file.read() == RAW and agent.calls == 3, "in large pieces"
        for at in (0, 1, BUFFER - 1, BUFFER, PIECE, len(RAW) - 1, len(RAW), len(RAW) + 9):
            assert file.seek(at) == at and file.read(PIECE + 3) == RAW[at : at + PIECE + 3]
        assert file.seek(-7, os.SEEK_END) == len(RAW) - 7 and file.read(3) == RAW[-7:-4]
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1 - len(RAW), os.SEEK_END)
    file.close()
    assert closed == [1]


def test_no_sound_copy_is_corrupt_and_a_pool_that_is_away_is_not() -> None:
    agent, closed = Agent(), []
    agent.broken = PIECE
    with reader(agent, closed) as file:
        with pytest.raises(StoredFileCorruptError) as corrupt:
            file.read()
        assert corrupt.value.data == {"recording_id": "recording", "offset": PIECE}
        agent.number = errno.ENXIO
        with pytest.raises(StoreUnavailableError):
            file.seek(PIECE)
            file.read(1)
    assert closed == [1]


def test_one_that_is_let_fall_is_closed() -> None:
    closed: list[int] = []
    file = reader(Agent(), closed)
    del file
    assert closed == [1]
