"""The demonstration's last step: the service-level report of its own minutes, as figures and as a signed document."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from appliance.cli import documents, documentsview, output
from appliance.cli.context import LOOK_TIMEOUT_S, Box
from appliance.model import EarwitnessError, Kind
from earwitness.v1 import documents_pb2 as pb
from earwitness.v1 import evidence_pb2
from earwitness.verify.keys import BoxKeys
from earwitness.verify.signed import verify_signed

_S: Final = 10**9


class ReportDemoError(EarwitnessError):
    """The service-level report does not say what happened."""

    reason = "DEMO_REPORT_WRONG"
    kind = Kind.INTERNAL


def show(services: Box, tenant: str, began_ns: int, recordings: int, folder: Path) -> None:
    """Prints the report, and has it made, signed and verified. ReportDemoError where it is not as it must be."""
    span: dict[str, Any] = {"start_time": _stamp(began_ns), "end_time": _stamp(time.time_ns() + _S)}
    asked = pb.GetServiceLevelRequest(parent=tenant, **span)
    found = services.documents.GetServiceLevel(asked, timeout=LOOK_TIMEOUT_S).service_level
    documentsview.service_level(found)
    if found.calls.recording_count != recordings or not found.availability.available.ToNanoseconds():
        raise ReportDemoError(f"the report tells of {found.calls.recording_count} recordings")
    request = pb.GenerateDocumentRequest(
        parent=tenant, kind=pb.DOCUMENT_KIND_SERVICE_LEVEL, format=pb.DOCUMENT_FORMAT_PDF, **span
    )
    parts = services.documents.GenerateDocument(request, timeout=LOOK_TIMEOUT_S)
    made = documents.save(parts, folder, quiet=True)
    keys = BoxKeys.parse(services.evidence.GetBoxKeys(evidence_pb2.GetBoxKeysRequest()).keys)
    checked = verify_signed(folder / made.file_name, keys.audit)
    if not checked.good:
        raise ReportDemoError(f"the document does not verify: {checked.problem}")
    output.console.print(
        f"{folder / made.file_name}: as it was signed, by {checked.key}", soft_wrap=True, markup=False
    )


def _stamp(ns: int) -> Timestamp:
    return Timestamp(seconds=ns // _S, nanos=ns % _S)
