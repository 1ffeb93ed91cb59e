"""Cutting a stream into SIP messages by Content-Length (RFC 3261, section 18.3), with keep-alives (RFC 5626, 4.4.1).

    framer = StreamFramer()
    try:
        for item in framer.feed(data):
            ...                       # bytes: one message for `parse_message`; KEEP_ALIVE: answer b"\\r\\n"
    except FramingError as error:
        ...                           # answer error.request with error.status where it is there, then close the connection

A stream has no way back from an unknown length: after a `FramingError` every further `feed` raises it again.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator

from appliance.media.sip.errors import SipParseError
from appliance.media.sip.message import DEFAULT_LIMITS, Limits, SipRequest, parse_message

FIRST_LINE_LIMIT = 8192

_LENGTHS = re.compile(rb"(?:^|\n)(?:content-length|l)[ \t]*:((?:[^\n]|\n[ \t])*)", re.IGNORECASE)
_HAS_BODY = re.compile(rb"\n(?:content-type|c)[ \t]*:", re.IGNORECASE)
_NUMBER = re.compile(rb"[0-9]{1,10}")
_END = re.compile(rb"\n\r?\n")
_SPACE = b" \t\r\n"


class KeepAlive(enum.Enum):
    """Two line ends between messages: the peer asks whether we are there. Answer `PONG`, once for all in one `feed`."""

    PING = "ping"


KEEP_ALIVE = KeepAlive.PING
PONG = b"\r\n"


class FramingError(SipParseError):
    """The stream cannot be cut any further: the connection must be closed."""

    reason = "SIP_FRAMING"


class StreamFramer:
    """Takes bytes as they come, in any pieces; gives whole messages, line ends before them left out."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.limits = limits
        self.error: FramingError | None = None
        self._buffer = bytearray()
        self._searched = 0  # up to here there is no end of a header section
        self._begun = False  # its first line is here, and is one of SIP
        self._line_ends = 0  # before the message, not yet made a keep-alive
        self._wanted = 0  # length of the message being received, once its headers are here

    @property
    def pending(self) -> int:
        """Octets of a message that has not ended. More than 0 when the connection closes: it was cut off."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes | KeepAlive]:
        """What `data` completes, in order. The iterator raises `FramingError` after what came before the damage."""
        if self.error is None:
            self._buffer += data
        return self._items()

    def _items(self) -> Iterator[bytes | KeepAlive]:
        while self.error is None:
            if not self._wanted:
                while (length := self._line_end()) > 0:
                    del self._buffer[:length]
                    self._line_ends = (self._line_ends + 1) % 2
                    if self._line_ends == 0:
                        yield KEEP_ALIVE
                if length < 0 or not self._buffer:
                    return
                self._line_ends = 0
                try:
                    self._wanted = self._measure()
                except FramingError as error:
                    self.error = error
                    break
            if not self._wanted or len(self._buffer) < self._wanted:
                return
            message = bytes(self._buffer[: self._wanted])
            del self._buffer[: self._wanted]
            self._wanted = self._searched = 0
            self._begun = False
            yield message
        self._buffer.clear()
        if self.error is not None:
            raise self.error

    def _line_end(self) -> int:
        """The length of a line end at the start of the buffer; 0: there is none; -1: half of one."""
        if self._searched or self._buffer[:1] not in (b"\r", b"\n"):
            return 0
        if self._buffer[0] == 10:
            return 1
        if len(self._buffer) == 1:
            return -1
        return 2 if self._buffer[1] == 10 else 1

    def _measure(self) -> int:
        """The length of the message at the start of the buffer, 0 while its headers are not complete."""
        buffer = self._buffer
        if not self._begun:
            line_end = buffer.find(b"\n", 0, FIRST_LINE_LIMIT)
            if line_end < 0 and len(buffer) < FIRST_LINE_LIMIT:
                return 0
            if line_end < 0 or b"SIP/" not in buffer[:line_end].upper():
                raise FramingError("what comes is no SIP")
            self._begun = True
        end = _END.search(buffer, max(0, self._searched - 2))
        if (end.end() if end else len(buffer)) > self.limits.header_section:
            raise FramingError("the header section is too long", status=513)
        if end is None:
            self._searched = len(buffer)
            return 0
        head = bytes(buffer[: end.end()])
        length = self._content_length(head)
        if length > self.limits.body:
            raise FramingError("the body is too long", status=513, request=_request_of(head))
        return len(head) + length

    @staticmethod
    def _content_length(head: bytes) -> int:
        values = {value.strip(_SPACE) for value in _LENGTHS.findall(head)}
        if not values:
            if _HAS_BODY.search(head):
                raise FramingError(
                    "Content-Length is missing", field="Content-Length", request=_request_of(head)
                )
            return 0
        value = values.pop()
        if values or not _NUMBER.fullmatch(value):
            raise FramingError(
                "Content-Length is no number, or several contradict each other",
                field="Content-Length",
                request=_request_of(head),
            )
        return int(value)


def _request_of(head: bytes) -> SipRequest | None:
    """The request these headers make, as far as it can be answered."""
    try:
        message = parse_message(head)
    except SipParseError as error:
        return error.request
    return message if isinstance(message, SipRequest) and message.method != "ACK" else None
