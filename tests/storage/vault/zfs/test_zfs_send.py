"""What a stream says of itself decides whether it fits, before anything is taken in."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from appliance.model import new_id
from appliance.storage.names import BucketId
from appliance.storage.vault.errors import ReplicaDivergedError
from appliance.storage.vault.zfs.programs import Facts, SnapshotFacts
from appliance.storage.vault.zfs.send import HEAD, Begin, Copies, parse_begin

BUCKET = BucketId(new_id(), new_id(), "2026-11-25")
NAME = f"tank/rec/{BUCKET.path}"
BASE = SnapshotFacts("r-north-1", 20, 0, 11)
FACTS = Facts(NAME, "bucket", "", "received", False, True, 7, False, "filesystem", (), (BASE,))


def head(to: int, base: int = 0, features: int = 1 << 24, name: str = "tank/rec/a@r-north-2") -> bytes:
    fields = struct.pack(
        "<IIQQQIIQQ256s", 0, 0, 0x2F5BACBAC, (features << 2) | 1, 0, 2, 0, to, base, name.encode()
    )
    return fields.ljust(HEAD, b"\0")


def test_the_first_record_is_read() -> None:
    assert parse_begin(head(5, 4)) == Begin(5, 4, "r-north-2", True, False)
    assert parse_begin(head(5, features=(1 << 24) | (1 << 20))) == Begin(5, 0, "r-north-2", True, True)
    assert parse_begin(head(5, features=0)) == Begin(5, 0, "r-north-2", False, False), (
        "not as it lies on disk"
    )
    for wrong in (b"", head(5)[:-1], b"\x01" + head(5)[1:], bytes(HEAD)):
        assert parse_begin(wrong) is None


class Alone(Copies):
    """Only what decides."""

    def __init__(self, token: str = "") -> None:
        self.token = token

    def _token(self, bucket: BucketId) -> str:
        return self.token


@pytest.mark.parametrize(
    ("facts", "begin", "token", "fits"),
    [
        (None, Begin(12, 0, "r-north-1", True, False), "", True),
        (FACTS, Begin(11, 0, "r-north-1", True, False), "", False),  # it is here
        (FACTS, Begin(12, 11, "r-north-2", True, False), "", True),
        (FACTS, Begin(12, 0, "r-north-1", True, False), "", None),  # another of this name
        (FACTS, Begin(12, 0, "r-north-2", True, False), "", None),  # another bucket
        (FACTS, Begin(13, 12, "r-north-3", True, False), "", None),  # one between is missing
        (None, Begin(12, 11, "r-north-2", True, False), "", None),
        (replace(FACTS, unfinished=True, snapshots=()), Begin(12, 0, "r-north-1", True, False), "t", True),
        (replace(FACTS, unfinished=True, snapshots=()), Begin(12, 0, "r-north-1", True, True), "t", True),
        (None, Begin(12, 0, "r-north-1", True, True), "", None),  # nothing was broken off
        (replace(FACTS, kind="line"), Begin(12, 0, "r-north-1", True, False), "", None),
    ],
)
def test_what_fits_and_what_does_not(
    facts: Facts | None, begin: Begin, token: str, fits: bool | None
) -> None:
    copies: Any = Alone(token)
    if fits is None:
        with pytest.raises(ReplicaDivergedError) as diverged:
            copies._fits(BUCKET, facts, begin)
        assert diverged.value.data == {"bucket": BUCKET.path}
    else:
        assert copies._fits(BUCKET, facts, begin) is fits
