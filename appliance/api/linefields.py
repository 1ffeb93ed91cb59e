"""A line's rules, from the public message and to it. Every check names the field."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Sequence
from typing import Any, Final

from google.protobuf import duration_pb2

from appliance.api import convert, names
from appliance.api.errors import FieldInvalidError
from appliance.api.parts import check_text
from appliance.catalog import linerows
from appliance.catalog.errors import PromptNotFoundError
from appliance.catalog.tenants import line_etag
from appliance.media.sip.errors import SipParseError
from appliance.media.sip.uri import SipUri, is_numeric, parse_uri
from appliance.model import Direction
from appliance.model.purpose import FORM
from appliance.model.routing import (
    AgentRights,
    Announcement,
    AnnounceWhen,
    InlineRules,
    KeyCodes,
    Line,
    Listening,
    PromptRef,
    Rights,
    Target,
)
from earwitness.internal.v1 import retention_pb2
from earwitness.v1 import party_pb2
from earwitness.v1 import tenants_pb2 as pb

MAX_NUMBERS: Final = 1000
MAX_TRUNKS: Final = 100
MAX_AGENTS: Final = 5000
MAX_TARGETS: Final = 8
MAX_ANNOUNCED: Final = 16
MAX_URI: Final = 255
MAX_PURPOSES: Final = 16
_NUMBER = re.compile(r"\+?[0-9]{1,32}\*?|\+?\*")
_NUMBER_FORM: Final = "should be digits with an optional leading +; a trailing * stands for any rest"
_PEER_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9*](?:[A-Za-z0-9.*-]*[A-Za-z0-9])?")
_CODE = re.compile(r"[0-9*#A-D]{1,8}")
_TRANSPORTS: Final = ("udp", "tcp", "tls")
_DEFAULT: Final = Line(line_id="", tenant_id="", display_name="")
_NO_RULES: Final = InlineRules()
# By name each time takes longer than all else of a line.
_RIGHTS: Final = {one: pb.Rights.Value(f"RIGHTS_{one.name}") for one in Rights}
_LISTENING: Final = {one: pb.Listening.Value(f"LISTENING_{one.name}") for one in Listening}
_DIRECTIONS: Final = {one: convert.direction(one) for one in Direction}
_shown: dict[str, tuple[Line, retention_pb2.EffectivePolicy | None, Collection[str], pb.Line]] = {}


def read(asked: pb.Line, line_id: str, tenant_id: str, create_ns: int) -> Line:
    """The line a message describes; prompts by their ids alone. FieldInvalidError, NameInvalidError."""
    if len(asked.trunks) > MAX_TRUNKS:
        raise FieldInvalidError(f"at most {MAX_TRUNKS}", field="line.trunks")
    for position, trunk in enumerate(asked.trunks):
        _check_trunk(trunk, f"line.trunks[{position}]")
    directions = tuple(dict.fromkeys(_direction(one) for one in asked.directions))
    return Line(
        line_id=line_id,
        tenant_id=tenant_id,
        display_name=check_text(asked.display_name, "line.display_name", 100, 1),
        numbers=_numbers(asked.numbers, "line.numbers"),
        trunks=tuple(asked.trunks),
        catch_all=asked.catch_all,
        directions=directions or _DEFAULT.directions,
        do_not_record=_numbers(asked.do_not_record, "line.do_not_record"),
        create_ns=create_ns,
        inline=_inline(asked.inline, tenant_id) if asked.HasField("inline") else None,
        keys=_keys(asked.keys),
        rights=_rights(asked.rights, "line.rights", Rights.NONE),
        agents=_agents(asked.agents),
        auto_resume_s=_seconds(asked, "auto_resume_delay", "line", 10, 3600, 0),
        reminder_s=_seconds(asked, "reminder_interval", "line", 5, 3600, _DEFAULT.reminder_s),
        purposes=_purposes(asked.purposes),
        listening=_listening(asked.listening),
    )


def shown(row: Line, effective: retention_pb2.EffectivePolicy | None, samples: Collection[str]) -> pb.Line:
    """As `message`, made anew only where something changed: for long lists. It is not to be altered."""
    known = _shown.get(row.line_id)
    # Rows that did not change are the same object (`catalog.linerows`).
    if known is not None and known[0] is row and (known[1], known[2]) == (effective, samples):
        return known[3]
    made = message(row, effective, samples)
    if len(_shown) >= linerows.MOST:
        _shown.clear()
    if linerows.remembers(row):
        _shown[row.line_id] = (row, effective, samples, made)
    return made


def message(row: Line, effective: retention_pb2.EffectivePolicy | None, samples: Collection[str]) -> pb.Line:
    """The public message.

    `effective`: the retention policy that holds for it; None while the vault does not answer. `samples`: ids of the prompts
    that are the box's.
    """
    unit = retention_pb2.SliceUnit.Name(effective.unit) if effective is not None else "SLICE_UNIT_UNSPECIFIED"
    made = pb.Line(
        name=names.line(row.tenant_id, row.line_id),
        display_name=row.display_name,
        numbers=row.numbers,
        trunks=row.trunks,
        catch_all=row.catch_all,
        directions=[_DIRECTIONS[one] for one in row.directions],
        do_not_record=row.do_not_record,
        grain=pb.Grain.Value(unit.replace("SLICE_UNIT", "GRAIN")),
        grace_days=effective.grace_days if effective is not None else None,
        create_time=convert.timestamp(row.create_ns),
        etag=line_etag(row),
        keys=pb.KeyCodes(pause=row.keys.pause, resume=row.keys.resume, end=row.keys.end),
        rights=_RIGHTS[row.rights],
        agents=[pb.AgentRights(number=one.number, may=_RIGHTS[one.may]) for one in row.agents],
        auto_resume_delay=duration_pb2.Duration(seconds=row.auto_resume_s),
        reminder_interval=duration_pb2.Duration(seconds=row.reminder_s),
        purposes=row.purposes,
        listening=_LISTENING[row.listening],
    )
    if row.inline is not None:
        made.inline.CopyFrom(_rules(row.inline, row.tenant_id, samples))
    return made


def _rules(rules: InlineRules, tenant_id: str, samples: Collection[str]) -> pb.InlineRules:
    def name(ref: PromptRef) -> str:
        return names.prompt_name("" if ref.prompt_id in samples else tenant_id, ref.prompt_id)

    made = pb.InlineRules(
        inbound=[pb.Target(uri=one.uri, srtp=one.srtp) for one in rules.inbound],
        outbound=[pb.Target(uri=one.uri, srtp=one.srtp) for one in rules.outbound],
        ring_time=duration_pb2.Duration(seconds=rules.ring_s),
        whisper=name(rules.whisper) if rules.whisper is not None else "",
        tone_interval=duration_pb2.Duration(seconds=rules.tone_s),
    )
    if (announcement := rules.announcement) is not None:
        made.announcement.prompts.extend(map(name, announcement.prompts))
        made.announcement.when = pb.AnnounceWhen.Value(f"ANNOUNCE_WHEN_{announcement.when.name}")
        made.announcement.interruptible = announcement.interruptible
    return made


def _inline(asked: pb.InlineRules, tenant_id: str) -> InlineRules:
    where = "line.inline"
    inbound, outbound = _targets(asked.inbound, "inbound"), _targets(asked.outbound, "outbound")
    if not inbound and not outbound:
        raise FieldInvalidError("should say where calls go on to: a target, inbound or outbound", field=where)
    return InlineRules(
        inbound=inbound,
        outbound=outbound,
        ring_s=_seconds(asked, "ring_time", where, 1, 300, _NO_RULES.ring_s, never=False),
        announcement=_announcement(asked.announcement, tenant_id) if asked.HasField("announcement") else None,
        whisper=_ref(asked.whisper, tenant_id, f"{where}.whisper") if asked.whisper else None,
        tone_s=_seconds(asked, "tone_interval", where, 5, 3600, 0),
    )


def _targets(asked: Sequence[pb.Target], side: str) -> tuple[Target, ...]:
    field = f"line.inline.{side}"
    if len(asked) > MAX_TARGETS:
        raise FieldInvalidError(f"at most {MAX_TARGETS}", field=field)
    for position, one in enumerate(asked):
        _check_target(one.uri, f"{field}[{position}].uri")
    return tuple(Target(uri=one.uri, srtp=one.srtp) for one in asked)


def _check_target(text: str, field: str) -> None:
    if not 1 <= len(text) <= MAX_URI or not text.isascii():
        raise FieldInvalidError(f"should be a SIP or SIPS URI of at most {MAX_URI} characters", field=field)
    try:
        uri = parse_uri(text)
    except SipParseError:
        raise FieldInvalidError("should be a SIP or SIPS URI, such as sip:pbx.example", field=field) from None
    if not isinstance(uri, SipUri):
        raise FieldInvalidError("should be a SIP or SIPS URI, such as sip:pbx.example", field=field)
    if not _is_name(uri.host):
        raise FieldInvalidError("its host should be an address, or a name that can be looked up", field=field)
    if uri.headers:
        raise FieldInvalidError("should carry no headers (what follows a ?)", field=field)
    if uri.password is not None:
        raise FieldInvalidError("should carry no password: accounts are in the settings", field=field)
    if uri.transport is not None and uri.transport not in _TRANSPORTS:
        raise FieldInvalidError(f"its transport should be one of {', '.join(_TRANSPORTS)}", field=field)


def _is_name(host: str) -> bool:
    """Of labels that the domain name system takes (RFC 1035, section 2.3.4), or an address."""
    labels = host.removesuffix(".").split(".")
    return is_numeric(host) or (len(host) <= 253 and all(1 <= len(label) <= 63 for label in labels))


def _announcement(asked: pb.Announcement, tenant_id: str) -> Announcement:
    field = "line.inline.announcement"
    if not 1 <= len(asked.prompts) <= MAX_ANNOUNCED:
        raise FieldInvalidError(
            f"should have 1 to {MAX_ANNOUNCED} prompts, one a language", field=f"{field}.prompts"
        )
    if asked.when not in pb.AnnounceWhen.values():
        raise FieldInvalidError("should be BEFORE_ANSWER or AFTER_ANSWER", field=f"{field}.when")
    return Announcement(
        prompts=tuple(
            _ref(name, tenant_id, f"{field}.prompts[{place}]") for place, name in enumerate(asked.prompts)
        ),
        when=AnnounceWhen.AFTER_ANSWER
        if asked.when == pb.ANNOUNCE_WHEN_AFTER_ANSWER
        else AnnounceWhen.BEFORE_ANSWER,
        interruptible=asked.interruptible,
    )


def _ref(name: str, tenant_id: str, field: str) -> PromptRef:
    """By the id alone: whether there is one, and what it says, is looked up with the change."""
    owner, prompt_id = names.prompt(name, field)
    if owner not in (None, "", tenant_id):
        raise PromptNotFoundError("no such prompt of this tenant or of the box", field=field)
    return PromptRef(prompt_id=prompt_id)


def _keys(asked: pb.KeyCodes) -> KeyCodes:
    given = {name: getattr(asked, name) for name in ("pause", "resume", "end") if asked.HasField(name)}
    for name, code in given.items():
        if code and not _CODE.fullmatch(code):
            raise FieldInvalidError("should be 1 to 8 of 0-9, *, #, A-D", field=f"line.keys.{name}")
    keys = KeyCodes(**given)
    codes = {name: code for name in ("pause", "resume", "end") if (code := getattr(keys, name))}
    for name, code in codes.items():
        for other, longer in codes.items():
            if name == other or not longer.startswith(code):
                continue
            if code == longer:
                raise FieldInvalidError(f"is the same as keys.{name}", field=f"line.keys.{other}")
            raise FieldInvalidError(
                f"begins with keys.{name}: that would be taken", field=f"line.keys.{other}"
            )
    return keys


def _rights(value: int, field: str, unsaid: Rights | None) -> Rights:
    if value == pb.RIGHTS_UNSPECIFIED and unsaid is not None:
        return unsaid
    try:
        return Rights[pb.Rights.Name(value).removeprefix("RIGHTS_")]  # type: ignore[arg-type]
    except (ValueError, KeyError):
        raise FieldInvalidError("should be NONE, PAUSE or END", field=field) from None


def _listening(value: int) -> Listening:
    if value == pb.LISTENING_UNSPECIFIED:
        return Listening.NONE
    try:
        return Listening[pb.Listening.Name(value).removeprefix("LISTENING_")]  # type: ignore[arg-type]
    except (ValueError, KeyError):
        raise FieldInvalidError("should be NONE, ALLOWED or SHOWN", field="line.listening") from None


def _agents(asked: Sequence[pb.AgentRights]) -> tuple[AgentRights, ...]:
    if len(asked) > MAX_AGENTS:
        raise FieldInvalidError(f"at most {MAX_AGENTS}", field="line.agents")
    found: dict[str, AgentRights] = {}
    for position, one in enumerate(asked):
        field = f"line.agents[{position}]"
        if not _NUMBER.fullmatch(one.number):
            raise FieldInvalidError(_NUMBER_FORM, field=f"{field}.number")
        if one.number in found:
            raise FieldInvalidError("is there already", field=f"{field}.number")
        found[one.number] = AgentRights(number=one.number, may=_rights(one.may, f"{field}.may", None))
    return tuple(found.values())


def _seconds(
    message: Any, name: str, where: str, least: int, most: int, unsaid: int, *, never: bool = True
) -> int:
    """Whole seconds within bounds; 0 where that means never."""
    if not message.HasField(name):
        return unsaid
    span: duration_pb2.Duration = getattr(message, name)
    if not span.nanos and ((never and not span.seconds) or least <= span.seconds <= most):
        return span.seconds
    zero = "0, or " if never else ""
    raise FieldInvalidError(f"should be {zero}{least} to {most} whole seconds", field=f"{where}.{name}")


def _purposes(asked: Sequence[str]) -> tuple[str, ...]:
    """By their form alone: whether the tenant has them is looked up with the change."""
    if len(asked) > MAX_PURPOSES:
        raise FieldInvalidError(f"at most {MAX_PURPOSES}", field="line.purposes")
    for position, one in enumerate(asked):
        if not FORM.fullmatch(one):
            raise FieldInvalidError(
                "should be 1 to 40 lower-case letters, digits, dashes", field=f"line.purposes[{position}]"
            )
    return tuple(dict.fromkeys(asked))


def _numbers(asked: Any, field: str) -> tuple[str, ...]:
    if len(asked) > MAX_NUMBERS:
        raise FieldInvalidError(f"at most {MAX_NUMBERS}", field=field)
    for position, number in enumerate(asked):
        if not _NUMBER.fullmatch(number):
            raise FieldInvalidError(_NUMBER_FORM, field=f"{field}[{position}]")
    return tuple(dict.fromkeys(asked))


def _check_trunk(trunk: str, field: str) -> None:
    try:
        ipaddress.ip_network(trunk, strict=False)
    except ValueError:
        if not _PEER_NAME.fullmatch(trunk) or "/" in trunk:
            raise FieldInvalidError("should be an address, a network or a host name", field=field) from None


def _direction(value: int) -> Direction:
    try:
        return Direction[party_pb2.Direction.Name(value).removeprefix("DIRECTION_")]  # type: ignore[arg-type]
    except (ValueError, KeyError):
        raise FieldInvalidError("not a direction", field="line.directions") from None
