"""Sequence numbers of what is passed on, where packets were taken out or put in: the receiver sees neither."""

from __future__ import annotations

_EDGES = 8  # changes that late packets are still numbered by
MAX_JUMP = 3000  # RFC 3550 appendix A.1: MAX_DROPOUT
MAX_BACK = 1000


def ahead(sequence: int, of: int) -> int:
    """How far a sequence number is ahead of another, the short way round: -32768 to 32767."""
    return (sequence - of + 0x8000 & 0xFFFF) - 0x8000


class OutStream:
    """One SSRC on its way to one receiver. `steady`: a jump of the source does not reach the receiver."""

    __slots__ = ("_edges", "_steady", "highest", "offset", "resumed")

    def __init__(self, *, steady: bool = False) -> None:
        self.highest: int | None = None  # as it came
        self.offset = 0
        self.resumed = False
        """Packets were taken out just before: the next one begins anew (marker bit)."""
        self._steady = steady
        self._edges: list[tuple[int, int]] = []  # first number of the new offset, the offset before

    @property
    def plain(self) -> bool:
        """Numbers go through as they come."""
        return not self.offset and not self._edges and not self.resumed and not self._steady

    @property
    def last_out(self) -> int | None:
        """The highest number given out."""
        return None if self.highest is None else self.highest + self.offset & 0xFFFF

    def number(self, sequence: int) -> int:
        """The number that a packet goes out with."""
        if self.highest is None:
            self.highest = sequence
            return sequence + self.offset & 0xFFFF
        distance = ahead(sequence, self.highest)
        if self._steady and not -MAX_BACK < distance < MAX_JUMP:
            self._change(sequence, self.highest + self.offset + 1 - sequence)
            self._edges.clear()
            distance = 1
            self.highest = sequence
        elif distance > 0:
            self.highest = sequence
        if distance > 0:
            if self._edges:
                self._prune()
            return sequence + self.offset & 0xFFFF
        offset = self.offset
        for edge, before in reversed(self._edges):
            if ahead(sequence, edge) >= 0:
                break
            offset = before
        return sequence + offset & 0xFFFF

    def passed(self, sequence: int) -> None:
        """Packets have gone out by the present offset without being asked for; this was the last of them."""
        if self.highest is None or not -MAX_BACK < ahead(sequence, self.highest) <= 0:
            self.highest = sequence
            self._prune()

    def _prune(self) -> None:
        """Forgets changes that no packet can be late for; after half a turn they would seem to lie ahead."""
        assert self.highest is not None
        highest = self.highest
        self._edges = [item for item in self._edges if -2 <= ahead(highest, item[0]) <= MAX_BACK]

    def swallow(self, sequence: int) -> None:
        """A packet that does not go out. One that comes late has left its gap already."""
        if self.highest is not None and ahead(sequence, self.highest) <= 0:
            return
        lost = 0 if self.highest is None else ahead(sequence, self.highest) - 1
        # What was lost before it is lost to the receiver too, unless it fell into a time when nothing goes out anyway.
        if lost and self.resumed and lost < MAX_JUMP:
            self._change(sequence + 1, self.offset - 1 - lost)
        else:
            self._change(sequence + 1, self.offset - 1)
        self.highest = sequence

    def insert(self) -> int | None:
        """The number of a packet that is put in behind the last one; None where nothing has gone out yet."""
        if self.highest is None:
            return None
        self._change(self.highest + 1, self.offset + 1)
        return self.highest + self.offset & 0xFFFF

    def _change(self, edge: int, offset: int) -> None:
        self._edges.append((edge & 0xFFFF, self.offset))
        del self._edges[:-_EDGES]
        self.offset = offset & 0xFFFF
