"""What a copy took in that missed the flip: it went on with the epoch before while the other one was away.

Its root key is still in that copy, until the turn is brought to its end. What it has beyond the place at which the next
epoch was made goes into that one's journal, so that nothing is lost that was said to be taken in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.storage.keystore.contents import Contents
from appliance.storage.keystore.epochfile import derive, read_epoch
from appliance.storage.keystore.errors import KeystoreCorruptError, KeystoreDegradedError, RootKeyMissingError
from appliance.storage.keystore.keyjournal import KeyJournal, beginning, records_after
from appliance.storage.keystore.records import apply_record, carried
from appliance.storage.keystore.rootslot import RootKey, RootSlot


def carry_over(
    slots: RootSlot, directories: Sequence[Path], contents: Contents, journal: KeyJournal
) -> tuple[list[Path], list[str]]:
    """Into `journal` and `contents`, of the present epoch; directories that must be left out, and sentences.

    What cannot all be read is left as it is, as if it were away: so nothing can be erased until it is repaired or given
    up, and everything else goes on.
    """
    left, said = [], []
    for directory in directories:
        try:
            if count := _carry(slots, directory, contents, journal):
                said.append(
                    f"{directory.name}: {count} records taken in without the other copy, carried over"
                )
        except (KeystoreCorruptError, KeystoreDegradedError) as error:
            left.append(directory)
            said.append(
                f"{directory.name}: left as it is, and not used: it took in keys without the other copy, and not all of"
                f" them can be carried over ({error.message}); repair it, or declare it destroyed"
            )
    return left, said


def _carry(slots: RootSlot, directory: Path, contents: Contents, journal: KeyJournal) -> int:
    """How many records; KeystoreCorruptError where it is damaged, -DegradedError where it cannot be read, or nothing
    be written: what is old here must not be destroyed then.
    """
    end = contents.before
    root = _root_of(slots.alone(directory), end.epoch) if end is not None else None
    if end is None or root is None:
        return 0
    base, path = (directory / f"epoch-{end.epoch:010d}.{kind}" for kind in ("keys", "journal"))
    count = 0
    try:
        raw = path.read_bytes()
        if len(raw) < end.size:
            return 0  # it was away before that
        plain, version = read_epoch([base], derive(root.key, root.epoch, b"keys"), root.epoch, [])
        source = Contents.decode(plain, version)
        key = derive(root.key, root.epoch, b"journal")
        common, at = records_after(raw[: end.size], key, beginning(end.epoch))
        if at != end:
            raise KeystoreCorruptError(
                "the copies of the key journal went on differently", what=path.name, offset=at.size
            )
        for record in common:
            apply_record(record, source)
        for record in records_after(raw, key, end)[0]:
            apply_record(record, source)
            fresh = carried(record, contents, source)
            if fresh is not None:
                journal.append(fresh)
                apply_record(fresh, contents)
                count += 1
    except FileNotFoundError:
        pass  # it went in the middle of being brought up to date
    except OSError as error:
        raise KeystoreDegradedError(
            f"what a copy took in without the other cannot be carried over: {error.strerror}",
            copies=[directory.name],
        ) from error
    return count


def _root_of(slots: RootSlot, epoch: int) -> RootKey | None:
    """The root key of a copy whose present epoch is this one."""
    try:
        active = slots.active()
        root = slots.read(active.slot) if active is not None and active.epoch == epoch else None
    except (RootKeyMissingError, KeystoreCorruptError):
        return None
    return root if root is not None and root.epoch == epoch else None
