"""Files in a place: looked at first, copied under another name, compared; never written where the bucket is not."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from appliance.model import new_id
from appliance.storage.vault.zfs import files, system


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A directory that stands for a mounted bucket."""
    folder = tmp_path / "bucket"
    folder.mkdir()
    return _place(folder, monkeypatch)


def _place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    descriptor = os.open(folder, os.O_RDONLY)
    monkeypatch.setattr(system, "MAGIC", system.magic(descriptor))
    os.close(descriptor)
    return {"path": str(folder), "device": os.stat(folder).st_dev, "stamp": ""}


def stamped(place: dict[str, Any]) -> dict[str, Any]:
    assert files.stamp(place, "bucket 7\n") == "bucket 7\n"
    return {**place, "stamp": "bucket 7\n"}


def test_a_file_comes_in_under_another_name_first(place: dict[str, Any], tmp_path: Path) -> None:
    place, source = stamped(place), tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    raw = source.read_bytes()
    assert files.copy_in(place, str(source), "a.ewr", ".a.tmp") == {
        "there": False,
        "same": True,
        "size": len(raw),
    }
    assert sorted(os.listdir(place["path"])) == [".a.tmp", ".bucket"]
    files.give_name(place, ".a.tmp", "a.ewr")
    assert (Path(place["path"]) / "a.ewr").read_bytes() == raw
    assert files.copy_in(place, str(source), "a.ewr", ".b.tmp") == {
        "there": True,
        "same": True,
        "size": len(raw),
    }
    source.write_bytes(raw[:-1] + b"x")
    assert not files.copy_in(place, str(source), "a.ewr", ".b.tmp")["same"]
    source.unlink()
    assert files.copy_in(place, str(source), "a.ewr", ".b.tmp")["same"], "it was moved before"
    assert sorted(os.listdir(place["path"])) == [".bucket", "a.ewr"]
    with pytest.raises(FileNotFoundError):
        files.copy_in(place, str(source), "b.ewr", ".b.tmp")


def test_a_name_is_never_taken_from_another_file(place: dict[str, Any]) -> None:
    folder = Path(place["path"])
    (folder / "a.ewr").write_bytes(b"first")
    (folder / ".a.tmp").write_bytes(b"second")
    with pytest.raises(FileExistsError):
        files.give_name(place, ".a.tmp", "a.ewr")
    assert (folder / "a.ewr").read_bytes() == b"first" and os.listdir(folder) == ["a.ewr"]


def test_a_full_disk_leaves_nothing_behind(
    place: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"sealed")

    def full(descriptor: int) -> None:
        raise OSError(errno.EDQUOT, "quota")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="quota"):
        files.copy_in(place, str(source), "a.ewr", ".a.tmp")
    assert os.listdir(place["path"]) == [] and source.exists()


@pytest.mark.parametrize("wrong", ["device", "magic", "stamp", "gone", "link"])
def test_nothing_is_done_where_the_bucket_is_not(
    place: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    place = stamped(place)
    if wrong == "device":
        place["device"] += 1
    elif wrong == "magic":
        monkeypatch.setattr(system, "MAGIC", 0x2FC12FC1)
    elif wrong == "stamp":
        (Path(place["path"]) / ".bucket").write_text("bucket 8\n")
    elif wrong == "link":
        os.rename(place["path"], tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", place["path"])
    else:
        place["path"] += "x"
    source = tmp_path / "source"
    source.write_bytes(b"sealed")
    error = OSError if wrong == "link" else files.Astray
    for refused in (
        lambda: files.copy_in(place, str(source), "a.ewr", ".a.tmp"),
        lambda: files.give_name(place, ".a.tmp", "a.ewr"),
        lambda: files.remove(place, ["a.ewr"]),
        lambda: files.listing(place),
        lambda: files.Handles().open(place, "a.ewr"),
    ):
        with pytest.raises(error):
            refused()
    assert source.exists()


def test_a_bucket_says_which_it_is_once(place: dict[str, Any]) -> None:
    assert files.stamp(place, "bucket 7\n") == "bucket 7\n"
    assert files.stamp(place, "bucket 8\n") == "bucket 7\n"


def test_what_a_crash_left_is_swept_and_not_listed(place: dict[str, Any]) -> None:
    place, folder = stamped(place), Path(place["path"])
    name = f"{new_id()}.ewr"
    (folder / name).write_bytes(b"sealed")
    (folder / f".{name}.12ab.tmp").write_bytes(b"half")
    (folder / "notes").mkdir()
    assert sorted(files.listing(place)) == sorted([(name, 6), ("notes", -1)])
    files.sweep(place)
    assert sorted(os.listdir(folder)) == sorted([".bucket", name, "notes"])
    assert (files.find(place, name), files.find(place, "x")) == (6, -1)


def test_what_comes_back_is_compared_first(
    place: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tmp_path / "snapshot"
    before.mkdir()
    snapshot = _place(before, monkeypatch)
    for name, then, now in (
        ("a", b"one", None),
        ("b", b"two", b"two"),
        ("c", b"three", b"other"),
        ("d", None, b"x"),
    ):
        for folder, content in ((before, then), (Path(place["path"]), now)):
            if content is not None:
                (folder / name).write_bytes(content)
    assert files.compare(place, snapshot, ["a", "b", "c", "d"]) == {
        "missing": ["d"],
        "same": ["b"],
        "other": ["c"],
    }
    assert files.bring_back(place, snapshot, "a", ".a.tmp") == 3
    files.give_name(place, ".a.tmp", "a")
    assert (Path(place["path"]) / "a").read_bytes() == b"one"


def test_an_open_file_outlives_its_name(place: dict[str, Any]) -> None:
    (Path(place["path"]) / "a.ewr").write_bytes(bytes(range(200)))
    handles = files.Handles()
    opened = handles.open(place, "a.ewr")
    files.remove(place, ["a.ewr", "never there"])
    assert opened["size"] == 200 and handles.pread(opened["handle"], 10, 100) == bytes(range(100, 110))
    for _ in range(2):
        handles.close(opened["handle"])
    with pytest.raises(OSError, match="handle"):
        handles.pread(opened["handle"], 10, 0)


def test_lines_of_mountinfo() -> None:
    line = "412 29 0:57 / /run/mounts/a\\040b rw,nosuid,nodev,noexec,noatime shared:1 - zfs tank/rec/a@g-1 ro,xattr,noacl"
    assert system.parse_mount(line) == {
        "kind": "zfs",
        "device": os.makedev(0, 57),
        "target": "/run/mounts/a b",
        "readonly": False,
        "source": "tank/rec/a@g-1",
    }
    assert system.parse_mount("29 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw")["kind"] == "ext4"
    assert system.parse_mount("412 29 0:57 / /m ro,nosuid - zfs tank/rec/a rw")["readonly"]


def test_a_file_takes_the_place_of_another_whole(place: dict[str, Any], tmp_path: Path) -> None:
    place, source = stamped(place), tmp_path / "source"
    for raw in (b"one", os.urandom(2_000_000)):
        source.write_bytes(raw)
        assert files.copy_aside(place, str(source), ".a.ewn.tmp") == len(raw)
        files.replace(place, ".a.ewn.tmp", "a.ewn")
        assert (Path(place["path"]) / "a.ewn").read_bytes() == raw
    assert sorted(os.listdir(place["path"])) == [".bucket", "a.ewn"]
    with pytest.raises(FileNotFoundError):
        files.replace(place, ".b.ewn.tmp", "a.ewn")
    assert (Path(place["path"]) / "a.ewn").read_bytes() == raw
