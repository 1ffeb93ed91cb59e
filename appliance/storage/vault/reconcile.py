"""At the start: files, journal and keystore side by side. What is unknown is kept and told, never destroyed.

It may run while others read, file and erase: each step looks again under the vault's lock before it changes anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog

from appliance.model import is_id
from appliance.process.status import ALARM, WARNING
from appliance.storage.sealed import Footer, Header, HeaderError, SealedCorruptError
from appliance.storage.sealed.layout import FOOTER_BYTES, HEADER_BYTES
from appliance.storage.vault.contract import Stored, slice_of
from appliance.storage.vault.core import Vault
from appliance.storage.vault.holding import Holding, HoldingState

log = structlog.get_logger()


@dataclass(slots=True)
class Reconciled:
    """What was found; each count is of recordings or files."""

    files: int = 0
    filed: int = 0  # files the journal did not know, now filed
    moved: int = 0  # files brought to where the journal says
    erased: int = 0  # holdings without a key
    unknown: int = 0  # files that no rule names
    missing: int = 0  # holdings without a file
    strangers: int = 0  # what is not ours among the buckets


def reconcile(vault: Vault) -> Reconciled:
    """See the module."""
    result = Reconciled()
    for bucket in list(vault.store.buckets()):
        for stored in vault.store.files(bucket):
            result.files += 1
            with vault.lock:
                _file(vault, stored, result)
    for held in vault.holdings.all():
        if (
            held.state in (HoldingState.FILED, HoldingState.DELETED)
            and held.recording_id not in vault.erasing
        ):
            with vault.lock:
                _holding(vault, held, result)
    result.strangers = sum(1 for _ in vault.store.strangers())
    _tell(vault, result)
    if result != Reconciled(files=result.files):
        log.warning("reconciled", **{name: getattr(result, name) for name in result.__slots__})
    return result


def _file(vault: Vault, stored: Stored, result: Reconciled) -> None:
    name, bucket = stored.recording_id, stored.bucket
    if name in vault.erasing or vault.store.find(bucket, name) != stored:
        return  # its erasure is completed by itself; or it changed since it was listed
    held = vault.holdings.get(name)
    if held is None:
        found = _header(vault, stored)
        fits = found is not None and (found[0].recording_id, found[0].tenant_id, found[0].line_id) == (
            name,
            bucket.tenant_id,
            bucket.line_id,
        )
        if (
            found is None
            or not fits
            or name not in vault.keystore
            or slice_of(found[0].created_ns) != bucket.slice
        ):
            result.unknown += 1
            return
        header, whole = found
        state = HoldingState.DELETED if stored.parked else HoldingState.FILED
        vault.holdings.append(
            [
                Holding(
                    name,
                    header.tenant_id,
                    header.line_id,
                    bucket.slice,
                    state,
                    stored.size,
                    whole,
                    "",
                    vault.clock(),
                    header.created_ns,
                )
            ]
        )
        result.filed += 1
    elif held.state is HoldingState.ERASED:
        # Its key is gone and its certificate written: only the removal of the file had not happened.
        if held.certificate is not None and held.bucket == bucket:
            vault.store.erase(bucket, [name])
            result.moved += 1
        else:
            result.unknown += 1
    elif held.state is HoldingState.QUARANTINED or held.bucket != bucket:
        result.unknown += 1
    elif stored.parked is not (held.state is HoldingState.DELETED):
        (vault.store.unpark if stored.parked else vault.store.park)(bucket, [name])
        result.moved += 1


def _header(vault: Vault, stored: Stored) -> tuple[Header, bool] | None:
    """The header of a stored file, and whether its writer ended it; None where it cannot be read."""
    if stored.size < HEADER_BYTES + FOOTER_BYTES:
        return None
    with vault.store.read(stored.bucket, stored.recording_id, parked=stored.parked) as file:
        try:
            header = Header.parse(file.read(HEADER_BYTES))
        except (SealedCorruptError, HeaderError):
            return None
        file.seek(stored.size - FOOTER_BYTES)
        footer = Footer.parse(file.read(FOOTER_BYTES))
    return None if footer is None else (header, footer.whole)


def _holding(vault: Vault, held: Holding, result: Reconciled) -> None:
    current = vault.holdings.get(held.recording_id)
    if current != held or held.recording_id in vault.erasing:
        return  # it changed meanwhile
    if held.recording_id not in vault.keystore:
        # The fixed rule: absent from the keystore means erased, whatever an older record says. The file stays.
        vault.holdings.append(
            [
                replace(
                    held,
                    state=HoldingState.ERASED,
                    reason="no key in the keystore",
                    since_ns=vault.clock(),
                )
            ]
        )
        result.erased += 1
    elif vault.store.find(held.bucket, held.recording_id) is None:
        result.missing += 1


def _tell(vault: Vault, result: Reconciled) -> None:
    status = vault.status
    if result.missing:
        status.raise_condition(
            "FilesMissing",
            ALARM,
            f"{result.missing} recordings that the journal names have no file. Restore them from a copy.",
        )
    if result.unknown or result.strangers:
        status.raise_condition(
            "UnknownFiles",
            WARNING,
            f"{result.unknown + result.strangers} files among the buckets are known to nobody. They are left alone.",
        )
    if result.erased:
        status.raise_condition(
            "KeysAbsent",
            ALARM,
            f"{result.erased} recordings had no key any more and count as erased. Was the keystore replaced?",
        )
    for path in vault.quarantine.glob("*.sealed"):
        if is_id(path.stem) and vault.holdings.get(path.stem) is None:
            vault.holdings.append(
                [
                    Holding(
                        path.stem,
                        "",
                        "",
                        "",
                        HoldingState.QUARANTINED,
                        path.stat().st_size,
                        False,
                        "found in quarantine",
                        vault.clock(),
                        0,
                    )
                ]
            )
