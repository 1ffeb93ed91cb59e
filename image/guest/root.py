"""The guest's disk: trixie with OpenZFS and the project's Python packages, as an ext4 image for a direct kernel boot."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from image import debian, kernel, modules, wheels
from image.cache import Cache, key_of
from image.commands import in_tree, need, run
from image.errors import BuildError
from image.versions import Versions, remembered, resolve

RECIPE = 1  # raise it when what is built here changes
SIZE = "8G"  # of the file system; sparse
INODES = 250_000
VENV = "/opt/earwitness/venv"
CHECKOUT = "/srv/earwitness"
ZFS_PACKAGES = ("zfsutils-linux", "python3-pyzfs")  # of the modules' version exactly
PACKAGES = (
    "python3", "python3-venv", "udev", "kmod", "busybox-static", "util-linux", "mount", "e2fsprogs", "iproute2",
    "procps", "psmisc", "fdisk", "tpm2-tools", "tzdata", "strace", "openssl",
)  # fmt: skip
# Out of packages that would bring much else: zinject makes disks fail and stall as a test wants it.
UNPACKED = {"zfs-test": ("usr/sbin/zinject",)}
# Loaded before the root disk is there, in this order; what Debian's kernel has built in is passed over. ZFS comes later,
# from the root disk, while the agent and udev start on the other processor.
BOOT_MODULES = (
    "virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk",
    "virtio_console", "virtio_rng", "crc16", "crc32c_generic", "libcrc32c", "mbcache", "jbd2", "ext4",
)  # fmt: skip
# Block cloning has lost data; a pool's cache must leave room for the tests in two gigabytes.
MODULE_OPTIONS = "options zfs zfs_bclone_enabled=0 zfs_arc_max=402653184\noptions spl spl_panic_halt=1\n"
FILES = {
    "etc/modprobe.d/earwitness.conf": MODULE_OPTIONS,
    "etc/hostname": "earwitness-guest\n",
    "etc/hosts": "127.0.0.1 localhost earwitness-guest\n::1 localhost\n",
    "etc/fstab": "",
    f"{VENV[1:]}/lib/python{wheels.PYTHON}/site-packages/earwitness-checkout.pth": f"{CHECKOUT}\n",
    f"{VENV[1:]}/bin/earwitness": f"#!{VENV}/bin/python\n"
    "import sys\n\nfrom appliance.cli.main import main\n\nsys.exit(main())\n",
}


class Recipe:
    """What one image is made from."""

    def __init__(self, cache: Cache, lock: Path) -> None:
        self.cache = cache
        self.lock = lock
        self.wheels = wheels.locked_for(lock.read_text())

    def key(self, versions: Versions) -> str:
        """The name of the image in the cache."""
        made_from = [
            RECIPE,
            asdict(versions),
            PACKAGES,
            ZFS_PACKAGES,
            UNPACKED,
            BOOT_MODULES,
            FILES,
            self.wheels,
            SIZE,
            INODES,
        ]
        return key_of(made_from)

    def get(self) -> Path:
        """The directory with `root.ext4`, `vmlinux`, `boot/` (modules, busybox), `facts.json`; builds what is missing."""
        known = remembered(self.cache)
        if known is not None and self.cache.has("guest", self.key(known)):
            return self.cache.get("guest", self.key(known), _unreachable)
        # Building asks anew: a mirror keeps only its newest packages.
        versions = resolve(self.cache)
        return self.cache.get("guest", self.key(versions), lambda folder: self._build(versions, folder))

    def _build(self, versions: Versions, folder: Path) -> None:
        need("mmdebstrap", "chroot", "mke2fs", "dpkg-deb", "apt-get")
        house = wheels.wheelhouse(self.cache, self.lock)
        zfs = modules.modules(self.cache, versions)
        tree, work = folder / "tree", folder / "work"
        exact = [f"{name}={versions.zfs}" for name in ZFS_PACKAGES]
        debian.make_tree(tree, debian.sources(), [*PACKAGES, *exact])
        apt = debian.Apt(work / "apt", debian.sources())
        apt.update()
        unpacked = _unpack(apt, f"linux-image-{versions.kernel}={versions.kernel_package}", work)
        _install_modules(tree, versions, unpacked, zfs)
        (vmlinuz,) = unpacked.glob("boot/vmlinuz-*")
        (folder / "vmlinux").write_bytes(kernel.vmlinux(vmlinuz.read_bytes()))
        for package, files in UNPACKED.items():
            unpacked = _unpack(apt, f"{package}={versions.zfs}", work)
            for name in files:
                shutil.copy(unpacked / name, tree / name)
        _install_python(tree, house)
        for name, text in FILES.items():
            file = tree / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (tree / VENV[1:] / "bin/earwitness").chmod(0o755)
        (tree / CHECKOUT[1:]).mkdir(parents=True)
        _collect_boot_files(tree, versions, folder / "boot")
        run(
            ["mke2fs", "-q", "-t", "ext4", "-L", "earwitness-root", "-m", "0", "-N", str(INODES), "-d", tree,
             "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", folder / "root.ext4", SIZE],
        )  # fmt: skip
        for done in (tree, work):
            shutil.rmtree(done)
        (folder / "facts.json").write_text(json.dumps(asdict(versions)))


def _unreachable(folder: Path) -> None:
    raise BuildError(f"{folder} vanished from the cache while it was looked at")


def _unpack(apt: debian.Apt, package: str, work: Path) -> Path:
    """A package's files, without installing it: a kernel would make an initrd that nobody boots."""
    (archive,) = apt.download([package], work)
    unpacked = archive.with_suffix("")
    run(["dpkg-deb", "-x", archive, unpacked])
    return unpacked


def _install_modules(tree: Path, versions: Versions, unpacked: Path, zfs: Path) -> None:
    """The kernel's modules, and ZFS's."""
    (found,) = [*unpacked.glob("lib/modules/*"), *unpacked.glob("usr/lib/modules/*")]
    target = tree / "usr/lib/modules" / versions.kernel
    target.parent.mkdir(exist_ok=True)
    shutil.copytree(found, target, symlinks=True)
    (target / "updates").mkdir()
    for name in modules.MODULES:
        shutil.copy(zfs / "lean" / f"{name}.ko", target / "updates")
    in_tree(tree, ["depmod", "-a", versions.kernel])


def _install_python(tree: Path, house: Path) -> None:
    in_tree(tree, ["python3", "-m", "venv", "--system-site-packages", VENV])
    inside = tree / "tmp/wheels"
    shutil.copytree(house, inside)
    in_tree(
        tree,
        [f"{VENV}/bin/python", "-m", "pip", "install", "--quiet", "--progress-bar", "off", "--no-index", "--no-deps",
         "--ignore-installed", "--require-hashes", "--only-binary", ":all:", "--find-links", "/tmp/wheels",
         "--requirement", "/tmp/wheels/requirements.txt"],
    )  # fmt: skip
    shutil.rmtree(inside)


def _collect_boot_files(tree: Path, versions: Versions, folder: Path) -> None:
    """What the initrd needs, in the order of loading: `NN-name.ko`, and busybox."""
    folder.mkdir()
    home = tree / "usr/lib/modules" / versions.kernel
    builtin = {Path(line).name.split(".")[0] for line in (home / "modules.builtin").read_text().splitlines()}
    files = {file.name.split(".")[0].replace("-", "_"): file for file in home.rglob("*.ko*")}
    for number, name in enumerate(BOOT_MODULES):
        if name in files:
            (folder / f"{number:02}-{name}.ko").write_bytes(modules.uncompressed(files[name]))
        elif name not in {one.replace("-", "_") for one in builtin}:
            raise BuildError(f"kernel {versions.kernel} has no module {name}")
    shutil.copy(tree / "usr/bin/busybox", folder / "busybox")
