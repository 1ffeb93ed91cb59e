"""The protocol of sd_notify(3) and of systemd's file descriptor store (sd_pid_notify_with_fds(3), FDSTORE=1).

Our supervisor speaks it as systemd does, so the same program runs under either. Without NOTIFY_SOCKET every function
does nothing, as libsystemd's do.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable

FIRST_FD = 3  # SD_LISTEN_FDS_START
FDS_PER_MESSAGE = 200  # the kernel allows 253 (SCM_MAX_FD)


def _send(message: str, fds: Iterable[int] = ()) -> bool:
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect(address)
        channel.sendmsg([message.encode()], ancillary)
    return True


def ready(**values: str) -> None:
    """READY=1, with further values such as X_ADDRESS."""
    _send(
        "\n".join(
            ["READY=1", f"MAINPID={os.getpid()}", *(f"{name}={value}" for name, value in values.items())]
        )
    )


def stopping() -> None:
    """STOPPING=1."""
    _send("STOPPING=1")


def status(text: str) -> None:
    """STATUS=: one line for people; no personal data."""
    _send(f"STATUS={text}")


def failed(reason: str, message: str) -> None:
    """Why this process cannot start; the supervisor tells it to who started the box."""
    _send(f"X_REASON={reason}\nX_MESSAGE={message}")


def store_fds(name: str, fds: Iterable[int]) -> None:
    """Hands descriptors to the store, where they outlive this process. A name may hold several."""
    waiting = list(fds)
    for begin in range(0, len(waiting), FDS_PER_MESSAGE):
        _send(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", waiting[begin : begin + FDS_PER_MESSAGE])


def remove_fds(name: str) -> None:
    """Takes every descriptor of that name out of the store."""
    _send(f"FDSTOREREMOVE=1\nFDNAME={name}")


def stored_fds() -> dict[str, list[int]]:
    """Descriptors given back at start, by name; once only, since the variables are removed from the environment."""
    count = int(os.environ.pop("LISTEN_FDS", "0") or 0)
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    pid = os.environ.pop("LISTEN_PID", "")
    if not count or (pid and int(pid) != os.getpid()):
        return {}
    found: dict[str, list[int]] = {}
    for place in range(count):
        fd = FIRST_FD + place
        os.set_inheritable(fd, False)
        found.setdefault(names[place] if place < len(names) else "unknown", []).append(fd)
    return found
