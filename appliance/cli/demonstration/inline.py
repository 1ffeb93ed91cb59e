"""The fourth call goes through the box: announced to the caller, whispered to the agent, paused by the agent's keys."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from appliance.cli.connection import Connection
from appliance.cli.context import services_of
from appliance.cli.demonstration.calls import Placed, Plan, Progress
from appliance.demo import speech
from appliance.demo.station import Station, Talk
from appliance.demo.stream import FRAME, FRAME_S
from appliance.media.audio.prompts import unpack
from appliance.model import EarwitnessError, Kind
from earwitness.v1 import prompts_pb2, tenants_pb2

APPOINTMENTS = "01632960101"
ROOM_S = 1.0
PLAN = Plan(
    "payment",
    "07700900104",
    "D. Patient",
    "udp",
    words="through the box: announced, whispered, paused by keys",
)


class InlineDemoError(EarwitnessError):
    """The call through the box was not what it must be."""

    reason = "DEMO_INLINE_FAILED"
    kind = Kind.INTERNAL


@dataclass(frozen=True)
class Prompts:
    """Samples that come with the product: payloads of 20 ms of G.711, as they are sent."""

    announcement: tuple[bytes, ...]
    whisper: tuple[bytes, ...]


def contract(channel: grpc.Channel, tenant: str, desk: str, folder: Path) -> Prompts:
    """A line whose calls go through the box to `desk`; `folder` is where the box keeps its prompts."""
    services = services_of(channel)
    samples = {
        one.display_name: one
        for one in services.prompts.ListPrompts(
            prompts_pb2.ListPromptsRequest(parent="", page_size=100), timeout=10
        ).prompts
    }
    announcement, whisper = samples["Announcement (English)"], samples["Whisper (English)"]
    line = tenants_pb2.Line(
        display_name="Appointments",
        numbers=[APPOINTMENTS],
        grain=tenants_pb2.GRAIN_DAY,
        rights=tenants_pb2.RIGHTS_PAUSE,
        inline=tenants_pb2.InlineRules(
            inbound=[tenants_pb2.Target(uri=desk)],
            announcement=tenants_pb2.Announcement(
                prompts=[announcement.name], when=tenants_pb2.ANNOUNCE_WHEN_BEFORE_ANSWER
            ),
            whisper=whisper.name,
        ),
    )
    services.tenants.CreateLine(tenants_pb2.CreateLineRequest(parent=tenant, line=line), timeout=10)
    return Prompts(*(_payloads(folder / one.name.rpartition("/")[2]) for one in (announcement, whisper)))


def _payloads(folder: Path) -> tuple[bytes, ...]:
    return tuple(unpack((folder / "PCMU-8000-1.packets").read_bytes()))


async def place(
    target: tuple[str, int], connection: Connection, tenant: str, prompts: Path, progress: Progress
) -> tuple[Placed, str]:
    """Places the call; what was said, and a sentence on what each side heard. InlineDemoError where it is not so."""
    conversation = _with_room(speech.load(PLAN.conversation))
    caller_says, agent_says = (
        speech.g711(side, "PCMU") for side in (conversation.caller, conversation.agent)
    )
    async with Station(says=agent_says) as desk, Station() as outside:
        with connection.channel() as channel:
            said = await asyncio.to_thread(contract, channel, tenant, desk.uri, prompts)
        uri = f"sip:{APPOINTMENTS}@{target[0]}:{target[1]}"
        call = await outside.dial(uri, f"sip:{PLAN.caller_number}@trunk.example", caller_says)
        agent = desk.talks[-1]
        card = next(one for one in conversation.script if "four" in one.text.lower())

        async def keys() -> None:
            begin = asyncio.get_running_loop().time()

            async def at(seconds: float, code: str) -> None:
                await asyncio.sleep(max(0.0, begin + seconds - asyncio.get_running_loop().time()))
                await agent.press(code)

            await at(card.begin_s - ROOM_S + 0.2, "*2")
            await at(card.end_s + 0.2, "*3")

        async def watch() -> None:
            while call.source.position < call.source.frames and not call.ended.is_set():
                progress(PLAN, call.source.position * FRAME_S / conversation.seconds)
                await asyncio.sleep(0.2)

        await asyncio.gather(call.play(), agent.play(), keys(), watch())
        await call.hang_up()
        words = _heard(call, agent, said, caller_says, agent_says)
    progress(PLAN, 1.0)
    return Placed(
        PLAN, conversation, ((card.begin_s, card.end_s),), lead_s=len(said.announcement) * FRAME_S
    ), words


def _heard(call: Talk, agent: Talk, said: Prompts, caller_says: bytes, agent_says: bytes) -> str:
    if not _holds(call.heard, said.announcement):
        raise InlineDemoError("the caller did not hear the announcement whole")
    if not _holds(agent.heard, said.whisper):
        raise InlineDemoError("the agent did not hear the whisper whole")
    whispered = {one for one in said.whisper if len(set(one)) > 8}
    announced = {one for one in said.announcement if len(set(one)) > 8}
    if whispered & set(call.heard) or announced & set(agent.heard):
        raise InlineDemoError("one side heard what was meant for the other")
    if call.keys:
        raise InlineDemoError("the caller heard the agent's keys")
    for heard, spoken, who in ((agent, caller_says, "agent"), (call, agent_says, "caller")):
        frames = {spoken[i : i + FRAME] for i in range(0, len(spoken), FRAME)}
        share = len(frames & set(heard.heard)) / len(frames)
        if share < 0.9:
            raise InlineDemoError(f"the {who} heard {share:.0%} of the other side")
    return (
        f"the announcement ({len(said.announcement) * FRAME_S:.1f} s) the caller alone, "
        f"the whisper ({len(said.whisper) * FRAME_S:.1f} s) the agent alone, the keys nobody, each other all the time"
    )


def _with_room(conversation: speech.Conversation) -> speech.Conversation:
    """The same with a little silence before and after the card: keys take their time."""
    card = next(one for one in conversation.script if "four" in one.text.lower())
    room = np.zeros(round(ROOM_S * speech.RATE), np.int16)
    before, after = round(card.begin_s * speech.RATE), round(card.end_s * speech.RATE)

    def roomy(side: NDArray[np.int16]) -> NDArray[np.int16]:
        return np.concatenate([side[:before], room, side[before:after], room, side[after:]])

    def moved(at_s: float) -> float:
        return at_s + ROOM_S * ((at_s >= card.begin_s) + (at_s > card.end_s))

    script = tuple(
        replace(one, begin_s=moved(one.begin_s), end_s=moved(one.end_s)) for one in conversation.script
    )
    return replace(
        conversation, caller=roomy(conversation.caller), agent=roomy(conversation.agent), script=script
    )


def _holds(heard: list[bytes], wanted: tuple[bytes, ...]) -> bool:
    """Whether the payloads came, in order and without a hole."""
    first = wanted[0]
    return any(
        tuple(heard[place : place + len(wanted)]) == wanted for place, one in enumerate(heard) if one == first
    )
