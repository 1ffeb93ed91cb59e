"""What a user agent server has to say about a well-formed request before it looks at what it asks for.

RFC 3261, section 8.2, in its order: method, Request-URI, Require, content. The same judgement for responses
(sections 8.1.3.3 and 18.1.2). RFC 4475 is the test of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from appliance.media.sip.errors import SipParseError
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.reply import reason_phrase
from appliance.media.sip.uri import SipUri
from appliance.media.sip.values import MediaType

# Whose body must be understood. A BYE or INFO does its work whatever its body is.
BODY_MATTERS = frozenset({"INVITE", "UPDATE", "PRACK", "MESSAGE"})
NEEDS_CONTACT = frozenset({"INVITE", "UPDATE", "REGISTER", "SUBSCRIBE", "NOTIFY", "REFER"})
NEVER_REFUSED = frozenset({"ACK", "CANCEL"})


@dataclass(frozen=True, slots=True)
class Policy:
    """What we take. None means anything.

    `extensions` are option tags in lower case. `content_types` are types we understand in a body, `type/*` included.
    `answers_with` is what our bodies may be: an INVITE that accepts none of it gets 406. `hops_needed` refuses
    Max-Forwards 0, as who forwards must.
    """

    methods: tuple[str, ...] | None = None
    extensions: frozenset[str] = frozenset()
    schemes: frozenset[str] = frozenset({"sip", "sips", "tel"})
    content_types: tuple[str, ...] | None = (
        "application/sdp",
        "multipart/*",
        "application/rs-metadata",
        "application/rs-metadata+xml",
    )
    answers_with: tuple[str, ...] | None = (
        "application/sdp",
        "multipart/mixed",
        "application/rs-metadata",  # who names these alone will have SDP too: see RFC 7866, section 9
        "application/rs-metadata+xml",
        "application/rs-metadata-request",
    )
    hops_needed: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a message is not taken. `status` is the answer to give; 0: none, drop it. `headers` go into the answer."""

    status: int
    text: str
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_error(cls, error: SipParseError) -> Problem:
        """That of a message that could not be parsed."""
        return cls(error.status if error.can_respond else 0, error.message)

    @property
    def drop(self) -> bool:
        return self.status == 0

    @property
    def reason(self) -> str:
        """The phrase for the answer: it says what is wrong where 400 alone would not."""
        phrase = reason_phrase(self.status)
        return f"{phrase} ({self.text})" if self.status == 400 else phrase


DEFAULT_POLICY = Policy()


def check_request(request: SipRequest, policy: Policy = DEFAULT_POLICY) -> Problem | None:
    """What keeps a user agent server from taking `request`, or None. An ACK is never answered: it is taken or dropped."""
    if request.method in NEVER_REFUSED:
        return None
    if policy.methods is not None and request.method not in policy.methods:
        return Problem(405, "this method is not allowed", (("Allow", ", ".join(policy.methods)),))
    try:
        return (
            _check_uri(request, policy)
            or _check_extensions(request, policy)
            or _check_content(request, policy)
        )
    except SipParseError as error:
        return Problem(error.status, error.message)


def check_response(response: SipResponse) -> Problem | None:
    """Why a user agent client drops `response`, or None. A response for a proxy before us has more than one Via."""
    if len(response.via) != 1:
        return Problem(0, "a response with several Via is not for us")
    return None


def _check_uri(request: SipRequest, policy: Policy) -> Problem | None:
    uri = request.uri
    if uri.scheme.lower() not in policy.schemes:
        return Problem(416, "the scheme of the Request-URI is not known")
    if isinstance(uri, SipUri) and uri.headers:
        return Problem(400, "the Request-URI holds headers")
    if policy.hops_needed and request.max_forwards == 0:
        return Problem(483, "no hops are left")
    if request.method in NEEDS_CONTACT:
        _ = request.contacts, request.record_route
    if request.method == "REGISTER" and not isinstance(request.to.uri, SipUri):
        return Problem(400, "the address of record is no SIP URI")
    return None


def _check_extensions(request: SipRequest, policy: Policy) -> Problem | None:
    unknown = [tag for tag in request.headers.get_list("Require") if tag.lower() not in policy.extensions]
    if unknown:
        return Problem(420, "a required extension is not supported", (("Unsupported", ", ".join(unknown)),))
    return None


def _check_content(request: SipRequest, policy: Policy) -> Problem | None:
    types = policy.content_types
    if types is not None and request.body and request.method in BODY_MATTERS:
        disposition = request.content_disposition
        optional = disposition is not None and not disposition.required
        try:
            kind = request.content_type
        except SipParseError:
            kind = None  # what the body is may still show: see `multipart.message_parts`
        if kind is not None and not optional and not _matches(kind, types):
            return Problem(415, "the type of the body is not known", (("Accept", ", ".join(types)),))
        encodings = [name.lower() for name in request.headers.get_list("Content-Encoding")]
        if not optional and any(name != "identity" for name in encodings):
            return Problem(415, "the encoding of the body is not known", (("Accept-Encoding", "identity"),))
    if policy.answers_with is not None and request.method == "INVITE" and request.accept:
        ranges = [accepted.essence for accepted in request.accept]
        if not any(_matches(MediaType.parse(ours), ranges) for ours in policy.answers_with):
            return Problem(
                406,
                "no answer we give is accepted",
                (("Warning", '399 earwitness "No format we have is accepted"'),),
            )
    return None


def _matches(kind: MediaType, ranges: Iterable[str]) -> bool:
    return any(wanted in (kind.essence, f"{kind.type}/*", "*/*") for wanted in ranges)
