"""Names of buckets, slices, snapshots and holds: opaque, bounded, the same on every medium."""

from __future__ import annotations

import calendar
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from appliance.model import InvalidError, is_id

HOLD_LINE: Final = "hold"
"""In the place of a line: the bucket of a legal hold, whose slice is then the case's id."""
GUARD: Final = "guard"
"""The snapshot every bucket is born with."""
GUARD_TAG: Final = "ew.guard"
MAX_VALUE_BYTES: Final = 1024
MAX_PROPERTIES: Final = 16
MAX_MARK_BYTES: Final = 128
_SLICE = re.compile(r"[0-9]{4}-(?:[0-9]{2}(?:-[0-9]{2})?|W[0-9]{2})")
_SNAPSHOT = re.compile(
    r"guard|g-[1-9][0-9]{0,11}|h-[a-z2-7]{26}-[1-9][0-9]{0,11}|r-[a-z0-9]{1,32}-[1-9][0-9]{0,11}"
)
_TAG = re.compile(r"ew\.(?:guard|grace|case\.[a-z2-7]{26}|replica\.[a-z0-9]{1,32})")
_PROPERTY = re.compile(r"ew:[a-z][a-z0-9_]{0,30}")
_MARK = re.compile(rf"[A-Za-z0-9._:-]{{1,{MAX_MARK_BYTES}}}")
_DAY_NS: Final = 86_400 * 1_000_000_000


class BucketNameError(InvalidError):
    """No bucket can have this name."""

    reason = "BUCKET_NAME"


class SnapshotNameError(InvalidError):
    """No snapshot, tag or property of ours has this name."""

    reason = "SNAPSHOT_NAME"


class SliceUnit(enum.StrEnum):
    """How long a bucket's time slice is: about a thirtieth of the retention."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def slice_of(at_ns: int, unit: SliceUnit = SliceUnit.DAY) -> str:
    """The slice of a time (UTC): 2026-11-25, 2026-W48 (ISO 8601 week) or 2026-11."""
    when = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC)
    if unit is SliceUnit.DAY:
        return when.strftime("%Y-%m-%d")
    if unit is SliceUnit.MONTH:
        return when.strftime("%Y-%m")
    year, week, _ = when.isocalendar()
    return f"{year:04d}-W{week:02d}"


def _days(slice_: str) -> tuple[date, date]:
    """First day of a slice, and first day after it. ValueError where there is no such day."""
    if "W" in slice_:
        first = date.fromisocalendar(int(slice_[:4]), int(slice_[6:]), 1)
        return first, first + timedelta(days=7)
    if len(slice_) == 7:
        year, month = int(slice_[:4]), int(slice_[5:])
        return date(year, month, 1), date(year, month, 1) + timedelta(
            days=calendar.monthrange(year, month)[1]
        )
    first = date.fromisoformat(slice_)
    return first, first + timedelta(days=1)


def _ns(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000_000


def slice_start_ns(slice_: str) -> int:
    """When a slice begins, nanoseconds since the Unix epoch; BucketNameError where there is no such slice."""
    return _ns(_bounds(slice_)[0])


def slice_end_ns(slice_: str) -> int:
    """The first instant after a slice, nanoseconds since the Unix epoch; BucketNameError."""
    return _ns(_bounds(slice_)[1])


def _bounds(slice_: str) -> tuple[date, date]:
    try:
        return _days(slice_)
    except (ValueError, OverflowError, calendar.IllegalMonthError) as error:
        raise BucketNameError("there is no such slice of time", field="slice") from error


@dataclass(frozen=True, slots=True, order=True)
class BucketId:
    """Which bucket. BucketNameError where a part is malformed, so that a bucket's name is always safe in a path.

    `line_id` is a line's id and `slice` a slice of time; or `line_id` is HOLD_LINE and `slice` a case's id.
    """

    tenant_id: str
    line_id: str
    slice: str

    def __post_init__(self) -> None:
        timed = is_id(self.line_id) and _SLICE.fullmatch(self.slice)
        held = self.line_id == HOLD_LINE and is_id(self.slice)
        if not (is_id(self.tenant_id) and (timed or held)):
            raise BucketNameError("a bucket is named by tenant id, line id and slice", field="bucket")

    @property
    def of_hold(self) -> bool:
        """Whether it keeps what a legal hold took out of expired buckets."""
        return self.line_id == HOLD_LINE

    @property
    def path(self) -> str:
        """tenant/line/slice."""
        return f"{self.tenant_id}/{self.line_id}/{self.slice}"


@dataclass(frozen=True, slots=True, order=True)
class SnapshotId:
    """Which snapshot of which bucket: guard, g-<n> (grace), h-<case>-<n> (legal hold), r-<peer>-<n> (replica)."""

    bucket: BucketId
    name: str

    def __post_init__(self) -> None:
        check_snapshot_name(self.name)


def check_snapshot_name(name: str) -> None:
    """SnapshotNameError where it is not one of ours."""
    if not _SNAPSHOT.fullmatch(name):
        raise SnapshotNameError("no snapshot of ours has this name", field="name")


def check_tag(tag: str) -> None:
    """SnapshotNameError where it is not one of ours: ew.guard, ew.grace, ew.case.<case>, ew.replica.<peer>."""
    if not _TAG.fullmatch(tag):
        raise SnapshotNameError("no hold of ours has this tag", field="tag")


def check_properties(properties: Mapping[str, str]) -> None:
    """SnapshotNameError where a name is not `ew:` and lower-case letters, or a value has control characters or is long.

    At most MAX_PROPERTIES, values of at most MAX_VALUE_BYTES bytes of UTF-8. They lie in clear on the medium: opaque ids
    and numbers only.
    """
    if len(properties) > MAX_PROPERTIES:
        raise SnapshotNameError(f"a snapshot has at most {MAX_PROPERTIES} properties", field="properties")
    for name, value in properties.items():
        if not _PROPERTY.fullmatch(name):
            raise SnapshotNameError("no property of ours has this name", field="properties")
        if len(value.encode()) > MAX_VALUE_BYTES or not value.isprintable():
            raise SnapshotNameError("a property's value is too long, or not printable", field="properties")


def check_mark(mark: str) -> None:
    """SnapshotNameError where a mark of a bucket is not 1 to MAX_MARK_BYTES letters, digits, `.`, `_`, `:` and `-`."""
    if not _MARK.fullmatch(mark):
        raise SnapshotNameError("no bucket can be marked so", field="marks")
