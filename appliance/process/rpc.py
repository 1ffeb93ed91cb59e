"""gRPC between the box's processes: Unix sockets, and errors of the house that cross them with reason and data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from appliance.config.layout import Layout
from appliance.model import EarwitnessError, Kind

DOMAIN = "earwitness"
DETAILS_KEY = "grpc-status-details-bin"
MESSAGE_LIMIT = (
    16 * 1024 * 1024
)  # a session's context with evidence is large, a message from the network never is
ANSWER_LIMIT: Final = 2 << 20
"""Bytes of a list in one answer: told on to a client, with full names, still below the 4 MiB that it takes."""
OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
)
CHANNEL_OPTIONS = (
    *OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
)

Listed = TypeVar("Listed", bound=Message)

CODES: dict[Kind, grpc.StatusCode] = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Kind.PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.CONFLICT: grpc.StatusCode.ABORTED,
    Kind.DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Kind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.CORRUPT: grpc.StatusCode.DATA_LOSS,
    Kind.INTERNAL: grpc.StatusCode.INTERNAL,
}
_KINDS = {code: kind for kind, code in CODES.items()}


class RemoteError(EarwitnessError):
    """An error of the house that another process raised: its kind and reason are the other side's."""

    def __init__(self, message: str, kind: Kind, reason: str, **data: object) -> None:
        super().__init__(message, **data)
        self.kind = kind  # type: ignore[misc]
        self.reason = reason  # type: ignore[misc]


def to_status(error: EarwitnessError) -> status_pb2.Status:
    """The rich status of an error: ErrorInfo with reason and data, BadRequest where a field is to blame."""
    details = []
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for name, value in error.data.items():
        info.metadata[name] = value if isinstance(value, str) else json.dumps(value)
    details.append(_any(info))
    if error.kind is Kind.INVALID and isinstance(field := error.data.get("field"), str):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=field, description=error.message, reason=error.reason
        )
        details.append(_any(error_details_pb2.BadRequest(field_violations=[violation])))
    code: int = CODES[error.kind].value[0]
    return status_pb2.Status(code=code, message=error.message, details=details)


def _any(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def fitting(some: Iterable[Listed], most: int | None = None) -> list[Listed]:
    """The first of some messages, one at least: at most so many, and no more than fit in an answer."""
    found: list[Listed] = []
    size = 0
    for one in some:
        size += one.ByteSize()
        if len(found) == most or (found and size > ANSWER_LIMIT):
            break
        found.append(one)
    return found


def unexpected() -> status_pb2.Status:
    """What a caller is told of a fault of ours: nothing that could hold personal data. The log has the rest."""
    return status_pb2.Status(
        code=code_pb2.INTERNAL, message="internal fault; the log of the process says more"
    )


def grpc_status(status: status_pb2.Status) -> grpc.Status:
    """As a gRPC status, for context.abort_with_status."""
    return rpc_status.to_status(status)


def from_rpc_error(error: grpc.RpcError) -> EarwitnessError:
    """The error of the house that came over the wire; UNAVAILABLE where the other process does not answer."""
    code = error.code() if hasattr(error, "code") else grpc.StatusCode.UNKNOWN
    message = (error.details() if hasattr(error, "details") else "") or code.name
    reason, data = code.name, {}
    # AioRpcError is no grpc.Call, so the status is read from the metadata, the same for both.
    metadata: Any = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    packed: list[any_pb2.Any] = []
    for key, value in metadata or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            packed += status_pb2.Status.FromString(value).details
    for detail in packed:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason, data = info.reason, dict(info.metadata)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return RemoteError(message, Kind.UNAVAILABLE, reason, **data)
    return RemoteError(message, _KINDS.get(code, Kind.INTERNAL), reason, **data)


def target(layout: Layout, process: str) -> str:
    """Where a process is reached."""
    return f"unix:{layout.socket(process).absolute()}"


def channel(layout: Layout, process: str) -> grpc.Channel:
    """A channel to a process of this box; it comes back by itself when the process does."""
    return grpc.insecure_channel(target(layout, process), options=CHANNEL_OPTIONS)


def aio_channel(layout: Layout, process: str) -> grpc.aio.Channel:
    """The same for asyncio."""
    return grpc.aio.insecure_channel(target(layout, process), options=CHANNEL_OPTIONS)


Register = Callable[[Any], None]
