"""How a live call is shown to people: what it is doing, since when, and why."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from appliance.cli import output
from appliance.cli.connection import bare
from earwitness.v1 import calls_pb2, party_pb2

COLUMNS: Final = ("ID", "Began", "State", "Since", "Caller", "Agent", "Detail")
_WORDS: Final = {
    "do-not-record": "a number is on the do-not-record list",
    "direction-not-contracted": "the line does not record this direction",
    "no-line": "no line takes it",
    "no-tenant": "its line belongs to no tenant",
}
_NOT_YET: Final = (
    calls_pb2.CALL_STATE_ANNOUNCING,
    calls_pb2.CALL_STATE_RINGING,
    calls_pb2.CALL_STATE_WHISPERING,
)


def side(parties: object, role: int) -> str:
    """The party on one side, as people know it."""
    for party in parties:  # type: ignore[attr-defined]
        if party.role == role:
            return party.display_name or party.number or party.address
    return ""


def state(call: calls_pb2.Call) -> str:
    return output.enum_word(calls_pb2.CallState, call.state)


def row(call: calls_pb2.Call) -> tuple[str, ...]:
    """In a list; the order is that of COLUMNS."""
    caller, agent = _sides(call)
    began, since = output.when(call.start_time), output.when(call.state_time)
    same_day = began[:10] == since[:10]
    return bare(call.name), began, state(call), since[11:] if same_day else since, caller, agent, detail(call)


def line(call: calls_pb2.Call, at: Timestamp) -> str:
    """In a watch, at a moment of the box's clock."""
    parts = [detail(call)]
    if call.state != calls_pb2.CALL_STATE_ENDED and at.seconds - call.state_time.seconds > 1:
        parts.append(f"since {output.when(call.state_time)[11:]}")  # it is not this that has changed
    told = ", ".join(filter(None, parts))
    parties = " and ".join(filter(None, _sides(call)))
    return f"{output.when(at)}  {bare(call.name)}  {state(call):<12}  {parties}  {told}".rstrip()


def detail(call: calls_pb2.Call) -> str:
    """Who paused, why it is not recorded, who is not heard, how long it took."""
    parts = []
    if call.state == calls_pb2.CALL_STATE_PAUSED and call.detail:
        parts.append(f"by {who(call.detail)}")
    elif call.state == calls_pb2.CALL_STATE_NOT_RECORDED:
        parts.append(why(call.detail))
    elif call.state in _NOT_YET and call.detail:
        parts.append(f"not to be recorded: {why(call.detail)}")
    elif call.state == calls_pb2.CALL_STATE_ENDED:
        length = call.state_time.ToNanoseconds() - call.start_time.ToNanoseconds()
        took = Duration()
        took.FromNanoseconds(max(0, length))
        return f"after {output.clock(took)}" if call.start_time.seconds else ""
    parts += [f"nothing is heard of {_speaker(call, track)}" for track in call.silent_tracks]
    return ", ".join(filter(None, parts))


def who(actor: str) -> str:
    """Who did something, as a mark or a call says it: agent:NUMBER, agent, automatic, or an identity's name."""
    kind, _, number = actor.partition(":")
    if kind == "agent":
        return f"agent {number}" if number else "the agent"
    return "the box" if actor == "automatic" else actor


def why(reason: str) -> str:
    """Why a call is not recorded. A reason that is not known here is shown as it is."""
    if reason.startswith("stopped by "):
        return f"stopped by {who(reason.removeprefix('stopped by '))}"
    if reason.startswith("capture: "):
        return f"capture cannot record it ({reason.removeprefix('capture: ')})"
    return _WORDS.get(reason, reason)


def _sides(call: calls_pb2.Call) -> tuple[str, str]:
    caller, agent = (
        side(call.parties, role) for role in (party_pb2.PARTY_ROLE_CALLER, party_pb2.PARTY_ROLE_AGENT)
    )
    if not caller and not agent and call.parties:
        caller = ", ".join(party.display_name or party.number or party.address for party in call.parties)
    return caller, agent


def _speaker(call: calls_pb2.Call, track: int) -> str:
    for party in call.parties:
        if track in party.tracks:
            if party.role in (party_pb2.PARTY_ROLE_CALLER, party_pb2.PARTY_ROLE_AGENT):
                return f"the {output.enum_word(party_pb2.PartyRole, party.role)}"
            return party.display_name or party.number or party.address or f"track {track}"
    return f"track {track}"
