"""CallsService: what signaling knows of live calls."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from appliance.access import policy
from appliance.access.identities import Role
from appliance.api import convert, gate, names
from appliance.api.errors import AgentRightError, CallNotFoundError
from appliance.api.listening import ListenCalls
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts, check_text
from appliance.api.scope import caller
from appliance.catalog import acknowledgements, filters, tenants, values
from appliance.catalog.filters import Comparison, Field, Node
from appliance.catalog.numbering import Numbering, asked
from appliance.media.inline.plan import rights_of
from appliance.model.routing import Rights
from earwitness.internal.v1 import signaling_pb2
from earwitness.v1 import calls_pb2 as pb
from earwitness.v1 import calls_pb2_grpc

HEARTBEAT_S: Final = 15.0
_STATES: Final = {word.removeprefix("CALL_STATE_") for word in signaling_pb2.CallState.keys()[1:]}


def _state(text: str) -> str:
    if text.upper() not in _STATES:
        raise ValueError("should be one of " + ", ".join(sorted(_STATES)))
    return text.upper()


FIELDS: Final[Mapping[str, Field]] = {
    "state": Field(values.EQUAL, _state),
    "line": Field(values.EQUAL, values.resource_id("lines")),
    "start_time": Field(values.ORDERED, values.time_ns),
    "source": Field(values.EQUAL, values.word),
    "silent": Field(values.EQUAL, values.boolean),
    "party.number": Field(values.EQUAL_OR_HAS, asked),
    "party.name": Field(values.HAS, values.words),
    "party.address": Field(values.EQUAL, values.word),
}
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def matches(
    call: signaling_pb2.LiveCall, where: Node | None, tenant_id: str | None, numbering: Numbering
) -> bool:
    """Whether a live call is of the tenant and matches a filter; the same meaning as for recordings."""
    return _in_sight(call, tenant_id) and filters.matches(where, lambda part: _compare(call, part, numbering))


def _in_sight(call: signaling_pb2.LiveCall, tenant_id: str | None) -> bool:
    return tenant_id in (None, call.tenant_id) and _is_the_callers(call)


def _only_agent() -> bool:
    """Whether it is as an agent that the caller may call this, whatever else it is besides."""
    return policy.only_as(Role.AGENT, caller(), gate.current().method)


def _is_the_callers(call: signaling_pb2.LiveCall) -> bool:
    """An agent sees the calls in which the own number takes part."""
    if not _only_agent():
        return True
    # Who is an agent by the identity provider's word has no number here, and an anonymous caller has none either.
    own = caller().agent
    return bool(own) and any(values.number_of(one.aor) == own for one in call.parties)


def _compare(call: signaling_pb2.LiveCall, part: Comparison, numbering: Numbering) -> bool:
    value: Any = part.value
    parties = call.parties
    match part.field:
        case "party.number":
            anywhere = part.operator == ":"
            found = any(numbering.fits(value, values.number_of(party.aor), anywhere) for party in parties)
            return found == (part.operator != "!=")
        case "party.address":
            return any(party.aor == value for party in parties) == (part.operator == "=")
        case "party.name":
            known = [word for party in parties for word in values.words_of(party.name)]
            return all(any(word.startswith(start) for word in known) for start in value)
        case _:
            present = {
                "state": convert.call_state(call),
                "line": call.line_id,
                "start_time": call.started_ns,
                "source": call.source,
                "silent": bool(call.silent_tracks),
            }[part.field]
            return _COMPARE[part.operator](present, value)


class Calls(ListenCalls, calls_pb2_grpc.CallsServiceServicer):
    """See calls.proto."""

    def __init__(self, parts: Parts, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._parts = parts
        self._heartbeat_s = heartbeat_s

    def _shown(self, live: signaling_pb2.LiveCall) -> pb.Call:
        """A call as the caller may see it."""
        return _made(live, self._listeners(live))

    def _listeners(self, live: signaling_pb2.LiveCall) -> int:
        return self._parts.listening.count(live.call_id, to_agent=_only_agent())

    async def ListCalls(self, request: pb.ListCallsRequest, context: Any) -> pb.ListCallsResponse:
        tenant_id = names.parent(request.parent)
        where = filters.parse(request.filter, FIELDS)
        numbering = self._parts.store.database.numbering
        page = Page(self._parts, "ListCalls", request)
        size = page.size
        after: tuple[int, str] = page.after or (-(2**63), "")
        found = [
            call
            for call in self._parts.board.calls()
            if (call.started_ns, call.call_id) > after and matches(call, where, tenant_id, numbering)
        ]
        answer = pb.ListCallsResponse(calls=[self._shown(call) for call in found[:size]])
        size = page.cut(answer.calls)
        if len(found) > size:
            answer.next_page_token = page.token(found[size - 1].started_ns, found[size - 1].call_id)
        return answer

    async def GetCall(self, request: pb.GetCallRequest, context: Any) -> pb.GetCallResponse:
        return pb.GetCallResponse(call=self._shown(self._call(*names.child(request.name, "calls"))))

    def _call(self, tenant_id: str | None, call_id: str) -> signaling_pb2.LiveCall:
        """CallNotFoundError, also for what is no call of the agent who asks."""
        found = self._parts.board.call(tenant_id, call_id)
        if not _is_the_callers(found):
            raise CallNotFoundError("no such live call", call=call_id)
        return found

    async def _check_right(self, call: signaling_pb2.LiveCall, action: int) -> None:
        """An agent may do what the line allows to the own number, by whatever means. AgentRightError.

        NoticeNotAcknowledgedError: the tenant wants that notices are read first (terms 5); resuming is always allowed.
        """
        if action != signaling_pb2.CALL_ACTION_RESUME:
            who, now_ns = caller(), self._parts.clock_ns()
            await self._parts.store.read(
                lambda connection: acknowledgements.refuse_pausing(
                    connection, call.tenant_id, who.name, who.agent, now_ns
                )
            )
        if not _only_agent():
            return
        line = await self._parts.store.read(
            lambda connection: tenants.get_line(connection, call.line_id, call.tenant_id)
        )
        enough = {Rights.END} if action == signaling_pb2.CALL_ACTION_STOP else {Rights.PAUSE, Rights.END}
        if rights_of(line, caller().agent) not in enough:
            raise AgentRightError("the line does not allow this to the agent", call=call.call_id)

    async def WatchCalls(
        self, request: pb.WatchCallsRequest, context: Any
    ) -> AsyncIterator[pb.WatchCallsResponse]:
        tenant_id = names.parent(request.parent)
        where = filters.parse(request.filter, FIELDS)
        numbering = self._parts.store.database.numbering
        board = self._parts.board
        sent: dict[str, tuple[signaling_pb2.LiveCall, int]] = {}
        first = True
        while True:
            seen = board.changed.number
            # Raises once signaling is gone. A call that an agent has left is over for the agent: who goes on is not told.
            present = {call.call_id: call for call in board.calls() if _in_sight(call, tenant_id)}
            for call_id, call in present.items():
                shown = matches(call, where, tenant_id, numbering)
                now = call, self._listeners(call)
                if (shown or call_id in sent) and sent.get(call_id) != now:
                    yield self._answer(call=_made(*now))
                if shown:
                    sent[call_id] = now
                else:
                    sent.pop(call_id, None)
            for call_id in [call_id for call_id in sent if call_id not in present]:
                last = _made(*sent.pop(call_id))
                last.state = pb.CALL_STATE_ENDED
                last.state_time.CopyFrom(convert.timestamp(self._parts.clock_ns()))
                yield self._answer(call=last)
            if first:
                first = False
                yield self._answer(in_sync=True)
            while not await board.changed.wait(seen, self._heartbeat_s):
                yield self._answer()

    async def PauseCall(self, request: pb.PauseCallRequest, context: Any) -> pb.PauseCallResponse:
        return pb.PauseCallResponse(
            call=await self._control("PauseCall", request, signaling_pb2.CALL_ACTION_PAUSE)
        )

    async def ResumeCall(self, request: pb.ResumeCallRequest, context: Any) -> pb.ResumeCallResponse:
        return pb.ResumeCallResponse(
            call=await self._control("ResumeCall", request, signaling_pb2.CALL_ACTION_RESUME)
        )

    async def StopCall(self, request: pb.StopCallRequest, context: Any) -> pb.StopCallResponse:
        return pb.StopCallResponse(
            call=await self._control("StopCall", request, signaling_pb2.CALL_ACTION_STOP)
        )

    async def _control(
        self, method: str, request: Any, action: signaling_pb2.CallAction.ValueType
    ) -> pb.Call:
        tenant_id, call_id = names.child(request.name, "calls")
        check_text(request.reason, "reason")
        board = self._parts.board
        live = self._call(tenant_id, call_id)
        await self._check_right(live, action)
        if request.validate_only:
            return self._shown(live)
        after: signaling_pb2.LiveCall | None = None

        async def act(note: Note) -> str:
            nonlocal after
            after = await board.control(call_id, action, caller().name, request.reason)
            await self._parts.store.write(lambda connection: note(connection, call_id))
            return call_id

        await self._parts.once(method, request, act)
        return self._shown(after if after is not None else board.call(tenant_id, call_id))

    def _answer(self, call: pb.Call | None = None, in_sync: bool = False) -> pb.WatchCallsResponse:
        return pb.WatchCallsResponse(
            call=call, in_sync=in_sync, time=convert.timestamp(self._parts.clock_ns())
        )


def _made(live: signaling_pb2.LiveCall, listeners: int) -> pb.Call:
    made = convert.call(live)
    made.listeners = listeners
    return made
