"""`earwitness vault`: where recordings lie: space, buckets, what is stored checked, copies of the keystore."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from appliance.cli import holds, output, planview, titles, vaultcopies, vaultpicture, vaultreplicas
from appliance.cli.connection import bare, resource, tenant_parent
from appliance.cli.context import (
    LOOK_TIMEOUT_S,
    JsonOption,
    TenantOption,
    box,
)
from appliance.cli.exits import Exit, Failure
from appliance.cli.progress import bar
from appliance.cli.titles import Titles, day
from earwitness import pages
from earwitness.v1 import box_pb2 as pb

app = typer.Typer(help="The vault: status, buckets, verify, copies, quota.", no_args_is_help=True)
app.add_typer(vaultcopies.app, name="copies")
app.add_typer(vaultreplicas.app, name="replicas")

WIDTH = 50
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


@app.command()
def status(context: typer.Context, json: JsonOption = False) -> None:
    """The vault at a glance: space and how long it lasts, buckets, legal holds, clock, copies of the keystore.

    Exit code 1 where recordings are in danger.
    """
    with box(context) as services:
        vault = services.box.GetVault(pb.GetVaultRequest(), timeout=LOOK_TIMEOUT_S).vault
    if json:
        output.print_json(output.as_dict(vault))
    else:
        show(vault)
    if any(one.severity == pb.SEVERITY_ALARM for one in vault.ailments):
        raise typer.Exit(Exit.FAILED)


def show(vault: pb.Vault) -> None:
    """The picture."""
    unicode = (output.console.encoding or "").lower().startswith("utf")
    for one in vault.ailments:
        word = output.enum_word(pb.Severity, one.severity).upper()
        output.console.print(f"{word} {one.type}: {one.message}", markup=False)

    def line(name: str, text: str) -> None:
        output.console.print(f"{name:<9}{text}", markup=False, no_wrap=True, crop=False, overflow="ignore")

    if vault.HasField("total_bytes"):
        used = vault.total_bytes - vault.free_bytes
        share = used / vault.total_bytes if vault.total_bytes else 0.0
        line("Space", vaultpicture.space(vault, WIDTH, unicode=unicode))
        line(
            "",
            f"{share:.0%} used, {output.size(vault.free_bytes)} free of {output.size(vault.total_bytes)}"
            f" ({vault.backend})",
        )
        forecast = vault.forecast
        line(
            "",
            f"{output.size(forecast.daily_bytes)} a day (by the last {output.count(forecast.measured_days, 'day')}),"
            f" {output.size(forecast.expiring_bytes)} expire within 30 days: {vaultpicture.lasting(forecast)}",
        )
        counts = vault.buckets
        line("Buckets", vaultpicture.buckets(counts, WIDTH, unicode=unicode))
        absent = f", {counts.absent_count} MISSING" if counts.absent_count else ""
        line(
            "",
            f"{counts.locked_count} locked, {counts.open_count} open{absent}; {counts.hold_count} of legal"
            f" holds; {counts.expiring_count} due within 30 days",
        )
    else:
        line("Space", f"not known: the medium does not answer ({vault.backend})")
    output.console.print()
    output.facts(
        [
            ("Recordings", f"{vault.filed_count} filed, {output.size(vault.stored_bytes)}"),
            ("Deleted", f"{vault.deleted_count} can be brought back" if vault.deleted_count else ""),
            ("Quarantine", str(vault.quarantined_count or "")),
            ("Shredded", output.when(vault.last_shred_time) or "never"),
            ("Clock", clock(vault)),
            ("Last run", last_run(vault) if vault.HasField("last_run") else "none yet"),
            ("Waiting", output.some(vault.pending_change_count, "policy change")),
            *(("Keystore", copy(one, vault.epoch)) for one in vault.keystore_copies),
            *(
                ("Replica", f"{one.replica}: has followed up to {one.confirmed_number}")
                for one in vault.replicas
            ),
        ]
    )
    if vault.legal_holds:
        output.console.print("\n[bold]Legal holds[/bold]")
        holds.table(list(vault.legal_holds))
        if (more := vault.legal_hold_count - len(vault.legal_holds)) > 0:
            output.console.print(f"(and {more} more; `earwitness holds list` shows them all)")


def clock(vault: pb.Vault) -> str:
    """In step, or why not."""
    found = vault.retention_clock
    if found.HasField("freeze"):
        return f"FROZEN at {output.when(found.time)}: {found.freeze.message}"
    return f"{output.when(found.time)}, in step with the wall clock"


def last_run(vault: pb.Vault) -> str:
    """What the last run came to."""
    run = vault.last_run
    count = f", {output.count(run.recording_count, 'recording')} destroyed" if run.recording_count else ""
    message = f": {run.message}" if run.message else ""
    return f"{output.when(run.end_time)}, {planview.outcome(run)}{count}{message}"


def copy(one: pb.KeystoreCopy, epoch: int) -> str:
    """A copy of the keystore in words."""
    if one.present:
        return f"{one.directory}: there, epoch {one.epoch}" + (f" of {epoch}" if one.epoch != epoch else "")
    return f"{one.directory}: MISSING since epoch {one.epoch}, copy {one.copy_id}"


@app.command()
def buckets(
    context: typer.Context,
    tenant: TenantOption = "",
    held: Annotated[bool, typer.Option("--holds", help="List who holds which snapshot, and why.")] = False,
    json: JsonOption = False,
) -> None:
    """Every bucket: what is in it, when it expires, who holds its snapshots."""
    found: list[pb.Bucket] = []
    request = pb.ListBucketsRequest(parent=tenant_parent(tenant), page_size=1000)
    with box(context) as services:
        for answer in pages(services.box.ListBuckets, request, timeout=LOOK_TIMEOUT_S):
            found += answer.buckets
        if json:
            output.print_json({"buckets": [output.as_dict(one) for one in found]})
            return
        lines = titles.titles(services)
    if held:
        _holds(found, lines)
        return
    output.table(
        ("Bucket", "State", ">Filed", ">Deleted", ">Held", ">Size", "Expires", "Snapshots"),
        (
            (
                titles.bucket(one.name, lines),
                output.enum_word(pb.BucketState, one.state),
                str(one.filed_count),
                str(one.deleted_count or ""),
                str(one.held_count or ""),
                output.size(one.size_bytes),
                day(one.expire_time),
                _snapshots(one),
            )
            for one in found
        ),
        empty="No bucket.",
    )


def _snapshots(one: pb.Bucket) -> str:
    owners = {held.owner or "?" for snapshot in one.snapshots for held in snapshot.holds} - {"vault"}
    by = f", held by {', '.join(sorted(owners))}" if owners else ""
    unknown = f"; {one.unknown_file_count} files nobody knows" if one.unknown_file_count else ""
    return f"{one.snapshot_count or len(one.snapshots)}{by}{unknown}"


def _holds(some: list[pb.Bucket], lines: Titles) -> None:
    output.table(
        ("Bucket", "Snapshot", "Held by", "Why"),
        (
            (
                titles.bucket(one.name, lines),
                snapshot.snapshot,
                held.owner or "nobody knows",
                f"{held.reason} ({bare(held.legal_hold)})" if held.legal_hold else held.reason,
            )
            for one in some
            for snapshot in one.snapshots
            for held in snapshot.holds
        ),
        empty="No snapshot is held.",
    )


@app.command()
def verify(
    context: typer.Context,
    sample: Annotated[int, typer.Option("--sample", min=0, help="So many, chosen at random; 0: all.")] = 0,
    tenant: TenantOption = "",
    json: JsonOption = False,
) -> None:
    """Read what is stored and check every byte of it; exit code 6 where something is not as it was written.

    Examples:

    earwitness vault verify
    earwitness vault verify --sample 100 --tenant TENANT
    """
    request = pb.VerifyVaultRequest(parent=tenant_parent(tenant), sample_size=sample)
    findings: list[pb.VaultFinding] = []
    totals: pb.VaultVerification | None = None
    with box(context) as services, bar("verifying", quiet=json) as advance:
        for one in services.box.VerifyVault(request):
            if one.HasField("finding"):
                findings.append(one.finding)
            elif one.HasField("totals"):
                totals = one.totals
            else:
                advance(one.progress.checked_bytes / max(1, one.progress.size_bytes))
    if totals is None:
        raise Failure(Exit.FAILED, "the box ended the verification without a report", "NO_REPORT")
    if json:
        output.print_json(
            {"totals": output.as_dict(totals), "findings": [output.as_dict(one) for one in findings]}
        )
    else:
        show_verification(totals, findings)
    if totals.damaged_count:
        raise typer.Exit(Exit.NOT_INTACT)


def show_verification(totals: pb.VaultVerification, findings: list[pb.VaultFinding]) -> None:
    """The verdict first, then where each finding is."""
    output.facts(
        [
            (
                "Verdict",
                f"{totals.damaged_count} NOT intact" if totals.damaged_count else "intact",
            ),
            (
                "Checked",
                f"{output.count(totals.checked_count, 'recording')}, {output.size(totals.checked_bytes)}",
            ),
            (
                "Recovered",
                f"{totals.recovered_count} were cut short once, and are as they were then"
                if totals.recovered_count
                else "",
            ),
            ("Gone", f"{totals.gone_count} went meanwhile" if totals.gone_count else ""),
            *(("Finding", f"{bare(one.recording)}: {one.code}{_at(one)}: {one.message}") for one in findings),
        ]
    )


def _at(one: pb.VaultFinding) -> str:
    return f" at byte {one.offset}" if one.offset >= 0 else ""


def bytes_of(text: str) -> int:
    """10GiB, 500 MB or 0, in powers of 1024."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise Failure(Exit.USAGE, f"--set: {text!r} is no size such as 500GiB", "OPTION_INVALID")
    return int(float(found[1]) * _UNITS[found[2].lower()])


@app.command()
def quota(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Name or id of the tenant.")],
    limit: Annotated[
        str, typer.Option("--set", help="What it may take up, such as 500GiB; 0: no limit.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """What a tenant's recordings take up, and may take up. What comes beyond it waits in the spool."""
    name = resource("tenants", tenant)
    with box(context) as services:
        if limit:
            request = pb.SetTenantQuotaRequest(name=name, quota_bytes=bytes_of(limit))
            found = services.box.SetTenantQuota(request, timeout=LOOK_TIMEOUT_S).storage
        else:
            asked = pb.GetTenantStorageRequest(name=name)
            found = services.box.GetTenantStorage(asked, timeout=LOOK_TIMEOUT_S).storage
    if json:
        output.print_json(output.as_dict(found))
    else:
        limited = output.size(found.quota_bytes) if found.quota_bytes else "no limit"
        output.console.print(f"{output.size(found.used_bytes)} used of {limited}")
