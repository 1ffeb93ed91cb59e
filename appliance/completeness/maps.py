"""The column map: which column of a switchboard's file is what, and how it writes times, durations and numbers."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from appliance.completeness.errors import RecordMapError
from appliance.model import Direction

MAX_COLUMN: Final = 256  # positions count to this
ISO: Final = "iso"
EPOCH: Final = "epoch"
EPOCH_MS: Final = "epoch-ms"
_DIRECTIVE = re.compile(r"%(.)")
_DIRECTIVES: Final = frozenset("YymdHIMSfpzbB%")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f]*")


class RecordMap(BaseModel):
    """A column is named as the file's first row does, without regard to case, or by its position, from 1.

    Empty: the file does not have it. `start` and one of `duration`, `end` are needed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_max_length=100)

    encoding: Literal["utf-8", "cp1252", "latin-1", "utf-16"] = (
        "utf-8"  # a byte order mark may stand before UTF-8
    )
    delimiter: str = Field(",", pattern=r"^[,;|\t^~]$")
    header_rows: int = Field(1, ge=0, le=5)  # the first of them has the names
    start: str = Field(min_length=1)  # when the call came up, or was dialled
    start_time: str = ""  # where `start` holds the day alone
    answer: str = ""  # when it was answered; empty or 0 there: it was not
    end: str = ""
    ring: str = ""  # how long it rang, in seconds: another way to say `answer`
    duration: str = ""  # of talk
    from_number: str = ""
    to_number: str = ""
    extension: str = ""  # of whoever talked: the agent
    direction: str = ""
    internal: str = ""  # a column that says 1, Y or true of calls within the house
    disposition: str = ""
    call_id: tuple[str, ...] = Field((), max_length=4)  # several are joined by a dash
    time_format: str = Field(ISO, min_length=1, max_length=40)  # iso, epoch, epoch-ms, or as for strptime
    time_zone: str = ""  # of times that do not say their own; empty: the tenant's
    duration_format: Literal["seconds", "clock", "milliseconds"] = "seconds"  # clock: h:mm:ss or m:ss
    decimal_comma: bool = False
    directions: dict[str, Direction] = Field({}, max_length=32)  # what the column `direction` says
    answered: tuple[str, ...] = Field(
        (), max_length=32
    )  # what `disposition` says of answered calls; empty: talk decides
    strip: tuple[str, ...] = Field(
        (), max_length=8
    )  # what stands before numbers, such as E before extensions

    @field_validator("*")
    @classmethod
    def _printable(cls, value: Any) -> Any:
        some = value if isinstance(value, (tuple, dict)) else (value,)
        for text in some:
            if isinstance(text, str) and text != "\t" and not _PLAIN.fullmatch(text):
                raise ValueError("should have no control characters")
        return value

    @field_validator("time_format")
    @classmethod
    def _format(cls, value: str) -> str:
        if value in (ISO, EPOCH, EPOCH_MS):
            return value
        found = _DIRECTIVE.findall(value)
        if (
            not found
            or not _DIRECTIVES.issuperset(found)
            or value.count("%") != len(found) + found.count("%")
        ):
            raise ValueError("should be iso, epoch, epoch-ms, or a format such as %d/%m/%Y %H:%M:%S")
        return value

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            zoneinfo.ZoneInfo(value or "UTC")
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("should be a time zone such as Europe/London") from None
        return value

    @field_validator("answered", "strip")
    @classmethod
    def _said(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(value):
            raise ValueError("should not be empty texts")
        return value

    @model_validator(mode="after")
    def _enough(self) -> RecordMap:
        if not (self.duration or self.end):
            raise ValueError("duration or end is needed")
        if self.time_format == EPOCH and self.start_time:
            raise ValueError("start_time goes with a day in start, not with epoch")
        for column in self.columns().values():
            if self.header_rows == 0 and not column.isdecimal():
                raise ValueError("without header_rows columns are positions, from 1")
            if column.isdecimal() and not 1 <= int(column[:9]) <= MAX_COLUMN:
                raise ValueError(f"positions count from 1 to {MAX_COLUMN}")
        return self

    def columns(self) -> dict[str, str]:
        """Every column that is named, by what it is; parts of the call's id as call_id.0 and so on."""
        single = (
            *("start", "start_time", "answer", "end", "ring", "duration", "from_number", "to_number"),
            *("extension", "direction", "internal", "disposition"),
        )
        found = {name: getattr(self, name) for name in single}
        found |= {f"call_id.{place}": column for place, column in enumerate(self.call_id)}
        return {name: column for name, column in found.items() if column}


def checked(said: Mapping[str, Any]) -> RecordMap:
    """A map from what somebody said; RecordMapError names the field."""
    try:
        return RecordMap.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(part for part in first["loc"][:1] if isinstance(part, str))
        message = first["msg"].removeprefix("Value error, ")
        raise RecordMapError(message, field=f"map.{place}" if place else "map") from None
