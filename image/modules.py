"""`spl.ko` and `zfs.ko` for one kernel, built by zfs-dkms in a tree of their own and cached by both versions."""

from __future__ import annotations

import json
import lzma
import shutil
from pathlib import Path

from image import debian
from image.cache import Cache, key_of
from image.commands import in_tree, need
from image.errors import BuildError
from image.versions import Versions

RECIPE = 1  # raise it when what is built here changes
MODULES = ("spl", "zfs")
# Type and unwinding tables: an emulated machine sorts and checks them for seconds. Without them a stack trace guesses.
HEAVY = (".BTF", ".orc_header", ".orc_unwind", ".orc_unwind_ip", ".rela.orc_unwind_ip")


def build(versions: Versions, folder: Path) -> None:
    """Builds the modules into `folder`, uncompressed and unsigned, and without their tables into `folder/lean`.

    Takes minutes; wants root.
    """
    need("mmdebstrap", "chroot")
    tree = folder / "tree"
    packages = [
        f"linux-headers-{versions.kernel}={versions.kernel_package}",
        f"zfs-dkms={versions.zfs}",  # its installation builds for every kernel whose headers are there
    ]
    debian.make_tree(tree, debian.sources(), packages)
    state = in_tree(tree, ["dkms", "status", "-k", versions.kernel])
    built = list((tree / "var/lib/dkms/zfs").glob(f"*/{versions.kernel}/*/module/*.ko*"))
    if {file.name.split(".")[0] for file in built} != set(MODULES):
        raise BuildError(f"dkms built no ZFS for {versions.kernel}: {state}")
    (folder / "lean").mkdir()
    for file in built:
        name = f"{file.name.split('.')[0]}.ko"
        (folder / name).write_bytes(uncompressed(file))
        (tree / "tmp" / name).write_bytes(uncompressed(file))
        remove = [word for section in HEAVY for word in ("--remove-section", section)]
        in_tree(tree, ["objcopy", "--strip-unneeded", *remove, f"/tmp/{name}"])
        shutil.copy(tree / "tmp" / name, folder / "lean" / name)
    (folder / "facts.json").write_text(json.dumps({"kernel": versions.kernel, "zfs": versions.zfs}))
    shutil.rmtree(tree)


def uncompressed(file: Path) -> bytes:
    """A module as the kernel maps it; decompressing costs time at each boot of an emulated machine."""
    data = file.read_bytes()
    return lzma.decompress(data) if file.suffix == ".xz" else data


def modules(cache: Cache, versions: Versions) -> Path:
    """The directory with `spl.ko` and `zfs.ko` for this kernel."""
    key = f"{versions.kernel}-{versions.zfs}-{key_of([RECIPE])[:6]}".replace("/", "_").replace("~", "_")
    return cache.get("zfs-modules", key, lambda folder: build(versions, folder))
