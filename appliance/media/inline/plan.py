"""What is to become of an inline call, decided once, when its INVITE comes: pure, from the line and what is known."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from appliance.media.sip.errors import SipParseError
from appliance.media.sip.uri import SipUri, parse_uri
from appliance.media.siprec.numbers import normalise, pattern_rank
from appliance.model import Direction
from appliance.model.routing import AnnounceWhen, InlineRules, Line, PromptRef, Rights, Target

_LANGUAGE = re.compile(
    r"\s*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*|\*)\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?))?\s*"
)
MAX_LANGUAGES = 16


@dataclass(frozen=True, slots=True)
class Destination:
    """One place to try: a URI that can be called, and whether to ask for SRTP there."""

    uri: str = field(repr=False)
    srtp: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How a call is carried. `withheld` says why it is not recorded, "" where it is.

    `announcement` goes to the outside party, `whisper` to the agent. `keys`: the agent's codes, empty where nobody may use
    them. The agent is the caller of an outbound call, else who is called.
    """

    direction: Direction
    destinations: tuple[Destination, ...]
    ring_s: int = 30
    announcement: PromptRef | None = None
    when: AnnounceWhen = AnnounceWhen.BEFORE_ANSWER
    interruptible: bool = False
    whisper: PromptRef | None = None
    tone_s: int = 0
    withheld: str = ""
    emergency: bool = False

    @property
    def caller_is_agent(self) -> bool:
        return self.direction is Direction.OUTBOUND


def is_emergency(number: str, emergency: Iterable[str]) -> bool:
    """Whether a called number is one of those that go straight through; without regard to a leading plus."""
    plain = number.lstrip("+")
    return bool(plain) and any(plain == one.lstrip("+") for one in emergency)


def direction_of(line: Line, calling: str, called: str, source: str) -> Direction:
    """Inbound or outbound, as the tenant sees it. `source` is the numeric address the INVITE came from."""
    ours_called = any(pattern_rank(one, called) for one in line.numbers)
    ours_calling = any(pattern_rank(one, calling) for one in line.numbers)
    if ours_called and ours_calling:
        return Direction.INTERNAL
    if ours_calling != ours_called:
        return Direction.OUTBOUND if ours_calling else Direction.INBOUND
    rules = line.inline
    if rules is not None and source in hosts(rules.inbound) and source not in hosts(rules.outbound):
        return Direction.OUTBOUND
    return Direction.INBOUND


def bare(uri: SipUri) -> SipUri:
    """A peer's URI as we call it: without headers, and without `maddr`, by which it would go to another host than it
    names."""
    return replace(uri, headers="", params=uri.params.without("maddr"))


def uri_host(text: str) -> str:
    """The host of a SIP URI in lower case, "" where it has none."""
    try:
        uri = parse_uri(text)
    except SipParseError:
        return ""
    return uri.host.lower() if isinstance(uri, SipUri) else ""


def hosts(targets: Iterable[Target]) -> frozenset[str]:
    """The hosts of targets, in lower case."""
    # One without was refused when the line was made; an older table may hold it.
    return frozenset(filter(None, (uri_host(target.uri) for target in targets)))


def destinations(targets: Iterable[Target], user: str) -> tuple[Destination, ...]:
    """Targets with the called user put in where they name none."""
    found = []
    for target in targets:
        try:
            uri = parse_uri(target.uri)
        except SipParseError:
            continue
        if isinstance(uri, SipUri):
            text = target.uri if uri.user or not user else str(uri).replace(":", f":{user}@", 1)
            found.append(Destination(text, target.srtp))
    return tuple(found)


def make_plan(
    line: Line,
    *,
    direction: Direction,
    user: str,
    called: str,
    languages: str = "",
    withheld: str = "",
    emergency: Iterable[str] = (),
) -> Plan:
    """The plan of a call of this line. `user` is the called user part as it was written, `languages` Accept-Language.

    A call that is not recorded is not announced either: there is nothing to say. Emergency calls go straight through.
    """
    rules = line.inline or InlineRules()
    towards = rules.outbound if direction is Direction.OUTBOUND else rules.inbound
    urgent = is_emergency(called, emergency)
    if urgent and direction is not Direction.OUTBOUND and rules.outbound:
        towards, direction = rules.outbound, Direction.OUTBOUND
    quiet = urgent or bool(withheld)
    announcement = rules.announcement
    return Plan(
        direction=direction,
        destinations=destinations(towards, user),
        ring_s=rules.ring_s,
        announcement=None if quiet or announcement is None else chosen(announcement.prompts, languages),
        when=announcement.when if announcement else AnnounceWhen.BEFORE_ANSWER,
        interruptible=announcement.interruptible if announcement else False,
        whisper=None if quiet else rules.whisper,
        tone_s=0 if quiet else rules.tone_s,
        withheld=withheld,
        emergency=urgent,
    )


def chosen(prompts: tuple[PromptRef, ...], languages: str) -> PromptRef | None:
    """The prompt for Accept-Language (RFC 3261 section 20.3, RFC 4647 section 3.4); the first where none fits."""
    wanted: list[tuple[float, int, str]] = []
    for place, part in enumerate(languages.split(",")[:MAX_LANGUAGES]):
        match = _LANGUAGE.fullmatch(part)
        if match is not None and match[1] != "*":
            wanted.append((-float(match[2] or 1), place, match[1].lower()))
    for quality, _, language in sorted(wanted):
        if quality == 0:
            continue
        while language:
            for prompt in prompts:
                have = prompt.language.lower()
                if have == language or have.startswith(f"{language}-"):
                    return prompt
            language = language.rpartition("-")[0]
    return prompts[0] if prompts else None


def kept_out(line: Line, number: str) -> bool:
    """Whether calls with this number, normalised, are not recorded."""
    return any(pattern_rank(one, number) for one in line.do_not_record)


def rights_of(line: Line, number: str) -> Rights:
    """What the agent of this number may do: the most specific entry counts, then what holds for all."""
    fits = [(pattern_rank(one.number, normalise(number)), one.may) for one in line.agents]
    best = max((rank for rank, _ in fits), default=0)
    if best:
        return next(may for rank, may in fits if rank == best)
    return line.rights


def codes_of(line: Line) -> tuple[str, ...]:
    """The codes to listen for; none where nobody could use them."""
    if line.rights is Rights.NONE and all(one.may is Rights.NONE for one in line.agents):
        return ()
    keys = line.keys
    return tuple(code for code in (keys.pause, keys.resume, keys.end) if code)
