"""The search index: which terms a recording is found by, kept with its row, and looked up.

A term is a letter for its kind, and the folded text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa

from appliance.catalog import state, tables, values
from appliance.catalog.database import numbering_of
from appliance.catalog.numbering import Numbering
from appliance.catalog.records import Description
from appliance.catalog.searchtables import notes, number_parts, recording_tags, search_tenants, terms
from appliance.model import Role

VERSION: Final = "1"
"""Changes with what terms there are, or how text is folded: the index is made anew then."""
_MADE_BY: Final = "terms-made-by"

NUMBER: Final = "n"
AGENT_NUMBER: Final = "a"
NAME: Final = "p"  # a word of a party's name
AGENT_NAME: Final = "q"
TAG: Final = "t"
NOTE: Final = "w"  # a word of a note
FLAG: Final = "f"
MARK: Final = "m"
IDENTIFIER: Final = "i"

_r = tables.recordings


def of_content(description: Description, numbering: Numbering) -> set[str]:
    """Terms of what the sealed file says."""
    found: set[str] = set()
    for party in description.parties:
        number = numbering.normal(party.number) if party.number else ""
        words = values.words_of(party.name)
        found.update(NAME + word for word in words)
        if number:
            found.add(NUMBER + number)
        if party.role is Role.AGENT:
            found.update(AGENT_NAME + word for word in words)
            if number:
                found.add(AGENT_NUMBER + number)
    found.update(FLAG + flag for flag in description.flags)
    found.update(MARK + mark.kind.value for mark in description.marks)
    found.update(IDENTIFIER + value for value in description.identifiers)
    return found


def of_additions(connection: sa.Connection, recording_id: str) -> set[str]:
    """Terms of what people added."""
    texts = connection.execute(sa.select(notes.c.text).where(notes.c.recording_id == recording_id)).scalars()
    tags = connection.execute(
        sa.select(recording_tags.c.folded).where(recording_tags.c.recording_id == recording_id)
    ).scalars()
    return {NOTE + word for text in texts for word in values.all_words_of(text)} | {TAG + tag for tag in tags}


def tenant_no(connection: sa.Connection, tenant_id: str) -> int:
    """The tenant's number in the index; a new one where it has none."""
    known = connection.execute(
        sa.select(search_tenants.c.no).where(search_tenants.c.tenant_id == tenant_id)
    ).scalar()
    if known is not None:
        return int(known)
    fresh = int(connection.execute(sa.select(sa.func.max(search_tenants.c.no))).scalar() or 0) + 1
    connection.execute(sa.insert(search_tenants).values(no=fresh, tenant_id=tenant_id))
    return fresh


def tenant_nos(connection: sa.Connection, tenant_id: str | None) -> list[int]:
    """Numbers of one tenant, or of all (None). There are as many as tenants."""
    query = sa.select(search_tenants.c.no)
    if tenant_id is not None:
        query = query.where(search_tenants.c.tenant_id == tenant_id)
    return list(connection.execute(query).scalars())


def put(connection: sa.Connection, seq: int, tenant_id: str, wanted: set[str]) -> None:
    """Let these, and no others, be the terms of a recording."""
    no = tenant_no(connection, tenant_id) if wanted else 0
    rows = connection.execute(sa.select(terms.c.tenant_no, terms.c.term).where(terms.c.seq == seq)).all()
    before = {(row.tenant_no, row.term) for row in rows}
    after = {(no, term) for term in wanted}
    gone, fresh = before - after, after - before
    if gone:
        connection.execute(
            sa.delete(terms).where(
                terms.c.tenant_no == sa.bindparam("b_no"),
                terms.c.term == sa.bindparam("b_term"),
                terms.c.seq == seq,
            ),
            [{"b_no": tenant, "b_term": term} for tenant, term in sorted(gone)],
        )
        _forget_numbers(connection, gone)
    if fresh:
        connection.execute(
            sa.insert(terms), [{"tenant_no": no, "term": term, "seq": seq} for _, term in sorted(fresh)]
        )
        _learn_numbers(connection, no, (term[1:] for _, term in sorted(fresh) if term[0] == NUMBER))


def move(connection: sa.Connection, seq: int, tenant_id: str) -> None:
    """The recording is another tenant's than was thought."""
    kept = connection.execute(sa.select(terms.c.term).where(terms.c.seq == seq)).scalars()
    put(connection, seq, tenant_id, set(kept))


def _learn_numbers(connection: sa.Connection, no: int, numbers: Iterable[str]) -> None:
    for number in numbers:
        there = sa.select(number_parts.c.part).where(
            number_parts.c.tenant_no == no, number_parts.c.part == number, number_parts.c.number == number
        )
        if connection.execute(there).first() is None:
            connection.execute(
                sa.insert(number_parts),
                [{"tenant_no": no, "part": part, "number": number} for part in parts_of(number)],
            )


def _forget_numbers(connection: sa.Connection, gone: Iterable[tuple[int, str]]) -> None:
    for no, term in gone:
        if term[0] != NUMBER:
            continue
        used = sa.select(terms.c.seq).where(terms.c.tenant_no == no, terms.c.term == term).limit(1)
        if connection.execute(used).first() is None:
            connection.execute(
                sa.delete(number_parts).where(
                    number_parts.c.tenant_no == no,
                    number_parts.c.part.in_(parts_of(term[1:])),
                    number_parts.c.number == term[1:],
                )
            )


def parts_of(number: str) -> list[str]:
    """Every end of a number; a number is found in its middle by how one of them begins."""
    return [number[at:] for at in range(len(number))]


def refresh_additions(connection: sa.Connection, recording_id: str) -> None:
    """After a change of notes or tags of a recording that is there."""
    row = connection.execute(sa.select(_r.c.seq, _r.c.tenant_id).where(_r.c.id == recording_id)).first()
    if row is None:
        return
    kept = connection.execute(sa.select(terms.c.term).where(terms.c.seq == row.seq)).scalars()
    content = {term for term in kept if term[0] not in (NOTE, TAG)}
    put(connection, row.seq, row.tenant_id, content | of_additions(connection, recording_id))


def drop_orphans(connection: sa.Connection) -> None:
    """Forget terms of recordings that are not there, and numbers that nothing has: what a damage may leave behind."""
    seqs = connection.execute(
        sa.select(terms.c.seq).distinct().where(~sa.exists().where(_r.c.seq == terms.c.seq))
    ).scalars()
    for seq in list(seqs):
        put(connection, seq, "", set())


def is_current(connection: sa.Connection) -> bool:
    """Whether the index was made by this release's rules and this site's numbering."""
    return state.get(connection, _MADE_BY) == rules(connection)


def note_current(connection: sa.Connection) -> None:
    state.put(connection, _MADE_BY, rules(connection))


def rules(connection: sa.Connection) -> str:
    """What the index depends on but for what is in it."""
    return f"{VERSION} {numbering_of(connection).key()} {unicodedata.unidata_version}"
