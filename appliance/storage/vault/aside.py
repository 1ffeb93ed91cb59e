"""Files on their way into a bucket: each is made beside the buckets, whole, before the store takes it. Ciphertext."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appliance.config.layout import Layout
from appliance.storage.keystore.files import make_directory, sync_directory
from appliance.storage.names import BucketId
from appliance.storage.vault.contract import BucketStore

_PIECE: Final = 1 << 20


@contextmanager
def aside(layout: Layout, name: str) -> Iterator[Path]:
    """Where to write it; it is gone afterwards. OSError."""
    folder = layout.vault / "moving"
    make_directory(folder)
    path = folder / name
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def carry(
    layout: Layout,
    recording_id: str,
    source: BucketStore,
    bucket: BucketId,
    snapshot: str,
    to: BucketStore,
    into: BucketId,
) -> None:
    """A recording's file out of a bucket, as it stands in a snapshot ("": in the bucket), into one where it is not.

    The store compares it there. OSError, errors of the stores.
    """
    with aside(layout, f"{recording_id}.sealed") as path:
        with source.read(bucket, recording_id, snapshot=snapshot) as file, open(path, "wb") as target:
            while piece := file.read(_PIECE):
                target.write(piece)
        to.write(into, recording_id, path)


def sweep(layout: Layout) -> int:
    """Removes what a crash left there; how many files. For the start, while nobody moves anything. OSError."""
    folder = layout.vault / "moving"
    if not folder.is_dir():
        return 0
    left = list(folder.iterdir())
    for path in left:
        path.unlink()
    if left:
        sync_directory(folder)
    return len(left)
