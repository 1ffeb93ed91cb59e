"""Settings of completeness: where the switchboard's call records come from, and when a day is looked at."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class CompletenessSettings(BaseModel):
    """See docs/completeness.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path | None = None  # files of call records are taken from here; absent: over the API alone
    hour: int = Field(6, ge=0, le=23)  # of the tenant's next day: by then the records of a day are there
    keep_days: int = Field(7, ge=0, le=31)  # how long files that were taken or refused lie there
