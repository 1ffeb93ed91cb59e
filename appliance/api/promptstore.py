"""Prompts in the data directory: a folder each, written whole. See `config.layout.Layout.prompts`."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import structlog

from appliance.media.audio.prompts import L16_WIDE, Form, pack, unpack
from appliance.model import CorruptError, UnavailableError, is_id
from appliance.model.prompt import Prompt, PromptFile
from appliance.process.wholefile import sync_directory

log = structlog.get_logger()

DESCRIPTION: Final = "prompt.json"
_NEW: Final = ".new-"
_GONE: Final = ".gone-"


class PromptUnwrittenError(UnavailableError):
    """The prompt cannot be written into the data directory: no space, or an I/O error."""

    reason = "PROMPT_UNWRITTEN"


class PromptDamagedError(CorruptError):
    """A prompt's files are missing or not what was written: upload it again; `data['prompt']`."""

    reason = "PROMPT_DAMAGED"


class PromptStore:
    """One process writes here (control); capture reads."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def add(self, prompt: Prompt, payloads: Mapping[Form, list[bytes]]) -> Prompt:
        """Writes the folder; on disk when this returns. Gives the prompt with its files. PromptUnwrittenError."""
        files = {form.file: pack(some) for form, some in payloads.items()}
        whole = prompt.model_copy(
            update={
                "files": tuple(
                    PromptFile(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
                    for name, data in files.items()
                )
            }
        )
        files[DESCRIPTION] = whole.model_dump_json(indent=1).encode()
        scratch = self._root / f"{_NEW}{prompt.prompt_id}"
        try:
            scratch.mkdir(mode=0o750, parents=True)
            for name, data in files.items():
                _write(scratch / name, data)
            sync_directory(scratch)
            scratch.rename(self._root / prompt.prompt_id)
            sync_directory(self._root)
        except OSError as error:
            shutil.rmtree(scratch, ignore_errors=True)  # what stays is taken away at the next start
            raise PromptUnwrittenError("the prompt cannot be written", errno=error.errno or 0) from error
        return whole

    def remove(self, prompt_id: str) -> None:
        """Takes the folder away; a folder that is not there is gone already. PromptUnwrittenError."""
        gone = self._root / f"{_GONE}{prompt_id}"
        try:
            (self._root / prompt_id).rename(gone)
            sync_directory(self._root)
        except FileNotFoundError:
            return
        except OSError as error:
            raise PromptUnwrittenError("the prompt cannot be removed", errno=error.errno or 0) from error
        shutil.rmtree(gone, ignore_errors=True)

    def tidy(self) -> None:
        """Takes away what a crash left half written or half removed."""
        for path in self._folders():
            if path.name.startswith((_NEW, _GONE)):
                shutil.rmtree(path, ignore_errors=True)

    def ids(self) -> set[str]:
        """Of the folders that are there."""
        return {path.name for path in self._folders() if is_id(path.name)}

    def read(self, prompt_id: str) -> Prompt:
        """What the folder says, all files there with the right size; PromptDamagedError."""
        folder = self._root / prompt_id
        try:
            prompt = Prompt.model_validate_json((folder / DESCRIPTION).read_bytes())
            whole = prompt.prompt_id == prompt_id and all(
                _plain(file.name) and (folder / file.name).stat().st_size == file.size
                for file in prompt.files
            )
        except (OSError, ValueError):
            whole = False
        if not whole:
            raise PromptDamagedError("the prompt's files are missing or damaged", prompt=prompt_id)
        return prompt

    def pcm(self, prompt_id: str) -> bytes:
        """What is played, 16 kHz, 16 bits little-endian, one channel. PromptDamagedError."""
        wanted = next(file for file in self.read(prompt_id).files if file.name == L16_WIDE.file)
        try:
            data = (self._root / prompt_id / wanted.name).read_bytes()
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() != wanted.sha256:
            raise PromptDamagedError("the prompt's files are missing or damaged", prompt=prompt_id)
        big = bytearray().join(unpack(data))
        big[0::2], big[1::2] = big[1::2], big[0::2]
        return bytes(big)

    def _folders(self) -> Iterator[Path]:
        try:
            yield from [path for path in self._root.iterdir() if path.is_dir()]
        except FileNotFoundError:
            return


def _plain(name: str) -> bool:
    return name == os.path.basename(name) and not name.startswith(".")


def _write(path: Path, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
