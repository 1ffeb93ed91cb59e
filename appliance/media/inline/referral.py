"""What a REFER names, where its party is called, and how who sent it is told of the outcome (RFC 3515)."""

from __future__ import annotations

from appliance.media.inline.ground import Ground, Participant
from appliance.media.inline.plan import bare, destinations, hosts
from appliance.media.sip.core import SessionStateError
from appliance.media.sip.endpoint import UNREACHABLE
from appliance.media.sip.errors import SipParseError
from appliance.media.sip.message import SipRequest
from appliance.media.sip.reply import REASONS
from appliance.media.sip.sdp import Codec
from appliance.media.sip.uri import SipUri
from appliance.media.sip.values import DialogRef, NameAddr


def read_refer_to(request: SipRequest) -> tuple[SipUri, str] | None:
    """The URI alone, and its Replaces ("" for none); None where it names no SIP URI, or no dialog where it ought to."""
    try:
        target = NameAddr.parse(request.headers.get("Refer-To") or "").uri
    except SipParseError:
        return None
    if not isinstance(target, SipUri):
        return None
    fields = {name.lower(): value for name, value in target.header_fields}
    replaces = fields.get("replaces", "")
    if replaces:
        try:
            replaces = str(DialogRef.parse(replaces))
        except SipParseError:
            return None
        if not replaces.isprintable():
            return None
    return bare(target), replaces


def place_of(ground: Ground, participant: Participant, uri: SipUri, *, exact: bool) -> str:
    """Where the new party is called: as it is named, where that is a host of the switchboard; else there all the same,
    which knows whom its users may call.

    `exact`: only as it is named, since a dialog there is to be replaced. "" where it cannot be called.
    """
    rules = ground.line.inline
    known = hosts(rules.inbound or rules.outbound) if rules is not None else frozenset()
    flow = participant.sip.flow if participant.sip is not None else None
    if uri.host.lower() in known or (flow is not None and uri.host == flow.remote[0]):
        return str(uri)
    if exact or rules is None or not uri.user:
        return ""
    found = destinations(rules.inbound or rules.outbound, uri.user)
    return found[0].uri if found else ""


def notify(ground: Ground, participant: Participant, status: int) -> None:
    """Section 2.4.5: how it goes, as the first line of the response."""
    session = participant.sip
    if participant.gone or session is None or not session.established:
        return
    state = "active;expires=60" if status < 200 else "terminated;reason=noresource"
    line = f"SIP/2.0 {status} {REASONS.get(status, 'Refused')}\r\n"
    try:
        ground.endpoint.request(
            "NOTIFY",
            now=ground.clock.now(),
            session=session,
            headers=[("Event", "refer"), ("Subscription-State", state)],
            body=line.encode(),
            content_type="message/sipfrag;version=2.0",
        )
    except (SessionStateError, *UNREACHABLE) as error:
        ground.notes.append(f"transfer not told: {error.reason}")


def capabilities(participant: Participant) -> tuple[Codec, ...]:
    """What a participant has said that it can take."""
    side = participant.side
    said = side.theirs.media[side.line].codecs if side.theirs is not None and side.line >= 0 else ()
    return said or side.codecs
