"""Root keys in a TPM, met as it is: a software TPM behind the same tools."""

from __future__ import annotations

import itertools
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest_keystore import Box, Crash, Faults
from conftest_tpm import SoftwareTpm, skip_without_tpm

from appliance.model import InvalidError, Kind
from appliance.storage.keystore import FileRootSlot, TpmRootSlot, root_slot
from appliance.storage.keystore.errors import (
    KeystoreCorruptError,
    KeystoreDegradedError,
    KeystoreLostError,
    KeystoreWriteError,
    RootKeyMissingError,
    TpmError,
)
from appliance.storage.keystore.rootslot import Active, RootKey
from appliance.storage.keystore.tpm import Tpm

BASES = itertools.count(0x0180_0100, 0x10)


@pytest.fixture(scope="module")
def machine() -> Iterator[SoftwareTpm]:
    """A TPM that stays on."""
    skip_without_tpm()
    made = SoftwareTpm()
    made.on()
    yield made
    made.remove()


@pytest.fixture
def own() -> Iterator[SoftwareTpm]:
    """A TPM of the test's own, which it may switch off, clear or wear out."""
    skip_without_tpm()
    made = SoftwareTpm()
    made.on()
    yield made
    made.remove()


@pytest.fixture
def base(machine: SoftwareTpm) -> Iterator[int]:
    """Indices of the test's own."""
    first = next(BASES)
    yield first
    tpm = Tpm(machine.tcti)
    for index in tpm.indices() & set(range(first, first + 3)):
        tpm.undefine(index)


@pytest.fixture
def slot(machine: SoftwareTpm, base: int) -> TpmRootSlot:
    return TpmRootSlot(Tpm(machine.tcti), base=base)


@pytest.fixture
def sealed(machine: SoftwareTpm, base: int, tmp_path: Path) -> Iterator[Box]:
    """A keystore whose root keys lie in the TPM."""
    made = Box(tmp_path / "keystore", lambda fault: TpmRootSlot(Tpm(machine.tcti), base=base, fault=fault))
    yield made
    made.close()


# The slot alone.


def test_a_key_is_read_back_until_it_is_destroyed(slot: TpmRootSlot, machine: SoftwareTpm, base: int) -> None:
    root, tpm = RootKey(7, b"k" * 32), Tpm(machine.tcti)
    with pytest.raises(RootKeyMissingError):
        slot.read(0)
    slot.destroy(0)
    for _ in range(2):
        slot.write(0, root)
        assert slot.read(0) == root
    other = RootKey(8, b"o" * 32)
    slot.write(1, other)
    slot.write(1, other)
    assert (slot.read(0), slot.read(1)) == (root, other)
    assert {base, base + 1} <= tpm.indices()
    slot.destroy(0)
    slot.destroy(0)
    assert base not in tpm.indices() and slot.read(1) == other
    with pytest.raises(RootKeyMissingError):
        slot.read(0)
    with pytest.raises(TpmError) as error:
        tpm.read(base, 64)
    assert error.value.kind is Kind.UNAVAILABLE and error.value.data["command"] == "nvread"


def test_which_slot_counts(slot: TpmRootSlot, machine: SoftwareTpm, base: int) -> None:
    assert slot.active() is None
    for active in (Active(0, 1), Active(1, 2), Active(1, 2)):
        slot.activate(active)
        assert slot.active() == active
    assert slot.mend(Active(1, 2), RootKey(2, bytes(32))) == []
    tpm = Tpm(machine.tcti)
    tpm.write(base + 2, b"x" * 24)
    with pytest.raises(KeystoreCorruptError):
        slot.active()
    assert slot.mend(Active(1, 2), RootKey(2, bytes(32))) and slot.active() == Active(1, 2)
    tpm.undefine(base + 2)
    tpm.define(base + 2, 24)  # as after a crash between the two steps
    assert slot.active() is None
    slot.activate(Active(0, 3))
    assert slot.active() == Active(0, 3)


def test_what_is_no_root_key_is_not_taken_for_one(slot: TpmRootSlot, machine: SoftwareTpm, base: int) -> None:
    tpm = Tpm(machine.tcti)
    tpm.define(base, 64)
    with pytest.raises(RootKeyMissingError):
        slot.read(0)
    tpm.write(base, RootKey(1, b"k" * 32).pack(1))  # another slot's
    with pytest.raises(RootKeyMissingError):
        slot.read(0)
    slot.write(0, RootKey(1, b"k" * 32))
    assert slot.read(0).epoch == 1


def test_the_same_pointer_is_not_written_twice(slot: TpmRootSlot, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    real = Tpm.write
    monkeypatch.setattr(
        Tpm, "write", lambda self, index, data: (written.append(index), real(self, index, data))
    )
    for _ in range(3):
        slot.activate(Active(0, 1))
    assert len(written) == 1


# A keystore on it.


def test_a_keystore_lives_with_its_root_key_in_the_tpm(sealed: Box) -> None:
    box = sealed
    box.open()
    names = box.fill(5)
    bucket = (box.tenant, "hold", "2026-11")
    key = box.store.create_bucket_key(*bucket)
    box.store.pin(names[4:])
    box.open(create=False)
    assert box.held() == box.keys and box.store.findings == []
    assert not any("root" in name or "active" in name for name in box.files())
    before = box.files()
    assert box.store.shred(names[:2]).epoch == 2
    assert box.store.scrub() == []
    box.open(create=False)
    assert set(box.held()) == set(names[2:]) and box.store.bucket_key(*bucket) == key
    box.close()
    # What a disk may still have of the old epoch opens nothing.
    for name, raw in before.items():
        copy, file = name.split("/")
        (box.directories["ab".index(copy)] / file).write_bytes(raw)
    for path in [*box.directories[0].glob("*2.*"), *box.directories[1].glob("*2.*")]:
        path.unlink()
    with pytest.raises(RootKeyMissingError):
        box.open(create=False)


def steps(box: Box) -> list[str]:
    faults = Faults()
    box.open()
    names = box.fill(2)
    box.open(faults)
    faults.steps.clear()
    box.store.shred(names[:1])
    return faults.steps


def test_the_steps_are_as_documented(sealed: Box) -> None:
    assert steps(sealed) == [
        "slot defined in the TPM",
        "slot written in the TPM",
        "slot written",
        "epoch written",
        "journal created",
        "verified",
        "flipped in the TPM",
        "flipped",
        "flipped in the TPM",
        "slot destroyed in the TPM",
        "old slot destroyed",
        "old files removed",
        "copies noted",
    ]


@pytest.mark.parametrize("at", range(13))
def test_a_crash_in_a_shred_ends_in_the_old_state_or_the_new(
    sealed: Box, machine: SoftwareTpm, base: int, at: int
) -> None:
    box = sealed
    box.open()
    names = box.fill(4)
    faults = Faults()
    box.open(faults)
    faults.steps.clear()
    faults.at = at
    with pytest.raises(Crash):
        box.store.shred(names[:2])
    happened = "flipped in the TPM" in faults.steps
    # And once more, while it comes back.
    try:
        box.open(Faults(at % 4), create=False)
    except Crash:
        box.store = None
    box.open(create=False)
    assert box.store.epoch == (2 if happened else 1)
    assert set(box.held()) == set(names[2:] if happened else names)
    assert Tpm(machine.tcti).indices() & {base, base + 1} == {base + 1 if happened else base}
    for directory in box.directories:
        assert len(list(directory.glob("epoch-*"))) == 2
    assert box.store.shred(names[:2]).epoch == 2
    box.fill(1)
    box.open(create=False)
    assert len(box.held()) == 3 and box.store.findings == []


@pytest.mark.parametrize("at", range(0, 20, 2))
def test_a_crash_while_the_first_epoch_is_made(sealed: Box, at: int) -> None:
    faults = Faults(at)
    try:
        sealed.open(faults)
        assert at >= len(faults.steps)
    except Crash:
        sealed.store = None
    sealed.open()
    sealed.fill(2)
    sealed.open(create=False)
    assert sealed.held() == sealed.keys and sealed.store.findings == []


def test_a_copy_that_is_away_holds_no_root_key_and_keeps_no_erasure_up(sealed: Box) -> None:
    box = sealed
    box.open()
    names = box.fill(3)
    box.close()
    aside = box.directories[1].rename(box.directories[1].with_name("aside"))
    box.open(create=False)
    assert [item.present for item in box.store.copies()] == [True, True]
    assert box.store.shred(names[:1]).destroyed == (names[0],)
    box.close()
    for directory in box.directories:
        shutil.rmtree(directory)
    aside.rename(box.directories[1])
    with pytest.raises(RootKeyMissingError):  # nothing opens it any more
        box.open(create=False)


def test_one_copy_of_an_earlier_epoch_is_brought_up(sealed: Box) -> None:
    box = sealed
    box.open()
    names = box.fill(3)
    box.close()
    shutil.copytree(box.directories[1], box.directories[1].with_name("aside"))
    box.open(create=False)
    box.store.shred(names[:1])
    box.close()
    shutil.rmtree(box.directories[1])
    box.directories[1].with_name("aside").rename(box.directories[1])
    box.open(create=False)
    assert set(box.held()) == set(names[1:]) and box.store.findings
    assert {path.name for path in box.directories[0].iterdir()} == {
        path.name for path in box.directories[1].iterdir()
    }


# A TPM that is not what it was.


def on_tpm(own: SoftwareTpm, root: Path, tool: str = "tpm2", deadline_s: float = 15) -> Box:
    def slots(fault: Callable[[str], None]) -> TpmRootSlot:
        return TpmRootSlot(Tpm(own.tcti, tool=tool, deadline_s=deadline_s), fault=fault)

    return Box(root, slots)


def test_a_tpm_that_was_cleared_is_said_and_no_new_keystore_made(own: SoftwareTpm, tmp_path: Path) -> None:
    box = on_tpm(own, tmp_path / "keystore")
    box.open()
    box.fill(3)
    box.close()
    before = box.files()
    own.run("clear", "-c", "p")
    for create in (True, False):
        with pytest.raises(RootKeyMissingError, match="cleared or replaced"):
            box.open(create=create)
    assert box.files() == before


def test_the_tpm_of_another_box_is_said_and_nothing_changed(
    own: SoftwareTpm, machine: SoftwareTpm, tmp_path: Path
) -> None:
    box, other = on_tpm(own, tmp_path / "keystore"), on_tpm(machine, tmp_path / "other")
    for one in (box, other):
        one.open()
        one.fill(2)
        one.close()
    before = box.files()
    swapped = on_tpm(machine, tmp_path / "keystore")
    for create in (True, False):
        with pytest.raises(RootKeyMissingError, match="opens no copy"):
            swapped.open(create=create)
    assert box.files() == before
    for directory in box.directories:
        shutil.rmtree(directory)
    with pytest.raises(KeystoreLostError):
        box.open()
    own.run("clear", "-c", "p")
    box.open()
    box.close()
    for index in Tpm(machine.tcti).indices():
        Tpm(machine.tcti).undefine(index)


def test_a_pointer_that_is_lost_is_made_again(own: SoftwareTpm, tmp_path: Path) -> None:
    box = on_tpm(own, tmp_path / "keystore")
    box.open()
    box.fill(2)
    box.close()
    Tpm(own.tcti).undefine(0x0180_4557 + 2)
    box.open(create=False)
    assert box.held() == box.keys and box.store.findings
    box.store.shred(list(box.keys)[:1])


def test_a_tpm_that_is_off_stops_erasing_and_nothing_else(own: SoftwareTpm, tmp_path: Path) -> None:
    box = on_tpm(own, tmp_path / "keystore")
    box.open()
    names = box.fill(3)
    own.off()
    box.fill(1)
    box.store.pin(names[2:])
    assert box.held() == box.keys
    with pytest.raises((TpmError, KeystoreWriteError, KeystoreDegradedError)) as error:
        box.store.shred(names[:1])
    assert error.value.message
    assert box.held() == box.keys
    box.close()
    before = box.files()
    for create in (True, False):
        with pytest.raises(TpmError) as error:
            box.open(create=create)
        assert error.value.kind is Kind.UNAVAILABLE
    assert box.files() == before
    own.on()
    box.open(create=False)
    assert box.held() == box.keys and box.store.pinned() == names[2:]
    own.off()
    with pytest.raises((TpmError, KeystoreWriteError, KeystoreDegradedError)):
        box.store.shred(names[:1])
    own.on()
    assert box.store.shred(names[:1]).destroyed == (names[0],)
    assert box.store.degraded == []


@pytest.mark.parametrize("happened", [False, True])
@pytest.mark.parametrize("then", ["shred", "fill", "reopen"])
def test_a_flip_that_nobody_answers_for_is_found_out_before_anything_is_written(
    sealed: Box, monkeypatch: pytest.MonkeyPatch, happened: bool, then: str
) -> None:
    box = sealed
    box.open()
    names = box.fill(4)
    real_write, real_read, mute = Tpm.write, Tpm.read, []

    def write(self: Tpm, index: int, data: bytes) -> None:
        if index & 3 == 2:  # the pointer
            if happened:
                real_write(self, index, data)
            mute.append(True)
            raise TpmError("the TPM does not answer within 15 s", command="nvwrite")
        real_write(self, index, data)

    def read(self: Tpm, index: int, size: int, pcrs: object = ()) -> bytes:
        if mute:
            raise TpmError("the TPM does not answer within 15 s", command="nvread")
        return real_read(self, index, size)

    monkeypatch.setattr(Tpm, "write", write)
    monkeypatch.setattr(Tpm, "read", read)
    with pytest.raises(KeystoreDegradedError):
        box.store.shred(names[:1])
    assert box.store.degraded
    with pytest.raises(KeystoreDegradedError):  # where would it go?
        box.fill(1)
    assert all(box.store.data_key(name) == box.keys[name] for name in names[1:])
    mute.clear()
    monkeypatch.setattr(Tpm, "write", real_write)
    if then == "shred":
        assert box.store.shred(names[:1]).epoch == 2
    elif then == "fill":
        names += box.fill(2)
    else:
        box.open(create=False)
    gone = {names[0]} if happened or then == "shred" else set()
    assert box.store.epoch == (2 if gone else 1) and set(box.held()) == set(names) - gone
    box.open(create=False)
    assert set(box.held()) == set(names) - gone and box.store.findings == []


# Registers of the machine's state.


def test_a_key_bound_to_registers_is_read_only_in_the_same_state(own: SoftwareTpm, tmp_path: Path) -> None:
    plain = TpmRootSlot(Tpm(own.tcti))
    bound = TpmRootSlot(Tpm(own.tcti), pcrs=[7])
    plain.write(0, RootKey(1, b"k" * 32))
    assert bound.read(0).epoch == 1  # from before the setting was made
    bound.write(1, RootKey(2, b"b" * 32))
    assert bound.read(1) == RootKey(2, b"b" * 32)
    with pytest.raises(TpmError, match="state of the machine"):
        plain.read(1)
    own.run("pcrextend", "7:sha256=" + "ab" * 32)
    with pytest.raises(TpmError, match="state of the machine"):
        bound.read(1)
    bound.write(0, RootKey(3, b"n" * 32))
    assert bound.read(0).epoch == 3
    bound.destroy(1)
    with pytest.raises(RootKeyMissingError):
        bound.read(1)


def test_a_keystore_bound_to_secure_boot(own: SoftwareTpm, tmp_path: Path) -> None:
    box = Box(tmp_path / "keystore", lambda fault: TpmRootSlot(Tpm(own.tcti), pcrs=[7], fault=fault))
    box.open()
    names = box.fill(3)
    box.store.shred(names[:1])
    box.open(create=False)
    assert set(box.held()) == set(names[1:])
    box.close()
    before = box.files()
    own.run("pcrextend", "7:sha256=" + "cd" * 32)
    with pytest.raises(TpmError, match="state of the machine"):
        box.open()
    assert box.files() == before


# The tools.


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "tool"
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_no_secret_is_in_arguments_environment_or_files(own: SoftwareTpm, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    tool = script(
        tmp_path,
        f"with open({str(seen)!r}, 'a') as log: print(sys.argv, dict(os.environ), file=log)\n"
        "os.execvp('tpm2', ['tpm2', *sys.argv[1:]])",
    )
    box = on_tpm(own, tmp_path / "keystore", tool)
    box.open()
    names = box.fill(2)
    box.store.shred(names[:1])
    root = TpmRootSlot(Tpm(own.tcti)).read(1)
    assert root.epoch == 2
    log = seen.read_text()
    assert "nvwrite" in log and root.key.hex() not in log and repr(root.key) not in log
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(everything) > 8 and not any(root.key in path.read_bytes() for path in everything)
    assert root.key.hex() not in repr(root) and repr(root.key) not in repr(root)
    box.close()


def test_a_tool_that_hangs_is_given_up(tmp_path: Path) -> None:
    slot = TpmRootSlot(Tpm("none", tool=script(tmp_path, "time.sleep(60)"), deadline_s=0.3))
    for ask in (slot.active, lambda: slot.read(0), lambda: slot.destroy(0)):
        began = time.monotonic()
        with pytest.raises(TpmError, match="does not answer"):
            ask()
        assert time.monotonic() - began < 10


def test_a_missing_tool_is_said(tmp_path: Path) -> None:
    with pytest.raises(TpmError, match="tpm2-tools"):
        Tpm("none", tool=str(tmp_path / "nothing")).indices()


def test_a_tpm_that_asks_for_a_moment_gets_it(tmp_path: Path) -> None:
    count = tmp_path / "count"
    tool = script(
        tmp_path,
        f"with open({str(count)!r}, 'a+') as f: f.write('x'); f.seek(0); n = len(f.read())\n"
        "if n < 3: sys.exit('ERROR: Esys_NV_Write(0x920) - tpm:warn(2.0): the TPM is rate-limiting accesses')\n"
        "sys.stdin.buffer.read()",
    )
    Tpm("none", tool=tool).write(1, b"x")
    assert count.read_text() == "xxx"
    busy = tmp_path / "busy"
    busy.write_text(
        "#!/bin/sh\necho 'ERROR: Esys_NV_Write(0x920) - tpm:warn(2.0): the TPM is rate-limiting accesses' >&2\nexit 1\n"
    )
    busy.chmod(0o755)
    with pytest.raises(TpmError) as error:
        Tpm("none", tool=str(busy), deadline_s=2).write(1, b"x")
    assert error.value.data["code"] == 0x920 and "rate-limiting" in error.value.message


def test_what_the_tpm_said_is_told(tmp_path: Path) -> None:
    for told, code in (
        (
            "ERROR: Esys_NV_Read(0x99D) - tpm:session(1):a policy check failed\nERROR: Unable to run nvread",
            0x99D,
        ),
        ("ERROR: Could not load tcti", 0),
        ("", 0),
    ):
        with pytest.raises(TpmError) as error:
            Tpm("none", tool=script(tmp_path, f"sys.exit({told!r})")).indices()
        assert error.value.data == {"command": "getcap", "code": code}
        assert told.split("\n")[0].removeprefix("ERROR: ") in error.value.message


def test_the_kind_of_slot_is_chosen(tmp_path: Path) -> None:
    directories = [tmp_path / "a", tmp_path / "b"]
    assert isinstance(root_slot("file", directories), FileRootSlot)
    assert isinstance(root_slot("tpm", directories, "swtpm:path=/nowhere", pcrs=[7]), TpmRootSlot)
    with pytest.raises(InvalidError) as error:
        root_slot("card", directories)
    assert error.value.data["field"] == "kind"
