"""Which OpenZFS the store stands on: library, commands and kernel module, each new enough, or it does not begin.

PyPI has a package of the same module name from 2016. It imports without complaint, shadows Debian's in a virtual
environment, and breaks where an error is told. So the library's place counts, and what it has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from appliance.storage.vault.errors import StoreRefusedError

WANTED: Final = (2, 3, 9)
MODULE: Final = Path("/sys/module/zfs")
_VERSION = re.compile(r"(\d+(?:\.\d+)+)")


@dataclass(frozen=True, slots=True)
class Found:
    """What is there. Versions as they were told; empty where there is nothing."""

    library_path: str
    library_version: str
    library_lacks: tuple[str, ...]
    commands: str
    module: str
    block_cloning: str
    why: str = ""

    def words(self) -> str:
        """For the error and for the log."""
        return (
            f"library {self.library_version or 'none'} at {self.library_path or 'no place'}, "
            f"commands {self.commands or 'none'}, kernel module {self.module or 'none'}, "
            f"zfs_bclone_enabled {self.block_cloning or 'unknown'}"
        )


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of `zfs-2.3.9-0+deb13u1` and the like; none where there are none."""
    found = _VERSION.search(version)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def faults(found: Found) -> list[str]:
    """What is not as it must be, as sentences."""
    wanted = ".".join(map(str, WANTED))
    told = []
    if not found.library_path:
        told.append(f"libzfs_core is not there: install Debian's python3-pyzfs ({found.why})")
    elif "dist-packages" not in PurePath(found.library_path).parts:
        told.append(
            "libzfs_core does not come from Debian's python3-pyzfs: another package of this name hides it; remove pyzfs "
            "from the virtual environment"
        )
    elif found.library_lacks:
        told.append(f"libzfs_core has no {', '.join(found.library_lacks)}: it is too old")
    elif numbers(found.library_version) < WANTED:
        told.append(f"libzfs_core is older than {wanted}")
    if numbers(found.commands) < WANTED:
        told.append(f"the commands zfs and zpool are not there, or older than {wanted}")
    if numbers(found.module) < WANTED:
        told.append(f"the kernel module zfs is not loaded, or older than {wanted}")
    elif found.block_cloning != "0":
        told.append("block cloning is on: set the parameter zfs_bclone_enabled of the module zfs to 0")
    return told


def check(found: Found) -> None:
    """StoreRefusedError where something is not as it must be."""
    told = faults(found)
    if told:
        raise StoreRefusedError(
            "; ".join(told),
            found=found.words(),
            wanted=f"OpenZFS {'.'.join(map(str, WANTED))} or newer throughout, libzfs_core under dist-packages, "
            "zfs_bclone_enabled 0",
        )


def gather(library: dict[str, Any], commands: str, module: Path = MODULE) -> Found:
    """`library`: what the agent found; `commands`: what `zfs version` said."""
    userland = next((line for line in commands.splitlines() if not line.startswith("zfs-kmod")), "")
    return Found(
        library["path"],
        library["version"],
        tuple(library["lacks"]),
        userland,
        _read(module / "version"),
        _read(module / "parameters/zfs_bclone_enabled"),
        library["why"],
    )


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
