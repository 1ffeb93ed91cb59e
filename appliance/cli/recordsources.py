"""`earwitness completeness sources`: switchboards, and how their call records are read."""

from __future__ import annotations

import json as json_
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from appliance.cli import completenessview as view
from appliance.cli import output
from appliance.cli.connection import bare, resource
from appliance.cli.context import CALL_TIMEOUT_S, Box, DryOption, JsonOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.purposes import TenantOption, tenant_of
from earwitness.v1 import completeness_pb2 as pb

app = typer.Typer(
    help="Sources of call records: a switchboard, and how its files are read. List, show, create, update, try.",
    no_args_is_help=True,
)

IdArgument = Annotated[str, typer.Argument(metavar="SOURCE", help="Name or id of the source.")]
MapOption = Annotated[
    Path | None,
    typer.Option("--map", help="A column map, TOML or JSON: see docs/completeness.md.", show_default=False),
]
PresetOption = Annotated[str, typer.Option("--preset", help="A map as it comes: see `sources presets`.")]
ZoneOption = Annotated[
    str, typer.Option("--time-zone", help="Of its times, such as Europe/London; else the tenant's.")
]
LineOption = Annotated[
    str, typer.Option("--line", help="Whose its calls are where no number says so (name or id).")
]
LeastOption = Annotated[
    float | None,
    typer.Option("--least-talk", min=0, max=60, help="Shorter calls count as unanswered (seconds; 2)."),
]


def source_of(services: Box, text: str, tenant: str) -> str:
    """The full name of the source that is meant; Failure SOURCE_NEEDED where several are there and none is named."""
    if "/" in text:
        return text
    parent = tenant_of(services, tenant)
    if text:
        return f"{parent}/callRecordSources/{text}"
    request = pb.ListCallRecordSourcesRequest(parent=parent)
    found = services.completeness.ListCallRecordSources(request, timeout=CALL_TIMEOUT_S).sources
    if len(found) != 1:
        raise Failure(
            Exit.USAGE,
            "which source?",
            "SOURCE_NEEDED",
            "--source; `earwitness completeness sources list` has them",
        )
    return str(found[0].name)


@app.command("presets")
def presets(context: typer.Context, json: JsonOption = False) -> None:
    """Switchboards whose files are known as they come."""
    with box(context) as services:
        request = pb.ListCallRecordPresetsRequest()
        found = services.completeness.ListCallRecordPresets(request, timeout=CALL_TIMEOUT_S).presets
    if json:
        output.print_json({"presets": [output.as_dict(one) for one in found]})
        return
    rows = ((one.id, one.map.start, one.map.duration or one.map.end, one.map.time_format) for one in found)
    output.table(("Preset", "Start", "Talk", "Times"), rows, empty="")


@app.command("list")
def list_sources(context: typer.Context, tenant: TenantOption = "", json: JsonOption = False) -> None:
    """Sources of a tenant."""
    with box(context) as services:
        request = pb.ListCallRecordSourcesRequest(parent=tenant_of(services, tenant))
        found = services.completeness.ListCallRecordSources(request, timeout=CALL_TIMEOUT_S).sources
    if json:
        output.print_json({"sources": [output.as_dict(one) for one in found]})
        return
    rows = (
        (
            bare(one.name),
            one.display_name,
            one.map.time_zone or "(tenant's)",
            bare(one.line),
            output.when(one.create_time),
        )
        for one in found
    )
    output.table(
        ("ID", "Name", "Time zone", "Line", "Made"),
        rows,
        empty="No source: `earwitness completeness sources create`.",
    )


@app.command("show")
def show(context: typer.Context, source: IdArgument, tenant: TenantOption = "") -> None:
    """A source with its column map, as JSON."""
    with box(context) as services:
        request = pb.GetCallRecordSourceRequest(name=source_of(services, source, tenant))
        found = services.completeness.GetCallRecordSource(request, timeout=CALL_TIMEOUT_S).source
    output.print_json(output.as_dict(found))


@app.command("create")
def create(
    context: typer.Context,
    display_name: Annotated[str, typer.Argument(help="Name to show.")],
    preset: PresetOption = "",
    map_: MapOption = None,
    time_zone: ZoneOption = "",
    line: LineOption = "",
    least_talk: LeastOption = None,
    tenant: TenantOption = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Make a source.

    earwitness completeness sources create "Main switchboard" --preset asterisk-cdr-csv --time-zone Europe/London
    """
    with box(context) as services:
        request = pb.CreateCallRecordSourceRequest(
            parent=tenant_of(services, tenant),
            source=pb.CallRecordSource(display_name=display_name),
            validate_only=validate_only,
        )
        request.source.map.CopyFrom(_map(services, map_, preset, time_zone))
        _fill(request.source, line, least_talk)
        made = services.completeness.CreateCallRecordSource(request, timeout=CALL_TIMEOUT_S).source
    _say(made, "valid" if validate_only else bare(made.name), json)


@app.command("update")
def update(
    context: typer.Context,
    source: IdArgument,
    display_name: Annotated[str, typer.Option("--name", help="Name to show.")] = "",
    preset: PresetOption = "",
    map_: MapOption = None,
    time_zone: ZoneOption = "",
    line: LineOption = "",
    least_talk: LeastOption = None,
    tenant: TenantOption = "",
    etag: Annotated[str, typer.Option("--etag", help="Only if it is still as it was then.")] = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Change a source: what is given. What was imported stays as it was read then."""
    with box(context) as services:
        name = source_of(services, source, tenant)
        request = pb.UpdateCallRecordSourceRequest(
            source=pb.CallRecordSource(name=name, etag=etag, display_name=display_name),
            validate_only=validate_only,
        )
        paths = ["display_name"] if display_name else []
        if map_ is not None or preset:
            request.source.map.CopyFrom(_map(services, map_, preset, time_zone))
            paths.append("map")
        elif time_zone:
            request.source.map.time_zone = time_zone
            paths.append("map.time_zone")
        _fill(request.source, line, least_talk)
        paths += ["line"] if line else []
        paths += ["least_talk"] if least_talk is not None else []
        if not paths:
            raise Failure(Exit.USAGE, "nothing to change: see --help", "OPTION_MISSING")
        request.update_mask.paths.extend(paths)
        made = services.completeness.UpdateCallRecordSource(request, timeout=CALL_TIMEOUT_S).source
    _say(made, "valid" if validate_only else "changed", json)


@app.command("delete")
def delete(
    context: typer.Context,
    source: IdArgument,
    tenant: TenantOption = "",
    validate_only: DryOption = False,
) -> None:
    """Remove a source. Its records, and reports, stay."""
    with box(context) as services:
        request = pb.DeleteCallRecordSourceRequest(
            name=source_of(services, source, tenant), validate_only=validate_only
        )
        services.completeness.DeleteCallRecordSource(request, timeout=CALL_TIMEOUT_S)
    output.console.print("can be removed" if validate_only else "removed")


@app.command("try")
def try_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file of call records; its beginning is sent.")],
    preset: PresetOption = "",
    map_: MapOption = None,
    time_zone: ZoneOption = "",
    line: LineOption = "",
    tenant: TenantOption = "",
    json: JsonOption = False,
) -> None:
    """Read the beginning of a file by a column map, keep nothing, and show what was understood."""
    try:
        with file.open("rb") as opened:
            sample = opened.read(256 * 1024)
    except OSError as error:
        raise Failure(Exit.FAILED, f"cannot read {file}: {error.strerror}", "FILE_UNREADABLE") from error
    with box(context) as services:
        request = pb.TryRecordMapRequest(
            parent=tenant_of(services, tenant),
            map=_map(services, map_, preset, time_zone),
            sample=sample,
            line=resource("lines", line) if line else "",
        )
        found = services.completeness.TryRecordMap(request, timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(found))
    else:
        view.records([one.record for one in found.rows])
        output.console.print(f"{output.count(found.row_count, 'row')}, {found.broken_count} broken")
        view.problems(found.problems, found.broken_count)
    if found.refusal:
        raise Failure(Exit.USAGE, found.refusal, "RECORD_MAP_MISFIT")


def _map(services: Box, file: Path | None, preset: str, time_zone: str) -> pb.RecordMap:
    """What the options say of a map. Failure where they say none, or the file is no map."""
    if (file is None) == (not preset):
        raise Failure(Exit.USAGE, "--preset or --map is needed", "MAP_NEEDED", "`sources presets` has them")
    if file is None:
        request = pb.ListCallRecordPresetsRequest()
        known = services.completeness.ListCallRecordPresets(request, timeout=CALL_TIMEOUT_S).presets
        made = next((one.map for one in known if one.id == preset), None)
        if made is None:
            names = ", ".join(one.id for one in known)
            raise Failure(Exit.USAGE, "no such preset", "PRESET_UNKNOWN", f"one of {names}")
    else:
        made = _parsed(file)
    if time_zone:
        made.time_zone = time_zone
    return made


def _parsed(file: Path) -> pb.RecordMap:
    try:
        text = file.read_text("utf-8")
        said: Any = json_.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
        return json_format.ParseDict(said.get("map", said), pb.RecordMap())
    except OSError as error:
        raise Failure(Exit.FAILED, f"cannot read {file}: {error.strerror}", "FILE_UNREADABLE") from error
    except (ValueError, json_format.ParseError) as error:
        raise Failure(Exit.USAGE, f"{file} is no column map: {error}", "MAP_INVALID") from error


def _fill(source: pb.CallRecordSource, line: str, least_talk: float | None) -> None:
    if line:
        source.line = resource("lines", line)
    if least_talk is not None:
        source.least_talk.CopyFrom(Duration(seconds=int(least_talk), nanos=round(least_talk % 1 * 1e9)))


def _say(made: pb.CallRecordSource, word: str, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(made))
    else:
        output.console.print(word)
