"""The routing table as control writes it: read at start, read again when it changes; a broken one changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog
from pydantic import ValidationError

from appliance.model.routing import RoutingTable
from appliance.process.status import ALARM, WARNING, Status

INTERVAL_S = 0.5
MAX_BYTES = 64 * 1024 * 1024
BROKEN = "RoutingTableUnusable"
MISSING = "RoutingTableMissing"

log = structlog.get_logger()


class TableFile:
    """Follows `state/routing.json`. `table` is None until there has been a table that could be read."""

    def __init__(self, path: Path, status: Status, changed: Callable[[RoutingTable], None]) -> None:
        self.table: RoutingTable | None = None
        self._path = path
        self._status = status
        self._changed = changed
        self._seen: tuple[int, int, int] | None = None

    def look(self) -> bool:
        """Reads the file if it is another than last time; gives whether there is a table to work by."""
        try:
            stat = self._path.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen == self._seen:
                return self.table is not None
            data = self._path.read_bytes() if stat.st_size <= MAX_BYTES else b""
        except FileNotFoundError:
            if self.table is None:
                self._status.raise_condition(MISSING, WARNING, "No routing table yet: calls cannot begin.")
            return self.table is not None
        except OSError as error:
            self._broken(type(error).__name__)
            return self.table is not None
        self._seen = seen
        try:
            table = RoutingTable.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            self._broken(".".join(str(part) for part in first["loc"]) or first["type"])
            return self.table is not None
        self._status.clear_condition(BROKEN)
        self._status.clear_condition(MISSING)
        self.table = table
        log.info("routing table", version=table.version, lines=len(table.lines), tenants=len(table.tenants))
        self._changed(table)
        return True

    def _broken(self, where: str) -> None:
        log.error("routing table unusable", where=where)
        kept = "the one before it stays in force" if self.table is not None else "calls cannot begin"
        self._status.raise_condition(BROKEN, ALARM, f"The routing table cannot be read ({where}); {kept}.")

    async def follow(self) -> None:
        """Looks again and again, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(INTERVAL_S)
