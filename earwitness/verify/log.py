"""Verifies an audit log offline, as docs/audit.md has it. Shares no code with what writes the log, by intent.

What is read may be hostile: files are read in blocks, lines and counts are bounded, nothing is executed or followed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from earwitness.verify.logclaims import MAX_FINDINGS, MAX_LINE, Claim, Lines, Report, claims_of, kept_claims
from earwitness.verify.notes import UnreadableError, VerifierKey

__all__ = ["Report", "UnreadableError", "VerifierKey", "verify"]

_SEGMENT = re.compile(r"entries-\d{6}\.jsonl")
_LEAVES = re.compile(r"leaves-(\d{1,9})")


class _Tree:
    """Roots at the sizes that are asked for, leaf by leaf."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self._sizes = set(sizes)
        self._peaks: list[tuple[int, bytes]] = []  # leaves below, hash
        self.size = 0
        self.roots: dict[int, bytes] = {}
        self._note()

    def add(self, leaf: bytes) -> None:
        weight = 1
        while self._peaks and self._peaks[-1][0] == weight:
            leaf = hashlib.sha256(b"\x01" + self._peaks.pop()[1] + leaf).digest()
            weight *= 2
        self._peaks.append((weight, leaf))
        self.size += 1
        self._note()

    def _note(self) -> None:
        if self.size in self._sizes:
            self.roots[self.size] = self.root()

    def holds(self, claim: Claim) -> bool:
        return self.roots.get(claim.size) == claim.root

    def root(self) -> bytes:
        if not self._peaks:
            return hashlib.sha256().digest()
        found = self._peaks[-1][1]
        for _, left in reversed(self._peaks[:-1]):
            found = hashlib.sha256(b"\x01" + left + found).digest()
        return found


def verify(path: Path, keys: Sequence[VerifierKey], kept: Sequence[Path] = ()) -> Report:
    """Hold a log (a directory of its files, or one file of entries) against its checkpoints and those kept elsewhere.

    UnreadableError where the path is no log, or a kept checkpoint no file.
    """
    if not keys:
        raise UnreadableError("a verifier key is needed")
    report = Report()
    segments, tenant = _files(path)
    claims = claims_of(path, keys, report)
    for one in kept:
        claims += kept_claims(one, keys, report)
    report.checkpoints = len(claims)
    lines = Lines(segments)
    generations: dict[int, list[Claim]] = {}
    for claim in claims:
        generations.setdefault(claim.generation, []).append(claim)
    leaves = _leaf_files(path)
    last = max([*leaves, *generations, 1])
    for generation in sorted({*generations, last}):
        source = leaves.get(generation)
        _compare(
            report, lines, source, generations.get(generation, []), latest=generation == last, tenant=tenant
        )
    if report.whole and (not claims or (report.uncovered and path.is_dir() and not _is_running(path))):
        first = max(report.newest, 0)
        report.add(
            "unsigned",
            f"no checkpoint is over entries {first} to {report.size - 1}: nothing says that they are the box's"
            if report.size > first
            else "no checkpoint is there",
            first,
        )
    for index, line in enumerate(lines):
        if b'"broken"' in line and _what(line) == "broken":
            said = json.loads(line)
            report.add(
                "broken",
                f"the log says of itself that it was broken ({_word(said.get('reason'))}): signed were"
                f" {_word(said.get('signed_size', 'none'))} entries, found {_word(said.get('found_size'))}",
                index,
            )
    return report


def _grown(claims: Sequence[Claim], leaves: Iterable[bytes]) -> _Tree:
    tree = _Tree(claim.size for claim in claims)
    for one in leaves:
        tree.add(one)
    return tree


def _compare(
    report: Report,
    lines: Lines,
    leaves: Path | None,
    claims: Sequence[Claim],
    *,
    latest: bool,
    tenant: bool,
) -> None:
    """One generation: roots over its leaves (where they are there; else over the lines), then the lines themselves."""
    tree = _grown(claims, map(_leaf, lines))
    if leaves:
        count = leaves.stat().st_size // 32
        # A box that runs may not have written the newest leaves yet.
        beyond = map(_leaf, itertools.islice(lines, count, None)) if latest else ()
        kept = _grown(claims, itertools.chain(_hashes(leaves), beyond))
        if all(kept.holds(one) for one in claims) or not all(tree.holds(one) for one in claims):
            tree = kept
        else:
            report.add(
                "leaves", f"{leaves.name} is damaged: the entries are those that were signed, it is not"
            )
            leaves = None
    report.size = max(report.size, tree.size) if latest else report.size
    bad = False
    for claim in sorted(claims, key=lambda one: one.size):
        if claim.size > tree.size:
            bad = True
            report.add(
                "rolled-back",
                f"{claim.source} is signed over {claim.size} entries, and the log has {tree.size}:"
                f" entries {tree.size} to {claim.size - 1} are missing",
                tree.size,
            )
        elif tree.roots[claim.size] != claim.root:
            if not bad:
                held = max(
                    [one.size for one in claims if one.size < claim.size and tree.holds(one)], default=0
                )
                report.add(
                    "changed",
                    f"{claim.source} is signed over {claim.size} other entries: what was changed, taken out or put in"
                    f" is among entries {held} to {claim.size - 1}",
                    held,
                )
            bad = True
        elif latest:
            report.newest = max(report.newest, claim.size)
    if leaves:
        covered = max([one.size for one in claims if tree.holds(one)], default=0)
        _align(report, lines, leaves, count if latest else covered, tenant=tenant)


def _align(report: Report, lines: Lines, leaves: Path, size: int, *, tenant: bool) -> None:
    """Each line against its leaf. Where they run out of step the next line that fits says what is missing or too many."""
    expected = b"".join(_hashes(leaves))[: 32 * size]
    where: dict[bytes, int] = {}
    index = 0
    strangers: list[int] = []

    def missing(first: int, end: int) -> None:
        changed = min(len(strangers), end - first)
        for at in range(first, first + changed):
            report.add("changed", f"entry {at} is not what was signed", at)
        if end > first + changed:
            report.add("missing", f"entries {first + changed} to {end - 1} are missing", first + changed)
        for number in strangers[changed:]:
            report.add("inserted", f"line {number} is no entry that was signed", first)
        strangers.clear()

    for number, line in enumerate(lines):
        if not line and index < size:
            if strangers:
                missing(index, index)
            report.withheld += 1
            if not tenant:
                report.add("missing", f"entry {index} is missing", index)
            index += 1
            continue
        found = _leaf(line)
        if not strangers and expected[32 * index : 32 * index + 32] == found:
            index += 1
            continue
        if index >= size and not strangers:
            break  # entries of a later generation
        if not where:
            where = {expected[32 * at : 32 * at + 32]: at for at in range(size)}
        at = where.get(found, -1)
        if at >= index:
            missing(index, at)
            index = at + 1
        else:
            strangers.append(number)
            if len(strangers) > MAX_FINDINGS:
                break
    if index < size:
        missing(index, size)


def _files(path: Path) -> tuple[list[Path], bool]:
    """Files of entries in their order, and whether lines of other tenants are withheld."""
    if path.is_file():
        return [path], False
    if not path.is_dir():
        raise UnreadableError(f"{path} is neither a directory nor a file of entries")
    found = sorted(one for one in path.iterdir() if _SEGMENT.fullmatch(one.name))
    if not found and not (path / "checkpoints.jsonl").exists():
        raise UnreadableError(f"{path} holds no audit log")
    about = path / "export.json"
    if not about.exists():
        return found, False
    try:
        said = json.loads(about.read_bytes()[:MAX_LINE])
        return found, bool(said["tenant"]) or int(said["start_index"]) > 0
    except (ValueError, OverflowError, KeyError, TypeError, RecursionError):
        raise UnreadableError(f"{about} is not what an export has") from None


def _is_running(path: Path) -> bool:
    """Whether it is a box's own directory: what came in the last seconds may be signed in the next."""
    return (path / "checkpoint").exists() and not (path / "export.json").exists()


def _leaf_files(path: Path) -> dict[int, Path]:
    if not path.is_dir():
        return {}
    return {int(found[1]): one for one in path.iterdir() if (found := _LEAVES.fullmatch(one.name))}


def _hashes(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(32 * 4096):
            for at in range(0, len(block) - len(block) % 32, 32):
                yield block[at : at + 32]


def _leaf(line: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + line).digest()


def _what(line: bytes) -> object:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return said.get("what") if isinstance(said, dict) else None


def _word(value: object) -> str:
    return re.sub(r"[^\w.-]", "", str(value))[:64] if isinstance(value, str | int) else "?"
