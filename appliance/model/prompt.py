"""Prompts: what callers and agents hear of recording. `prompt.json` in a prompt's folder is one `Prompt`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from appliance.model.routing import PromptRef


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class PromptFile(_Frozen):
    """One rendering of a prompt, as it lies in the prompt's folder."""

    name: str  # <ENCODING>-<clock rate>-<channels>.packets
    sha256: str  # lower-case hexadecimal
    size: int  # bytes


class Prompt(_Frozen):
    """A prompt. It never changes: another text or sound is another prompt."""

    prompt_id: str
    tenant_id: str = ""  # empty: a sample that comes with the box, for everybody
    display_name: str
    language: str  # BCP 47, such as en-GB
    text: str
    text_sha256: str  # lower-case hexadecimal, of the text in UTF-8
    audio_sha256: str  # of the samples it was made from: 32-bit floats, little-endian, channels interleaved
    purposes: tuple[str, ...] = ()  # what it says that recordings are used for
    duration_ms: int
    create_ns: int
    files: tuple[PromptFile, ...] = ()

    @property
    def ref(self) -> PromptRef:
        """As a line keeps it."""
        return PromptRef(
            prompt_id=self.prompt_id,
            language=self.language,
            text_sha256=self.text_sha256,
            audio_sha256=self.audio_sha256,
            purposes=self.purposes,
            duration_ms=self.duration_ms,
        )
