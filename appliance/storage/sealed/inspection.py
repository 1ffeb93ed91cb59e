"""What can be said of a sealed file without its key, and what the vault does with it: recover, then seal with a footer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.storage.sealed.errors import Problem, SealedCorruptError, SealedStateError, sentence
from appliance.storage.sealed.footer import Footer
from appliance.storage.sealed.layout import FooterFlag, FrameKind, Header, leaf_hash
from appliance.storage.sealed.tree import MerkleTree
from appliance.storage.sealed.walk import Damage, FooterFound, Frame, Source, walk

MAX_FINDINGS = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, and exactly where. `frame` counts from 0; -1: no frame."""

    problem: Problem
    offset: int
    frame: int
    detail: str = ""

    def __str__(self) -> str:
        place = f"byte {self.offset}" + (f", frame {self.frame}" if self.frame >= 0 else "")
        return f"{place}: {sentence(self.problem)}" + (f" ({self.detail})" if self.detail else "")


class WritableFile(Protocol):
    """A file opened for update ("r+b")."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...
    def truncate(self, size: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a sealed file is, seen without a key.

    `frames` and `content_bytes` cover the header and the unbroken run of whole frames after it; `root` is the tree over
    just these. `ended` says that the run ends with the last frame. `later_frames` are whole frames after damage.
    """

    header: Header
    file_bytes: int
    frames: int
    content_bytes: int
    root: bytes
    ended: bool
    footer: Footer | None
    later_frames: int
    findings: tuple[Finding, ...]

    @property
    def whole(self) -> bool:
        """Ended by its writer, and nothing is wrong."""
        return self.ended and not self.findings

    @property
    def torn(self) -> bool:
        """Nothing is wrong but bytes after the last whole frame: what a power cut leaves."""
        return bool(self.findings) and all(item.problem is Problem.TORN for item in self.findings)


def inspect(source: Source) -> Inspection:
    """Reads a file once, from its present position, which must be its beginning.

    Raises SealedCorruptError or HeaderError only where the header itself cannot be read.
    """
    keeper = Keeper()
    for item in walk(source):
        keeper.take(item)
    return keeper.result()


class Keeper:
    """Gathers an Inspection from a walk; verify() feeds one too."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.header: Header | None = None
        self.tree = MerkleTree()
        self.frames = 0
        self.content = 0
        self.ended = False
        self.unbroken = True
        self.later = 0
        self.footer: Footer | None = None
        self.file_bytes = 0

    def find(self, problem: Problem, offset: int, frame: int, detail: str = "") -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(problem, offset, frame, detail))

    def take(self, item: Header | Frame | Damage | FooterFound) -> None:
        if isinstance(item, Header):
            self.header = item
            raw = item.pack()
            self.tree.append(leaf_hash(raw))
            self.content = self.file_bytes = len(raw)
        elif isinstance(item, Frame):
            self._take_frame(item)
        elif isinstance(item, Damage):
            self.file_bytes = item.offset + item.length
            self.unbroken = False
            self.find(item.problem, item.offset, item.frame, f"{item.length} bytes")
        else:
            self._take_footer(item)

    def _take_frame(self, frame: Frame) -> None:
        self.file_bytes = frame.offset + frame.size
        if frame.misplaced:
            self.unbroken = False
            problem = Problem.TRAILING if self.ended else Problem.FRAME_MISPLACED
            self.find(problem, frame.offset, self.frames, f"it says {frame.prefix.counter}")
        if self.unbroken:
            self.tree.append(frame.leaf)
            self.frames += 1
            self.content = self.file_bytes
            self.ended = frame.prefix.kind == FrameKind.LAST
        else:
            self.later += 1

    def _take_footer(self, found: FooterFound) -> None:
        self.file_bytes = found.offset + found.length
        footer = found.footer
        if footer is None:
            # At the end of a file this may also be a footer that a power cut tore.
            self.find(Problem.FOOTER_CORRUPT, found.offset, -1)
            return
        self.footer = footer
        if footer.content_bytes != found.offset or footer.frames != self.frames + self.later:
            self.find(
                Problem.TOTALS_MISMATCH,
                found.offset,
                -1,
                f"{footer.frames} frames and {footer.content_bytes} bytes were stated",
            )
        if footer.whole != self.ended:
            self.find(Problem.TOTALS_MISMATCH, found.offset, -1, "whole or not is stated wrongly")
        if footer.root != self.tree.root():
            self.find(Problem.ROOT_MISMATCH, found.offset, -1)

    def result(self) -> Inspection:
        if self.header is None:
            raise AssertionError("a walk begins with the header")
        return Inspection(
            self.header,
            self.file_bytes,
            self.frames,
            self.content,
            self.tree.root(),
            self.ended,
            self.footer,
            self.later,
            tuple(self.findings),
        )


def recover(file: WritableFile) -> tuple[Inspection, int]:
    """Cuts a file in the spool to its last whole frame; gives what it then is, and how many bytes went.

    Only what follows the last whole frame goes: a torn frame, or a footer that was being written. Where whole frames
    or a sound footer stand after damage, the file is not torn but damaged, nothing is cut, and SealedCorruptError says
    where. The caller syncs the file.
    """
    file.seek(0)
    found = inspect(file)
    problems = {item.problem for item in found.findings}
    if not problems:
        return found, 0
    if problems - {Problem.TORN, Problem.FOOTER_CORRUPT} or found.later_frames or found.footer is not None:
        first = found.findings[0]
        raise SealedCorruptError(first.problem, first.offset, first.frame)
    file.truncate(found.content_bytes)
    file.seek(0)
    return inspect(file), found.file_bytes - found.content_bytes


def seal_footer(
    found: Inspection, device_key: Ed25519PrivateKey, sealed_ns: int, *, dropped_bytes: int = 0
) -> bytes:
    """The footer to append to a file that `inspect` or `recover` found sound; 200 bytes.

    `dropped_bytes` as `recover` gave it. Raises SealedStateError where there is a footer already, SealedCorruptError
    where the file is not sound.
    """
    if found.footer is not None:
        raise SealedStateError("this sealed file has its footer")
    if found.findings:
        first = found.findings[0]
        raise SealedCorruptError(first.problem, first.offset, first.frame)
    flags = FooterFlag(0)
    if found.ended:
        flags |= FooterFlag.WHOLE
    if dropped_bytes:
        flags |= FooterFlag.RECOVERED
    public = device_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return Footer(
        flags, found.frames, found.content_bytes, dropped_bytes, sealed_ns, found.root, public
    ).sign(device_key)
