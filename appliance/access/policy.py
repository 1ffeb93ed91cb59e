"""Who may call what: one table, one row for every public method. What is not in it, nobody may call.

A role of a tenant calls within that tenant alone (`api.scope`). Where one method serves several roles differently, the
servicer asks for the role it needs (`scope.require`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from appliance.access.errors import MethodDeniedError
from appliance.access.identities import TENANT_ROLES, Identity, Role

_ADMIN: Final = frozenset({Role.TENANT_ADMINISTRATOR})
_OFFICER: Final = frozenset({Role.RECORDS_OFFICER})
_OPERATOR: Final = frozenset({Role.OPERATOR})
_SUPPORT: Final = frozenset({Role.SUPPORT})
_RUNS: Final = _OPERATOR | {Role.SUPPORT}  # health and counts
_CONFIGURES: Final = _OPERATOR | _ADMIN
_HANDLES: Final = _OFFICER | {Role.SUPERVISOR}  # recordings and live calls
_LIVE: Final = _HANDLES | {Role.AGENT}
_READS: Final = _HANDLES | {Role.INTEGRATION, Role.SUPPORT}  # support: under a grant alone
_SEES: Final = _READS | {Role.AUDITOR}
_RULES: Final = _CONFIGURES | _HANDLES | {Role.AUDITOR}  # what holds for a tenant
_KNOWS: Final = _RULES | {Role.INTEGRATION}
_AUDITS: Final = _ADMIN | _OFFICER | {Role.AUDITOR}
_TELLS: Final = _ADMIN | _OFFICER  # staff what they must know
_OVERSEES: Final = frozenset({Role.SUPERVISOR, Role.AUDITOR})  # who was told
_STAFF: Final = TENANT_ROLES - {Role.INTEGRATION}
_ANYBODY: Final = frozenset(Role)

ALLOWED: Final[Mapping[str, frozenset[Role]]] = {
    "/earwitness.v1.AlarmsService/ListAlarms": _KNOWS | {Role.SUPPORT},
    "/earwitness.v1.AlarmsService/GetAlarm": _KNOWS | {Role.SUPPORT},
    "/earwitness.v1.AlarmsService/CountAlarms": _KNOWS | {Role.SUPPORT},
    "/earwitness.v1.AlarmsService/AcknowledgeAlarm": _CONFIGURES | _HANDLES,
    "/earwitness.v1.AlarmsService/UnacknowledgeAlarm": _CONFIGURES | _HANDLES,
    "/earwitness.v1.AlarmsService/ClearAlarm": _CONFIGURES | _HANDLES,
    "/earwitness.v1.AlarmsService/ListAlarmKinds": _KNOWS | {Role.SUPPORT},
    "/earwitness.v1.AlarmsService/ListAlarmChannels": _CONFIGURES,
    "/earwitness.v1.AlarmsService/GetAlarmChannel": _CONFIGURES,
    "/earwitness.v1.AlarmsService/CreateAlarmChannel": _CONFIGURES,
    "/earwitness.v1.AlarmsService/UpdateAlarmChannel": _CONFIGURES,
    "/earwitness.v1.AlarmsService/DeleteAlarmChannel": _CONFIGURES,
    "/earwitness.v1.AlarmsService/TestAlarmChannel": _CONFIGURES,
    "/earwitness.v1.CallsService/ListCalls": _LIVE | {Role.INTEGRATION},
    "/earwitness.v1.CallsService/GetCall": _LIVE | {Role.INTEGRATION},
    "/earwitness.v1.CallsService/WatchCalls": _LIVE | {Role.INTEGRATION},
    "/earwitness.v1.CallsService/PauseCall": _LIVE,
    "/earwitness.v1.CallsService/ResumeCall": _LIVE,
    "/earwitness.v1.CallsService/StopCall": _LIVE,
    "/earwitness.v1.CallsService/ListenCall": _HANDLES,
    "/earwitness.v1.RecordingsService/ListRecordings": _SEES,
    "/earwitness.v1.RecordingsService/GetRecording": _SEES,
    "/earwitness.v1.RecordingsService/DownloadRecording": _READS,
    "/earwitness.v1.RecordingsService/VerifyRecording": _SEES,
    "/earwitness.v1.RecordingsService/GetWaveform": _READS,
    "/earwitness.v1.RecordingsService/CountRecordings": _SEES - {Role.SUPPORT},
    "/earwitness.v1.RecordingsService/DeleteRecording": _OFFICER,
    "/earwitness.v1.RecordingsService/UndeleteRecording": _OFFICER,
    "/earwitness.v1.RecordingsService/EraseRecording": _OFFICER,
    "/earwitness.v1.NotesService/CreateNote": _HANDLES,
    "/earwitness.v1.NotesService/GetNote": _SEES - {Role.SUPPORT},
    "/earwitness.v1.NotesService/ListNotes": _SEES - {Role.SUPPORT},
    "/earwitness.v1.NotesService/UpdateNote": _HANDLES,
    "/earwitness.v1.NotesService/DeleteNote": _HANDLES,
    "/earwitness.v1.NotesService/UpdateRecordingTags": _HANDLES | {Role.INTEGRATION},
    "/earwitness.v1.NotesService/BeginSidecarAnew": _OFFICER,
    "/earwitness.v1.RetentionService/GetRetentionPolicy": _RULES,
    "/earwitness.v1.RetentionService/ListRetentionPolicies": _RULES,
    "/earwitness.v1.RetentionService/UpdateRetentionPolicy": _CONFIGURES,
    "/earwitness.v1.RetentionService/CancelPendingChange": _CONFIGURES,
    "/earwitness.v1.RetentionService/PlanRetention": _RULES,
    "/earwitness.v1.RetentionService/RunRetention": _OPERATOR,
    "/earwitness.v1.RetentionService/ListRetentionRuns": _OPERATOR,
    "/earwitness.v1.RetentionService/ListUpcomingExpirations": _RULES,
    "/earwitness.v1.RetentionService/ListExpiringRecordings": _RULES,
    "/earwitness.v1.RetentionService/ExplainRetention": _RULES,
    "/earwitness.v1.RetentionService/GetRetentionClock": _RUNS,
    "/earwitness.v1.RetentionService/AcceptRetentionClock": _OPERATOR,
    "/earwitness.v1.RetentionService/CreateLegalHold": _OFFICER,
    "/earwitness.v1.RetentionService/GetLegalHold": _OFFICER | {Role.AUDITOR},
    "/earwitness.v1.RetentionService/ListLegalHolds": _OFFICER | {Role.AUDITOR},
    "/earwitness.v1.RetentionService/AddToLegalHold": _OFFICER,
    "/earwitness.v1.RetentionService/ListLegalHoldRecordings": _OFFICER | {Role.AUDITOR},
    "/earwitness.v1.RetentionService/ReleaseLegalHold": _OFFICER,
    "/earwitness.v1.TenantsService/CreateTenant": _OPERATOR,
    "/earwitness.v1.TenantsService/GetTenant": _ANYBODY,
    "/earwitness.v1.TenantsService/ListTenants": _ANYBODY,
    "/earwitness.v1.TenantsService/CreateLine": _CONFIGURES,
    "/earwitness.v1.TenantsService/GetLine": _KNOWS,
    "/earwitness.v1.TenantsService/ListLines": _KNOWS,
    "/earwitness.v1.TenantsService/UpdateLine": _CONFIGURES,
    "/earwitness.v1.TenantsService/UpdateTenant": _CONFIGURES,
    "/earwitness.v1.TenantsService/RestoreTenant": _CONFIGURES,
    "/earwitness.v1.TenantsService/ListTenantVersions": _CONFIGURES | _AUDITS,
    "/earwitness.v1.TenantsService/RestoreLine": _CONFIGURES,
    "/earwitness.v1.TenantsService/ListLineVersions": _CONFIGURES | _AUDITS,
    "/earwitness.v1.NoticesService/ListStaffMembers": _TELLS | _OVERSEES,
    "/earwitness.v1.NoticesService/GetStaffMember": _TELLS | _OVERSEES,
    "/earwitness.v1.NoticesService/CreateStaffMember": _TELLS,
    "/earwitness.v1.NoticesService/UpdateStaffMember": _TELLS,
    "/earwitness.v1.NoticesService/ArchiveStaffMember": _TELLS,
    "/earwitness.v1.NoticesService/UnarchiveStaffMember": _TELLS,
    "/earwitness.v1.NoticesService/ImportStaffMembers": _TELLS,
    "/earwitness.v1.NoticesService/ListNotices": _TELLS | _OVERSEES,
    "/earwitness.v1.NoticesService/GetNotice": _TELLS | _OVERSEES,
    "/earwitness.v1.NoticesService/CreateNotice": _TELLS,
    "/earwitness.v1.NoticesService/UpdateNotice": _TELLS,
    "/earwitness.v1.NoticesService/ArchiveNotice": _TELLS,
    "/earwitness.v1.NoticesService/UnarchiveNotice": _TELLS,
    "/earwitness.v1.NoticesService/PublishNoticeVersion": _TELLS,
    "/earwitness.v1.NoticesService/CancelNoticeVersion": _TELLS,
    "/earwitness.v1.NoticesService/ListNoticeVersions": _TELLS | _OVERSEES,
    "/earwitness.v1.NoticesService/AdoptDefaultNotices": _TELLS,
    "/earwitness.v1.NoticesService/ListOwnNotices": _STAFF,
    "/earwitness.v1.NoticesService/AcknowledgeNotice": _STAFF,
    "/earwitness.v1.NoticesService/CreateAcknowledgementLink": _TELLS,
    "/earwitness.v1.NoticesService/RecordPaperAcknowledgement": _OFFICER,
    "/earwitness.v1.NoticesService/ImportAcknowledgements": _TELLS,
    "/earwitness.v1.NoticesService/WithdrawAcknowledgement": _OFFICER,
    "/earwitness.v1.NoticesService/ListAcknowledgements": _TELLS | _OVERSEES,
    "/earwitness.v1.NoticesService/ListOutstandingAcknowledgements": _TELLS | _OVERSEES,
    "/earwitness.v1.NoticesService/CountAcknowledgements": _TELLS | _OVERSEES,
    "/earwitness.v1.PurposesService/ListPurposes": _KNOWS | {Role.SUPPORT},
    "/earwitness.v1.PurposesService/CreatePurpose": _ADMIN | _OFFICER,
    "/earwitness.v1.PurposesService/UpdatePurpose": _ADMIN | _OFFICER,
    "/earwitness.v1.PurposesService/ArchivePurpose": _ADMIN | _OFFICER,
    "/earwitness.v1.PurposesService/ListPurposeVersions": _AUDITS,
    "/earwitness.v1.PurposesService/GetReadReport": _AUDITS,
    "/earwitness.v1.CompletenessService/ListCallRecordPresets": _CONFIGURES | {Role.INTEGRATION},
    "/earwitness.v1.CompletenessService/CreateCallRecordSource": _CONFIGURES,
    "/earwitness.v1.CompletenessService/GetCallRecordSource": _CONFIGURES | _AUDITS | {Role.INTEGRATION},
    "/earwitness.v1.CompletenessService/ListCallRecordSources": _CONFIGURES | _AUDITS | {Role.INTEGRATION},
    "/earwitness.v1.CompletenessService/UpdateCallRecordSource": _CONFIGURES,
    "/earwitness.v1.CompletenessService/DeleteCallRecordSource": _CONFIGURES,
    "/earwitness.v1.CompletenessService/TryRecordMap": _CONFIGURES,
    "/earwitness.v1.CompletenessService/ImportCallRecords": _CONFIGURES | {Role.INTEGRATION},
    "/earwitness.v1.CompletenessService/ListCallRecordImports": _CONFIGURES | _AUDITS | {Role.INTEGRATION},
    "/earwitness.v1.CompletenessService/ListCompletenessDays": _AUDITS,
    "/earwitness.v1.CompletenessService/GetCompletenessReport": _AUDITS,
    "/earwitness.v1.CompletenessService/ListCallRecords": _OFFICER | {Role.AUDITOR},  # numbers of people
    "/earwitness.v1.ReviewService/CreateScorecard": _TELLS | _HANDLES,
    "/earwitness.v1.ReviewService/GetScorecard": _HANDLES | _ADMIN | {Role.AUDITOR, Role.AGENT},
    "/earwitness.v1.ReviewService/ListScorecards": _HANDLES | _ADMIN | {Role.AUDITOR},
    "/earwitness.v1.ReviewService/UpdateScorecard": _TELLS | _HANDLES,
    "/earwitness.v1.ReviewService/ArchiveScorecard": _TELLS | _HANDLES,
    "/earwitness.v1.ReviewService/ListScorecardVersions": _HANDLES | _ADMIN | {Role.AUDITOR},
    "/earwitness.v1.ReviewService/CreateReviewRule": _TELLS | _HANDLES,
    "/earwitness.v1.ReviewService/ListReviewRules": _HANDLES | _ADMIN | {Role.AUDITOR},
    "/earwitness.v1.ReviewService/UpdateReviewRule": _TELLS | _HANDLES,
    "/earwitness.v1.ReviewService/DeleteReviewRule": _TELLS | _HANDLES,
    "/earwitness.v1.ReviewService/ApplyReviewRule": _TELLS | _HANDLES,
    "/earwitness.v1.ReviewService/GetReviewSettings": _HANDLES | _ADMIN | {Role.AUDITOR},
    "/earwitness.v1.ReviewService/UpdateReviewSettings": _TELLS,
    "/earwitness.v1.ReviewService/CreateReview": _HANDLES,
    "/earwitness.v1.ReviewService/GetReview": _LIVE,
    "/earwitness.v1.ReviewService/ListReviews": _LIVE,
    "/earwitness.v1.ReviewService/ClaimNextReview": _HANDLES,
    "/earwitness.v1.ReviewService/ClaimReview": _HANDLES,
    "/earwitness.v1.ReviewService/ReleaseReview": _HANDLES,
    "/earwitness.v1.ReviewService/SkipReview": _HANDLES,
    "/earwitness.v1.ReviewService/AssignReview": _HANDLES,
    "/earwitness.v1.ReviewService/AnswerReview": _HANDLES,
    "/earwitness.v1.ReviewService/SubmitReview": _HANDLES,
    "/earwitness.v1.ReviewService/AcknowledgeReview": _LIVE,
    "/earwitness.v1.ReviewService/DisputeReview": _LIVE,
    "/earwitness.v1.ReviewService/ResolveReview": _HANDLES,
    "/earwitness.v1.ReviewService/GetReviewFigures": _HANDLES | _ADMIN | {Role.AUDITOR},
    "/earwitness.v1.PromptsService/CreatePrompt": _CONFIGURES,
    "/earwitness.v1.PromptsService/GetPrompt": _KNOWS,
    "/earwitness.v1.PromptsService/ListPrompts": _KNOWS,
    "/earwitness.v1.PromptsService/DeletePrompt": _CONFIGURES,
    "/earwitness.v1.PromptsService/DownloadPrompt": _KNOWS,
    "/earwitness.v1.EvidenceService/GetEvidence": _SEES - {Role.SUPPORT},
    "/earwitness.v1.EvidenceService/GetBoxKeys": _ANYBODY,
    "/earwitness.v1.ClosingService/CloseTenant": _CONFIGURES,
    "/earwitness.v1.ClosingService/CloseLine": _CONFIGURES,
    "/earwitness.v1.ClosingService/CancelClosing": _CONFIGURES,
    "/earwitness.v1.ClosingService/ReopenLine": _CONFIGURES,
    "/earwitness.v1.ClosingService/GetClosing": _RULES,
    "/earwitness.v1.ClosingService/ListClosings": _RULES,
    "/earwitness.v1.ClosingService/CreateExitPack": _ADMIN | _OFFICER,
    "/earwitness.v1.ClosingService/GetExitPack": _AUDITS,
    "/earwitness.v1.ClosingService/ListExitPacks": _AUDITS,
    "/earwitness.v1.SubjectsService/CreateSubjectRequest": _OFFICER,
    "/earwitness.v1.SubjectsService/GetSubjectRequest": _OFFICER,
    "/earwitness.v1.SubjectsService/ListSubjectRequests": _OFFICER,
    "/earwitness.v1.SubjectsService/UpdateSubjectRequest": _OFFICER,
    "/earwitness.v1.SubjectsService/PauseSubjectClock": _OFFICER,
    "/earwitness.v1.SubjectsService/ResumeSubjectClock": _OFFICER,
    "/earwitness.v1.SubjectsService/ExtendSubjectClock": _OFFICER,
    "/earwitness.v1.SubjectsService/CloseSubjectRequest": _OFFICER,
    "/earwitness.v1.SubjectsService/ReopenSubjectRequest": _OFFICER,
    "/earwitness.v1.SubjectsService/FindSubjectRecordings": _OFFICER,
    "/earwitness.v1.SubjectsService/SetSubjectChoice": _OFFICER,
    "/earwitness.v1.SubjectsService/RemoveSubjectChoice": _OFFICER,
    "/earwitness.v1.SubjectsService/MakeSubjectPack": _OFFICER,
    "/earwitness.v1.SubjectsService/ListSubjectPacks": _OFFICER,
    "/earwitness.v1.SubjectsService/DownloadSubjectPack": _OFFICER,
    "/earwitness.v1.SubjectsService/DeleteSubjectPack": _OFFICER,
    "/earwitness.v1.SubjectsService/CreateRestriction": _OFFICER,
    "/earwitness.v1.SubjectsService/GetRestriction": _OFFICER,
    "/earwitness.v1.SubjectsService/ListRestrictions": _OFFICER,
    "/earwitness.v1.SubjectsService/LiftRestriction": _OFFICER,
    "/earwitness.v1.SubjectsService/DecideObjection": _OFFICER,
    "/earwitness.v1.DocumentsService/GenerateDocument": _AUDITS | _OPERATOR,
    "/earwitness.v1.DocumentsService/ListDocuments": _AUDITS | _OPERATOR,
    "/earwitness.v1.DocumentsService/DownloadDocument": _AUDITS | _OPERATOR,
    "/earwitness.v1.DocumentsService/GetServiceLevel": _AUDITS | _OPERATOR | {Role.INTEGRATION},
    "/earwitness.v1.DocumentsService/NotePlannedWork": _OPERATOR,
    "/earwitness.v1.DocumentsService/ListPlannedWork": _RULES | {Role.SUPPORT, Role.INTEGRATION},
    "/earwitness.v1.DocumentsService/CancelPlannedWork": _OPERATOR,
    "/earwitness.v1.OperationsService/VerifyRecordings": _OFFICER | {Role.AUDITOR},
    "/earwitness.v1.OperationsService/GetOperation": _AUDITS,
    "/earwitness.v1.OperationsService/ListOperations": _AUDITS,
    "/earwitness.v1.OperationsService/CancelOperation": _AUDITS,
    "/earwitness.v1.OperationsService/WatchOperation": _AUDITS,
    "/earwitness.v1.EventsService/WatchEvents": _KNOWS | {Role.SUPPORT},
    "/earwitness.v1.BoxService/GetBoxStatus": _RUNS,
    "/earwitness.v1.BoxService/RebuildCatalogue": _OPERATOR,
    "/earwitness.v1.BoxService/GetVault": _RUNS,
    "/earwitness.v1.BoxService/ListBuckets": _RUNS,
    "/earwitness.v1.BoxService/VerifyVault": _OPERATOR,
    "/earwitness.v1.BoxService/RestoreFromReplica": _OPERATOR,
    "/earwitness.v1.BoxService/ForgetKeystoreCopy": _OPERATOR,
    "/earwitness.v1.BoxService/GetTenantStorage": _RUNS | _ADMIN,
    "/earwitness.v1.BoxService/SetTenantQuota": _OPERATOR,
    "/earwitness.v1.AuditService/ListAuditEntries": _AUDITS | _OPERATOR,
    "/earwitness.v1.AuditService/WatchAuditEntries": _AUDITS | _OPERATOR,
    "/earwitness.v1.AuditService/GetCheckpoint": _AUDITS | _OPERATOR | {Role.INTEGRATION},
    "/earwitness.v1.AuditService/ListCheckpoints": _AUDITS | _OPERATOR | {Role.INTEGRATION},
    "/earwitness.v1.AuditService/GetInclusionProof": _AUDITS | _OPERATOR | {Role.INTEGRATION},
    "/earwitness.v1.AuditService/GetConsistencyProof": _AUDITS | _OPERATOR | {Role.INTEGRATION},
    "/earwitness.v1.AuditService/ExportAudit": _OPERATOR | {Role.AUDITOR},
    "/earwitness.v1.AuditService/GetAuditStatus": _OPERATOR | {Role.INTEGRATION},
    "/earwitness.v1.GrantsService/RequestGrant": _SUPPORT,
    "/earwitness.v1.GrantsService/CreateGrant": _OFFICER,
    "/earwitness.v1.GrantsService/ApproveGrant": _OFFICER,
    "/earwitness.v1.GrantsService/DenyGrant": _OFFICER,
    "/earwitness.v1.GrantsService/RevokeGrant": _OFFICER | _SUPPORT,
    "/earwitness.v1.GrantsService/GetGrant": _AUDITS | _SUPPORT,
    "/earwitness.v1.GrantsService/ListGrants": _AUDITS | _SUPPORT,
    "/earwitness.v1.GrantsService/ListGrantUses": _AUDITS | _SUPPORT,
    "/earwitness.v1.GrantsService/ListGrantKeys": _SUPPORT,
    # Whom one may see and manage `rights` says; everybody sees and renews the own.
    "/earwitness.v1.AccessService/CreateIdentity": _CONFIGURES,
    "/earwitness.v1.AccessService/GetIdentity": _ANYBODY,
    "/earwitness.v1.AccessService/ListIdentities": _CONFIGURES | {Role.AUDITOR},
    "/earwitness.v1.AccessService/UpdateIdentity": _CONFIGURES,
    "/earwitness.v1.AccessService/DisableIdentity": _CONFIGURES,
    "/earwitness.v1.AccessService/EnableIdentity": _CONFIGURES,
    "/earwitness.v1.AccessService/GetCaller": _ANYBODY,
    "/earwitness.v1.AccessService/IssueCertificate": _CONFIGURES,
    "/earwitness.v1.AccessService/RenewCertificate": _ANYBODY,
    "/earwitness.v1.AccessService/RevokeCertificate": _CONFIGURES,
    "/earwitness.v1.AccessService/ListCertificates": _ANYBODY,
    "/earwitness.v1.AccessService/AddSubject": _CONFIGURES,
    "/earwitness.v1.AccessService/RemoveSubject": _CONFIGURES,
    "/earwitness.v1.AccessService/ResetPassphrase": _CONFIGURES,
    "/earwitness.v1.AccessService/EnrolPassphrase": _ANYBODY,
    "/earwitness.v1.AccessService/ChangePassphrase": _ANYBODY,
    "/earwitness.v1.AccessService/SignIn": _ANYBODY,
    "/earwitness.v1.AccessService/SignOut": _ANYBODY,
    "/earwitness.v1.AccessService/ListSessions": _ANYBODY,
    "/earwitness.v1.AccessService/RevokeSession": _ANYBODY,
    "/earwitness.v1.KeysService/GetTenantKeys": _AUDITS | _OPERATOR,
    "/earwitness.v1.KeysService/SetKeyMode": _ADMIN,
    "/earwitness.v1.KeysService/UnlockTenant": _OFFICER,
    "/earwitness.v1.KeysService/LockTenant": _ADMIN | _OFFICER,
    "/earwitness.v1.KeysService/ChangeTenantPassphrase": _ADMIN | _OFFICER,
    # Standard services: they say nothing of calls.
    "/grpc.health.v1.Health/Check": _ANYBODY,
    "/grpc.health.v1.Health/List": _ANYBODY,
    "/grpc.health.v1.Health/Watch": _ANYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _ANYBODY,
}

OPEN: Final = frozenset(
    {
        "/earwitness.v1.AccessService/SignIn",
        "/earwitness.v1.AccessService/EnrolPassphrase",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
    }
)
"""What may be called without a certificate or token, on the listener for tokens."""


def check(identity: Identity, method: str) -> None:
    """MethodDeniedError where none of the identity's roles may call the method."""
    if not _fitting(identity, method):
        raise MethodDeniedError(
            "this role may not call this method",
            method=method,
            role=", ".join(sorted(role.value for role in identity.roles)),
        )


def only_as(role: Role, identity: Identity, method: str) -> bool:
    """Whether this role is all that lets the identity call the method."""
    return _fitting(identity, method) == {role}


def _fitting(identity: Identity, method: str) -> frozenset[Role]:
    """The identity's roles that let it call the method."""
    row = ALLOWED.get(method, frozenset())
    # Who runs the box makes its identities: what an operator may not call, none that an operator makes may.
    withheld = {Role.INTEGRATION} if identity.blind and Role.OPERATOR not in row else set()
    return identity.roles & row - withheld
