"""Who may call what: one table, one row for every public method. What is not in it, nobody may call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from appliance.access.errors import MethodDeniedError
from appliance.access.identities import Identity, Role

_ADMIN: Final = frozenset({Role.ADMINISTRATOR})
_STAFF: Final = _ADMIN | {Role.OPERATOR}
_ALL: Final = _STAFF | {Role.INTEGRATION}

ALLOWED: Final[Mapping[str, frozenset[Role]]] = {
    "/earwitness.v1.CallsService/ListCalls": _ALL,
    "/earwitness.v1.CallsService/GetCall": _ALL,
    "/earwitness.v1.CallsService/WatchCalls": _ALL,
    "/earwitness.v1.CallsService/PauseCall": _STAFF,
    "/earwitness.v1.CallsService/ResumeCall": _STAFF,
    "/earwitness.v1.CallsService/StopCall": _STAFF,
    "/earwitness.v1.RecordingsService/ListRecordings": _ALL,
    "/earwitness.v1.RecordingsService/GetRecording": _ALL,
    "/earwitness.v1.RecordingsService/DownloadRecording": _ALL,
    "/earwitness.v1.RecordingsService/VerifyRecording": _ALL,
    "/earwitness.v1.RecordingsService/GetWaveform": _ALL,
    "/earwitness.v1.RecordingsService/DeleteRecording": _STAFF,
    "/earwitness.v1.RecordingsService/UndeleteRecording": _STAFF,
    "/earwitness.v1.RecordingsService/EraseRecording": _ADMIN,
    "/earwitness.v1.RetentionService/GetRetentionPolicy": _STAFF,
    "/earwitness.v1.RetentionService/ListRetentionPolicies": _STAFF,
    "/earwitness.v1.RetentionService/UpdateRetentionPolicy": _ADMIN,
    "/earwitness.v1.RetentionService/CancelPendingChange": _ADMIN,
    "/earwitness.v1.RetentionService/PlanRetention": _STAFF,
    "/earwitness.v1.RetentionService/RunRetention": _ADMIN,
    "/earwitness.v1.RetentionService/ListRetentionRuns": _STAFF,
    "/earwitness.v1.RetentionService/ListUpcomingExpirations": _STAFF,
    "/earwitness.v1.RetentionService/ListExpiringRecordings": _STAFF,
    "/earwitness.v1.RetentionService/ExplainRetention": _STAFF,
    "/earwitness.v1.RetentionService/GetRetentionClock": _STAFF,
    "/earwitness.v1.RetentionService/AcceptRetentionClock": _ADMIN,
    "/earwitness.v1.RetentionService/CreateLegalHold": _ADMIN,
    "/earwitness.v1.RetentionService/GetLegalHold": _STAFF,
    "/earwitness.v1.RetentionService/ListLegalHolds": _STAFF,
    "/earwitness.v1.RetentionService/AddToLegalHold": _ADMIN,
    "/earwitness.v1.RetentionService/ListLegalHoldRecordings": _STAFF,
    "/earwitness.v1.RetentionService/ReleaseLegalHold": _ADMIN,
    "/earwitness.v1.TenantsService/CreateTenant": _ADMIN,
    "/earwitness.v1.TenantsService/GetTenant": _ALL,
    "/earwitness.v1.TenantsService/ListTenants": _ALL,
    "/earwitness.v1.TenantsService/CreateLine": _ADMIN,
    "/earwitness.v1.TenantsService/GetLine": _ALL,
    "/earwitness.v1.TenantsService/ListLines": _ALL,
    "/earwitness.v1.TenantsService/UpdateLine": _ADMIN,
    "/earwitness.v1.PromptsService/CreatePrompt": _ADMIN,
    "/earwitness.v1.PromptsService/GetPrompt": _ALL,
    "/earwitness.v1.PromptsService/ListPrompts": _ALL,
    "/earwitness.v1.PromptsService/DeletePrompt": _ADMIN,
    "/earwitness.v1.PromptsService/DownloadPrompt": _ALL,
    "/earwitness.v1.EventsService/WatchEvents": _ALL,
    "/earwitness.v1.BoxService/GetBoxStatus": _STAFF,
    "/earwitness.v1.BoxService/RebuildCatalogue": _ADMIN,
    "/earwitness.v1.BoxService/GetVault": _STAFF,
    "/earwitness.v1.BoxService/ListBuckets": _STAFF,
    "/earwitness.v1.BoxService/VerifyVault": _STAFF,
    "/earwitness.v1.BoxService/ForgetKeystoreCopy": _ADMIN,
    "/earwitness.v1.BoxService/GetTenantStorage": _STAFF,
    "/earwitness.v1.BoxService/SetTenantQuota": _ADMIN,
    # Standard services: they say nothing of calls.
    "/grpc.health.v1.Health/Check": _ALL,
    "/grpc.health.v1.Health/List": _ALL,
    "/grpc.health.v1.Health/Watch": _ALL,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _ALL,
}


def check(identity: Identity, method: str) -> None:
    """MethodDeniedError where the identity's role may not call the method."""
    if identity.role not in ALLOWED.get(method, frozenset()):
        raise MethodDeniedError("this role may not call this method", method=method, role=identity.role.value)
