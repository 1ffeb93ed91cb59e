"""The page where staff acknowledges notices by a link."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class NoticeSettings(BaseModel):
    """Where it is served (HTTPS). `url`: how it is reached from outside, such as https://notices.trust.example."""

    address: str = "127.0.0.1"
    port: int = Field(-1, ge=-1, le=65535)  # -1: none, 0: any
    url: str = Field("", pattern=r"^(https://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~-]+)*)?$", max_length=200)

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="after")
    def _reached(self) -> Self:
        if self.port == 0 and self.url:
            raise ValueError("a port that is chosen at start has no url: say the port")
        return self

    def at(self, port: int) -> str:
        """Its URL by address and port."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"https://{host}:{port}"
