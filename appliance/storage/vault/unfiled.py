"""Recordings that are not filed yet: which there are, and what the headers of their files in the spool say of them."""

from __future__ import annotations

import structlog

from appliance.model import id_bytes, is_id
from appliance.storage.sealed import HEADER_BYTES, Header, HeaderError, SealedCorruptError
from appliance.storage.vault.core import Vault
from appliance.storage.vault.errors import RecordingLiveError, RecordingNotFoundError, RecordingSpooledError
from appliance.storage.vault.holding import Holding
from appliance.storage.vault.spool import listing

log = structlog.get_logger()


def unfiled(vault: Vault) -> list[str]:
    """Ids of what is live, waits in the spool, or is on its way out of it, in order; of some the journal may tell."""
    names: set[str] = set()
    try:
        for suffix in (".part", ".sealed"):  # what ends in between is seen under its second name
            names.update(path.stem for path in listing(vault.layout.spool_recordings, suffix))
    except OSError as error:
        log.warning("the spool cannot be read", error=type(error).__name__)  # the filer's condition tells
    names.update(list(vault.arriving))
    return sorted(filter(is_id, names), key=id_bytes)


def look_up(vault: Vault, recording_id: str) -> Holding | Header:
    """What there is of a recording, wherever it is. Errors as Vault.holding and `header_of`."""
    try:
        return vault.holding(recording_id)
    except (RecordingSpooledError, RecordingLiveError, RecordingNotFoundError):
        found = header_of(vault, recording_id)
    # Without a file, it was filed just now, or is nowhere.
    return found if found is not None else vault.holding(recording_id)


def header_of(vault: Vault, recording_id: str) -> Header | None:
    """The header of a recording that is not filed; None where the spool has no file of it.

    RecordingSpooledError, RecordingLiveError where the file does not say whose it is, or says that it is another one.
    """
    for suffix in (".sealed", ".part", ".sealed"):  # it may end in between
        try:
            with open(vault.spooled(recording_id, suffix), "rb") as file:
                header = Header.parse(file.read(HEADER_BYTES))
            if header.recording_id == recording_id:
                return header
        except FileNotFoundError:
            continue
        except (OSError, SealedCorruptError, HeaderError) as error:
            log.warning("a file in the spool has no readable header", error=type(error).__name__)
        if suffix == ".part":
            raise RecordingLiveError(
                "the recording is still being made, and its file does not say yet whose it is",
                recording_id=recording_id,
            )
        raise RecordingSpooledError(
            "the recording is not filed yet, and its file does not say whose it is", recording_id=recording_id
        )
    return vault.arriving.get(recording_id)
