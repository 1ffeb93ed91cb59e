"""What can be wrong with a sidecar, and where."""

from __future__ import annotations

import enum

from appliance.model import CorruptError, ExhaustedError, InvalidError, PreconditionError


class SidecarProblem(enum.StrEnum):
    """Stable names of findings; docs/sealed-format.md explains each."""

    HEADER = "sidecar-header"
    CORRUPT = "sidecar-corrupt"  # neither an entry nor a seal is where one must be
    MISPLACED = "sidecar-misplaced"  # whole in itself, but its index, count or chain belongs elsewhere
    FORGED = "sidecar-forged"  # the cipher refuses it
    CONTENT = "sidecar-content"  # it opens, and is malformed
    UNSIGNED = "sidecar-unsigned"  # the end is no seal
    SIGNATURE_INVALID = "sidecar-signature-invalid"
    SIGNER_UNKNOWN = "sidecar-signer-unknown"
    OTHER_RECORDING = "sidecar-other-recording"
    CUT = "sidecar-cut"  # shorter than what is known of it, or with another history
    MISSING = "sidecar-missing"


_SENTENCES = {
    SidecarProblem.HEADER: "this is no sidecar of a recording",
    SidecarProblem.CORRUPT: "the sidecar is not what was written",
    SidecarProblem.MISPLACED: "an entry of the sidecar stands where it was not written",
    SidecarProblem.FORGED: "an entry of the sidecar does not open with this key at this place",
    SidecarProblem.CONTENT: "an entry of the sidecar opens, but its content is malformed",
    SidecarProblem.UNSIGNED: "the end of the sidecar is missing: no signature is over it",
    SidecarProblem.SIGNATURE_INVALID: "a signature in the sidecar does not hold",
    SidecarProblem.SIGNER_UNKNOWN: "another device signed the sidecar",
    SidecarProblem.OTHER_RECORDING: "the sidecar is of another recording",
    SidecarProblem.CUT: "the sidecar is not the one that is known: entries are missing, or others",
    SidecarProblem.MISSING: "the recording has a sidecar, and it is not there",
}


def sentence(problem: SidecarProblem) -> str:
    """One plain sentence for a finding."""
    return _SENTENCES[problem]


class SidecarCorruptError(CorruptError):
    """A recording's sidecar is not what was written. `data`: problem, offset (bytes; -1: none), index (-1: none)."""

    reason = "SIDECAR_CORRUPT"

    def __init__(self, problem: SidecarProblem, offset: int, index: int) -> None:
        super().__init__(sentence(problem), problem=str(problem), offset=offset, index=index)
        self.problem = problem
        self.offset = offset
        self.index = index


class SidecarFullError(ExhaustedError):
    """The recording's sidecar has as many entries or bytes as it may have; `data['limit']`."""

    reason = "SIDECAR_FULL"


class SidecarWholeError(PreconditionError):
    """Only a damaged sidecar is set aside, and the recording's is whole, or there is none and none should be."""

    reason = "SIDECAR_WHOLE"


class SidecarEntryError(InvalidError):
    """What shall be entered is no entry of a sidecar, or too long; `data['field']`."""

    reason = "SIDECAR_ENTRY"
