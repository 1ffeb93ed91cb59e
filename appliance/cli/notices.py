"""`earwitness notices`: what staff is told of recording; who acknowledged it is in `acknowledgements`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from appliance.cli import output
from appliance.cli.connection import bare
from appliance.cli.context import CALL_TIMEOUT_S, DryOption, JsonOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.purposes import TenantOption, tenant_of
from earwitness import pages
from earwitness.v1 import notices_pb2 as pb

app = typer.Typer(
    help="Notices: what staff is told of recording. Adopt, write, publish; acknowledge; who has not.",
    no_args_is_help=True,
)

NoticeArgument = Annotated[str, typer.Argument(help="Name or id of the notice.")]
TextOption = Annotated[Path, typer.Option("--text", help="The text, in a file of UTF-8.", show_default=False)]
FromOption = Annotated[
    str, typer.Option("--from", help="When it comes into force, such as 2026-12-01T08:00; else now.")
]
LanguageOption = Annotated[str, typer.Option("--language", help="Of the text.")]
AudienceOption = Annotated[
    str | None, typer.Option("--to", help="all, agents, or line-agents (with --line).", show_default="all")
]
LinesOption = Annotated[list[str] | None, typer.Option("--line", help="Name or id of a line; several times.")]
RequiredOption = Annotated[
    bool | None,
    typer.Option(
        "--required/--not-required", help="Who has not acknowledged it may be kept from pausing or reading."
    ),
]
AUDIENCES = {
    "all": pb.NOTICE_AUDIENCE_ALL,
    "agents": pb.NOTICE_AUDIENCE_AGENTS,
    "line-agents": pb.NOTICE_AUDIENCE_LINE_AGENTS,
}


def named(parent: str, text: str) -> str:
    """The full name of a notice."""
    return text if "/" in text else f"{parent}/notices/{text}"


@app.command("list")
def list_notices(
    context: typer.Context,
    tenant: TenantOption = "",
    archived: Annotated[bool, typer.Option("--archived", help="Those taken out of use, too.")] = False,
    json: JsonOption = False,
) -> None:
    """What staff is told."""
    found: list[pb.Notice] = []
    with box(context) as services:
        request = pb.ListNoticesRequest(
            parent=tenant_of(services, tenant), page_size=1000, show_archived=archived
        )
        for answer in pages(services.notices.ListNotices, request, timeout=CALL_TIMEOUT_S):
            found += answer.notices
    _print(found, json)


@app.command("show")
def show(
    context: typer.Context,
    notice: NoticeArgument,
    version: Annotated[int | None, typer.Option("--version", min=1, help="An older version.")] = None,
    tenant: TenantOption = "",
    json: JsonOption = False,
) -> None:
    """The text of a notice, as it is in force or as it was."""
    with box(context) as services:
        name = named(tenant_of(services, tenant), notice)
        if version:
            request = pb.ListNoticeVersionsRequest(parent=name)
            some = (
                one
                for answer in pages(services.notices.ListNoticeVersions, request, timeout=CALL_TIMEOUT_S)
                for one in answer.versions
            )
            made = next((one for one in some if one.version == version), None)
            if made is None:
                raise Failure(Exit.NOT_FOUND, "there is no such version", "VERSION_NOT_FOUND")
            if json:
                output.print_json(output.as_dict(made))
            else:
                output.console.print(output.plain(made.text), markup=False, soft_wrap=True)
            return
        found = services.notices.GetNotice(pb.GetNoticeRequest(name=name), timeout=CALL_TIMEOUT_S).notice
    if json:
        output.print_json(output.as_dict(found))
        return
    _print([found], False)
    output.console.print(output.plain(found.current.text), markup=False, soft_wrap=True)


@app.command("adopt")
def adopt(
    context: typer.Context,
    start: FromOption = "",
    tenant: TenantOption = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Publish the texts that come with the box, with your lines' key codes filled in. Again: where those changed since."""
    with box(context) as services:
        request = pb.AdoptDefaultNoticesRequest(
            parent=tenant_of(services, tenant), publish_time=moment(start), validate_only=validate_only
        )
        answer = services.notices.AdoptDefaultNotices(request, timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(answer))
    else:
        _print(list(answer.notices), False)
        output.console.print(f"{answer.changed} {'would be ' if validate_only else ''}new or changed")


@app.command("create")
def create(
    context: typer.Context,
    display_name: Annotated[str, typer.Argument(help="Name to show.")],
    text: TextOption,
    to: AudienceOption = None,
    line: LinesOption = None,
    required: RequiredOption = None,
    language: LanguageOption = "en-GB",
    start: FromOption = "",
    tenant: TenantOption = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Make a notice of your own."""
    with box(context) as services:
        parent = tenant_of(services, tenant)
        request = pb.CreateNoticeRequest(
            parent=parent,
            notice=pb.Notice(
                display_name=display_name,
                audience=_audience(to or "all"),
                lines=[f"{parent}/lines/{bare(one)}" for one in line or []],
                required=bool(required),
            ),
            first_version=pb.NoticeVersion(text=_text(text), language=language, publish_time=moment(start)),
            validate_only=validate_only,
        )
        made = services.notices.CreateNotice(request, timeout=CALL_TIMEOUT_S).notice
    if json:
        output.print_json(output.as_dict(made))
    else:
        output.console.print("valid" if validate_only else bare(made.name))


@app.command("update")
def update(
    context: typer.Context,
    notice: NoticeArgument,
    display_name: Annotated[str | None, typer.Option("--name", help="Name to show.")] = None,
    to: AudienceOption = None,
    line: LinesOption = None,
    required: RequiredOption = None,
    tenant: TenantOption = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Change how a notice is called, to whom it goes, and whether it is required."""
    with box(context) as services:
        parent = tenant_of(services, tenant)
        said: dict[str, Any] = {
            "display_name": display_name,
            "audience": None if to is None else _audience(to),
            "lines": None
            if line is None and to is None
            else [f"{parent}/lines/{bare(one)}" for one in line or []],
            "required": required,
        }
        said = {field: value for field, value in said.items() if value is not None}
        if not said:
            raise Failure(Exit.USAGE, "nothing to change: see --help", "OPTION_MISSING")
        request = pb.UpdateNoticeRequest(
            notice=pb.Notice(name=named(parent, notice), **said), validate_only=validate_only
        )
        request.update_mask.paths.extend(said)
        _print([services.notices.UpdateNotice(request, timeout=CALL_TIMEOUT_S).notice], json)


@app.command("publish")
def publish(
    context: typer.Context,
    notice: NoticeArgument,
    text: TextOption,
    anew: Annotated[
        bool,
        typer.Option(
            "--anew/--as-before", help="Who acknowledged an older version is to acknowledge this one."
        ),
    ] = True,
    language: LanguageOption = "en-GB",
    start: FromOption = "",
    tenant: TenantOption = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Give a notice a new text, from now or from a time on. The old one stays readable."""
    with box(context) as services:
        request = pb.PublishNoticeVersionRequest(
            name=named(tenant_of(services, tenant), notice),
            version=pb.NoticeVersion(
                text=_text(text), language=language, acknowledge_anew=anew, publish_time=moment(start)
            ),
            validate_only=validate_only,
        )
        _print([services.notices.PublishNoticeVersion(request, timeout=CALL_TIMEOUT_S).notice], json)


@app.command("cancel")
def cancel(
    context: typer.Context,
    notice: NoticeArgument,
    version: Annotated[int, typer.Argument(min=1, help="The version whose time has not come.")],
    tenant: TenantOption = "",
    json: JsonOption = False,
) -> None:
    """Take back a version before its time."""
    with box(context) as services:
        request = pb.CancelNoticeVersionRequest(
            name=named(tenant_of(services, tenant), notice), version=version
        )
        _print([services.notices.CancelNoticeVersion(request, timeout=CALL_TIMEOUT_S).notice], json)


@app.command("archive")
def archive(
    context: typer.Context, notice: NoticeArgument, tenant: TenantOption = "", json: JsonOption = False
) -> None:
    """Take a notice out of use. It stays readable; `unarchive` puts it back."""
    with box(context) as services:
        request = pb.ArchiveNoticeRequest(name=named(tenant_of(services, tenant), notice))
        _print([services.notices.ArchiveNotice(request, timeout=CALL_TIMEOUT_S).notice], json)


@app.command("unarchive")
def unarchive(
    context: typer.Context, notice: NoticeArgument, tenant: TenantOption = "", json: JsonOption = False
) -> None:
    """Put a notice into use again."""
    with box(context) as services:
        request = pb.UnarchiveNoticeRequest(name=named(tenant_of(services, tenant), notice))
        _print([services.notices.UnarchiveNotice(request, timeout=CALL_TIMEOUT_S).notice], json)


def _print(some: list[pb.Notice], json: bool) -> None:
    if json:
        output.print_json({"notices": [output.as_dict(one) for one in some]})
        return
    rows = (
        (
            bare(one.name),
            one.display_name,
            output.enum_word(pb.NoticeAudience, one.audience).removeprefix("notice audience "),
            "yes" if one.required else "",
            str(one.current.version or ""),
            f"version {one.scheduled.version} on {output.moment(one.scheduled.publish_time)}"
            if one.HasField("scheduled")
            else f"archived {output.moment(one.archive_time)}"
            if one.HasField("archive_time")
            else "",
        )
        for one in some
    )
    output.table(("ID", "Notice", "To", "Required", ">Version", "State"), rows, empty="No notice.")


def _audience(text: str) -> pb.NoticeAudience.ValueType:
    if text not in AUDIENCES:
        raise Failure(Exit.USAGE, f"--to: {text!r} is none of {', '.join(AUDIENCES)}", "OPTION_INVALID")
    return AUDIENCES[text]


def _text(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(Exit.USAGE, f"cannot read {path} as text", "FILE_UNREADABLE") from error


def moment(text: str) -> Timestamp | None:
    """A time as people write it, where the machine is; None: not said."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Failure(Exit.USAGE, f"{text!r} is no time such as 2026-12-01T08:00", "USAGE") from error
    made = Timestamp()
    made.FromDatetime(at.astimezone(UTC))
    return made
