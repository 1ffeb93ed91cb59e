"""`earwitness retention show, set, cancel`: policies, and what a change of them does before it is made."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli import output, policyview, titles
from appliance.cli.confirm import confirm
from appliance.cli.connection import bare, resource
from appliance.cli.context import CALL_TIMEOUT_S, LOOK_TIMEOUT_S, Box, DryOption, JsonOption, YesOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.tenants import GRAINS, choice
from earwitness import pages
from earwitness.v1 import retention_pb2 as pb
from earwitness.v1 import tenants_pb2

_INHERIT = {"retention": "retention", "grace": "grace_days", "bucket": "grain"}
_FIELDS = {**_INHERIT, "cooling": "cooling_days"}
PolicyTenant = Annotated[str, typer.Option("--tenant", help="Of this tenant (name or id); else of the box.")]
PolicyLine = Annotated[str, typer.Option("--line", help="Of this line (name or id).")]


def policy_name(tenant: str, line: str) -> str:
    """The policy that --tenant or --line names; without them the box's."""
    if tenant and line:
        raise Failure(Exit.USAGE, "--tenant and --line are not given together", "OPTION_INVALID")
    if line:
        return f"{resource('lines', line)}/retentionPolicy"
    return f"{resource('tenants', tenant)}/retentionPolicy" if tenant else "retentionPolicy"


def show(
    context: typer.Context, tenant: PolicyTenant = "", line: PolicyLine = "", json: JsonOption = False
) -> None:
    """How long recordings are kept: of the box and all that say something of their own, or of one tenant or line.

    Examples:

    earwitness retention show
    earwitness retention show --line LINE
    """
    with box(context) as services:
        if tenant or line:
            request = pb.GetRetentionPolicyRequest(name=policy_name(tenant, line))
            one = services.retention.GetRetentionPolicy(request, timeout=CALL_TIMEOUT_S).retention_policy
            if json:
                output.print_json(output.as_dict(one))
            else:
                policyview.facts(one, titles.titles(services))
            return
        found = _policies(services)
        if json:
            output.print_json({"retentionPolicies": [output.as_dict(one) for one in found]})
        else:
            policyview.table(found, titles.titles(services))


def _policies(services: Box) -> list[pb.RetentionPolicy]:
    found: list[pb.RetentionPolicy] = []
    request = pb.ListRetentionPoliciesRequest(parent="tenants/-", page_size=1000)
    for answer in pages(services.retention.ListRetentionPolicies, request, timeout=CALL_TIMEOUT_S):
        found += answer.retention_policies
    return found


def set_policy(
    context: typer.Context,
    retention: Annotated[
        str, typer.Option("--retention", help="How long recordings are kept: 90d, 18m, 7y.")
    ] = "",
    grace: Annotated[
        int | None, typer.Option("--grace", help="Days in which a deleted recording can be brought back.")
    ] = None,
    bucket: Annotated[
        str, typer.Option("--bucket", help="Time that one bucket holds: day, week or month.")
    ] = "",
    cooling: Annotated[
        int | None, typer.Option("--cooling", help="Days that a shortening waits; the box's alone.")
    ] = None,
    inherit: Annotated[
        list[str] | None,
        typer.Option("--inherit", help="Say nothing of this any more: retention, grace or bucket."),
    ] = None,
    tenant: PolicyTenant = "",
    line: PolicyLine = "",
    everything: Annotated[bool, typer.Option("--all", help="List every bucket that becomes due.")] = False,
    yes: YesOption = False,
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Change how long recordings are kept. What it does is shown first; what shortens waits for the cooling-off.

    Examples; the last one prints what would go by it:

    earwitness retention set --retention 7y
    earwitness retention set --tenant TENANT --grace 90
    earwitness retention set --line LINE --retention 90d --validate-only --all
    """
    wanted = pb.RetentionPolicy(
        name=policy_name(tenant, line),
        retention=retention,
        grace_days=grace,
        grain=choice("--bucket", bucket, GRAINS) if bucket else tenants_pb2.GRAIN_UNSPECIFIED,
        cooling_days=cooling,
    )
    request = pb.UpdateRetentionPolicyRequest(retention_policy=wanted, validate_only=True)
    said = {"retention": retention, "grace_days": grace is not None, "grain": bucket}
    mask = [name for name, value in (said | {"cooling_days": cooling is not None}).items() if value]
    for word in inherit or []:
        path = choice("--inherit", word, _INHERIT)
        if path in mask:
            raise Failure(Exit.USAGE, f"--inherit {word} and a value for it", "OPTION_INVALID")
        mask.append(path)
    if not mask:
        raise Failure(Exit.USAGE, "nothing to set: see --retention, --grace, --bucket", "OPTION_MISSING")
    request.update_mask.paths.extend(mask)
    with box(context) as services:
        answer = services.retention.UpdateRetentionPolicy(request, timeout=LOOK_TIMEOUT_S)
        lines = {} if json else titles.titles(services)
        if not json:
            policyview.impact(answer.impact, lines, everything=everything)
        shortens = any(part.shortens for part in answer.impact.differences)
        if not validate_only:
            if shortens and not yes:
                word = bare(wanted.name.removesuffix("retentionPolicy").rstrip("/")) or "box"
                confirm(f"It shortens what is kept. Type {word} to set it", word)
            request.validate_only = False
            request.retention_policy.etag = answer.retention_policy.etag
            answer = services.retention.UpdateRetentionPolicy(request, timeout=LOOK_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(answer))
    elif not validate_only:
        waits = [titles.day(one.effective_time) for one in answer.retention_policy.pending_changes]
        output.console.print(
            f"Set. Takes effect on {', '.join(dict.fromkeys(waits))}; `earwitness retention cancel` takes it back."
            if shortens
            else "Set."
        )


def cancel(
    context: typer.Context,
    field: Annotated[str, typer.Argument(help="retention, grace, bucket or cooling.")],
    tenant: PolicyTenant = "",
    line: PolicyLine = "",
    json: JsonOption = False,
) -> None:
    """Take back a change that waits to take effect.

    Example:

    earwitness retention cancel retention --line LINE
    """
    request = pb.CancelPendingChangeRequest(
        name=policy_name(tenant, line), field=choice("FIELD", field, _FIELDS)
    )
    with box(context) as services:
        one = services.retention.CancelPendingChange(request, timeout=CALL_TIMEOUT_S).retention_policy
        if json:
            output.print_json(output.as_dict(one))
        else:
            policyview.facts(one, titles.titles(services))
