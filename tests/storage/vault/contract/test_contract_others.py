"""One tenant never touches another; what is unknown is never destroyed; space is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from contract_kit import KEY, OTHER_KEY, bucket, content, filled, names, put
from ground import Ground

from appliance.model import new_id
from appliance.storage.names import BucketNameError
from appliance.storage.vault.contract import BucketStore
from appliance.storage.vault.errors import BucketKeyError, QuotaExceededError, StoredFileMissingError


def test_unknown_things_are_told_and_never_destroyed(
    store: BucketStore, ground: Ground, tmp_path: Path
) -> None:
    made, _ = filled(store, tmp_path)
    stranger = ground.foreign_bucket(made.tenant_id)
    assert list(store.survey().strangers) == [stranger]
    assert list(store.buckets()) == [made]
    store.lock(made)
    store.destroy(made)
    assert ground.has(stranger) and list(store.survey().strangers) == [stranger]
    again = ground.open()
    assert list(again.survey().strangers) == [stranger] and list(again.buckets()) == []


def test_one_tenant_never_reaches_another(store: BucketStore, tmp_path: Path) -> None:
    one, (name, _) = filled(store, tmp_path)
    two = bucket()
    store.create(two, OTHER_KEY)
    other = put(store, two, tmp_path, b"of another")
    for item, missing in ((one, other), (two, name)):
        assert store.find(item, missing) is None
        with pytest.raises(StoredFileMissingError):
            store.read(item, missing)
        store.remove(item, [missing])
    store.lock(two)
    with pytest.raises(BucketKeyError):
        store.unlock(two, KEY)
    store.unlock(two, OTHER_KEY)
    assert content(store, two, other) == b"of another" and content(store, one, name)
    store.destroy(one)
    assert names(store, two) == [other]


def test_the_quota_of_one_tenant_never_hurts_another(store: BucketStore, tmp_path: Path) -> None:
    greedy, found = filled(store, tmp_path, 1)
    modest, _ = filled(store, tmp_path, 1)
    store.set_quota(greedy.tenant_id, 8 << 20)
    assert store.usage(greedy.tenant_id).quota == 8 << 20 and store.usage(modest.tenant_id).quota == 0
    written = []
    source = tmp_path / "source"
    with pytest.raises(QuotaExceededError) as refused:
        for _ in range(40):
            source.write_bytes(os.urandom(1 << 20))
            name = new_id()
            store.write(greedy, name, source)
            written.append(name)
    assert refused.value.data == {"tenant_id": greedy.tenant_id}
    assert source.stat().st_size == 1 << 20, "what was not taken is where it was"
    assert 3 <= len(written) <= 9
    put(store, modest, tmp_path, os.urandom(1 << 20))
    assert names(store, greedy) == sorted([*found, *written])
    with pytest.raises(QuotaExceededError):
        store.set_quota(greedy.tenant_id, 1 << 20)
    assert store.usage(greedy.tenant_id).quota == 8 << 20, (
        "a quota below what is used is refused, the old one stays"
    )
    store.set_quota(greedy.tenant_id, 0)
    store.write(greedy, new_id(), source)
    with pytest.raises(BucketNameError):
        store.set_quota("../x", 1)


def test_usage_counts_what_snapshots_keep(store: BucketStore, tmp_path: Path) -> None:
    made = bucket()
    store.create(made, KEY)
    name = put(store, made, tmp_path, os.urandom(3 << 20))
    store.snapshot([made], "g-1")
    store.remove(made, [name])
    assert store.usage(made.tenant_id).used >= 3 << 20


def test_space_and_health(store: BucketStore) -> None:
    space = store.space()
    assert 0 < space.free <= space.total and store.health() == []
