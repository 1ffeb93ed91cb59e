"""What two versions of a tenant, a line or a purpose differ in, field by field, from their public messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from earwitness.v1 import tenants_pb2 as pb

MAX_CHANGES: Final = 200
# What the box chooses, and what others say.
_APART: Final = frozenset({"name", "create_time", "etag", "grain", "grace_days", "seeded"})
_KEYED: Final = {"earwitness.v1.AgentRights": "number"}


def between(before: Message | None, after: Message) -> tuple[list[pb.FieldChange], int]:
    """At most MAX_CHANGES of the changes, and how many more there are. `before` None: all that `after` says."""
    found = list(_message("", type(after)() if before is None else before, after))
    return found[:MAX_CHANGES], max(0, len(found) - MAX_CHANGES)


def _message(path: str, before: Any, after: Any) -> Iterator[pb.FieldChange]:
    for field in after.DESCRIPTOR.fields:
        if not path and field.name in _APART:
            continue
        where = f"{path}.{field.name}" if path else field.name
        old, new = getattr(before, field.name), getattr(after, field.name)
        if field.is_repeated:
            yield from _list(where, field, list(old), list(new))
        elif field.message_type is not None and not _is_plain(field):
            yield from _message(where, old, new)
        else:
            yield from _one(where, _text(field, old, before), _text(field, new, after))


def _list(where: str, field: FieldDescriptor, old: list[Any], new: list[Any]) -> Iterator[pb.FieldChange]:
    if old == new:
        return
    key = _KEYED.get(field.message_type.full_name) if field.message_type is not None else None
    if key is not None:
        olds, news = ({getattr(one, key): one for one in some} for some in (old, new))
        for name in {**olds, **news}:
            yield from _one(f"{where}[{name}]", _words(olds.get(name), key), _words(news.get(name), key))
        return
    olds_, news_ = ([_item(field, one) for one in some] for some in (old, new))
    if sorted(olds_) == sorted(news_):
        yield from _one(where, ", ".join(olds_), ", ".join(news_))
    for one in olds_:
        if one not in news_:
            yield pb.FieldChange(path=where, before=one)
    for one in news_:
        if one not in olds_:
            yield pb.FieldChange(path=where, after=one)


def _one(where: str, old: str, new: str) -> Iterator[pb.FieldChange]:
    if old != new:
        yield pb.FieldChange(path=where, before=old, after=new)


def _is_plain(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name in (
        "google.protobuf.Duration",
        "google.protobuf.Timestamp",
    )


def _text(field: FieldDescriptor, value: Any, holder: Any) -> str:
    if field.has_presence and not holder.HasField(field.name):
        return ""
    return _item(field, value)


def _item(field: FieldDescriptor, value: Any) -> str:
    if isinstance(value, duration_pb2.Duration):
        return f"{value.seconds}s"
    if isinstance(value, timestamp_pb2.Timestamp):
        return value.ToJsonString()
    if field.enum_type is not None:
        return _enum(field, value)
    if isinstance(value, Message):
        return _words(value, "")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _words(value: Any, key: str) -> str:
    """A small message on one line, without its key: what is not said is left out."""
    if value is None:
        return ""
    said = [(field, one) for field, one in value.ListFields() if field.name != key]
    return ", ".join(
        _item(field, one) if field.type != FieldDescriptor.TYPE_BOOL else field.name for field, one in said
    )


def _enum(field: FieldDescriptor, value: int) -> str:
    """PAUSE of RIGHTS_PAUSE; nothing where it is not said."""
    if not value or field.enum_type is None:
        return ""
    name = field.enum_type.values_by_number[value].name
    prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(name.removeprefix(prefix))
