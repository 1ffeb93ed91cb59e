"""The supervisor's half of systemd's file descriptor store: sockets that outlive the process that opened them."""

from __future__ import annotations

import fcntl
import os

LIMIT = 20_000


class FdStore:
    """Descriptors of one process, by name."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._fds: dict[str, list[int]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, name: str, fds: list[int]) -> int:
        """Takes descriptors over; gives how many were refused (over the limit; they are closed)."""
        refused = 0
        for fd in fds:
            if self._count >= self._limit:
                os.close(fd)
                refused += 1
                continue
            os.set_inheritable(fd, False)
            self._fds.setdefault(name, []).append(fd)
            self._count += 1
        return refused

    def remove(self, name: str) -> None:
        """Closes every descriptor of that name."""
        for fd in self._fds.pop(name, []):
            os.close(fd)
            self._count -= 1

    def clear(self) -> None:
        """Closes all."""
        for name in list(self._fds):
            self.remove(name)

    def above(self, first: int) -> tuple[list[int], list[str]]:
        """Copies of all descriptors with numbers from `first` on, and their names; the caller closes the copies."""
        copies, names = [], []
        for name, fds in self._fds.items():
            for fd in fds:
                copies.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, first))
                names.append(name)
        return copies, names
