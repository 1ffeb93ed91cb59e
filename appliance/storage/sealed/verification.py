"""Says whether a sealed file is what was written, by whom it was signed, and where it is not."""

from __future__ import annotations

import io
from dataclasses import dataclass

from appliance.storage.sealed.blocks import EndBlock, InfoBlock
from appliance.storage.sealed.columns import PacketBlock
from appliance.storage.sealed.errors import HeaderError, Problem, SealedCorruptError
from appliance.storage.sealed.footer import Footer
from appliance.storage.sealed.inspection import Finding, Inspection, Keeper
from appliance.storage.sealed.layout import Header
from appliance.storage.sealed.reader import Opener
from appliance.storage.sealed.walk import Frame, Source, walk


@dataclass(frozen=True, slots=True)
class Report:
    """What verification found.

    `intact`: not one byte differs from what was written, the end included, or the cut end is stated in a signed
    footer. `whole`: the writer ended the file. `signed`: the footer's signature holds (`device_key` says whose).
    `trusted`: signed by the device that was asked for. `opened`: the frames were opened with the data key as well.
    """

    intact: bool
    whole: bool
    signed: bool
    trusted: bool
    opened: bool
    recording_id: str
    frames: int
    media_packets: int
    root: bytes
    device_key: bytes
    sealed_ns: int
    dropped_bytes: int
    findings: tuple[Finding, ...]


def verify(
    source: Source | bytes, device_public_key: bytes | None = None, data_key: bytes | None = None
) -> Report:
    """Verifies a sealed file from its beginning, in one pass.

    Without `data_key`: structure, checksums, hash tree and signature, that is every byte where there is a footer. With
    it: that each frame opens at its place, and its content too. `device_public_key` (raw Ed25519) is the device that
    must have signed. Whatever is wrong is in the report; nothing is raised for it.
    """
    keeper = Keeper()
    content = _Content(keeper)
    opener: Opener | None = None
    try:
        for item in walk(io.BytesIO(source) if isinstance(source, bytes) else source):
            if isinstance(item, Header) and data_key is not None:
                opener = Opener(item, data_key)
            elif isinstance(item, Frame) and opener is not None:
                content.take(item, opener)
            keeper.take(item)
    except SealedCorruptError as error:
        return _unreadable(Finding(error.problem, error.offset, error.frame))
    except HeaderError as error:
        return _unreadable(Finding(Problem.HEADER_CORRUPT, 0, -1, error.message))
    found = keeper.result()
    if opener is not None and found.ended and content.end is None and not content.failed:
        keeper.find(Problem.CONTENT_CORRUPT, found.content_bytes, found.frames - 1, "no END block")
    signed = trusted = False
    footer = found.footer
    if footer is not None:
        signed, trusted = _check_signature(footer, found, device_public_key, keeper)
    elif not found.ended and not keeper.findings:
        keeper.find(Problem.CUT, found.content_bytes, found.frames)
    return Report(
        intact=not keeper.findings,
        whole=found.ended,
        signed=signed,
        trusted=trusted,
        opened=opener is not None and not content.failed,
        recording_id=found.header.recording_id,
        frames=found.frames,
        media_packets=content.packets,
        root=found.root,
        device_key=footer.device_key if footer else b"",
        sealed_ns=footer.sealed_ns if footer else 0,
        dropped_bytes=footer.dropped_bytes if footer else 0,
        findings=tuple(sorted(keeper.findings, key=lambda item: item.offset)),
    )


def _check_signature(
    footer: Footer, found: Inspection, device_public_key: bytes | None, keeper: Keeper
) -> tuple[bool, bool]:
    signed = footer.signature_holds()
    if not signed:
        keeper.find(Problem.SIGNATURE_INVALID, footer.content_bytes, -1)
    known = device_public_key is not None and footer.device_key == device_public_key
    if device_public_key is not None and not known:
        keeper.find(Problem.SIGNER_UNKNOWN, footer.content_bytes, -1)
    return signed, signed and known


class _Content:
    """Opens frames and holds what is in them against what END states."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._bytes = 0
        self._events = 0
        self.packets = 0
        self.end: EndBlock | None = None
        self.failed = False

    def take(self, frame: Frame, opener: Opener) -> None:
        number = frame.prefix.counter
        try:
            blocks = opener.open(frame)
        except SealedCorruptError as error:
            self.failed = True
            self._keeper.find(error.problem, error.offset, error.frame)
            return
        header = self._keeper.header
        for block in blocks:
            if isinstance(block, PacketBlock):
                if block.audio:
                    self.packets += len(block)
                    self._bytes += len(block.payload)
                else:
                    self._events += len(block)
            elif isinstance(block, InfoBlock):
                if header is not None and block.info.recording_id != header.recording_id:
                    self._keeper.find(
                        Problem.CONTENT_CORRUPT, frame.offset, number, "INFO names another recording"
                    )
            elif isinstance(block, EndBlock):
                self.end = block
                if not self.failed:
                    self._check_end(block, frame)

    def _check_end(self, end: EndBlock, frame: Frame) -> None:
        number = frame.prefix.counter
        stated = (end.frames, end.media_packets, end.media_bytes, end.event_packets)
        if stated != (number, self.packets, self._bytes, self._events):
            self._keeper.find(Problem.TOTALS_MISMATCH, frame.offset, number)
        if end.root != self._keeper.tree.root():  # the tree of all that stands before this frame
            self._keeper.find(Problem.ROOT_MISMATCH, frame.offset, number)


def _unreadable(finding: Finding) -> Report:
    return Report(False, False, False, False, False, "", 0, 0, b"", b"", 0, 0, (finding,))
