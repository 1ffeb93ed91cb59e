"""What was added to recordings goes to the replica with them, and comes back: whole, or recording by recording."""

from __future__ import annotations

from conftest_vault import CREATED_NS
from replica_kit import Pair
from test_replica_restore import filed, lose, restore

from appliance.model import new_id
from appliance.storage.sealed.sidecar import pack_content
from appliance.storage.vault.sidecars import Sidecars, put


def annotate(pair: Pair, name: str, text: str) -> None:
    said = {"id": new_id(), "what": "note-created", "by": "ada", "at_ns": CREATED_NS, "text": text}
    Sidecars(pair.vault).annotate(name, [pack_content(said)])


def test_sidecars_come_back_as_they_were_sent(pair: Pair) -> None:
    pair.open()
    first, second = filed(pair, 2)
    annotate(pair, first, "one")
    pair.go()
    annotate(pair, first, "two")
    annotate(pair, second, "other")
    assert pair.go().buckets == 1, "a note alone makes a bucket to be sent"
    assert pair.go().buckets == 0
    raw = {name: Sidecars(pair.vault).read(name) for name in (first, second)}
    lose(pair)
    done = restore(pair)
    assert done.failed == {} and done.reconciled is not None
    assert (done.reconciled.sidecars_damaged, done.reconciled.missing, done.reconciled.unknown) == (0, 0, 0)
    assert {name: Sidecars(pair.vault).read(name) for name in raw} == raw
    annotate(pair, first, "three")
    assert pair.go().failures == []


def test_a_recording_that_is_merged_into_a_bucket_brings_its_sidecar(pair: Pair) -> None:
    pair.open()
    (name,) = filed(pair, 1)
    annotate(pair, name, "one")
    pair.go()
    raw = Sidecars(pair.vault).read(name)
    lose(pair)
    filed(pair, 1)  # the bucket is here again, with something else in it
    done = restore(pair, pair.house.ground.second(name="staging"))
    assert done.recordings == 1 and done.failed == {}
    assert Sidecars(pair.vault).read(name) == raw
    pair.house.check_readable(name)


def test_a_sidecar_that_grew_since_it_was_copied_stays(pair: Pair) -> None:
    pair.open()
    (name,) = filed(pair, 1)
    annotate(pair, name, "one")
    pair.go()
    annotate(pair, name, "two")
    raw = Sidecars(pair.vault).read(name)
    lose(pair)
    filed(pair, 1)  # the bucket is here again, and of the recording only its sidecar
    bucket = pair.vault.holding(name).bucket
    pair.vault.buckets.open(bucket)
    put(pair.vault, pair.vault.store, bucket, name, raw)
    done = restore(pair, pair.house.ground.second(name="staging"))
    assert done.recordings == 1 and done.failed == {}
    assert Sidecars(pair.vault).read(name) == raw, "the copy is older"
    pair.house.check_readable(name)
