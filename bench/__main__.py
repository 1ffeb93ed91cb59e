"""`python -m bench`: figures as ratios of one run on one machine. Writes bench/results.json."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import audit, contracts, downloads, exitpack, inline, keystore, listening, rendering, search
from bench.capture import CaptureResult, measure
from bench.machine import describe

RESULTS = Path(__file__).parent / "results.json"


def table(results: list[CaptureResult]) -> Table:
    """Capture's figures for people."""
    shown = Table(title="Capture: receive, parse, compress, seal, durable write", title_justify="left")
    for head in (
        "calls",
        "packets",
        "lost",
        "us a packet",
        "bare drain",
        "ratio",
        "calls a core",
        "p99 durable",
        "stored/payload",
    ):
        shown.add_column(head, justify="right")
    for found in results:
        shown.add_row(
            f"{found.calls:,}",
            f"{found.sent:,}",
            f"{found.lost:,}",
            f"{found.capture_us:.2f}",
            f"{found.bare_us:.2f}",
            f"{found.ratio:.2f}",
            f"{found.calls_per_core:,.0f}",
            f"{found.durable_p99_ms} ms",
            f"{found.stored_over_payload:.3f}",
        )
    return shown


def capture(arguments: argparse.Namespace, console: Console) -> object:
    """Capture with each number of calls."""
    results = []
    for calls in arguments.calls:
        with console.status(f"{calls:,} calls for {arguments.seconds:.0f} s"):
            results.append(measure(calls, arguments.seconds))
    console.print(table(results))
    console.print("The bare drain has the same packets at the same time on as many sockets of its own.")
    if any(found.bare_lost or found.sender_late_ms > 200 for found in results):
        console.print("The machine was overloaded: read these figures as an upper bound.")
    return [found.as_json() for found in results]


def render(arguments: argparse.Namespace, console: Console) -> object:
    """Rendering, as a multiple of real time."""
    found = rendering.run()
    figures = ", ".join(f"{name} {found[name]:,.0f} x" for name in ("wav", "flac", "ogg"))
    console.print(
        f"Rendering {found['seconds'] / 60:.0f} minutes of two G.711 legs, times real time: {figures}"
    )
    return found


def keys(arguments: argparse.Namespace, console: Console) -> object:
    """The keystore at a million recordings."""
    with console.status("a keystore of a million recordings"):
        found = keystore.run()
    console.print("Keystore: " + ", ".join(f"{name} {value:,.6g}" for name, value in found.items()))
    return found


def audited(arguments: argparse.Namespace, console: Console) -> object:
    """The audit log: durable appends over bare ones, lists and proofs at a million entries."""
    with console.status("the audit log"):
        found = audit.run()
    for writers in audit.WRITERS:
        console.print(
            f"Audit, {writers} at once: {found[f'appends_per_second_{writers}']:,.0f} durable appends a second, "
            f"{found[f'ratio_{writers}']:.2f} of bare write and fdatasync"
        )
    lists = ", ".join(
        f"{name[5:-7]} {value:.1f}" for name, value in found.items() if name.endswith("_p95_ms")
    )
    console.print(f"Audit at {found['entries']:,.0f} entries, p95 in ms: {lists}")
    return found


def bridged(arguments: argparse.Namespace, console: Console) -> object:
    """Inline calls, by capture and by rtpengine side by side."""
    with console.status(f"{arguments.bridged} bridged calls for {arguments.seconds:.0f} s"):
        found = inline.measure(arguments.bridged, arguments.seconds)
    shown = Table(title="Inline calls: bridged and recorded, same packets, same time", title_justify="left")
    for head in ("", "calls", "CPU", "packets", "lost", "p50", "p99", "most", "stored"):
        shown.add_column(head, justify="right", no_wrap=True)
    for one in found.engines:
        delays = (one.delay_p50_us, one.delay_p99_us, one.delay_max_us)
        shown.add_row(
            one.engine,
            f"{one.calls:,}",
            f"{one.cpu_ms_per_call_second:.2f}",
            f"{one.packets:,}",
            f"{one.lost:,}",
            *(f"{delay / 1000:.2f}" for delay in delays),
            f"{one.stored_bytes_per_call_second:,.0f}",
        )
    console.print(shown)
    console.print(
        "CPU in ms and stored bytes for each second of a call; added delay in ms, against a copy that goes past."
    )
    if found.sender_late_ms > 200 or found.reference_missing:
        console.print("The machine was overloaded: read these figures as an upper bound.")
    return found.as_json()


def download(arguments: argparse.Namespace, console: Console) -> object:
    """Downloads against a bare stream."""
    with console.status("downloads"):
        found = downloads.run()
    shown = Table(title="Downloads of sealed recordings, against a bare gRPC stream", title_justify="left")
    for head in ("at once", "MB", "box MB/s", "bare MB/s", "ratio", "first byte p95"):
        shown.add_column(head, justify="right")
    for one in found["figures"]:
        shown.add_row(
            str(one["at_once"]),
            f"{one['megabytes']:,.0f}",
            f"{one['box_mb_s']:,.0f}",
            f"{one['bare_mb_s']:,.0f}",
            f"{one['ratio']:.2f}",
            f"{one['first_byte_p95_ms']:,.0f} ms",
        )
    console.print(shown)
    return found


def contracted(arguments: argparse.Namespace, console: Console) -> object:
    """Pages and changes with many tenants, lines and agents."""
    with console.status("a hundred tenants, a thousand lines, ten thousand agents"):
        found = contracts.run()
    shown = Table(title="100 tenants, 1,000 lines, 10,000 agents: ms a call, over TLS", title_justify="left")
    for head in ("call", "p50", "p95"):
        shown.add_column(head, justify="left" if head == "call" else "right")
    for one in found["calls"]:
        shown.add_row(one["call"], f"{one['p50']:.1f}", f"{one['p95']:.1f}")
    for name, grown in found["made_ms"].items():
        shown.add_row(f"{name}: first, last 50", f"{grown['first']:.1f}", f"{grown['last']:.1f}")
    console.print(shown)
    return found


def searching(arguments: argparse.Namespace, console: Console) -> object:
    """Search and list among a million recordings, on both databases."""
    with console.status("a catalogue of a million recordings; made once, in minutes") as status:
        figures = search.run(arguments.recordings, arguments.queries, status.update)
    shown = Table(
        title=f"Search among {arguments.recordings:,} recordings of {search.data.TENANTS} tenants, within one of them",
        title_justify="left",
    )
    for head in (
        "",
        "query",
        "p50",
        "p95",
        f"must {search.MUST_MS:.0f} ms",
        f"goal {search.GOAL_MS:.0f} ms",
        "found",
    ):
        shown.add_column(head, justify="left" if head in ("", "query") else "right")
    for one in figures:
        reached = ("yes" if one.p95 <= most else "NO" for most in (search.MUST_MS, search.GOAL_MS))
        shown.add_row(
            one.database, one.query, f"{one.p50:.1f}", f"{one.p95:.1f}", *reached, f"{one.found:,.0f}"
        )
    console.print(shown)
    found = search.as_json(figures, arguments.recordings)
    if found["busy"]:
        console.print("The machine had other work: read these figures as an upper bound.")
    return found


def listened(arguments: argparse.Namespace, console: Console) -> object:
    """Listening in: from the packet to the listener."""
    with console.status(f"a call is listened to for {listening.SECONDS:.0f} s"):
        found = listening.run()
    for who, label in (
        ("heard", "a listener has it (jitter buffer 80 ms)"),
        ("bare", "a bare receive has it"),
    ):
        figures = ", ".join(f"{name} {found[f'{who}_{name}_ms']:.1f} ms" for name in ("p50", "p95", "most"))
        console.print(f"Listening in, after a packet is sent {label}: {figures}")
    console.print(f"The tone came {found['onsets']} times and was heard {found['heard']} times.")
    return found


def packed(arguments: argparse.Namespace, console: Console) -> object:
    """An exit pack beside capture."""
    with console.status(f"an exit pack beside {exitpack.CALLS} calls"):
        found = exitpack.run(arguments.seconds)
    console.print(
        f"Exit pack beside {found['calls']} calls: capture lost {found['lost_beside']:,} of {found['sent']:,} packets"
        f" (without it {found['lost_alone']:,}), at {found['capture_us_beside']:.2f} us a packet"
        f" ({found['capture_us_alone']:.2f}); the pack grew by {found['megabytes_s']:,.1f} MB a second,"
        f" {found['times_real_time']:,.0f} x real time"
    )
    return found


SECTIONS: dict[str, Callable[[argparse.Namespace, Console], object]] = {
    "capture": capture,
    "inline": bridged,
    "rendering": render,
    "search": searching,
    "keystore": keys,
    "audit": audited,
    "downloads": download,
    "contracts": contracted,
    "listening": listened,
    "exitpack": packed,
}
"""Each prints its figures and returns what goes into the results file under its name."""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only", choices=list(SECTIONS), action="append", help="one section; may be repeated"
    )
    parser.add_argument("--calls", type=int, nargs="*", default=[100, 500, 1000])
    parser.add_argument("--bridged", type=int, default=100, help="inline calls at once")
    parser.add_argument("--seconds", type=float, default=16.0, help="of sending, for each number of calls")
    parser.add_argument("--recordings", type=int, default=1_000_000, help="in the catalogue that is searched")
    parser.add_argument("--queries", type=int, default=200, help="of each kind")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    console = Console()
    machine = describe()
    console.print(f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}")
    record: dict[str, object] = {"machine": machine}
    if arguments.only and arguments.output.exists():
        before = json.loads(arguments.output.read_text("utf-8"))
        if all(before["machine"][name] == machine[name] for name in ("cpu", "cores", "python")):
            record = before | record  # figures of another machine are no neighbours of these
    for name in arguments.only or SECTIONS:
        record[name] = SECTIONS[name](arguments, console)
    arguments.output.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
