"""Partial updates by field mask (AIP-134, AIP-161)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from appliance.api.errors import FieldInvalidError

_NOTHING: Final[dict[str, str]] = {}


def paths(
    mask: FieldMask, said: Message, fields: Collection[str], elsewhere: dict[str, str] = _NOTHING
) -> list[str]:
    """What to change, by field path: of these fields. `elsewhere`: what is said of fields that others change.

    FieldInvalidError where something else is named.
    """
    found = list(dict.fromkeys(mask.paths))
    if "*" in found:
        if len(found) > 1:
            raise FieldInvalidError("* stands alone", field="update_mask")
        return list(fields)
    if not found:
        return [field.name for field, _ in said.ListFields() if field.name in fields]
    descriptor: Any = said.DESCRIPTOR
    for path in found:
        first = path.partition(".")[0]
        if first in elsewhere:
            raise FieldInvalidError(elsewhere[first], field="update_mask")
        if first not in fields or not FieldMask(paths=[path]).IsValidForDescriptor(descriptor):
            raise FieldInvalidError("names what is no field that can be changed", field="update_mask")
    return found


def merged(now: Any, said: Any, paths: list[str]) -> Any:
    """The message as it is, with what was said in the place of what the paths name."""
    source = type(said)()
    source.CopyFrom(said)
    for path in paths:
        # A message on the way that was not said: what is named in it is to be cleared, not left.
        *way, _ = path.split(".")
        message: Any = source
        for name in way:
            message = getattr(message, name)
            message.SetInParent()
    FieldMask(paths=paths).MergeMessage(source, now, replace_message_field=True, replace_repeated_field=True)
    return now
