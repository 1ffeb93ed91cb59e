"""Prompts and tones as payloads, ready to be sent. Read in the threads of the callers, never in the loop's."""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from pathlib import Path

from appliance.media.audio import tones
from appliance.media.audio.prompts import PayloadsCorruptError, unpack
from appliance.media.audio.tones import PACKET_MS, Tone
from appliance.media.capture.playing import Sound
from appliance.model import CorruptError, InvalidError, NotFoundError, UnavailableError, id_bytes

MAX_MS = 600_000
MAX_PAYLOAD = 1400
MAX_BYTES = (MAX_MS // PACKET_MS) * (2 + MAX_PAYLOAD)
CACHED_BYTES = 64 << 20
_ENCODING = re.compile(r"[A-Z0-9][A-Z0-9.-]{0,31}")


class PromptNotFoundError(NotFoundError):
    """There is no prompt of this id, or it is not rendered in this format; `data['prompt']`, `data['format']`."""

    reason = "PROMPT_NOT_PLAYABLE"


class PromptUnreadableError(UnavailableError):
    """The prompt's file cannot be read; `data['prompt']`."""

    reason = "PROMPT_FILE_UNREADABLE"


class PromptBrokenError(CorruptError):
    """The prompt's file is not one payload of 20 ms after the other, or is longer than ten minutes; `data['prompt']`."""

    reason = "PROMPT_FILE_BROKEN"


class PlayFormatError(InvalidError):
    """What is to be played, or how, is malformed; `data['field']` names it."""

    reason = "PLAY_INVALID"


def _format(encoding: str, clock_rate: int, channels: int) -> tuple[str, int, int]:
    """Checked, and as files are named: an encoding in upper case, channels said."""
    encoding = encoding.upper()
    if not _ENCODING.fullmatch(encoding):
        raise PlayFormatError("not an encoding's name", field="payload_type.encoding")
    if not 8000 <= clock_rate <= 48000 or clock_rate % (1000 // PACKET_MS):
        raise PlayFormatError("a clock rate is 8,000 to 48,000 Hz", field="payload_type.clock_rate")
    if not 0 <= channels <= 2:
        raise PlayFormatError("one channel, or two", field="payload_type.channels")
    return encoding, clock_rate, 2 if encoding == "OPUS" else channels or 1


def tone(which: Tone, encoding: str, clock_rate: int, channels: int) -> Sound:
    """A tone; ToneFormatError where nothing here can make the format, PlayFormatError where it is none."""
    encoding, clock_rate, channels = _format(encoding, clock_rate, channels)
    return Sound(tones.tone_payloads(which, encoding, clock_rate, channels), encoding, clock_rate, which)


class PromptShelf:
    """Prompts of the folder `root` (see Layout.prompts); those used last stay in memory. Safe from any thread."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._cached: OrderedDict[Path, tuple[tuple[bytes, ...], int]] = OrderedDict()
        self._bytes = 0

    def prompt(self, prompt_id: str, encoding: str, clock_rate: int, channels: int) -> Sound:
        """A prompt in a format. Errors of this module, each with the reason."""
        try:
            id_bytes(prompt_id)
        except InvalidError:
            raise PlayFormatError("not a prompt's id", field="prompt_id") from None
        encoding, clock_rate, channels = _format(encoding, clock_rate, channels)
        path = self._root / prompt_id / f"{encoding}-{clock_rate}-{channels}.packets"
        return Sound(self._payloads(path), encoding, clock_rate)

    def _payloads(self, path: Path) -> tuple[bytes, ...]:
        with self._lock:
            found = self._cached.get(path)
            if found is not None:
                self._cached.move_to_end(path)
                if path.exists():  # a prompt that was taken away is not played from memory
                    return found[0]
                self._bytes -= found[1]
                del self._cached[path]
        payloads, size = _read(path)
        with self._lock:
            if path not in self._cached:
                self._cached[path] = (payloads, size)
                self._bytes += size
            while self._bytes > CACHED_BYTES and len(self._cached) > 1:
                _, (_, gone) = self._cached.popitem(last=False)
                self._bytes -= gone
        return payloads


def _read(path: Path) -> tuple[tuple[bytes, ...], int]:
    prompt = path.parent.name
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(MAX_BYTES + 1) if size <= MAX_BYTES else b""
    except (FileNotFoundError, NotADirectoryError):
        raise PromptNotFoundError("no such prompt in this format", prompt=prompt, format=path.stem) from None
    except OSError as error:
        raise PromptUnreadableError(f"the prompt cannot be read: {error.strerror}", prompt=prompt) from error
    try:
        payloads = tuple(unpack(data))
    except PayloadsCorruptError:
        payloads = ()
    if not 0 < len(payloads) <= MAX_MS // PACKET_MS or max(map(len, payloads)) > MAX_PAYLOAD:
        raise PromptBrokenError("not a prompt's payloads", prompt=prompt)
    return payloads, len(data)


def warm() -> None:
    """Makes the tones that every line uses, before the first call wants one."""
    for which in Tone:
        for encoding in ("PCMU", "PCMA"):
            tones.tone_payloads(which, encoding, 8000, 1)
