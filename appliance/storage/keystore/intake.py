"""Which keys of deposits are taken in, and in which journal records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from appliance.model import id_text
from appliance.storage.keystore.contents import Contents
from appliance.storage.keystore.deposit import Deposit, IntermediateRecord, KeyRecord
from appliance.storage.keystore.records import pack_keys

MAX_IN_RECORD = 4096  # data keys in one journal record


@dataclass(frozen=True, slots=True)
class Added:
    """What became of the keys in deposits, as written ids. `known` were there before; `refused` are not taken in."""

    accepted: tuple[str, ...]
    known: tuple[str, ...]
    refused: tuple[str, ...]


class Sorting:
    """Sorts the keys of deposits. Each record it gives is to be appended before the next one is asked for."""

    def __init__(self, contents: Contents, refuse: Callable[[str], bool]) -> None:
        self._contents = contents
        self._refuse = refuse
        self._accepted: dict[str, None] = {}
        self._known: list[str] = []
        self._refused: list[str] = []
        self._above: dict[bytes, IntermediateRecord] = {}
        self._records: list[KeyRecord] = []

    def take(self, deposit: Deposit, now_s: int) -> Iterator[bytes]:
        """Records that are full."""
        sealed = {item.id: item for item in deposit.intermediates}
        for record in deposit.records:
            name, item = id_text(record.recording), sealed[record.intermediate]
            if self._refuse(name):
                self._refused.append(name)
            elif name in self._accepted or record.recording in self._contents:
                self._known.append(name)
            elif (self._above.get(item.id) or self._contents.intermediate(item.id) or item) != item:
                # Another intermediate key has this id: no honest capture does that.
                self._refused.append(name)
            else:
                self._above[item.id] = item
                self._records.append(record)
                self._accepted[name] = None
            if len(self._records) >= MAX_IN_RECORD:
                yield from self.rest(now_s)

    def rest(self, now_s: int) -> Iterator[bytes]:
        """What is not given yet, as one record, if any."""
        if self._records:
            fresh = [item for item in self._above.values() if self._contents.intermediate(item.id) is None]
            yield pack_keys(fresh, self._records, now_s)
        self._above.clear()
        self._records.clear()

    def added(self) -> Added:
        """What became of all."""
        return Added(tuple(self._accepted), tuple(self._known), tuple(self._refused))
