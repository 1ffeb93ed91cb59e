"""Reminds people of the staff by mail of what they have yet to acknowledge, each with a link of their own.

At least once for each reminder, over restarts; the same mail has the same Message-ID. Addresses are in no log and in
nothing that waits: whoever acknowledged, left or has no address any more gets no mail.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
import structlog

from appliance.alarms import mail, schedule, smtp
from appliance.alarms.channel import Channel, Smtp
from appliance.alarms.errors import DeliveryError
from appliance.api import noticelinks
from appliance.api.acknowledging import DEFAULT_DAYS
from appliance.api.alarmpost import Post
from appliance.api.parts import Parts
from appliance.catalog import (
    acknowledgements,
    alarmchannels,
    alarmfares,
    noticemails,
    notices,
    staff,
    tenants,
)
from appliance.catalog import noticelinks as links
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.catalog.noticemails import WaitingMail
from appliance.model.staff import outstanding

log = structlog.get_logger()

LOOK_S: Final = 15.0
BATCH: Final = 50  # mails of a tenant in a row
MAX_NOTICES: Final = 20  # that a mail names
FOR_GOOD: Final = ("smtp-5", "not-supported", "address-unusable")
"""How failures begin after which one mail would not be taken later either."""


@dataclass(frozen=True, repr=False)
class Letter:
    """One mail. `links`: ids of those that were made for it."""

    waiting: WaitingMail
    address: str
    subject: str
    text: str
    links: list[str] = field(default_factory=list)


class NoticePost:
    """See the module. `base_url`: what links begin with; empty: no page is served."""

    def __init__(self, parts: Parts, post: Post, base_url: Callable[[], str]) -> None:
        self._parts = parts
        self._post = post
        self._base_url = base_url
        self._chance = random.Random()
        self._turn = asyncio.Lock()
        self._sent: set[tuple[str, int]] = set()  # went out, and could not be taken out of what waits yet

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except CatalogueUnavailableError as error:
                log.info("reminders wait", reason=error.reason)  # its condition is raised
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Everything that is due now, a batch of each tenant in turn, until nothing is or servers fail."""
        async with self._turn:
            failing: set[str] = set()
            while due := [one for one in await self._due() if one not in failing]:
                for tenant_id in due:
                    if not await self._batch(tenant_id):
                        failing.add(tenant_id)

    async def _due(self) -> list[str]:
        now_ns = self._parts.clock_ns()
        return await self._parts.store.read(lambda connection: noticemails.tenants_due(connection, now_ns))

    async def _batch(self, tenant_id: str) -> bool:
        """False where the server fails."""
        store, now_ns = self._parts.store, self._parts.clock_ns()
        channel, some = await store.read(
            lambda connection: (
                alarmchannels.mail_of(connection, tenant_id),
                noticemails.due(connection, tenant_id, now_ns, BATCH),
            )
        )
        if channel is None:  # there is no mail any more
            gone = [one.staff_id for one in some]
            await store.write(lambda connection: noticemails.remove(connection, gone))
            return True
        for one in some:
            if not await self._remind(channel, one):
                return False
        return True

    async def _remind(self, channel: Channel, one: WaitingMail) -> bool:
        store = self._parts.store
        if (one.staff_id, one.create_ns) in self._sent:
            letter = None
        else:
            letter = await store.write(lambda connection: self._letter(connection, one))
        if letter is None:
            await store.write(lambda connection: noticemails.remove(connection, [one.staff_id]))
            self._sent.discard((one.staff_id, one.create_ns))
            return True
        try:
            await self._send(channel, letter)
        except DeliveryError as error:
            return await self._failed(channel, letter, error)
        now_ns = self._parts.clock_ns()

        def work(connection: sa.Connection) -> None:
            noticemails.remove(connection, [one.staff_id])
            alarmfares.delivered(connection, channel, 1, now_ns)

        self._sent.add((one.staff_id, one.create_ns))  # not again where that cannot be written down now
        await store.write(work)
        self._sent.discard((one.staff_id, one.create_ns))
        self._parts.status.count("notice_mails_sent")
        return True

    def _letter(self, connection: sa.Connection, one: WaitingMail) -> Letter | None:
        """None where there is nothing to say to anybody any more."""
        now_ns = self._parts.clock_ns()
        member = staff.get(connection, one.tenant_id, one.staff_id)
        if not member.works_here or not member.email:
            return None
        wanted = outstanding(
            member,
            notices.in_force(connection, one.tenant_id, now_ns),
            acknowledgements.of_member(connection, one.staff_id),
        )
        if not wanted:
            return None
        expire_s = now_ns // 10**9 + DEFAULT_DAYS * 86400
        base, said, made = self._base_url(), [], []
        for notice in (each.notice for each in wanted[:MAX_NOTICES]):
            said.append(f"- {notice.display_name}")
            if base:
                link_id, uri = noticelinks.issue(
                    connection, self._parts.link_key, base, member, notice.notice_id, now_ns, expire_s
                )
                made.append(link_id)
                said.append(f"  {uri}")
        if len(wanted) > MAX_NOTICES:
            said.append(f"- and {len(wanted) - MAX_NOTICES} more")
        tenant = tenants.get_tenant(connection, one.tenant_id).display_name
        first = wanted[0].notice.display_name
        subject = first if len(wanted) == 1 else f"{len(wanted)} notices"
        how = (
            f"Each link is for you alone: give it to nobody else. It works once, for {DEFAULT_DAYS} days."
            if base
            else "Please read and acknowledge them where you sign in to the recording system, or ask who sent you there."
        )
        text = "\n".join([f"{tenant} asks you to read and acknowledge:", "", *said, "", how])
        return Letter(one, member.email, f"Please read: {subject} ({tenant})", text, made)

    async def _send(self, channel: Channel, letter: Letter) -> None:
        assert isinstance(channel.settings, Smtp)
        settings, box = channel.settings, self._post.box_name
        one = letter.waiting
        # What may have arrived is the same mail as long as its links are there beside those of later tries: where mail
        # systems keep the first of one Message-ID, that one works.
        part = one.tries // max(1, links.MAX_OF_MEMBER // len(letter.links)) if letter.links else 0
        name = hashlib.sha256(f"{one.staff_id}/{one.create_ns}/{part}".encode()).hexdigest()[:32]
        content = mail.written(
            settings.sender,
            [letter.address],
            letter.subject,
            letter.text,
            box,
            mail.message_id(name, box),
            one.create_ns,
        )
        secret = self._post.secret(channel)
        await smtp.deliver(settings, secret, [letter.address], content, box, inward=not channel.tenant_id)

    async def _failed(self, channel: Channel, letter: Letter, error: DeliveryError) -> bool:
        """Whether others may get theirs."""
        one, now_ns = letter.waiting, self._parts.clock_ns()
        never = error.of_message and error.failure.startswith(FOR_GOOD)
        over = never or schedule.given_up(one.create_ns, now_ns, digest=False)
        again_ns = now_ns + schedule.backoff(one.tries + 1, self._chance)

        def work(connection: sa.Connection) -> None:
            if not error.in_doubt:  # else somebody may have them
                links.remove(connection, letter.links)
            if over:
                noticemails.remove(connection, [one.staff_id])
            else:
                noticemails.postpone(connection, one, again_ns)
            if not error.of_message:
                noticemails.hold_back(connection, one.tenant_id, again_ns)
                alarmfares.failed(connection, channel, error.failure, 0, now_ns)

        await self._parts.store.write(work)
        if over:
            self._parts.status.count("notice_mails_given_up")
        log.warning("reminder not sent", tenant=one.tenant_id, failure=error.failure, given_up=over)
        return error.of_message
