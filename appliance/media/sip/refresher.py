"""The session timer at work (RFC 4028): our refreshes, and the BYE when the peer's do not come."""

from __future__ import annotations

from appliance.media.sip.client_side import ClientSide
from appliance.media.sip.core import Core, SessionBusyError
from appliance.media.sip.events import EndCause, SessionExpired
from appliance.media.sip.session import SipSession

BUSY_WAIT = 1.0  # seconds until a refresh that met another request tries again


class Refresher:
    """Handles the timers `refresh` and `expire` of a session."""

    def __init__(self, core: Core, client: ClientSide) -> None:
        self.core = core
        self.client = client

    def timer(self, session: SipSession, name: object, now: float) -> None:
        if not session.established:
            return
        if name == "expire":
            self.core.events.append(SessionExpired(session))
            self.client.send_bye(session, EndCause.EXPIRED, now)
            return
        try:
            self._refresh(session, now)
        except SessionBusyError:
            self.core.set_timer(session, "refresh", now + BUSY_WAIT)

    def _refresh(self, session: SipSession, now: float) -> None:
        """An UPDATE without an offer where the peer allows it, else a re-INVITE that says our last SDP again (7.4)."""
        if "UPDATE" in session.remote_allow or session.description is None:
            self.client.renegotiate(session, "UPDATE", now, refresh=True)
        else:
            content_type, body = session.description
            self.client.renegotiate(
                session, "INVITE", now, body=body, content_type=content_type, refresh=True
            )
