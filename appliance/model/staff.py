"""Staff, what they are told in notices, and who has to say that they read which version (terms 5). Pure."""

from __future__ import annotations

import enum
import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

DEFAULT_YEARS: Final = 6
MAX_YEARS: Final = 30
YEAR_NS: Final = 31_557_600 * 10**9  # 365.25 days
DAY_NS: Final = 86400 * 10**9
REMINDER_DAYS: Final = (7, 14, 30)
"""So many days after a version came into force those are reminded who have not acknowledged it."""
# Letters of every script are names; what turns text around, ends lines or stands for nothing is none.
_NO_NAME: Final = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_TURNS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class StaffKind(enum.StrEnum):
    """What somebody does."""

    AGENT = "agent"  # takes calls that are recorded
    OTHER = "other"


class Audience(enum.StrEnum):
    """To whom a notice goes."""

    ALL = "all"
    AGENTS = "agents"
    LINE_AGENTS = "line-agents"


class Way(enum.StrEnum):
    """How an acknowledgement came."""

    PERSON = "person"
    LINK = "link"
    IMPORT = "import"
    PAPER = "paper"


class StaffMember(_Frozen):
    """Somebody who works for a tenant. Times are nanoseconds since the Unix epoch."""

    staff_id: str
    tenant_id: str
    display_name: str
    email: str = ""
    identity: str = ""  # key of an identity (access.naming); empty: does not sign in
    numbers: tuple[str, ...] = ()  # as signaling knows the person, normalised
    lines: tuple[str, ...] = ()  # ids of those whose calls the person takes; empty: any line's
    kind: StaffKind = StaffKind.OTHER
    create_ns: int = 0
    leave_ns: int | None = None
    forgotten: bool = False

    @property
    def works_here(self) -> bool:
        return self.leave_ns is None


class NoticeVersion(_Frozen):
    """One text of a notice, which never changes."""

    version: int
    text: str
    language: str
    anew: bool  # who acknowledged an older one is to acknowledge this one, too
    publish_ns: int
    create_ns: int = 0
    author: str = ""
    cancel_ns: int | None = None

    @property
    def text_sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


class Notice(_Frozen):
    """Something that staff is told."""

    notice_id: str
    tenant_id: str
    display_name: str
    audience: Audience = Audience.ALL
    lines: tuple[str, ...] = ()  # of LINE_AGENTS
    required: bool = False
    default_id: str = ""
    create_ns: int = 0
    archive_ns: int | None = None


class InForce(_Frozen):
    """A notice as it stands at a moment. `needed`: the oldest version that it is enough to have acknowledged."""

    notice: Notice
    version: int
    needed: int
    since_ns: int  # when `needed` came into force


def in_force(versions: Iterable[NoticeVersion], now_ns: int) -> NoticeVersion | None:
    """The version that holds now: the newest whose time has come."""
    return max(_come(versions, now_ns), key=lambda one: one.version, default=None)


def needed(versions: Iterable[NoticeVersion], now_ns: int) -> NoticeVersion | None:
    """The oldest version that it is enough to have acknowledged: the newest that asks for it anew, else the first."""
    come = sorted(_come(versions, now_ns), key=lambda one: one.version)
    if not come:
        return None
    return next((one for one in reversed(come) if one.anew), come[0])


def scheduled(versions: Iterable[NoticeVersion], now_ns: int) -> NoticeVersion | None:
    """The version whose time comes next."""
    ahead = [one for one in versions if one.cancel_ns is None and one.publish_ns > now_ns]
    return min(ahead, key=lambda one: (one.publish_ns, one.version), default=None)


def _come(versions: Iterable[NoticeVersion], now_ns: int) -> list[NoticeVersion]:
    return [one for one in versions if one.cancel_ns is None and one.publish_ns <= now_ns]


def goes_to(notice: Notice, member: StaffMember) -> bool:
    """Whether somebody is to acknowledge a notice, whatever was acknowledged already."""
    if notice.archive_ns is not None or not member.works_here or member.tenant_id != notice.tenant_id:
        return False
    if notice.audience is Audience.ALL:
        return True
    if member.kind is not StaffKind.AGENT:
        return False
    return notice.audience is Audience.AGENTS or any(takes_calls_of(member, one) for one in notice.lines)


def takes_calls_of(member: StaffMember, line_id: str) -> bool:
    """Whether somebody takes calls of a line, who is an agent."""
    return member.kind is StaffKind.AGENT and (not member.lines or line_id in member.lines)


def outstanding(
    member: StaffMember, notices: Sequence[InForce], acknowledged: Mapping[str, int]
) -> list[InForce]:
    """What somebody has yet to acknowledge. `acknowledged`: the newest version of each notice (id) that the person has."""
    return [
        one
        for one in notices
        if goes_to(one.notice, member) and acknowledged.get(one.notice.notice_id, 0) < one.needed
    ]


def reminder_due(since_ns: int, now_ns: int, reminded: int) -> int:
    """After how many days a reminder is due now: the last of REMINDER_DAYS that is over, unless it was sent; 0: none."""
    over = [days for days in REMINDER_DAYS if since_ns + days * DAY_NS <= now_ns]
    return over[-1] if over and over[-1] > reminded else 0


def is_name(text: str) -> bool:
    """Whether a text can be somebody's name: of any script, one line, nothing that turns or hides it."""
    return bool(text.strip()) and not any(
        one in _TURNS or unicodedata.category(one) in _NO_NAME for one in text
    )
