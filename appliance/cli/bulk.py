"""Downloads many recordings into one folder. Done again it goes on where it was: what is there and whole is not fetched."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc

from appliance.cli import files
from appliance.cli.connection import bare
from appliance.cli.context import Box
from appliance.cli.downloads import Downloaded, fetch
from appliance.cli.exits import Exit, Failure, from_rpc
from appliance.cli.progress import bar
from earwitness.v1 import retention_pb2

INDEX = "index.jsonl"
ATTEMPTS = 4
_GONE = (Exit.ERASED, Exit.NOT_FOUND, Exit.CONFLICT)  # deleted, erased, expired since the list was made


@dataclass
class Bulk:
    """What came of it. `present`: there already; `gone`: not to be had any more; `failed`: recording and reason."""

    folder: str
    recordings: int
    downloaded: int = 0
    present: int = 0
    gone: int = 0
    size: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """For programs."""
        found = asdict(self)
        found["sizeBytes"] = found.pop("size")
        return found


def download(
    services: Box,
    some: Sequence[retention_pb2.ExpiringRecording],
    folder: Path,
    format_: str,
    *,
    purpose: str,
    override: str = "",
    quiet: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Bulk:
    """See the module. What was downloaded is noted in `index.jsonl`, a line each. Failure where the box goes away."""
    files.make_folder(folder)
    done = Bulk(str(folder), len(some))
    total = sum(one.size_bytes for one in some) or 1
    passed = 0
    with bar(f"{len(some)} recordings", quiet=quiet) as advance:
        for one in some:
            if (folder / f"{bare(one.recording)}.{format_}").exists():
                done.present += 1
            else:
                _one(services, one, folder, format_, done, (purpose, override), sleep)
            passed += one.size_bytes
            advance(passed / total)
    return done


def _one(
    services: Box,
    one: retention_pb2.ExpiringRecording,
    folder: Path,
    format_: str,
    done: Bulk,
    why: tuple[str, str],
    sleep: Callable[[float], None],
) -> None:
    try:
        found = _patiently(services, one.recording, folder, format_, why, sleep)
    except Failure as failure:
        if failure.code in _GONE:
            done.gone += 1
        elif failure.code is Exit.UNAVAILABLE:
            raise
        else:
            done.failed.append({"recording": one.recording, "reason": failure.reason})
        return
    done.downloaded += 1
    done.size += found.size
    note = {
        "recording": one.recording,
        "file": found.path.name,
        "sizeBytes": found.size,
        "sha256": found.sha256,
        "expireTime": one.expire_time.ToJsonString(),
    }
    with (folder / INDEX).open("a", encoding="utf-8") as index:
        index.write(json.dumps(note) + "\n")


def _patiently(
    services: Box,
    name: str,
    folder: Path,
    format_: str,
    why: tuple[str, str],
    sleep: Callable[[float], None],
) -> Downloaded:
    """Tries again where the box is away for a moment, or asks to wait."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            purpose, override = why
            return fetch(services, name, format_, folder, purpose=purpose, override=override, quiet=True)
        except grpc.RpcError as error:
            failure = from_rpc(error)
            if attempt == ATTEMPTS or (
                failure.code is not Exit.UNAVAILABLE and failure.reason != "RATE_LIMITED"
            ):
                raise failure from error
        sleep(2.0 ** (attempt - 1))
    raise AssertionError("the last attempt returns or raises")
