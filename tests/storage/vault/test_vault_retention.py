"""Retention on a whole vault: what is due goes, and only that; a legal hold beats everything; no clock fools it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from conftest_vault import CREATED_NS, DAY_NS, Crash, Faults, House
from keeping_kit import WHO, days, filed, keep, run

from appliance.storage.keystore.errors import KeyAbsentError, KeyPinnedError
from appliance.storage.retention.brake import Limits
from appliance.storage.retention.errors import HoldReleasedError, HoldTenantError, RecordingHeldError
from appliance.storage.retention.holds import HoldScope
from appliance.storage.retention.items import ItemKind
from appliance.storage.retention.period import Period
from appliance.storage.retention.run import Outcome
from appliance.storage.retention.terms import Policy, PolicyChange, PolicyField, PolicyScope
from appliance.storage.vault.contract import BucketId, SnapshotId
from appliance.storage.vault.errors import PlanChangedError, RecordingErasedError
from appliance.storage.vault.holding import Certificate, HoldingState
from appliance.storage.vault.parking import undelete


def states(house: House, names: list[str]) -> list[str]:
    assert house.vault is not None
    return [house.vault.holding(name).state.value for name in names]


def check_gone(house: House, name: str, reason: str) -> None:
    vault = house.vault
    assert vault is not None
    held = vault.holding(name)
    assert held.state is HoldingState.ERASED and held.certificate is not None
    assert held.certificate.reason == reason and held.certificate.holds(vault.keystore.device_public_key)
    with pytest.raises(KeyAbsentError):
        vault.keystore.data_key(name)
    with pytest.raises(RecordingErasedError):
        vault.read(name)


# What is due.


def test_a_bucket_expires_as_a_whole_when_its_time_is_over_and_no_other(house: House) -> None:
    vault = house.open()
    keep(house)
    old = filed(house, 3)
    bucket = vault.holding(old[0]).bucket
    days(house, 1)
    new = filed(house)
    days(house, 9)  # the last of the first day's are ten days old when that day ends
    assert run(house) is Outcome.NOTHING
    plan, brake = house.parts.expiry.plan()
    assert brake is None and {item.kind for item in plan.items} <= {
        ItemKind.KEEP_BUCKET,
        ItemKind.LOCK_BUCKET,
    }
    days(house, 1)
    plan, _ = house.parts.expiry.plan()
    (item,) = plan.destroying
    assert (item.kind, item.bucket, item.recordings) == (ItemKind.EXPIRE_BUCKET, bucket, 3)
    assert "10 days" in item.why.sentence
    assert states(house, old) == ["filed"] * 3, "a plan does nothing"
    assert run(house) is Outcome.DONE
    for name in old:
        check_gone(house, name, "its retention is over")
    assert bucket not in list(vault.store.buckets())
    assert (bucket.tenant_id, bucket.line_id, bucket.slice) not in vault.keystore.bucket_keys()
    for name in new:
        house.check_readable(name)
    record = house.parts.runs.records[-1]
    assert (record.expired_buckets, record.destroyed_recordings) == (1, 3)
    assert run(house) is Outcome.NOTHING, "once is enough"
    found = house.settle()
    assert (found.missing, found.unknown, found.erased, found.strangers) == (0, 0, 0, 0)


def test_what_is_deleted_goes_when_its_grace_is_over_and_comes_back_until_then(house: House) -> None:
    vault = house.open()
    keep(house, "1y")
    names = filed(house, 3)
    for name in names[:2]:
        vault.delete(name, "asked")
    days(house, 4.9)
    assert run(house) is Outcome.NOTHING
    undelete(vault, names[0])
    house.check_readable(names[0])
    days(house, 0.2)
    assert run(house) is Outcome.DONE
    check_gone(house, names[1], "the grace after its deletion is over")
    assert states(house, names) == ["filed", "erased", "filed"]
    # Nothing needs the snapshot any more: the next run gives its space back.
    run(house)
    assert [item.id.name for item in vault.store.snapshots()] == ["guard"]
    for name in (names[0], names[2]):
        house.check_readable(name)


def test_each_kept_thing_says_why(house: House) -> None:
    vault = house.open()
    keep(house)
    names = filed(house, 3)
    vault.delete(names[0], "")
    house.poll()
    hold = house.parts.legal.create(house.tenant, "inquiry", "asked for", WHO)
    house.parts.legal.add(hold.case_id, WHO, [names[1]])
    stranger = house.ground.foreign_bucket(house.tenant)
    plan, _ = house.parts.expiry.plan()
    rules = {(item.kind.value, item.why.rule.value) for item in plan.items}
    assert ("keep-deleted", "grace") in rules and ("keep-snapshot", "legal-hold") in rules
    assert ("keep-bucket", "retention") in rules and ("keep-unknown", "stranger") in rules
    assert all(item.why.sentence for item in plan.items) and plan.destroying == ()
    days(house, 400)
    assert run(house) is Outcome.DONE
    assert house.ground.has(stranger)
    assert states(house, names) == ["erased", "filed", "erased"]


# Legal holds.


def test_a_legal_hold_beats_deletion_erasure_and_grace(house: House) -> None:
    vault = house.open()
    keep(house, "1y")
    names = filed(house, 3)
    vault.delete(names[1], "")
    house.poll()
    hold = house.parts.legal.create(house.tenant, "inquiry", "asked for", WHO)
    house.parts.legal.add(hold.case_id, WHO, names[:2])
    with pytest.raises(RecordingHeldError) as refused:
        vault.delete(names[0], "")
    assert refused.value.data["cases"] == [hold.case_id]
    for name in names[:2]:
        with pytest.raises(RecordingHeldError):
            house.eraser.erase([names[2], name], "")
    assert states(house, names) == ["filed", "deleted", "filed"], "all or none"
    days(house, 300)
    assert run(house) is Outcome.NOTHING
    undelete(vault, names[1])
    house.check_readable(names[1])
    house.parts.legal.release(hold.case_id, WHO, "closed")
    with pytest.raises(HoldReleasedError):
        house.parts.legal.add(hold.case_id, WHO, [names[2]])
    house.eraser.erase(names[:1], "at last")
    assert states(house, names) == ["erased", "filed", "filed"]
    assert vault.keystore.pinned() == []


def test_a_legal_hold_beats_expiry_and_what_it_held_goes_when_it_is_over(house: House) -> None:
    vault = house.open()
    keep(house)
    names = filed(house, 4)
    home = vault.holding(names[0]).bucket
    vault.delete(names[1], "")
    house.poll()
    hold = house.parts.legal.create(house.tenant, "inquiry", "asked for", WHO)
    house.parts.legal.add(hold.case_id, WHO, names[:2])
    days(house, 20)
    plan, _ = house.parts.expiry.plan()
    (item,) = plan.destroying
    assert (item.recordings, item.evacuated) == (2, 2)
    assert run(house) is Outcome.DONE
    assert home not in list(vault.store.buckets())
    assert states(house, names) == ["filed", "deleted", "erased", "erased"]
    shelter = BucketId(house.tenant, "hold", hold.case_id)
    assert vault.holding(names[0]).bucket == shelter == vault.holding(names[1]).bucket
    house.check_readable(names[0])
    house.poll()
    undelete(vault, names[1])
    house.check_readable(names[1])
    with pytest.raises(RecordingHeldError):
        vault.delete(names[0], "")
    found = house.settle()
    assert (found.missing, found.unknown, found.moved) == (0, 0, 0)
    run(house)  # the snapshot it was parked in is not needed any more
    days(house, 1000)
    assert run(house) is Outcome.NOTHING
    house.parts.legal.release(hold.case_id, WHO, "closed")
    assert run(house) is Outcome.DONE
    for name in names[:2]:
        check_gone(house, name, "its legal hold is released and its retention is over")
    run(house)
    assert list(vault.store.buckets()) == [] and vault.keystore.bucket_keys() == []


def test_what_a_kill_left_of_an_evacuation_is_removed_at_the_next_start(house: House) -> None:
    house.open()
    name = filed(house)[0]
    folder = house.layout.vault / "moving"
    folder.mkdir(exist_ok=True)
    for suffix in ("sealed", "sidecar"):
        (folder / f"{name}.{suffix}").write_bytes(b"half")
    house.open()
    assert list(folder.iterdir()) == []
    house.check_readable(name)


def test_what_is_brought_back_while_its_erasure_waits_for_its_turn_stays(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = house.open()
    keep(house, "1y")
    names = filed(house, 3)
    for name in names[:2]:
        vault.delete(name, "asked")
    house.poll()
    days(house, 6)
    erase_all = house.eraser.erase_all

    def late(asked: Sequence[str], reason: str, **more: Any) -> list[Certificate]:
        undelete(vault, names[0])  # whose grace was looked at a moment before it was over
        return erase_all(asked, reason, **more)

    monkeypatch.setattr(house.eraser, "erase_all", late)
    assert run(house) is Outcome.DONE
    assert states(house, names) == ["filed", "erased", "filed"]
    house.check_readable(names[0])


def test_a_hold_over_a_span_holds_what_is_filed_later_and_nothing_outside(house: House) -> None:
    vault = house.open()
    keep(house)
    before = filed(house)
    days(house, 1)
    start = house.clocks.wall_ns
    scope = HoldScope(house.tenant, "", start, start + DAY_NS)
    hold = house.parts.legal.create(house.tenant, "span", "asked for", WHO, [scope])
    inside = filed(house)
    days(house, 1)
    after = filed(house)
    assert sorted(vault.keystore.pinned()) == sorted(inside)
    assert sorted(item.recording_id for item in house.parts.legal.named(hold)) == sorted(inside)
    days(house, 30)
    assert run(house) is Outcome.DONE
    assert states(house, before + inside + after) == ["erased"] * 2 + ["filed"] * 2 + ["erased"] * 2


def test_two_cases_on_one_recording_each_hold_it(house: House) -> None:
    vault = house.open()
    keep(house)
    (name,) = filed(house, 1)
    legal = house.parts.legal
    one, two = (legal.create(house.tenant, title, "asked for", WHO) for title in ("one", "two"))
    for hold in (one, two):
        legal.add(hold.case_id, WHO, [name])
    days(house, 20)
    assert run(house) is Outcome.DONE
    legal.release(one.case_id, WHO, "closed")
    days(house, 20)
    assert run(house) is Outcome.NOTHING
    assert vault.keystore.pinned() == [name]
    house.check_readable(name)
    legal.release(two.case_id, WHO, "closed")
    assert run(house) is Outcome.DONE
    assert states(house, [name]) == ["erased"]


def test_a_hold_that_comes_too_late_is_told_so(house: House) -> None:
    house.open()
    names = filed(house, 2)
    house.eraser.erase(names[:1], "")
    hold = house.parts.legal.create(house.tenant, "late", "asked for", WHO)
    with pytest.raises(RecordingErasedError):
        house.parts.legal.add(hold.case_id, WHO, names)
    assert house.vault.keystore.pinned() == [], "all or none"


def test_a_hold_never_names_what_is_anothers(house: House) -> None:
    vault = house.open()
    (name,) = filed(house, 1)
    own = house.tenant
    house.tenant = other = "b" * 25 + "a"
    house.public = vault.keystore.create_tenant(other)
    (foreign,) = filed(house, 1)
    hold = house.parts.legal.create(own, "mine", "asked for", WHO)
    with pytest.raises(HoldTenantError):
        house.parts.legal.add(hold.case_id, WHO, [name, foreign])
    with pytest.raises(HoldTenantError):
        house.parts.legal.add(hold.case_id, WHO, [], [HoldScope(other)])
    assert vault.keystore.pinned() == []


def test_a_hold_outlives_a_crash_at_each_of_its_steps(house: House) -> None:
    at = 0
    while True:
        house.open()
        keep_now = filed(house, 3)
        house.vault.delete(keep_now[2], "")
        house.poll()
        faults = Faults()
        house.open(faults)
        faults.steps.clear()
        faults.at = at
        legal, case = house.parts.legal, ""
        try:
            case = legal.create(house.tenant, "inquiry", "asked for", WHO).case_id
            legal.add(case, WHO, keep_now)
            legal.release(case, WHO, "closed")
        except Crash:
            pass
        else:
            break
        vault = house.open()
        house.settle()
        for hold in house.parts.legal.book.all():
            named = {item.recording_id for item in house.parts.legal.named(hold)} if hold.open else set()
            tagged = [item for item in vault.store.snapshots() if f"ew.case.{hold.case_id}" in item.holds]
            if named:
                assert named <= set(vault.keystore.pinned())
                seen: set[str] = set()
                for item in tagged:
                    vault.buckets.open(item.id.bucket)
                    seen |= {
                        stored.recording_id
                        for stored in vault.store.files(item.id.bucket, snapshot=item.id.name)
                    }
                assert named <= seen, "what is held is in a snapshot that is held"
            else:
                assert not tagged
            if hold.open:
                house.parts.legal.release(hold.case_id, WHO, "next round")
        assert vault.keystore.pinned() == []
        at += 1
    assert at >= 8


def test_an_older_journal_of_holds_put_back_frees_nothing(house: House) -> None:
    house.open()
    keep(house)
    names = filed(house, 2)
    older = (house.layout.vault / "holds").read_bytes()
    hold = house.parts.legal.create(house.tenant, "inquiry", "asked for", WHO)
    house.parts.legal.add(hold.case_id, WHO, names)
    house.close()
    (house.layout.vault / "holds").write_bytes(older)
    vault = house.open()
    house.settle()
    assert "PinsWithoutHold" in {item.type for item in house.status.conditions()}
    days(house, 100)
    assert run(house) is Outcome.NOTHING
    plan, _ = house.parts.expiry.plan()
    assert [item.why.rule.value for item in plan.items if item.recordings] == ["hold-unexplained"]
    with pytest.raises(KeyPinnedError):
        house.eraser.erase(names, "by hand")
    assert states(house, names) == ["filed", "filed"] and sorted(vault.keystore.pinned()) == sorted(names)
    for name in names:
        house.check_readable(name)


# Clock, brake, policies.


def test_a_wall_clock_ten_years_ahead_destroys_nothing(house: House) -> None:
    house.open()
    keep(house)
    names = filed(house)
    for jump in (3650 * DAY_NS, -7300 * DAY_NS):
        house.clocks.wall_ns += jump
        assert run(house) is Outcome.FROZEN
        assert {item.type for item in house.status.conditions()} >= {"RetentionFrozen"}
        days(house, 11)
        assert run(house) is Outcome.FROZEN
        (late,) = filed(house, 1)
        house.check_readable(late)
    house.clocks.wall_ns += 3650 * DAY_NS
    days(house, 0.1)
    assert run(house) is Outcome.DONE, "right again, and three weeks have passed"
    assert states(house, names) == ["erased", "erased"]


def test_a_month_without_power_counts_only_where_it_is_witnessed(house: House) -> None:
    house.open()
    keep(house)
    names = filed(house)
    house.close()
    house.clocks.power_off(30 * DAY_NS)
    house.open()
    assert run(house) is Outcome.FROZEN
    for name in names:
        house.check_readable(name)
    house.clocks.witnessed = True
    assert run(house) is Outcome.DONE
    assert states(house, names) == ["erased", "erased"]


def test_a_lost_clock_is_not_begun_anew_from_any_wall(house: House) -> None:
    house.open()
    keep(house)
    names = filed(house)
    run(house)
    house.close()
    (house.layout.vault / "clock.json").unlink()
    house.clocks.wall_ns += 3650 * DAY_NS
    house.open()
    assert run(house) is Outcome.FROZEN
    for name in names:
        house.check_readable(name)


def test_a_plan_far_larger_than_forecast_waits_for_its_confirmation(house: House) -> None:
    house.open()
    keep(house)
    names = filed(house, 3)
    house.parts.expiry._limits = Limits(recordings=2)
    days(house, 20)
    assert run(house) is Outcome.BRAKED
    assert "RetentionBraked" in {item.type for item in house.status.conditions()}
    assert states(house, names) == ["filed"] * 3
    plan, brake = house.parts.expiry.plan()
    assert brake is not None and brake.digest == plan.digest
    with pytest.raises(PlanChangedError):
        run(house, "0" * 64)
    assert run(house, plan.digest) is Outcome.DONE
    assert states(house, names) == ["erased"] * 3
    assert house.parts.runs.records[-1].confirmed_by == WHO
    assert "RetentionBraked" not in {item.type for item in house.status.conditions()}


def test_what_was_forecast_passes(house: House) -> None:
    house.open()
    keep(house)
    names = filed(house, 3)
    house.parts.expiry._limits = Limits(recordings=2)
    assert run(house) is Outcome.NOTHING  # a run forecasts what comes
    days(house, 12)
    assert run(house) is Outcome.DONE
    assert states(house, names) == ["erased"] * 3


def test_a_shortened_retention_waits_and_can_be_taken_back(house: House) -> None:
    house.open()
    names = filed(house)
    days(house, 100)
    change = PolicyChange(PolicyScope(), Policy(Period.parse("30d")), (PolicyField.RETENTION,))
    policies = house.parts.policies
    assert policies.preview(change).shortens
    policies.set(change, WHO)
    assert run(house) is Outcome.NOTHING
    days(house, 6)
    policies.cancel(PolicyScope(), PolicyField.RETENTION, WHO)
    days(house, 5)
    assert run(house) is Outcome.NOTHING
    policies.set(change, WHO)
    days(house, 8)
    house.open()  # what was set is durable
    assert run(house) is Outcome.DONE
    assert states(house, names) == ["erased", "erased"]


def test_older_policies_put_back_destroy_nothing(house: House) -> None:
    house.open()
    keep(house)
    older = (house.layout.vault / "policies.json").read_bytes()
    house.parts.policies.set(
        PolicyChange(PolicyScope(), Policy(Period.parse("1y")), (PolicyField.RETENTION,)), WHO
    )
    names = filed(house)
    run(house)
    house.close()
    (house.layout.vault / "policies.json").write_bytes(older)
    house.open()
    days(house, 60)
    assert run(house) is Outcome.FROZEN
    assert states(house, names) == ["filed", "filed"]


# What stops it, and what does not.


def test_an_unexplained_hold_or_file_stops_the_bucket_and_no_other(house: House) -> None:
    vault = house.open()
    keep(house)
    first = filed(house)
    bucket = vault.holding(first[0]).bucket
    days(house, 1)
    second = filed(house)
    house.ground.foreign_hold(SnapshotId(bucket, "guard"), "somebody")
    days(house, 30)
    assert run(house) is Outcome.DONE
    assert states(house, first + second) == ["filed"] * 2 + ["erased"] * 2
    plan, _ = house.parts.expiry.plan()
    kept = [item for item in plan.items if item.bucket == bucket and item.kind is ItemKind.KEEP_UNKNOWN]
    assert kept and "somebody" in kept[0].why.sentence


def test_late_files_for_an_expired_slice_are_filed_and_expire_in_their_turn(house: House) -> None:
    vault = house.open()
    keep(house)
    names = filed(house)
    days(house, 20)
    late = house.record(created_ns=house.clocks.wall_ns - 19 * DAY_NS)
    assert run(house) is Outcome.DONE
    assert house.poll() == 1
    house.check_readable(late)
    days(house, 1)
    assert run(house) is Outcome.DONE
    assert states(house, [*names, late]) == ["erased"] * 3
    assert list(vault.store.buckets()) == []


def test_one_tenants_retention_never_touches_another(house: House) -> None:
    vault = house.open()
    keep(house, "1y")
    own = house.tenant
    mine = filed(house)
    house.tenant = other = "b" * 25 + "a"
    house.public = vault.keystore.create_tenant(other)
    theirs = filed(house)
    change = PolicyChange(PolicyScope(own), Policy(Period.parse("10d")), (PolicyField.RETENTION,))
    house.parts.policies.set(change, WHO)
    days(house, 40)
    # Their bucket was made while a week was the slice; it ends later.
    assert run(house) is Outcome.DONE
    assert states(house, mine + theirs) == ["erased"] * 2 + ["filed"] * 2
    for name in theirs:
        house.check_readable(name)


# Crashes.


def scene(house: House) -> dict[str, list[str]]:
    """A bucket that is due, of which one recording is held, one deleted, one both; and one that is not due."""
    vault = house.open()
    if str(house.parts.policies.effective(house.tenant, house.line).retention) != "10 days":
        keep(house)
    due = filed(house, 5)
    vault.delete(due[1], "")
    vault.delete(due[2], "")
    house.poll()
    hold = house.parts.legal.create(house.tenant, "inquiry", "asked for", WHO)
    house.parts.legal.add(hold.case_id, WHO, [due[0], due[2]])
    days(house, 12)
    young = filed(house, 2)
    vault.delete(young[0], "")
    house.poll()
    days(house, 6)
    return {"due": due, "young": young, "case": [hold.case_id]}


def outcome_of(house: House, found: dict[str, list[str]]) -> None:
    """The end state, the same whatever happened on the way."""
    vault = house.vault
    assert vault is not None
    due, young = found["due"], found["young"]
    assert states(house, due) == ["filed", "erased", "deleted", "erased", "erased"]
    assert states(house, young) == ["erased", "filed"]
    for name in (due[1], due[3], due[4]):
        check_gone(house, name, vault.holding(name).certificate.reason)
    check_gone(house, young[0], "the grace after its deletion is over")
    house.check_readable(due[0])
    house.check_readable(young[1])
    undelete(vault, due[2])
    house.check_readable(due[2])
    there = {vault.holding(young[1]).bucket, vault.holding(due[0]).bucket}
    assert set(vault.store.buckets()) == there
    assert {BucketId(*item) for item in vault.keystore.bucket_keys()} == there
    assert not list(vault.store.survey().strangers) and not list(vault.intents.glob("*"))


def test_the_end_state_of_a_run_without_a_crash(house: House) -> None:
    found = scene(house)
    assert run(house) is Outcome.DONE
    run(house)
    house.settle()
    outcome_of(house, found)


@pytest.mark.timeout(3600)
def test_a_crash_at_every_step_of_a_run_ends_as_without_one(house: House) -> None:
    at, passed = 0, False
    while not passed:
        found = scene(house)
        faults = Faults()
        house.open(faults)
        faults.steps.clear()
        faults.at = at
        try:
            run(house)
            passed = True
        except Crash:
            pass
        house.open()
        house.settle()
        house.poll()
        run(house)
        run(house)
        again = house.settle()
        assert (again.missing, again.unknown, again.erased, again.keyless) == (0, 0, 0, 0)
        outcome_of(house, found)
        house.parts.legal.release(found["case"][0], WHO, "next round")
        days(house, 40)
        run(house)
        run(house)
        assert list(house.vault.store.buckets()) == []
        at += 3 if at > 12 else 1  # a keystore turn has many steps, which have tests of their own
    assert at > 30


def test_times_are_counted_from_the_recording(house: House) -> None:
    vault = house.open()
    (name,) = house.filed(1)
    assert vault.holding(name).kept_from_ns == CREATED_NS
