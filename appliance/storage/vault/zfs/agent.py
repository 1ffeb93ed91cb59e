"""The process that touches the pool: `python -m appliance.storage.vault.zfs.agent`, a child of the vault.

A call into ZFS sits in the kernel until a transaction group is on disk, and for ever where the pool is suspended; no
signal ends it. So nothing of that is done in the vault itself: it asks this process over pipes (`frames`), each request
gets a thread, and the vault stops waiting when its deadline is over. The main thread never touches the pool: it reads
requests, and ends the process when the vault is gone.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from appliance.storage.vault.zfs import files, frames, lzc, system

Answer = dict[str, Any]
Operation = Callable[[dict[str, Any], bytes], "Answer | bytes"]


def _plain(function: Callable[..., Any]) -> Operation:
    """An operation without payload; what it returns is the answer's `value`."""
    return lambda arguments, payload: {"value": function(**arguments)}


def _keyed(function: Callable[..., Any]) -> Operation:
    """The request's payload is a key."""
    return lambda arguments, payload: {"value": function(key=payload, **arguments)}


def _raw(function: Callable[..., bytes]) -> Operation:
    """The answer's payload is what it returns."""
    return lambda arguments, payload: function(**arguments)


def operations() -> dict[str, Operation]:
    """What can be asked, by name."""
    handles = files.Handles()
    plain: dict[str, Callable[..., Any]] = {
        "library": lzc.found,
        "destroy": lzc.destroy,
        "unload_key": lzc.unload_key,
        "snapshot": lzc.snapshot,
        "hold": lzc.hold,
        "release": lzc.release,
        "holds": lzc.holds,
        "destroy_snapshots": lzc.destroy_snapshots,
        "bookmark": lzc.bookmark,
        "bookmarks": lzc.bookmarks,
        "destroy_bookmarks": lzc.destroy_bookmarks,
        "mount": system.mount,
        "remount": system.remount,
        "unmount": system.unmount,
        "mounts": system.mounts,
        "stamp": files.stamp,
        "sweep": files.sweep,
        "copy_in": files.copy_in,
        "copy_aside": files.copy_aside,
        "replace": files.replace,
        "bring_back": files.bring_back,
        "give_name": files.give_name,
        "drop": files.drop,
        "remove": files.remove,
        "compare": files.compare,
        "listing": files.listing,
        "find": files.find,
        "open": handles.open,
        "close": handles.close,
    }
    keyed: dict[str, Callable[..., Any]] = {"create": lzc.create, "load_key": lzc.load_key}
    raw: dict[str, Callable[..., bytes]] = {"program": lzc.program, "pread": handles.pread}
    return {
        **{name: _plain(function) for name, function in plain.items()},
        **{name: _keyed(function) for name, function in keyed.items()},
        **{name: _raw(function) for name, function in raw.items()},
    }


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as numbers and names; its text only where it can hold no more than names of datasets."""
    if isinstance(error, files.Astray):
        return {"errno": errno.ESTALE, "kind": "Astray", "names": {}, "said": str(error)}
    if isinstance(error, OSError):
        return {"errno": error.errno or errno.EIO, "kind": "OSError", "names": {}, "said": ""}
    known = lzc.said(error) if isinstance(error, Exception) else None
    return known or {"errno": errno.EPROTO, "kind": type(error).__name__, "names": {}, "said": ""}


class Agent:
    """Answers requests from one stream on another."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO, table: dict[str, Operation]) -> None:
        self._requests, self._answers, self._table = requests, answers, table
        self._writing = threading.Lock()

    def run(self) -> None:
        """Until the requests end."""
        while (message := frames.read(self._requests)) is not None:
            threading.Thread(target=self._answer, args=message, daemon=True).start()

    def _answer(self, head: dict[str, Any], payload: bytes) -> None:
        answer: dict[str, Any] = {"id": head["id"]}
        back = b""
        try:
            result = self._table[head["op"]](head["args"], payload)
        except BaseException as error:  # noqa: BLE001 (told to the one who asked, whatever it is)
            answer["error"] = describe(error)
        else:
            if isinstance(result, bytes):
                back = result
            else:
                answer.update(result)
        raw = frames.pack(answer, back)
        try:
            with self._writing:
                self._answers.write(raw)
                self._answers.flush()
        except BrokenPipeError:
            os._exit(0)  # the vault is gone


def main() -> None:
    """Until the vault closes the pipe."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a terminal sends it to everybody; the vault says when it is over
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing that prints gets between the frames
    Agent(sys.stdin.buffer, answers, operations()).run()
    os._exit(0)  # threads may be in the kernel for ever: nobody waits for them


if __name__ == "__main__":
    main()
