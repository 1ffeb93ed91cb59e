"""Notices within the control process: the servicer, the page, and what is done as time goes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final, Self

import structlog

from appliance.api.errors import RoutingUnwrittenError
from appliance.api.noticepage import NoticePage
from appliance.api.noticeround import NoticeRound
from appliance.api.notices import Notices
from appliance.api.parts import Parts
from appliance.audit.errors import AuditUnavailableError
from appliance.audit.trail import Trail
from appliance.catalog.errors import CatalogueUnavailableError

log = structlog.get_logger()

AGAIN_S: Final = 5.0


class NoticeWork:
    """See the module."""

    def __init__(self, parts: Parts, trail: Trail) -> None:
        self.page = NoticePage(parts, trail)
        self.round = NoticeRound(parts, trail)
        self.servicer = Notices(parts, lambda: self.page.base_url)

    @classmethod
    async def open(cls, parts: Parts, trail: Trail, exit_stack: AsyncExitStack) -> Self:
        """With the page served, where the settings say so; NoticePageTakenError."""
        made = cls(parts, trail)
        await made.page.start()
        exit_stack.push_async_callback(made.page.close)
        return made

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await asyncio.sleep(await self.round.look())
            except (AuditUnavailableError, CatalogueUnavailableError, RoutingUnwrittenError) as error:
                # Its condition is raised; nothing is lost, as what is due stays due.
                log.info("notices wait", reason=error.reason)
                await asyncio.sleep(AGAIN_S)
