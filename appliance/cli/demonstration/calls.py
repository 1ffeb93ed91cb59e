"""The three calls of the demonstration: one plain, one with a hold, one with a pause through the API."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from appliance.cli.connection import Connection
from appliance.demo import speech
from appliance.demo.metadata import Participant
from appliance.demo.sbc import Sbc, SbcCall
from appliance.demo.stream import FRAME_S
from appliance.model import PreconditionError
from earwitness.v1 import calls_pb2, calls_pb2_grpc

# Numbers kept free for drama by the British regulator.
SURGERY = "01632960100"
HOLD_S = 3.0


@dataclass(frozen=True)
class Plan:
    """One call: what is said, over which transport, with which protection."""

    conversation: str
    caller_number: str
    caller_name: str
    transport: str
    srtp: str = ""
    words: str = ""


PLANS = (
    Plan("appointment", "07700900101", "A. Patient", "udp", words="UDP, RTP"),
    Plan("prescription", "07700900102", "B. Patient", "tcp", words="TCP, RTP, put on hold"),
    Plan(
        "payment",
        "07700900103",
        "C. Patient",
        "tls",
        "AES_CM_128_HMAC_SHA1_80",
        words="TLS, SRTP, paused while the card is read",
    ),
)


@dataclass(frozen=True)
class Placed:
    """A call that was placed: what was said, and when the stretches that must not be kept began and ended."""

    plan: Plan
    conversation: speech.Conversation
    silenced: tuple[tuple[float, float], ...]  # seconds into the conversation
    lead_s: float = 0.0  # seconds of the recording before it


T = TypeVar("T")
Progress = Callable[[Plan, float], None]


def participants(plan: Plan) -> list[Participant]:
    """Both parties as the metadata names them; the caller's stream has label 1."""
    return [
        Participant(f"sip:{plan.caller_number}@pbx.example", plan.caller_name, "1"),
        Participant(f"sip:{SURGERY}@pbx.example", "Elm Street Surgery", "2"),
    ]


async def place_all(
    sip: Callable[[str], tuple[str, int]], ca: Path, connection: Connection, progress: Progress
) -> list[Placed]:
    """Places the three calls side by side; gives what was said in each."""
    context = ssl.create_default_context(cafile=str(ca))
    return list(
        await asyncio.gather(
            *(
                _place(plan, sip(plan.transport), context, connection, progress, index)
                for index, plan in enumerate(PLANS)
            )
        )
    )


async def _place(
    plan: Plan,
    target: tuple[str, int],
    context: ssl.SSLContext,
    connection: Connection,
    progress: Progress,
    index: int,
) -> Placed:
    conversation = speech.load(plan.conversation)
    await asyncio.sleep(0.7 * index)
    async with Sbc(plan.transport, target, tls=context if plan.transport == "tls" else None) as sbc:
        payloads = [speech.g711(side, "PCMU") for side in (conversation.caller, conversation.agent)]
        call = await sbc.place(participants(plan), payloads, srtp=plan.srtp)
        call.on_frame = lambda: progress(plan, call.position * FRAME_S / conversation.seconds)
        if plan.conversation == "prescription":
            silenced = await _with_hold(call, conversation)
        elif plan.conversation == "payment":
            silenced = await _with_pause(call, conversation, connection, plan)
        else:
            silenced = ()
            await call.play()
        await call.hang_up()
    progress(plan, 1.0)
    return Placed(plan, conversation, silenced)


async def _until(call: SbcCall, seconds: float) -> None:
    await call.play(max(0, round(seconds / FRAME_S) - call.position))


async def _with_hold(call: SbcCall, conversation: speech.Conversation) -> tuple[tuple[float, float], ...]:
    asked = next(one for one in conversation.script if "hold" in one.text)
    await _until(call, asked.end_s + 0.2)
    await call.hold()
    await asyncio.sleep(HOLD_S)  # the length of the hold, not a wait for something
    await call.unhold()
    await call.play()
    return ()


async def _with_pause(
    call: SbcCall, conversation: speech.Conversation, connection: Connection, plan: Plan
) -> tuple[tuple[float, float], ...]:
    card = next(one for one in conversation.script if "four" in one.text.lower())
    with connection.channel() as channel:
        stub = calls_pb2_grpc.CallsServiceStub(channel)
        await _until(call, card.begin_s - 2)
        name = await _meanwhile(call, card.begin_s - 0.4, lambda: _find(stub, plan.caller_number))
        pause = calls_pb2.PauseCallRequest(name=name, reason="card details")
        await _meanwhile(call, card.end_s + 0.1, lambda: stub.PauseCall(pause, timeout=10))
        resume = calls_pb2.ResumeCallRequest(name=name)
        await _meanwhile(call, card.end_s + 0.4, lambda: stub.ResumeCall(resume, timeout=10))
    await call.play()
    return ((card.begin_s, card.end_s),)


async def _meanwhile(call: SbcCall, seconds: float, ask: Callable[[], T]) -> T:
    """Asks the box something while the call is played on; gives its answer."""
    answer, _ = await asyncio.gather(asyncio.to_thread(ask), _until(call, seconds))
    return answer


def _find(stub: calls_pb2_grpc.CallsServiceStub, number: str) -> str:
    for call in stub.ListCalls(calls_pb2.ListCallsRequest(parent="tenants/-"), timeout=10).calls:
        if any(number in (party.number, party.address) or number in party.address for party in call.parties):
            return call.name
    raise PreconditionError("the call is not in the list of live calls")
