"""Of `earwitness notices`: acknowledging, by oneself and for others; who has not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from appliance.cli import output
from appliance.cli.connection import bare
from appliance.cli.context import CALL_TIMEOUT_S, DryOption, JsonOption, LineOption, YesOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.notices import NoticeArgument, app, moment, named
from appliance.cli.purposes import TenantOption, tenant_of
from appliance.cli.staff import person_of, show_problems, table_of
from earwitness import pages
from earwitness.v1 import notices_pb2 as pb

PersonArgument = Annotated[str, typer.Argument(help="Name or id of the staff member.")]
BAR = 30  # characters


@app.command("own")
def own(context: typer.Context, tenant: TenantOption = "", json: JsonOption = False) -> None:
    """What you are to know, with the texts."""
    with box(context) as services:
        request = pb.ListOwnNoticesRequest(parent=tenant_of(services, tenant))
        found = services.notices.ListOwnNotices(request, timeout=CALL_TIMEOUT_S).notices
    if json:
        output.print_json({"notices": [output.as_dict(one) for one in found]})
        return
    for one in found:
        state = "to be acknowledged" if one.outstanding else "acknowledged"
        head = f"{one.notice.display_name} ({bare(one.notice.name)}, version {one.notice.current.version}): {state}"
        output.console.print(Text(output.plain(head), style="bold"), soft_wrap=True)
        output.console.print(output.plain(one.notice.current.text), markup=False, soft_wrap=True)
        output.console.print()
    if not found:
        output.console.print("No notice.")


@app.command("acknowledge")
def acknowledge(
    context: typer.Context,
    notice: NoticeArgument,
    yes: YesOption = False,
    tenant: TenantOption = "",
    json: JsonOption = False,
) -> None:
    """Read a notice, and say so, under your own identity."""
    with box(context) as services:
        parent = tenant_of(services, tenant)
        name = named(parent, notice)
        mine = services.notices.ListOwnNotices(
            pb.ListOwnNoticesRequest(parent=parent), timeout=CALL_TIMEOUT_S
        )
        found = next((one.notice for one in mine.notices if one.notice.name == name), None)
        if found is None:
            raise Failure(Exit.NOT_FOUND, "no notice of yours", "NOTICE_NOT_ADDRESSED")
        if not yes:
            output.errors.print(output.plain(found.current.text), markup=False)
            if not typer.confirm("I have read this", err=True):
                raise typer.Abort
        request = pb.AcknowledgeNoticeRequest(name=name, version=found.current.version)
        made = services.notices.AcknowledgeNotice(request, timeout=CALL_TIMEOUT_S).acknowledgement
    if json:
        output.print_json(output.as_dict(made))
    else:
        output.console.print(f"version {made.version}: acknowledged {output.when(made.acknowledge_time)}")


@app.command("link")
def link(
    context: typer.Context,
    notice: NoticeArgument,
    staff_member: PersonArgument,
    days: Annotated[int, typer.Option("--days", min=1, max=90, help="How long it can be used.")] = 14,
    tenant: TenantOption = "",
    json: JsonOption = False,
) -> None:
    """Make a link by which one person reads and acknowledges a notice, once, without signing in."""
    with box(context) as services:
        parent = tenant_of(services, tenant)
        request = pb.CreateAcknowledgementLinkRequest(
            name=named(parent, notice), staff_member=person_of(parent, staff_member), valid_days=days
        )
        made = services.notices.CreateAcknowledgementLink(request, timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(made))
    else:
        output.console.print(made.uri, soft_wrap=True)
        output.errors.print(f"until {output.when(made.expire_time)}; whoever has it acts for the person")


@app.command("paper")
def paper(
    context: typer.Context,
    notice: NoticeArgument,
    staff_member: PersonArgument,
    version: Annotated[int, typer.Option("--version", min=1, help="Which was signed.")],
    signed: Annotated[str, typer.Option("--signed", help="When, such as 2026-11-29T12:00.")],
    kept: Annotated[str, typer.Option("--kept", help="Where the paper is kept.")],
    tenant: TenantOption = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Note a signature on paper."""
    with box(context) as services:
        parent = tenant_of(services, tenant)
        request = pb.RecordPaperAcknowledgementRequest(
            name=named(parent, notice),
            staff_member=person_of(parent, staff_member),
            version=version,
            sign_time=moment(signed),
            kept_at=kept,
            validate_only=validate_only,
        )
        made = services.notices.RecordPaperAcknowledgement(request, timeout=CALL_TIMEOUT_S).acknowledgement
    _acknowledgements([made], json, single=True)


@app.command("import")
def import_table(
    context: typer.Context,
    notice: NoticeArgument,
    file: Annotated[Path, typer.Argument(help="CSV: person, version, acknowledged.")],
    system: Annotated[str, typer.Option("--system", help="The system for learning that it comes from.")],
    tenant: TenantOption = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Take over acknowledgements from a system for learning: all of them, or nothing where a row is wrong."""
    with box(context) as services:
        request = pb.ImportAcknowledgementsRequest(
            name=named(tenant_of(services, tenant), notice),
            system=system,
            csv=table_of(file),
            validate_only=validate_only,
        )
        answer = services.notices.ImportAcknowledgements(request, timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(answer))
    elif answer.valid:
        output.console.print(f"{output.count(answer.rows, 'row')}, {answer.created} new")
    show_problems(answer)


@app.command("withdraw")
def withdraw(
    context: typer.Context,
    acknowledgement: Annotated[str, typer.Argument(help="Name or id of the acknowledgement.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it was a mistake.")],
    tenant: TenantOption = "",
    json: JsonOption = False,
) -> None:
    """Take back an acknowledgement that was a mistake. It stays in the history."""
    with box(context) as services:
        parent = tenant_of(services, tenant)
        name = acknowledgement if "/" in acknowledgement else f"{parent}/acknowledgements/{acknowledgement}"
        request = pb.WithdrawAcknowledgementRequest(name=name, reason=reason)
        made = services.notices.WithdrawAcknowledgement(request, timeout=CALL_TIMEOUT_S).acknowledgement
    _acknowledgements([made], json, single=True)


@app.command("acknowledgements")
def acknowledgements(
    context: typer.Context,
    notice: Annotated[str, typer.Option("--notice", help="Only of this notice.")] = "",
    staff_member: Annotated[str, typer.Option("--person", help="Only of this staff member.")] = "",
    tenant: TenantOption = "",
    json: JsonOption = False,
) -> None:
    """Who acknowledged what when and how, newest first."""
    found: list[pb.Acknowledgement] = []
    with box(context) as services:
        parent = tenant_of(services, tenant)
        request = pb.ListAcknowledgementsRequest(
            parent=parent,
            page_size=1000,
            notice=named(parent, notice) if notice else "",
            staff_member=person_of(parent, staff_member) if staff_member else "",
        )
        for answer in pages(services.notices.ListAcknowledgements, request, timeout=CALL_TIMEOUT_S):
            found += answer.acknowledgements
    _acknowledgements(found, json)


@app.command("outstanding")
def outstanding(
    context: typer.Context,
    notice: Annotated[str, typer.Option("--notice", help="Only of this notice.")] = "",
    line: LineOption = "",
    tenant: TenantOption = "",
    json: JsonOption = False,
) -> None:
    """Who has not acknowledged what, and how many have."""
    found: list[pb.OutstandingAcknowledgement] = []
    with box(context) as services:
        parent = tenant_of(services, tenant)
        of_line = f"{parent}/lines/{bare(line)}" if line else ""
        request = pb.ListOutstandingAcknowledgementsRequest(
            parent=parent, page_size=1000, notice=named(parent, notice) if notice else "", line=of_line
        )
        for answer in pages(
            services.notices.ListOutstandingAcknowledgements, request, timeout=CALL_TIMEOUT_S
        ):
            found += answer.outstanding_acknowledgements
        asked = pb.CountAcknowledgementsRequest(parent=parent, line=of_line)
        counts = services.notices.CountAcknowledgements(asked, timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json(
            {
                "outstandingAcknowledgements": [output.as_dict(one) for one in found],
                "counts": output.as_dict(counts),
            }
        )
        return
    _bars(counts, named(parent, notice) if notice else "")
    titles = {one.notice: one.display_name for one in counts.notices}
    output.table(
        ("ID", "Name", "Since", "Notices", "Barred from"),
        (
            (
                bare(one.staff_member),
                one.display_name,
                output.moment(one.since_time),
                ", ".join(titles.get(name, bare(name)) for name in one.notices),
                " and ".join(
                    word
                    for word, holds in (
                        ("pausing", one.barred_from_pausing),
                        ("reading", one.barred_from_reading),
                    )
                    if holds
                ),
            )
            for one in found
        ),
        empty="Nobody.",
    )


def _bars(counts: pb.CountAcknowledgementsResponse, only: str) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Notice", overflow="fold")
    table.add_column("Acknowledged", justify="right")
    table.add_column("", width=BAR)
    for one in counts.notices:
        if only in ("", one.notice):
            bar = Bar(max(1, one.addressed), 0, one.acknowledged, width=BAR)
            table.add_row(Text(output.plain(one.display_name)), f"{one.acknowledged} of {one.addressed}", bar)
    if table.row_count:
        output.console.print(table)


def _acknowledgements(some: list[pb.Acknowledgement], json: bool, *, single: bool = False) -> None:
    if json:
        shown = [output.as_dict(one) for one in some]
        output.print_json(shown[0] if single else {"acknowledgements": shown})
        return
    output.table(
        ("ID", "Name", "Notice", ">Version", "When", "How", "Evidence", "State"),
        (
            (
                bare(one.name),
                one.display_name or bare(one.staff_member),
                bare(one.notice),
                str(one.version),
                output.moment(one.acknowledge_time),
                output.enum_word(pb.AcknowledgementWay, one.way),
                one.evidence or one.actor,
                f"withdrawn: {one.withdraw_reason}" if one.HasField("withdraw_time") else "",
            )
            for one in some
        ),
        empty="No acknowledgement.",
    )
