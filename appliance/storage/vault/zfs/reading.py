"""A file in a bucket, open for reading. Its bytes come from the agent: no read of the vault waits for the pool for ever."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Final

from appliance.storage.vault.errors import StoredFileCorruptError
from appliance.storage.vault.zfs.trouble import Trouble, contract_error
from appliance.storage.vault.zfs.worker import Worker

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE: Final = 1 << 20  # bytes of one request
BUFFER: Final = 256 << 10


class RemoteFile(io.RawIOBase):
    """See the module. StoredFileCorruptError where ZFS has no sound copy of what is read."""

    def __init__(
        self, worker: Worker, handle: int, size: int, recording_id: str, closed: Callable[[], None]
    ) -> None:
        self._worker = worker
        self._handle = handle
        self._size = size
        self._recording_id = recording_id
        self._told = closed
        self._at = 0

    def readable(self) -> bool:
        """See IOBase."""
        return True

    def seekable(self) -> bool:
        """See IOBase."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """See IOBase."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a position is not negative")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """See IOBase."""
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """See RawIOBase."""
        view = memoryview(buffer).cast("B")
        if self._at >= self._size or not view:
            return 0
        try:
            piece = self._worker.call(
                "pread", handle=self._handle, size=min(len(view), PIECE), at=self._at
            ).payload
        except Trouble as trouble:
            if trouble.number == errno.EIO:
                raise StoredFileCorruptError(
                    "a file in the bucket is not what was written",
                    recording_id=self._recording_id,
                    offset=self._at,
                ) from trouble
            raise contract_error(trouble) from trouble
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def readall(self) -> bytes:
        """See RawIOBase, which asks for a few kilobytes at a time."""
        pieces = []
        while piece := self.read(PIECE):
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """See IOBase."""
        if not self.closed:
            self._told()
        super().close()


def open_remote(
    worker: Worker, handle: int, size: int, recording_id: str, closed: Callable[[], None]
) -> BinaryIO:
    """`closed` is called once when the reader closes it."""
    return io.BufferedReader(RemoteFile(worker, handle, size, recording_id, closed), BUFFER)
