"""Typed header values: reading and writing Via, name-addr, CSeq, media types and the numbers of the SIP extensions."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from appliance.media.sip.errors import SipParseError
from appliance.media.sip.grammar import (
    NO_PARAMS,
    WS,
    Params,
    is_token,
    match_quoted,
    parse_uint,
    quote,
    split_outside,
    unescape_pairs,
)
from appliance.media.sip.uri import SipUri, Uri, bracketed, is_host, parse_uri

MAGIC_COOKIE = "z9hG4bK"
MAX_CSEQ = 0xFFFF_FFFF  # section 8.1.1.5 says below 2**31, but random 32-bit starts are seen and do no harm

_VIA = re.compile(
    r"([^\s/;,]+)[ \t]*/[ \t]*([^\s/;,]+)[ \t]*/[ \t]*([^\s/;,]+)[ \t]+"  # protocol, version, transport
    r"(\[[^\]\s]*\]|[^\s;:,]+)[ \t]*(?::[ \t]*([0-9]+)[ \t]*)?(;.*)?",  # host, port, parameters
    re.DOTALL,
)
_CSEQ = re.compile(r"([0-9]+)[ \t]+(\S+)")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9\-.!%*_+`'~ \t]+")


@dataclass(frozen=True, slots=True)
class Via:
    """One hop (RFC 3261, section 20.42). `transport` is upper case; `host` is without brackets."""

    transport: str
    host: str
    port: int | None = None
    params: Params = NO_PARAMS
    protocol: str = "SIP/2.0"

    @classmethod
    def parse(cls, text: str) -> Via:
        """Read one element of a Via header. Any protocol version passes. Raises `SipParseError`."""
        match = _VIA.fullmatch(text.strip(WS))
        if match is None or not is_host(match[4]):
            raise SipParseError("a Via is malformed", field="Via")
        port = None
        if match[5]:
            port = parse_uint(match[5], 65535)
            if port is None:
                raise SipParseError("a Via has no proper port", field="Via")
        host = match[4][1:-1] if match[4].startswith("[") else match[4]
        params = Params.parse(match[6]) if match[6] else NO_PARAMS
        return cls(match[3].upper(), host, port, params, f"{match[1]}/{match[2]}")

    @property
    def branch(self) -> str | None:
        return self.params.get("branch") or None

    @property
    def rfc3261_branch(self) -> str | None:
        """The branch, if it is unique as RFC 3261 promises: the magic cookie, and something after it."""
        branch = self.branch
        if branch and branch[:7].lower() == MAGIC_COOKIE.lower() and len(branch) > len(MAGIC_COOKIE):
            return branch
        return None

    @property
    def received(self) -> str | None:
        """The address the message came from, without brackets."""
        value = self.params.get("received")
        return value.strip("[]") if value else None

    @property
    def wants_rport(self) -> bool:
        """Whether `rport` is there, with a value or without (RFC 3581)."""
        return "rport" in self.params

    @property
    def rport(self) -> int | None:
        """The port the message came from, where a server has filled it in."""
        return parse_uint(self.params.get("rport") or "", 65535)

    @property
    def maddr(self) -> str | None:
        value = self.params.get("maddr")
        return value.strip("[]") if value else None

    @property
    def sent_by(self) -> str:
        """`host:port` as it stands there, in lower case: what a response is matched by (section 18.1.2)."""
        return self._sent_by().lower()

    def _sent_by(self) -> str:
        return bracketed(self.host) + ("" if self.port is None else f":{self.port}")

    def __str__(self) -> str:
        return f"{self.protocol}/{self.transport} {self._sent_by()}{self.params}"


@dataclass(frozen=True, slots=True)
class NameAddr:
    """`"display name" <uri>;params`, or a bare URI with header parameters (RFC 3261, section 20.10).

    `display_name` is without quotes and escapes; "" if there is none.
    """

    uri: Uri
    display_name: str = ""
    params: Params = NO_PARAMS

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Read From, To, one Contact, Route, ... Raises `SipParseError`.

        Unquoted display names may hold any character but quotes and commas. Spaces inside the brackets, and a "?" or
        "," in a URI without brackets, are refused, as RFC 4475 (3.1.2.13 to 15) has it.
        """
        text = text.strip(WS)
        name = ""
        if text.startswith('"'):
            match = match_quoted(text)
            if match is None:
                raise SipParseError("a quoted display name is never closed")
            name = unescape_pairs(match[1])
            text = text[match.end() :].lstrip(WS)
            if not text.startswith("<"):
                raise SipParseError("no URI in angle brackets after a display name")
            open_at = 0
        else:
            open_at = text.find("<")
            if open_at > 0:
                name = text[:open_at].rstrip(WS)
                if '"' in name or "," in name:
                    raise SipParseError("a display name holds a quote or comma unquoted")
        if open_at >= 0:
            close_at = text.find(">", open_at)
            if close_at < 0:
                raise SipParseError("an angle bracket is never closed")
            rest = text[close_at + 1 :].strip(WS)
            if rest and not rest.startswith(";"):
                raise SipParseError("stray text after an address")
            return cls(parse_uri(text[open_at + 1 : close_at]), name, Params.parse(rest))
        address, _, params = text.partition(";")
        if "?" in address or "," in address:
            raise SipParseError("a URI that needs angle brackets has none")
        return cls(parse_uri(address.rstrip(WS)), "", Params.parse(params))

    @property
    def tag(self) -> str | None:
        return self.params.get("tag") or None

    def with_tag(self, tag: str) -> NameAddr:
        return replace(self, params=self.params.with_param("tag", tag))

    def has_feature(self, feature: str) -> bool:
        """Whether a feature tag (RFC 3840) such as "sip.src" is there, as the real world writes it.

        That is `;+sip.src`, `;sip.src` or a bare `;src`, after the angle brackets or inside of them.
        """
        bare = feature.lower().removeprefix("+")
        spellings = (f"+{bare}", bare, bare.rpartition(".")[2])
        places: tuple[Params, ...] = (self.params,)
        if isinstance(self.uri, SipUri):
            places += (self.uri.params,)
        return any(
            (value := place.get(spelling)) is not None and value.lower() != "false"
            for place in places
            for spelling in spellings
        )

    def __str__(self) -> str:
        name = self.display_name
        if name:
            name = f"{name} " if _PLAIN_NAME.fullmatch(name) and name == name.strip(WS) else f"{quote(name)} "
        return f"{name}<{self.uri}>{self.params}"


@dataclass(frozen=True, slots=True)
class CSeq:
    """Sequence number and method (section 20.16)."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        match = _CSEQ.fullmatch(text.strip(WS))
        number = parse_uint(match[1], MAX_CSEQ) if match else None
        if match is None or number is None or not is_token(match[2]):
            raise SipParseError("the CSeq is malformed or too large", field="CSeq")
        return cls(number, match[2])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


@dataclass(frozen=True, slots=True)
class MediaType:
    """`type/subtype;params` (section 20.15); type and subtype in lower case."""

    type: str
    subtype: str
    params: Params = NO_PARAMS

    @classmethod
    def parse(cls, text: str) -> MediaType:
        essence, semicolon, params = text.partition(";")
        kind, slash, subtype = essence.partition("/")
        kind, subtype = kind.strip(WS), subtype.strip(WS)
        if not slash or not is_token(kind) or not is_token(subtype):
            raise SipParseError("a media type is malformed", field="Content-Type")
        try:
            parsed = Params.parse(params) if semicolon else NO_PARAMS
        except (
            SipParseError
        ):  # a quote never closed: the type is what matters, and a boundary is found without quotes
            parsed = Params.parse(params.replace('"', "").replace("<", "").replace(">", ""))
        return cls(kind.lower(), subtype.lower(), parsed)

    @property
    def essence(self) -> str:
        """`type/subtype` alone."""
        return f"{self.type}/{self.subtype}"

    def __str__(self) -> str:
        return f"{self.essence}{self.params}"


@dataclass(frozen=True, slots=True)
class Disposition:
    """Content-Disposition (section 20.11): `type` in lower case; `handling` is "required" unless it says otherwise."""

    type: str
    params: Params = NO_PARAMS

    @classmethod
    def parse(cls, text: str) -> Disposition:
        kind, _, params = text.partition(";")
        kind = kind.strip(WS)
        if not is_token(kind):
            raise SipParseError("a content disposition is malformed", field="Content-Disposition")
        return cls(kind.lower(), Params.parse(params))

    @property
    def required(self) -> bool:
        return (self.params.get("handling") or "required").lower() != "optional"

    def __str__(self) -> str:
        return f"{self.type}{self.params}"


@dataclass(frozen=True, slots=True)
class SessionExpires:
    """Session-Expires (RFC 4028, section 4): seconds, and who refreshes ("uac", "uas" or None)."""

    seconds: int
    refresher: str | None = None

    @classmethod
    def parse(cls, text: str) -> SessionExpires:
        number, _, params = text.partition(";")
        seconds = parse_uint(number.strip(WS))
        if seconds is None:
            raise SipParseError("Session-Expires is malformed", field="Session-Expires")
        refresher = (Params.parse(params).get("refresher") or "").lower()
        return cls(seconds, refresher if refresher in ("uac", "uas") else None)

    def __str__(self) -> str:
        return f"{self.seconds}" + (f";refresher={self.refresher}" if self.refresher else "")


@dataclass(frozen=True, slots=True)
class RAck:
    """RAck (RFC 3262, section 7.2)."""

    rseq: int
    cseq: CSeq

    @classmethod
    def parse(cls, text: str) -> RAck:
        number, _, rest = text.strip(WS).replace("\t", " ").partition(" ")
        rseq = parse_uint(number)
        if rseq is None:
            raise SipParseError("RAck is malformed", field="RAck")
        return cls(rseq, CSeq.parse(rest))

    def __str__(self) -> str:
        return f"{self.rseq} {self.cseq}"


@dataclass(frozen=True, slots=True)
class DialogRef:
    """The dialog a Replaces (RFC 3891) or Join (RFC 3911) names."""

    call_id: str
    to_tag: str
    from_tag: str
    early_only: bool = False

    @classmethod
    def parse(cls, text: str) -> DialogRef:
        call_id, *rest = split_outside(text, ";")
        params = Params.parse(";".join(rest))
        to_tag, from_tag = params.get("to-tag"), params.get("from-tag")
        if not call_id or not to_tag or not from_tag:
            raise SipParseError("a reference to a dialog is malformed", field="Replaces")
        return cls(call_id, to_tag, from_tag, "early-only" in params)

    def __str__(self) -> str:
        early = ";early-only" if self.early_only else ""
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}{early}"
