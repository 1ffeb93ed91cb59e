"""A catalogue of its own for each test, without migrating each one from its first version on."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from appliance.catalog.database import Database
from appliance.catalog.numbering import Numbering


@functools.cache
def _migrated() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    folder = tempfile.TemporaryDirectory(prefix="earwitness-catalogue-")
    path = Path(folder.name) / "catalogue.db"
    Database.at(path).close()  # the last connection: its log is in the file, and gone
    return folder, path


def place(path: Path) -> None:
    """Puts an empty catalogue of the present version where none is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copy(_migrated()[1], path)
    path.chmod(0o600)


def new(path: Path, *, numbering: Numbering | None = None) -> Database:
    """As `Database.at` where there is no file yet."""
    place(path)
    return Database.at(path, numbering=numbering)
