"""`earwitness notes`, and `recordings tag`: what people add to recordings."""

from __future__ import annotations

from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from appliance.cli import output
from appliance.cli.confirm import confirm
from appliance.cli.connection import bare, resource
from appliance.cli.context import CALL_TIMEOUT_S, Box, DryOption, JsonOption, YesOption, box
from appliance.cli.exits import Exit, Failure
from appliance.model import new_id
from earwitness import pages
from earwitness.v1 import notes_pb2

app = typer.Typer(help="Notes on recordings: add, list, edit, delete.", no_args_is_help=True)
COLUMNS = ("ID", "At", "Author", "Written", "Text")
RecordingArgument = Annotated[str, typer.Argument(help="Name or id of the recording.")]
NoteArgument = Annotated[str, typer.Argument(help="Id of the note, or its name in place of both.")]
AtOption = Annotated[
    str, typer.Option("--at", help="Where on the timeline, such as 90 or 1:30; nothing: of the whole.")
]


def offset_of(text: str) -> Duration:
    """Seconds, or minutes and seconds, or hours too."""
    parts = text.split(":")
    if len(parts) > 3 or not all(part.replace(".", "", 1).isdecimal() for part in parts):
        raise Failure(Exit.USAGE, "--at should be seconds such as 90, or a time such as 1:30", "USAGE")
    seconds = 0.0
    for part in parts:
        seconds = 60 * seconds + float(part)
    made = Duration()
    made.FromNanoseconds(round(seconds * 1e9))
    return made


def _name(recording: str, note: str) -> str:
    return note if "/" in note else f"{resource('recordings', recording)}/notes/{note}"


def _row(note: notes_pb2.Note) -> tuple[str, ...]:
    at = output.clock(note.offset) if note.HasField("offset") else ""
    changed = "" if note.editor == note.author else f", changed by {note.editor}"
    return bare(note.name), at, note.author + changed, output.moment(note.update_time), note.text


def _print(note: notes_pb2.Note, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(note))
    else:
        output.table(COLUMNS, [_row(note)], empty="")


@app.command("list")
def list_notes(context: typer.Context, recording: RecordingArgument, json: JsonOption = False) -> None:
    """Notes of a recording, oldest first."""
    found: list[notes_pb2.Note] = []
    request = notes_pb2.ListNotesRequest(parent=resource("recordings", recording), page_size=500)
    with box(context) as services:
        for answer in pages(services.notes.ListNotes, request, timeout=CALL_TIMEOUT_S):
            found += answer.notes
    if json:
        output.print_json({"notes": [output.as_dict(note) for note in found]})
        return
    output.table(COLUMNS, map(_row, found), empty="No note.")


@app.command()
def add(
    context: typer.Context,
    recording: RecordingArgument,
    text: Annotated[str, typer.Argument(help="What it says, 1 to 4,000 characters.")],
    at: AtOption = "",
    json: JsonOption = False,
) -> None:
    """Write a note."""
    note = notes_pb2.Note(text=text, offset=offset_of(at) if at else None)
    request = notes_pb2.CreateNoteRequest(parent=resource("recordings", recording), note=note)
    with box(context) as services:
        made = services.notes.CreateNote(request, timeout=CALL_TIMEOUT_S).note
    _print(made, json)


@app.command()
def edit(
    context: typer.Context,
    recording: RecordingArgument,
    note: NoteArgument,
    text: Annotated[str, typer.Option("--text", help="What it shall say.")] = "",
    at: AtOption = "",
    etag: Annotated[str, typer.Option("--etag", help="Only if it is still as it was at this etag.")] = "",
    json: JsonOption = False,
) -> None:
    """Change what a note says, or where it stands."""
    paths = [path for path, said in (("text", text), ("offset", at)) if said]
    if not paths:
        raise Failure(Exit.USAGE, "nothing to change", "USAGE", "--text, --at")
    changed = notes_pb2.Note(name=_name(recording, note), text=text, etag=etag)
    if at:
        changed.offset.CopyFrom(offset_of(at))
    request = notes_pb2.UpdateNoteRequest(note=changed, update_mask=FieldMask(paths=paths))
    with box(context) as services:
        made = services.notes.UpdateNote(request, timeout=CALL_TIMEOUT_S).note
    _print(made, json)


@app.command()
def delete(
    context: typer.Context, recording: RecordingArgument, note: NoteArgument, json: JsonOption = False
) -> None:
    """Remove a note for good."""
    request = notes_pb2.DeleteNoteRequest(name=_name(recording, note))
    with box(context) as services:
        services.notes.DeleteNote(request, timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json({})


@app.command("begin-anew")
def begin_anew(
    context: typer.Context,
    recording: RecordingArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is sealed with the new one.")],
    validate_only: DryOption = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Set a recording's damaged sidecar aside and begin a new one, where no copy brings the whole one back."""
    name = resource("recordings", recording)
    asked = notes_pb2.BeginSidecarAnewRequest(name=name, reason=reason, validate_only=True)
    with box(context) as services:
        done = services.notes.BeginSidecarAnew(asked, timeout=CALL_TIMEOUT_S)
        if not validate_only:
            if not yes:
                confirm(
                    f"{_told(done)}. Type the recording's id to set it aside",
                    bare(name),
                    undone="nothing was set aside",
                )
            asked.validate_only = False
            asked.request_id = new_id()
            done = services.notes.BeginSidecarAnew(asked, timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(done))
        return
    if not validate_only:
        kept = (
            "what could be read of the damaged one is kept in it"
            if done.kept
            else "of the damaged one nothing is kept"
        )
        output.console.print(f"Begun anew, {done.entries} entries; {kept}.", markup=False, soft_wrap=True)
    else:
        output.console.print(f"{_told(done)}. Nothing was changed.", markup=False, soft_wrap=True)


def _told(done: notes_pb2.BeginSidecarAnewResponse) -> str:
    return f"The sidecar is damaged ({done.code}); it had {done.former_entries} entries"


def tag(
    context: typer.Context,
    recording: RecordingArgument,
    tags: Annotated[list[str], typer.Argument(help="Tags to add.")] = [],  # noqa: B006 - Typer's way
    remove: Annotated[list[str], typer.Option("--remove", help="A tag to take away; may be repeated.")] = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Add tags to a recording, and take tags away."""
    with box(context) as services:
        answer = _change_tags(services, resource("recordings", recording), tags, remove)
    if json:
        output.print_json(output.as_dict(answer))
        return
    output.console.print(output.plain(", ".join(answer.tags)) or "No tag.", markup=False)


def _change_tags(
    services: Box, name: str, add_: list[str], remove: list[str]
) -> notes_pb2.UpdateRecordingTagsResponse:
    request = notes_pb2.UpdateRecordingTagsRequest(name=name, add=add_, remove=remove)
    return services.notes.UpdateRecordingTags(request, timeout=CALL_TIMEOUT_S)
