"""What vendors write beside RFC 7865: who is calling, and the ids by which other systems know the call.

Known: Oracle (callingParty, ucid, header), Ribbon and Sonus (callData: fromhdr, tohdr, callid, gcid), Cisco (sipSessionID,
GTD), BroadWorks (origCall, termCall, extTrackingID), AudioCodes and Avaya (UCID). Read by local name, in any namespace.
"""

from __future__ import annotations

import re

from appliance.media.siprec.model import CallData
from appliance.media.siprec.tree import Node

MAX_IDENTIFIERS = 32
MAX_IDENTIFIER = 200

_CALLING = ("fromhdr", "callingpartynumber", "callingnumber", "callingpartyid")
_CALLED = ("tohdr", "calledpartynumber", "callednumber", "calledpartyid", "dialednumber")
_IDENTIFIERS = {
    "ucid": "ucid",
    "avayaucid": "ucid",
    "user-to-user": "ucid",
    "uui": "ucid",
    "gcid": "gcid",
    "globalcallid": "gcid",
    "gci": "guid",
    "cisco-guid": "guid",
    "cisco-gucid": "guid",
    "ciscoguid": "guid",
    "genesys-uuid": "uuid",
    "x-genesys-calluuid": "uuid",
    "exttrackingid": "tracking",
    "callid": "call-id",
    "call-id": "call-id",
    "ingress_callid": "call-id",
    "egress_callid": "call-id",
    "x-isr-ucid": "ucid",
    "sipsessionid": "session-id",
    "session-id": "session-id",
}
_DIRECTIONS = {
    "inbound": "inbound",
    "incoming": "inbound",
    "in": "inbound",
    "terminating": "inbound",
    "outbound": "outbound",
    "outgoing": "outbound",
    "out": "outbound",
    "originating": "outbound",
}
_UUI_UCID = re.compile(r"(?:00|04)?fa08([0-9a-f]{16})")
_DECIMAL_UCID = re.compile(r"([0-9]{5})([0-9]{5})([0-9]{10})")
_WORD = re.compile(r"[0-9]{1,10}")
_NOTHING = re.compile(r"[0\-.:_]*")
_TRUE = frozenset({"true", "1", "yes", "y"})
_FALSE = frozenset({"false", "0", "no", "n"})


def truth(text: str) -> bool | None:
    """A word for yes or no; None for any other."""
    word = text.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def calling_party(node: Node) -> bool | None:
    """What is said of a participant's being the one who called, in or below `node`."""
    for child in node.walk():
        if child.name in ("callingparty", "iscalling", "isoriginator"):
            return truth(child.text)
    return None


def identifiers(kind: str, text: str) -> list[str]:
    """`kind:value` for each id in `text`, in a form that compares; none for a value that names nothing."""
    value = text.strip().strip('"').lower()
    if kind == "session-id":
        # RFC 7989: `local;remote=other`; either half may come first at another recorder.
        halves = [half.strip().removeprefix("remote=") for half in value.split(";")]
        return [
            made for half in halves if "=" not in half and (made := _identifier(kind, half.replace("-", "")))
        ]
    if kind == "ucid":
        value = value.partition(";")[0].strip()
        if match := _UUI_UCID.search(value):
            value = match[1]
        elif match := _DECIMAL_UCID.fullmatch(value):
            node, sequence, stamp = (int(part) for part in match.groups())
            if node < 1 << 16 and sequence < 1 << 16 and stamp < 1 << 32:
                value = f"{node:04x}{sequence:04x}{stamp:08x}"  # as it stands in user-to-user information
    elif kind in ("guid", "uuid"):
        value = _guid(value)
    made = _identifier(kind, value)
    return [made] if made else []


def _guid(value: str) -> str:
    parts = value.split("-")
    if len(parts) == 4 and all(_WORD.fullmatch(part) and int(part) < 1 << 32 for part in parts):
        return "".join(f"{int(part):08x}" for part in parts)  # Cisco-Guid: four decimal words
    return value.replace("-", "").strip("{}")


def _identifier(kind: str, value: str) -> str:
    value = value.strip()
    # Zeros, or a value so short that two calls would share it by chance, say nothing.
    if len(value) < 4 or len(value) > MAX_IDENTIFIER or _NOTHING.fullmatch(value):
        return ""
    return f"{kind}:{value}"


def read_call_data(root: Node) -> CallData:
    """Everything of interest in extension data, wherever in the document it stands."""
    calling: list[str] = []
    called: list[str] = []
    found: list[str] = []
    direction = ""
    for node in root.walk():
        if node.name == "header":
            # Oracle: a header of the recorded call, its name in `label`, its values below.
            kind = _IDENTIFIERS.get(node.attribute("label", "name").lower(), "")
            for text in [node.text, *(child.text for child in node.children)]:
                found += identifiers(kind, text) if kind and text else []
            continue
        if kind := _IDENTIFIERS.get(node.name, ""):
            found += identifiers(kind, node.text or node.attribute("id"))
        elif node.text and node.name in _CALLING:
            calling.append(node.text)
        elif node.text and node.name in _CALLED:
            called.append(node.text)
        elif node.name in ("origcall", "origcallinfo"):
            direction = direction or "outbound"
        elif node.name in ("termcall", "termcallinfo"):
            direction = direction or "inbound"
        elif node.name in ("direction", "calldirection"):
            direction = direction or _DIRECTIONS.get(node.text.lower(), "")
    return CallData(
        tuple(dict.fromkeys(calling))[:8],
        tuple(dict.fromkeys(called))[:8],
        tuple(dict.fromkeys(found))[:MAX_IDENTIFIERS],
        direction,
    )


def read_gtd(content: bytes) -> CallData:
    """Cisco's generic transparency descriptor (`application/gtd`): lines of comma-separated fields.

    CGN and CPN are the calling and the called number (the last field), GCI the call's globally unique id.
    """
    calling: list[str] = []
    called: list[str] = []
    found: list[str] = []
    for line in content[:16_384].decode("latin-1").splitlines()[:200]:
        name, _, rest = line.strip().partition(",")
        last = rest.rpartition(",")[2].strip()
        if not last:
            continue
        if name == "CGN":
            calling.append(last)
        elif name == "CPN":
            called.append(last)
        elif name == "GCI":
            found += identifiers("guid", last)
    return CallData(tuple(calling[:4]), tuple(called[:4]), tuple(found[:4]))


def join_call_data(first: CallData, second: CallData) -> CallData:
    """Both; where they disagree on the direction the first counts."""
    return CallData(
        tuple(dict.fromkeys((*first.calling, *second.calling)))[:8],
        tuple(dict.fromkeys((*first.called, *second.called)))[:8],
        tuple(dict.fromkeys((*first.identifiers, *second.identifiers)))[:MAX_IDENTIFIERS],
        first.direction or second.direction,
    )
