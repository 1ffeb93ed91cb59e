"""Crashes, cuts, strangers, two at once: nothing is lost, nothing is said that is not so, and somebody is told."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from conftest_vault import Crash, Faults
from replica_kit import NAME, TAG, Pair

from appliance.process.status import ALARM, WARNING
from appliance.storage.replica.errors import (
    ReplicaBusyError,
    ReplicaConfiguredError,
    ReplicaUnknownError,
)
from appliance.storage.replica.local import LocalTarget
from appliance.storage.replica.replication import Replication
from appliance.storage.vault.contract import Ailment, SnapshotId, Stream
from appliance.storage.vault.errors import (
    ReplicaDivergedError,
    SnapshotHeldError,
    StoreUnavailableError,
)
from appliance.storage.vault.holding import HoldingState

WHO = "officer"
MOST_STEPS = 100


def changes(pair: Pair) -> None:
    """Something of everything since the last round."""
    house, vault, legal = pair.house, pair.vault, pair.house.parts.legal
    names = [house.record(created_ns=house.clocks.wall_ns, frames=1) for _ in range(5)]
    assert house.poll() == 5
    vault.delete(names[0], "asked")
    house.poll()
    case = legal.create(house.tenant, "inquiry", "asked for", WHO).case_id
    legal.add(case, WHO, names[:2])
    house.eraser.erase(names[2:3], "asked")
    vault.delete(names[3], "asked")
    house.poll()


def settled(pair: Pair) -> None:
    """What must hold when a round has ended well."""
    pair.check_same()
    vault = pair.vault
    for bucket in vault.store.buckets():
        (kept,) = pair.kept_here(bucket).items()
        assert kept[0] == pair.there(bucket)[-1] and TAG in kept[1]
        here = {item.id.name for item in vault.store.snapshots(bucket)}
        assert {name for name in pair.there(bucket) if name.startswith("r-")} == {kept[0]}
        assert set(pair.there(bucket)) == {name for name in here if name.startswith(("g-", "r-"))}
    open_cases = {f"ew.case.{hold.case_id}" for hold in pair.house.parts.legal.book.all() if hold.open}
    tags = {
        tag for bucket in vault.store.buckets() for some in pair.tags_there(bucket).values() for tag in some
    }
    assert tags == open_cases
    erased = [held.recording_id for held in vault.holdings.where("state = 'erased'")]
    assert pair.target.erased(erased) == set(erased)
    for held in vault.holdings.where("state = 'erased'"):
        assert held.certificate is not None and vault.erased_everywhere(held.certificate)


def crash_everywhere(
    pair: Pair,
    prepare: Callable[[], None],
    do: Callable[[], object],
    check: Callable[[], None],
    replicas: tuple[str, ...] = (NAME,),
) -> list[str]:
    """`do` with a crash at its first step, its second and so on, each made good after a start; the steps."""
    for at in range(MOST_STEPS):
        faults = Faults()
        pair.open(faults, replicas)
        prepare()
        faults.steps.clear()
        faults.at = at
        try:
            do()
        except Crash:
            pair.open(replicas=replicas)
            check()
            continue
        steps, faults.at = list(faults.steps), None
        check()
        return steps
    raise AssertionError("it never ends")


@pytest.mark.timeout(5400)
def test_a_crash_at_every_step_of_a_round(pair: Pair) -> None:
    def check() -> None:
        pair.go()
        settled(pair)
        legal = pair.house.parts.legal
        for hold in [one for one in legal.book.all() if one.open]:
            legal.release(hold.case_id, WHO, "over")
        pair.go()

    steps = crash_everywhere(pair, lambda: changes(pair), lambda: pair.look(), check)
    # Where it matters: a note is durable after what it says, a hold comes before what it holds may go.
    assert (
        steps.index("entry's effects are there")
        < steps.index("entry followed")
        < steps.index("receipt noted")
    )
    assert (
        steps.index("receipt noted")
        < steps.index("replica snapshot taken")
        < steps.index("snapshot replicated")
    )
    assert steps.index("copy arranged") < steps.index("replica snapshots destroyed")
    assert len(steps) > 25


def test_a_crash_at_every_step_of_forgetting_a_replica(pair: Pair) -> None:
    pair.open()
    changes(pair)

    pair.go()
    (bucket,) = pair.vault.store.buckets()
    parked = next(pair.vault.holdings.where("parked <> ''")).parked

    def prepare() -> None:
        """As a round would have left it."""
        store = pair.vault.store
        store.snapshot([bucket], f"r-{NAME}-1")
        store.hold([SnapshotId(bucket, name) for name in (parked, f"r-{NAME}-1")], TAG)
        (pair.house.layout.vault / "replicas" / f"{NAME}.json").write_bytes(b"{}")

    def do() -> None:
        assert pair.replication is not None
        pair.replication.forget(NAME)

    def check() -> None:
        assert pair.replication is not None
        if NAME in pair.replication.strays():
            pair.replication.forget(NAME)
        assert pair.replication.strays() == []
        names = [item.id.name for item in pair.vault.store.snapshots()]
        assert not [name for name in names if name.startswith("r-")] and parked in names

    crash_everywhere(pair, prepare, do, check, replicas=())


# Streams.


def test_a_stream_that_is_cut_or_changed_does_no_harm_and_comes_again(pair: Pair) -> None:
    vault = pair.open()
    changes(pair)
    send = vault.store.send

    def spoilt(how: Callable[[bytes], bytes]) -> Callable[..., Stream]:
        def sending(*args: object, **words: object) -> Stream:
            stream = send(*args, **words)  # type: ignore[arg-type]

            def pieces() -> Iterator[bytes]:
                yield how(b"".join(stream.pieces))

            return replace(stream, pieces=pieces())

        return sending

    def flipped(at: float) -> Callable[[bytes], bytes]:
        def flip(raw: bytes) -> bytes:
            place = int(at * len(raw))
            return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]

        return flip

    ways = [flipped(at) for at in (0.0, 0.1, 0.5, 0.9, 0.999)]
    ways += [lambda raw: raw[: len(raw) // 2], lambda raw: raw[:-1], lambda raw: b""]
    for way in ways:
        vault.store.send = spoilt(way)  # type: ignore[method-assign]
        done = pair.look()
        assert not done.complete and done.failures
        vault.store.send = send  # type: ignore[method-assign]
        pair.go()
        settled(pair)
        changes(pair)


def test_a_copy_that_was_changed_there_is_told_and_starts_over_when_somebody_says_so(pair: Pair) -> None:
    vault = pair.open()
    changes(pair)
    (bucket,) = vault.store.buckets()
    pair.go()
    pair.far.snapshot([bucket], "g-77")  # somebody's doing
    changes(pair)
    done = pair.look()
    assert [item.reason for item in done.failures] == [ReplicaDivergedError.reason]
    assert "ReplicaDiverged" in pair.conditions()
    (told,) = [item for item in pair.house.status.conditions() if item.type == "ReplicaDiverged"]
    assert told.severity == ALARM and "1 bucket" in told.message and bucket.path not in told.message
    assert "g-77" in pair.there(bucket), "nothing is destroyed by itself"
    taken = [item.id.name for item in vault.store.snapshots(bucket)]
    pair.look()
    assert [item.id.name for item in vault.store.snapshots(bucket)] == taken, "it does not pile up"
    assert pair.replication is not None
    assert pair.replication.start_over(NAME) == [bucket]
    pair.go()
    settled(pair)
    assert "ReplicaDiverged" not in pair.conditions()
    assert pair.replication.start_over(NAME) == [], "what goes on is left alone"
    assert pair.replication.start_over(NAME, (bucket,)) == [bucket]
    pair.go()
    settled(pair)


# Away, late, somebody else's.


def test_a_replica_that_is_away_is_told_and_catches_up(pair: Pair) -> None:
    vault = pair.open()
    changes(pair)
    pair.go()
    pair.away = True
    pair.replicator.close()
    changes(pair)
    pair.look()
    assert not pair.conditions(), "a short while is nothing"
    pair.look(minutes=20)
    (told,) = pair.house.status.conditions()
    assert (told.type, told.severity) == ("ReplicaBehind", WARNING)
    assert "north is 20 minutes behind" in told.message and "the replica is away" in told.message
    counters = pair.house.status.counters()
    assert counters["replica_north_lag_entries"] == vault.deletions.number - vault.confirmed[NAME] > 0
    assert counters["replica_north_lag_buckets"] == 1 and counters["replica_north_lag_bytes"] > 0
    pair.look(minutes=24 * 60)
    assert [item.severity for item in pair.house.status.conditions()] == [ALARM]
    pair.away = False
    pair.go()
    settled(pair)
    assert not pair.conditions()
    counters = pair.house.status.counters()
    assert counters["replica_north_lag_entries"] == counters["replica_north_lag_bytes"] == 0


def test_the_log_goes_at_once_and_the_buckets_when_it_is_their_time(pair: Pair) -> None:
    vault = pair.open()
    changes(pair)
    pair.go()
    changes(pair)
    assert pair.replication is not None
    done = pair.replication.look(buckets=False)[NAME]
    assert done.entries == 2 and done.bytes == 0 and done.left == 1
    assert vault.confirmed[NAME] == vault.deletions.number
    assert not pair.conditions()
    pair.go()
    settled(pair)


def test_another_replica_under_the_name_is_not_believed(pair: Pair) -> None:
    vault = pair.open()
    changes(pair)
    pair.go()
    confirmed = vault.confirmed[NAME]
    pair.close()
    shutil.rmtree(pair.state)
    vault = pair.open()
    changes(pair)
    done = pair.look()
    assert [item.reason for item in done.failures] == ["REPLICA_FOREIGN"] and done.bytes == 0
    assert pair.conditions() == {"ReplicaDiverged"}
    assert vault.confirmed[NAME] == confirmed


def test_an_older_log_here_is_found_out(pair: Pair) -> None:
    pair.open()
    changes(pair)
    path = pair.house.layout.vault / "deletions"
    before = path.read_bytes()
    changes(pair)
    pair.go()
    pair.close()
    path.write_bytes(before)
    pair.open()
    done = pair.look()
    assert [item.reason for item in done.failures] == ["DELETION_LOG_ROLLED_BACK"]
    assert pair.conditions() == {"ReplicaDiverged"}
    changes(pair)
    changes(pair)
    done = pair.look()
    assert [item.reason for item in done.failures] == ["DELETION_LOG_FORK"]
    assert pair.conditions() == {"ReplicaDiverged"}


def test_a_replica_that_was_put_back_is_told_the_log_again_before_any_stream(pair: Pair) -> None:
    vault = pair.open()
    changes(pair)
    pair.go()
    pair.close()
    aside = pair.state.with_name("aside")
    shutil.copytree(pair.state, aside)
    vault = pair.open()
    changes(pair)
    pair.go()
    held = next(iter(vault.holdings.where("state = 'erased'")))
    certificates = [item.certificate for item in vault.holdings.where("state = 'erased'")]
    newest = max(item.log_number for item in certificates if item is not None)
    confirmed = vault.confirmed[NAME]
    pair.close()
    shutil.rmtree(pair.state)
    shutil.move(aside, pair.state)
    vault = pair.open()
    assert vault.confirmed[NAME] == confirmed
    order: list[str] = []
    apply, receive = pair.target.apply, pair.target.receive
    pair.target.apply = lambda entries: (order.append("log"), apply(entries))[1]  # type: ignore[method-assign]
    pair.target.receive = lambda *args: (order.append("stream"), receive(*args))[1]  # type: ignore[method-assign]
    house_record = pair.house.record(created_ns=pair.house.clocks.wall_ns)
    pair.house.poll()
    done = pair.look()
    assert done.stale and done.complete and done.entries > 0
    assert order[0] == "log" and "stream" in order
    assert "ReplicaStale" in pair.conditions()
    assert vault.confirmed[NAME] == confirmed >= newest
    assert held.recording_id in pair.target.erased([held.recording_id])
    pair.go()
    assert "ReplicaStale" in pair.conditions(), "long enough to be seen"
    pair.look(minutes=25 * 60)
    assert "ReplicaStale" not in pair.conditions()
    assert vault.holding(house_record).state is HoldingState.FILED


def test_the_log_does_not_wait_for_a_long_stream(pair: Pair) -> None:
    vault = pair.open()
    changes(pair)
    (name, other) = pair.house.filed(2)
    send, erased, kinds = vault.store.send, [], []

    def long(*args: object, **words: object) -> Stream:
        stream = send(*args, **words)  # type: ignore[arg-type]

        def pieces() -> Iterator[bytes]:
            for number, piece in enumerate(stream.pieces):
                if number == 3 and not erased and not stream.snapshot.startswith("g"):
                    erased.extend(pair.house.eraser.erase([name], "asked"))
                    assert not vault.erased_everywhere(erased[0])
                elif erased and number == 4:
                    pair.house.clock.now += 31
                    kinds.append("a piece")
                yield piece

        return replace(stream, pieces=pieces())

    vault.store.send = long  # type: ignore[method-assign]
    apply = pair.target.apply

    def applied(entries: object) -> object:
        kinds.append("log")
        return apply(entries)  # type: ignore[arg-type]

    pair.target.apply = applied  # type: ignore[method-assign, assignment]
    done = pair.look()
    assert kinds[:3] == ["log", "a piece", "log"] and not done.failures
    assert vault.erased_everywhere(erased[0])
    pair.go()
    settled(pair)
    pair.house.check_readable(other)


def test_no_replica_waits_for_another(pair: Pair) -> None:
    vault = pair.open()
    pair.replication.close()
    names = pair.house.filed(2)
    stuck, let_go = threading.Event(), threading.Event()

    def hanging() -> LocalTarget:
        stuck.set()
        assert let_go.wait(60)
        raise StoreUnavailableError("the replica is away", errno=5)

    pair.replication = replication = Replication(vault, {"south": hanging, NAME: pair.connect})
    assert vault.replicas == ("south", NAME)
    thread = threading.Thread(target=replication.run)
    thread.start()
    assert stuck.wait(60)
    (certificate,) = pair.house.eraser.erase(names[:1], "asked")
    waiting = threading.Event()
    for _ in range(600):
        if vault.confirmed[NAME] == certificate.log_number:
            break
        waiting.wait(0.1)
    assert vault.confirmed == {"south": 0, NAME: certificate.log_number}
    assert not vault.erased_everywhere(certificate), "the other has not said so"
    let_go.set()
    replication.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_what_is_wrong_with_the_replicas_medium_is_told(pair: Pair) -> None:
    pair.open()
    pair.far.health = lambda: [Ailment("PoolDegraded", "The pool cold is degraded.", alarm=True)]  # type: ignore[method-assign]
    pair.go()
    (told,) = pair.house.status.conditions()
    assert (told.type, told.severity) == ("ReplicaIll", ALARM) and "north: The pool cold" in told.message


# Two at once.


def test_one_alone_works_with_a_replica(pair: Pair) -> None:
    pair.open()
    changes(pair)
    other = Replication(pair.vault, {NAME: pair.connect})
    entered, go_on = threading.Event(), threading.Event()
    receive = pair.target.receive

    def slow(stream: object, notice: object) -> None:
        entered.set()
        assert go_on.wait(60)
        receive(stream, notice)  # type: ignore[arg-type]

    pair.target.receive = slow  # type: ignore[method-assign]
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(pair.look()))
    thread.start()
    assert entered.wait(60)
    assert other.look() == {}
    with pytest.raises(ReplicaBusyError):
        other.start_over(NAME)
    with pytest.raises(ReplicaBusyError), other.target(NAME):
        pass
    go_on.set()
    thread.join(60)
    assert found and not thread.is_alive()
    pair.target.receive = receive  # type: ignore[method-assign]
    pair.go()
    settled(pair)
    other.close()


def test_the_thread_ends_soon_when_told_and_goes_on_at_the_next_start(pair: Pair) -> None:
    pair.open()
    changes(pair)
    assert pair.replication is not None
    replication = pair.replication
    receive = pair.target.receive

    def stopping(stream: object, notice: object) -> None:
        replication.stop()
        receive(stream, notice)  # type: ignore[arg-type]

    pair.target.receive = stopping  # type: ignore[method-assign]
    thread = threading.Thread(target=replication.run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    pair.open()
    pair.go()
    settled(pair)


def test_the_thread_wakes_when_something_is_erased(pair: Pair) -> None:
    vault = pair.open()
    names = pair.house.filed(2)
    assert pair.replication is not None
    thread = threading.Thread(target=pair.replication.run)
    thread.start()
    (certificate,) = pair.house.eraser.erase(names[:1], "asked")
    told = threading.Event()
    for _ in range(600):
        if vault.erased_everywhere(certificate):
            break
        told.wait(0.1)
    pair.replication.stop()
    thread.join(60)
    assert vault.erased_everywhere(certificate)


# A replica that is no more.


def test_what_is_kept_for_a_replica_that_is_no_more_is_told_and_let_go_when_somebody_says_so(
    pair: Pair,
) -> None:
    pair.open()
    changes(pair)
    pair.go()
    assert pair.replication is not None
    with pytest.raises(ReplicaConfiguredError):
        pair.replication.forget(NAME)
    vault = pair.open(replicas=())
    (bucket,) = vault.store.buckets()
    assert pair.replication.look() == {}
    (told,) = pair.house.status.conditions()
    assert (told.type, told.severity) == ("ReplicaUnconfigured", WARNING) and NAME in told.message
    assert pair.kept_here(bucket), "nothing is let go by itself"
    with pytest.raises(ReplicaUnknownError):
        pair.replication.forget("south")
    foreign = SnapshotId(bucket, next(iter(pair.kept_here(bucket))))
    pair.ground.foreign_hold(foreign, "backup")
    (held,) = vault.holdings.where("state = 'erased'")
    assert held.certificate is not None and vault.erased_everywhere(held.certificate)
    assert pair.replication.forget(NAME) == 0
    names = [item.id.name for item in vault.store.snapshots(bucket)]
    assert foreign.name in names, "what somebody else holds stays"
    with pytest.raises(SnapshotHeldError):
        vault.store.destroy_snapshots([foreign])
    assert not pair.kept_here(bucket)
    vault = pair.open(replicas=())
    assert vault.erased_everywhere(held.certificate), "what it has confirmed it has confirmed"
