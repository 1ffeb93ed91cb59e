"""Which number an INVITE calls, and how it was written there."""

from __future__ import annotations

from collections.abc import Container

from appliance.media.sip.message import SipRequest
from appliance.media.sip.uri import SipUri, Uri
from appliance.media.siprec.hints import Hints
from appliance.media.siprec.numbers import clean, is_number, subscriber


def called_number(request: SipRequest, hints: Hints, contacts: Container[str]) -> str:
    """Normalised: that of the Request-URI.

    A provider sends to the contact that was registered with it, one of `contacts`: then To says which number it was.
    """
    if hints.called and _user(request.uri) in contacts:
        return hints.called
    return subscriber(clean(str(request.uri), 1024))


def as_written(request: SipRequest, called: str) -> str:
    """The user part that the called number came from, for whom the call goes on to."""
    for uri in (request.uri, request.to.uri):
        if is_number(called) and _user(uri) and subscriber(clean(str(uri), 1024)) == called:
            return _user(uri)
    return called


def _user(uri: Uri) -> str:
    return (uri.user or "") if isinstance(uri, SipUri) else ""
