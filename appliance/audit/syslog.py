"""Entries and checkpoints as syslog messages: RFC 5424, framed as RFC 5425 section 4.3.1 has it. Sans-IO."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from appliance.audit.checkpoints import Signed
from appliance.audit.entry import Entry
from appliance.audit.tree import leaf_hash

FACILITY: Final = 13  # log audit (RFC 5424 table 1)
INFORMATIONAL: Final = 6
WARNING: Final = 4
SD_ID: Final = (
    "audit@32473"  # the enterprise number that RFC 5612 keeps for documentation: the product has none
)
APP: Final = "earwitness"
_CALM: Final = ("", "OK", "CANCELLED")
_NAME = re.compile(r"[^!-~]")
_ESCAPED = re.compile(r'(["\\\]])')


def host_name(text: str) -> str:
    """HOSTNAME of the header: printable ASCII, at most 255 characters."""
    return _NAME.sub("", text)[:255] or "-"


def entry(line: bytes, index: int, host: str) -> bytes:
    """The framed message of an entry. Its MSG is the line, its MSGID what the entry says."""
    found = Entry.of(line)
    severity = INFORMATIONAL if found.outcome in _CALM else WARNING
    data = {
        "index": str(index),
        "leaf": leaf_hash(line).hex(),
        "tenant": found.tenant,
        "who": found.who,
        "method": found.method,
        "subject": found.subject,
        "outcome": found.outcome,
    }
    return framed(severity, found.time_ns, host, found.what, data, line)


def checkpoint(signed: Signed, host: str) -> bytes:
    """The framed message of a checkpoint; MSG is its line in checkpoints.jsonl."""
    data = {"size": str(signed.checkpoint.size), "origin": signed.checkpoint.origin}
    return framed(INFORMATIONAL, signed.time_ns, host, "checkpoint", data, signed.line().rstrip(b"\n"))


def framed(
    severity: int,
    time_ns: int,
    host: str,
    kind: str,
    data: dict[str, str],
    message: bytes,
    *,
    facility: int = FACILITY,
    sd_id: str = SD_ID,
) -> bytes:
    """A message of RFC 5424 in the frame of RFC 5425. `kind`: its MSGID; `data`: its structured data; `message`: UTF-8."""
    moment = datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    kind = _NAME.sub("", kind)[:32] or "-"
    said = "".join(f' {name}="{_value(value)}"' for name, value in data.items() if value)
    header = f"<{facility * 8 + severity}>1 {moment} {host} {APP} - {kind} [{sd_id}{said}] "
    whole = header.encode() + message
    return b"%d %s" % (len(whole), whole)


def _value(text: str) -> str:
    """PARAM-VALUE: quote, backslash and bracket escaped (RFC 5424 section 6.3.3), no control characters."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return _ESCAPED.sub(r"\\\1", plain.encode("utf-8", "replace").decode())
