"""PromptsService."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any, Final

import sqlalchemy as sa
import structlog

from appliance.access.identities import Role
from appliance.api import convert, names
from appliance.api.errors import FieldInvalidError, UploadTooSlowError
from appliance.api.languages import language_tag
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts, check_text
from appliance.api.promptstore import PromptUnwrittenError
from appliance.api.scope import require
from appliance.api.uploads import Upload
from appliance.catalog import prompts, purposes, tenants
from appliance.media.audio.encode import wav_header
from appliance.media.audio.prompts import Checked, check, render
from appliance.media.audio.sound import MAX_BYTES, PromptTooLargeError, Sound, read_sound
from appliance.model import EarwitnessError, new_id
from appliance.model.prompt import Prompt
from appliance.model.purpose import FORM
from earwitness.v1 import prompts_pb2 as pb
from earwitness.v1 import prompts_pb2_grpc

log = structlog.get_logger()

UPLOAD_S: Final = 120.0
UPLOADS: Final = 2  # held in memory and worked on at once
CHUNK: Final = 512 * 1024
MAX_TEXT: Final = 2000
MAX_PURPOSES: Final = 16


class Prompts(prompts_pb2_grpc.PromptsServiceServicer):
    """See prompts.proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._uploads = asyncio.Semaphore(UPLOADS)

    async def CreatePrompt(  # type: ignore[override]  # the gate gives every upload so
        self, requests: Upload, context: Any
    ) -> pb.CreatePromptResponse:
        first: pb.CreatePromptRequest = await requests.first()
        tenant_id = names.one_tenant(first.parent, "parent")
        asked = _asked(first.prompt)

        def check(connection: sa.Connection) -> None:
            tenants.get_tenant(connection, tenant_id)
            purposes.check_stated(connection, tenant_id, asked.purposes, "prompt.purposes")

        await self._parts.store.read(check)
        async with self._uploads:
            data = await _received(requests)
            if first.validate_only:
                made, _, shown = await self._looked_at(asked, tenant_id, data)
                answer = pb.CreatePromptResponse(prompt=message(made), sound=shown)
                answer.prompt.ClearField("name")  # chosen when it is made
                answer.prompt.ClearField("create_time")
                return answer
            found: list[pb.PromptSound] = []

            async def act(note: Note) -> str:
                made, checked, shown = await self._looked_at(asked, tenant_id, data)
                found.append(shown)
                await self._add(made, checked, note)
                return made.prompt_id

            # What a request_id stands for is the sound, too.
            request = pb.CreatePromptRequest()
            request.CopyFrom(first)
            request.audio = hashlib.sha256(data).digest()
            # Shielded: who goes away does not leave half a prompt behind.
            prompt_id = await asyncio.shield(self._parts.once("CreatePrompt", request, act))
        made = await self._prompt(tenant_id, prompt_id)
        return pb.CreatePromptResponse(prompt=message(made), sound=found[0] if found else None)

    async def _looked_at(
        self, asked: Prompt, tenant_id: str, data: bytes
    ) -> tuple[Prompt, Checked, pb.PromptSound]:
        """The prompt that a sound would be; what sound.py, media's prompts.py and catalog's prompts.py refuse."""
        sound, checked = await asyncio.to_thread(_checked, data)
        await self._parts.store.read(lambda connection: prompts.check_room(connection, tenant_id))
        made = asked.model_copy(
            update={
                "prompt_id": new_id(),
                "tenant_id": tenant_id,
                "audio_sha256": sound.sha256,
                "duration_ms": checked.duration_ms,
                "create_ns": self._parts.clock_ns(),
            }
        )
        return made, checked, _sound(sound, checked)

    async def _add(self, made: Prompt, checked: Checked, note: Note) -> None:
        """Files first: a line may use the prompt as soon as the catalogue has it."""
        payloads = await asyncio.to_thread(render, checked)
        await asyncio.to_thread(self._parts.prompts.add, made, payloads)

        def work(connection: sa.Connection) -> None:
            purposes.check_stated(connection, made.tenant_id, made.purposes, "prompt.purposes")
            prompts.add(connection, made)
            note(connection, made.prompt_id)

        try:
            await self._parts.store.write(work)
        except EarwitnessError:
            await self._forget(made.prompt_id)
            raise

    async def GetPrompt(self, request: pb.GetPromptRequest, context: Any) -> pb.GetPromptResponse:
        return pb.GetPromptResponse(prompt=message(await self._prompt(*names.prompt(request.name))))

    async def ListPrompts(self, request: pb.ListPromptsRequest, context: Any) -> pb.ListPromptsResponse:
        tenant_id = names.parent(request.parent) if request.parent else ""
        page = Page(self._parts, "ListPrompts", request)
        size = page.size
        after: tuple[int, str] | None = page.after

        def work(connection: sa.Connection) -> list[Prompt]:
            if tenant_id:
                tenants.get_tenant(connection, tenant_id)
            return prompts.list_prompts(connection, size + 1, after, tenant_id)

        found = await self._parts.store.read(work)
        answer = pb.ListPromptsResponse(prompts=map(message, found[:size]))
        size = page.cut(answer.prompts)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.create_ns, last.prompt_id)
        return answer

    async def DeletePrompt(self, request: pb.DeletePromptRequest, context: Any) -> pb.DeletePromptResponse:
        tenant_id, prompt_id = names.prompt(request.name)
        if not tenant_id:
            require(Role.OPERATOR)  # a sample is everybody's
        if request.validate_only:
            await self._parts.store.read(
                lambda connection: prompts.check_unused(connection, prompt_id, tenant_id)
            )
            return pb.DeletePromptResponse()

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> None:
                prompts.remove(connection, prompt_id, tenant_id)
                note(connection, prompt_id)

            await self._parts.store.write(work)
            await self._forget(prompt_id)
            return prompt_id

        await self._parts.once("DeletePrompt", request, act)
        return pb.DeletePromptResponse()

    async def DownloadPrompt(
        self, request: pb.DownloadPromptRequest, context: Any
    ) -> AsyncIterator[pb.DownloadPromptResponse]:
        prompt = await self._prompt(*names.prompt(request.name))
        pcm = await asyncio.to_thread(self._parts.prompts.pcm, prompt.prompt_id)
        data = wav_header(16000, 1, len(pcm) // 2) + pcm
        yield pb.DownloadPromptResponse(
            header=pb.PromptHeader(
                size_bytes=len(data),
                file_name=f"{prompt.prompt_id}.wav",
                sha256=hashlib.sha256(data).digest(),
            )
        )
        for at in range(0, len(data), CHUNK):
            yield pb.DownloadPromptResponse(chunk=data[at : at + CHUNK])

    async def _prompt(self, tenant_id: str | None, prompt_id: str) -> Prompt:
        return await self._parts.store.read(lambda connection: prompts.get(connection, prompt_id, tenant_id))

    async def _forget(self, prompt_id: str) -> None:
        """The folder of a prompt that the catalogue does not have any more, or never had."""
        try:
            await asyncio.to_thread(self._parts.prompts.remove, prompt_id)
        except PromptUnwrittenError as error:
            log.warning("prompt stays on disk until the next start", prompt=prompt_id, reason=error.reason)


def message(row: Prompt) -> pb.Prompt:
    """The public message."""
    return pb.Prompt(
        name=names.prompt_name(row.tenant_id, row.prompt_id),
        display_name=row.display_name,
        language=row.language,
        text=row.text,
        purposes=row.purposes,
        duration=convert.duration(row.duration_ms * 10**6),
        text_sha256=bytes.fromhex(row.text_sha256),
        audio_sha256=bytes.fromhex(row.audio_sha256),
        create_time=convert.timestamp(row.create_ns),
    )


async def _received(requests: Upload) -> bytes:
    """All bytes of an upload; PromptTooLargeError, UploadTooSlowError, FieldInvalidError."""
    data = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_S):
            async for position, one in _numbered(requests):
                if position and (one.parent or one.HasField("prompt") or one.request_id or one.validate_only):
                    raise FieldInvalidError("should hold audio alone after the first message", field="audio")
                data += one.audio
                if len(data) > MAX_BYTES:
                    raise PromptTooLargeError(
                        f"at most {MAX_BYTES >> 20} MiB", field="audio", limit=MAX_BYTES
                    )
    except TimeoutError:
        raise UploadTooSlowError(f"an upload may take {UPLOAD_S:.0f} s") from None
    return bytes(data)


async def _numbered(requests: Upload) -> AsyncIterator[tuple[int, pb.CreatePromptRequest]]:
    position = 0
    async for one in requests:
        yield position, one
        position += 1


def _checked(data: bytes) -> tuple[Sound, Checked]:
    sound = read_sound(data)
    return sound, check(sound)


def _sound(sound: Sound, checked: Checked) -> pb.PromptSound:
    return pb.PromptSound(
        format=sound.format,
        sample_rate=sound.rate,
        channels=sound.samples.shape[1],
        peak_dbfs=round(checked.peak_dbfs, 1),
        speech_dbfs=round(checked.speech_dbfs, 1),
        gain_db=round(checked.gain_db, 1),
    )


def _asked(asked: pb.Prompt) -> Prompt:
    """What was said of a prompt; ids, times and sound come later. FieldInvalidError."""
    text = asked.text
    if not text.strip() or len(text) > MAX_TEXT or any(map(_is_control, text)):
        raise FieldInvalidError(
            f"should have 1 to {MAX_TEXT} characters; of control characters only line breaks",
            field="prompt.text",
        )
    if len(asked.purposes) > MAX_PURPOSES:
        raise FieldInvalidError(f"at most {MAX_PURPOSES}", field="prompt.purposes")
    for position, purpose in enumerate(asked.purposes):
        if not FORM.fullmatch(purpose):
            raise FieldInvalidError(
                "should be 1 to 40 lower-case letters, digits, dashes", field=f"prompt.purposes[{position}]"
            )
    return Prompt(
        prompt_id="",
        display_name=check_text(asked.display_name, "prompt.display_name", 100, 1),
        language=language_tag(asked.language, "prompt.language"),
        text=text,
        text_sha256=hashlib.sha256(text.encode()).hexdigest(),
        audio_sha256="",
        purposes=tuple(dict.fromkeys(asked.purposes)),
        duration_ms=0,
        create_ns=0,
    )


def _is_control(letter: str) -> bool:
    return (ord(letter) < 32 and letter != "\n") or ord(letter) == 127
