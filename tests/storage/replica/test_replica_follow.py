"""What is kept, deleted, held, erased and expired at the box follows at the replica, and nothing else happens there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ground import DirectoryGround
from replica_kit import NAME, TAG, Pair

from appliance.storage.retention.period import Period
from appliance.storage.retention.terms import Policy, PolicyChange, PolicyField, PolicyScope
from appliance.storage.vault.contract import BucketState, SnapshotId
from appliance.storage.vault.errors import BucketLockedError
from appliance.storage.vault.holding import HoldingState
from appliance.storage.vault.parking import undelete

DAY_NS = 86_400 * 10**9
WHO = "officer"


def keep(pair: Pair, retention: str = "10d", grace_days: int = 5) -> None:
    """A policy for the whole box, at once."""
    policies = pair.house.parts.policies
    policies.set(PolicyChange(PolicyScope(), fields=(PolicyField.COOLING,), cooling_days=0), WHO)
    days(pair, 8)
    fields = (PolicyField.RETENTION, PolicyField.GRACE)
    policies.set(PolicyChange(PolicyScope(), Policy(Period.parse(retention), grace_days), fields), WHO)


def days(pair: Pair, count: float) -> None:
    pair.house.clocks.pass_(int(count * DAY_NS))
    pair.house.parts.timekeeper.tick()


def filed(pair: Pair, count: int = 2) -> list[str]:
    """Recordings made just now."""
    names = [pair.house.record(created_ns=pair.house.clocks.wall_ns) for _ in range(count)]
    assert pair.house.poll() == count
    return names


def run(pair: Pair) -> str:
    pair.house.parts.parker.poll()
    return pair.house.parts.expiry.run(WHO).outcome.value


def test_everything_is_there_and_cannot_be_read_there(pair: Pair) -> None:
    vault = pair.open()
    names = filed(pair, 3)
    bucket = vault.holding(names[0]).bucket
    done = pair.go()
    assert (done.buckets, done.entries, done.failures) == (1, 0, [])
    assert done.bytes > 0
    assert pair.there(bucket) == [f"r-{NAME}-1"]
    with pytest.raises(BucketLockedError):
        pair.far.read(bucket, names[0])
    pair.check_same()
    assert pair.kept_here(bucket) == {f"r-{NAME}-1": {TAG}}
    assert not pair.conditions()
    if isinstance(pair.ground, DirectoryGround):
        secrets = [vault.keystore.data_key(name) for name in names]
        secrets += [vault.keystore.bucket_key(bucket.tenant_id, bucket.line_id, bucket.slice)]
        secrets += [pair.house.stored(name)[:64] for name in names]
        paths = [path for top in (pair.ground.other, pair.state) for path in top.rglob("*") if path.is_file()]
        assert len(paths) > 6
        for path in paths:
            raw = path.read_bytes()
            assert not any(secret in raw or secret.hex().encode() in raw for secret in secrets)


def test_only_what_changed_is_sent(pair: Pair) -> None:
    vault = pair.open()
    first = filed(pair)
    bucket = vault.holding(first[0]).bucket
    whole = pair.go().bytes
    assert pair.go().bytes == 0
    assert pair.sweep().bytes == 0
    assert pair.there(bucket) == [f"r-{NAME}-1"]
    filed(pair, 1)
    assert 0 < pair.go().bytes < whole
    assert pair.there(bucket) == [f"r-{NAME}-2"], "one snapshot is enough to go on from"
    assert pair.kept_here(bucket) == {f"r-{NAME}-2": {TAG}}
    assert [item.id.name for item in vault.store.snapshots(bucket)] == ["guard", f"r-{NAME}-2"]
    pair.check_same()
    # The same after a start, also where what was known of the replica is lost.
    pair.open()
    assert pair.go().bytes == 0
    for path in (pair.house.layout.vault / "replicas").glob("*.json"):
        path.unlink()
    pair.open()
    pair.go()
    pair.check_same()


def test_what_is_erased_is_erased_everywhere_when_the_replica_says_so(pair: Pair) -> None:
    vault = pair.open()
    names = filed(pair, 3)
    bucket = vault.holding(names[0]).bucket
    pair.go()
    (certificate,) = pair.house.eraser.erase(names[:1], "asked")
    assert certificate.replicas == (NAME,) and certificate.log_number == 1
    assert not vault.erased_everywhere(certificate)
    pair.away = True
    pair.replicator.close()
    assert not pair.look().complete
    assert not vault.erased_everywhere(certificate)
    pair.away = False
    done = pair.go()
    assert done.entries == 1
    assert vault.erased_everywhere(certificate)
    assert pair.target.erased(names) == {names[0]}
    assert pair.there(bucket) == [f"r-{NAME}-2"], "the snapshot that still had its bytes is gone"
    assert names[0] not in pair.names_there(bucket, f"r-{NAME}-2")
    pair.check_same()
    receipt = pair.replication.receipt(NAME)
    assert receipt is not None and receipt.holds() and receipt.number == 1
    assert receipt.digest == vault.deletions.digest_at(1)
    # What it has said is remembered.
    vault = pair.open()
    assert vault.erased_everywhere(certificate)


def test_what_is_in_grace_lies_there_too(pair: Pair) -> None:
    vault = pair.open()
    keep(pair, "1y")
    names = filed(pair, 3)
    bucket = vault.holding(names[0]).bucket
    pair.go()
    for name in names[:2]:
        vault.delete(name, "asked")
    pair.house.poll()
    parked = vault.holding(names[0]).parked
    pair.go()
    assert pair.there(bucket) == [parked, f"r-{NAME}-2"]
    assert pair.names_there(bucket, parked) == set(names)
    assert pair.names_there(bucket, f"r-{NAME}-2") == {names[2]}
    assert pair.kept_here(bucket) == {f"r-{NAME}-2": {TAG}}, "the one of the grace is the grace's alone again"
    undelete(vault, names[0])
    pair.go()
    assert pair.there(bucket) == [parked, f"r-{NAME}-3"]
    days(pair, 6)
    assert run(pair) == "done"
    assert vault.holding(names[1]).state is HoldingState.ERASED
    run(pair)
    assert parked not in [item.id.name for item in vault.store.snapshots(bucket)]
    pair.sweep()
    assert pair.there(bucket) == [f"r-{NAME}-4"]
    pair.check_same()
    # A hold goes by the name, so that none comes twice.
    vault.delete(names[2], "asked")
    pair.house.poll()
    assert vault.holding(names[2]).parked not in ("", parked)
    pair.go()
    pair.check_same()


def test_a_grace_snapshot_whose_name_is_used_again_is_another(pair: Pair) -> None:
    """As after a journal was lost, and begun anew."""
    vault = pair.open()
    names = filed(pair, 3)
    bucket = vault.holding(names[0]).bucket
    for remove in (names[:1], names[1:2]):
        vault.store.snapshot([bucket], "g-77")
        vault.store.remove(bucket, remove)
        pair.go()
        filed(pair, 1)
        pair.go()
        vault.store.destroy_snapshots([SnapshotId(bucket, "g-77")])
        days(pair, 1)
    vault.store.snapshot([bucket], "g-77")
    pair.go()
    filed(pair, 1)
    pair.go()
    assert pair.there(bucket) == ["g-77", pair.there(bucket)[-1]]
    assert not {names[0], names[1]} & pair.names_there(bucket, "g-77")


def test_a_grace_snapshot_that_is_being_sent_stays(pair: Pair) -> None:
    """One that the replica goes on from must not vanish, or everything would have to be sent again."""
    vault = pair.open()
    keep(pair, "1y")
    names = filed(pair, 2)
    bucket = vault.holding(names[0]).bucket
    pair.go()
    vault.delete(names[0], "asked")
    pair.house.poll()
    asked = []
    receive = pair.target.receive

    def broken(stream: object, notice: object) -> None:
        receive(stream, notice)  # type: ignore[arg-type]
        if not asked:
            days(pair, 6)
            assert run(pair) == "done"  # the recording is erased; its snapshot was wanted at the same time
            run(pair)
        asked.append(stream)
        raise BucketLockedError("broken off after the first", bucket=bucket.path)

    pair.target.receive = broken  # type: ignore[method-assign]
    assert not pair.look().complete
    assert len(asked) == 3, "tried again, and not for ever"
    parked = vault.holding(names[0]).parked
    assert pair.there(bucket)[-1] == parked
    assert pair.kept_here(bucket)[parked] >= {TAG}
    pair.target.receive = receive  # type: ignore[method-assign]
    pair.go()
    pair.check_same()
    run(pair)
    pair.sweep()
    assert pair.there(bucket)[0].startswith("r-") and list(pair.kept_here(bucket)) == pair.there(bucket)


def test_a_hold_reaches_the_replica_and_moves_on_with_the_newest(pair: Pair) -> None:
    vault, legal = pair.open(), pair.house.parts.legal
    names = filed(pair, 3)
    bucket = vault.holding(names[0]).bucket
    pair.go()
    case = legal.create(pair.house.tenant, "inquiry", "asked for", WHO).case_id
    legal.add(case, WHO, names[:1])
    assert pair.go().entries == 1
    assert pair.tags_there(bucket) == {f"r-{NAME}-1": {f"ew.case.{case}"}}
    filed(pair, 1)
    pair.go()
    assert pair.tags_there(bucket) == {f"r-{NAME}-2": {f"ew.case.{case}"}}
    assert pair.there(bucket) == [f"r-{NAME}-2"]
    number = vault.deletions.number
    pair.house.settle()
    assert vault.deletions.number == number, "what is told is not told again"
    legal.release(case, WHO, "over")
    pair.go()
    assert pair.tags_there(bucket) == {} and pair.there(bucket) == [f"r-{NAME}-2"]


def test_a_hold_on_what_was_deleted_holds_where_it_is_parked(pair: Pair) -> None:
    vault, legal = pair.open(), pair.house.parts.legal
    keep(pair, "1y")
    names = filed(pair, 2)
    bucket = vault.holding(names[0]).bucket
    vault.delete(names[0], "asked")
    pair.house.poll()
    pair.go()
    case = legal.create(pair.house.tenant, "inquiry", "asked for", WHO).case_id
    legal.add(case, WHO, names[:1])
    pair.go()
    parked = vault.holding(names[0]).parked
    assert pair.tags_there(bucket) == {parked: {f"ew.case.{case}"}}
    days(pair, 30)
    run(pair)
    filed(pair, 1)
    pair.sweep()
    assert pair.there(bucket)[0] == parked and names[0] in pair.names_there(bucket, parked)
    legal.release(case, WHO, "over")
    run(pair)
    run(pair)
    assert vault.holding(names[0]).state is HoldingState.ERASED
    pair.sweep()
    assert parked not in pair.there(bucket)


def test_a_hold_on_what_is_not_there_yet_is_put_on_when_it_comes(pair: Pair) -> None:
    vault, legal = pair.open(), pair.house.parts.legal
    names = filed(pair, 2)
    bucket = vault.holding(names[0]).bucket
    vault.delete(names[0], "asked")
    pair.house.poll()
    case = legal.create(pair.house.tenant, "inquiry", "asked for", WHO).case_id
    legal.add(case, WHO, names)
    pair.go()
    assert pair.tags_there(bucket) == {
        vault.holding(names[0]).parked: {f"ew.case.{case}"},
        f"r-{NAME}-1": {f"ew.case.{case}"},
    }


def test_what_is_put_right_without_an_entry_in_the_journal_follows(pair: Pair) -> None:
    vault = pair.open()
    names = filed(pair, 3)
    bucket = vault.holding(names[0]).bucket
    legal = pair.house.parts.legal
    legal.add(legal.create(pair.house.tenant, "inquiry", "asked for", WHO).case_id, WHO, names[:1])
    vault.store.remove(bucket, names[:1])  # somebody's doing; the hold's snapshot has it
    filed(pair, 1)
    pair.go()
    assert names[0] not in pair.names_there(bucket, pair.there(bucket)[-1])
    assert pair.house.settle().moved == 1
    pair.go()
    pair.check_same()


def test_an_expired_bucket_is_destroyed_there(pair: Pair) -> None:
    vault = pair.open()
    keep(pair)
    old = filed(pair, 2)
    bucket = vault.holding(old[0]).bucket
    days(pair, 1)
    filed(pair, 1)
    pair.go()
    assert pair.far.state(bucket) is BucketState.LOCKED
    days(pair, 10)
    assert run(pair) == "done"
    assert bucket not in list(vault.store.buckets())
    assert pair.go().entries == 1
    assert pair.far.state(bucket) is BucketState.ABSENT
    assert pair.target.erased(old) == set(old)
    pair.check_same()


def test_what_a_case_holds_outlives_its_bucket_there_until_it_is_released(pair: Pair) -> None:
    vault, legal = pair.open(), pair.house.parts.legal
    keep(pair)
    names = filed(pair, 3)
    bucket = vault.holding(names[0]).bucket
    case = legal.create(pair.house.tenant, "inquiry", "asked for", WHO).case_id
    legal.add(case, WHO, names[:1])
    pair.go()
    days(pair, 11)
    assert run(pair) == "done"
    moved = vault.holding(names[0]).bucket
    assert moved.of_hold and bucket not in list(vault.store.buckets())
    done = pair.go()
    assert done.leftovers == 0
    assert pair.far.state(bucket) is BucketState.LOCKED, "held there, so it stays"
    assert set(pair.tags_there(bucket)) == {f"r-{NAME}-1"}
    assert pair.tags_there(moved) == {f"r-{NAME}-1": {f"ew.case.{case}"}}
    assert pair.names_there(moved, f"r-{NAME}-1") == {names[0]}
    assert pair.sweep().leftovers == 0
    pair.open()
    pair.go()
    assert pair.far.state(bucket) is BucketState.LOCKED, "after a start, too"
    pair.house.parts.legal.release(case, WHO, "over")
    pair.go()
    assert pair.far.state(bucket) is BucketState.ABSENT
    run(pair)
    pair.go()
    assert pair.far.state(moved) is BucketState.ABSENT
    assert pair.vault.holding(names[0]).state is HoldingState.ERASED


def test_a_bucket_that_expires_while_it_is_sent_expires(pair: Pair) -> None:
    vault = pair.open()
    keep(pair)
    names = filed(pair, 2)
    bucket = vault.holding(names[0]).bucket
    days(pair, 11)
    send = vault.store.send

    def slow(*args: object, **words: object) -> object:
        stream = send(*args, **words)  # type: ignore[arg-type]
        if stream.snapshot == "guard":
            return stream

        def pieces() -> Iterator[bytes]:
            for piece in stream.pieces:
                vault.shut(bucket)  # as the first step of an expiry
                yield piece

        return type(stream)(stream.bucket, stream.snapshot, stream.base, pieces())

    vault.store.send = slow  # type: ignore[method-assign, assignment]
    done = pair.look()
    assert (done.gave_way, done.failures) == (1, [])
    vault.store.send = send  # type: ignore[method-assign]
    vault.reopen(bucket)
    assert run(pair) == "done"
    assert bucket not in list(vault.store.buckets())
    pair.go()
    assert pair.far.state(bucket) is BucketState.ABSENT


def test_a_bucket_that_was_not_closed_in_good_order_is_opened_once(pair: Pair) -> None:
    vault = pair.open()
    names = filed(pair, 1)
    bucket = vault.holding(names[0]).bucket
    vault.store.lock(bucket)
    snapshot = vault.store.snapshot

    def picky(buckets: list[object], name: str, properties: object = None) -> None:
        if vault.store.state(bucket) is BucketState.LOCKED:
            raise BucketLockedError("unlock it once first", bucket=bucket.path)
        snapshot(buckets, name, properties)  # type: ignore[arg-type]

    vault.store.snapshot = picky  # type: ignore[method-assign, assignment]
    pair.go()
    pair.check_same()
