"""`earwitness recordings`: find, look at, check, delete and erase."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli import counts, downloads, filters, notes, output, picture, restrictions
from appliance.cli.callview import side
from appliance.cli.confirm import confirm
from appliance.cli.connection import bare, resource, tenant_parent
from appliance.cli.context import CALL_TIMEOUT_S, JsonOption, TenantOption, YesOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.progress import bar
from appliance.cli.readingoptions import OverrideOption, PurposeOption
from earwitness.v1 import party_pb2, recordings_pb2

app = typer.Typer(
    help="Recordings: list, show, download, verify, delete, undelete, erase.", no_args_is_help=True
)
app.command("download")(downloads.download)
app.command("count")(counts.count)
app.command("tag")(notes.tag)
restrictions.join(app)

COLUMNS = ("ID", "Began", ">Length", "Caller", "Agent", "State")
NameArgument = Annotated[str, typer.Argument(help="Name or id of the recording.")]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why; kept with the tombstone, so no personal data.")
]
EtagOption = Annotated[
    str, typer.Option("--etag", help="Only if the recording is still as it was at this etag.")
]
ColumnsOption = Annotated[
    int, typer.Option("--width", min=20, max=1000, help="Width of the picture, in characters.")
]


def row(recording: recordings_pb2.Recording) -> tuple[str, ...]:
    state = output.enum_word(recordings_pb2.RecordingState, recording.state)
    if recording.state == recordings_pb2.RECORDING_STATE_FILED:
        state = "whole" if recording.whole else "recovered"
    if recording.part > 1:
        state += f", part {recording.part}"
    return (
        bare(recording.name),
        output.moment(recording.start_time),
        output.clock(recording.duration) if recording.HasField("duration") else "",
        side(recording.parties, party_pb2.PARTY_ROLE_CALLER),
        side(recording.parties, party_pb2.PARTY_ROLE_AGENT),
        state,
    )


@app.command("list")
def list_recordings(
    context: typer.Context,
    tenant: TenantOption = "",
    filter_: Annotated[
        str, typer.Option("--filter", help="Such as 'direction=INBOUND AND duration>60s' (docs/search.md).")
    ] = "",
    order_by: Annotated[
        str, typer.Option("--order-by", help="Such as 'start_time desc' or 'duration'.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    deleted: Annotated[bool, typer.Option("--deleted", help="Deleted and erased ones too.")] = False,
    json: JsonOption = False,
) -> None:
    """Recordings, newest first."""
    request = recordings_pb2.ListRecordingsRequest(
        parent=tenant_parent(tenant), filter=filter_, order_by=order_by, show_deleted=deleted
    )
    found: list[recordings_pb2.Recording] = []
    more = False
    with box(context) as services, filters.shown(filter_):
        while len(found) < limit:
            request.page_size = min(limit - len(found), 500)
            answer = services.recordings.ListRecordings(request, timeout=CALL_TIMEOUT_S)
            found += answer.recordings
            more = bool(answer.next_page_token)
            request.page_token = answer.next_page_token
            if not more:
                break
    if json:
        output.print_json({"recordings": [output.as_dict(recording) for recording in found], "more": more})
        return
    tagged = any(recording.tags for recording in found)
    output.table(
        (*COLUMNS, "Tags") if tagged else COLUMNS,
        ((*row(one), ", ".join(one.tags)) if tagged else row(one) for one in found),
        empty="No recording.",
    )
    if more:
        output.console.print(f"(the first {len(found)}; --limit shows more)")


@app.command()
def show(
    context: typer.Context,
    name: NameArgument,
    picture_: Annotated[bool, typer.Option("--picture/--no-picture", help="With the waveform.")] = True,
    width: ColumnsOption = 70,
    purpose: PurposeOption = "",
    override: OverrideOption = "",
    json: JsonOption = False,
) -> None:
    """One recording: who, when, its marks, and, where a purpose is named, its sound as a picture."""
    full = resource("recordings", name)
    with box(context) as services:
        request = recordings_pb2.GetRecordingRequest(name=full, view=recordings_pb2.RECORDING_VIEW_FULL)
        recording = services.recordings.GetRecording(request, timeout=CALL_TIMEOUT_S).recording
        if json:
            output.print_json(output.as_dict(recording))
            return
        describe(recording)
        if picture_ and purpose and recording.state == recordings_pb2.RECORDING_STATE_FILED:
            wanted = recordings_pb2.GetWaveformRequest(
                name=recording.name, columns=width, purpose=purpose, override_reason=override
            )
            waveform = services.recordings.GetWaveform(wanted, timeout=10 * CALL_TIMEOUT_S)
            show_picture(waveform)


def show_picture(waveform: recordings_pb2.GetWaveformResponse) -> None:
    """The picture, in characters that this terminal has."""
    unicode = (output.console.encoding or "").lower().startswith("utf")
    for line in picture.draw(waveform, unicode=unicode):
        output.console.print(line, markup=False, no_wrap=True, crop=False, overflow="ignore")


_TOLD = {
    recordings_pb2.PURPOSE_SOURCE_ANNOUNCED: "as the announcement in the call said",
    recordings_pb2.PURPOSE_SOURCE_LINE: "as callers of the line are told by other means",
    recordings_pb2.PURPOSE_SOURCE_NOT_ANNOUNCED: "nothing was announced: what every tenant has holds",
}


def describe(recording: recordings_pb2.Recording) -> None:
    """What is known of a recording, one fact a line."""
    parties = [
        f"{output.enum_word(party_pb2.PartyRole, party.role)}: "
        + " ".join(
            filter(None, (party.display_name, f"<{party.address}>" if party.address else party.number))
        )
        for party in recording.parties
    ]
    erased = recording.certificate
    kept = bool(recording.start_time.seconds) and not erased.epoch
    output.facts(
        [
            ("Recording", recording.name),
            ("Call", f"{recording.call}, part {recording.part}" if recording.part > 1 else recording.call),
            ("Line", recording.line),
            ("Began", output.when(recording.start_time)),
            ("Length", output.clock(recording.duration) if kept else ""),
            ("Direction", output.enum_word(party_pb2.Direction, recording.direction)),
            ("Parties", "\n".join(parties)),
            ("State", output.enum_word(recordings_pb2.RecordingState, recording.state)),
            ("", "cut short and recovered to its last whole frame" if kept and not recording.whole else ""),
            ("Because", recording.state_reason),
            ("Undelete until", output.when(recording.purge_time)),
            ("Expires", output.when(recording.expire_time)),
            ("Held by", ", ".join(map(bare, recording.legal_holds))),
            ("Read for", ", ".join(recording.purposes)),
            ("", _TOLD.get(recording.purpose_source, "")),
            ("Flags", ", ".join(recording.flags)),
            ("Tags", ", ".join(recording.tags)),
            ("Sealed size", output.size(recording.size_bytes) if recording.size_bytes else ""),
            *(certificate_facts(erased) if erased.epoch else ()),
            ("Etag", recording.etag),
        ]
    )


def certificate_facts(proof: recordings_pb2.ErasureCertificate) -> list[tuple[str, str]]:
    """What the certificate of an erasure states, and which copies elsewhere have followed."""
    return [
        ("Erased", output.when_ns(proof.erase_time_ns)),
        ("Epoch", f"{proof.epoch}: from it on the key is absent"),
        ("Reason", proof.reason),
        ("Log number", str(proof.log_number or "")),
        *(
            ("Replica", f"{one.replica}: {'has followed' if one.confirmed else 'has not followed yet'}")
            for one in proof.replicas
        ),
        ("Certificate", f"version {proof.version}, {proof.signature.hex()[:16]}…"),
        ("By box", proof.device_public_key.hex()),
    ]


@app.command()
def verify(context: typer.Context, name: NameArgument, json: JsonOption = False) -> None:
    """Check that a recording is whole and untouched; exit code 6 where it is not."""
    full = resource("recordings", name)
    report = None
    with box(context) as services, bar("verifying", quiet=json) as advance:
        for item in services.recordings.VerifyRecording(recordings_pb2.VerifyRecordingRequest(name=full)):
            if item.HasField("progress"):
                advance(item.progress.fraction)
            else:
                report = item.report
    if report is None:
        raise Failure(Exit.FAILED, "the box ended the verification without a report", "NO_REPORT")
    if json:
        output.print_json(output.as_dict(report))
    else:
        show_report(report)
    if report.verdict not in (recordings_pb2.VERDICT_INTACT, recordings_pb2.VERDICT_RECOVERED):
        raise typer.Exit(Exit.NOT_INTACT)


def show_report(report: recordings_pb2.VerificationReport) -> None:
    """The verdict in words, with where each finding is."""
    words = {
        recordings_pb2.VERDICT_INTACT: "intact: whole, untouched, in order",
        recordings_pb2.VERDICT_RECOVERED: "untouched, but cut short: recovered to its last whole frame",
        recordings_pb2.VERDICT_DAMAGED: "NOT intact",
    }
    output.facts(
        [
            ("Verdict", words.get(report.verdict, "unknown")),
            ("Checked", f"{report.frames} frames, {output.size(report.bytes_checked)}"),
            ("Signature", "valid" if report.signature_valid else "NOT valid"),
            ("By box", report.device_public_key.hex()),
            ("Tree root", report.tree_root.hex()),
            *(
                ("Finding", f"{found.code} at byte {found.offset}: {found.message}")
                for found in report.findings
            ),
        ]
    )


@app.command()
def delete(
    context: typer.Context,
    name: NameArgument,
    reason: ReasonOption = "",
    etag: EtagOption = "",
    json: JsonOption = False,
) -> None:
    """Take a recording out of sight. `undelete` brings it back; `erase` destroys it."""
    request = recordings_pb2.DeleteRecordingRequest(
        name=resource("recordings", name), reason=reason, etag=etag
    )
    with box(context) as services:
        _done(services.recordings.DeleteRecording(request, timeout=CALL_TIMEOUT_S).recording, json)


@app.command()
def undelete(
    context: typer.Context, name: NameArgument, etag: EtagOption = "", json: JsonOption = False
) -> None:
    """Bring a deleted recording back."""
    request = recordings_pb2.UndeleteRecordingRequest(name=resource("recordings", name), etag=etag)
    with box(context) as services:
        _done(services.recordings.UndeleteRecording(request, timeout=CALL_TIMEOUT_S).recording, json)


@app.command()
def erase(
    context: typer.Context,
    name: NameArgument,
    reason: ReasonOption,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Destroy a recording's key: nobody can read it any more, in any copy. There is no undo."""
    full = resource("recordings", name)
    with box(context) as services:
        current = services.recordings.GetRecording(
            recordings_pb2.GetRecordingRequest(name=full), timeout=CALL_TIMEOUT_S
        ).recording
        if not yes:
            if not json:
                describe(current)
            confirm(
                "Type the recording's id to erase it for ever",
                bare(current.name),
                undone="nothing was erased",
            )
        request = recordings_pb2.EraseRecordingRequest(name=current.name, etag=current.etag, reason=reason)
        erased = services.recordings.EraseRecording(request, timeout=10 * CALL_TIMEOUT_S).recording
    _done(erased, json)


def _done(recording: recordings_pb2.Recording, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(recording))
        return
    state = output.enum_word(recordings_pb2.RecordingState, recording.state)
    text = f"{bare(recording.name)}: {state}"
    if recording.HasField("purge_time"):
        over = recording.purge_time.seconds <= recording.state_time.seconds
        text += (
            ", without grace" if over else f", can be brought back until {output.when(recording.purge_time)}"
        )
    output.console.print(text, soft_wrap=True)
    if recording.certificate.epoch:
        output.facts(certificate_facts(recording.certificate))
