"""`earwitness demo`: a box, four calls, and what can be done with their recordings. Every claim is checked."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from appliance.cli import output, recordings
from appliance.cli.connection import bare
from appliance.cli.context import Box, services_of
from appliance.cli.demonstration import check, inline, report
from appliance.cli.demonstration.calls import PLANS, SURGERY, Placed, Plan, place_all
from appliance.cli.demonstration.embedded import EmbeddedBox, embedded_box
from appliance.cli.downloads import fetch
from appliance.cli.exits import Exit, Failure, from_rpc
from appliance.model import EarwitnessError, Kind
from earwitness.v1 import box_pb2, party_pb2, recordings_pb2, tenants_pb2

FILING_TIMEOUT_S = 30.0


class DemoError(EarwitnessError):
    """The demonstration did not show what it must show."""

    reason = "DEMO_FAILED"
    kind = Kind.INTERNAL


def run(data: Path | None = None) -> int:
    """Runs the demonstration; gives the exit code. `data` keeps the box's data, else it goes at the end."""
    if data is not None and data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise Failure(Exit.USAGE, f"--data: {data} is not an empty directory", "DATA_NOT_EMPTY")
    folder = Path(tempfile.mkdtemp(prefix="earwitness-demo-"))
    began = time.monotonic()
    try:
        with embedded_box(data or folder / "box") as box:
            up_ns = time.time_ns()
            _say(
                f"The box is up: SIP on {box.addresses['sip_udp']}, API on {box.addresses['api']} (mutual TLS)."
            )
            with box.connection.channel() as channel:
                tenant = _show(box, services_of(channel), folder)
                _step("The service-level report of these minutes")
                report.show(services_of(channel), tenant, up_ns, len(PLANS) + 1, folder)
    finally:
        if data is None:
            shutil.rmtree(folder / "box", ignore_errors=True)
    _say(f"\nAll shown and checked in {time.monotonic() - began:.0f} s.")
    return Exit.OK


def _say(text: str) -> None:
    output.console.print(text, soft_wrap=True)


def _step(text: str) -> None:
    output.console.rule(text, align="left", style="dim")


def _show(box: EmbeddedBox, services: Box, folder: Path) -> str:
    tenant = _contract(services)
    _step("Three calls from a SIPREC session border controller, and one through the box itself")
    with _bars() as progress:
        placed, through, heard = asyncio.run(_calls(box, tenant, progress))
    _say(f"In the call through the box heard: {heard}.")
    found = _await_recordings(services, len(PLANS) + 1)
    _step("The recordings")
    output.table(recordings.COLUMNS, map(recordings.row, found), empty="none")
    by_plan = {call.plan.conversation: _of(found, call) for call in placed}

    _step("One of them: paused while the card was read")
    paused = services.recordings.GetRecording(
        recordings_pb2.GetRecordingRequest(
            name=by_plan["payment"].name, view=recordings_pb2.RECORDING_VIEW_FULL
        )
    ).recording
    recordings.describe(paused)
    recordings.show_picture(
        services.recordings.GetWaveform(
            recordings_pb2.GetWaveformRequest(name=paused.name, columns=70, purpose="training")
        )
    )

    _step("The call through the box: announced, whispered, paused by the agent's keys")
    carried = services.recordings.GetRecording(
        recordings_pb2.GetRecordingRequest(
            name=_of(found, through).name, view=recordings_pb2.RECORDING_VIEW_FULL
        )
    ).recording
    recordings.describe(carried)
    _marked(carried)
    recordings.show_picture(
        services.recordings.GetWaveform(
            recordings_pb2.GetWaveformRequest(name=carried.name, columns=70, purpose="training")
        )
    )

    _step("Is it whole and untouched?")
    _verify(services, paused.name)

    _step("As sound")
    for call in placed:
        wav = fetch(
            services,
            by_plan[call.plan.conversation].name,
            "wav",
            folder / f"{call.plan.conversation}.wav",
            purpose="evidence",
            quiet=True,
        )
        words = check.compare(wav.path, call)
        _say(f"{wav.path}: {words}")
    wav = fetch(services, carried.name, "wav", folder / "through-the-box.wav", purpose="evidence", quiet=True)
    _say(f"{wav.path}: {check.compare(wav.path, through)}")

    _step("One is erased")
    _erase(box, services, by_plan["prescription"].name, folder)
    return tenant


async def _calls(
    box: EmbeddedBox, tenant: str, progress: Callable[[Plan, float], None]
) -> tuple[list[Placed], Placed, str]:
    """All calls side by side."""
    placed, (through, heard) = await asyncio.gather(
        place_all(box.sip, box.layout.pki / "ca.crt", box.connection, progress),
        inline.place(box.sip("udp"), box.connection, tenant, box.layout.prompts, progress),
    )
    return placed, through, heard


def _marked(recording: recordings_pb2.Recording) -> None:
    """The call through the box must say what became of it."""
    kinds = [recordings_pb2.MarkKind.Name(mark.kind).removeprefix("MARK_KIND_") for mark in recording.marks]
    wanted = ["ANNOUNCED", "WHISPERED", "PAUSED", "RESUMED"]
    if [kind for kind in kinds if kind in wanted] != wanted:
        raise DemoError(f"the timeline of the call through the box says {', '.join(kinds)}")


def _contract(services: Box) -> str:
    tenant = services.tenants.CreateTenant(
        tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="Elm Street Surgery"))
    ).tenant
    line = tenants_pb2.Line(display_name="Reception", numbers=[SURGERY], grain=tenants_pb2.GRAIN_DAY)
    services.tenants.CreateLine(tenants_pb2.CreateLineRequest(parent=tenant.name, line=line))
    _say(f"Contracted: every call of {SURGERY}, for the tenant “{tenant.display_name}”.")
    return tenant.name


@contextlib.contextmanager
def _bars() -> Iterator[Callable[[Plan, float], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.console) as progress:
        tasks = {
            plan: progress.add_task(f"{plan.conversation:<13} {plan.words}", total=1.0)
            for plan in (*PLANS, inline.PLAN)
        }

        def advance(plan: Plan, fraction: float) -> None:
            progress.update(tasks[plan], completed=fraction)

        yield advance


def _await_recordings(services: Box, count: int) -> list[recordings_pb2.Recording]:
    request = recordings_pb2.ListRecordingsRequest(
        parent="tenants/-", page_size=50, view=recordings_pb2.RECORDING_VIEW_FULL
    )
    deadline = time.monotonic() + FILING_TIMEOUT_S
    while True:
        found = list(services.recordings.ListRecordings(request, timeout=10).recordings)
        if len(found) >= count:
            return found
        if time.monotonic() > deadline:
            raise DemoError(f"{len(found)} of {count} recordings were filed in {FILING_TIMEOUT_S:.0f} s")
        time.sleep(0.2)


def _of(found: list[recordings_pb2.Recording], call: Placed) -> recordings_pb2.Recording:
    for recording in found:
        for party in recording.parties:
            if call.plan.caller_number in party.address and party.role == party_pb2.PARTY_ROLE_CALLER:
                return recording
    raise DemoError(
        f"no recording has the caller of the call “{call.plan.conversation}” on its caller's side"
    )


def _verify(services: Box, name: str) -> None:
    report = None
    for item in services.recordings.VerifyRecording(recordings_pb2.VerifyRecordingRequest(name=name)):
        if item.HasField("report"):
            report = item.report
    if report is None or report.verdict != recordings_pb2.VERDICT_INTACT or not report.signature_valid:
        raise DemoError("the recording does not verify")
    recordings.show_report(report)


def _keys(services: Box) -> int:
    return services.box.GetBoxStatus(box_pb2.GetBoxStatusRequest(), timeout=10).vault.key_count


def _erase(box: EmbeddedBox, services: Box, name: str, folder: Path) -> None:
    current = services.recordings.GetRecording(recordings_pb2.GetRecordingRequest(name=name)).recording
    before = _keys(services)
    erased = services.recordings.EraseRecording(
        recordings_pb2.EraseRecordingRequest(name=name, etag=current.etag, reason="demonstration")
    ).recording
    recordings.describe(erased)
    after = _keys(services)
    if after >= before:
        raise DemoError("the key is still in the keystore")
    _say(f"Keys in the keystore: {before} before, {after} after.")
    for format_ in ("wav", "sealed"):
        try:
            fetch(services, name, format_, folder / f"erased.{format_}", purpose="evidence", quiet=True)
        except grpc.RpcError as error:
            failure = from_rpc(error)
            if failure.code is not Exit.ERASED:
                raise DemoError(
                    f"the download as {format_} failed for another reason: {failure.reason}"
                ) from error
            _say(f"download as {format_}: refused, {failure.message} [{failure.reason}]")
        else:
            raise DemoError(f"the erased recording could still be downloaded as {format_}")
    left = [path for path in box.layout.vault.rglob("*") if path.is_file() and bare(name) in path.name]
    if left:
        raise DemoError("the sealed file of the erased recording is still there")
