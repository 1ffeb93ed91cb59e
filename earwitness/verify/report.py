"""File, keys and evidence together: one verdict, and what it stands on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from earwitness.verify.evidence import Evidence, EvidenceError, Gap
from earwitness.verify.keys import BoxKeys
from earwitness.verify.notes import Checkpoint
from earwitness.verify.sealed import Finding, SealedReport, check_sealed
from earwitness.verify.sidecar import SidecarReport, check_sidecar


@dataclass
class Verdict:
    """What can be said of one file."""

    file: str
    sealed: SealedReport
    findings: list[Finding] = field(default_factory=list)  # of the file and of the evidence
    order: int | None = None  # number of its entry in the box's log; None: no evidence was given
    checkpoint: Checkpoint | None = None
    filed_ns: int = 0
    gaps: tuple[Gap, ...] | None = None
    sidecar: SidecarReport | None = None  # what was added to it later; None: nothing was, and nothing says so

    @property
    def word(self) -> str:
        """INTACT; RECOVERED, whose end was cut by a crash before it was signed; or DAMAGED."""
        if self.findings or not self.sealed.signed:
            return "DAMAGED"
        return "INTACT" if self.sealed.ended else "RECOVERED"

    @property
    def good(self) -> bool:
        return self.word != "DAMAGED"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        sealed = self.sealed
        return {
            "file": self.file,
            "verdict": self.word,
            "recording": sealed.recording,
            "tenant": sealed.tenant,
            "line": sealed.line,
            "created_ns": sealed.created_ns,
            "frames": sealed.frames,
            "size": sealed.size,
            "sha256": sealed.sha256,
            "ended": sealed.ended,
            "dropped_bytes": sealed.dropped,
            "device_key": sealed.device_key.hex(),
            "signed_ns": sealed.signed_ns,
            "order": self.order,
            "log": None if self.checkpoint is None else self.checkpoint.origin,
            "filed_ns": self.filed_ns,
            "gaps": None if self.gaps is None else [asdict(one) for one in self.gaps],
            "sidecar_entries": 0 if self.sidecar is None else self.sidecar.entries,
            "sidecar_logged": None if self.sidecar is None else self.sidecar.logged,
            "sidecar_begun": 0 if self.sidecar is None else self.sidecar.begun,
            "findings": [asdict(one) for one in self.findings],
        }


def verify_file(
    path: Path, keys: BoxKeys, evidence: Evidence | None = None, sidecar: bytes | None = None
) -> Verdict:
    """Check a sealed recording, its sidecar, and where it stands in its box's log. OSError where it cannot be read."""
    with path.open("rb") as file:
        sealed = check_sealed(file, keys.device)
    verdict = Verdict(path.name, sealed, list(sealed.findings))
    proved = _hold_against(evidence, keys, verdict) if evidence is not None else None
    if sidecar is not None or (proved or {}).get("sidecar_entries"):
        verdict.sidecar = check_sidecar(sidecar, sealed, keys.device, proved)
        verdict.findings += verdict.sidecar.findings
    return verdict


def _hold_against(evidence: Evidence, keys: BoxKeys, verdict: Verdict) -> dict[str, Any] | None:
    """What the log says of the recording, where that is proved and of this recording."""
    sealed = verdict.sealed
    try:
        verdict.checkpoint = evidence.check(keys.audit)
    except EvidenceError as error:
        verdict.findings.append(Finding(error.code, str(error)))
        return None
    said = evidence.record
    verdict.order = evidence.index
    verdict.gaps = evidence.gaps
    time_ns = said.get("time_ns")
    verdict.filed_ns = time_ns if isinstance(time_ns, int) else 0
    if (said.get("what"), said.get("recording")) != ("filed", sealed.recording):
        verdict.findings.append(
            Finding("OTHER_RECORDING", "the evidence is of another recording: the files were exchanged")
        )
        return None
    if said.get("sha256") != sealed.sha256:
        verdict.findings.append(
            Finding("OTHER_CONTENT", "the log has another content for this recording than the file")
        )
    return said
