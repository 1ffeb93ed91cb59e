"""A damaged sidecar is set aside and a new one begun, which says so; a whole one is not."""

from __future__ import annotations

import base64

import pytest
from conftest_vault import CREATED_NS, Crash, Faults, House
from test_vault_attended import attended, cheap, unlock  # noqa: F401 (a fixture)
from test_vault_sidecars import annotate, entry, found, said

from appliance.model import new_id
from appliance.storage.keystore.errors import TenantLockedError
from appliance.storage.sealed.sidecar import pack_content, parse, read
from appliance.storage.sealed.sidecarerrors import (
    SidecarCorruptError,
    SidecarEntryError,
    SidecarProblem,
    SidecarWholeError,
)
from appliance.storage.sealed.sidecarlayout import MAX_BYTES
from appliance.storage.vault.errors import RecordingDeletedError
from appliance.storage.vault.sidecars import Anew, Sidecars, put


def first(name: str = "") -> bytes:
    content = {"id": name or new_id(), "what": "sidecar-begun-anew", "by": "ada", "at_ns": CREATED_NS}
    return pack_content(content | {"reason": "no copy has it"})


def lay(house: House, name: str, raw: bytes) -> None:
    assert house.vault is not None
    bucket = house.vault.holding(name).bucket
    house.vault.buckets.open(bucket)
    put(house.vault, house.vault.store, bucket, name, raw)


def begin(house: House, name: str, *more: bytes, content: bytes = b"", validate_only: bool = False) -> Anew:
    assert house.vault is not None
    return Sidecars(house.vault).begin_anew(name, content or first(), more, validate_only=validate_only)


def entries(house: House, name: str) -> list[dict]:
    assert house.vault is not None
    return read(parse(Sidecars(house.vault).read(name)), house.keys[name])


def test_a_damaged_one_is_kept_within_the_new_one_which_says_what_was_wrong(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    annotate(house, name, "one")
    older = Sidecars(vault).read(name)
    head = annotate(house, name, "two").head
    lay(house, name, older)
    position = vault.holdings.position
    assert begin(house, name, validate_only=True) == Anew(None, b"", SidecarProblem.CUT)
    assert Sidecars(vault).read(name) == older and vault.holdings.position == position
    done = begin(house, name, entry("one"), entry("two"))
    assert done.head is not None and done.head.begun == 1 and done.problem is SidecarProblem.CUT
    assert vault.holding(name).sidecar == done.head
    begun, one, two, aside = entries(house, name)
    assert pack_content(begun) == done.first and (one["text"], two["text"]) == ("one", "two")
    assert begun["reason"] == "no copy has it" and begun["kept"] is True and begun["begun"] == 1
    assert (begun["former_entries"], begun["former_sha256"]) == (2, head.sha256)
    assert base64.b64decode(aside["data"]) == older and begun["found_size"] == len(older)
    # What could be read of it can be read still.
    assert [each["text"] for each in read(parse(base64.b64decode(aside["data"])), house.keys[name])] == [
        "one"
    ]
    assert found(house) == [] and house.settle().sidecars_damaged == 0
    head = annotate(house, name, "three").head
    assert head.begun == 1 and head.entries == 5
    house.open()
    assert house.vault is not None and house.vault.holding(name).sidecar == head
    assert found(house) == []


def test_every_damage_that_the_check_finds_lets_it_begin_anew_and_nothing_else_does(house: House) -> None:
    vault = house.open()
    (name, other, bare) = house.filed(3)
    for one in (name, other):
        annotate(house, one)
    whole, foreign = Sidecars(vault).read(name), Sidecars(vault).read(other)
    for sound in (name, bare):
        with pytest.raises(SidecarWholeError):
            begin(house, sound)
    with pytest.raises(SidecarEntryError):
        begin(house, name, content=entry())
    flipped = bytearray(whole)
    flipped[200] ^= 1
    damages = (foreign, bytes(flipped), whole[:-1], whole[:40], b"x" * (MAX_BYTES + 1))
    for times, raw in enumerate(damages, 1):
        lay(house, name, raw)
        done = begin(house, name)
        assert done.head is not None and done.head.begun == times
        said_first = entries(house, name)[0]
        assert said_first["kept"] is (len(raw) < MAX_BYTES), "what does not fit is told by its digest"
        assert found(house) == []
        annotate(house, name, "goes on")
        with pytest.raises(SidecarWholeError):
            begin(house, name)
    # The same recording, whole, and now gone altogether.
    bucket = vault.holding(name).bucket
    sealed = house.stored(name)
    vault.store.remove(bucket, [name])
    aside = house.layout.vault / "again"
    aside.write_bytes(sealed)
    vault.store.write(bucket, name, aside)
    assert found(house) == ["SIDECAR_MISSING"]
    assert begin(house, name).problem is SidecarProblem.MISSING
    assert entries(house, name)[0]["kept"] is False and found(house) == []
    vault.delete(name, "")
    with pytest.raises(RecordingDeletedError):
        begin(house, name)


def test_a_locked_tenants_sidecar_waits_for_its_key(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    annotate(house, name, "one")
    older = Sidecars(vault).read(name)
    annotate(house, name, "two")
    lay(house, name, older)
    attended(house)
    with pytest.raises(TenantLockedError):
        begin(house, name)
    assert Sidecars(vault).read(name) == older
    unlock(house)
    begin(house, name)


def test_a_crash_at_each_step_leaves_it_damaged_or_begun_and_asking_again_begins_it_once(
    house: House,
) -> None:
    at = 0
    while True:
        vault = house.open()
        (name,) = house.filed()
        annotate(house, name, "one")
        older = Sidecars(vault).read(name)
        annotate(house, name, "two")
        lay(house, name, older)
        one = first()
        faults = Faults()
        vault = house.open(faults)
        faults.steps.clear()
        faults.at = at
        try:
            begin(house, name, entry("one"), content=one)
        except Crash:
            pass
        else:
            break
        house.open()
        house.settle()
        done = begin(house, name, entry("one"), content=one)
        assert house.vault is not None and house.vault.holding(name).sidecar == done.head
        assert done.head is not None and (done.head.begun, done.head.entries) == (1, 3)
        assert found(house) == []
        assert begin(house, name, content=one) == done
        assert [each.get("text") for each in entries(house, name)] == [None, "one", None]
        annotate(house, name, "goes on")
        at += 1
    assert at >= 3


def test_what_is_begun_anew_goes_with_its_recording(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    annotate(house, name, "one")
    lay(house, name, Sidecars(vault).read(name)[:-1])
    with pytest.raises(SidecarCorruptError):
        said(house, name)
    begin(house, name)
    raw = Sidecars(vault).read(name)
    house.eraser.erase([name], "asked")
    with pytest.raises(SidecarCorruptError):
        read(parse(raw), bytes(32))
    assert house.settle().unknown == 0
