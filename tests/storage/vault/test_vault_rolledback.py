"""An older keystore of the same epoch put back: it is refused; and where nobody can tell, nothing is lost by it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest_vault import CREATED_NS, DAY_NS, Crash, Faults, House

from appliance.storage.keystore.errors import KeystoreRolledBackError
from appliance.storage.keystore.reach import UNKNOWN
from appliance.storage.retention.items import ItemKind
from appliance.storage.vault.errors import RecordingErasedError, RecordingKeyAbsentError
from appliance.storage.vault.holding import HoldingState
from appliance.storage.vault.parking import undelete


def keystore(house: House) -> Path:
    return house.layout.root / "keystore"


def put(house: House, source: Path) -> None:
    """Both copies, as from a backup of the system."""
    shutil.rmtree(keystore(house))
    shutil.copytree(source, keystore(house))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"
    }


def aged(house: House, *, told: bool = True) -> tuple[list[str], Path, Path]:
    """Three recordings; the keystore of when there was the first, and that of now. A hold is on the second.

    Not `told`: the journal says nothing of how far the keystore went, as in a release before this one.
    """
    house.open()
    (first,) = house.filed()
    house.close()
    older, right = house.layout.root / "older", house.layout.root / "right"
    shutil.copytree(keystore(house), older)
    vault = house.open()
    if not told:
        vault.holdings.reach = lambda: UNKNOWN
    names = [first, *house.filed(2)]
    case = house.parts.legal.create(house.tenant, "title", "reason", "owner")
    house.parts.legal.add(case.case_id, "owner", names[1:2])
    house.close()
    shutil.copytree(keystore(house), right)
    return names, older, right


def test_it_is_refused_and_the_right_one_opens_as_before(house: House) -> None:
    names, older, right = aged(house)
    put(house, older)
    before = files(house.layout.root)
    with pytest.raises(KeystoreRolledBackError) as refused:
        house.open()
    assert refused.value.data["records"] < refused.value.data["floor_records"]
    assert files(house.layout.root) == before
    put(house, right)
    vault = house.open()
    assert house.settle().keys_absent == 0
    for name in names:
        house.check_readable(name)
    assert vault.keystore.pinned() == [names[1]]
    assert not house.status.conditions()


@pytest.mark.parametrize("copy", ["a", "b"])
def test_one_older_copy_is_brought_up_to_date(house: House, copy: str) -> None:
    names, older, _ = aged(house)
    shutil.rmtree(keystore(house) / copy)
    shutil.copytree(older / copy, keystore(house) / copy)
    house.open()
    house.settle()
    for name in names:
        house.check_readable(name)


def test_an_index_made_anew_knows_it_too(house: House) -> None:
    _, older, _ = aged(house)
    for path in house.layout.vault.glob("index.db*"):
        path.unlink()
    put(house, older)
    with pytest.raises(KeystoreRolledBackError):
        house.open()
    # Without the journal nobody knows what there was: what has a key is filed again, the rest is kept.
    (house.layout.vault / "journal").unlink()
    for path in house.layout.vault.glob("index.db*"):
        path.unlink()
    house.open()
    found = house.settle()
    assert (found.filed, found.unknown) == (1, 2)


def test_a_keystore_that_grew_and_was_compacted_opens(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.storage.keystore.writing.JOURNAL_LIMIT", 1)
    vault = house.open()
    names = house.filed(2)
    assert vault.keystore.compact()
    names += house.filed()
    reached = vault.holdings.reached
    assert reached.epoch == vault.keystore.epoch == 2
    house.open()
    assert house.vault is not None and house.vault.holdings.reached == reached
    for name in names:
        house.check_readable(name)


def test_where_nobody_can_tell_nothing_is_lost(house: House) -> None:
    names, older, right = aged(house, told=False)
    put(house, older)
    vault = house.open()
    position, before = vault.holdings.position, [vault.holding(name) for name in names]
    for _ in range(2):  # and told each time
        assert house.settle().keys_absent == 2
        assert "KeysAbsent" in {item.type for item in house.status.conditions()}
        vault = house.open()
    house.settle()
    # Whoever follows the journal is told nothing: there is nothing to be forgotten.
    assert vault.holdings.position == position
    assert [vault.holding(name) for name in names] == before
    house.check_readable(names[0])
    for name in names[1:]:
        with pytest.raises(RecordingKeyAbsentError):
            vault.lease(name)
        assert vault.store.find(vault.holding(name).bucket, name) is not None
    put(house, right)
    vault = house.open()
    assert house.settle().keys_absent == 0
    assert vault.holdings.position == position
    for name in names:
        house.check_readable(name)
    assert vault.keystore.pinned() == [names[1]]
    assert not house.status.conditions()


def test_a_bucket_that_was_made_since_is_kept_with_what_is_in_it(house: House) -> None:
    house.open()
    (due,) = house.filed()
    house.close()
    older, right = house.layout.root / "older", house.layout.root / "right"
    shutil.copytree(keystore(house), older)
    vault = house.open()
    vault.holdings.reach = lambda: UNKNOWN
    name = house.record(created_ns=CREATED_NS - 28 * DAY_NS)
    assert house.poll() == 1
    case = house.parts.legal.create(house.tenant, "title", "reason", "owner")
    house.parts.legal.add(case.case_id, "owner", [name])
    vault.store.lock(vault.holding(name).bucket)
    house.close()
    shutil.copytree(keystore(house), right)
    put(house, older)
    vault = house.open()
    found = house.settle()
    assert (found.keys_absent, found.keyless) == (1, 1)
    years(house)
    plan, _ = house.parts.expiry.plan()
    done = house.parts.expiry.run("officer", plan.digest)
    # Not even what is due: the right keystore would then be one from before an erasure.
    assert [item.reason for item in done.failed] == ["RECORDING_KEY_ABSENT"]
    assert [vault.holding(one).state for one in (due, name)] == [HoldingState.FILED] * 2
    put(house, right)
    vault = house.open()
    found = house.settle()
    assert (found.keys_absent, found.keyless) == (0, 0)
    house.check_readable(name)
    assert vault.keystore.pinned() == [name]
    house.parts.expiry.run("officer", house.parts.expiry.plan()[0].digest)
    assert vault.holding(due).state is HoldingState.ERASED


def years(house: House) -> None:
    """Longer than anything is kept."""
    for _ in range(8):
        house.clocks.pass_(150 * DAY_NS)
        house.parts.timekeeper.tick()


def test_retention_leaves_what_has_no_key(house: House) -> None:
    names, older, right = aged(house, told=False)
    vault = house.open()
    vault.holdings.reach = lambda: UNKNOWN
    vault.delete(names[2], "asked")
    house.poll()
    house.close()
    put(house, older)
    vault = house.open()
    house.settle()
    case = house.parts.legal.book.all()[0]
    house.parts.legal.release(case.case_id, "owner", "over")
    years(house)
    plan, _ = house.parts.expiry.plan()
    kinds = {item.kind for item in plan.items}
    assert ItemKind.KEEP_UNKNOWN in kinds
    assert not kinds & {ItemKind.EXPIRE_BUCKET, ItemKind.ERASE_DELETED}
    assert names[2] in {item.name for item in plan.items}
    house.parts.expiry.run("officer", plan.digest)
    assert [vault.holding(name).state for name in names] == [
        HoldingState.FILED,
        HoldingState.FILED,
        HoldingState.DELETED,
    ]
    # A plan of before does not get at it either.
    for bucket in (None, vault.holding(names[0]).bucket):
        with pytest.raises(RecordingKeyAbsentError):
            house.eraser.erase_all(names[1:], "due", bucket=bucket)
    assert not list(vault.intents.glob("*"))
    put(house, right)
    vault = house.open()
    house.settle()
    undelete(vault, names[2])
    for name in names:
        house.check_readable(name)
    # Now that nothing is unknown any more, it goes.
    house.clocks.pass_(DAY_NS)
    plan, _ = house.parts.expiry.plan()
    assert ItemKind.EXPIRE_BUCKET in {item.kind for item in plan.items}


def test_somebody_may_erase_it_all_the_same(house: House) -> None:
    names, older, _ = aged(house, told=False)
    put(house, older)
    vault = house.open()
    house.settle()
    (certificate,) = house.eraser.erase(names[2:], "asked")
    assert certificate.holds(vault.keystore.device_public_key)
    assert house.settle().keys_absent == 1
    with pytest.raises(RecordingErasedError):
        vault.lease(names[2])


def test_no_crash_makes_the_present_keystore_count_as_an_older_one(house: House) -> None:
    """At each step of filing, holding, erasing; nor makes it a recording erased that is not."""
    at, over = 0, False
    while not over:
        faults = Faults()
        house.open(faults)
        house.settle()
        kept, gone = house.filed(2)
        faults.steps.clear()
        faults.at = at
        added = []
        try:
            added.append(house.record())
            house.poll()
            case = house.parts.legal.create(house.tenant, "title", "reason", "owner")
            house.parts.legal.add(case.case_id, "owner", [kept])
            house.eraser.erase([gone], "asked")
            over = True
        except Crash:
            pass
        vault = house.open()
        found = house.settle()
        house.poll()
        assert (found.keys_absent, found.erased) == (0, 0), at
        for name in (kept, *added):
            house.check_readable(name)
        held = vault.holding(gone)
        assert (held.state is HoldingState.ERASED) == (held.certificate is not None), at
        at += 1
    assert at >= 20
