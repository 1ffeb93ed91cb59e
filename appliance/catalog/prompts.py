"""Prompts: which there are, whose they are, and which lines use them. Their sound is in the data directory."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import paging, tables, tenants
from appliance.catalog.errors import (
    LanguageTwiceError,
    PromptInUseError,
    PromptLimitError,
    PromptNotFoundError,
    PromptShippedError,
)
from appliance.model.prompt import Prompt
from appliance.model.routing import InlineRules, Line, PromptRef

MAX_OF_TENANT: Final = 200
_p = tables.prompts


def check_room(connection: sa.Connection, tenant_id: str) -> None:
    """TenantNotFoundError, PromptLimitError."""
    tenants.get_tenant(connection, tenant_id)
    count = connection.execute(
        sa.select(sa.func.count()).select_from(_p).where(_p.c.tenant_id == tenant_id)
    ).scalar_one()
    if count >= MAX_OF_TENANT:
        raise PromptLimitError("the tenant has as many prompts as it may have", limit=MAX_OF_TENANT)


def add(connection: sa.Connection, prompt: Prompt) -> None:
    """TenantNotFoundError, PromptLimitError where it is a tenant's."""
    if prompt.tenant_id:
        check_room(connection, prompt.tenant_id)
    put(connection, prompt)


def put(connection: sa.Connection, prompt: Prompt) -> None:
    """As it is, where it is not there yet: what a lost catalogue finds in the data directory."""
    if connection.execute(sa.select(_p.c.id).where(_p.c.id == prompt.prompt_id)).first() is not None:
        return
    connection.execute(
        sa.insert(_p).values(
            id=prompt.prompt_id,
            tenant_id=prompt.tenant_id,
            display_name=prompt.display_name,
            language=prompt.language,
            text=prompt.text,
            text_sha256=prompt.text_sha256,
            audio_sha256=prompt.audio_sha256,
            purposes=list(prompt.purposes),
            duration_ms=prompt.duration_ms,
            create_ns=prompt.create_ns,
        )
    )


def get(connection: sa.Connection, prompt_id: str, tenant_id: str | None = None) -> Prompt:
    """`tenant_id`: only of this tenant; empty: only a sample; None: any. PromptNotFoundError."""
    query = sa.select(_p).where(_p.c.id == prompt_id)
    if tenant_id is not None:
        query = query.where(_p.c.tenant_id == tenant_id)
    row = connection.execute(query).first()
    if row is None:
        raise PromptNotFoundError("no such prompt", prompt=prompt_id)
    return _prompt(row)


def list_prompts(
    connection: sa.Connection,
    limit: int | None = None,
    after: tuple[int, str] | None = None,
    tenant_id: str | None = None,
) -> list[Prompt]:
    """Oldest first, after the (create_ns, id) of the last one of the page before. None: of all tenants, no samples."""
    query = sa.select(_p).order_by(_p.c.create_ns, _p.c.id).limit(limit)
    query = query.where(_p.c.tenant_id == tenant_id if tenant_id is not None else _p.c.tenant_id != "")
    query = paging.beyond(query, _p.c.create_ns, _p.c.id, after)
    return [_prompt(row) for row in connection.execute(query)]


def sample_ids(connection: sa.Connection) -> frozenset[str]:
    """Of the prompts that come with the box."""
    return frozenset(connection.execute(sa.select(_p.c.id).where(_p.c.tenant_id == "")).scalars())


def check_unused(connection: sa.Connection, prompt_id: str, tenant_id: str | None = None) -> Prompt:
    """What `remove` would refuse, without removing: PromptNotFoundError, PromptShippedError, PromptInUseError."""
    prompt = get(connection, prompt_id, tenant_id)
    if not prompt.tenant_id:
        raise PromptShippedError("it comes with the box, and stays", prompt=prompt_id)
    for line in tenants.list_lines(connection, tenant_id=prompt.tenant_id):
        if any(ref.prompt_id == prompt_id for ref in refs_of(line.inline)):
            raise PromptInUseError(
                "a line uses it: change the line first", line=f"tenants/{line.tenant_id}/lines/{line.line_id}"
            )
    return prompt


def remove(connection: sa.Connection, prompt_id: str, tenant_id: str | None = None) -> None:
    """As check_unused, and removes it."""
    check_unused(connection, prompt_id, tenant_id)
    connection.execute(sa.delete(_p).where(_p.c.id == prompt_id))


def refs_of(rules: InlineRules | None) -> list[PromptRef]:
    """The prompts that rules name."""
    if rules is None:
        return []
    announced = list(rules.announcement.prompts) if rules.announcement is not None else []
    return announced + ([rules.whisper] if rules.whisper is not None else [])


def resolved(connection: sa.Connection, line: Line, before: Line | None = None) -> Line:
    """The line with what its prompts say; it names them by their ids alone. `before`: how the line was, in a change of it.

    PromptNotFoundError (also where it is another tenant's), LanguageTwiceError; both name the field.
    """
    rules = line.inline
    if rules is None:
        return line
    # Prompts never change, so what a line knows of one holds, whatever became of the catalogue since.
    known = {ref.prompt_id: ref for ref in refs_of(before.inline if before is not None else None)}
    announcement = rules.announcement
    if announcement is not None:
        found: list[PromptRef] = []
        for position, ref in enumerate(announcement.prompts):
            field = f"line.inline.announcement.prompts[{position}]"
            full = known.get(ref.prompt_id) or _ref(connection, ref, line.tenant_id, field)
            if any(one.language.lower() == full.language.lower() for one in found):
                raise LanguageTwiceError("two prompts of one language", field=field, language=full.language)
            found.append(full)
        announcement = announcement.model_copy(update={"prompts": tuple(found)})
    whisper = rules.whisper
    if whisper is not None:
        whisper = known.get(whisper.prompt_id) or _ref(
            connection, whisper, line.tenant_id, "line.inline.whisper"
        )
    return line.model_copy(
        update={"inline": rules.model_copy(update={"announcement": announcement, "whisper": whisper})}
    )


def _ref(connection: sa.Connection, ref: PromptRef, tenant_id: str, field: str) -> PromptRef:
    row = connection.execute(
        sa.select(_p).where(_p.c.id == ref.prompt_id, _p.c.tenant_id.in_(["", tenant_id]))
    ).first()
    if row is None:
        raise PromptNotFoundError("no such prompt of this tenant or of the box", field=field)
    return _prompt(row).ref


def _prompt(row: sa.Row[Any]) -> Prompt:
    return Prompt(
        prompt_id=row.id,
        tenant_id=row.tenant_id,
        display_name=row.display_name,
        language=row.language,
        text=row.text,
        text_sha256=row.text_sha256,
        audio_sha256=row.audio_sha256,
        purposes=tuple(row.purposes),
        duration_ms=row.duration_ms,
        create_ns=row.create_ns,
    )
