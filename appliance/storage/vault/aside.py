"""Files on their way into a bucket: each is made beside the buckets, whole, before the store takes it. Ciphertext."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.config.layout import Layout
from appliance.storage.keystore.files import make_directory, sync_directory


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
