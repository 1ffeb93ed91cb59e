"""`earwitness identities`: who may come in, with what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from appliance.cli import output
from appliance.cli.confirm import confirm
from appliance.cli.connection import bare, identity, resource, typed_identity
from appliance.cli.context import CALL_TIMEOUT_S, Box, DryOption, JsonOption, TenantOption, YesOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.identitycertificates import NameArgument, certificates_of, issue, renew, revoke
from appliance.cli.login import FdOption, show_factor
from appliance.cli.secretinput import Secrets
from appliance.cli.tenants import choice
from earwitness import pages
from earwitness.v1 import access_pb2 as pb

app = typer.Typer(
    help="Identities: who may come in, with certificates, passphrases, or by the identity provider.",
    no_args_is_help=True,
)

ROLES = {
    name.removeprefix("IDENTITY_ROLE_").lower().replace("_", "-"): value
    for name, value in pb.IdentityRole.items()
    if value
}
RoleOption = Annotated[list[str] | None, typer.Option("--role", help="A role; may be given several times.")]
app.command("issue")(issue)
app.command("renew")(renew)
app.command("revoke")(revoke)


@app.command("list")
def list_identities(
    context: typer.Context,
    tenant: TenantOption = "",
    expiring: Annotated[
        int | None,
        typer.Option("--expiring", min=1, help="Only with certificates that end within so many days."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Identities that you may see, of the box and of tenants, or of one tenant."""
    request = pb.ListIdentitiesRequest(
        parent=resource("tenants", tenant) if tenant else "tenants/-", page_size=500
    )
    found: list[pb.Identity] = []
    ending: dict[str, datetime] = {}
    with box(context) as services:
        for answer in pages(services.access.ListIdentities, request, timeout=CALL_TIMEOUT_S):
            found += answer.identities
        if expiring is not None:
            ending = _ending(services, found, timedelta(days=expiring))
            found = [one for one in found if one.name in ending]
    if json:
        output.print_json({"identities": [output.as_dict(one) for one in found]})
        return
    rows = (
        (
            bare(one.name),
            _roles(one),
            bare(one.tenant) or "the box",
            "disabled" if one.HasField("disable_time") else "",
            ending[one.name].astimezone().strftime("%Y-%m-%d") if one.name in ending else "",
        )
        for one in found
    )
    output.table(("Name", "Roles", "Of", "", "Ends" if ending else ""), rows, empty="No identity.")


@app.command("show")
def show(context: typer.Context, name: NameArgument, json: JsonOption = False) -> None:
    """One identity with its certificates and sessions."""
    with box(context) as services:
        found = services.access.GetIdentity(
            pb.GetIdentityRequest(name=identity(name)), timeout=CALL_TIMEOUT_S
        ).identity
        certificates = certificates_of(services, found.name)
        sessions = services.access.ListSessions(
            pb.ListSessionsRequest(parent=found.name), timeout=CALL_TIMEOUT_S
        ).sessions
    if json:
        output.print_json(
            {
                "identity": output.as_dict(found),
                "certificates": [output.as_dict(one) for one in certificates],
                "sessions": [output.as_dict(one) for one in sessions],
            }
        )
        return
    passphrase = f"enrolled, {output.count(found.recovery_codes_left, 'recovery code')} left"
    output.facts(
        (
            ("Name", bare(found.name)),
            ("Roles", _roles(found)),
            ("Of", bare(found.tenant) or "the box"),
            ("Number", found.agent_number),
            ("Made", f"{output.when(found.create_time)} by {typed_identity(found.creator) or 'the box'}"),
            ("Disabled", output.when(found.disable_time)),
            ("Passphrase", passphrase if found.passphrase_enrolled else ""),
            *(("Subject", f"{one.subject} at {one.issuer}") for one in found.subjects),
        )
    )
    rows = (
        (
            bare(one.name),
            output.when(one.create_time),
            output.when(one.expire_time),
            f"revoked {output.when(one.revoke_time)}" if one.HasField("revoke_time") else "",
        )
        for one in certificates
    )
    output.console.print()
    output.table(("Certificate", "Issued", "Ends", ""), rows, empty="No certificate.")
    for session in sessions:
        output.console.print(
            f"session {bare(session.name)} since {output.when(session.create_time)}", markup=False
        )


@app.command("create")
def create(
    context: typer.Context,
    name: NameArgument,
    role: RoleOption = None,
    tenant: TenantOption = "",
    number: Annotated[str, typer.Option("--number", help="With the role agent: the own number.")] = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Make an identity. It comes in once it has a certificate (`issue`) or a passphrase (`passphrase`)."""
    wanted = pb.Identity(
        name=identity(name),
        roles=[choice("--role", one, ROLES) for one in role or ()],
        tenant=resource("tenants", tenant) if tenant else "",
        agent_number=number,
    )
    request = pb.CreateIdentityRequest(identity=wanted, validate_only=validate_only)
    with box(context) as services:
        _said(services.access.CreateIdentity(request, timeout=CALL_TIMEOUT_S).identity, json)


@app.command("update")
def update(
    context: typer.Context,
    name: NameArgument,
    role: RoleOption = None,
    number: Annotated[str | None, typer.Option("--number", help="The agent's own number.")] = None,
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Give an identity these roles, and no others."""
    request = pb.UpdateIdentityRequest(identity=pb.Identity(name=identity(name)), validate_only=validate_only)
    if role:
        request.identity.roles.extend(choice("--role", one, ROLES) for one in role)
        request.update_mask.paths.append("roles")
    if number is not None:
        request.identity.agent_number = number
        request.update_mask.paths.append("agent_number")
    if not request.update_mask.paths:
        raise Failure(Exit.USAGE, "say what to change: --role, --number", "NOTHING_TO_CHANGE")
    with box(context) as services:
        _said(services.access.UpdateIdentity(request, timeout=CALL_TIMEOUT_S).identity, json)


@app.command("disable")
def disable(
    context: typer.Context, name: NameArgument, validate_only: DryOption = False, json: JsonOption = False
) -> None:
    """Shut an identity out at once, whatever it comes with."""
    request = pb.DisableIdentityRequest(name=identity(name), validate_only=validate_only)
    with box(context) as services:
        _said(services.access.DisableIdentity(request, timeout=CALL_TIMEOUT_S).identity, json)


@app.command("enable")
def enable(
    context: typer.Context, name: NameArgument, validate_only: DryOption = False, json: JsonOption = False
) -> None:
    """Let a disabled identity in again."""
    request = pb.EnableIdentityRequest(name=identity(name), validate_only=validate_only)
    with box(context) as services:
        _said(services.access.EnableIdentity(request, timeout=CALL_TIMEOUT_S).identity, json)


@app.command("passphrase")
def passphrase(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose; without a name your own is changed.")] = "",
    passphrase_fd: FdOption = None,
    yes: YesOption = False,
) -> None:
    """Reset somebody's passphrase and second factor: gives a code to enrol with. Or change your own."""
    with box(context) as services:
        if name:
            if not yes:
                confirm(f"{name} will have to enrol anew; type the name", name)
            answer = services.access.ResetPassphrase(
                pb.ResetPassphraseRequest(name=identity(name)), timeout=CALL_TIMEOUT_S
            )
            who = services.access.GetIdentity(
                pb.GetIdentityRequest(name=identity(name)), timeout=CALL_TIMEOUT_S
            ).identity.name
            output.errors.print(
                f"Enrolment code, good once until {output.when(answer.expire_time)}; then:"
                f" earwitness login --enrol {typed_identity(who)}",
                markup=False,
            )
            output.console.print(answer.enrolment_code, markup=False)
            return
        secrets = Secrets(passphrase_fd)
        services.access.ChangePassphrase(
            pb.ChangePassphraseRequest(
                passphrase=secrets.ask("Passphrase as it is"),
                code=secrets.ask("Code of your authenticator, or a recovery code"),
                new_passphrase=secrets.ask("New passphrase, twelve characters or more", twice=True),
            ),
            timeout=CALL_TIMEOUT_S,
        )
    output.errors.print("changed; sign in again", markup=False)


@app.command("totp")
def totp(context: typer.Context, passphrase_fd: FdOption = None) -> None:
    """A new second factor and new recovery codes of your own."""
    secrets = Secrets(passphrase_fd)
    with box(context) as services:
        answer = services.access.ChangePassphrase(
            pb.ChangePassphraseRequest(
                passphrase=secrets.ask("Passphrase"),
                code=secrets.ask("Code of your authenticator as it is, or a recovery code"),
                new_totp=True,
            ),
            timeout=CALL_TIMEOUT_S,
        )
    show_factor(answer.totp_uri, list(answer.recovery_codes))
    output.errors.print("sign in again", markup=False)


@app.command("subject")
def subject(
    context: typer.Context,
    name: NameArgument,
    issuer: Annotated[str, typer.Argument(help="The identity provider's issuer, as in the site file.")],
    subject_: Annotated[str, typer.Argument(metavar="SUBJECT", help="The sub claim of its tokens.")],
    remove: Annotated[
        bool, typer.Option("--remove", help="It shall stand for the identity no more.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Let somebody that the identity provider knows stand for an identity."""
    known = pb.ProviderSubject(issuer=issuer, subject=subject_)
    with box(context) as services:
        if remove:
            gone = pb.RemoveSubjectRequest(name=identity(name), subject=known)
            _said(services.access.RemoveSubject(gone, timeout=CALL_TIMEOUT_S).identity, json)
        else:
            wanted = pb.AddSubjectRequest(name=identity(name), subject=known)
            _said(services.access.AddSubject(wanted, timeout=CALL_TIMEOUT_S).identity, json)


def _said(found: pb.Identity, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(found))
    else:
        output.console.print(f"{bare(found.name)}: {_roles(found)}", markup=False)


def _roles(found: pb.Identity) -> str:
    words = {value: word for word, value in ROLES.items()}
    return ", ".join(words.get(value, "?") for value in found.roles)


def _ending(services: Box, found: list[pb.Identity], within: timedelta) -> dict[str, datetime]:
    """When the last certificate in use ends, of those where that is soon."""
    now, ending = datetime.now(UTC), {}
    for one in found:
        ends = [
            certificate.expire_time.ToDatetime(UTC)
            for certificate in certificates_of(services, one.name)
            if not certificate.HasField("revoke_time")
        ]
        if ends and now < max(ends) < now + within:
            ending[one.name] = max(ends)
    return ending
