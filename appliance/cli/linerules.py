"""The options by which `earwitness lines` says how the box stands in the path of calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import typer

from appliance.cli.connection import prompt
from appliance.cli.exits import Exit, Failure
from appliance.cli.tenants import choice
from earwitness.v1 import tenants_pb2 as pb

_SRTP: Final = "+srtp"
RIGHTS: Final = {"none": pb.RIGHTS_NONE, "pause": pb.RIGHTS_PAUSE, "end": pb.RIGHTS_END}
LISTENING: Final = {
    "none": pb.LISTENING_NONE,
    "allowed": pb.LISTENING_ALLOWED,
    "shown": pb.LISTENING_SHOWN,
}
WHEN: Final = {"before": pb.ANNOUNCE_WHEN_BEFORE_ANSWER, "after": pb.ANNOUNCE_WHEN_AFTER_ANSWER}
CLEARED: Final = {
    "inline": "inline",
    "announcement": "inline.announcement",
    "whisper": "inline.whisper",
    "target-in": "inline.inbound",
    "target-out": "inline.outbound",
    "agents": "agents",
    "keys": "keys",
    "numbers": "numbers",
    "trunks": "trunks",
    "directions": "directions",
    "do-not-record": "do_not_record",
}

TargetInOption = Annotated[
    list[str] | None,
    typer.Option(
        "--target-in",
        help='Where inbound calls go on to, in the order tried: "sip:pbx.example;transport=tls"; +srtp behind it '
        "encrypts media there.",
    ),
]
TargetOutOption = Annotated[
    list[str] | None, typer.Option("--target-out", help="The same of outbound calls: the trunk.")
]
SrtpOption = Annotated[bool, typer.Option("--srtp", help="Encrypt media at every target named here.")]
RingOption = Annotated[int | None, typer.Option("--ring", help="Seconds that one target may ring.")]
AnnouncementOption = Annotated[
    list[str] | None,
    typer.Option("--announcement", help="A prompt that callers hear (name or id); one a language."),
]
AnnounceOption = Annotated[
    str, typer.Option("--announce", help="Before or after the call is answered: before, after.")
]
InterruptibleOption = Annotated[
    bool | None,
    typer.Option("--interruptible/--not-interruptible", help="A key ends the announcement."),
]
WhisperOption = Annotated[
    str,
    typer.Option("--whisper", help="A prompt that the agent hears (name or id) before the call is joined."),
]
ToneOption = Annotated[
    int | None,
    typer.Option("--tone", help="A tone that says so while recording, every so many seconds; 0: none."),
]
RightsOption = Annotated[
    str, typer.Option("--rights", help="What agents may do to a recording: none, pause, end.")
]
ListeningOption = Annotated[
    str,
    typer.Option(
        "--listening",
        help="Whether live calls may be listened to: none, allowed, or shown (agents see when).",
    ),
]
AgentOption = Annotated[
    list[str] | None,
    typer.Option("--agent", help="What one agent may do: NUMBER=none, NUMBER=pause, NUMBER=end."),
]
AutoResumeOption = Annotated[
    int | None,
    typer.Option("--auto-resume", help="Seconds after which a pause ends by itself; 0: it does not."),
]
ReminderOption = Annotated[
    int | None,
    typer.Option("--reminder", help="A tone to the agent while paused, every so many seconds; 0: none."),
]
KeyPauseOption = Annotated[
    str | None, typer.Option("--key-pause", help='Keys that pause, such as *2; "": not by keypad.')
]
KeyResumeOption = Annotated[str | None, typer.Option("--key-resume", help="Keys that resume, such as *3.")]
KeyEndOption = Annotated[str | None, typer.Option("--key-end", help="Keys that end it for good, such as *4.")]


def said(
    *,
    targets_in: Sequence[str] | None,
    targets_out: Sequence[str] | None,
    srtp: bool,
    ring: int | None,
    announcements: Sequence[str] | None,
    announce: str,
    interruptible: bool | None,
    whisper: str,
    tone: int | None,
    rights: str,
    listening: str,
    agents: Sequence[str] | None,
    auto_resume: int | None,
    reminder: int | None,
    keys: Mapping[str, str | None],
) -> tuple[pb.Line, list[str]]:
    """A line that says what the options say, and the field paths they are about. Failure where one is malformed."""
    line = pb.Line()
    mask: list[str] = []
    if srtp and not targets_in and not targets_out:
        raise Failure(Exit.USAGE, "--srtp wants --target-in or --target-out", "OPTION_MISSING")
    if targets_in:
        line.inline.inbound.extend(_target(text, srtp) for text in targets_in)
        mask.append("inline.inbound")
    if targets_out:
        line.inline.outbound.extend(_target(text, srtp) for text in targets_out)
        mask.append("inline.outbound")
    if ring is not None:
        line.inline.ring_time.seconds = ring
        mask.append("inline.ring_time")
    if announcements:
        line.inline.announcement.prompts.extend(prompt(text) for text in announcements)
        mask.append("inline.announcement.prompts")
    if announce:
        line.inline.announcement.when = choice("--announce", announce, WHEN)
        mask.append("inline.announcement.when")
    if interruptible is not None:
        line.inline.announcement.interruptible = interruptible
        mask.append("inline.announcement.interruptible")
    if whisper:
        line.inline.whisper = prompt(whisper)
        mask.append("inline.whisper")
    if tone is not None:
        line.inline.tone_interval.seconds = tone
        mask.append("inline.tone_interval")
    if rights:
        line.rights = choice("--rights", rights, RIGHTS)
        mask.append("rights")
    if listening:
        line.listening = choice("--listening", listening, LISTENING)
        mask.append("listening")
    if agents:
        line.agents.extend(map(_agent, agents))
        mask.append("agents")
    if auto_resume is not None:
        line.auto_resume_delay.seconds = auto_resume
        mask.append("auto_resume_delay")
    if reminder is not None:
        line.reminder_interval.seconds = reminder
        mask.append("reminder_interval")
    for key, code in keys.items():
        if code is not None:
            setattr(line.keys, key, code)
            mask.append(f"keys.{key}")
    return line, mask


def _target(text: str, srtp: bool) -> pb.Target:
    return pb.Target(uri=text.removesuffix(_SRTP), srtp=srtp or text.endswith(_SRTP))


def _agent(text: str) -> pb.AgentRights:
    number, equals, word = text.partition("=")
    if not equals:
        raise Failure(Exit.USAGE, "--agent: should be NUMBER=none, =pause or =end", "OPTION_INVALID")
    return pb.AgentRights(number=number, may=choice("--agent", word, RIGHTS))
