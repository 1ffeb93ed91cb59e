"""Which kernel and which ZFS an image is built from: what trixie has now, asked for when something must be built."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from image import debian
from image.cache import Cache
from image.errors import BuildError

ASK_AGAIN_S = 7 * 24 * 3600  # a cached image older than this is built anew where trixie has newer packages
OLDEST_ZFS = (2, 3, 9)  # older ones have bugs that eat encrypted data

log = logging.getLogger("image")


@dataclass(frozen=True)
class Versions:
    """What must fit together: the modules are built for this kernel, the userland is of the modules' version."""

    kernel: str  # as `uname -r` says it
    kernel_package: str  # version of linux-image-<kernel>
    zfs: str  # version of zfs-dkms, zfsutils-linux, python3-pyzfs


def zfs_release(version: str) -> tuple[int, ...]:
    """The upstream release in a package's version."""
    found = re.match(r"(?:\d+:)?(\d+)\.(\d+)\.(\d+)", version)
    if found is None:
        raise BuildError(f"no OpenZFS release in the package version {version!r}")
    return tuple(map(int, found.groups()))


def ask(apt: debian.Apt) -> Versions:
    """What trixie has now. `BuildError` where that does not fit together, or is too old."""
    depends = apt.field("linux-image-cloud-amd64", "Depends")
    found = re.match(r"linux-image-(\S+) \(= ([^)]+)\)", depends)
    if found is None:
        raise BuildError(f"linux-image-cloud-amd64 depends on {depends!r}, which names no kernel")
    zfs = {name: apt.field(name, "Version") for name in ("zfs-dkms", "zfsutils-linux", "python3-pyzfs")}
    if len(set(zfs.values())) != 1:
        raise BuildError(f"the mirror is in the middle of an update, try again later: {zfs}")
    versions = Versions(found[1], found[2], zfs["zfs-dkms"])
    if zfs_release(versions.zfs) < OLDEST_ZFS:
        wanted = ".".join(map(str, OLDEST_ZFS))
        raise BuildError(
            f"OpenZFS {wanted} or newer is needed, {debian.SUITE} has {versions.zfs}: no security mirror?"
        )
    return versions


def resolve(cache: Cache) -> Versions:
    """Asks the mirror, and remembers the answer for `remembered`."""
    with tempfile.TemporaryDirectory() as folder:
        apt = debian.Apt(Path(folder), debian.sources())
        apt.update()
        versions = ask(apt)
    log.info("kernel %s, ZFS %s", versions.kernel, versions.zfs)
    file = cache.root / "versions.json"
    cache.root.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(f".{time.monotonic_ns()}")
    aside.write_text(json.dumps({"asked": time.time(), "versions": dataclasses.asdict(versions)}))
    aside.rename(file)
    return versions


def remembered(cache: Cache) -> Versions | None:
    """The last answer, where it is not too old to build nothing new from."""
    file = cache.root / "versions.json"
    if not file.exists():
        return None
    said = json.loads(file.read_text())
    if not 0 <= time.time() - said["asked"] < ASK_AGAIN_S:
        return None
    return Versions(**said["versions"])
