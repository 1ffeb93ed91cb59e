"""Runs in the guest: calls a store again and again and says how each call ended, or looks at what a power cut left.

`pool_trouble.py POOL watch` goes on until /run/trouble/stop is there, and does nothing while /run/trouble/pause is;
`pool_trouble.py POOL fill` and `pool_trouble.py POOL check` are for before and after a cut. One JSON object a line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.model import EarwitnessError, new_id
from appliance.storage.names import BucketId, SnapshotId
from appliance.storage.vault.errors import BucketLockedError
from appliance.storage.vault.zfs import open_store
from appliance.storage.vault.zfs.store import ZfsStore

KEY = bytes(range(32))
FOLDER = Path("/run/trouble")
DEADLINE_S = 6.0
BUCKET = BucketId("a" * 26, "b" * 25 + "a", "2026-11-25")


def say(**what: object) -> None:
    """One line."""
    print(json.dumps(what), flush=True)


def put(store: ZfsStore, name: str) -> str:
    """A recording of a few bytes."""
    source = FOLDER / f"{name}.sealed"
    source.write_bytes(name.encode() * 100)
    store.write(BUCKET, name, source)
    return name


def timed(name: str, call: Callable[[], Any]) -> None:
    """How a call ended, and in how many seconds."""
    began = time.monotonic()
    try:
        told = call()
    except EarwitnessError as error:
        told = error.reason
    say(
        call=name,
        ended=told if isinstance(told, str | list) else "ok",
        seconds=round(time.monotonic() - began, 2),
    )


def watch(store: ZfsStore) -> None:
    """Until told to stop."""
    store.create(BUCKET, KEY)
    first = put(store, new_id())
    for part in (store._worker, store._commands, store._doors):
        part._deadline_s = DEADLINE_S
    say(ready=first)
    while not (FOLDER / "stop").exists():
        if (FOLDER / "pause").exists():
            say(paused=True)
            time.sleep(1)
            continue
        timed("health", lambda: [one.name for one in store.health()])
        timed("write", lambda: len(put(store, new_id())))
        timed("snapshot", lambda: store.snapshot([BUCKET], "g-1"))
        timed("destroy", lambda: store.destroy_snapshots([SnapshotId(BUCKET, "g-1")]))
        timed("state", lambda: store.state(BUCKET).value)
        timed("read", lambda: store.read(BUCKET, first).close())
        time.sleep(0.2)
    began = time.monotonic()
    store.close()
    say(closed=round(time.monotonic() - began, 2))


def check(store: ZfsStore) -> None:
    """After a cut: the bucket is locked and was not closed in good order."""
    say(state=store.state(BUCKET).value)
    try:
        store.snapshot([BUCKET], "g-1")
    except BucketLockedError as error:
        say(refused=error.reason)
    store.unlock(BUCKET, KEY)
    store.snapshot([BUCKET], "g-1")
    found = [item.recording_id for item in store.files(BUCKET, snapshot="g-1")]
    say(found=sorted(found), now=sorted(item.recording_id for item in store.files(BUCKET)))
    store.lock(BUCKET)
    store.snapshot([BUCKET], "g-2")
    say(strangers=list(store.survey().strangers))
    store.close()


def main() -> None:
    """See the module."""
    pool, what = sys.argv[1:]
    FOLDER.mkdir(exist_ok=True)
    store = open_store(f"{pool}/rec", FOLDER / "mounts", deadline_s=60.0)
    if what == "watch":
        watch(store)
    elif what == "fill":
        store.create(BUCKET, KEY)
        say(written=[put(store, new_id()) for _ in range(3)])
        time.sleep(3600)
    else:
        check(store)


if __name__ == "__main__":
    main()
