"""The keystore at a million recordings: bytes for each, time to start, time to shred a thousand keys."""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from pathlib import Path

import numpy as np

from appliance.model import id_text
from appliance.storage.keystore import Keystore, hpke
from appliance.storage.keystore.contents import INTERMEDIATE, RECORD, Contents, DepositKey, TenantKey
from appliance.storage.keystore.epochs import Epochs
from appliance.storage.keystore.rootslot import FileRootSlot, no_fault
from appliance.storage.keystore.wrap import seal_intermediate, wrap_data_key


def fill(
    directories: tuple[Path, Path], recordings: int, per_intermediate: int, genuine: int = 64
) -> list[str]:
    """A keystore of that size: random records, and `genuine` ones that open. Ids of a thousand of the random ones."""
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
            [TenantKey(tenant, 0, private)],
            [DepositKey(0, hpke.new_private_key())],
            above,
            rows,
        )
    )
    epochs.finish()
    step = recordings // 1000
    return [id_text(bytes(raw).ljust(16, b"\0")) for raw in rows["recording"][step // 2 :: step][:1000]]


def run(recordings: int = 1_000_000, per_intermediate: int = 20) -> dict[str, float]:
    """Figures of one run; times in seconds, bytes over both copies."""
    with tempfile.TemporaryDirectory() as folder:
        directories = (Path(folder, "a"), Path(folder, "b"))
        gone = fill(directories, recordings, per_intermediate)
        began = time.perf_counter()
        store = Keystore.open(directories, create=False)
        started = time.perf_counter() - began
        with store:
            size = sum(path.stat().st_size for place in directories for path in place.iterdir())
            began = time.perf_counter()
            for name in gone:
                store.tenant_of(name)
            looked_up = (time.perf_counter() - began) / len(gone)
            began = time.perf_counter()
            result = store.shred(gone)
            shredded = time.perf_counter() - began
            assert len(result.destroyed) == len(gone) and len(store) == recordings - len(gone)
    return {
        "recordings": recordings,
        "recordings_per_intermediate_key": per_intermediate,
        "bytes_per_recording_both_copies": size / recordings,
        "start_s": started,
        "lookup_us": looked_up * 1e6,
        "shred_1000_s": shredded,
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
