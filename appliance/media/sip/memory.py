"""Sessions as small dicts, for a process that may die and take its dialogs up again."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from appliance.media.sip.core import Core, SessionStateError
from appliance.media.sip.dialog import Dialog, SnapshotError
from appliance.media.sip.errors import SipParseError
from appliance.media.sip.flow import Flow, Target, Transport
from appliance.media.sip.message import SipResponse, parse_message
from appliance.media.sip.session import ServerPart, SessionState, SipSession, Unacked
from appliance.media.sip.session_timer import SessionTimer

VERSION = 1
SPREAD = 30.0  # seconds over which restored sessions send their first refresh


def snapshot(session: SipSession) -> dict[str, Any]:
    """The session as JSON can carry it. Raises `SessionStateError` for one that is not established."""
    if not session.established or session.dialog is None:
        raise SessionStateError("only an established session can be remembered", state=str(session.state))
    flow, timer, description = session.flow, session.timer, session.description
    return {
        "version": VERSION,
        "id": session.id,
        "uas": session.uas,
        "dialog": session.dialog.to_dict(),
        "flow": [str(flow.transport), list(flow.local), list(flow.remote)] if flow else None,
        "allow": sorted(session.remote_allow),
        "supported": sorted(session.remote_supported),
        "timer": [timer.interval, timer.refresher] if timer else None,
        "min_se": session.min_se,
        "contact_params": session.contact_params,
        "description": [description[0], _text(description[1])] if description else None,
        "first_cseq": session.server.first_cseq,
        "unacked": [
            [number, _text(unacked.response.serialize()), _target(unacked.target), unacked.offered]
            for number, unacked in session.server.unacked.items()
        ],
    }


def restore(core: Core, state: Mapping[str, Any], now: float) -> SipSession:
    """Take up a session again. Raises `SnapshotError`.

    Connections of the old process are gone, so its flow goes by address. A session timer starts anew, and where
    the refresh is ours it comes soon: the peer's interval has been running all the while.
    """
    try:
        session = _read(state)
    except (KeyError, TypeError, ValueError, binascii.Error, SipParseError) as error:
        raise SnapshotError("not a snapshot of a SIP session") from error
    dialog = session.dialog
    if dialog is None or session.id in core.sessions or dialog.key in core.dialogs:
        raise SessionStateError("the session is here already", state=str(session.state))
    core.sessions[session.id] = session
    core.index(session, dialog)
    if session.uas:
        core.restored[(dialog.call_id, dialog.remote_tag, session.server.first_cseq)] = session
    core.start_session_timer(session, session.timer, now)
    if session.timer is not None and session.timer.refresher:
        # The old process may have been about to refresh: half of what is left until the peer ends it is not used up.
        left = session.timer.expire_after - session.timer.refresh_after
        latest = min(SPREAD, left / 2)
        core.set_timer(session, "refresh", now + core.random.uniform(0, latest))
    timers = core.config.timers
    for number in session.server.unacked:
        core.set_timer(session, ("2xx", number), now)
        core.set_timer(session, ("ack", number), now + timers.timeout)
    for unacked in session.server.unacked.values():
        unacked.interval = timers.t1
    return session


def _read(state: Mapping[str, Any]) -> SipSession:
    if state["version"] != VERSION or not isinstance(state["id"], str) or not isinstance(state["uas"], bool):
        raise ValueError("version or identity")
    flow, timer, description = state["flow"], state["timer"], state["description"]
    session = SipSession(state["id"], uas=state["uas"], state=SessionState.ESTABLISHED)
    session.dialog = Dialog.from_dict(state["dialog"])
    session.flow = Flow(Transport(flow[0]), _address(flow[1]), _address(flow[2])) if flow else None
    session.remote_allow = frozenset(map(str, state["allow"]))
    session.remote_supported = frozenset(map(str, state["supported"]))
    session.timer = SessionTimer(max(1, int(timer[0])), bool(timer[1])) if timer else None
    session.min_se = int(state["min_se"])
    params = state["contact_params"]
    session.contact_params = None if params is None else str(params)
    session.description = (str(description[0]), _bytes(description[1])) if description else None
    session.server = ServerPart(first_cseq=int(state["first_cseq"]))
    for number, data, target, offered in state["unacked"]:
        response = parse_message(_bytes(data))
        if not isinstance(response, SipResponse):
            raise ValueError("an unacknowledged response that is none")
        transport, host, port, local = target
        where = Target(Transport(transport), str(host), int(port), None, _address(local) if local else None)
        session.server.unacked[int(number)] = Unacked(response, where, 0.0, bool(offered), None)
    return session


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _address(pair: Any) -> tuple[str, int]:
    host, port = pair
    return (str(host), int(port))


def _target(target: Target) -> list[Any]:
    return [str(target.transport), target.host, target.port, list(target.local) if target.local else None]
