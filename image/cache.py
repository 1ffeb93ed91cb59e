"""The cache of built things, outside the checkout. An entry is whole or absent; losing it costs only time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

KEPT = 3  # entries of a kind: the one in use, and what other branches used
USED_S = 3 * 24 * 3600  # younger ones are kept as well: a guest may run from them

log = logging.getLogger("image")


def default_root() -> Path:
    """Where the cache lies: `EARWITNESS_CACHE`, else below the user's cache directory."""
    if own := os.environ.get("EARWITNESS_CACHE"):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "earwitness").absolute()


def key_of(made_from: Any) -> str:
    """A short name for what a thing is made from (anything that JSON can say)."""
    text = json.dumps(made_from, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Cache:
    """Directories by kind and key. Two builders of one entry wait for each other."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()

    def path(self, kind: str, key: str) -> Path:
        """Where an entry is, or would be."""
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Whether the entry is there (an entry that is there is whole)."""
        return self.path(kind, key).is_dir()

    def get(self, kind: str, key: str, build: Callable[[Path], None]) -> Path:
        """The entry; `build` fills an empty directory where it is absent. Its exceptions pass, and leave nothing behind."""
        path = self.path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.lock(f"{kind}-{key}"):
            if path.is_dir():
                os.utime(path)
                return path
            # Under the lock nobody else builds this: what lies aside is of a builder that was killed.
            for stale in path.parent.glob(f".{key}.*"):
                shutil.rmtree(stale)
            began = time.monotonic()
            log.info("building %s %s", kind, key)
            aside = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=path.parent))
            try:
                build(aside)
                aside.chmod(0o755)
                aside.rename(path)
            except BaseException:
                shutil.rmtree(aside)
                raise
            log.info("built %s %s in %.0f s", kind, key, time.monotonic() - began)
        self._forget_old(kind)
        return path

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Held by one process at a time; the kernel lets go where that process dies."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / name, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _forget_old(self, kind: str) -> None:
        entries = [entry for entry in (self.root / kind).iterdir() if not entry.name.startswith(".")]
        entries.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
        for entry in entries[KEPT:]:
            if time.time() - entry.stat().st_mtime < USED_S:
                continue
            log.info("forgetting %s %s", kind, entry.name)
            doomed = entry.with_name(f".{entry.name}.old")
            entry.rename(doomed)
            shutil.rmtree(doomed)
