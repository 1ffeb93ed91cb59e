"""`earwitness reviews figures`: means, fails and spread over time, drawn, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from typing import Annotated, Any, Final

import typer
from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from appliance.cli import output
from appliance.cli.connection import bare, resource
from appliance.cli.context import LOOK_TIMEOUT_S, JsonOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.purposes import TenantOption, tenant_of
from appliance.cli.reviewrules import stamp
from earwitness.v1 import review_pb2 as pb

BAR: Final = 30  # characters
_BY: Final = {
    "agent": pb.FIGURES_BY_AGENT,
    "line": pb.FIGURES_BY_LINE,
    "question": pb.FIGURES_BY_QUESTION,
    "reviewer": pb.FIGURES_BY_REVIEWER,
}
_PERIODS: Final = {
    "all": pb.FIGURES_PERIOD_UNSPECIFIED,
    "week": pb.FIGURES_PERIOD_WEEK,
    "month": pb.FIGURES_PERIOD_MONTH,
}
_COLUMNS: Final = (
    "period",
    "key",
    "count",
    "mean_percent",
    "fails",
    "spread_percent",
    "reviewers",
    "scorecard_versions",
    "small",
    "rank",
)


def figures(
    context: typer.Context,
    scorecard: Annotated[str, typer.Option("--scorecard", help="Name or id.")],
    by: Annotated[str, typer.Option("--by", help="agent, line, question, reviewer.")] = "agent",
    period: Annotated[str, typer.Option("--period", help="all, week, month.")] = "all",
    since: Annotated[
        datetime | None, typer.Option("--since", help="Calls from then on.", show_default=False)
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", help="Calls before.", show_default=False)
    ] = None,
    versions: Annotated[bool, typer.Option("--versions", help="Versions of the scorecard apart.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV for a spreadsheet.")] = False,
    tenant: TenantOption = "",
    json: JsonOption = False,
) -> None:
    """Means, fails and spread over time. Fewer than 5 reviews are marked, and not ranked."""
    if by not in _BY or period not in _PERIODS:
        raise Failure(Exit.USAGE, "see --help for what --by and --period take", "USAGE")
    with box(context) as services:
        parent = tenant_of(services, tenant)
        request = pb.GetReviewFiguresRequest(
            parent=parent,
            scorecard=resource("scorecards", scorecard).replace("tenants/-/", f"{parent}/"),
            by=_BY[by],
            period=_PERIODS[period],
            start_time=stamp(since),
            end_time=stamp(until),
            by_version=versions,
        )
        found = services.review.GetReviewFigures(request, timeout=LOOK_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(found))
    elif as_csv:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(_COLUMNS)
        writer.writerows(_cells(one) for one in found.figures)
        typer.echo(text.getvalue(), nl=False)
    else:
        _draw(found, by)


def _draw(found: pb.GetReviewFiguresResponse, by: str) -> None:
    if not found.figures:
        output.console.print("No review.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("Period", by.capitalize()):
        table.add_column(head, overflow="fold")
    for head in ("Reviews", "Mean", "Fails", "Spread", "Rank"):
        table.add_column(head, justify="right")
    table.add_column("", width=BAR)
    for one in found.figures:
        mixed = "*" if len(one.scorecard_versions) > 1 else ""
        table.add_row(
            one.period,
            Text(output.plain(bare(one.key) or "(none known)")),
            f"{one.count}{' (few)' if one.small else ''}",
            percent(one, "mean_basis_points") + mixed,
            str(one.fail_count or ""),
            percent(one, "spread_basis_points"),
            str(one.rank or ""),
            Bar(10_000, 0, one.mean_basis_points, width=BAR),
        )
    output.console.print(table)
    if found.mixes_versions:
        output.console.print("* of several versions of the scorecard: --versions shows them apart.")


def _cells(one: pb.ReviewFigure) -> list[str]:
    return [
        one.period,
        _safe(bare(one.key)),
        str(one.count),
        percent(one, "mean_basis_points").removesuffix(" %"),
        str(one.fail_count),
        percent(one, "spread_basis_points").removesuffix(" %"),
        str(one.reviewer_count),
        " ".join(map(str, one.scorecard_versions)),
        str(one.small).lower(),
        str(one.rank or ""),
    ]


def _safe(text: str) -> str:
    """No spreadsheet takes it for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def percent(message: Any, field: str) -> str:
    """Hundredths of a percent, as people read them; nothing where there are none."""
    return f"{getattr(message, field) / 100:.1f} %" if message.HasField(field) else ""
