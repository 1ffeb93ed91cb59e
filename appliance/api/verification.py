"""Verifying many recordings, as long work."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import sealednotes
from appliance.api.store import Store
from appliance.api.vault import VaultReader
from appliance.api.worker import Keep
from appliance.catalog import filters, recordings
from appliance.catalog.operations import Operation
from appliance.catalog.recording_filter import FIELDS
from appliance.model import EarwitnessError, Kind
from appliance.storage.sealed import verify

VERIFY: Final = "verify-recordings"
PAGE: Final = 200
MOST_PROBLEMS: Final = 100
KEEP_EVERY_S: Final = 1.0  # how much work a stop may lose


class Verification:
    """The recordings of a tenant that match a filter, in the order of their ids."""

    kind = VERIFY

    def __init__(self, store: Store, reader: VaultReader) -> None:
        self._store = store
        self._reader = reader

    async def run(self, operation: Operation, keep: Keep) -> bool:
        """See `worker.Job`."""
        where = filters.parse(str(operation.request.get("filter", "")), FIELDS)
        bound = operation.request.get("bound")
        cursor, done = operation.cursor, operation.done
        result: dict[str, Any] = {"problems": [], **operation.result}
        kept_s = time.monotonic()
        while True:

            def page(connection: sa.Connection, after: str = cursor) -> list[str]:
                return recordings.matching(
                    connection,
                    tenant_id=operation.tenant_id,
                    where=where,
                    limit=PAGE,
                    after=after,
                    bound=bound,
                )

            found = await self._store.read(page)
            if not found:
                return not await keep(cursor, done, result)
            for recording_id in found:
                word, problem = await asyncio.to_thread(self._look, recording_id)
                result[word] = result.get(word, 0) + 1
                if problem and len(result["problems"]) < MOST_PROBLEMS:
                    result["problems"].append([recording_id, problem])
                cursor, done = recording_id, done + 1
                if time.monotonic() - kept_s >= KEEP_EVERY_S:
                    kept_s = time.monotonic()
                    if await keep(cursor, done, result):
                        return False

    def _look(self, recording_id: str) -> tuple[str, str]:
        """The verdict on one recording, and what is wrong with it. In a thread. What is UNAVAILABLE is raised."""
        try:
            data_key = self._reader.lease(recording_id, "control", "verification")
            with self._reader.open(recording_id) as stream:
                report = verify(stream, self._reader.device_key(), data_key)
            _, beside = sealednotes.findings(self._reader, recording_id, report.root, data_key)
        except EarwitnessError as error:
            if error.kind is Kind.UNAVAILABLE:
                raise
            return ("damaged" if error.kind is Kind.CORRUPT else "unchecked"), error.reason
        if not (report.intact and report.trusted and report.recording_id == recording_id):
            first = next(
                (str(one.problem).upper().replace("-", "_") for one in report.findings), "OTHER_RECORDING"
            )
            return "damaged", first
        if beside:
            return "damaged", str(beside[0].problem).upper().replace("-", "_")
        return ("intact" if report.whole else "recovered"), ""
