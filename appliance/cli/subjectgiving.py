"""`earwitness subjects`: what is given of what was found, and the pack that the person gets."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from appliance.cli import output
from appliance.cli.connection import bare, resource
from appliance.cli.context import (
    CALL_TIMEOUT_S,
    LOOK_TIMEOUT_S,
    Box,
    JsonOption,
    box,
)
from appliance.cli.downloads import take, tell
from appliance.cli.exits import Exit, Failure
from appliance.cli.progress import bar
from appliance.cli.secretinput import Secrets
from appliance.cli.subjectview import RequestArgument, named, offset, value
from earwitness.v1 import operations_pb2
from earwitness.v1 import subjects_pb2 as pb

_GROUNDS: Final = [
    one.removeprefix("WITHHOLDING_GROUND_").lower().replace("_", "-")
    for one in pb.WithholdingGround.keys()[1:]
]
_ALPHABET: Final = (
    "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that is taken for something else when it is read out
)
RecordingArgument = Annotated[str, typer.Argument(metavar="RECORDING", help="Name or id of the recording.")]
TextOption = Annotated[str, typer.Option("--text", help="More of why; the person reads it.")]
GroundOption = Annotated[str, typer.Option("--ground", help=f"Why: {', '.join(_GROUNDS)}.")]
ExceptionOption = Annotated[
    str,
    typer.Option(
        "--although-restricted",
        help="Why it is given although it is restricted: consent, legal-claim, rights-of-others, public-interest.",
    ),
]


def choose(
    context: typer.Context,
    name: RequestArgument,
    recordings: Annotated[list[str], typer.Argument(metavar="RECORDING...", help="What is given.")],
    exception: ExceptionOption = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take back what was chosen of them.")] = False,
) -> None:
    """Give these recordings, whole."""
    with box(context) as services:
        for one in recordings:
            if undo:
                request = pb.RemoveSubjectChoiceRequest(
                    name=named(name), recording=resource("recordings", one)
                )
                services.subjects.RemoveSubjectChoice(request, timeout=CALL_TIMEOUT_S)
                continue
            _choose(services, name, one, give=True, restriction_exception=_exception(exception))
    output.console.print(output.some(len(recordings), "recording") + (" taken back" if undo else " given"))


def mute(
    context: typer.Context,
    name: RequestArgument,
    recording: RecordingArgument,
    party: Annotated[
        list[int] | None, typer.Option("--party", help="Whose voice: the number that `subjects find` shows.")
    ] = None,
    span: Annotated[
        list[str] | None, typer.Option("--span", help="Only from-to, such as 1:05-2:30; 1:05- is to the end.")
    ] = None,
    ground: GroundOption = "third-party",
    text: TextOption = "",
    exception: ExceptionOption = "",
    json: JsonOption = False,
) -> None:
    """Give a recording with a voice, or a stretch, as silence. Says all that is silent of it: what was said before goes.

    earwitness subjects mute REQUEST RECORDING --party 1 --ground third-party
    earwitness subjects mute REQUEST RECORDING --span 1:05-2:30 --text "Another patient is named"
    """
    if not party and not span:
        raise Failure(Exit.USAGE, "--party or --span: what is to be silent?", "OPTION_MISSING")
    mutes = []
    for text_of in span or ["0:00-"]:
        begin, dash, end = text_of.partition("-")
        if not dash:
            raise Failure(
                Exit.USAGE, f"--span: {text_of!r} is no stretch such as 1:05-2:30", "OPTION_INVALID"
            )
        for one in party or (None,):
            made = pb.SubjectMute(start_offset=offset(begin, "--span"), party=one)
            if end.strip():
                made.end_offset.CopyFrom(offset(end, "--span"))
            mutes.append(made)
    with box(context) as services:
        made_choice = _choose(
            services,
            name,
            recording,
            give=True,
            mutes=mutes,
            ground=value(pb.WithholdingGround, "WITHHOLDING_GROUND_", ground, "--ground"),
            text=text,
            restriction_exception=_exception(exception),
        )
    _told(made_choice, json)


def withhold(
    context: typer.Context,
    name: RequestArgument,
    recording: RecordingArgument,
    ground: GroundOption,
    text: TextOption = "",
    untold: Annotated[
        bool, typer.Option("--untold", help="The person is not told of it either: telling would do the harm.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Do not give a recording, for a reason that the person reads."""
    with box(context) as services:
        made = _choose(
            services,
            name,
            recording,
            give=False,
            ground=value(pb.WithholdingGround, "WITHHOLDING_GROUND_", ground, "--ground"),
            text=text,
            untold=untold,
        )
    _told(made, json)


def pack(
    context: typer.Context,
    name: RequestArgument,
    generate: Annotated[
        bool, typer.Option("--generate", help="Make up a passphrase, and show it once.")
    ] = False,
    fd: Annotated[
        int | None, typer.Option("--passphrase-fd", help="Read the passphrase from this file descriptor.")
    ] = None,
    keep_days: Annotated[
        int, typer.Option("--keep-days", min=0, max=90, help="Destroy it after; 0: 30.")
    ] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Until it is made.")] = False,
    json: JsonOption = False,
) -> None:
    """Make the pack of what is given, under the person's passphrase. Tell it to them by another way than the pack."""
    words = (
        "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(5))
        if generate
        else Secrets(fd).ask("Passphrase of the person", twice=True)
    )
    with box(context) as services:
        request = pb.MakeSubjectPackRequest(name=named(name), passphrase=words, keep_days=keep_days)
        begun = services.subjects.MakeSubjectPack(request, timeout=LOOK_TIMEOUT_S)
        if wait:
            _wait(services, begun.operation.name, json)
    if json:
        shown = output.as_dict(begun.pack) | ({"passphrase": words} if generate else {})
        output.print_json(shown)
        return
    output.console.print(f"pack {bare(begun.pack.name)}" + ("" if wait else ", being made"))
    if generate:
        output.console.print(f"passphrase, shown once: {words}", markup=False)


def download(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PACK", help="Name or id of the pack.")],
    target: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder; else the box's name, here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    json: JsonOption = False,
) -> None:
    """Download a pack. Goes on where it broke off."""
    full = resource("subjectPacks", name)
    with box(context) as services:

        def begin(offset: int, etag: str) -> Any:
            request = pb.DownloadSubjectPackRequest(name=full, offset=offset, etag=etag)
            return services.subjects.DownloadSubjectPack(request)

        done = take(full, "zip", target, begin, force=force, quiet=json)
    tell(done, json)


def destroy(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PACK", help="Name or id of the pack.")],
) -> None:
    """Destroy a pack now: the person has it."""
    with box(context) as services:
        request = pb.DeleteSubjectPackRequest(name=resource("subjectPacks", name))
        services.subjects.DeleteSubjectPack(request, timeout=CALL_TIMEOUT_S)
    output.console.print("destroyed")


def _choose(services: Box, name: str, recording: str, **fields: Any) -> pb.SubjectChoice:
    choice = pb.SubjectChoice(recording=resource("recordings", recording), **fields)
    request = pb.SetSubjectChoiceRequest(name=named(name), choice=choice)
    return services.subjects.SetSubjectChoice(request, timeout=CALL_TIMEOUT_S).choice


def _exception(text: str) -> Any:
    if not text:
        return pb.RESTRICTION_EXCEPTION_UNSPECIFIED
    return value(pb.RestrictionException, "RESTRICTION_EXCEPTION_", text, "--although-restricted")


def _wait(services: Box, name: str, quiet: bool) -> None:
    operation = operations_pb2.Operation()
    request = operations_pb2.WatchOperationRequest(name=name)
    with bar("making", quiet=quiet) as advance:
        for message in services.operations.WatchOperation(request):
            operation = message.operation
            advance(operation.done_count / max(1, operation.total_count))
    if operation.state != operations_pb2.OPERATION_STATE_SUCCEEDED:
        raise Failure(Exit.FAILED, "the pack could not be made", operation.failure or "NO_END")


def _told(choice: pb.SubjectChoice, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(choice))
    else:
        word = f"given, {output.count(len(choice.mutes), 'stretch')} silent" if choice.give else "withheld"
        output.console.print(f"{bare(choice.recording)}: {word}")


def join(app: typer.Typer) -> None:
    """Puts these commands beside the others of `earwitness subjects`."""
    for name, command in (
        ("choose", choose),
        ("mute", mute),
        ("withhold", withhold),
        ("pack", pack),
        ("download", download),
        ("destroy", destroy),
    ):
        app.command(name)(command)
