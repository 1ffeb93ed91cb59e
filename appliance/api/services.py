"""Which services the box serves to the outside, and how each is joined to a server."""

from __future__ import annotations

from typing import Final

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

SERVICES: Final = {
    "earwitness.v1.ReviewService": review_pb2_grpc.add_ReviewServiceServicer_to_server,
    "earwitness.v1.CompletenessService": completeness_pb2_grpc.add_CompletenessServiceServicer_to_server,
    "earwitness.v1.AlarmsService": alarms_pb2_grpc.add_AlarmsServiceServicer_to_server,
    "earwitness.v1.AccessService": access_pb2_grpc.add_AccessServiceServicer_to_server,
    "earwitness.v1.CallsService": calls_pb2_grpc.add_CallsServiceServicer_to_server,
    "earwitness.v1.RecordingsService": recordings_pb2_grpc.add_RecordingsServiceServicer_to_server,
    "earwitness.v1.RetentionService": retention_pb2_grpc.add_RetentionServiceServicer_to_server,
    "earwitness.v1.TenantsService": tenants_pb2_grpc.add_TenantsServiceServicer_to_server,
    "earwitness.v1.NotesService": notes_pb2_grpc.add_NotesServiceServicer_to_server,
    "earwitness.v1.NoticesService": notices_pb2_grpc.add_NoticesServiceServicer_to_server,
    "earwitness.v1.PromptsService": prompts_pb2_grpc.add_PromptsServiceServicer_to_server,
    "earwitness.v1.PurposesService": purposes_pb2_grpc.add_PurposesServiceServicer_to_server,
    "earwitness.v1.EvidenceService": evidence_pb2_grpc.add_EvidenceServiceServicer_to_server,
    "earwitness.v1.GrantsService": grants_pb2_grpc.add_GrantsServiceServicer_to_server,
    "earwitness.v1.DocumentsService": documents_pb2_grpc.add_DocumentsServiceServicer_to_server,
    "earwitness.v1.ClosingService": closing_pb2_grpc.add_ClosingServiceServicer_to_server,
    "earwitness.v1.SubjectsService": subjects_pb2_grpc.add_SubjectsServiceServicer_to_server,
    "earwitness.v1.OperationsService": operations_pb2_grpc.add_OperationsServiceServicer_to_server,
    "earwitness.v1.EventsService": events_pb2_grpc.add_EventsServiceServicer_to_server,
    "earwitness.v1.BoxService": box_pb2_grpc.add_BoxServiceServicer_to_server,
    "earwitness.v1.AuditService": audit_pb2_grpc.add_AuditServiceServicer_to_server,
    "earwitness.v1.KeysService": keys_pb2_grpc.add_KeysServiceServicer_to_server,
}
