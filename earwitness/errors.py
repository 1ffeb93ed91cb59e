"""What the box says when it refuses: a stable reason, data, the fields to blame, and when to come again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory

_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class Details:
    """What is said beyond code and message. docs/errors.md lists the reasons."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    data: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    """What is wrong with which field of the request."""
    retry_after_s: float | None = None
    request_id: str = ""
    """Names this call in the box's logs."""


def details(error: grpc.RpcError) -> Details:
    """The details of an error that a call raised. Empty where the error is not the box's, as when it is not reached."""
    code = error.code() if hasattr(error, "code") else grpc.StatusCode.UNKNOWN
    message = error.details() if hasattr(error, "details") else ""
    trailing: Any = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    metadata = dict(trailing or ())
    reason, retry = "", None
    data: dict[str, str] = {}
    fields: dict[str, str] = {}
    raw = metadata.get(_KEY)
    if isinstance(raw, bytes):
        for packed in _STATUS.FromString(raw).details:
            match packed.type_url.rpartition("/")[2]:
                case "google.rpc.ErrorInfo":
                    info = _ERROR_INFO.FromString(packed.value)
                    reason, data = info.reason, dict(info.metadata)
                case "google.rpc.BadRequest":
                    request = _BAD_REQUEST.FromString(packed.value)
                    fields = {item.field: item.description for item in request.field_violations}
                case "google.rpc.RetryInfo":
                    delay = _RETRY_INFO.FromString(packed.value).retry_delay
                    retry = delay.seconds + delay.nanos / 1e9
    request_id = str(metadata.get("x-request-id", ""))
    return Details(code, message or "", reason, data, fields, retry, request_id)


def _messages() -> tuple[Any, Any, Any, Any]:
    """The few standard messages of google.rpc that are read here, in a pool of their own.

    googleapis-common-protos has them all, but an integrator who has another release of it, or none, is not disturbed.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="earwitness/rpc_details.proto",
        package="earwitness.rpc",
        syntax="proto3",
        dependency=[any_pb2.DESCRIPTOR.name, duration_pb2.DESCRIPTOR.name],
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED

    def message(holder: Any, name: str, *members: tuple[str, int, Any, Any, str]) -> Any:
        made = holder.add(name=name)
        for member, number, label, kind, type_name in members:
            made.field.add(name=member, number=number, label=label, type=kind, type_name=type_name or None)
        return made

    text = kinds.TYPE_STRING
    message(
        file.message_type,
        "Status",
        ("code", 1, one, kinds.TYPE_INT32, ""),
        ("message", 2, one, text, ""),
        ("details", 3, many, kinds.TYPE_MESSAGE, ".google.protobuf.Any"),
    )
    info = message(
        file.message_type,
        "ErrorInfo",
        ("reason", 1, one, text, ""),
        ("domain", 2, one, text, ""),
        ("metadata", 3, many, kinds.TYPE_MESSAGE, ".earwitness.rpc.ErrorInfo.MetadataEntry"),
    )
    entry = message(info.nested_type, "MetadataEntry", ("key", 1, one, text, ""), ("value", 2, one, text, ""))
    entry.options.map_entry = True
    bad = message(
        file.message_type,
        "BadRequest",
        ("field_violations", 1, many, kinds.TYPE_MESSAGE, ".earwitness.rpc.BadRequest.FieldViolation"),
    )
    message(bad.nested_type, "FieldViolation", ("field", 1, one, text, ""), ("description", 2, one, text, ""))
    message(
        file.message_type,
        "RetryInfo",
        ("retry_delay", 1, one, kinds.TYPE_MESSAGE, ".google.protobuf.Duration"),
    )
    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2.DESCRIPTOR, duration_pb2.DESCRIPTOR):
        pool.AddSerializedFile(known.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    found = [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"earwitness.rpc.{name}"))
        for name in ("Status", "ErrorInfo", "BadRequest", "RetryInfo")
    ]
    return found[0], found[1], found[2], found[3]


_STATUS, _ERROR_INFO, _BAD_REQUEST, _RETRY_INFO = _messages()
