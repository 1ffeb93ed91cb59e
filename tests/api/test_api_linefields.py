"""A line's rules on their way out and in again."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.access.identities import SITE_ROLES, Identity
from appliance.api import linefields, scope
from appliance.catalog.prompts import refs_of
from appliance.model import Direction, new_id
from appliance.model.routing import (
    AgentRights,
    Announcement,
    AnnounceWhen,
    InlineRules,
    KeyCodes,
    Line,
    PromptRef,
    Rights,
    Target,
)


@pytest.fixture(autouse=True)
def called():
    scope.enter(Identity("admin", SITE_ROLES))


NUMBERS = st.from_regex(r"\+?[0-9]{1,32}\*?", fullmatch=True)
TARGETS = st.lists(
    st.builds(
        Target,
        uri=st.sampled_from(["sip:pbx.example", "sips:a@192.0.2.1:5071", "sip:[2001:db8::1];transport=tls"]),
        srtp=st.booleans(),
    ),
    max_size=8,
).map(tuple)
IDS = [new_id() for _ in range(16)]
REFS = st.sampled_from(IDS).map(lambda prompt_id: PromptRef(prompt_id=prompt_id))
RULES = st.builds(
    InlineRules,
    inbound=TARGETS,
    outbound=TARGETS,
    ring_s=st.integers(1, 300),
    announcement=st.none()
    | st.builds(
        Announcement,
        prompts=st.lists(REFS, min_size=1, max_size=16).map(tuple),
        when=st.sampled_from(AnnounceWhen),
        interruptible=st.booleans(),
    ),
    whisper=st.none() | REFS,
    tone_s=st.just(0) | st.integers(5, 3600),
).filter(lambda rules: rules.inbound or rules.outbound)
# Of codes of one length none is the beginning of another.
CODES = st.integers(1, 8).flatmap(
    lambda size: st.lists(
        st.text("0123456789*#ABCD", min_size=size, max_size=size), min_size=3, max_size=3, unique=True
    )
)
KEYS = st.tuples(CODES, st.tuples(*[st.booleans()] * 3)).map(
    lambda both: KeyCodes(
        **{
            name: code if kept else ""
            for name, code, kept in zip(("pause", "resume", "end"), *both, strict=True)
        }
    )
)
LINES = st.builds(
    Line,
    line_id=st.just(new_id()),
    tenant_id=st.just(new_id()),
    display_name=st.text("abc Ü-", min_size=1, max_size=100),
    numbers=st.lists(NUMBERS, unique=True, max_size=4).map(tuple),
    trunks=st.lists(st.sampled_from(["192.0.2.0/24", "sbc.example"]), unique=True).map(tuple),
    catch_all=st.booleans(),
    directions=st.lists(st.sampled_from(Direction), min_size=1, unique=True).map(tuple),
    do_not_record=st.lists(NUMBERS, unique=True, max_size=4).map(tuple),
    create_ns=st.integers(0, 2**60),
    inline=st.none() | RULES,
    keys=KEYS,
    rights=st.sampled_from(Rights),
    agents=st.lists(
        st.builds(AgentRights, number=NUMBERS, may=st.sampled_from(Rights)),
        max_size=5,
        unique_by=lambda one: one.number,
    ).map(tuple),
    auto_resume_s=st.just(0) | st.integers(10, 3600),
    reminder_s=st.just(0) | st.integers(5, 3600),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(LINES, st.sets(st.sampled_from(IDS)))
def test_what_is_told_is_what_was_said(line, samples):
    told = linefields.message(line, None, samples)
    assert linefields.read(told, line.line_id, line.tenant_id, line.create_ns) == line
    names = [*told.inline.announcement.prompts, *filter(None, [told.inline.whisper])]
    assert {name[-26:] for name in names if name.startswith("prompts/")} == samples & {
        ref.prompt_id for ref in refs_of(line.inline)
    }
