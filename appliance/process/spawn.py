"""Starting a process with given descriptors at given numbers (posix_spawn, never fork: gRPC has threads)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance.process.child import LIFELINE
from appliance.process.fdstore import FdStore
from appliance.process.notify import FIRST_FD


def spawn(
    arguments: Sequence[str],
    *,
    log: Path,
    notify: Path,
    lifeline: int,
    store: FdStore,
    environment: dict[str, str],
) -> int:
    """Starts `python arguments…`; gives its process id.

    Stored descriptors lie from 3 on (LISTEN_FDS), the read end of the lifeline after them; both outputs go to `log`.
    """
    first = FIRST_FD + len(store) + 1
    copies, names = store.above(first)
    log_fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    null_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        lifeline_target = FIRST_FD + len(copies)
        actions: list[tuple[int, ...]] = [
            (os.POSIX_SPAWN_DUP2, null_fd, 0),
            (os.POSIX_SPAWN_DUP2, log_fd, 1),
            (os.POSIX_SPAWN_DUP2, log_fd, 2),
            (os.POSIX_SPAWN_DUP2, lifeline, lifeline_target),
        ]
        actions += [(os.POSIX_SPAWN_DUP2, copy, FIRST_FD + place) for place, copy in enumerate(copies)]
        variables = dict(environment, NOTIFY_SOCKET=str(notify))
        variables[LIFELINE] = str(lifeline_target)
        if copies:
            variables["LISTEN_FDS"] = str(len(copies))
            variables["LISTEN_FDNAMES"] = ":".join(names)
        return os.posix_spawn(
            sys.executable,
            [sys.executable, *arguments],
            variables,
            file_actions=actions,
            setsigmask=[],
            setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGPIPE],
        )
    finally:
        for fd in (*copies, log_fd, null_fd):
            os.close(fd)
