"""The keystore at a million recordings: bytes for each, time to start, time to shred a thousand keys, and very many."""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from pathlib import Path

import numpy as np

from appliance.model import id_text, new_id
from appliance.storage.keystore import Keystore, hpke
from appliance.storage.keystore.buckets import BucketKey, pack_bucket_name
from appliance.storage.keystore.contents import INTERMEDIATE, RECORD, Contents, DepositKey
from appliance.storage.keystore.epochs import Epochs
from appliance.storage.keystore.rootslot import FileRootSlot, no_fault
from appliance.storage.keystore.tenantkeys import TenantKey
from appliance.storage.keystore.wrap import seal_intermediate, wrap_data_key


def fill(
    directories: tuple[Path, Path],
    recordings: int,
    per_intermediate: int,
    buckets: int = 0,
    genuine: int = 64,
) -> list[str]:
    """A keystore of that size: random records, and `genuine` ones that open. Ids of all recordings."""
    private, tenant = hpke.new_private_key(), secrets.token_bytes(16)
    above = np.zeros(-(-recordings // per_intermediate), INTERMEDIATE)
    above["id"] = np.sort(np.frombuffer(secrets.token_bytes(16 * len(above)), "S16"))
    above["tenant"] = tenant
    above["sealed"] = np.frombuffer(secrets.token_bytes(above["sealed"].itemsize), above["sealed"].dtype)[0]
    rows = np.zeros(recordings, RECORD)
    rows["recording"] = np.sort(np.frombuffer(secrets.token_bytes(16 * recordings), "S16"))
    rows["intermediate"] = np.arange(recordings) // per_intermediate
    rows["wrapped"] = np.frombuffer(secrets.token_bytes(48 * recordings), "V48")
    public, key = hpke.public_key(private), secrets.token_bytes(32)
    name = bytes(above["id"][0]).ljust(16, b"\0")
    above["sealed"][0] = np.void(seal_intermediate(public, tenant, name, key))
    for counter in range(min(genuine, per_intermediate)):
        recording = bytes(rows["recording"][counter]).ljust(16, b"\0")
        rows["counter"][counter] = counter
        rows["wrapped"][counter] = np.void(
            wrap_data_key(key, counter, tenant, name, recording, secrets.token_bytes(32))
        )
    epochs = Epochs(directories, FileRootSlot(directories), no_fault)
    epochs.create(
        Contents(
            secrets.token_bytes(32),
            [TenantKey.auto(tenant, 0, private)],
            [DepositKey(0, hpke.new_private_key())],
            above,
            rows,
            [
                BucketKey(pack_bucket_name((new_id(), new_id(), "2026-11-28")), 0, secrets.token_bytes(32))
                for _ in range(buckets)
            ],
        )
    )
    epochs.finish()
    return [id_text(bytes(raw).ljust(16, b"\0")) for raw in rows["recording"]]


def spread(names: list[str], count: int) -> list[str]:
    """So many of them, from everywhere."""
    step = max(1, len(names) // count)
    return names[step // 2 :: step][:count]


def run(recordings: int = 1_000_000, per_intermediate: int = 20, buckets: int = 2_000) -> dict[str, float]:
    """Figures of one run; times in seconds, bytes over both copies."""
    found: dict[str, float] = {
        "recordings": recordings,
        "recordings_per_intermediate_key": per_intermediate,
        "bucket_keys": buckets,
    }
    with tempfile.TemporaryDirectory() as folder:
        directories = (Path(folder, "a"), Path(folder, "b"))
        names = fill(directories, recordings, per_intermediate, buckets)
        began = time.perf_counter()
        store = Keystore.open(directories, create=False)
        started = time.perf_counter() - began
        with store:
            size = sum(path.stat().st_size for place in directories for path in place.iterdir())
            found["bytes_per_recording_both_copies"] = size / recordings
            found["start_s"] = started
            gone = spread(names, 1000)
            began = time.perf_counter()
            for name in gone:
                store.tenant_of(name)
            found["lookup_us"] = (time.perf_counter() - began) / len(gone) * 1e6
            for count in (1_000, recordings // 10, recordings // 5):
                gone = spread(names, count)
                began = time.perf_counter()
                result = store.shred(gone, buckets=store.bucket_keys()[:10])
                found[f"shred_{count}_s"] = time.perf_counter() - began
                assert len(result.destroyed) == len(gone) and len(result.buckets) == min(10, buckets)
                left = set(names) - set(gone)
                names = [name for name in names if name in left]
                assert len(store) == len(names)
    return found


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
