"""A connection to a box, with mutual TLS and retries where they are safe."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, overload

import grpc

from earwitness.v1 import (
    access_pb2_grpc,
    alarms_pb2_grpc,
    audit_pb2_grpc,
    box_pb2_grpc,
    calls_pb2_grpc,
    closing_pb2_grpc,
    completeness_pb2_grpc,
    documents_pb2_grpc,
    events_pb2_grpc,
    evidence_pb2_grpc,
    grants_pb2_grpc,
    keys_pb2_grpc,
    notes_pb2_grpc,
    notices_pb2_grpc,
    operations_pb2_grpc,
    prompts_pb2_grpc,
    purposes_pb2_grpc,
    recordings_pb2_grpc,
    retention_pb2_grpc,
    review_pb2_grpc,
    subjects_pb2_grpc,
    tenants_pb2_grpc,
)

Pem = str | os.PathLike[str] | bytes
"""A path to a PEM file, or its bytes."""

Token = str | Callable[[], str]
"""A token, or what gives the present one."""

# Doing these twice is as doing them once. The others are safe to repeat with a request_id, which is the caller's to give.
_SAFE: Final = {
    "earwitness.v1.AlarmsService": (
        "ListAlarms",
        "GetAlarm",
        "CountAlarms",
        "ListAlarmKinds",
        "ListAlarmChannels",
        "GetAlarmChannel",
    ),
    "earwitness.v1.NoticesService": (
        "ListStaffMembers",
        "GetStaffMember",
        "ListNotices",
        "GetNotice",
        "ListNoticeVersions",
        "ListOwnNotices",
        "ListAcknowledgements",
        "ListOutstandingAcknowledgements",
        "CountAcknowledgements",
    ),
    "earwitness.v1.AccessService": (
        "GetIdentity",
        "ListIdentities",
        "GetCaller",
        "ListCertificates",
        "ListSessions",
    ),
    "earwitness.v1.CallsService": ("ListCalls", "GetCall"),
    "earwitness.v1.CompletenessService": (
        "ListCallRecordPresets",
        "GetCallRecordSource",
        "ListCallRecordSources",
        "TryRecordMap",
        "ListCallRecordImports",
        "ListCompletenessDays",
        "GetCompletenessReport",
        "ListCallRecords",
    ),
    "earwitness.v1.RecordingsService": (
        "ListRecordings",
        "CountRecordings",
        "GetRecording",
        "GetWaveform",
        "DownloadRecording",
        "VerifyRecording",
        "DeleteRecording",
        "UndeleteRecording",
        "EraseRecording",
    ),
    "earwitness.v1.ReviewService": (
        "GetScorecard",
        "ListScorecards",
        "ArchiveScorecard",
        "ListScorecardVersions",
        "ListReviewRules",
        "GetReviewSettings",
        "GetReview",
        "ListReviews",
        "GetReviewFigures",
    ),
    "earwitness.v1.RetentionService": (
        "GetRetentionPolicy",
        "ListRetentionPolicies",
        "PlanRetention",
        "ListRetentionRuns",
        "ListUpcomingExpirations",
        "ListExpiringRecordings",
        "ExplainRetention",
        "GetRetentionClock",
        "GetLegalHold",
        "ListLegalHolds",
        "ListLegalHoldRecordings",
        "AddToLegalHold",
    ),
    "earwitness.v1.TenantsService": (
        "GetTenant",
        "ListTenants",
        "ListTenantVersions",
        "GetLine",
        "ListLines",
        "ListLineVersions",
    ),
    "earwitness.v1.PurposesService": (
        "ListPurposes",
        "ListPurposeVersions",
        "GetReadReport",
        "ArchivePurpose",
    ),
    "earwitness.v1.KeysService": ("GetTenantKeys", "LockTenant"),
    "earwitness.v1.NotesService": ("GetNote", "ListNotes", "UpdateRecordingTags"),
    "earwitness.v1.PromptsService": ("GetPrompt", "ListPrompts", "DownloadPrompt"),
    "earwitness.v1.SubjectsService": (
        "GetSubjectRequest",
        "ListSubjectRequests",
        "FindSubjectRecordings",
        "ListSubjectPacks",
        "DownloadSubjectPack",
        "GetRestriction",
        "ListRestrictions",
    ),
    "earwitness.v1.OperationsService": ("GetOperation", "ListOperations", "CancelOperation"),
    "earwitness.v1.DocumentsService": (
        "ListDocuments",
        "DownloadDocument",
        "GetServiceLevel",
        "ListPlannedWork",
    ),
    "earwitness.v1.ClosingService": ("GetClosing", "ListClosings", "GetExitPack", "ListExitPacks"),
    "earwitness.v1.EvidenceService": ("GetEvidence", "GetBoxKeys"),
    "earwitness.v1.AuditService": (
        "ListAuditEntries",
        "GetCheckpoint",
        "ListCheckpoints",
        "GetInclusionProof",
        "GetConsistencyProof",
        "GetAuditStatus",
    ),
    "earwitness.v1.GrantsService": ("GetGrant", "ListGrants", "ListGrantUses"),
    "earwitness.v1.BoxService": (
        "GetBoxStatus",
        "GetVault",
        "ListBuckets",
        "GetTenantStorage",
        "SetTenantQuota",
    ),
}
RETRY_POLICY: Final = {
    "maxAttempts": 4,
    "initialBackoff": "0.2s",
    "maxBackoff": "3s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def service_config() -> str:
    """The gRPC service config that `connect` uses: retries with backoff, of calls that are safe to repeat."""
    names = [{"service": service, "method": method} for service, some in _SAFE.items() for method in some]
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": RETRY_POLICY}]})


S = TypeVar("S")


class _Stub(Generic[S]):
    """A service's stub, made when it is first asked for: a client that uses two services has no need of twenty."""

    def __init__(self, make: Callable[[grpc.Channel], S]) -> None:
        self._make = make
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Client, owner: type | None = None) -> S: ...
    def __get__(self, client: Client | None, owner: type | None = None) -> S | Self:
        if client is None:
            return self
        made = self._make(client.channel)
        client.__dict__[self._name] = made  # found there before this, from now on
        return made


class Client:
    """Stubs of all services on one channel. Safe to use from several threads; a context manager."""

    access = _Stub(access_pb2_grpc.AccessServiceStub)
    alarms = _Stub(alarms_pb2_grpc.AlarmsServiceStub)
    calls = _Stub(calls_pb2_grpc.CallsServiceStub)
    recordings = _Stub(recordings_pb2_grpc.RecordingsServiceStub)
    review = _Stub(review_pb2_grpc.ReviewServiceStub)
    retention = _Stub(retention_pb2_grpc.RetentionServiceStub)
    tenants = _Stub(tenants_pb2_grpc.TenantsServiceStub)
    notes = _Stub(notes_pb2_grpc.NotesServiceStub)
    notices = _Stub(notices_pb2_grpc.NoticesServiceStub)
    prompts = _Stub(prompts_pb2_grpc.PromptsServiceStub)
    completeness = _Stub(completeness_pb2_grpc.CompletenessServiceStub)
    purposes = _Stub(purposes_pb2_grpc.PurposesServiceStub)
    evidence = _Stub(evidence_pb2_grpc.EvidenceServiceStub)
    documents = _Stub(documents_pb2_grpc.DocumentsServiceStub)
    closing = _Stub(closing_pb2_grpc.ClosingServiceStub)
    subjects = _Stub(subjects_pb2_grpc.SubjectsServiceStub)
    operations = _Stub(operations_pb2_grpc.OperationsServiceStub)
    grants = _Stub(grants_pb2_grpc.GrantsServiceStub)
    events = _Stub(events_pb2_grpc.EventsServiceStub)
    box = _Stub(box_pb2_grpc.BoxServiceStub)
    audit = _Stub(audit_pb2_grpc.AuditServiceStub)
    keys = _Stub(keys_pb2_grpc.KeysServiceStub)

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    target: str,
    ca: Pem,
    certificate: Pem | None = None,
    key: Pem | None = None,
    *,
    token: Token | None = None,
    server_name: str = "",
) -> Client:
    """A client of the box at `target` (host:port). Nothing is sent before the first call.

    `ca` is the box's ca.crt. Either `certificate` and `key`, which it issued; or, at the port for tokens, a `token`: of the
    hospital's identity provider, or of a session. A token that is renewed is given as a function, which is asked before
    each call. `server_name`: the name in the box's certificate, where the box is reached by another one. OSError where a
    file cannot be read.
    """
    if (certificate is None) != (key is None) or (certificate is None) == (token is None):
        raise ValueError("give certificate and key, or a token")
    if certificate is not None and key is not None:
        credentials = grpc.ssl_channel_credentials(_read(ca), _read(key), _read(certificate))
    else:
        credentials = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(_read(ca)), grpc.metadata_call_credentials(_Bearer(token or ""))
        )
    options = [
        ("grpc.service_config", service_config()),
        ("grpc.enable_retries", 1),
        # A watch that is silent because the box is gone must come to notice.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.max_reconnect_backoff_ms", 10_000),
    ]
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    return Client(grpc.secure_channel(target, credentials, options=options))


class _Bearer(grpc.AuthMetadataPlugin):
    """Sends a token along with each call."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def __call__(self, context: Any, callback: Any) -> None:
        try:
            token = self._token if isinstance(self._token, str) else self._token()
        except Exception as error:  # noqa: BLE001 - whatever the caller's function raises is the call's error
            callback((), error)
        else:
            callback((("authorization", f"Bearer {token}"),), None)


def _read(pem: Pem) -> bytes:
    if isinstance(pem, bytes):
        return pem
    with open(pem, "rb") as file:
        return file.read()
