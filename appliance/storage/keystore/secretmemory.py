"""Memory for secrets that must go when they are told to: pages of their own, kept out of swap and core dumps, wiped."""

from __future__ import annotations

import ctypes
import mmap
import threading

_LIBC = ctypes.CDLL(None, use_errno=True)


class Secret:
    """Bytes that can be wiped. `pinned`: the kernel keeps them out of swap.

    `read` makes a copy on Python's heap, which Python does not wipe: copies are to be few and short-lived.
    """

    def __init__(self, data: bytes) -> None:
        if not data:
            raise AssertionError("a secret has bytes")
        self._size = len(data)
        self._lock = threading.Lock()
        self._pages = mmap.mmap(-1, self._size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._pages.madvise(mmap.MADV_DONTDUMP)
        self._pages.madvise(mmap.MADV_DONTFORK)
        place = ctypes.c_char.from_buffer(self._pages)
        # Where the limit of locked memory forbids it the secret is in memory all the same; `pinned` says which.
        self.pinned = _LIBC.mlock(ctypes.c_void_p(ctypes.addressof(place)), ctypes.c_size_t(self._size)) == 0
        del place  # else the pages could not be given back
        self._pages[: self._size] = data
        self._wiped = False

    def __repr__(self) -> str:
        return f"Secret({self._size} bytes)"

    def read(self) -> bytes | None:
        """A copy; None once wiped."""
        with self._lock:
            return None if self._wiped else self._pages[: self._size]

    def wipe(self) -> None:
        """Overwrites and gives back the pages; wiping twice is success."""
        with self._lock:
            if not self._wiped:
                self._wiped = True
                self._pages[: self._size] = bytes(self._size)
                self._pages.close()
