"""What the layers above ask of messages again and again: the ends of a dialog, routes, our Via, the ACK to a failure."""

from __future__ import annotations

from dataclasses import replace

from appliance.media.sip.errors import SipParseError
from appliance.media.sip.headers import Headers
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.uri import SipUri, Uri, bracketed
from appliance.media.sip.values import CSeq, NameAddr


def party(message: SipRequest | SipResponse, name: str) -> tuple[str, str]:
    """From or To as (name-addr without parameters, tag); the tag is empty for an RFC 2543 peer."""
    address = message.from_ if name == "From" else message.to
    return str(NameAddr(address.uri, address.display_name)), address.tag or ""


def contact_uri(message: SipRequest | SipResponse) -> str:
    """The first Contact's URI; "" where there is none, or none that can be read or reached."""
    try:
        contact = message.contact
    except SipParseError:
        return ""
    return str(contact.uri) if contact is not None and isinstance(contact.uri, SipUri) else ""


def record_routes(message: SipRequest | SipResponse) -> list[str]:
    """Record-Route values as they go into Route, topmost first. Those that cannot be read are no way to anywhere."""
    try:
        return [str(route) for route in message.record_route if isinstance(route.uri, SipUri)]
    except SipParseError:
        return []


def route_uri(route: str) -> str:
    """The URI of a Route value."""
    return str(NameAddr.parse(route).uri)


def is_loose(route: str) -> bool:
    """Whether a hop routes loosely (section 16.12)."""
    uri = NameAddr.parse(route).uri
    return isinstance(uri, SipUri) and uri.loose


def strict_uri(route: str) -> str:
    """A strict router's URI as it may stand in a Request-URI: no headers, no method (section 19.1.1)."""
    uri: Uri = NameAddr.parse(route).uri
    if isinstance(uri, SipUri):
        uri = replace(uri, headers="", params=uri.params.without("method"))
    return str(uri)


def with_via(request: SipRequest, transport: str, sent_by: tuple[str, int], branch: str) -> SipRequest:
    """A copy with our Via as its only one. It asks for rport (RFC 3581)."""
    host, port = sent_by
    via = f"SIP/2.0/{transport} {bracketed(host)}:{port};branch={branch};rport"
    headers = Headers([("Via", via)])
    for name, value in request.headers:
        headers.add(name, value)
    return SipRequest(request.method, request.uri, headers, request.body)


def failure_ack(request: SipRequest, response: SipResponse) -> SipRequest:
    """The ACK to a final response of 300 or above to our INVITE, without Via (section 17.1.1.3)."""
    ack = SipRequest("ACK", request.uri)
    for route in request.headers.get_all("Route"):
        ack.headers.add("Route", route)
    ack.headers.add("Max-Forwards", "70")
    ack.headers.add("From", request.headers.get("From") or "")
    ack.headers.add("To", response.headers.get("To") or "")
    ack.headers.add("Call-ID", request.call_id)
    ack.headers.add("CSeq", str(CSeq(request.cseq.number, "ACK")))
    return ack
