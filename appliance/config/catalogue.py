"""Where the catalogue is kept, and how the site writes telephone numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

_MAY = frozenset({"host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl"})


class CatalogueSettings(BaseModel):
    """The catalogue's database. An empty `url`: SQLite in the data directory.

    `country`, `national_prefix` and `international_prefix` say how numbers are dialled where the box is, so that a
    number is found however it is written; after a change the search index is made anew at the next start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(
        "", max_length=500
    )  # such as postgresql://earwitness@db.example/earwitness?sslmode=verify-full
    password_file: Path | None = None  # one line; read at every connection, so that it can be changed
    country: str = Field("44", pattern="^[1-9][0-9]{0,2}$")
    national_prefix: str = Field("0", pattern="^[0-9]{0,3}$")
    international_prefix: str = Field("00", pattern="^[0-9]{0,4}$")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.password_file is not None and not self.password_file.is_absolute():
            raise ValueError("password_file must be an absolute path")
        if not self.url:
            if self.password_file is not None:
                raise ValueError("password_file is for a url")
            return self
        parts = urlsplit(self.url)
        if parts.scheme != "postgresql" or not parts.path.strip("/"):
            raise ValueError("url must be postgresql://[user@][host[:port]]/database[?options]")
        if parts.password is not None:
            raise ValueError("url must not carry the password: put it into password_file")
        for name, _ in parse_qsl(parts.query, keep_blank_values=True):
            if name not in _MAY:
                raise ValueError(f"url may have these options alone: {', '.join(sorted(_MAY))}")
        return self
