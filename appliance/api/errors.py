"""What the API itself refuses, and how an error goes over the wire."""

from __future__ import annotations

from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2

from appliance.model import (
    DeniedError,
    EarwitnessError,
    ExhaustedError,
    InvalidError,
    Kind,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)
from appliance.process import rpc

RETRY_AFTER_S: Final = 1.0


class NameInvalidError(InvalidError):
    """Not a resource name of the kind that is asked for."""

    reason = "NAME_INVALID"


class RequestMalformedError(InvalidError):
    """The bytes are no message of the method's request type."""

    reason = "REQUEST_MALFORMED"


class FieldInvalidError(InvalidError):
    """A field is missing or out of its bounds; `data['field']` names it."""

    reason = "FIELD_INVALID"


class UploadTooSlowError(UnavailableError):
    """The message of a call, or an upload or its next part, takes too long."""

    reason = "UPLOAD_TOO_SLOW"


class CallNotFoundError(NotFoundError):
    """No such live call: it is over, or never was."""

    reason = "CALL_NOT_FOUND"


class AgentRightError(DeniedError):
    """The line gives the agent no right to this."""

    reason = "AGENT_RIGHT_MISSING"


class VaultUnavailableError(UnavailableError):
    """The vault does not answer."""

    reason = "VAULT_UNAVAILABLE"


class SignalingUnavailableError(UnavailableError):
    """Signaling does not answer: what is live is not known."""

    reason = "SIGNALING_UNAVAILABLE"


class RoutingUnwrittenError(UnavailableError):
    """The routing table cannot be written: signaling would not know of the change."""

    reason = "ROUTING_UNWRITTEN"


class EtagNeededError(PreconditionError):
    """Erasing wants the etag of what is erased, or force."""

    reason = "ETAG_OR_FORCE_NEEDED"


class NotReadableError(PreconditionError):
    """The recording is deleted or in quarantine; `data['state']` says which."""

    reason = "RECORDING_NOT_READABLE"


class EvidenceNotYetError(PreconditionError):
    """The recording does not stand in the audit log yet: it will in a moment."""

    reason = "EVIDENCE_NOT_YET"


class EvidenceLostError(PreconditionError):
    """The audit log was broken, and does not hold the recording's entry any more: there is no evidence of it."""

    reason = "EVIDENCE_LOST"


class OffsetError(InvalidError):
    """The offset is behind the end."""

    reason = "OFFSET_INVALID"


class RenderTooLargeError(ExhaustedError):
    """The rendered audio would be larger than the box renders at once; a smaller format may fit."""

    reason = "RENDER_TOO_LARGE"


class RebuildRunningError(PreconditionError):
    """The catalogue is being rebuilt already."""

    reason = "REBUILD_RUNNING"


class NoticeTooShortError(InvalidError):
    """Notice of a closing is longer than that: `days`, and `earliest` is the first date."""

    reason = "NOTICE_TOO_SHORT"


class ExitPackWaitsError(UnavailableError):
    """An exit pack waits for something and goes on by itself; `why` is the reason of what it waits for."""

    reason = "EXIT_PACK_WAITS"


class ExitPackBrokenError(PreconditionError):
    """An exit pack cannot go on, and coming again does not help; `why`."""

    reason = "EXIT_PACK_BROKEN"


def wire_status(error: EarwitnessError) -> grpc.Status:
    """The gRPC status of an error, with when to come again where coming again may help."""
    status = rpc.to_status(error)
    if error.kind in (Kind.UNAVAILABLE, Kind.EXHAUSTED):
        after = error.data.get("retry_after_s", RETRY_AFTER_S)
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(float(str(after)) * 1e9))
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        status.details.append(detail)
    return rpc.grpc_status(status)
