"""The driver: what it says of commands, files, panics and time-outs is true."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from image.errors import GuestDied, GuestError, GuestTimeout
from image.guest.session import Guest

pytestmark = pytest.mark.timeout(400)


def test_a_command_has_its_own_code_output_and_error(guest: Guest) -> None:
    result = guest.run(["sh", "-c", "echo out; echo err >&2; exit 7"], check=False)
    assert (result.code, result.out, result.err) == (7, b"out\n", b"err\n")
    assert guest.run(["sh", "-c", "kill -9 $$"], check=False).code == -9
    assert guest.run(["cat"], stdin=b"line\0\xff").out == b"line\0\xff"
    assert guest.run(["sh", "-c", "pwd; echo $COLOUR"], cwd="/usr", env={"COLOUR": "red"}).text == "/usr\nred"


def test_a_command_that_fails_or_is_not_there_raises(guest: Guest) -> None:
    with pytest.raises(GuestError, match=r"(?s)ended with 3.*what went wrong"):
        guest.run(["sh", "-c", "echo what went wrong >&2; exit 3"])
    with pytest.raises(GuestError, match="FileNotFoundError"):
        guest.run(["no-such-program"])


def test_more_output_than_one_answer_holds_comes_back_whole(guest: Guest) -> None:
    result = guest.run(["sh", "-c", "seq 1 300000; seq 1 50000 >&2"], timeout=120)
    assert result.out == b"".join(b"%d\n" % number for number in range(1, 300_001))
    assert result.err == b"".join(b"%d\n" % number for number in range(1, 50_001))


def test_files_go_in_and_out_unchanged(guest: Guest) -> None:
    data = os.urandom(1_500_000)
    guest.put(data, "/var/deep/down/file", mode=0o600)
    assert guest.get("/var/deep/down/file") == data
    assert guest.run(["stat", "-c", "%a", "/var/deep/down/file"]).text == "600"
    guest.put(b"", "/var/deep/down/file")
    assert guest.get("/var/deep/down/file") == b""


def test_a_command_that_takes_too_long_is_killed_with_its_children(guest: Guest) -> None:
    with pytest.raises(GuestTimeout, match=r"(?s)still running after 2 s.*started"):
        guest.run(["sh", "-c", "echo started; sleep 4321 & sleep 4321"], timeout=2)
    assert guest.run(["pgrep", "-f", "sleep 4321"], check=False).text == ""


def test_commands_run_beside_each_other(guest: Guest) -> None:
    long = guest.begin(["sh", "-c", "read line; echo $line; sleep 3421"], stdin=b"here\n")
    assert guest.run(["echo", "meanwhile"]).text == "meanwhile"
    deadline = time.monotonic() + 20
    while long.out != b"here\n" and time.monotonic() < deadline:
        assert long.poll(0.2) is None
    assert long.out == b"here\n"
    long.kill()
    assert long.wait(20).code == -9


def test_a_changed_checkout_is_brought_up_to_date(guest: Guest, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    guest.sync(root)
    assert guest.sync(root) == 0, "nothing changed"
    guest.run(["sh", "-c", "echo spoilt > README.md"])
    guest.put(b"{}", "/srv/earwitness/.manifest.json")
    assert guest.sync(root) > 100, "a guest that knows nothing gets all"
    assert guest.get("/srv/earwitness/README.md") == (root / "README.md").read_bytes()


def test_a_panic_is_told_with_the_console(guest: Guest) -> None:
    with pytest.raises(GuestDied, match=r"(?s)panicked.*sysrq triggered crash"):
        guest.run(["sh", "-c", "echo c > /proc/sysrq-trigger"], timeout=60)
    assert not guest.alive()


def test_a_machine_that_ended_is_told(guest: Guest) -> None:
    assert guest.pid() is not None
    guest.kill()
    assert guest.pid() is None
    with pytest.raises(GuestDied, match="machine has ended"):
        guest.run(["true"])


def test_a_disk_that_is_pulled_degrades_its_mirror_and_comes_back(guest: Guest, pool: str) -> None:
    second = guest.spec.disks[1]
    guest.unplug(second)
    guest.run(["zfs", "create", f"{pool}/more"])
    guest.run(["zpool", "sync", pool])
    assert guest.run(["zpool", "list", "-H", "-o", "health", pool]).text == "DEGRADED"
    guest.plug(second)
    guest.settle()
    guest.run(["zpool", "online", pool, "virtio-d2"])
    guest.run(["zpool", "wait", "-t", "resilver", pool])
    assert guest.run(["zpool", "list", "-H", "-o", "health", pool]).text == "ONLINE"


def test_a_pool_without_its_only_disk_stalls_its_writers_and_the_guest_still_answers(guest: Guest) -> None:
    third = guest.spec.disks[2]
    guest.run(["zpool", "create", "-f", "lonely", "virtio-d3"])
    try:
        guest.unplug(third)
        writer = guest.begin(["sh", "-c", "echo lost > /lonely/file; sync"])
        assert writer.poll(2.0) is None, "it waits for a disk that is not there"
        deadline = time.monotonic() + 60
        while True:
            found = json.loads(guest.run(["zpool", "status", "-j", "--json-int", "lonely"]).out)["pools"][
                "lonely"
            ]
            (disk,) = found["vdevs"]["lonely"]["vdevs"].values()
            # Sometimes it is suspended, sometimes it calls itself online and tries for ever.
            if found["state"] == "SUSPENDED" or disk["write_errors"] > 0:
                break
            assert time.monotonic() < deadline, f"the pool never noticed: {found}"
        assert writer.poll() is None
        assert guest.run(["echo", "still here"]).text == "still here"
    finally:
        guest.kill()  # nothing else ends such a pool for certain, whatever became of it
    guest.start()
    guest.run(["zpool", "import", "-d", "/dev/disk/by-id", "lonely"])
    guest.run(["zpool", "destroy", "-f", "lonely"])
