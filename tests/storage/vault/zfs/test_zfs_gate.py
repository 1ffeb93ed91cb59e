"""Only OpenZFS 2.3.9 or newer, from Debian, without block cloning; a package that hides it is refused by name."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.storage.vault.errors import StoreRefusedError
from appliance.storage.vault.zfs import gate
from appliance.storage.vault.zfs.pool import Pool
from appliance.storage.vault.zfs.worker import Worker

GOOD = gate.Found(
    "/usr/lib/python3/dist-packages/libzfs_core/__init__.py",
    "2.3.9",
    (),
    "zfs-2.3.9-0+deb13u1",
    "2.3.9-0+deb13u1",
    "0",
)


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ("zfs-2.3.9-0+deb13u1", (2, 3, 9)),
        ("2.4.0", (2, 4, 0)),
        ("zfs-kmod-2.3.10-rc1", (2, 3, 10)),
        ("0.2.3", (0, 2, 3)),
        ("", ()),
        ("unknown", ()),
    ],
)
def test_versions_are_numbers(version: str, found: tuple[int, ...]) -> None:
    assert gate.numbers(version) == found


def test_what_is_right_passes() -> None:
    gate.check(GOOD)
    gate.check(replace(GOOD, library_version="2.4.0", commands="zfs-2.4.0", module="2.3.10"))


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"library_path": "", "library_version": ""}, "python3-pyzfs"),
        ({"library_path": "/srv/venv/lib/python3.13/site-packages/libzfs_core/__init__.py"}, "hides it"),
        ({"library_lacks": ("lzc_channel_program",)}, "lzc_channel_program"),
        ({"library_version": "2.3.8"}, "libzfs_core is older"),
        ({"library_version": ""}, "libzfs_core is older"),
        ({"commands": "zfs-2.2.9"}, "commands"),
        ({"commands": ""}, "commands"),
        ({"module": "2.3.2-1"}, "kernel module"),
        ({"module": ""}, "kernel module"),
        ({"block_cloning": "1"}, "zfs_bclone_enabled"),
        ({"block_cloning": ""}, "zfs_bclone_enabled"),
    ],
)
def test_what_is_not_is_refused_with_what_was_found(fault: dict[str, object], word: str) -> None:
    found = replace(GOOD, **fault)  # type: ignore[arg-type]
    with pytest.raises(StoreRefusedError) as refused:
        gate.check(found)
    assert word in refused.value.message
    assert refused.value.data["found"] == found.words() and "2.3.9" in str(refused.value.data["wanted"])


def test_the_package_of_2016_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It imports, and has functions of these names without keys and programs."""
    shadow = tmp_path / "site-packages" / "libzfs_core"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text(
        "def lzc_create(name, ds_type='zfs', props=None): ...\n"
        "def lzc_snapshot(snaps, props=None): ...\n"
        "def lzc_hold(holds, fd=None): ...\n"
    )
    about = shadow.parent / "pyzfs-0.2.3.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pyzfs\nVersion: 0.2.3\n")
    monkeypatch.setenv("PYTHONPATH", f"{shadow.parent}:{':'.join(sys.path)}")
    (tmp_path / "tank").mkdir()
    worker = Worker(Pool("tank", tmp_path), 30.0)
    try:
        library = worker.call("library", on_pool=False).value
    finally:
        worker.close()
    assert (library["path"], library["version"]) == (str(shadow / "__init__.py"), "0.2.3")
    assert "lzc_load_key" in library["lacks"] and "lzc_snapshot" not in library["lacks"]
    module = tmp_path / "module"
    (module / "parameters").mkdir(parents=True)
    (module / "version").write_text("2.3.9-0+deb13u1\n")
    (module / "parameters/zfs_bclone_enabled").write_text("0\n")
    found = gate.gather(library, "zfs-2.3.9-0+deb13u1\nzfs-kmod-2.3.9-0+deb13u1\n", module)
    (told,) = gate.faults(found)
    assert "hides it" in told and "pyzfs" in told
