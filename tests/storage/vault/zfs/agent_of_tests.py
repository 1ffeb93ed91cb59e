"""An agent whose operations are those that the tests of the worker need; run as a program."""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import Any

from appliance.storage.vault.zfs import files
from appliance.storage.vault.zfs.agent import Agent, Operation

CLOSED: list[int] = []


def sleep(seconds: float, handle: int = 0) -> dict[str, Any]:
    time.sleep(seconds)
    return {"handle": handle}


def fail(number: int) -> None:
    raise OSError(number, "asked for")


def table() -> dict[str, Operation]:
    def astray(args: dict[str, Any], payload: bytes) -> dict[str, Any]:
        raise files.Astray("asked for")

    return {
        "echo": lambda args, payload: payload,
        "pid": lambda args, payload: {"value": os.getpid()},
        "open": lambda args, payload: {"value": sleep(**args)},
        "sleep": lambda args, payload: {"value": sleep(**args)},
        "close": lambda args, payload: {"value": CLOSED.append(args["handle"])},
        "closed": lambda args, payload: {"value": CLOSED},
        "fail": lambda args, payload: {"value": fail(**args)},
        "bug": lambda args, payload: {"value": args["there is no such argument"]},
        "astray": astray,
        "die": lambda args, payload: os._exit(3),
        "garble": lambda args, payload: {"value": os.write(out, b"\xff" * 64)},
        "errno": lambda args, payload: {"value": errno.EIO},
    }


if __name__ == "__main__":
    out = os.dup(1)
    Agent(sys.stdin.buffer, os.fdopen(out, "wb"), table()).run()
    os._exit(0)
