"""`earwitness reviews rules`: what draws calls for review."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from appliance.cli import output
from appliance.cli.connection import bare, resource
from appliance.cli.context import CALL_TIMEOUT_S, DryOption, JsonOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.purposes import TenantOption, tenant_of
from earwitness import pages
from earwitness.v1 import review_pb2 as pb

app = typer.Typer(
    help="Rules that draw calls for review: list, create, pause, resume, delete, apply.", no_args_is_help=True
)
RuleArgument = Annotated[str, typer.Argument(metavar="RULE", help="Name or id.")]
_WORDS: Final = {pb.REVIEW_DRAW_ALL: "all", pb.REVIEW_DRAW_EVERY: "every", pb.REVIEW_DRAW_SHARE: "share"}


@app.command("list")
def list_rules(context: typer.Context, tenant: TenantOption = "", json: JsonOption = False) -> None:
    """Rules of a tenant, oldest first."""
    found: list[pb.ReviewRule] = []
    with box(context) as services:
        request = pb.ListReviewRulesRequest(parent=tenant_of(services, tenant), page_size=1000)
        for page in pages(services.review.ListReviewRules, request, timeout=CALL_TIMEOUT_S):
            found += page.rules
    if json:
        output.print_json({"rules": [output.as_dict(one) for one in found]})
        return
    rows = (
        (
            bare(one.name),
            one.display_name,
            _draws(one),
            one.filter,
            bare(one.scorecard),
            "paused" if one.paused else "",
        )
        for one in found
    )
    output.table(("ID", "Name", "Draws", "Of", "Scorecard", "State"), rows, empty="No rule.")


@app.command("create")
def create(
    context: typer.Context,
    display_name: Annotated[str, typer.Argument(help="Name to show.")],
    scorecard: Annotated[str, typer.Option("--scorecard", help="Name or id.")],
    every: Annotated[int, typer.Option("--every", min=0, help="Every nth call of each agent.")] = 0,
    percent: Annotated[float, typer.Option("--percent", min=0, max=100, help="A percentage, by lot.")] = 0.0,
    filter_: Annotated[str, typer.Option("--filter", help="Of which calls; else of all.")] = "",
    week: Annotated[int, typer.Option("--week", min=0, help="At most so many a week of an agent.")] = 0,
    due: Annotated[int, typer.Option("--due", min=0, help="Due after so many days.")] = 0,
    assignee: Annotated[str, typer.Option("--assignee", help="Identity that reviews; else anybody.")] = "",
    tenant: TenantOption = "",
    dry: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Make a rule: without --every and --percent it draws all calls that match.

    earwitness reviews rules create "Every tenth" --scorecard SCORECARD --every 10 --due 14

    earwitness reviews rules create Complaints --scorecard SCORECARD --filter 'tags:complaint'
    """
    if every and percent:
        raise Failure(Exit.USAGE, "either --every or --percent", "USAGE")
    draw = pb.REVIEW_DRAW_EVERY if every else pb.REVIEW_DRAW_SHARE if percent else pb.REVIEW_DRAW_ALL
    with box(context) as services:
        parent = tenant_of(services, tenant)
        rule = pb.ReviewRule(
            display_name=display_name,
            scorecard=resource("scorecards", scorecard),
            filter=filter_,
            draw=draw,
            every=every,
            share_basis_points=round(percent * 100),
            weekly_limit=week,
            due_days=due,
            assignee=person(assignee, parent),
        )
        request = pb.CreateReviewRuleRequest(parent=parent, rule=rule, validate_only=dry)
        made = services.review.CreateReviewRule(request, timeout=CALL_TIMEOUT_S).rule
    if json:
        output.print_json(output.as_dict(made))
    else:
        output.console.print("valid" if dry else bare(made.name))


@app.command("pause")
def pause(context: typer.Context, rule: RuleArgument, json: JsonOption = False) -> None:
    """Have a rule draw nothing."""
    _paused(context, rule, True, json)


@app.command("resume")
def resume(context: typer.Context, rule: RuleArgument, json: JsonOption = False) -> None:
    """Have a rule draw again; its counts go on."""
    _paused(context, rule, False, json)


@app.command("delete")
def delete(context: typer.Context, rule: RuleArgument, dry: DryOption = False) -> None:
    """Remove a rule. What it drew stays."""
    request = pb.DeleteReviewRuleRequest(name=resource("reviewRules", rule), validate_only=dry)
    with box(context) as services:
        services.review.DeleteReviewRule(request, timeout=CALL_TIMEOUT_S)


@app.command("apply")
def apply(
    context: typer.Context,
    rule: RuleArgument,
    since: Annotated[
        datetime | None, typer.Option("--since", help="Calls from then on.", show_default=False)
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", help="Calls before.", show_default=False)
    ] = None,
    dry: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Hold a rule against calls that are there, in the background: `earwitness operations watch`."""
    request = pb.ApplyReviewRuleRequest(
        name=resource("reviewRules", rule),
        start_time=stamp(since),
        end_time=stamp(until),
        validate_only=dry,
    )
    with box(context) as services:
        operation = services.review.ApplyReviewRule(request, timeout=CALL_TIMEOUT_S).operation
    if json:
        output.print_json(output.as_dict(operation))
    else:
        what = output.count(operation.total_count, "recording")
        output.console.print(f"{bare(operation.name) or 'valid'}: {what}")


def stamp(at: datetime | None) -> Timestamp | None:
    """A time, local where it does not say otherwise."""
    if at is None:
        return None
    made = Timestamp()
    made.FromNanoseconds(int(at.timestamp()) * 10**9)
    return made


def person(text: str, parent: str) -> str:
    """The full name of an identity that was given so, or by its name in the tenant."""
    return text if not text or "/" in text else f"{parent}/identities/{text}"


def _paused(context: typer.Context, rule: str, paused: bool, json: bool) -> None:
    request = pb.UpdateReviewRuleRequest(
        rule=pb.ReviewRule(name=resource("reviewRules", rule), paused=paused)
    )
    request.update_mask.paths.append("paused")
    with box(context) as services:
        after = services.review.UpdateReviewRule(request, timeout=CALL_TIMEOUT_S).rule
    if json:
        output.print_json(output.as_dict(after))
    else:
        output.console.print(f"{bare(after.name)}: {'paused' if after.paused else 'draws'}")


def _draws(one: pb.ReviewRule) -> str:
    said = {
        pb.REVIEW_DRAW_EVERY: f"1 in {one.every}",
        pb.REVIEW_DRAW_SHARE: f"{one.share_basis_points / 100:g} %",
    }.get(one.draw, _WORDS.get(one.draw, "?"))
    return said + (f", {one.weekly_limit} a week" if one.weekly_limit else "")
