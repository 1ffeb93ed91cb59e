"""Typed access to the headers of a message.

What a user agent cannot do without (Via, From, To, Call-ID, CSeq, Contact, routes, Require, Content-Type) raises
`SipParseError` when it is malformed. Everything else reads as absent when it is malformed: RFC 3261, section 8.2, wants
broken headers that are not needed to be ignored. Values are read once and kept until the headers change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from appliance.media.sip.errors import SipParseError
from appliance.media.sip.grammar import WS, Params, is_token, parse_uint, split_list, split_outside
from appliance.media.sip.headers import Headers
from appliance.media.sip.values import (
    CSeq,
    DialogRef,
    Disposition,
    MediaType,
    NameAddr,
    RAck,
    SessionExpires,
    Via,
)

T = TypeVar("T")
MAX_ELEMENTS = 256  # of one list of hops or addresses: Max-Forwards allows no more


class Fields:
    """The typed accessors that requests and responses share."""

    __slots__ = ()

    headers: Headers

    # -- needed: SipParseError when malformed ----------------------------------------------------------------------

    @property
    def via(self) -> tuple[Via, ...]:
        """All hops, topmost first."""
        return self._cached("via", self._read_vias)

    @property
    def top_via(self) -> Via | None:
        """The topmost hop, readable even where a later one is broken: what a response is sent by."""
        return self._cached("top-via", self._read_top_via)

    @property
    def from_(self) -> NameAddr:
        return self._needed("From", NameAddr.parse)

    @property
    def to(self) -> NameAddr:
        return self._needed("To", NameAddr.parse)

    @property
    def call_id(self) -> str:
        return self._needed("Call-ID", str)

    @property
    def cseq(self) -> CSeq:
        return self._needed("CSeq", CSeq.parse)

    @property
    def contacts(self) -> tuple[NameAddr, ...]:
        """All contacts; none where it is `*`."""
        return self._cached("contact", lambda: () if self.contact_star else self._addresses("Contact"))

    @property
    def contact(self) -> NameAddr | None:
        """The first contact: the remote target of a dialog."""
        contacts = self.contacts
        return contacts[0] if contacts else None

    @property
    def contact_star(self) -> bool:
        return (self.headers.get("Contact") or "").strip(WS) == "*"

    @property
    def route(self) -> tuple[NameAddr, ...]:
        return self._cached("route", lambda: self._addresses("Route"))

    @property
    def record_route(self) -> tuple[NameAddr, ...]:
        return self._cached("record-route", lambda: self._addresses("Record-Route"))

    @property
    def content_type(self) -> MediaType | None:
        value = self.headers.get("Content-Type")
        if not value:
            return None
        return self._cached("content-type", lambda: MediaType.parse(value))

    @property
    def require(self) -> tuple[str, ...]:
        """Option tags in lower case."""
        return self._cached("require", lambda: tuple(tag.lower() for tag in self.headers.get_list("Require")))

    # -- optional: absent when malformed -----------------------------------------------------------------------------

    @property
    def content_disposition(self) -> Disposition | None:
        return self._optional("Content-Disposition", Disposition.parse)

    @property
    def max_forwards(self) -> int | None:
        """0 to 255; None where it is absent or out of range (RFC 4475, section 3.1.2.4)."""
        value = self.headers.get("Max-Forwards")
        return None if value is None else parse_uint(value, 255)

    @property
    def supported(self) -> tuple[str, ...]:
        """Option tags in lower case."""
        return tuple(tag.lower() for tag in self._tokens("Supported"))

    @property
    def proxy_require(self) -> tuple[str, ...]:
        return tuple(tag.lower() for tag in self._tokens("Proxy-Require"))

    @property
    def unsupported(self) -> tuple[str, ...]:
        return tuple(tag.lower() for tag in self._tokens("Unsupported"))

    @property
    def allow(self) -> tuple[str, ...]:
        """Methods, as written: they are case-sensitive."""
        return self._tokens("Allow")

    @property
    def accept(self) -> tuple[MediaType, ...] | None:
        """Media ranges; None where the header is absent, which means application/sdp (section 20.1)."""
        if "Accept" not in self.headers:
            return None
        return self._cached("accept", self._read_accept)

    @property
    def expires(self) -> int | None:
        value = self.headers.get("Expires")
        return None if value is None else parse_uint(value)

    @property
    def session_expires(self) -> SessionExpires | None:
        return self._optional("Session-Expires", SessionExpires.parse)

    @property
    def min_se(self) -> int | None:
        value = self.headers.get("Min-SE")
        return None if value is None else parse_uint(value.partition(";")[0].rstrip(WS))

    @property
    def rseq(self) -> int | None:
        value = self.headers.get("RSeq")
        return None if value is None else parse_uint(value)

    @property
    def retry_after(self) -> int | None:
        """Seconds, without comment and parameters."""
        value = self.headers.get("Retry-After")
        return None if value is None else parse_uint(value.partition(";")[0].partition("(")[0].strip(WS))

    @property
    def rack(self) -> RAck | None:
        return self._optional("RAck", RAck.parse)

    @property
    def replaces(self) -> DialogRef | None:
        return self._optional("Replaces", DialogRef.parse)

    @property
    def join(self) -> DialogRef | None:
        return self._optional("Join", DialogRef.parse)

    @property
    def reasons(self) -> tuple[tuple[str, Params], ...]:
        """Reason header (RFC 3326): protocol and parameters (`cause`, `text`) of each value."""
        return self._cached("reason", self._read_reasons)

    # -- how ---------------------------------------------------------------------------------------------------------

    def _cached(self, key: str, read: Callable[[], T]) -> T:
        cache = self.headers.cache
        if key not in cache:
            cache[key] = read()
        value: T = cache[key]
        return value

    def _needed(self, name: str, parse: Callable[[str], T]) -> T:
        def read() -> T:
            value = self.headers.get(name)
            if not value:
                raise SipParseError(f"{name} is missing", field=name)
            try:
                return parse(value)
            except SipParseError as error:
                raise SipParseError(f"{name}: {error.message}", field=name) from error

        return self._cached(name.lower(), read)

    def _optional(self, name: str, parse: Callable[[str], T]) -> T | None:
        def read() -> T | None:
            value = self.headers.get(name)
            if not value:
                return None
            try:
                return parse(value)
            except SipParseError:
                return None

        return self._cached(name.lower(), read)

    def _tokens(self, name: str) -> tuple[str, ...]:
        def read() -> tuple[str, ...]:
            try:
                return tuple(tag for tag in self.headers.get_list(name) if is_token(tag))
            except SipParseError:
                return ()

        return self._cached(name.lower(), read)

    def _addresses(self, name: str) -> tuple[NameAddr, ...]:
        try:
            elements = self.headers.get_list(name)
            if len(elements) > MAX_ELEMENTS:
                raise SipParseError("there are too many")
            return tuple(NameAddr.parse(element) for element in elements)
        except SipParseError as error:
            raise SipParseError(f"{name}: {error.message}", field=name) from error

    def _read_vias(self) -> tuple[Via, ...]:
        elements = [element for value in self.headers.get_all("Via") for element in split_outside(value, ",")]
        if not elements:
            raise SipParseError("Via is missing", field="Via")
        if len(elements) > MAX_ELEMENTS:
            raise SipParseError("there are too many hops", status=483, field="Via")
        return tuple(Via.parse(element) for element in elements)

    def _read_top_via(self) -> Via | None:
        value = self.headers.get("Via")
        if not value:
            return None
        try:
            return Via.parse(split_outside(value, ",")[0])
        except SipParseError:
            pass
        try:  # the parameters may be what is broken: the address alone tells where to answer
            return Via.parse(value.partition(",")[0].partition(";")[0])
        except SipParseError:
            return None

    def _read_accept(self) -> tuple[MediaType, ...]:
        ranges = []
        for value in self.headers.get_all("Accept"):
            try:
                ranges += [MediaType.parse(element) for element in split_list(value)]
            except SipParseError:
                continue
        return tuple(ranges)

    def _read_reasons(self) -> tuple[tuple[str, Params], ...]:
        try:
            elements = self.headers.get_list("Reason")
            split = [element.partition(";") for element in elements]
            return tuple((protocol.strip(WS), Params.parse(params)) for protocol, _, params in split)
        except SipParseError:
            return ()
