"""What images are made from: mirrors, versions, locks, kernels, archives. Without a mirror and without root."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from image import debian, kernel, wheels
from image.cache import KEPT, Cache
from image.errors import BuildError
from image.guest import checkout, initrd
from image.guest.report import cases, summary
from image.guest.root import BOOT_MODULES
from image.guest.spec import Disk, Spec, command
from image.versions import Versions, ask, remembered, zfs_release

# -- mirrors

TARGETS = """\
http://mirror.example/debian/|bookworm|main
http://mirror.example/debian/|bookworm-updates|main
http://safe.example/debian-security/|bookworm-security|main
http://mirror.example/debian/|bookworm|contrib
https://third.example/apt|bookworm|stable
https://third.example/node|nodistro|main
"""


def test_each_suite_comes_from_the_mirror_that_the_machine_takes_it_from() -> None:
    found = debian.translate(TARGETS, "bookworm")
    assert [source.line() for source in found] == [
        "deb http://mirror.example/debian/ trixie main contrib",
        "deb http://mirror.example/debian/ trixie-updates main contrib",
        "deb http://safe.example/debian-security/ trixie-security main contrib",
    ]


def test_a_machine_of_the_same_release_and_one_that_says_stable_have_the_same_sources() -> None:
    for names in ("trixie", "stable"):
        targets = TARGETS.replace("bookworm", names)
        assert debian.translate(targets, "trixie") == debian.translate(TARGETS, "bookworm")


def test_a_machine_without_a_debian_mirror_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BuildError, match="names no mirror of Debian bookworm"):
        debian.translate("https://third.example/node|nodistro|main\n", "bookworm")
    with pytest.raises(BuildError, match="built on Debian"):
        debian.codename('ID=ubuntu\nVERSION_CODENAME="noble"\n')
    assert debian.codename('ID=debian\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n') == "bookworm"


def test_a_missing_security_mirror_is_told(caplog: pytest.LogCaptureFixture) -> None:
    debian.translate("http://mirror.example/debian/|bookworm|main\n", "bookworm")
    assert "without security updates" in caplog.text


# -- versions


class Archive(debian.Apt):
    """Fields of packages, as a mirror would have them."""

    def __init__(self, fields: dict[tuple[str, str], str]) -> None:
        self._fields = fields

    def field(self, package: str, name: str) -> str:
        return self._fields[package, name]


def archive(zfs: str = "2.3.9-0+deb13u1", pyzfs: str | None = None) -> Archive:
    return Archive(
        {
            ("linux-image-cloud-amd64", "Depends"): "linux-image-6.12.1+deb13-cloud-amd64 (= 6.12.1-1)",
            ("zfs-dkms", "Version"): zfs,
            ("zfsutils-linux", "Version"): zfs,
            ("python3-pyzfs", "Version"): pyzfs or zfs,
        }
    )


def test_versions_are_what_the_mirror_has() -> None:
    assert ask(archive()) == Versions("6.12.1+deb13-cloud-amd64", "6.12.1-1", "2.3.9-0+deb13u1")


@pytest.mark.parametrize(
    ("mirror", "complaint"),
    [(archive("2.3.2-2"), "2.3.9 or newer is needed"), (archive(pyzfs="2.3.8-1"), "middle of an update")],
)
def test_zfs_that_is_too_old_or_does_not_fit_is_refused(mirror: Archive, complaint: str) -> None:
    with pytest.raises(BuildError, match=complaint):
        ask(mirror)


def test_releases_compare_as_numbers() -> None:
    assert zfs_release("2.3.10-1") > zfs_release("1:2.3.9-0+deb13u1") == (2, 3, 9)


def test_an_old_answer_is_asked_for_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert remembered(cache) is None
    said = {"versions": {"kernel": "k", "kernel_package": "1", "zfs": "2.3.9-1"}}
    for age, known in ((60, True), (8 * 24 * 3600, False), (-3600, False)):
        (tmp_path / "versions.json").write_text(json.dumps(said | {"asked": time.time() - age}))
        assert (remembered(cache) is not None) == known


# -- wheels

ROOT = Path(__file__).resolve().parents[2]


def locked(*lines: str) -> str:
    """A lock file with these lines and all that is left out."""
    return "".join(
        f"{line} \\\n    --hash=sha256:aa\n" for line in [*lines, *(f"{name}==1" for name in wheels.LEFT_OUT)]
    )


def test_lines_for_the_guests_python_are_kept_and_the_rest_is_not() -> None:
    lock = locked(
        "numpy==2.4 ; python_full_version < '3.12'", "numpy==2.5 ; python_full_version >= '3.12'",
        "colorama==1 ; sys_platform == 'win32'", "cffi==2 ; platform_python_implementation != 'PyPy'",
    )  # fmt: skip
    assert wheels.locked_for(lock) == ["numpy==2.5 --hash=sha256:aa", "cffi==2 --hash=sha256:aa"]


@pytest.mark.parametrize(
    ("lock", "complaint"),
    [
        (locked("pyzfs==0.2.3"), "hides Debian's"),
        (locked() + "naked==1\n", "without a hash"),
        (locked().replace("mypy==1", "other==1"), "left out of the guest but not in the lock: mypy$"),
    ],
)
def test_locks_that_would_make_a_wrong_guest_are_refused(lock: str, complaint: str) -> None:
    with pytest.raises(BuildError, match=complaint):
        wheels.locked_for(lock)


def test_the_projects_own_lock_has_a_guest() -> None:
    kept = [line.split("==")[0] for line in wheels.locked_for((ROOT / "requirements/dev.lock").read_text())]
    assert {"pytest", "numpy", "cryptography", "grpcio"} <= set(kept)
    assert len(kept) == len(set(kept)), "one line for each package"


# -- kernel


def bzimage(payload: bytes, version: int = 0x20F) -> bytes:
    """A bzImage with a one-sector set-up part."""
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, version)
    struct.pack_into("<II", head, 0x248, 16, len(payload))
    return bytes(head) + b"s" * 16 + payload + b"rest"


ELF = b"\x7fELF" + os.urandom(1000)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_the_kernel_is_found_in_its_image(compress: Callable[[bytes], bytes]) -> None:
    # A kernel's payload ends with its length: decompressors see something behind the data.
    assert kernel.vmlinux(bzimage(compress(ELF) + b"\x04\0\0\0")) == ELF


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (bytes(4096), "no bzImage"),
        (bzimage(gzip.compress(ELF), version=0x200), "boot protocol 0x200"),
        (bzimage(b"unknown"), "compressed by something unknown"),
        (bzimage(gzip.compress(b"no elf")), "no ELF"),
    ],
)
def test_what_is_no_kernel_is_refused(image: bytes, complaint: str) -> None:
    with pytest.raises(BuildError, match=complaint):
        kernel.vmlinux(image)


# -- initrd


def unpacked(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Names, modes and contents of a newc archive, read as the kernel's documentation says."""
    found, place = {}, 0
    while True:
        assert archive[place : place + 6] == b"070701"
        fields = [int(archive[place + 6 + 8 * number :][:8], 16) for number in range(13)]
        name = archive[place + 110 :][: fields[11] - 1].decode()
        data = (place + 110 + fields[11] + 3) & ~3
        place = (data + fields[6] + 3) & ~3
        if name == "TRAILER!!!":
            return found
        parent = name.rpartition("/")[0]
        assert not parent or stat.S_ISDIR(found[parent][0]), "the kernel makes no directories by itself"
        found[name] = (fields[1], archive[data:][: fields[6]])


def test_the_initrd_has_the_modules_and_our_programs(tmp_path: Path) -> None:
    (tmp_path / "busybox").write_bytes(b"busybox")
    (tmp_path / "05-virtio_blk.ko").write_bytes(b"module!")
    found = unpacked(initrd.build(tmp_path))
    assert found["boot/05-virtio_blk.ko"] == (stat.S_IFREG | 0o644, b"module!")
    assert found["init"][0] == stat.S_IFREG | 0o755
    assert found["inside/agent.py"][1] == (initrd.INSIDE / "agent.py").read_bytes()
    assert any(name.endswith(".rules") for name in found)
    assert {"dev", "proc", "sysroot"} <= set(found)


def test_zfs_is_not_loaded_before_its_options_can_be_read() -> None:
    assert not {"zfs", "spl"} & set(BOOT_MODULES)


# -- the machine


def test_disks_have_fixed_places_and_names() -> None:
    spec = Spec(disks=(Disk("d1", 1), Disk("d2", 2)), memory=512, extra=("-snapshot",))
    assert Spec.loads(spec.dumps()) == spec
    words = " ".join(command(spec, Path("/k")))
    assert "serial=d1,addr=0x8" in words
    assert "serial=d2,addr=0x9" in words
    assert "-m 512" in words
    assert words.endswith("-snapshot")


@pytest.mark.parametrize("name", ["", "D1", "a" * 21, "a,b", "a b"])
def test_disks_with_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name for a disk"):
        Disk(name, 1)


def test_two_disks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="a name of its own"):
        Spec(disks=(Disk("d1", 1), Disk("d1", 2)))


# -- the checkout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    (root / "pyproject.toml").write_text('[project]\nname = "thing"\nversion = "1.2"\n')
    (root / ".gitignore").write_text("ignored\n")
    for name in ("kept", "gone", "ignored"):
        (root / name).write_text(name)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    (root / "gone").unlink()
    (root / "new").write_text("new")
    return root


def test_the_checkout_is_what_git_would_commit_and_what_pip_would_note(repository: Path) -> None:
    assert set(checkout.files(repository)) == {
        ".gitignore", "kept", "new", "pyproject.toml", "thing-1.2.dist-info/METADATA",
    }  # fmt: skip


def test_only_what_changed_is_sent_and_what_went_is_dropped(repository: Path) -> None:
    before = checkout.files(repository)
    assert checkout.parse(checkout.render(before)) == before
    assert checkout.difference(repository, before, before) == checkout.Difference((), ())
    (repository / "kept").write_text("changed")
    (repository / "new").unlink()
    (repository / ".gitignore").chmod(0o755)
    after = checkout.files(repository)
    assert checkout.difference(repository, after, before) == checkout.Difference(
        (".gitignore", "kept"), ("new",)
    )
    assert set(checkout.difference(repository, after, checkout.parse(b"cut of")).send) == set(after)


def test_the_archive_unpacks_with_times_and_modes(repository: Path, tmp_path: Path) -> None:
    os.utime(repository / "kept", (1_000_000_000, 1_000_000_000))
    (repository / "kept").chmod(0o755)
    (tmp_path / "a.tgz").write_bytes(checkout.archive(repository, ("kept", "thing-1.2.dist-info/METADATA")))
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").touch()
    subprocess.run(
        ["sh", "-ec", checkout.UNPACK, "unpack", str(tmp_path / "a.tgz"), str(target)],
        input=b"old\0",
        check=True,
    )
    assert (target / "kept").stat().st_mtime == 1_000_000_000
    assert os.access(target / "kept", os.X_OK)
    assert "Version: 1.2" in (target / "thing-1.2.dist-info/METADATA").read_text()
    assert not (target / "old").exists()


# -- the cache


def test_an_entry_is_built_once_and_a_failed_one_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    built = []

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise BuildError("no")

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "whole").touch()

    with pytest.raises(BuildError):
        cache.get("kind", "key", fail)
    assert list((tmp_path / "kind").iterdir()) == []
    for _ in range(2):
        assert (cache.get("kind", "key", build) / "whole").exists()
    assert len(built) == 1


def test_what_a_killed_builder_left_is_swept(tmp_path: Path) -> None:
    stale = tmp_path / "kind" / ".key.abc"
    stale.mkdir(parents=True)
    (stale / "half").touch()
    Cache(tmp_path).get("kind", "key", lambda folder: (folder / "whole").touch())
    assert [entry.name for entry in (tmp_path / "kind").iterdir()] == ["key"]


def test_two_builders_wait_for_each_other(tmp_path: Path) -> None:
    built = []

    def build(folder: Path) -> None:
        time.sleep(0.1)
        built.append(folder)

    threads = [threading.Thread(target=Cache(tmp_path).get, args=("kind", "key", build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_the_entries_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    for number in range(KEPT + 2):
        cache.get("young", f"key{number}", lambda folder: None)
    assert cache.has("young", "key0"), "a guest may run from it"
    monkeypatch.setattr("image.cache.USED_S", -1)
    for number in range(KEPT + 1):
        path = cache.get("kind", f"key{number}", lambda folder: None)
        os.utime(path, (number, number))
    assert cache.has("kind", "key0") is False
    os.utime(cache.get("kind", "key1", lambda folder: None))
    cache.get("kind", "more", lambda folder: None)
    assert cache.has("kind", "key1")
    assert not cache.has("kind", "key2")


# -- reports

REPORT = b"""<?xml version="1.0"?><testsuites><testsuite name="pytest">
<testcase classname="a" name="good"/><testcase classname="a" name="bad"><failure message="no">trace</failure></testcase>
<testcase classname="a" name="worse"><error message="broke">trace</error></testcase>
<testcase classname="a" name="left"><skipped message="why">where</skipped></testcase></testsuite></testsuites>"""


def test_a_report_says_what_was_good_bad_and_left_out() -> None:
    found = cases(REPORT)
    assert [(case.name, case.outcome, case.bad) for case in found] == [
        ("a::good", "passed", False), ("a::bad", "failure", True), ("a::worse", "error", True),
        ("a::left", "skipped", False),
    ]  # fmt: skip
    assert found[1].text == "no\ntrace"
    assert summary(found) == "2 failed, 1 passed, 1 skipped"
    assert summary(cases(b"<testsuites/>")) == ""
