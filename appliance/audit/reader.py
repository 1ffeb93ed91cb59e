"""Reads the log from an entry on, in order, without an index: what forwards, exports and indexes it goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.audit import segments
from appliance.audit.errors import EntryDamagedError
from appliance.audit.log import Log
from appliance.audit.segments import Place

_BLOCK: Final = 1 << 18


@dataclass(frozen=True)
class Read:
    """An entry as it is on disk."""

    index: int
    place: Place
    line: bytes


class Reader:
    """A place in the log. Not for several threads at once."""

    def __init__(self, log: Log, index: int) -> None:
        """Stands before an entry, or at the end. OSError."""
        self._log = log
        self._serial, self.index = log.table.place(index)
        self._offset = 0
        while self.index < index and self.take(1 << 16, index - self.index):
            pass

    def take(self, most_bytes: int = _BLOCK, most: int = 4096) -> list[Read]:
        """The next entries, as many as there are now within the bounds; none at the end. EntryDamagedError, OSError."""
        found: list[Read] = []
        while not found and self.index < self._log.size:
            serial, _ = self._log.table.place(self.index)
            if serial != self._serial:
                self._serial, self._offset = serial, 0
            most = min(most, self._log.size - self.index)
            size = 0
            path = segments.path_of(self._log.folder, serial)
            for offset, line in segments.lines(path, self._offset, _BLOCK):
                following = self._log.table.place(self.index)[0]
                if following != serial or len(found) >= most or size >= most_bytes:
                    break
                found.append(Read(self.index, Place(serial, offset), line))
                size += len(line)
                self.index += 1
                self._offset = offset + len(line) + 1
            if not found and self._log.table.place(self.index)[0] == serial:
                raise EntryDamagedError("an entry of the audit log is not there", index=self.index)
        return found
