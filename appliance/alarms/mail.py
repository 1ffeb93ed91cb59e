"""Alarms as mail (RFC 5322): headers in any script as encoded words (RFC 2047), or as they are where an address needs it
(RFC 6532)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.charset import QP, Charset
from email.header import Header
from email.message import Message as Part
from email.utils import format_datetime
from types import MappingProxyType
from typing import Final

from appliance.alarms import texts
from appliance.alarms.channel import Smtp
from appliance.alarms.message import Message, What
from appliance.alarms.severity import Severity

MAX_ADDRESS: Final = 254  # RFC 5321 section 4.5.3.1.3
_CHARSET = Charset("utf-8")
_CHARSET.body_encoding = QP
_QUOTED: Final = {
    ord(one): None for one in '()<>[]:;@\\,"'
}  # specials (RFC 5322 section 3.2.3) of a display name
_DOMAIN = re.compile(r"[^!-~]|[\[\]<>()@,;:\\\"]")


def is_address(text: str) -> bool:
    """Whether it is an addr-spec (RFC 5322, RFC 6532), without folding, quotes or comments."""
    local, at, domain = text.rpartition("@")
    return bool(
        at
        and local
        and domain
        and len(text) <= MAX_ADDRESS
        and text.isprintable()
        and not re.search(r"[\s<>()\[\],;:\\\"@]", local)
        and re.fullmatch(r"[^\s<>()\[\],;:\\\"@.]+(\.[^\s<>()\[\],;:\\\"@.]+)*", domain)
        and not (local.startswith(".") or local.endswith(".") or ".." in local)
    )


def mail(messages: Sequence[Message], settings: Smtp) -> bytes:
    """The mail of one message, or of several notices together. The same messages make a mail of the same Message-ID."""
    first, several = messages[0], len(messages) > 1
    subject = texts.digest_line(messages) if several else texts.line(first)
    text = texts.digest_body(messages) if several else texts.body(first)
    more = {}
    if not several and first.what is not What.TEST:
        # Mails of an alarm lie together.
        more["References"] = message_id(f"{first.alarm.id}.alarm", first.box_name)
        if first.what is not What.CLEARED and first.alarm.severity is Severity.CRITICAL:
            more["Importance"] = "high"
    own = message_id(_id(messages), first.box_name)
    return written(settings.sender, settings.to, subject, text, first.box_name, own, first.create_ns, more)


def message_id(left: str, box_name: str) -> str:
    return f"<{left}@{_DOMAIN.sub('', box_name) or 'earwitness'}>"


def written(
    sender: str,
    to: Sequence[str],
    subject: str,
    text: str,
    box_name: str,
    own_id: str,
    create_ns: int,
    more: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """A mail. `own_id`: as `message_id` gives it; `more`: headers, in ASCII."""
    sender, *others = envelope(sender, *to)
    headers = [
        ("From", f'"{box_name.translate(_QUOTED)}" <{sender}>'),
        ("To", ",\r\n ".join(others)),
        ("Subject", _unstructured("Subject", subject)),
        ("Date", format_datetime(datetime.fromtimestamp(create_ns // 10**9, UTC))),
        ("Message-ID", own_id),
        ("Auto-Submitted", "auto-generated"),  # RFC 3834: nobody's absence answers
        *more.items(),
    ]
    part = Part()
    part.set_payload(text, _CHARSET)
    headers += part.items()
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    body = "\r\n".join(str(part.get_payload()).splitlines())
    return f"{head}\r\n{body}\r\n".encode()


def _unstructured(name: str, text: str) -> str:
    """Folded; encoded words where it is not ASCII. The older of the library's two encoders: the newer one loses spaces
    between words of which one has to be encoded."""
    charset = "us-ascii" if text.isascii() else "utf-8"
    return Header(text, charset, header_name=name).encode(linesep="\r\n")


def envelope(*addresses: str) -> list[str]:
    """Sender and recipients as they are said to the server, domains in ASCII (RFC 5891)."""
    return [_ascii_domain(one) for one in addresses]


def _ascii_domain(address: str) -> str:
    local, _, domain = address.rpartition("@")
    try:
        return f"{local}@{domain.encode('idna').decode()}"
    except UnicodeError:
        return address  # what an older encoding does not know is left to the server


def _id(messages: Sequence[Message]) -> str:
    if len(messages) == 1:
        return messages[0].id
    return hashlib.sha256("\n".join(sorted(one.id for one in messages)).encode()).hexdigest()[:32]
