"""How services end: the notice that is given, and where exit packs may go."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClosingSettings(_Section):
    """What the contract says of closing a tenant or a line."""

    notice_days: int = Field(30, ge=1, le=3650)


class ExitFolder(_Section):
    """A folder that exit packs may be written below. `disk`: it is a mount point, used while something is mounted there."""

    path: Path
    disk: bool = False

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        if not self.path.is_absolute() or ".." in self.path.parts or len(self.path.parts) < 2:
            raise ValueError("path must be an absolute path, and not /")
        return self


class ExitBucket(_Section):
    """A bucket of a store that speaks S3."""

    name: str = Field(pattern="^[a-z0-9-]{1,32}$")  # what requests call it
    endpoint: str = Field(pattern=r"^https?://[^\s?#@]+$", max_length=500)
    bucket: str = Field(min_length=3, max_length=63)
    prefix: str = Field("", max_length=200)
    region: str = Field("us-east-1", min_length=1, max_length=64)
    credentials_file: Path  # two lines: access key id, secret access key
    ca: Path | None = None  # authorities of its HTTPS (PEM); absent: those of the system
    path_style: bool = True  # endpoint/bucket/key, as most stores that are not Amazon's want it

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        for path in (self.credentials_file, self.ca):
            if path is not None and not path.is_absolute():
                raise ValueError("credentials_file and ca must be absolute paths")
        return self

    def credentials(self) -> tuple[str, str]:
        """Access key id and secret access key, as the file says now; OSError."""
        first, _, second = self.credentials_file.read_text("utf-8").strip().partition("\n")
        return first.strip(), second.strip()


class ExitSettings(_Section):
    """Where exit packs may go. Nothing: nowhere."""

    folders: tuple[ExitFolder, ...] = Field((), max_length=32)
    buckets: tuple[ExitBucket, ...] = Field((), max_length=32)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({one.name for one in self.buckets}) < len(self.buckets):
            raise ValueError("two buckets have the same name")
        return self
