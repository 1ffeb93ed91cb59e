"""The evidence of a recording: its entry in the box's log, with the proof that it stands there (docs/evidence.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self

from earwitness.verify.notes import Checkpoint, NoteError, UnreadableError, VerifierKey, open_checkpoint
from earwitness.verify.proofs import MAX_PROOF, included, leaf_hash

FORMAT: Final = "earwitness evidence v1"
MAX_BYTES: Final = 1 << 20
MAX_GAPS: Final = 10_000


class EvidenceError(UnreadableError):
    """The evidence cannot be read, or does not hold; `code` is a stable word."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True)
class Gap:
    """A stretch of which nothing was kept, or a moment at which something ended."""

    kind: str
    from_ms: int
    until_ms: int | None
    track: int  # -1: all


@dataclass(frozen=True)
class Evidence:
    """Evidence as it stands in its file, before anything of it was checked."""

    entry: bytes  # the log's line
    index: int
    proof: tuple[bytes, ...]
    checkpoint: str
    gaps: tuple[Gap, ...] | None  # None: not known when it was filed
    gaps_text: bytes
    record: dict[str, Any] = field(compare=False)  # what the entry says

    @classmethod
    def parse(cls, text: str) -> Self:
        """EvidenceError where it is no evidence."""
        if len(text) > MAX_BYTES:
            raise EvidenceError("EVIDENCE_MALFORMED", "too long for evidence")
        try:
            found = json.loads(text)
            if found["format"] != FORMAT:
                raise EvidenceError("EVIDENCE_MALFORMED", f'"format" should be "{FORMAT}"')
            entry = found["entry"].encode()
            record = json.loads(entry)
            gaps = found["gaps"]
            made = cls(
                entry=entry,
                index=int(found["index"]),
                proof=tuple(bytes.fromhex(one) for one in found["proof"][: MAX_PROOF + 1]),
                checkpoint=str(found["checkpoint"]),
                gaps=None if gaps is None else tuple(_gap(one) for one in gaps[:MAX_GAPS]),
                gaps_text=b"" if gaps is None else json.dumps(gaps, separators=(",", ":")).encode(),
                record=record if isinstance(record, dict) else {},
            )
        except EvidenceError:
            raise
        except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError):
            raise EvidenceError("EVIDENCE_MALFORMED", "not evidence of a recording") from None
        return made

    def check(self, keys: Iterable[VerifierKey]) -> Checkpoint:
        """That the entry stands in the log of a box that is trusted; EvidenceError.

        Gives the checkpoint under which it stands: compare it with those that are kept elsewhere.
        """
        for key in keys:
            try:
                checkpoint = open_checkpoint(self.checkpoint, key)
            except NoteError:
                continue
            leaf = leaf_hash(self.entry)
            if not included(leaf, self.index, checkpoint.size, self.proof, checkpoint.root):
                raise EvidenceError("NOT_IN_LOG", "the entry does not stand in the log that was signed")
            if self.gaps is not None and (
                self.record.get("gaps_sha256") != hashlib.sha256(self.gaps_text).hexdigest()
            ):
                raise EvidenceError("GAPS_ALTERED", "the gaps are not those that the log has")
            if self.gaps is None and "gaps_sha256" in self.record:
                raise EvidenceError("GAPS_ALTERED", "the gaps were taken out of the evidence")
            return checkpoint
        raise EvidenceError("CHECKPOINT_FORGED", "no key that is trusted signed the checkpoint")


def _gap(found: Any) -> Gap:
    kind, begin, end, track = found
    return Gap(str(kind)[:40], int(begin), None if end is None else int(end), int(track))
