"""What the vault does with files of the spool, whatever they hold: list them, and put them aside."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.storage.keystore.files import make_directory, sync_directory


def listing(folder: Path, suffix: str) -> list[Path]:
    """Files of that suffix, by name. Unlike Path.glob it says so (OSError) where the folder cannot be read."""
    with os.scandir(folder) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.name.endswith(suffix) and entry.is_file(follow_symlinks=False)
        )


def move_to_quarantine(folder: Path, path: Path) -> None:
    """Moves a file there, durably, under a name that is free; success where it is gone already."""
    make_directory(folder)
    target, number = folder / path.name, 1
    while target.exists():
        target = folder / f"{path.name}.{number}"
        number += 1
    try:
        os.rename(path, target)
    except FileNotFoundError:
        return
    sync_directory(folder)
    sync_directory(path.parent)
