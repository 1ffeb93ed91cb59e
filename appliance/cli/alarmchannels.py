"""`earwitness alarms channels`: where alarms are told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from appliance.cli import alarmview, output
from appliance.cli.confirm import confirm
from appliance.cli.connection import bare, resource, tenant_parent
from appliance.cli.context import CALL_TIMEOUT_S, DryOption, JsonOption, TenantOption, YesOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.secretinput import Secrets
from appliance.model import new_id
from earwitness import pages
from earwitness.v1 import alarms_pb2 as pb

app = typer.Typer(help="Channels: mail, webhooks, syslog.", no_args_is_help=True)

ChannelArgument = Annotated[str, typer.Argument(help="Name or id of the channel.")]
NameArgument = Annotated[str, typer.Argument(help="Name to show.")]
OfTenant = Annotated[
    str, typer.Option("--tenant", help="A tenant's own channel (name or id); else the box's.")
]
FromSeverity = Annotated[
    Literal["notice", "warning", "critical"], typer.Option("--from-severity", help="The least that goes out.")
]
CaOption = Annotated[
    Path | None,
    typer.Option("--ca", help="Certificates the far end is checked against (PEM); else the system's."),
]
FdOption = Annotated[
    int | None, typer.Option("--secret-fd", help="Read the secret from this file descriptor, a line.")
]


@app.command("list")
def list_channels(context: typer.Context, tenant: TenantOption = "", json: JsonOption = False) -> None:
    """All channels, and how they fare."""
    found: list[pb.AlarmChannel] = []
    asked = pb.ListAlarmChannelsRequest(parent=tenant_parent(tenant), page_size=1000)
    with box(context) as services:
        for answer in pages(services.alarms.ListAlarmChannels, asked, timeout=CALL_TIMEOUT_S):
            found += answer.alarm_channels
    if json:
        output.print_json({"alarmChannels": [output.as_dict(one) for one in found]})
    else:
        alarmview.channels(found)


@app.command()
def show(context: typer.Context, channel: ChannelArgument, json: JsonOption = False) -> None:
    """One channel: where it leads, and how it fares."""
    with box(context) as services:
        asked = pb.GetAlarmChannelRequest(name=name_of(channel))
        found = services.alarms.GetAlarmChannel(asked, timeout=CALL_TIMEOUT_S).alarm_channel
    _show(found, json)


@app.command("add-mail")
def add_mail(
    context: typer.Context,
    name: NameArgument,
    host: Annotated[str, typer.Option("--host", help="The mail server.")],
    from_: Annotated[str, typer.Option("--from", help="The address that mails come from.")],
    to: Annotated[list[str], typer.Option("--to", help="Who gets them; as often as you like.")],
    port: Annotated[int, typer.Option("--port", help="Else as the security says: 587, 465, 25.")] = 0,
    security: Annotated[
        Literal["starttls", "tls", "none"],
        typer.Option("--security", help="How the connection is protected."),
    ] = "starttls",
    username: Annotated[
        str, typer.Option("--username", help="Who to sign in as; the password is asked for.")
    ] = "",
    digest: Annotated[
        int | None, typer.Option("--digest", min=0, max=23, help="Notices together, at this hour (UTC).")
    ] = None,
    ca: CaOption = None,
    secret_fd: FdOption = None,
    tenant: OfTenant = "",
    from_severity: FromSeverity = "warning",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Tell alarms by mail.

    Example: earwitness alarms channels add-mail IT --host mail.hospital.example --from box@hospital.example
    --to it@hospital.example --username box --digest 6
    """
    settings = pb.SmtpSettings(
        host=host,
        port=port,
        security=pb.SmtpSecurity.Value(f"SMTP_SECURITY_{security.upper()}"),
        username=username,
        password=Secrets(secret_fd).ask("Password", twice=True) if username else "",
        to=to,
        digest=digest is not None,
        digest_hour=digest or 0,
        ca_certificates=_pem(ca),
    )
    setattr(settings, "from", from_)  # a word of Python
    made = pb.AlarmChannel(display_name=name, smtp=settings, minimum_severity=_severity(from_severity))
    _create(context, made, tenant, validate_only, json)


@app.command("add-webhook")
def add_webhook(
    context: typer.Context,
    name: NameArgument,
    url: Annotated[str, typer.Option("--url", help="Where messages are posted: https://…")],
    ca: CaOption = None,
    secret_fd: FdOption = None,
    tenant: OfTenant = "",
    from_severity: FromSeverity = "warning",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Tell alarms to a program, over HTTPS. The secret that messages are signed under is asked for."""
    settings = pb.WebhookSettings(
        url=url, secret=Secrets(secret_fd).ask("Secret", twice=True), ca_certificates=_pem(ca)
    )
    made = pb.AlarmChannel(display_name=name, webhook=settings, minimum_severity=_severity(from_severity))
    _create(context, made, tenant, validate_only, json)


@app.command("add-syslog")
def add_syslog(
    context: typer.Context,
    name: NameArgument,
    host: Annotated[str, typer.Option("--host", help="The collector.")],
    port: Annotated[int, typer.Option("--port", help="Its port; else 6514.")] = 0,
    ca: CaOption = None,
    tenant: OfTenant = "",
    from_severity: FromSeverity = "notice",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Tell alarms to a collector of syslog, over TLS."""
    settings = pb.SyslogSettings(host=host, port=port, ca_certificates=_pem(ca))
    made = pb.AlarmChannel(display_name=name, syslog=settings, minimum_severity=_severity(from_severity))
    _create(context, made, tenant, validate_only, json)


@app.command()
def update(
    context: typer.Context,
    channel: ChannelArgument,
    name: Annotated[str | None, typer.Option("--name", help="Another name to show.")] = None,
    from_severity: Annotated[
        Literal["notice", "warning", "critical"] | None,
        typer.Option("--from-severity", help="The least that goes out."),
    ] = None,
    disable: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Nothing goes out, or again.")
    ] = None,
    to: Annotated[
        list[str] | None, typer.Option("--to", help="Who gets mails; as often as you like.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Where messages are posted.")] = None,
    new_secret: Annotated[
        bool, typer.Option("--new-secret", help="Ask for another password or secret.")
    ] = False,
    secret_fd: FdOption = None,
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Change a channel; what waits goes out by it at once."""
    said, paths = pb.AlarmChannel(name=name_of(channel)), list[str]()
    if name is not None:
        said.display_name = name
        paths.append("display_name")
    if from_severity is not None:
        said.minimum_severity = _severity(from_severity)
        paths.append("minimum_severity")
    if disable is not None:
        said.disabled = disable
        paths.append("disabled")
    if to:
        said.smtp.to.extend(to)
        paths.append("smtp.to")
    if url is not None:
        said.webhook.url = url
        paths.append("webhook.url")
    with box(context) as services:
        if new_secret:
            before = services.alarms.GetAlarmChannel(
                pb.GetAlarmChannelRequest(name=said.name), timeout=CALL_TIMEOUT_S
            ).alarm_channel
            secret = Secrets(secret_fd).ask("Password or secret", twice=True)
            if before.HasField("smtp"):
                said.smtp.password = secret
                paths.append("smtp.password")
            else:
                said.webhook.secret = secret
                paths.append("webhook.secret")
        if not paths:
            raise Failure(Exit.USAGE, "there is nothing to change", "OPTION_INVALID")
        asked = pb.UpdateAlarmChannelRequest(
            alarm_channel=said,
            update_mask=FieldMask(paths=paths),
            request_id=new_id(),
            validate_only=validate_only,
        )
        done = services.alarms.UpdateAlarmChannel(asked, timeout=CALL_TIMEOUT_S).alarm_channel
    _show(done, json)


@app.command()
def delete(
    context: typer.Context, channel: ChannelArgument, yes: YesOption = False, json: JsonOption = False
) -> None:
    """Delete a channel, and what waits to be sent by it."""
    name = name_of(channel)
    if not yes:
        confirm("What waits to be sent by it goes, too. Type the channel's id to delete it", bare(name))
    with box(context) as services:
        asked = pb.DeleteAlarmChannelRequest(name=name, request_id=new_id())
        services.alarms.DeleteAlarmChannel(asked, timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json({})
    else:
        output.console.print("deleted")


def name_of(text: str) -> str:
    """The full name of a channel that was given as a name or as a bare id."""
    return text if text.startswith("alarmChannels/") else resource("alarmChannels", text)


def _create(
    context: typer.Context, channel: pb.AlarmChannel, tenant: str, validate_only: bool, json: bool
) -> None:
    asked = pb.CreateAlarmChannelRequest(
        parent=resource("tenants", tenant) if tenant else "",
        alarm_channel=channel,
        request_id=new_id(),
        validate_only=validate_only,
    )
    with box(context) as services:
        made = services.alarms.CreateAlarmChannel(asked, timeout=CALL_TIMEOUT_S).alarm_channel
    _show(made, json)


def _show(channel: pb.AlarmChannel, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(channel))
    else:
        alarmview.channel(channel)


def _severity(word: str) -> pb.AlarmSeverity.ValueType:
    return pb.AlarmSeverity.Value(f"ALARM_SEVERITY_{word.upper()}")


def _pem(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(Exit.USAGE, f"cannot read {path} as certificates", "FILE_UNREADABLE") from error
