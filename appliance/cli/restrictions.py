"""`earwitness recordings restrict|lift|object|decide|restrictions`: recordings that are kept, and not read."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli import output
from appliance.cli.connection import bare, resource, tenant_parent
from appliance.cli.context import CALL_TIMEOUT_S, LOOK_TIMEOUT_S, DryOption, JsonOption, TenantOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.holds import moment
from appliance.cli.purposes import tenant_of
from appliance.cli.subjectview import value
from earwitness import pages
from earwitness.v1 import subjects_pb2 as pb

RecordingsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[RECORDING...]", help="Names or ids; or --number.")
]
NumberOption = Annotated[
    str, typer.Option("--number", help="All calls with this whole number, those that will come, too.")
]
FromOption = Annotated[str, typer.Option("--from", help="With --number: calls from then on.")]
ToOption = Annotated[str, typer.Option("--to", help="With --number: calls before then.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, in the person's words or yours.")]
NameArgument = Annotated[str, typer.Argument(metavar="RESTRICTION", help="Name or id of the restriction.")]


def restrict(
    context: typer.Context,
    recordings: RecordingsArgument = None,
    ground: Annotated[str, typer.Option("--ground", help="accuracy, unlawful or legal-claim.")] = "accuracy",
    number: NumberOption = "",
    from_: FromOption = "",
    to: ToOption = "",
    reason: ReasonOption = "",
    tenant: TenantOption = "",
    dry: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Keep recordings and let nobody read them (UK GDPR Art. 18); `recordings lift` ends it.

    earwitness recordings restrict --number 07700900123 --ground legal-claim --reason "claim against the trust"
    """
    _create(context, recordings, ground, number, from_, to, reason, tenant, dry, json)


def object_(
    context: typer.Context,
    recordings: RecordingsArgument = None,
    number: NumberOption = "",
    from_: FromOption = "",
    to: ToOption = "",
    reason: ReasonOption = "",
    tenant: TenantOption = "",
    dry: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Note an objection (UK GDPR Art. 21): restricted until `recordings decide`."""
    _create(context, recordings, "objection", number, from_, to, reason, tenant, dry, json)


def _create(
    context: typer.Context,
    recordings: list[str] | None,
    ground: str,
    number: str,
    from_: str,
    to: str,
    reason: str,
    tenant: str,
    dry: bool,
    json: bool,
) -> None:
    said = pb.Restriction(
        ground=value(pb.RestrictionGround, "RESTRICTION_GROUND_", ground, "--ground"),
        reason=reason,
        recordings=[resource("recordings", one) for one in recordings or ()],
        number=number,
        from_time=moment("--from", from_),
        to_time=moment("--to", to),
    )
    if not reason:
        raise Failure(Exit.USAGE, "--reason: why?", "OPTION_MISSING")
    with box(context) as services:
        request = pb.CreateRestrictionRequest(
            parent=tenant_of(services, tenant), restriction=said, validate_only=dry
        )
        _show(services.subjects.CreateRestriction(request, timeout=LOOK_TIMEOUT_S).restriction, json)


def lift(
    context: typer.Context, name: NameArgument, reason: ReasonOption = "", json: JsonOption = False
) -> None:
    """Lift a restriction. The person is to be told before (Art. 18(3))."""
    with box(context) as services:
        request = pb.LiftRestrictionRequest(name=resource("restrictions", name), reason=reason)
        _show(services.subjects.LiftRestriction(request, timeout=LOOK_TIMEOUT_S).restriction, json)


def decide(
    context: typer.Context,
    name: NameArgument,
    decision: Annotated[str, typer.Argument(help="erase, keep-restricted or override.")],
    reason: ReasonOption = "",
    json: JsonOption = False,
) -> None:
    """Decide an objection: upheld (erase, keep-restricted), or overridden by compelling grounds."""
    with box(context) as services:
        request = pb.DecideObjectionRequest(
            name=resource("restrictions", name),
            decision=value(pb.ObjectionDecision, "OBJECTION_DECISION_", decision, "DECISION"),
            reason=reason,
        )
        _show(services.subjects.DecideObjection(request, timeout=LOOK_TIMEOUT_S).restriction, json)


def list_(
    context: typer.Context,
    tenant: TenantOption = "",
    ended: Annotated[bool, typer.Option("--all", help="Those that do not hold any more, too.")] = False,
    json: JsonOption = False,
) -> None:
    """Restrictions and objections, newest first."""
    found: list[pb.Restriction] = []
    request = pb.ListRestrictionsRequest(parent=tenant_parent(tenant), page_size=1000, show_ended=ended)
    with box(context) as services:
        for page in pages(services.subjects.ListRestrictions, request, timeout=CALL_TIMEOUT_S):
            found += page.restrictions
    if json:
        output.print_json([output.as_dict(one) for one in found])
        return
    rows = (
        (
            bare(one.name),
            output.enum_word(pb.RestrictionGround, one.ground),
            output.enum_word(pb.RestrictionState, one.state),
            str(one.recording_count),
            bare(one.legal_hold),
            output.when(one.create_time),
        )
        for one in found
    )
    output.table(
        ("Restriction", "Ground", "State", "Recordings", "Hold", "Since"), rows, empty="No restriction."
    )


def _show(one: pb.Restriction, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(one))
        return
    output.facts(
        [
            ("Restriction", bare(one.name) or "not made"),
            ("Ground", output.enum_word(pb.RestrictionGround, one.ground)),
            ("State", output.enum_word(pb.RestrictionState, one.state)),
            ("Recordings", str(one.recording_count)),
            ("Number", one.number),
            ("Legal hold", bare(one.legal_hold)),
            *((output.when(act.time), f"{act.act} {act.reason}".strip()) for act in one.acts),
        ]
    )


def join(app: typer.Typer) -> None:
    """Puts these commands beside the others of `earwitness recordings`."""
    for name, command in (
        ("restrict", restrict),
        ("lift", lift),
        ("object", object_),
        ("decide", decide),
        ("restrictions", list_),
    ):
        app.command(name)(command)
