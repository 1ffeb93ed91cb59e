"""What can be wrong with a sealed file, and where."""

from __future__ import annotations

import enum

from appliance.model import CorruptError, InvalidError, PreconditionError


class Problem(enum.StrEnum):
    """Stable names of findings; docs/sealed-format.md explains each."""

    NOT_SEALED = "not-sealed"  # no magic at the head
    HEADER_CUT = "header-cut"
    HEADER_CORRUPT = "header-corrupt"
    FRAME_CORRUPT = "frame-corrupt"  # the checksum in clear does not match, or no frame is where one must be
    FRAME_MISPLACED = "frame-misplaced"  # whole in itself, but its counter or chain belongs elsewhere
    FRAME_FORGED = "frame-forged"  # whole by its checksum, refused by the cipher: wrong key, or not ours
    CONTENT_CORRUPT = "content-corrupt"  # opened, but what is inside is malformed
    TORN = "torn"  # bytes after the last whole frame
    CUT = "cut"  # neither a last frame nor a footer: the end is missing
    TRAILING = "trailing"  # bytes after the footer, or frames after the last frame
    FOOTER_CORRUPT = "footer-corrupt"
    ROOT_MISMATCH = "root-mismatch"
    TOTALS_MISMATCH = "totals-mismatch"
    SIGNATURE_INVALID = "signature-invalid"
    SIGNER_UNKNOWN = "signer-unknown"  # signed by another device than the one asked for


_SENTENCES = {
    Problem.NOT_SEALED: "this is no sealed recording",
    Problem.HEADER_CUT: "the file ends within its header",
    Problem.HEADER_CORRUPT: "the header is not what was written",
    Problem.FRAME_CORRUPT: "a frame is not what was written",
    Problem.FRAME_MISPLACED: "a frame stands where it was not written",
    Problem.FRAME_FORGED: "a frame does not open with this key at this place",
    Problem.CONTENT_CORRUPT: "a frame opens, but its content is malformed",
    Problem.TORN: "the file ends within a frame",
    Problem.CUT: "the end of the file is missing",
    Problem.TRAILING: "there are bytes after the end",
    Problem.FOOTER_CORRUPT: "the footer is not what was written",
    Problem.ROOT_MISMATCH: "the hash tree does not have the root that was stated",
    Problem.TOTALS_MISMATCH: "there is more or less in the file than was stated",
    Problem.SIGNATURE_INVALID: "the signature does not hold",
    Problem.SIGNER_UNKNOWN: "another device signed this",
}


def sentence(problem: Problem) -> str:
    """One plain sentence for a finding."""
    return _SENTENCES[problem]


class SealedCorruptError(CorruptError):
    """A sealed file is not what was written. `data`: problem, offset (bytes), frame (from 0; -1: none)."""

    reason = "SEALED_CORRUPT"

    def __init__(self, problem: Problem, offset: int, frame: int, detail: str = "") -> None:
        text = sentence(problem) + (f" ({detail})" if detail else "")
        super().__init__(text, problem=str(problem), offset=offset, frame=frame)
        self.problem = problem
        self.offset = offset
        self.frame = frame


class HeaderError(InvalidError):
    """A header that cannot be written, or a version not known here."""

    reason = "SEALED_VERSION"


class SealedLimitError(InvalidError):
    """More than one frame or one block may hold."""

    reason = "SEALED_LIMIT"


class SealedStateError(PreconditionError):
    """The writer has ended, or the file already has its footer."""

    reason = "SEALED_STATE"
