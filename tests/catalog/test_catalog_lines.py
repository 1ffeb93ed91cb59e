"""Lines' rules and prompts in the catalogue: kept whole, checked against each other, restored."""

from __future__ import annotations

import alembic.command
import alembic.migration
import pytest
import sqlalchemy as sa

from appliance.catalog import claims, contracttables, prompts, revisions, tables, tenants
from appliance.catalog.database import Database
from appliance.catalog.errors import (
    EtagMismatchError,
    LanguageTwiceError,
    LineNotFoundError,
    NumberTakenError,
    PromptInUseError,
    PromptLimitError,
    PromptNotFoundError,
    PromptShippedError,
    TenantNotFoundError,
)
from appliance.catalog.routingtext import RoutingText
from appliance.model import new_id
from appliance.model.prompt import Prompt
from appliance.model.routing import (
    AgentRights,
    Announcement,
    AnnounceWhen,
    InlineRules,
    KeyCodes,
    Line,
    PromptRef,
    Rights,
    RoutingTable,
    Target,
    Tenant,
)

A, B = new_id(), new_id()


def line(**fields) -> Line:
    return Line(**{"line_id": new_id(), "tenant_id": A, "display_name": "x", "create_ns": 1, **fields})


def prompt(**fields) -> Prompt:
    return Prompt(
        **{
            "prompt_id": new_id(),
            "tenant_id": A,
            "display_name": "p",
            "language": "en-GB",
            "text": "This call is recorded.",
            "text_sha256": "ab" * 32,
            "audio_sha256": "cd" * 32,
            "purposes": ("training",),
            "duration_ms": 1500,
            "create_ns": 1,
            **fields,
        }
    )


def announcing(*ids: str, whisper: str = "") -> InlineRules:
    return InlineRules(
        inbound=(Target(uri="sip:pbx.example"),),
        announcement=Announcement(prompts=tuple(PromptRef(prompt_id=one) for one in ids)) if ids else None,
        whisper=PromptRef(prompt_id=whisper) if whisper else None,
    )


@pytest.fixture
def two(database):
    with database.write() as connection:
        for tenant_id in (A, B):
            tenants.add_tenant(
                connection, Tenant(tenant_id=tenant_id, display_name="t", public_key=b"k", create_ns=1)
            )
    return database


FULL = line(
    numbers=("200",),
    inline=InlineRules(
        inbound=(Target(uri="sip:pbx.example;transport=tls", srtp=True), Target(uri="sip:other.example")),
        outbound=(Target(uri="sip:trunk.example"),),
        ring_s=20,
        announcement=Announcement(
            prompts=(PromptRef(prompt_id=new_id(), language="cy", purposes=("training",), duration_ms=9),),
            when=AnnounceWhen.AFTER_ANSWER,
            interruptible=True,
        ),
        whisper=PromptRef(prompt_id=new_id()),
        tone_s=15,
    ),
    keys=KeyCodes(pause="*7", resume="", end="#9"),
    rights=Rights.PAUSE,
    agents=(AgentRights(number="20*", may=Rights.END), AgentRights(number="201", may=Rights.NONE)),
    auto_resume_s=120,
    reminder_s=0,
)


def test_rules_are_kept_whole_and_come_back_from_the_routing_table(two, tmp_path):
    plain = line(create_ns=2)
    with two.write() as connection:
        tenants.add_line(connection, FULL)
        tenants.add_line(connection, plain)
    with two.read() as connection:
        assert tenants.list_lines(connection) == [FULL, plain]
        table = tenants.routing(connection)
    read = type(table).model_validate_json(table.model_dump_json())
    other = Database.at(tmp_path / "other.db")
    with other.write() as connection:
        tenants.restore(connection, read)
        assert tenants.list_lines(connection) == [FULL, plain]
    other.close()


def test_a_change(two):
    with two.write() as connection:
        tenants.add_line(connection, FULL)
        version = tenants.routing(connection).version
        later = FULL.model_copy(update={"display_name": "y", "rights": Rights.NONE, "inline": None})
        tenants.update_line(connection, later, tenants.line_etag(FULL))
        assert tenants.get_line(connection, FULL.line_id) == later
        assert tenants.routing(connection).version == version + 1
        with pytest.raises(EtagMismatchError):
            tenants.update_line(connection, FULL, tenants.line_etag(FULL))
        assert tenants.get_line(connection, FULL.line_id) == later
        for wrong in ({"line_id": new_id()}, {"tenant_id": B}):
            with pytest.raises(LineNotFoundError):
                tenants.update_line(connection, later.model_copy(update=wrong))


def test_a_number_is_one_lines_alone(two):
    mine, theirs = line(numbers=("100", "200")), line(tenant_id=B, numbers=("300",), trunks=("192.0.2.1",))
    with two.write() as connection:
        tenants.add_line(connection, mine)
        tenants.add_line(connection, theirs)
        with pytest.raises(NumberTakenError) as caught:
            tenants.add_line(connection, line(numbers=("150", "200")))
        assert caught.value.data == {
            "field": "line.numbers[1]",
            "line": f"tenants/{A}/lines/{mine.line_id}",
        }
        with pytest.raises(NumberTakenError) as caught:
            tenants.add_line(connection, line(numbers=("300",)))
        assert caught.value.data == {"field": "line.numbers[0]"}, "nothing of another tenant"
        assert B not in caught.value.message and theirs.line_id not in caught.value.message
        fresh = line(numbers=("400",))
        tenants.add_line(connection, fresh)
        with pytest.raises(NumberTakenError):
            tenants.update_line(connection, fresh.model_copy(update={"numbers": ("400", "100")}))
        tenants.update_line(connection, mine.model_copy(update={"numbers": ("200", "100", "101")}))


def test_a_line_from_before_numbers_were_one_lines_alone_can_be_changed(two):
    first, second = line(numbers=("200",)), line(numbers=("200",), create_ns=2)
    with two.write() as connection:
        tenants.add_line(connection, first)
        tenants._insert(connection, second)
        tenants.update_line(connection, second.model_copy(update={"display_name": "y"}))
        with pytest.raises(NumberTakenError):
            tenants.update_line(connection, second.model_copy(update={"numbers": ("200", "201")}))
        table = tenants.routing(connection)
    with two.write() as connection:
        for lost in (tables.lines, contracttables.purposes, tables.tenants):
            connection.execute(sa.delete(lost))
        tenants.restore(connection, table)
        assert len(tenants.list_lines(connection)) == 2


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (("200",), ("200",), True),
        (("20*",), ("20*",), True),
        (("200",), ("20*",), False),
        (("20*",), ("2*",), False),
        (("+441632960100",), ("01632960100",), True),
        (("+441632960100",), ("00441632960100",), True),
        (("+441632960100",), ("441632960100",), True),
        (("+441632960100",), ("960100",), False),
        (("+441632960100",), ("+491632960100",), False),
        (("01632960100",), ("1632960100",), False),
        (("+44*",), ("+44*", "1"), True),
        ((), ("200",), False),
    ],
)
def test_claims(one, other, clash):
    assert bool(claims.conflict(line(numbers=one), [line(numbers=other)])) is clash
    assert bool(claims.conflict(line(numbers=other), [line(numbers=one)])) is clash


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (("192.0.2.1",), ("192.0.2.2",), False),
        (("192.0.2.0/24",), ("192.0.2.2",), True),
        (("sbc.example",), ("SBC.example.",), True),
        (("sbc.example",), ("other.example", "192.0.2.1"), False),
        (("2001:db8::/32",), ("2001:db8::1", "192.0.2.1"), True),
        (("2001:db8::/32",), ("192.0.2.1",), False),
        ((), ("192.0.2.1",), True),
    ],
)
def test_lines_on_trunks_of_their_own_may_share_numbers(one, other, clash):
    lines = line(numbers=("200",), trunks=one), line(numbers=("200",), trunks=other)
    assert bool(claims.conflict(lines[0], [lines[1]])) is clash
    assert bool(claims.conflict(lines[1], [lines[0]])) is clash


def test_a_line_is_no_conflict_with_itself():
    own = line(numbers=("200",))
    assert claims.conflict(own, [own]) is None


def test_what_a_line_says_of_its_prompts(two):
    own = prompt(language="cy")
    sample, foreign = prompt(tenant_id="", language="en-GB"), prompt(tenant_id=B, language="de")
    again = prompt(language="CY", create_ns=3)
    with two.write() as connection:
        for one in (own, sample, foreign, again):
            prompts.add(connection, one)
        wanted = line(inline=announcing(own.prompt_id, sample.prompt_id, whisper=sample.prompt_id))
        found = prompts.resolved(connection, wanted)
        assert found.inline.announcement.prompts == (own.ref, sample.ref)
        assert found.inline.whisper == sample.ref
        assert own.ref.text_sha256 == "ab" * 32 and own.ref.duration_ms == 1500
        for rules, field in (
            (announcing(own.prompt_id, foreign.prompt_id), "line.inline.announcement.prompts[1]"),
            (announcing(new_id()), "line.inline.announcement.prompts[0]"),
            (announcing(whisper=foreign.prompt_id), "line.inline.whisper"),
        ):
            with pytest.raises(PromptNotFoundError) as caught:
                prompts.resolved(connection, line(inline=rules))
            assert caught.value.data == {"field": field}
        with pytest.raises(LanguageTwiceError) as twice:
            prompts.resolved(connection, line(inline=announcing(own.prompt_id, again.prompt_id)))
        assert twice.value.data["field"] == "line.inline.announcement.prompts[1]"
        # What a line knows already does not hang on the catalogue.
        connection.execute(sa.delete(tables.prompts))
        assert prompts.resolved(connection, wanted, found) == found
        with pytest.raises(PromptNotFoundError):
            prompts.resolved(connection, wanted)


def test_prompts_are_kept_and_removed_when_no_line_uses_them(two):
    own, sample = prompt(text="Zwei\nZeilen"), prompt(tenant_id="", create_ns=5)
    with two.write() as connection:
        prompts.add(connection, own)
        prompts.put(connection, sample)
        prompts.put(connection, sample)
        assert prompts.get(connection, own.prompt_id) == own
        assert prompts.list_prompts(connection, tenant_id=A) == [own]
        assert (
            prompts.list_prompts(connection) == [own] and prompts.list_prompts(connection, tenant_id=B) == []
        )
        assert prompts.list_prompts(connection, tenant_id="") == [sample]
        assert prompts.sample_ids(connection) == {sample.prompt_id}
        for wrong in (B, ""):
            with pytest.raises(PromptNotFoundError):
                prompts.get(connection, own.prompt_id, wrong)
        used = line(inline=announcing(whisper=own.prompt_id))
        tenants.add_line(connection, used)
        with pytest.raises(PromptInUseError) as caught:
            prompts.remove(connection, own.prompt_id, A)
        assert caught.value.data == {"line": f"tenants/{A}/lines/{used.line_id}"}
        tenants.update_line(connection, used.model_copy(update={"inline": None}))
        with pytest.raises(PromptNotFoundError):
            prompts.remove(connection, own.prompt_id, B)
        prompts.remove(connection, own.prompt_id, A)
        with pytest.raises(PromptShippedError):
            prompts.remove(connection, sample.prompt_id)
        assert prompts.list_prompts(connection, tenant_id=A) == []
        with pytest.raises(TenantNotFoundError):
            prompts.add(connection, prompt(tenant_id=new_id()))


def test_a_tenant_has_so_many_prompts(two, monkeypatch):
    monkeypatch.setattr(prompts, "MAX_OF_TENANT", 2)
    with two.write() as connection:
        for _ in range(2):
            prompts.add(connection, prompt())
        with pytest.raises(PromptLimitError) as caught:
            prompts.add(connection, prompt())
        assert caught.value.data == {"limit": 2}
        prompts.add(connection, prompt(tenant_id=B))


def test_lines_from_before_have_no_rules(tmp_path):
    path = tmp_path / "catalogue.db"
    old = Database(sa.URL.create("sqlite", database=str(path)))
    with old.write() as connection:
        alembic.command.upgrade(revisions.config(connection), "0002")
        connection.exec_driver_sql("INSERT INTO tenants VALUES ('t', 'x', x'00', 1)")
        connection.exec_driver_sql("INSERT INTO lines VALUES ('a', 't', 'l', '[]', '[]', 0, '[]', '[]', 1)")
    old.close()
    new = Database.at(path)
    with new.read() as connection:
        assert tenants.get_line(connection, "a") == Line(
            line_id="a", tenant_id="t", display_name="l", directions=(), create_ns=1
        )
        context = alembic.migration.MigrationContext.configure(connection)
        assert alembic.autogenerate.compare_metadata(context, tables.metadata) == []
    with new.write() as connection:
        alembic.command.downgrade(revisions.config(connection), "0002")
        assert "rules" not in {column["name"] for column in sa.inspect(connection).get_columns("lines")}
    new.close()


def test_the_routing_table_is_written_as_it_is_read(two):
    """Row by row, and remembered: always what the model would write."""
    text = RoutingText()

    def same() -> None:
        with two.read() as connection:
            version, written = text.of(connection)
            table = tenants.routing(connection)
        assert (version, written) == (table.version, table.model_dump_json())
        assert RoutingTable.model_validate_json(written) == table

    same()
    first = line(numbers=("+441632960001",), trunks=("192.0.2.1",))
    for change in (
        lambda connection: tenants.add_line(connection, first),
        lambda connection: tenants.update_line(
            connection, first.model_copy(update={"display_name": 'Ä "x"'})
        ),
        lambda connection: tenants.add_line(connection, line(numbers=("+441632960002",))),
    ):
        with two.write() as connection:
            change(connection)
        same()


def test_a_line_is_made_anew_where_its_row_changed_and_nowhere_else(two):
    with two.write() as connection:
        for number in ("200", "201"):
            tenants.add_line(connection, line(numbers=(number,)))
        first = tenants.list_lines(connection)
        assert all(one is other for one, other in zip(first, tenants.list_lines(connection), strict=True))
        changed = first[0].model_copy(update={"do_not_record": ("+441632960999",)})
        tenants.update_line(connection, changed)
        after = tenants.list_lines(connection)
        assert after[0] == changed and after[0] is not first[0] and after[1:] == first[1:]
        assert tenants.get_line(connection, changed.line_id) is after[0]


def test_numbers_of_many_are_looked_for_as_those_of_few(two):
    """Few numbers are looked for in the texts of other lines; what is found must be the same."""
    taken = [("+441632960100", "01632960100"), ("00441632961*", "+441632961*"), ("+*", "+*")]
    with two.write() as connection:
        tenants.add_line(connection, line(numbers=("200",)))
    for theirs, mine in taken:
        with two.write() as connection:
            one = tenants.list_lines(connection)[0]
            tenants.update_line(connection, one.model_copy(update={"numbers": (theirs,)}))
            for many in (0, 100):
                spare = tuple(f"+4999{number:08d}" for number in range(many))
                wanted = Line(
                    line_id="z" * 26, tenant_id=one.tenant_id, display_name="z", numbers=(*spare, mine)
                )
                with pytest.raises(NumberTakenError) as caught:
                    tenants.check_line(connection, wanted)
                assert caught.value.data["field"] == f"line.numbers[{many}]"
