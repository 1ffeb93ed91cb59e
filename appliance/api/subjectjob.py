"""Makes a pack for a person: the long work. Begun anew after a restart, as half a zip file is none.

The passphrase is kept sealed in the catalogue, under the key of identities' secrets, until the pack is ready or has
failed, so that a restart in the night does not cost days of the statutory month; then it is wiped. Nothing of the sound
is on disk but encrypted under it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from io import BufferedRandom
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from appliance.access.refusals import IdentityKeyError
from appliance.access.sealing import Sealing
from appliance.api import recheck, subjectfacts
from appliance.api.parts import Parts
from appliance.api.subjectfacts import Known, Rendered
from appliance.api.worker import Keep
from appliance.audit.trail import Trail
from appliance.catalog import subjectpacks, subjectrequests
from appliance.catalog.operations import Operation
from appliance.catalog.subjecterrors import (
    SubjectMuteImpossibleError,
    SubjectPackStateError,
    SubjectPackUnwrittenError,
    SubjectPassphraseLostError,
)
from appliance.catalog.subjectpacks import Pack
from appliance.catalog.subjectrequests import Choice, State
from appliance.media.audio.muting import Mute
from appliance.media.audio.recording import Recording, load
from appliance.media.audio.render import Rendering, RenderOptions
from appliance.model import CorruptError, EarwitnessError, Kind
from appliance.packs import subject, subjectpage
from appliance.packs.subject import EVERYBODY, Given
from appliance.packs.zipping import Zip, manifest
from appliance.storage.sealed import SealedReader

KIND: Final = "subject-pack"
FOLDER: Final = "subject-packs"
_DAY_NS: Final = 86400 * 10**9
_SIDES: Final = ("caller", "agent")


def secret_name(pack_id: str) -> str:
    """What a pack's passphrase is sealed for: no identity has such a name."""
    return f"\0pack {pack_id}"


class SubjectPacking:
    """A job of `worker`."""

    kind = KIND

    def __init__(self, parts: Parts, sealing: Sealing, trail: Trail) -> None:
        self._parts = parts
        self._sealing = sealing
        self._trail = trail
        self.folder = parts.settings.layout.control / FOLDER

    def path(self, pack_id: str) -> Path:
        """Where a pack's file is, once it is whole."""
        return self.folder / f"{pack_id}.zip"

    def part(self, pack_id: str) -> Path:
        """Where it is while it is made."""
        return self.folder / f"{pack_id}.part"

    async def run(self, operation: Operation, keep: Keep) -> bool:
        """See `worker.Job`."""
        pack_id = str(operation.request["pack"])
        try:
            done = await self._make(operation, pack_id, keep)
        except EarwitnessError as error:
            await asyncio.to_thread(self._discard, pack_id)
            if error.kind is not Kind.UNAVAILABLE:
                await self._failed(pack_id, error.reason)
            raise
        except OSError as error:
            await asyncio.to_thread(self._discard, pack_id)
            raise SubjectPackUnwrittenError("the pack cannot be written", errno=error.errno or 0) from error
        except Exception:
            await asyncio.to_thread(self._discard, pack_id)
            await self._failed(pack_id, "INTERNAL")
            raise
        if not done:
            await asyncio.to_thread(self._discard, pack_id)
            await self._failed(pack_id, "CANCELLED")
        return done

    async def _failed(self, pack_id: str, reason: str) -> None:
        await self._parts.store.write(lambda connection: subjectpacks.failed(connection, pack_id, reason))
        await self._parts.store.scrub_soon()  # the passphrase leaves the database's files, too

    def _discard(self, pack_id: str) -> None:
        self.part(pack_id).unlink(missing_ok=True)

    async def _make(self, operation: Operation, pack_id: str, keep: Keep) -> bool:
        pack, contents = await self._parts.store.read(
            lambda c: (subjectpacks.get(c, pack_id), subjectpacks.recordings_in(c, pack_id))
        )
        if pack.state is subjectpacks.State.READY:
            return True  # a stop came between this and the operation's end
        if pack.state is not subjectpacks.State.MAKING:
            raise SubjectPackStateError("the pack is not to be made any more", state=pack.state.value)
        passphrase = self._passphrase(pack)
        known = await self._known(pack, contents)
        await asyncio.to_thread(self.folder.mkdir, 0o700, parents=True, exist_ok=True)
        with ExitStack() as stack:
            file = stack.enter_context(await asyncio.to_thread(self._open, pack_id))
            writer = Zip(file, passphrase)
            stack.callback(writer.abandon)
            given: list[Given] = []
            if await keep("", 0, {}):
                return False
            for number, row in enumerate(known.rows, 1):
                name = f"audio/{number:04}.wav"
                actor, choice = operation.creator, known.choices[row.recording_id]
                purpose = str(operation.request["purpose"])
                standing = recheck.standing(row.recording_id, restricted=bool(contents[row.recording_id]))
                async with recheck.meanwhile(self._parts.store, standing) as still:
                    rendered = await asyncio.to_thread(
                        self._render, writer, name, row.recording_id, choice, actor, purpose, still
                    )
                given.append(_with_sound(known.given[row.recording_id], rendered))
                if await keep("", number, {}):
                    return False
            await asyncio.to_thread(self._rest, writer, known, given)
            size, digest = await asyncio.to_thread(self._finish, file, writer, pack_id)
        await self._ready(pack, size, digest)
        await keep("", len(known.rows), {})
        return True

    def _open(self, pack_id: str) -> BufferedRandom:
        part = self.part(pack_id)
        part.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return open(os.open(part, flags, 0o600), "w+b")

    def _passphrase(self, pack: Pack) -> bytes:
        try:
            return self._sealing.open(pack.secret or b"", secret_name(pack.pack_id))
        except IdentityKeyError:
            raise SubjectPassphraseLostError("the passphrase cannot be opened: make the pack anew") from None

    async def _known(self, pack: Pack, contents: dict[str, str]) -> Known:
        ids = sorted(contents)
        told = await self._parts.retention.keeping_if_told(ids[:1000])
        kept = {one.recording_id: one.expire_ns for one in told.keeping} if told is not None else {}
        return await self._parts.store.read(lambda c: subjectfacts.load(c, pack.request_id, ids, kept))

    def _render(
        self,
        writer: Zip,
        name: str,
        recording_id: str,
        choice: Choice,
        actor: str,
        purpose: str,
        still: Callable[[], None],
    ) -> Rendered:
        """In a thread. What `still` raises."""
        reader = self._parts.reader
        data_key = reader.lease(recording_id, actor, purpose)
        with reader.open(recording_id) as stream:
            loaded = load(SealedReader(stream, data_key, tolerant=True))
        if loaded.info is None:
            raise CorruptError("nothing of the recording can be read", recording=recording_id)
        rendering = Rendering(loaded, RenderOptions(format="wav", mutes=mutes_of(loaded, choice)))
        digest = writer.add(name, _while(still, rendering.chunks()), size=rendering.size)
        return Rendered(
            name, digest, rendering.channels, loaded.duration_ns, loaded.whole and not loaded.notes
        )

    def _rest(self, writer: Zip, known: Known, given: list[Given]) -> None:
        facts = subjectfacts.facts(known, given, self._parts.clock_ns())
        for name, content in (
            ("index.html", subjectpage.page(facts)),
            ("index.json", subject.index(facts)),
            (subject.SCHEMA, subject.schema()),
            ("README.txt", subjectpage.README.encode()),
        ):
            writer.add(name, [content], size=len(content))
        sums = manifest(writer.sums)
        writer.add("SHA256SUMS", [sums], size=len(sums))
        note = self._trail.sign(KIND, sums).encode()
        writer.add("SIGNATURE", [note], size=len(note))

    def _finish(self, file: BufferedRandom, writer: Zip, pack_id: str) -> tuple[int, str]:
        writer.close()
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.seek(0, os.SEEK_END)
        os.replace(self.part(pack_id), self.path(pack_id))
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return size, digest

    async def _ready(self, pack: Pack, size: int, digest: str) -> None:
        now_ns = self._parts.clock_ns()

        def work(connection: sa.Connection) -> bool:
            expire_ns = now_ns + pack.keep_days * _DAY_NS
            if not subjectpacks.ready(connection, pack.pack_id, size, digest, expire_ns):
                return False
            one = subjectrequests.get(connection, pack.request_id)
            if one.state in (State.RECEIVED, State.SEARCHING):
                after = replace(one, state=State.READY).acted(now_ns, "", "pack ready")
                subjectrequests.update(connection, after)
            return True

        ready = await self._parts.store.write(work)
        await self._parts.store.scrub_soon()
        if not ready:
            with suppress(FileNotFoundError):
                await asyncio.to_thread(self.path(pack.pack_id).unlink)
            raise SubjectPackStateError("a recording in it was erased meanwhile", state="destroyed")


def _while(still: Callable[[], None], pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        still()
        yield piece


def mutes_of(loaded: Recording, choice: Choice) -> tuple[Mute, ...]:
    """What is to be silent. SubjectMuteImpossibleError where voices cannot be told apart: nothing is given then."""
    found = []
    for place, mute in enumerate(choice.mutes):
        tracks = None
        if mute.party is not None:
            tracks = frozenset(one.number for one in loaded.tracks if one.info.party == mute.party)
            unknown = [one for one in loaded.tracks if one.packets and one.info.party < 0]
            if unknown or not tracks:
                raise SubjectMuteImpossibleError(
                    "the recording does not keep the voices apart", field=f"mutes[{place}].party"
                )
        found.append(Mute(tracks, mute.from_ns, mute.to_ns))
    return tuple(found)


def _with_sound(given: Given, rendered: Rendered) -> Given:
    return replace(
        given,
        file=rendered.file,
        sha256=rendered.sha256,
        channels=_SIDES if rendered.channels == 2 else (EVERYBODY,),
        duration_ms=rendered.duration_ns // 10**6,
        whole=given.whole and rendered.whole,
    )
