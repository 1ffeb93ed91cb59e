"""`earwitness audit`: who did what, and proof of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli import auditexport, output
from appliance.cli.connection import bare, tenant_parent
from appliance.cli.context import CALL_TIMEOUT_S, JsonOption, TenantOption, box
from appliance.cli.exits import Exit, Failure
from earwitness.v1 import audit_pb2 as pb
from earwitness.verify import log

app = typer.Typer(help="The audit log: who did what, and proof of it.", no_args_is_help=True)

FilterOption = Annotated[str, typer.Option("--filter", help="Such as 'who=admin method:EraseRecording'.")]


@app.command("list")
def list_entries(
    context: typer.Context,
    tenant: TenantOption = "",
    filter_: FilterOption = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = 50,
    json: JsonOption = False,
) -> None:
    """Entries, newest first."""
    found: list[pb.AuditEntry] = []
    request = pb.ListAuditEntriesRequest(
        parent=tenant_parent(tenant), filter=filter_, page_size=min(limit, 1000)
    )
    with box(context) as services:
        while True:
            answer = services.audit.ListAuditEntries(request, timeout=CALL_TIMEOUT_S)
            found += answer.audit_entries
            if not answer.next_page_token or len(found) >= limit:
                break
            request.page_token = answer.next_page_token
    more = len(found) > limit or bool(answer.next_page_token)
    if json:
        shown = [output.as_dict(one) for one in found[:limit]]
        output.print_json({"auditEntries": shown, "more": more})
        return
    columns = (">Entry", "Time", "What", "Who", "Method", "About", "Outcome")
    output.table(columns, map(_row, found[:limit]), empty="No entry.")
    if more:
        output.errors.print("There are more: --limit, or a --filter.")


def _row(one: pb.AuditEntry) -> tuple[str, ...]:
    method = one.method.rpartition("/")[2]
    return (
        str(one.index), output.when(one.time), one.what, one.who, method, bare(one.subject), one.outcome,
    )  # fmt: skip


@app.command()
def watch(
    context: typer.Context,
    tenant: TenantOption = "",
    filter_: FilterOption = "",
    after: Annotated[str, typer.Option("--after", help="Resume token of the last entry that was seen.")] = "",
    from_oldest: Annotated[bool, typer.Option("--from-oldest", help="Begin with the first entry.")] = False,
    json: JsonOption = False,
) -> None:
    """Entries as they are written, until interrupted."""
    request = pb.WatchAuditEntriesRequest(
        parent=tenant_parent(tenant), filter=filter_, resume_token=after, from_oldest=from_oldest
    )
    with box(context) as services:
        for message in services.audit.WatchAuditEntries(request):
            if not message.HasField("audit_entry"):
                continue
            if json:
                output.print_line(output.as_dict(message))
            else:
                output.console.print(output.plain("  ".join(_row(message.audit_entry))), markup=False)


@app.command()
def checkpoint(
    context: typer.Context,
    key: Annotated[
        bool, typer.Option("--key", help="The key to verify with, instead of the checkpoint.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """The newest checkpoint, a signed note: keep it elsewhere."""
    with box(context) as services:
        found = services.audit.GetCheckpoint(pb.GetCheckpointRequest(), timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(found))
    else:
        # As it is: the signature is over its bytes.
        typer.echo(found.verifier_key if key else found.checkpoint.note, nl=key)


@app.command()
def status(context: typer.Context, json: JsonOption = False) -> None:
    """How the log is: its size, what is signed, how far it is forwarded."""
    with box(context) as services:
        found = services.audit.GetAuditStatus(pb.GetAuditStatusRequest(), timeout=CALL_TIMEOUT_S)
    if json:
        output.print_json(output.as_dict(found))
        return
    forwarding = found.forwarding
    state = "no collector is set"
    if forwarding.configured:
        state = "the collector takes entries" if forwarding.connected else f"failing: {forwarding.failure}"
        state += f"; waiting: {forwarding.lag_count:,}"
    output.facts(
        (
            ("Entries", f"{found.size:,} ({output.size(found.size_bytes)})"),
            ("Signed", f"{found.signed_size:,}"),
            ("Searchable", f"{found.indexed_size:,}"),
            ("Log", found.origin),
            ("Key", found.verifier_key),
            ("Broken before", f"{found.generation - 1} times" if found.generation > 1 else ""),
            ("Refusals not written", f"{found.unwritten_refusals:,}" if found.unwritten_refusals else ""),
            ("Forwarding", state),
            ("Last delivery", output.when(forwarding.last_delivery_time)),
        )
    )


@app.command()
def export(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A new directory.")],
    tenant: TenantOption = "",
    start: Annotated[int, typer.Option("--start", min=0, help="Lines from this entry on.")] = 0,
    json: JsonOption = False,
) -> None:
    """The log as it is, with its checkpoints, for `audit verify`."""
    request = pb.ExportAuditRequest(parent=tenant_parent(tenant), start_index=start)
    with box(context) as services:
        header = auditexport.write(services.audit.ExportAudit(request), folder)
    if json:
        output.print_json({"folder": str(folder), **output.as_dict(header)})
    else:
        output.console.print(f"{header.size:,} entries in {folder}", markup=False)
        output.console.print(f"Verify with: earwitness audit verify {folder} --key KEY", markup=False)


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="An export, or a file of entries.")],
    key: Annotated[
        list[str], typer.Option("--key", help="Verifier key, or a file with it. May be repeated.")
    ],
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", help="A checkpoint kept elsewhere. May be repeated."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Hold a log against its checkpoints, offline, and say what is wrong and where. Exit code 6: something is."""
    try:
        keys = [log.VerifierKey.parse(_key_text(one)) for one in key]
        report = log.verify(path, keys, checkpoint or [])
    except (log.UnreadableError, OSError) as error:
        raise Failure(Exit.USAGE, str(error), "AUDIT_UNREADABLE") from error
    if json:
        output.print_json(
            {
                "whole": report.whole, "size": report.size, "withheld": report.withheld,
                "checkpoints": report.checkpoints, "newestCheckpoint": report.newest,
                "findings": [{"kind": one.kind, "index": one.index, "message": one.message} for one in report.findings],
                "moreFindings": report.more,
            }
        )  # fmt: skip
    else:
        for one in report.findings:
            place = f"entry {one.index}" if one.index >= 0 else "log"
            output.console.print(output.plain(f"{one.kind}: {place}: {one.message}"), markup=False)
        if report.more:
            output.console.print(f"{report.more:,} more findings")
        output.console.print(_verdict(report), markup=False)
    if not report.whole:
        raise typer.Exit(Exit.NOT_INTACT)


def _verdict(report: log.Report) -> str:
    if not report.whole:
        return "NOT INTACT: this is not the log that was signed."
    withheld = f" {report.withheld:,} lines are withheld, their hashes hold." if report.withheld else ""
    beyond = report.size - max(report.newest, 0)
    unsigned = f" The last {beyond:,} are not covered by a checkpoint yet." if beyond else ""
    return f"Intact: {report.size:,} entries, {report.checkpoints:,} checkpoints hold.{withheld}{unsigned}"


def _key_text(given: str) -> str:
    if os.path.exists(given):
        return Path(given).read_text("ascii", "replace")[:1000]
    return given
