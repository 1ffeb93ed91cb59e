"""Sidecars on a whole vault: durable before they are told, and whatever happens to a recording happens to its notes."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest_vault import CREATED_NS, DAY_NS, Crash, Faults, House
from test_vault_attended import attended, cheap, unlock  # noqa: F401 (a fixture)
from test_vault_retention import WHO, days, keep, run
from test_vault_retention import filed as filed_now

from appliance.model import new_id
from appliance.storage.keystore.errors import TenantLockedError
from appliance.storage.sealed.sidecar import pack_content, parse, read
from appliance.storage.sealed.sidecarerrors import SidecarCorruptError, SidecarEntryError
from appliance.storage.vault.checking import Checker, Found
from appliance.storage.vault.contract import BucketId
from appliance.storage.vault.errors import (
    BucketBusyError,
    RecordingDeletedError,
    RecordingErasedError,
    RecordingNotFoundError,
)
from appliance.storage.vault.parking import undelete
from appliance.storage.vault.sidecars import Annotated, Sidecars, put

WORD = "Quetzalcoatl"


def entry(text: str = WORD, name: str = "") -> bytes:
    said = {"id": name or new_id(), "what": "note-created", "by": "ada", "at_ns": CREATED_NS, "text": text}
    return pack_content(said)


def annotate(house: House, recording: str, *texts: str) -> Annotated:
    assert house.vault is not None
    return Sidecars(house.vault).annotate(recording, [entry(text) for text in texts or (WORD,)])


def said(house: House, recording: str) -> list[str]:
    """What the entries say, with the key that capture made."""
    assert house.vault is not None
    raw = Sidecars(house.vault).read(recording)
    return [one["text"] for one in read(parse(raw), house.keys[recording])] if raw else []


def found(house: House) -> list[str]:
    assert house.vault is not None
    return [one.code for one in Checker(house.vault).run() if isinstance(one, Found)]


def test_what_is_added_is_in_the_bucket_and_in_the_journal(house: House) -> None:
    vault = house.open()
    (name, other) = house.filed(2)
    before = vault.holdings.position
    assert said(house, name) == [] and vault.holding(name).sidecar is None
    first = annotate(house, name, "one", "two")
    assert first.places == (0, 1) and first.head.entries == 2
    assert vault.holding(name).sidecar == first.head and vault.holdings.position == before + 1
    second = annotate(house, name, "three ☎")
    assert said(house, name) == ["one", "two", "three ☎"] and second.places == (2,)
    assert vault.holding(other).sidecar is None and said(house, other) == []
    house.check_readable(name)
    assert found(house) == [] and house.settle().sidecars == 0
    house.open()
    assert house.vault is not None and house.vault.holding(name).sidecar == second.head
    assert said(house, name) == ["one", "two", "three ☎"]


def test_the_same_entry_is_entered_once(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    one, again, two = new_id(), entry("said otherwise"), new_id()
    sidecars = Sidecars(vault)
    sidecars.annotate(name, [entry("as it was", one)])
    position = vault.holdings.position
    done = sidecars.annotate(name, [entry("said otherwise", one)])
    assert done.places == (0,) and done.contents == (entry("as it was", one),)
    assert vault.holdings.position == position
    mixed = sidecars.annotate(name, [entry("x", two), entry("y", one), again])
    assert mixed.places == (1, 0, 2) and said(house, name) == ["as it was", "x", "said otherwise"]
    for bad in ([], [b"{}"], [again, again], [b"x" * 10]):
        with pytest.raises(SidecarEntryError):
            sidecars.annotate(name, bad)
    with pytest.raises(RecordingNotFoundError):
        sidecars.annotate(new_id(), [again])


def test_a_crash_at_each_step_leaves_it_entered_or_not_and_asking_again_enters_it_once(house: House) -> None:
    at = 0
    while True:
        house.open()
        (name,) = house.filed()
        annotate(house, name, "before")
        one = entry("after")
        faults = Faults()
        vault = house.open(faults)
        faults.steps.clear()
        faults.at = at
        try:
            Sidecars(vault).annotate(name, [one])
        except Crash:
            pass
        else:
            break
        vault = house.open()
        settled = house.settle()
        assert said(house, name) in (["before"], ["before", "after"]) and found(house) == []
        assert settled.sidecars <= 1 and settled.sidecars_damaged == settled.unknown == settled.strangers == 0
        assert vault.holding(name).sidecar == parse(Sidecars(vault).read(name)).head, (
            "the journal says how far"
        )
        Sidecars(vault).annotate(name, [one])
        assert said(house, name) == ["before", "after"]
        at += 1
    assert at >= 3


def test_it_goes_with_a_deleted_recording_and_comes_back_byte_for_byte(house: House) -> None:
    vault = house.open()
    (name, _) = house.filed(2)
    annotate(house, name)
    raw, bucket = Sidecars(vault).read(name), vault.holding(name).bucket
    vault.delete(name, "asked")
    with pytest.raises(RecordingDeletedError):
        annotate(house, name)
    house.poll()
    assert list(vault.store.sidecars(bucket)) == []
    assert Sidecars(vault).read(name) == raw, "out of the snapshot that has the recording"
    assert found(house) == []
    undelete(vault, name)
    assert Sidecars(vault).read(name) == raw
    annotate(house, name, "more")
    assert said(house, name) == [WORD, "more"]


def test_a_crash_while_it_is_parked_or_comes_back_loses_nothing(house: House) -> None:
    at = 0
    while True:
        vault = house.open()
        (name,) = house.filed()
        annotate(house, name)
        raw = Sidecars(vault).read(name)
        faults = Faults()
        vault = house.open(faults)
        faults.steps.clear()
        faults.at = at
        try:
            vault.delete(name, "asked")
            house.parts.parker.poll()
            undelete(vault, name)
        except Crash:
            pass
        else:
            break
        vault = house.open()
        settled = house.settle()
        assert settled.sidecars_damaged == settled.unknown == settled.missing == 0
        house.parts.parker.poll()
        undelete(vault, name)
        assert Sidecars(vault).read(name) == raw and found(house) == []
        at += 1
    assert at >= 5


def test_erasing_leaves_no_word_of_it(house: House, tmp_path: Path) -> None:
    vault = house.open()
    (name, other) = house.filed(2)
    for one in (name, other):
        annotate(house, one)
    vault.delete(name, "")
    house.poll()
    undelete(vault, name)  # a snapshot has it, too
    kept = Sidecars(vault).read(name)
    bucket = vault.holding(name).bucket
    house.eraser.erase([name], "asked")
    for refused in (lambda: annotate(house, name), lambda: Sidecars(vault).read(name)):
        with pytest.raises(RecordingErasedError):
            refused()
    assert [one.recording_id for one in vault.store.sidecars(bucket)] == [other]
    assert name not in vault.keystore
    for key in (vault.keystore.data_key(other), bytes(32)):
        with pytest.raises(SidecarCorruptError):
            read(parse(kept), key)
    files = [path.read_bytes() for path in house.layout.root.parent.rglob("*") if path.is_file()]
    assert not [raw for raw in files if WORD.encode() in raw]
    assert said(house, other) == [WORD]
    assert house.settle().unknown == 0


def test_a_sidecar_that_an_erasure_left_is_removed(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    annotate(house, name)
    raw, bucket = Sidecars(vault).read(name), vault.holding(name).bucket
    house.eraser.erase([name], "asked")
    put(vault, vault.store, bucket, name, raw)
    stray = new_id()
    put(vault, vault.store, bucket, stray, raw)
    assert house.settle().unknown == 1, "what nobody knows is kept and told"
    assert [one.recording_id for one in vault.store.sidecars(bucket)] == [stray]


def test_a_sidecar_put_back_to_an_older_state_or_exchanged_or_gone_is_found(house: House) -> None:
    vault = house.open()
    (name, other) = house.filed(2)
    annotate(house, name, "one")
    bucket, older = vault.holding(name).bucket, Sidecars(vault).read(name)
    annotate(house, name, "two")
    annotate(house, other, "others")
    newest, foreign = Sidecars(vault).read(name), Sidecars(vault).read(other)
    flipped = bytearray(newest)
    flipped[200] ^= 1
    for raw, code in (
        (older, "SIDECAR_CUT"),
        (foreign, "SIDECAR_OTHER_RECORDING"),
        (bytes(flipped), "SIDECAR_"),
        (newest[:-1], "SIDECAR_CORRUPT"),
    ):
        put(vault, vault.store, bucket, name, raw)
        assert found(house)[0].startswith(code)
        with pytest.raises(SidecarCorruptError):
            annotate(house, name, "three")
    put(vault, vault.store, bucket, name, older)
    assert house.settle().sidecars_damaged == 1
    assert "SidecarsDamaged" in {one.type for one in house.status.conditions()}
    put(vault, vault.store, bucket, name, newest)
    assert house.settle().sidecars_damaged == 0 and found(house) == []
    assert said(house, name) == ["one", "two"]


def test_a_lost_journal_is_made_anew_with_how_far_sidecars_go(house: House) -> None:
    vault = house.open()
    (name, gone) = house.filed(2)
    heads = [annotate(house, one, "one").head for one in (name, gone)]
    vault.delete(gone, "")
    house.poll()
    house.close()
    for path in house.layout.vault.glob("index.db*"):
        path.unlink()
    (house.layout.vault / "journal").unlink()
    vault = house.open()
    house.settle()
    assert [vault.holding(one).sidecar for one in (name, gone)] == heads
    assert said(house, name) == said(house, gone) == ["one"]


def test_an_evacuated_recording_takes_it_along_and_an_expired_one_too(house: House) -> None:
    vault = house.open()
    keep(house)
    names = filed_now(house, 3)
    for name in names:
        annotate(house, name)
    home = vault.holding(names[0]).bucket
    vault.delete(names[1], "")
    house.poll()
    hold = house.parts.legal.create(house.tenant, "inquiry", "asked for", WHO)
    house.parts.legal.add(hold.case_id, WHO, names[:2])
    annotate(house, names[0], "under a legal hold")
    days(house, 20)
    run(house)
    assert home not in list(vault.store.buckets())
    assert vault.holding(names[0]).bucket == BucketId(house.tenant, "hold", hold.case_id)
    assert said(house, names[0]) == [WORD, "under a legal hold"] and said(house, names[1]) == [WORD]
    with pytest.raises(RecordingErasedError):
        Sidecars(vault).read(names[2])
    annotate(house, names[0], "and later")
    assert found(house) == [] and house.settle().sidecars_damaged == 0


def test_a_bucket_long_over_and_locked_is_opened_for_it_and_locked_again(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    bucket = vault.holding(name).bucket
    vault.store.lock(bucket)
    house.clocks.pass_(400 * DAY_NS)
    annotate(house, name)
    vault.store.lock(bucket)
    assert said(house, name) == [WORD]
    vault.shut(bucket)
    with pytest.raises(BucketBusyError):
        annotate(house, name)
    vault.reopen(bucket)
    annotate(house, name)


def test_a_locked_tenants_recordings_take_no_notes(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    annotate(house, name)
    attended(house)
    with pytest.raises(TenantLockedError):
        annotate(house, name, "more")
    assert found(house) == [], "checked in all but the opening"
    assert parse(Sidecars(vault).read(name)).head.entries == 1
    unlock(house)
    annotate(house, name, "more")
    assert said(house, name) == [WORD, "more"]
