"""Takes what waits of alarms to where channels lead: at least once each, over restarts; no channel waits for another."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import sqlalchemy as sa
import structlog

from appliance.access.refusals import IdentityKeyError
from appliance.access.sealing import Sealing
from appliance.alarms import collector, life, schedule, smtp, webhook
from appliance.alarms.alarm import Alarm
from appliance.alarms.channel import Channel, Smtp, Syslog, Webhook
from appliance.alarms.errors import DeliveryError
from appliance.alarms.message import Message, What
from appliance.alarms.severity import Severity
from appliance.api.store import ShuttingDownError, Store
from appliance.audit.syslog import host_name
from appliance.catalog import alarmchannels, alarmfares, alarmoutbox, alarms, tables
from appliance.catalog.alarmoutbox import CHANNEL_FAILING, Waiting
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.model import new_id

log = structlog.get_logger()

LOOK_S: Final = 5.0  # what became due meanwhile is found by looking
PAUSE_S: Final = 0.2  # between two looks, however much is written
BATCH: Final = 50
MOST_CHANNELS: Final = 16  # at once
TEST_S: Final = 12.0


@dataclass(frozen=True)
class _Batch:
    """What one channel is to send now: a message, or notices together; but for those that nobody has to know any more."""

    channel: Channel
    waiting: tuple[Waiting, ...]
    messages: tuple[Message, ...]


class Post:
    """See the module."""

    def __init__(
        self,
        store: Store,
        sealing: Sealing,
        clock_ns: Callable[[], int],
        *,
        box_name: str,
        chance: random.Random | None = None,
    ) -> None:
        self._store = store
        self._sealing = sealing
        self._clock_ns = clock_ns
        self.box_name = box_name
        self._chance = chance or random.Random()
        self._slots = asyncio.Semaphore(MOST_CHANNELS)
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()
        self._sent: set[str] = set()  # went out, and could not be taken out of what waits yet

    @classmethod
    async def open(cls, store: Store, key: Path, clock_ns: Callable[[], int]) -> Self:
        """`key`: what secrets are sealed under. IdentityKeyError where it is damaged."""
        sealing = await asyncio.to_thread(Sealing.at, key)
        return cls(store, sealing, clock_ns, box_name=host_name(socket.gethostname()))

    def seal(self, secret: str, channel_id: str) -> bytes:
        """As it is kept."""
        return self._sealing.seal(secret.encode(), _sealed_for(channel_id))

    def wake(self) -> None:
        """There may be something to send."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                seen = self._store.events.number
                self._woken.clear()
                try:
                    await self._look()
                except CatalogueUnavailableError as error:
                    log.info("alarms wait", reason=error.reason)  # its condition is raised
                await asyncio.sleep(PAUSE_S)
                if not await self._wait(seen):
                    return
        finally:
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def _wait(self, seen: int) -> bool:
        """Until something was written, or for a while; False: the box stops."""
        changed = asyncio.create_task(self._store.events.wait(seen, LOOK_S))
        woken = asyncio.create_task(self._woken.wait())
        try:
            await asyncio.wait({changed, woken}, return_when=asyncio.FIRST_COMPLETED)
            if changed.done():
                changed.result()
        except ShuttingDownError:
            return False
        finally:
            changed.cancel()
            woken.cancel()
            await asyncio.gather(changed, woken, return_exceptions=True)
        return True

    async def _look(self) -> None:
        now_ns = self._clock_ns()
        due, _ = await self._store.read(lambda connection: alarmoutbox.due_channels(connection, now_ns))
        for channel_id in due - self._busy.keys():
            task = asyncio.create_task(self._serve(channel_id), name=f"alarms {channel_id}")
            self._busy[channel_id] = task
            task.add_done_callback(lambda _, channel_id=channel_id: self._ended(channel_id))  # type: ignore[misc]

    def _ended(self, channel_id: str) -> None:
        task = self._busy.pop(channel_id)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            # What is wrong with one channel is told, and is no end of the others. Its message waits for the next look.
            log.error("channel of alarms broke", channel=channel_id, error=type(error).__name__)
            return
        self._woken.set()

    async def _serve(self, channel_id: str) -> None:
        """Send what is due, until nothing is, or the channel is down."""
        try:
            async with self._slots:
                while (batch := await self._store.read(lambda one: self._next(one, channel_id))) is not None:
                    if not await self._deliver(batch):
                        return
        except CatalogueUnavailableError as error:
            log.info("alarms wait", channel=channel_id, reason=error.reason)
            await asyncio.sleep(LOOK_S)  # still busy: it is not begun again at once

    def _next(self, connection: sa.Connection, channel_id: str) -> _Batch | None:
        channel = alarmchannels.find(connection, channel_id)
        waiting = alarmoutbox.due(connection, channel_id, self._clock_ns(), BATCH)
        if channel is None or not waiting:
            return None
        if waiting[0].digest:
            some = tuple(one for one in waiting if one.digest and one.recipients == waiting[0].recipients)
        else:
            some = (waiting[0],)
        found = alarmoutbox.alarms_of(connection, some)
        titles = _tenant_names(connection, {row.tenant_id for row in found.values()})
        messages = tuple(
            Message(
                one.id,
                one.what,
                alarm,
                titles.get(alarm.tenant_id, ""),
                self.box_name,
                one.create_ns,
            )
            for one in some
            for alarm in (alarms.alarm_of(found[one.alarm_id]),)
            if one.id not in self._sent
            and (alarm.open or not one.digest)
            and not life.is_blip(alarm.severity, alarm.raise_ns, alarm.clear_ns, alarm.clear_by)
        )
        return _Batch(channel, some, messages)

    async def _deliver(self, batch: _Batch) -> bool:
        """Whether the channel goes on."""
        channel, ids = batch.channel, [one.id for one in batch.waiting]
        if not batch.messages:
            await self._store.write(lambda connection: alarmoutbox.remove(connection, ids))
            self._sent.difference_update(ids)
            return True
        try:
            await self._send(channel, batch.messages, batch.waiting[0].recipients)
        except DeliveryError as error:
            log.info("alarm not delivered", channel=channel.id, failure=error.failure)
            await self._failed(batch, error)
            return error.of_message
        except Exception as error:  # noqa: BLE001 - a fault with one message holds up neither others nor the next try
            log.error("fault of a channel of alarms", channel=channel.id, error=type(error).__name__)
            await self._failed(batch, DeliveryError("internal", of_message=True))
            return True
        now_ns = self._clock_ns()

        def work(connection: sa.Connection) -> None:
            alarmoutbox.remove(connection, ids)
            alarmfares.delivered(connection, channel, len(batch.messages), now_ns)

        self._sent.update(ids)  # it is not sent again where that cannot be written down now
        await self._store.write(work)
        self._sent.difference_update(ids)
        return True

    async def _failed(self, batch: _Batch, error: DeliveryError) -> None:
        channel, now_ns = batch.channel, self._clock_ns()
        over = [one for one in batch.waiting if schedule.given_up(one.create_ns, now_ns, digest=one.digest)]
        tries = max(one.tries for one in batch.waiting) + 1
        again_ns = now_ns + schedule.backoff(max(tries, channel.fares.failures + 1), self._chance)

        def work(connection: sa.Connection) -> None:
            given_up = alarmoutbox.remove(connection, [one.id for one in over])
            for one in batch.waiting:
                if one not in over:
                    alarmoutbox.postpone(connection, one, again_ns, error.refused or None)
            if not error.of_message:
                alarmoutbox.hold_back(connection, channel.id, now_ns, again_ns)
            alarmfares.failed(connection, channel, error.failure, given_up, now_ns)

        await self._store.write(work)

    async def test(self, channel: Channel) -> tuple[str, str]:
        """Send a message that says that it is a test; gives why it failed, or nothing, and what the far end said."""
        now_ns = self._clock_ns()
        alarm = Alarm(
            new_id(), CHANNEL_FAILING, Severity.NOTICE, channel.id, channel.tenant_id, now_ns, now_ns
        )
        message = Message(new_id(), What.TEST, alarm, "", self.box_name, now_ns)
        try:
            async with asyncio.timeout(TEST_S):
                return "", await self._send(channel, [message], ())
        except DeliveryError as error:
            return error.failure, error.reply
        except TimeoutError:
            return "no-answer", ""

    async def _send(self, channel: Channel, messages: Sequence[Message], recipients: Sequence[str]) -> str:
        secret = self.secret(channel)
        inward = not channel.tenant_id
        match channel.settings:
            case Smtp() as mail:
                return await smtp.send(mail, secret, messages, recipients, inward=inward)
            case Webhook() as hook:
                return await webhook.send(hook, secret, messages[0], inward=inward)
            case Syslog() as there:
                return await collector.send(there, messages[0], inward=inward)

    def secret(self, channel: Channel) -> str:
        """A channel's password or secret; empty: it has none. DeliveryError where it cannot be opened."""
        if channel.sealed is None:
            return ""
        try:
            return self._sealing.open(channel.sealed, _sealed_for(channel.id)).decode()
        except IdentityKeyError as error:
            raise DeliveryError("secret-unreadable") from error


def _sealed_for(channel_id: str) -> str:
    return f"alarm-channel/{channel_id}"


def _tenant_names(connection: sa.Connection, ids: set[str]) -> dict[str, str]:
    query = sa.select(tables.tenants.c.id, tables.tenants.c.display_name).where(tables.tenants.c.id.in_(ids))
    return {row.id: row.display_name for row in connection.execute(query)}
