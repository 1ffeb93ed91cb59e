"""Any public method with any request: what the generated tests of access and isolation stand on."""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

import earwitness.v1

WATCH_S = 0.4  # how long a stream without end is listened to
CALL_S = 15.0
MOST_MESSAGES = 200


KINDS: Sequence[tuple[str, Callable[[str], bool]]] = (
    ("StaffMember", lambda name: "/staffMembers/" in name),
    ("Notice", lambda name: "/notices/" in name),
    ("Acknowledgement", lambda name: "/acknowledgements/" in name or "/notices/" in name),
    ("Scorecard", lambda name: "/scorecards/" in name),
    ("ReviewRule", lambda name: "/reviewRules/" in name),
    ("ReviewSettings", lambda name: name.endswith("/reviewSettings")),
    ("Review", lambda name: "/reviews/" in name),
    ("Document", lambda name: "documents/" in name),
    ("AlarmChannel", lambda name: "/alarmChannels/" in name),
    ("Alarm", lambda name: "/alarms/" in name),
    *(
        (word, lambda name: "/subjectRequests/" in name)
        for word in (
            "SubjectRequest",
            "SubjectClock",
            "SubjectRecordings",
            "SubjectChoice",
            "MakeSubjectPack",
        )
    ),
    ("SubjectPack", lambda name: "/subjectPacks/" in name),
    ("Restriction", lambda name: "/restrictions/" in name),
    ("Objection", lambda name: "/restrictions/" in name),
    ("LegalHold", lambda name: "/legalHolds/" in name),
    ("Recording", lambda name: "/recordings/" in name),
    ("Waveform", lambda name: "/recordings/" in name),
    ("Explain", lambda name: "/recordings/" in name),
    ("Note", lambda name: "/recordings/" in name),
    ("Note", lambda name: "/notes/" in name),
    ("Sidecar", lambda name: "/recordings/" in name),
    ("Tags", lambda name: "/recordings/" in name),
    ("Evidence", lambda name: "/recordings/" in name),
    ("Purpose", lambda name: "/purposes/" in name),
    ("Operation", lambda name: "/operations/" in name),
    ("Grant", lambda name: "/grants/" in name),
    ("ExitPack", lambda name: "/exitPacks/" in name),
    ("Closing", lambda name: name.count("/") == 1 or ("/lines/" in name and name.count("/") == 3)),
    *((word, lambda name: "identities/" in name) for word in ("Identity", "Identities", "Certificate")),
    *((word, lambda name: "identities/" in name) for word in ("Session", "Subject", "Passphrase")),
    ("CallRecordSource", lambda name: "/callRecordSources/" in name),
    ("CallRecords", lambda name: "/callRecordSources/" in name or "/completenessDays/" in name),
    ("CompletenessReport", lambda name: "/completenessDays/" in name),
    ("Call", lambda name: "/calls/" in name),
    ("Line", lambda name: "/lines/" in name and name.count("/") == 3),
    ("RetentionPolicy", lambda name: name.endswith("/retentionPolicy")),
    ("PendingChange", lambda name: name.endswith("/retentionPolicy")),
    ("Prompt", lambda name: "/prompts/" in name),
    ("TenantKeys", lambda name: name.endswith("/keys")),
    ("KeyMode", lambda name: name.endswith("/keys")),
    ("TenantPassphrase", lambda name: name.endswith("/keys")),
    ("lockTenant", lambda name: name.endswith("/keys")),
    ("LockTenant", lambda name: name.endswith("/keys")),
    ("Tenant", lambda name: name.count("/") == 1),
)
"""Which names a method is about, by a word in its own."""


@dataclass(frozen=True)
class Method:
    """A method of the public contract."""

    path: str
    descriptor: MethodDescriptor

    @property
    def request_type(self) -> type[Any]:
        return message_factory.GetMessageClass(self.descriptor.input_type)

    @property
    def watches(self) -> bool:
        return self.descriptor.name.startswith("Watch")


@dataclass(frozen=True)
class Outcome:
    """What came of a call: everything that reached the caller."""

    code: str
    reason: str
    messages: tuple[Any, ...]
    raw: bytes  # all of it, as it came: messages, the text and the details of the error

    @property
    def refused_by_role(self) -> bool:
        return self.reason == "METHOD_DENIED"


def methods() -> list[Method]:
    """All of them, in the order of their paths."""
    found = []
    for module in pkgutil.iter_modules(earwitness.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"earwitness.v1.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                found += [Method(f"/{service.full_name}/{one.name}", one) for one in service.methods]
    return sorted(found, key=lambda one: one.path)


def call(channel: grpc.Channel, method: Method, request: Any) -> Outcome:
    """Call it, and gather what comes; a stream that does not end is left after a while."""
    shape = descriptor_pb2.MethodDescriptorProto()
    method.descriptor.CopyToProto(shape)
    kind = ("stream_" if shape.client_streaming else "unary_") + (
        "stream" if shape.server_streaming else "unary"
    )
    answer_type = message_factory.GetMessageClass(method.descriptor.output_type)
    start = getattr(channel, kind)(
        method.path,
        request_serializer=method.request_type.SerializeToString,
        response_deserializer=answer_type.FromString,
    )
    sent = iter([request]) if shape.client_streaming else request
    got: list[Any] = []
    code, raw = "OK", b""
    reason = ""
    try:
        answer = start(sent, timeout=WATCH_S if method.watches else CALL_S)
        if shape.server_streaming:
            for message in answer:
                got.append(message)
                if len(got) == MOST_MESSAGES:
                    answer.cancel()
                    break
        else:
            got.append(answer)
    except grpc.RpcError as error:
        code = error.code().name
        if not (method.watches and code == "DEADLINE_EXCEEDED"):
            raw = (error.details() or "").encode() + b"".join(
                value if isinstance(value, bytes) else value.encode()
                for key, value in error.trailing_metadata() or ()
                if key != "x-request-id"
            )
            reason = earwitness.details(error).reason
    return Outcome(code, reason, tuple(got), raw + b"".join(one.SerializeToString() for one in got))


class Maker:
    """Makes requests: every field perhaps said, names drawn from what there is, texts from what a caller may try."""

    def __init__(self, rng: random.Random, names: Sequence[str], texts: Sequence[str]) -> None:
        self.rng = rng
        self.names = names
        self.texts = texts

    def request(self, method: Method) -> Any:
        self._fitting = [
            name
            for word, form in KINDS
            if word in method.descriptor.name
            for name in self.names
            if form(name)
        ]
        return self._message(method.request_type(), 0)

    def _name(self, field: FieldDescriptor) -> str:
        """Mostly one of the kind that is asked for, else anything that is a name."""
        fits = (
            [name for name in self.names if name.count("/") == 1] if field.name == "parent" else self._fitting
        )
        return self.rng.choice(fits if fits and self.rng.random() < 0.8 else self.names)

    def _message(self, message: Any, depth: int) -> Any:
        for field in message.DESCRIPTOR.fields:
            named = field.name in ("name", "parent")
            if not named and self.rng.random() < 0.6:
                continue
            if field.containing_oneof is not None and message.WhichOneof(field.containing_oneof.name):
                continue
            self._fill(message, field, depth)
        return message

    def _fill(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return
        if field.is_repeated:
            for _ in range(self.rng.randrange(3)):
                if field.type == field.TYPE_MESSAGE:
                    if depth < 3:
                        self._message(getattr(message, field.name).add(), depth + 1)
                else:
                    getattr(message, field.name).append(self._value(field))
        elif field.type == field.TYPE_MESSAGE:
            if field.message_type.full_name == "google.protobuf.FieldMask":
                if self.rng.random() < 0.5:
                    getattr(message, field.name).paths.append("*")
            elif field.message_type.full_name.startswith("google.protobuf."):
                inner = getattr(message, field.name)
                for part in inner.DESCRIPTOR.fields:
                    if part.name == "seconds":
                        inner.seconds = self.rng.choice([0, 1, 30, 1_764_000_000, 1_900_000_000])
            elif depth < 3:
                self._message(getattr(message, field.name), depth + 1)
        else:
            setattr(message, field.name, self._value(field))

    def _value(self, field: FieldDescriptor) -> Any:
        match field.type:
            case field.TYPE_STRING:
                if field.name == "filter":
                    return self.rng.choice(["", *(f'party.number = "{one}"' for one in self.texts[:2])])
                if field.name in ("page_token", "resume_token", "order_by", "request_id", "etag"):
                    return ""
                if field.name in ("name", "parent"):
                    return self._name(field)
                return self.rng.choice(self.names if self.rng.random() < 0.3 else self.texts)
            case field.TYPE_BYTES:
                return self.rng.choice([b"", b"x" * 32])
            case field.TYPE_BOOL:
                # What is only checked changes nothing, and shows nothing less.
                return self.rng.random() < 0.5
            case field.TYPE_ENUM:
                return self.rng.choice([one.number for one in field.enum_type.values])
            case field.TYPE_DOUBLE | field.TYPE_FLOAT:
                return self.rng.choice([0.0, 1.5])
            case _:
                return self.rng.choice([0, 1, 7, 1000])


def exchanged(request: Any, pairs: dict[str, str]) -> Any:
    """The same request with ids exchanged; ids are of one length, so that nothing else of it changes."""
    raw = request.SerializeToString(deterministic=True)
    for old, new in pairs.items():
        assert len(old) == len(new)
        raw = raw.replace(old.encode(), new.encode())
    return type(request).FromString(raw)


def found_in(raw: bytes, secrets: Iterable[str]) -> Iterator[str]:
    """Which of these texts stand in there."""
    for secret in secrets:
        if secret.encode() in raw:
            yield secret
