"""A recording's sidecar: it grows in place, goes and comes back with its recording, and is in snapshots as it was then."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract_kit import KEY, bucket, content, filled, names
from ground import Ground

from appliance.model import new_id
from appliance.storage.vault.contract import BucketId, BucketState, BucketStore
from appliance.storage.vault.errors import BucketLockedError, BucketMissingError, StoredFileMissingError


def write(store: BucketStore, to: BucketId, folder: Path, name: str, raw: bytes) -> None:
    source = folder / f"{name}.sidecar"
    source.write_bytes(raw)
    store.write_sidecar(to, name, source)
    assert not source.exists()


def sidecar(store: BucketStore, of: BucketId, name: str, snapshot: str = "") -> bytes:
    with store.read_sidecar(of, name, snapshot=snapshot) as file:
        return file.read()


def sizes(store: BucketStore, of: BucketId, snapshot: str = "") -> dict[str, int]:
    return {one.recording_id: one.size for one in store.sidecars(of, snapshot=snapshot)}


def test_a_sidecar_grows_and_goes_where_its_recording_goes(store: BucketStore, tmp_path: Path) -> None:
    made, (first, second) = filled(store, tmp_path)
    raw = content(store, made, first)
    with pytest.raises(StoredFileMissingError):
        store.read_sidecar(made, first)
    write(store, made, tmp_path, first, b"one")
    store.snapshot([made], "g-1")
    write(store, made, tmp_path, first, b"one, two" * 20_000)
    assert (
        sidecar(store, made, first) == b"one, two" * 20_000 and sidecar(store, made, first, "g-1") == b"one"
    )
    assert names(store, made) == sorted([first, second]), "a sidecar is no recording"
    assert sizes(store, made) == {first: 160_000} and sizes(store, made, "g-1") == {first: 3}
    store.snapshot([made], "g-2")
    for _ in range(2):
        store.remove(made, [first])
        assert names(store, made) == [second] and sizes(store, made) == {}
    for _ in range(2):
        store.restore(made, "g-2", [first])
        assert sidecar(store, made, first) == b"one, two" * 20_000 and content(store, made, first) == raw
    write(store, made, tmp_path, first, b"later")
    store.restore(made, "g-2", [first])
    assert sidecar(store, made, first) == b"later", "one that is there is never put back to an older state"
    assert list(store.survey().strangers) == []
    assert store.usage(made.tenant_id).used > 160_000


def test_a_sidecar_is_under_the_buckets_key(store: BucketStore, tmp_path: Path) -> None:
    made, (name, _) = filled(store, tmp_path)
    write(store, made, tmp_path, name, b"secret")
    with store.read_sidecar(made, name) as file:
        store.remove(made, [name])
        assert file.read() == b"secret"
    store.lock(made)
    source = tmp_path / "source"
    source.write_bytes(b"x")
    for refused in (
        lambda: store.read_sidecar(made, name),
        lambda: list(store.sidecars(made)),
        lambda: store.write_sidecar(made, name, source),
    ):
        with pytest.raises(BucketLockedError):
            refused()
    with pytest.raises(BucketMissingError):
        store.write_sidecar(bucket(), new_id(), source)
    assert source.read_bytes() == b"x"
    assert store.state(made) is BucketState.LOCKED


def test_copies_elsewhere_get_the_sidecar_and_what_it_grew_by(ground: Ground, tmp_path: Path) -> None:
    source, other = ground.open(), ground.second()
    made, (first, second) = filled(source, tmp_path)
    write(source, made, tmp_path, first, b"one")
    source.snapshot([made], "r-x-1")
    write(source, made, tmp_path, first, b"one, two")
    write(source, made, tmp_path, second, b"new")
    source.snapshot([made], "r-x-2")
    source.snapshot([made], "r-x-3")
    other.receive(made, source.send(made, "r-x-1"))
    full = sum(map(len, source.send(made, "r-x-2").pieces))
    assert sum(map(len, source.send(made, "r-x-2", base="r-x-1").pieces)) < full, (
        "recordings are not sent again"
    )
    for snapshot, base in (("r-x-2", "r-x-1"), ("r-x-3", "r-x-2")):
        other.receive(made, source.send(made, snapshot, base=base))
    other.unlock(made, KEY)
    assert sidecar(other, made, first) == sidecar(other, made, first, "r-x-3") == b"one, two"
    assert sidecar(other, made, first, "r-x-1") == b"one" and sidecar(other, made, second) == b"new"
    assert sizes(other, made, "r-x-1") == {first: 3}
    source.close(), other.close()
