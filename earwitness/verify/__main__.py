"""`python -m earwitness.verify`: see the package."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from earwitness.verify import log, packs
from earwitness.verify.evidence import MAX_BYTES, Evidence, EvidenceError
from earwitness.verify.index import (
    IndexUnreadableError,
    check_index,
    last_states,
    read_index,
    read_log,
)
from earwitness.verify.keys import BoxKeys, KeysError
from earwitness.verify.notes import UnreadableError
from earwitness.verify.report import Verdict, verify_file
from earwitness.verify.sidecar import MAX_BYTES as MAX_SIDECAR
from earwitness.verify.signed import Signed, note_of, verify_signed

EVIDENCE_SUFFIX = ".evidence.json"
SIDECAR_SUFFIX = ".sidecar"
_EPILOG = """
Exit code: 0 all is whole and untouched, 1 something is not, 2 it could not be checked.
Keys come from `earwitness box keys` on the box itself, once, by a way that you trust. Evidence lies beside the recording as
FILE.evidence.json, or is named; without it the order among recordings, and gaps, cannot be told.
What was added to a recording later lies beside it as FILE.sidecar, or is named.
A FILE with FILE.note beside it is a report, document or manifest that the box signed as it is: it is held against its note.
An exit pack (its folder, or that in a zip file) is checked by its manifest. Of a subject pack the form alone is seen
without --passphrase, which is not enough for 0. Packs are checked without --keys, too, but for their signatures.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check files; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="earwitness.verify",
        description="Check sealed recordings and packs offline, with public keys alone.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="sealed recordings, signed reports, packs"
    )
    parser.add_argument(
        "--passphrase", action="store_true", help="ask for the passphrase of the one FILE, a subject pack"
    )
    parser.add_argument("--keys", type=Path, help="the box's public keys (JSON)")
    parser.add_argument("--evidence", type=Path, help="evidence of the one FILE; else FILE.evidence.json")
    parser.add_argument("--sidecar", type=Path, help="sidecar of the one FILE; else FILE.sidecar")
    parser.add_argument("--json", action="store_true", help="one JSON object a file")
    parser.add_argument("--audit", type=Path, metavar="LOG", help="an exported audit log, to be verified")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        action="append",
        default=[],
        help="one that was kept elsewhere, for --audit",
    )
    parser.add_argument("--index", type=Path, help="a list of recordings (JSON), held against --log")
    parser.add_argument("--log", type=Path, help="an exported audit log, verified before")
    options = parser.parse_args(arguments)
    if (options.index is None) != (options.log is None):
        parser.error("--index and --log go together")
    # One thing at a time: what was asked for and is not done would count as verified.
    if sum((bool(options.files), options.audit is not None, options.index is not None)) != 1 or (
        options.index is not None if options.keys is not None else options.audit is not None
    ):
        parser.error("name FILEs (with --keys, but for packs), or --audit and --keys, or --index and --log")
    if options.audit is None and options.checkpoint:
        parser.error("--checkpoint goes with --audit")
    named = options.evidence is not None or options.sidecar is not None or options.passphrase
    if named and not options.files:
        parser.error("--evidence, --sidecar and --passphrase go with one FILE")
    if options.audit is not None:
        return verify_log(options.audit, options.keys, options.checkpoint)
    if options.index is not None:
        return verify_index(options.index, options.log, as_json=options.json)
    if named and len(options.files) > 1:
        parser.error("--evidence, --sidecar and --passphrase go with one FILE")
    return verify_all(
        options.files,
        options.keys,
        options.evidence,
        as_json=options.json,
        sidecar=options.sidecar,
        passphrase=(lambda: getpass.getpass("Passphrase of the pack: ")) if options.passphrase else None,
    )


def verify_all(
    files: Sequence[Path],
    keys_file: Path | None,
    evidence: Path | None,
    *,
    as_json: bool,
    sidecar: Path | None = None,
    passphrase: Callable[[], str] | None = None,
) -> int:
    """Check them all, and print; gives the exit code. Without keys packs alone can be checked.

    `passphrase` asks for that of a subject pack.
    """
    keys = None
    if keys_file is not None:
        try:
            keys = BoxKeys.parse(keys_file.read_text("utf-8"))
        except (OSError, KeysError, UnicodeDecodeError) as error:
            sys.stderr.write(f"{_shown(keys_file)}: {_why(error)}\n")
            return 2
    worst, found = 0, []
    for path in files:
        try:
            if (kind := packs.kind_of(path)) is not None:
                worst = max(worst, _verify_pack(path, kind, keys, passphrase, as_json=as_json))
                continue
            if keys is None:
                raise KeysError("no pack: it is checked with the box's keys (--keys)")
            if passphrase is not None:
                raise UnreadableError("no subject pack: there is nothing that a passphrase opens")
            if note_of(path).exists():
                worst = max(worst, _verify_signed(path, keys, as_json=as_json))
                continue
            verdict = verify_file(path, keys, _evidence(path, evidence), _sidecar(path, sidecar))
        except (OSError, EvidenceError, UnreadableError, UnicodeDecodeError) as error:
            sys.stderr.write(f"{_shown(path)}: {_why(error)}\n")
            worst = 2
            continue
        found.append(verdict)
        worst = max(worst, 0 if verdict.good else 1)
        sys.stdout.write((json.dumps(verdict.as_dict()) if as_json else _text(verdict)) + "\n")
    if len(found) > 1 and not as_json:
        sys.stdout.write(_order(found) + "\n")
    return worst


def _verify_pack(
    path: Path,
    kind: packs.PackKind,
    keys: BoxKeys | None,
    passphrase: Callable[[], str] | None,
    *,
    as_json: bool,
) -> int:
    if passphrase is not None and kind is not packs.PackKind.SUBJECT:
        raise UnreadableError("no subject pack: there is nothing that a passphrase opens")
    found = packs.check(path, kind, keys, passphrase)
    said = json.dumps(found.content) if as_json else "\n".join(map(_shown, found.lines))
    sys.stdout.write(said + "\n")
    return 2 if found.good is None else 0 if found.good else 1


def _verify_signed(path: Path, keys: BoxKeys, *, as_json: bool) -> int:
    found = verify_signed(path, keys.audit)
    sys.stdout.write(
        (json.dumps({**asdict(found), "good": found.good}) if as_json else _signed(found)) + "\n"
    )
    return 0 if found.good else 1


def verify_log(path: Path, keys_file: Path, checkpoints: Sequence[Path]) -> int:
    """Hold an exported log against its checkpoints and those kept elsewhere, and print; gives the exit code."""
    try:
        keys = BoxKeys.parse(keys_file.read_text("utf-8")).audit
        report = log.verify(path, keys, checkpoints)
    except (OSError, log.UnreadableError, UnicodeDecodeError) as error:
        sys.stderr.write(f"{_shown(path)}: {_why(error)}\n")
        return 2
    sys.stdout.write(
        f"{_shown(path.name)}: {report.size} entries, {report.checkpoints} checkpoints, "
        f"{'they agree' if report.whole else 'NOT as it was signed'}\n"
    )
    if report.withheld:
        sys.stdout.write(f"  withheld   {report.withheld} lines: only their hashes are here\n")
    if report.uncovered:
        sys.stdout.write(f"  unsigned   the last {report.uncovered}: no checkpoint is over them\n")
    for one in report.findings:
        place = f" (entry {one.index})" if one.index >= 0 else ""
        sys.stdout.write(f"  WRONG      {one.kind}: {_shown(one.message)}{place}\n")
    if report.more:
        sys.stdout.write(f"  WRONG      {report.more} more\n")
    return 0 if report.whole else 1


def verify_index(index: Path, log: Path, *, as_json: bool) -> int:
    """Hold a list of recordings against the log, and print; gives the exit code."""
    try:
        listed = read_index(index)
        states = last_states(read_log(log))
        found = check_index(listed, states)
    except (OSError, IndexUnreadableError, UnicodeDecodeError) as error:
        sys.stderr.write(f"{_shown(index)}: {_why(error)}\n")
        return 2
    if as_json:
        sys.stdout.write(json.dumps([asdict(one) for one in found]) + "\n")
    else:
        sys.stdout.write(
            f"{_shown(index.name)}: {len(listed)} recordings listed, {len(states)} in the log, "
            f"{'they agree' if not found else f'{len(found)} do not agree'}\n"
        )
        sys.stdout.writelines(f"  WRONG      {one.code}: {one.sentence}\n" for one in found)
    return 1 if found else 0


def _evidence(path: Path, named: Path | None) -> Evidence | None:
    beside = named or path.with_name(path.name + EVIDENCE_SUFFIX)
    if named is None and not beside.exists():
        return None
    if beside.stat().st_size > MAX_BYTES:
        raise EvidenceError("EVIDENCE_MALFORMED", "too long for evidence")
    return Evidence.parse(beside.read_text("utf-8"))


def _sidecar(path: Path, named: Path | None) -> bytes | None:
    beside = named or path.with_name(path.name + SIDECAR_SUFFIX)
    if named is None and not beside.exists():
        return None
    with beside.open("rb") as file:
        return file.read(MAX_SIDECAR + 1)  # one that is longer is none


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return _shown(str(error))


def _shown(name: str | Path) -> str:
    """A name in one line, whatever it holds: whoever made the file chose it, and nobody else is to write verdicts here."""
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in str(name))


def _time(time_ns: int) -> str:
    return (
        datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if time_ns > 0 else "?"
    )


def _text(verdict: Verdict) -> str:
    sealed = verdict.sealed
    lines = [f"{_shown(verdict.file)}: {verdict.word}"]
    if sealed.recording:
        lines.append(f"  recording  {sealed.recording}, begun {_time(sealed.created_ns)}")
    whole = (
        "ended as it should" if sealed.ended else "cut short by a failure, recovered to its last whole frame"
    )
    lines.append(
        f"  whole      {sealed.frames} frames, {sealed.size} bytes; {whole if sealed.signed else 'not signed'}"
    )
    if sealed.signed:
        lines.append(f"  signed     by {sealed.device_key.hex()}, {_time(sealed.signed_ns)}")
    if verdict.order is not None and verdict.checkpoint is not None:
        lines.append(
            f"  order      entry {verdict.order} of {verdict.checkpoint.size} in {verdict.checkpoint.origin}, "
            f"filed {_time(verdict.filed_ns)}"
        )
        lines.append(f"  gaps       {_gaps(verdict)}")
    else:
        lines.append("  order      no evidence given: neither order nor gaps can be told")
    if (beside := verdict.sidecar) is not None:
        logged = "the log was not asked" if beside.logged is None else f"{beside.logged} of them in the log"
        lines.append(
            f"  added      {beside.entries} sealed entries, the last {_time(beside.signed_ns)}; {logged}"
        )
        if beside.begun:
            often = "once" if beside.begun == 1 else f"{beside.begun} times"
            lines.append(
                f"  begun anew {often}, says the log: the one before was damaged; its first entry says why and by whom"
            )
    for one in verdict.findings:
        place = f" (byte {one.offset})" if one.offset >= 0 else ""
        lines.append(f"  WRONG      {one.code}: {one.sentence}{place}")
    return "\n".join(lines)


def _signed(found: Signed) -> str:
    if not found.good:
        return f"{_shown(found.file)}: NOT as it was signed\n  WRONG      {found.problem}"
    return (
        f"{_shown(found.file)}: as it was signed\n  kind       {found.kind}\n  signed     by {_shown(found.key)}\n"
        f"  sha256     {found.sha256}"
    )


def _gaps(verdict: Verdict) -> str:
    if verdict.gaps is None:
        return "not known when it was filed"
    if not verdict.gaps:
        return "none"

    def said(begin: int, end: int | None) -> str:
        return f"{begin / 1000:.1f} s" + (f" to {end / 1000:.1f} s" if end is not None else "")

    return "; ".join(f"{one.kind} {said(one.from_ms, one.until_ms)}" for one in verdict.gaps)


def _order(found: Sequence[Verdict]) -> str:
    logs: dict[str, list[tuple[int, str]]] = {}
    for one in found:
        # What a damaged file's evidence says is of another file; numbers of two logs say nothing of each other.
        if one.good and one.order is not None and one.checkpoint is not None:
            logs.setdefault(one.checkpoint.origin, []).append((one.order, one.file))
    if not logs:
        return "order: not known without evidence"
    return "\n".join(
        "order: "
        + " < ".join(f"{_shown(name)} ({number})" for number, name in sorted(known))
        + (f", in {origin}" if len(logs) > 1 else "")
        for origin, known in sorted(logs.items())
    )


if __name__ == "__main__":
    sys.exit(main())
