"""`earwitness prompts`: what callers and agents hear of recording."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from appliance.cli import files, output
from appliance.cli.connection import bare, prompt, resource
from appliance.cli.context import CALL_TIMEOUT_S, Box, DryOption, JsonOption, TenantOption, box
from appliance.cli.exits import Exit, Failure
from earwitness import pages
from earwitness.v1 import prompts_pb2 as pb
from earwitness.v1 import tenants_pb2

app = typer.Typer(
    help="Prompts: announcements and whispers. Add, list, show, get, delete.", no_args_is_help=True
)

_PART: Final = 256 * 1024
_UPLOAD_TIMEOUT_S: Final = 150.0
_NAME = "Name or id of the prompt."


@app.command("add")
def add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A sound: WAV, FLAC or Ogg, 0.2 to 60 s.")],
    language: Annotated[str, typer.Option("--language", help="Language that is spoken, such as en-GB.")],
    text: Annotated[str, typer.Option("--text", help="The words that are spoken.")],
    purpose: Annotated[
        list[str] | None,
        typer.Option("--purpose", help="A purpose that it states, such as training; one a time."),
    ] = None,
    display_name: Annotated[str, typer.Option("--name", help="Name to show; else the file's.")] = "",
    tenant: Annotated[
        str, typer.Option("--tenant", help="Whose it is (name or id); needed where there are several.")
    ] = "",
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Upload a prompt: it is checked, brought to the level of speech, and rendered for every codec.

    Example:

    earwitness prompts add greeting.wav --language en-GB --text "This call is recorded." --purpose training
    """
    with box(context) as services:
        first = pb.CreatePromptRequest(
            parent=resource("tenants", tenant) if tenant else _only_tenant(services),
            prompt=pb.Prompt(
                display_name=display_name or file.stem, language=language, text=text, purposes=purpose or []
            ),
            validate_only=validate_only,
        )
        answer = services.prompts.CreatePrompt(_parts(first, file), timeout=_UPLOAD_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(answer))
        return
    sound = answer.sound
    output.errors.print(
        f"{sound.format}, {sound.sample_rate} Hz, speech at {sound.speech_dbfs:.1f} dBFS: "
        f"{'raised' if sound.gain_db >= 0 else 'lowered'} by {abs(sound.gain_db):.1f} dB"
    )
    output.console.print(bare(answer.prompt.name) or "valid")


@app.command("list")
def list_prompts(context: typer.Context, tenant: TenantOption = "", json: JsonOption = False) -> None:
    """Prompts of one tenant, or of all, and the samples that come with the box."""
    with box(context) as services:
        found = _all(services, resource("tenants", tenant) if tenant else "tenants/-") + _all(services, "")
        if json:
            output.print_json({"prompts": [output.as_dict(one) for one in found]})
            return
        tenants = _tenants(services)
    rows = (
        (
            bare(one.name),
            one.display_name,
            _whose(one.name, tenants),
            one.language,
            output.clock(one.duration),
        )
        for one in found
    )
    output.table(("ID", "Name", "Whose", "Lang", ">Length"), rows, empty="No prompt.")


@app.command("show")
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=_NAME)],
    json: JsonOption = False,
) -> None:
    """What a prompt says."""
    with box(context) as services:
        request = pb.GetPromptRequest(name=prompt(name))
        one = services.prompts.GetPrompt(request, timeout=CALL_TIMEOUT_S).prompt
        if json:
            output.print_json(output.as_dict(one))
            return
        tenants = _tenants(services)
    output.facts(
        (
            ("Name", one.display_name),
            ("ID", bare(one.name)),
            ("Whose", _whose(one.name, tenants)),
            ("Language", one.language),
            ("Says", one.text),
            ("Purposes", ", ".join(one.purposes)),
            ("Length", output.clock(one.duration)),
            ("Text", f"SHA-256 {one.text_sha256.hex()}"),
            ("Sound", f"SHA-256 {one.audio_sha256.hex()}"),
            ("Created", output.when(one.create_time)),
        )
    )


@app.command("get")
def get(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=_NAME)],
    target: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder; else the prompt's id, here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    json: JsonOption = False,
) -> None:
    """Download a prompt as it is played: WAV."""
    with box(context) as services:
        stream = services.prompts.DownloadPrompt(
            pb.DownloadPromptRequest(name=prompt(name)), timeout=CALL_TIMEOUT_S
        )
        header, data = pb.PromptHeader(), bytearray()
        for item in stream:
            if item.HasField("header"):
                header = item.header
            else:
                data += item.chunk
    if hashlib.sha256(data).digest() != header.sha256:
        raise Failure(
            Exit.FAILED, "the downloaded bytes have another checksum", "CHECKSUM_MISMATCH", "try again"
        )
    path = target or Path()
    if path.is_dir():
        path = files.named(path, header.file_name)
    if path.exists() and not force:
        raise Failure(Exit.CONFLICT, f"{path} is there already", "FILE_EXISTS", "--force writes over it")
    files.write(path, bytes(data))
    if json:
        output.print_json({"path": str(path), "sizeBytes": len(data), "sha256": header.sha256.hex()})
    else:
        output.console.print(f"{path}: {output.size(len(data))}, checksum right", soft_wrap=True)


@app.command("delete")
def delete(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=_NAME)],
    validate_only: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Remove a prompt that no line uses."""
    request = pb.DeletePromptRequest(name=prompt(name), validate_only=validate_only)
    with box(context) as services:
        answer = services.prompts.DeletePrompt(request, timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(answer))
    else:
        output.console.print("valid" if validate_only else "Deleted.")


def _all(services: Box, parent: str) -> list[pb.Prompt]:
    found: list[pb.Prompt] = []
    request = pb.ListPromptsRequest(parent=parent, page_size=500)
    for answer in pages(services.prompts.ListPrompts, request, timeout=CALL_TIMEOUT_S):
        found += answer.prompts
    return found


def _tenants(services: Box) -> dict[str, str]:
    """What tenants are called, by resource name."""
    found: dict[str, str] = {}
    request = tenants_pb2.ListTenantsRequest(page_size=1000)
    for answer in pages(services.tenants.ListTenants, request, timeout=CALL_TIMEOUT_S):
        found |= {one.name: one.display_name for one in answer.tenants}
    return found


def _whose(name: str, tenants: dict[str, str]) -> str:
    owner = name.partition("/prompts/")[0]
    return tenants.get(owner, bare(owner)) if owner.startswith("tenants/") else "the box"


def _only_tenant(services: Box) -> str:
    request = tenants_pb2.ListTenantsRequest(page_size=2)
    found = services.tenants.ListTenants(request, timeout=CALL_TIMEOUT_S).tenants
    if len(found) != 1:
        raise Failure(
            Exit.USAGE,
            "there is not exactly one tenant: say whose prompt it is",
            "OPTION_MISSING",
            "see --tenant",
        )
    return str(found[0].name)


def _parts(first: pb.CreatePromptRequest, file: Path) -> Iterator[pb.CreatePromptRequest]:
    """The request in parts. The file is opened here, so that one that cannot be read is told before anything is sent."""
    try:
        source = file.open("rb")
    except OSError as error:
        raise Failure(Exit.USAGE, f"cannot read {file}: {error.strerror}", "FILE_UNREADABLE") from error

    def parts() -> Iterator[pb.CreatePromptRequest]:
        with source:
            yield first
            while data := source.read(_PART):
                yield pb.CreatePromptRequest(audio=data)

    return parts()
