"""The journal of holdings: one line for each change. Positions count from 1.

It is the truth of what became of recordings, next to the files themselves; the index is made from it. Not for several
threads at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from appliance.storage.vault import linefile
from appliance.storage.vault.holding import ENTRY, Entry
from appliance.storage.vault.linefile import LineFile


def pack_line(entry: Entry) -> bytes:
    """One line."""
    return linefile.pack(ENTRY.dump_json(entry))


def parse_line(line: bytes) -> Entry | None:
    """The entry of a whole line; None where it is not what was written."""
    body = linefile.parse(line)
    if body is None:
        return None
    try:
        return ENTRY.validate_json(body)
    except ValidationError:
        return None


class Journal(LineFile):
    """See the module. `position` is that of its last entry, told by who has read it."""

    position = 0

    def enter(self, entries: Sequence[Entry]) -> list[int]:
        """As `append`."""
        for number, entry in enumerate(entries, self.position + 1):
            if entry.position != number:
                raise AssertionError("positions have no gaps")
        offsets = self.append([ENTRY.dump_json(entry) for entry in entries])
        self.position += len(offsets)
        return offsets
