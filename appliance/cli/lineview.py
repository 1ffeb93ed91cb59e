"""A line as people read it."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from appliance.cli import output
from appliance.cli.connection import bare
from appliance.cli.context import CALL_TIMEOUT_S, Box
from earwitness.v1 import party_pb2, prompts_pb2
from earwitness.v1 import tenants_pb2 as pb

_MAY = {
    pb.RIGHTS_NONE: "nothing",
    pb.RIGHTS_PAUSE: "pause and resume",
    pb.RIGHTS_END: "pause, resume and end",
}
_LISTENING = {
    pb.LISTENING_NONE: "not allowed",
    pb.LISTENING_ALLOWED: "allowed",
    pb.LISTENING_SHOWN: "allowed; agents see when",
}
_SHOWN_AGENTS = 20


def takes(line: pb.Line) -> str:
    """Which calls are the line's."""
    return "everything else" if line.catch_all else ", ".join([*line.numbers, *line.trunks])


def facts(line: pb.Line, services: Box) -> Iterator[tuple[str, str]]:
    """Names and values, for output.facts. Prompts are looked up, to be called as people call them."""
    yield "Name", line.display_name
    yield "ID", bare(line.name)
    yield "Tenant", line.name.split("/")[1]
    yield "Takes", takes(line)
    yield "Records", ", ".join(output.enum_word(party_pb2.Direction, one) for one in line.directions)
    yield "Never records", ", ".join(line.do_not_record)
    yield "Callers are told", ", ".join(line.purposes)
    yield "Listening in", _LISTENING.get(line.listening, "not allowed")
    yield "Bucket", output.enum_word(pb.Grain, line.grain)
    if line.HasField("grace_days"):
        yield "Grace", output.count(line.grace_days, "day")
    yield "Created", output.when(line.create_time)
    yield "Etag", line.etag
    if line.HasField("inline"):
        yield from _path(line.inline, services)
    else:
        yield "In the path", "no: calls are recorded beside it (SIPREC)"
    yield from _agents(line)


def _path(rules: pb.InlineRules, services: Box) -> Iterator[tuple[str, str]]:
    for side, targets in (("Inbound to", rules.inbound), ("Outbound to", rules.outbound)):
        yield side, "\n".join(_target(one) for one in targets) or "not carried"
    yield "Rings", f"{rules.ring_time.seconds} s each"
    if rules.HasField("announcement"):
        announcement = rules.announcement
        yield "Announcement", "\n".join(_prompt(name, services) for name in announcement.prompts)
        when = "after" if announcement.when == pb.ANNOUNCE_WHEN_AFTER_ANSWER else "before"
        ends = ", any key ends it" if announcement.interruptible else ""
        yield "Announced", f"{when} the answer{ends}"
    else:
        yield "Announcement", "none"
    yield "Whisper", _prompt(rules.whisper, services) if rules.whisper else "none"
    yield "Tone", _every(rules.tone_interval.seconds)


def _agents(line: pb.Line) -> Iterator[tuple[str, str]]:
    yield "Agents may", _MAY.get(line.rights, "nothing")
    shown = [f"{one.number}: {_MAY.get(one.may, 'nothing')}" for one in line.agents[:_SHOWN_AGENTS]]
    if len(line.agents) > _SHOWN_AGENTS:
        shown.append(f"and {len(line.agents) - _SHOWN_AGENTS} more (--json has them all)")
    yield "Single agents", "\n".join(shown)
    keys = (("pause", line.keys.pause), ("resume", line.keys.resume), ("end", line.keys.end))
    yield "Keys", ", ".join(f"{name} {code}" for name, code in keys if code) or "none"
    resumes = line.auto_resume_delay.seconds
    yield "A pause ends", f"by itself after {resumes} s" if resumes else "when it is ended"
    yield "Reminder", _every(line.reminder_interval.seconds)


def _target(one: pb.Target) -> str:
    return f"{one.uri} (media encrypted)" if one.srtp else one.uri


def _prompt(name: str, services: Box) -> str:
    """en-GB Greeting (id). One that is not there any more is told by its name alone."""
    try:
        found = services.prompts.GetPrompt(
            prompts_pb2.GetPromptRequest(name=name), timeout=CALL_TIMEOUT_S
        ).prompt
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.NOT_FOUND:
            return f"{bare(name)} (not there)"
        raise
    return f"{found.language} {found.display_name} ({bare(name)})"


def _every(seconds: int) -> str:
    return f"every {seconds} s" if seconds else "none"
