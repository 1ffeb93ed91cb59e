"""`earwitness scorecards`: the questions that calls are reviewed with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from google.protobuf import json_format

from appliance.cli import output
from appliance.cli.connection import bare, resource
from appliance.cli.context import CALL_TIMEOUT_S, DryOption, JsonOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.purposes import TenantOption, tenant_of
from earwitness import pages
from earwitness.v1 import review_pb2 as pb

app = typer.Typer(
    help="Scorecards for reviews: list, show, create, update, archive, history.", no_args_is_help=True
)
NameArgument = Annotated[str, typer.Argument(metavar="SCORECARD", help="Name or id.")]
FileArgument = Annotated[
    Path, typer.Argument(help="JSON: display_name, questions, pass_percent, as `show --json` writes them.")
]
MAX_FILE: Final = 1 << 20
CHOSEN: Final = (
    "name",
    "version",
    "newest_version",
    "create_time",
    "version_time",
    "author",
    "archive_time",
    "etag",
)


@app.command("list")
def list_scorecards(
    context: typer.Context,
    tenant: TenantOption = "",
    archived: Annotated[bool, typer.Option("--archived", help="Those taken out of use, too.")] = False,
    json: JsonOption = False,
) -> None:
    """Scorecards of a tenant, oldest first."""
    found: list[pb.Scorecard] = []
    with box(context) as services:
        request = pb.ListScorecardsRequest(
            parent=tenant_of(services, tenant), page_size=1000, show_archived=archived
        )
        for page in pages(services.review.ListScorecards, request, timeout=CALL_TIMEOUT_S):
            found += page.scorecards
    if json:
        output.print_json({"scorecards": [output.as_dict(one) for one in found]})
        return
    rows = (
        (
            bare(one.name),
            one.display_name,
            str(one.version),
            str(len(one.questions)),
            "archived" if one.HasField("archive_time") else "",
        )
        for one in found
    )
    output.table(("ID", "Name", "Version", "Questions", "State"), rows, empty="No scorecard.")


@app.command("show")
def show(
    context: typer.Context,
    name: NameArgument,
    version: Annotated[int, typer.Option("--version", min=0, help="Else the newest.")] = 0,
    json: JsonOption = False,
) -> None:
    """The questions of a scorecard."""
    request = pb.GetScorecardRequest(name=resource("scorecards", name), version=version)
    with box(context) as services:
        _print(services.review.GetScorecard(request, timeout=CALL_TIMEOUT_S).scorecard, json)


@app.command("create")
def create(
    context: typer.Context,
    file: FileArgument,
    tenant: TenantOption = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Make a scorecard from a file.

    earwitness scorecards create front-desk.json
    """
    with box(context) as services:
        request = pb.CreateScorecardRequest(
            parent=tenant_of(services, tenant), scorecard=_read(file), validate_only=validate_only
        )
        made = services.review.CreateScorecard(request, timeout=CALL_TIMEOUT_S).scorecard
    if json:
        output.print_json(output.as_dict(made))
    else:
        output.console.print("valid" if validate_only else bare(made.name))


@app.command("update")
def update(
    context: typer.Context,
    name: NameArgument,
    file: FileArgument,
    etag: Annotated[str, typer.Option("--etag", help="Only if it is still as it was then.")] = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Make a new version of a scorecard. What was begun with an older one is finished with that."""
    card = _read(file)
    card.name, card.etag = resource("scorecards", name), etag
    request = pb.UpdateScorecardRequest(scorecard=card, validate_only=validate_only)
    request.update_mask.paths.extend(("display_name", "questions", "pass_percent"))
    with box(context) as services:
        answer = services.review.UpdateScorecard(request, timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(answer))
        return
    output.console.print(f"version {answer.scorecard.version}")
    if answer.draft_count:
        output.console.print(
            f"{output.count(answer.draft_count, 'review')} will be finished with an older version."
        )


@app.command("archive")
def archive(
    context: typer.Context, name: NameArgument, validate_only: DryOption = False, json: JsonOption = False
) -> None:
    """Take a scorecard out of use: what was begun with it is finished, and nothing new begins."""
    request = pb.ArchiveScorecardRequest(name=resource("scorecards", name), validate_only=validate_only)
    with box(context) as services:
        answer = services.review.ArchiveScorecard(request, timeout=CALL_TIMEOUT_S).scorecard
    if json:
        output.print_json(output.as_dict(answer))
    else:
        output.console.print(f"{bare(answer.name)}: {'can be archived' if validate_only else 'archived'}")


@app.command("history")
def history(context: typer.Context, name: NameArgument, json: JsonOption = False) -> None:
    """The versions of a scorecard, newest first."""
    found: list[pb.Scorecard] = []
    request = pb.ListScorecardVersionsRequest(parent=resource("scorecards", name), page_size=1000)
    with box(context) as services:
        for page in pages(services.review.ListScorecardVersions, request, timeout=CALL_TIMEOUT_S):
            found += page.scorecards
    if json:
        output.print_json({"scorecards": [output.as_dict(one) for one in found]})
        return
    rows = (
        (str(one.version), output.when(one.version_time), bare(one.author), str(len(one.questions)))
        for one in found
    )
    output.table(("Version", "Made", "By", "Questions"), rows, empty="")


def kind_word(kind: pb.QuestionKind.ValueType) -> str:
    return output.enum_word(pb.QuestionKind, kind)


def _read(file: Path) -> pb.Scorecard:
    try:
        if file.stat().st_size > MAX_FILE:
            raise Failure(Exit.USAGE, f"{file} is larger than 1 MiB", "FILE_INVALID")
        made = json_format.Parse(file.read_text("utf-8"), pb.Scorecard())
    except OSError as error:
        raise Failure(Exit.USAGE, f"cannot read {file}: {error.strerror}", "FILE_INVALID") from error
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise Failure(Exit.USAGE, f"{file} is no scorecard: {error}", "FILE_INVALID") from error
    for field in CHOSEN:  # what the box chooses, where the file is one that it wrote
        made.ClearField(field)
    return made


def _print(card: pb.Scorecard, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(card))
        return
    output.console.print(
        f"{output.plain(card.display_name)}, version {card.version} of {card.newest_version}"
        + (f"; below {card.pass_percent} % fails" if card.pass_percent else ""),
        soft_wrap=True,
    )
    rows = (
        (
            one.question,
            one.text,
            kind_word(one.kind)
            + (f" 1-{one.steps}" if one.steps else "")
            + (f": {', '.join(each.choice for each in one.choices)}" if one.choices else ""),
            str(one.weight),
            ("critical " if one.critical else "") + ("may not apply" if one.may_not_apply else ""),
        )
        for one in card.questions
    )
    output.table(("ID", "Question", "Answer", "Weight", ""), rows, empty="")
