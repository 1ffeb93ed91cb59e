"""What the command line's exit codes mean, and how an error becomes one line."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from appliance.model import EarwitnessError, Kind


class Exit(enum.IntEnum):
    """Exit codes; documented in docs/cli.md and never changed."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    DENIED = 4
    UNAVAILABLE = 5
    NOT_INTACT = 6  # verification found damage
    ERASED = 7  # the recording's key is destroyed
    CONFLICT = 8  # something else was first, or the state does not allow it
    INTERRUPTED = 130


@dataclass
class Failure(Exception):
    """Ends a command: one line for people, a code for programs."""

    code: Exit
    message: str
    reason: str = ""
    hint: str = ""


_BY_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: Exit.USAGE,
    grpc.StatusCode.OUT_OF_RANGE: Exit.USAGE,
    grpc.StatusCode.NOT_FOUND: Exit.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED: Exit.DENIED,
    grpc.StatusCode.UNAUTHENTICATED: Exit.DENIED,
    grpc.StatusCode.UNAVAILABLE: Exit.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Exit.UNAVAILABLE,
    grpc.StatusCode.FAILED_PRECONDITION: Exit.CONFLICT,
    grpc.StatusCode.ABORTED: Exit.CONFLICT,
    grpc.StatusCode.ALREADY_EXISTS: Exit.CONFLICT,
    grpc.StatusCode.DATA_LOSS: Exit.NOT_INTACT,
    grpc.StatusCode.CANCELLED: Exit.INTERRUPTED,
}

_BY_KIND = {
    Kind.INVALID: Exit.USAGE,
    Kind.NOT_FOUND: Exit.NOT_FOUND,
    Kind.DENIED: Exit.DENIED,
    Kind.UNAUTHENTICATED: Exit.DENIED,
    Kind.UNAVAILABLE: Exit.UNAVAILABLE,
    Kind.PRECONDITION: Exit.CONFLICT,
    Kind.CONFLICT: Exit.CONFLICT,
    Kind.EXISTS: Exit.CONFLICT,
    Kind.CORRUPT: Exit.NOT_INTACT,
}

_BY_REASON = {"ERASED": Exit.ERASED, "RECORDING_ERASED": Exit.ERASED}

_NAMES_PURPOSES = ("PURPOSE_NEEDED", "PURPOSE_UNKNOWN", "PURPOSE_NOT_STATED")
_NAMES_LINE = ("NUMBER_TAKEN", "CATCH_ALL_TAKEN", "PROMPT_IN_USE")

_HINTS = {
    "ERASED": "its key is destroyed; nobody can read it any more",
    "RECORDING_ERASED": "its key is destroyed; nobody can read it any more",
    "RECORDING_KEY_ABSENT": "the recording is kept; put the right keystore back",
    "PAGE_TOKEN_EXPIRED": "begin the list again",
    "PLAN_CHANGED": "look at `earwitness retention plan` again",
    "POLICY_CHANGED": "somebody else changed policies; look again",
    "TOKEN_EXPIRED": "sign in again: `earwitness login`, or forget it: `earwitness logout`",
    "TOKEN_INVALID": "sign in again: `earwitness login`, or forget it: `earwitness logout`",
    "TOKEN_MISSING": "sign in: `earwitness login`",
    "SIGN_IN_SLOWED": "wait; a recovery code does not help either",
    "LAST_OPERATOR": "see `earwitness identities list`",
    "LAST_TENANT_ADMINISTRATOR": "see `earwitness identities list`",
    "RETENTION_INVALID": "such as 90d, 18m or 7y",
}


def from_rpc(error: grpc.RpcError) -> Failure:
    """What a failed call means to who typed the command."""
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    message = (error.details() if isinstance(error, grpc.Call) else str(error)) or code.name
    reason, hint = "", ""
    fields: list[str] = []
    status = rpc_status.from_call(error) if isinstance(error, grpc.Call) else None
    details: list[any_pb2.Any] = list(status.details) if status is not None else []
    for detail in details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason = info.reason
            if reason in _NAMES_LINE and "line" in info.metadata:
                hint = f"it is {info.metadata['line']}; see `earwitness lines show`"
            elif reason == "RECORDING_HELD" and "cases" in info.metadata:
                cases = json.loads(info.metadata["cases"])
                more = int(info.metadata.get("case_count", "0")) - len(cases)
                others = f" and {more} more" if more > 0 else ""
                hint = f"held by {', '.join(cases)}{others}; see `earwitness holds show`"
            elif reason in _NAMES_PURPOSES and "stated" in info.metadata:
                hint = f"--purpose, one of: {', '.join(json.loads(info.metadata['stated'])) or 'none'}"
        elif detail.Unpack(bad):
            fields += [f"{violation.field}: {violation.description}" for violation in bad.field_violations]
    if code is grpc.StatusCode.UNAVAILABLE and not reason:
        return _unreachable(message)
    if fields:
        message = "; ".join(fields)
    exit_code = _BY_REASON.get(reason) or _BY_STATUS.get(code, Exit.FAILED)
    return Failure(exit_code, message, reason, hint or _HINTS.get(reason, ""))


def _unreachable(details: str) -> Failure:
    """No connection came about. gRPC has one code for all causes; its words tell them apart (and are no contract)."""
    if "CERTIFICATE_VERIFY_FAILED" in details:
        message = "who answers has no certificate of this authority"
        return Failure(Exit.DENIED, message, "SERVER_NOT_TRUSTED", "is --ca the ca.crt of this box?")
    if "security handshaker" in details:
        message = "authority, certificate or key is no PEM, or they do not belong together"
        return Failure(Exit.USAGE, message, "CREDENTIALS_INVALID", "see --ca, --cert and --key")
    if "Socket closed" in details or "reset by peer" in details:
        message = "the box closes the connection"
        hint = "is --cert a certificate that this box issued? else try again"
        return Failure(Exit.UNAVAILABLE, message, "CONNECTION_CLOSED", hint)
    hint = "is `earwitness serve` running, and is --server right?"
    return Failure(Exit.UNAVAILABLE, "the box does not answer", "NO_ANSWER", hint)


def from_error(error: EarwitnessError) -> Failure:
    """What an error of the house means to who typed the command."""
    code = _BY_REASON.get(error.reason) or _BY_KIND.get(error.kind, Exit.FAILED)
    return Failure(code, error.message, error.reason, _HINTS.get(error.reason, ""))
