"""Names of lines and buckets as people know them."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from appliance.cli.context import CALL_TIMEOUT_S, Box
from earwitness import pages
from earwitness.v1 import tenants_pb2

Titles = dict[str, str]
"""What lines are called, by resource name."""


def titles(services: Box) -> Titles:
    """Of all lines."""
    found: Titles = {}
    request = tenants_pb2.ListLinesRequest(parent="tenants/-", page_size=1000)
    for answer in pages(services.tenants.ListLines, request, timeout=CALL_TIMEOUT_S):
        found |= {line.name: line.display_name for line in answer.lines}
    return found


def bucket(name: str, lines: Titles) -> str:
    """Reception 2026-11; a line that is not known by its id."""
    if name.endswith("/bucket"):
        return f"hold {name.split('/')[-2]}"
    line, _, slice_ = name.partition("/buckets/")
    return f"{lines.get(line, line.rsplit('/', 1)[-1])} {slice_}".strip()


def sentence(text: str, lines: Titles) -> str:
    """A reason with lines called as people call them."""
    for name, title in lines.items():
        text = text.replace(f"line {name.rsplit('/', 1)[-1]}", f"line {title}")
    return text


def policy(name: str, lines: Titles) -> str:
    """The box, tenant X, line Reception."""
    scope = name.removesuffix("retentionPolicy").rstrip("/")
    if not scope:
        return "the box"
    if "/lines/" in scope:
        return f"line {lines.get(scope, scope.rsplit('/', 1)[-1])}"
    return f"tenant {scope.rsplit('/', 1)[-1]}"


def day(stamp: Timestamp) -> str:
    """2029-03-01, as rules count: UTC; nothing for an unset time."""
    return datetime.fromtimestamp(stamp.seconds, UTC).date().isoformat() if stamp.seconds else ""
