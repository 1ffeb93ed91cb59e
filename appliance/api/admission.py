"""Every read of a recording's content comes by here: is it for what the caller was told, and is it written down first?

Audit, then the table of reads, then bytes. What cannot be written down does not happen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.access import policy
from appliance.access import purposes as rules
from appliance.api import gate, grantview
from appliance.api.errors import FieldInvalidError
from appliance.api.parts import Parts, check_text
from appliance.api.scope import caller
from appliance.catalog import acknowledgements, purposes, reads, restrictions
from appliance.catalog.reads import Read
from appliance.catalog.records import Recording, State
from appliance.model import EarwitnessError
from appliance.model.purpose import FORM, Purpose
from earwitness.v1 import calls_pb2, subjects_pb2
from earwitness.v1 import recordings_pb2 as pb

KINDS: Final = {
    pb.DownloadRecordingRequest.DESCRIPTOR.full_name: "download",
    pb.GetWaveformRequest.DESCRIPTOR.full_name: "picture",
    subjects_pb2.MakeSubjectPackRequest.DESCRIPTOR.full_name: "subject-pack",
    calls_pb2.ListenCallRequest.DESCRIPTOR.full_name: reads.LISTEN,
}
"""How each request that reads is called in audit and report."""
MIN_OVERRIDE: Final = 10
MAX_OVERRIDE: Final = 200
_SOURCES: Final = {
    rules.Source.ANNOUNCED: pb.PURPOSE_SOURCE_ANNOUNCED,
    rules.Source.LINE: pb.PURPOSE_SOURCE_LINE,
    rules.Source.NOT_ANNOUNCED: pb.PURPOSE_SOURCE_NOT_ANNOUNCED,
}


@dataclass(frozen=True)
class Admitted:
    """A read that may happen, and is written down."""

    purpose: str
    stated: rules.Stated
    overridden: bool
    grant_id: str = ""

    @property
    def source(self) -> pb.PurposeSource.ValueType:
        """How callers were told, for the answer."""
        return _SOURCES[self.stated.source]


async def admit(parts: Parts, row: Recording, request: Any, *, restricted_for: str = "") -> Admitted:
    """Let a request (one of KINDS, with fields purpose and override_reason) read a recording, or refuse it.

    `restricted_for`: why it is read although it is restricted (UK GDPR Art. 18(2)), as a stable word; empty: it is not.
    FieldInvalidError, PurposeNeededError, PurposeUnknownError, PurposeNotStatedError, RecordingRestrictedError,
    NoticeNotAcknowledgedError; AuditUnavailableError or CatalogueUnavailableError where it cannot be written down.
    """
    reason = override_reason(request.override_reason)
    named = request.purpose

    def look(
        connection: sa.Connection,
    ) -> tuple[Purpose | None, rules.Stated, tuple[str, ...], EarwitnessError | None]:
        known = purposes.find(connection, row.tenant_id, named) if FORM.fullmatch(named) else None
        restricted = restrictions.of(connection, [row.recording_id]).get(row.recording_id, ())
        who = caller()
        unread = acknowledgements.not_reading(
            connection, row.tenant_id, who.name, who.agent, parts.clock_ns()
        )
        return known, rules.stated(connection, row), restricted, unread

    known, stated, restricted, unread = await parts.store.read(look)
    read = Read(
        at_ns=parts.clock_ns(),
        tenant_id=row.tenant_id,
        recording_id=row.recording_id,
        purpose=known.purpose_id if known is not None else "",
        source=stated.source.value,
        kind=KINDS[request.DESCRIPTOR.full_name],
        identity=caller().name,
        roles=tuple(sorted(role.value for role in caller().roles & policy.ALLOWED[gate.current().method])),
    )
    try:
        if unread is not None:
            raise unread
        if restricted and not restricted_for:
            raise restrictions.refusal(row.recording_id, restricted)
        overridden = rules.judge(named, known, stated, caller().roles, reason)
    except EarwitnessError as error:
        refused = replace(read, refused=error.reason)
        await parts.store.write(lambda connection: reads.note(connection, refused))
        raise
    grant_id = await grantview.count(row)
    read = replace(
        read, overridden=overridden, override_reason=reason if overridden else "", grant_id=grant_id
    )
    await gate.write_down(
        "read",
        kind=read.kind,
        recording=row.recording_id,
        stated=read.source,
        **({"override": True} if overridden else {}),  # why may tell of people, and the log is kept for good
        **({"grant": grant_id} if grant_id else {}),
        **({"restricted_for": restricted_for} if restricted else {}),
    )

    def note(connection: sa.Connection) -> None:
        # Bytes after the first, by who began to read them, are no other read.
        resumed = getattr(request, "offset", 0) > 0 and reads.goes_on(connection, read)
        reads.note(connection, replace(read, resumed=resumed))

    await parts.store.write(note)
    return Admitted(named, stated, overridden, grant_id)


def override_reason(text: str) -> str:
    """Why what was not stated is read all the same; FieldInvalidError where that is too short or too long for one."""
    if not text:
        return ""
    if len(text.strip()) < MIN_OVERRIDE:
        raise FieldInvalidError(
            f"should have {MIN_OVERRIDE} to {MAX_OVERRIDE} characters", field="override_reason"
        )
    return check_text(text, "override_reason", MAX_OVERRIDE, MIN_OVERRIDE)


async def show(parts: Parts, rows: Sequence[Recording], shown: Iterable[pb.Recording]) -> None:
    """Puts into an answer what each recording may be read for."""
    found = await parts.store.read(lambda connection: rules.stated_of(connection, rows))
    for row, stated, made in zip(rows, found, shown, strict=True):
        if row.state in (State.FILED, State.DELETED):
            made.purposes.extend(stated.purposes)
            made.purpose_source = _SOURCES[stated.source]
