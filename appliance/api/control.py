"""The control process: everything put together, started, stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import grpc
import grpc.aio
import sqlalchemy as sa
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from appliance.access import pki
from appliance.api.access import Access
from appliance.api.acts import Acts
from appliance.api.alarmpost import Post
from appliance.api.alarms import Alarms
from appliance.api.audit import Audit
from appliance.api.board import Board
from appliance.api.box import Box
from appliance.api.calls import Calls
from appliance.api.cataloguecopy import CatalogueCopy
from appliance.api.cataloguedamaged import Damaged
from appliance.api.catalogueopen import opened, reindex
from appliance.api.closing import ClosingOf
from appliance.api.closingwork import ClosingWork
from appliance.api.completenesswork import CompletenessWork
from appliance.api.concerns import Concerns
from appliance.api.documentwork import DocumentWork
from appliance.api.entrance import Entrance
from appliance.api.events import Events
from appliance.api.evidence import EvidenceOf
from appliance.api.exitpack import ExitPacks
from appliance.api.follow import Follower
from appliance.api.gate import Gate
from appliance.api.granted import Granted
from appliance.api.grantedrecordings import GrantedRecordings
from appliance.api.grantkeys import GrantKeys
from appliance.api.grants import Grants
from appliance.api.keys import Keys
from appliance.api.keystates import KeyStates
from appliance.api.limits import RateLimit
from appliance.api.linepolicies import LinePolicies
from appliance.api.listeners import OPTIONS, Certificates, listen
from appliance.api.listenpost import ListenPost
from appliance.api.notes import Notes
from appliance.api.noticepost import NoticePost
from appliance.api.noticework import NoticeWork
from appliance.api.oldernotes import OlderNotes
from appliance.api.operations import Operations
from appliance.api.parts import Parts
from appliance.api.processes import Processes
from appliance.api.prompts import Prompts
from appliance.api.promptstore import PromptStore
from appliance.api.purposes import Purposes
from appliance.api.renders import Renders
from appliance.api.renewal import Renewal
from appliance.api.retention import Retention
from appliance.api.review import Reviews
from appliance.api.reviewsampling import RuleWork
from appliance.api.routing import Routing
from appliance.api.samples import Samples
from appliance.api.services import SERVICES
from appliance.api.store import ShuttingDownError, Store
from appliance.api.subjects import Subjects, SubjectWork
from appliance.api.taking import Taker
from appliance.api.tenants import Tenants
from appliance.api.vault import Vault, VaultReader
from appliance.api.vaultkeys import VaultKeys
from appliance.api.vaultretention import VaultRetention
from appliance.api.verification import Verification
from appliance.api.witness import Witness
from appliance.api.worker import Job, Worker
from appliance.audit.refusals import Refusals
from appliance.audit.trail import Trail
from appliance.catalog import alarms, events, noticelinks, operations, reads, requests
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.catalog.paging import Tokens
from appliance.config.settings import Settings
from appliance.model import EarwitnessError, Kind
from appliance.process.status import Status

log = structlog.get_logger()

MAX_CALLS: Final = 1000  # at once, over all clients
PROVISION_S: Final = 20.0  # how long the first start waits for the vault before it says that it is ready
STOP_GRACE_S: Final = 5.0
HOUSEKEEPING_S: Final = 30.0
ANALYSIS_S: Final = 3600.0
READERS: Final = 2


class Control:
    """The control process's inside. `start` gives the port of the API."""

    def __init__(
        self,
        settings: Settings,
        status: Status,
        *,
        rate: RateLimit | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        heartbeat_s: float = 15.0,
    ) -> None:
        self._settings = settings
        self._status = status
        self._rate = rate or RateLimit()
        self._clock_ns = clock_ns
        self._heartbeat_s = heartbeat_s
        self._refusals = Refusals()
        self._exit = AsyncExitStack()
        self._health: Any = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the package has no types of it
        self.provisioned = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Has the exception where background work broke: the process is to be started anew then."""
        self.parts: Parts
        self.token_port: int | None = None
        """Where tokens are taken instead of certificates; None: nowhere."""

    async def start(self) -> int:
        """Open everything and listen; what other processes are needed for comes when they do."""
        layout = self._settings.layout
        ensured = await asyncio.to_thread(pki.ensure, layout, self._settings)
        certificates = Certificates(layout)
        damaged = Damaged(layout.control, self._status)
        database_ = await opened(self._settings, self._status, damaged)
        store = Store(database_, self._status)
        store.damaged = damaged
        self._exit.callback(store.close)
        self._entrance = await Entrance.open(self._settings, store, self._status, self._clock_ns, self._exit)
        await self._entrance.enroll(ensured.admin)
        trail = self.trail = await asyncio.to_thread(
            Trail, layout.control, self._status, syslog=self._settings.audit.syslog
        )
        self._exit.callback(trail.close)
        prompts = PromptStore(layout.prompts)
        self._samples = Samples(store, prompts, self._status, self._clock_ns)
        await self._samples.settle()  # before there are tenants: that is how it knows a lost catalogue
        routing = Routing(layout.routing, store, self._clock_ns)
        await routing.restore()  # what comes back from the copy belongs to tenants
        self._copy = await CatalogueCopy.open(layout, store, self._status, self._clock_ns)
        self._exit.push_async_callback(self._copy.close)
        self.parts = await self._assemble(store, routing, prompts)  # with keys that came back
        self._subjects = await SubjectWork.open(self.parts, trail)
        self._completeness = CompletenessWork(self.parts, trail)
        self._documents = DocumentWork(self.parts, trail)
        self._exit_packs = ExitPacks(self._settings, store, trail, self._clock_ns)
        self._rules = RuleWork(store, self._clock_ns)
        jobs: list[Job] = [
            Verification(store, self.parts.reader),
            self._subjects.job,
            self._exit_packs,
            self._rules,
        ]
        self._worker = Worker(store, trail, jobs, self._clock_ns)
        self.granted = Granted(store, trail, self._clock_ns, GrantKeys(store, self.parts.vault_keys))
        self._notices = await NoticeWork.open(self.parts, trail, self._exit)
        self._post = await Post.open(store, layout.control / "identities.key", self._clock_ns)
        page = self._notices.page
        self.reminders = NoticePost(self.parts, self._post, lambda: page.base_url)
        self._acts = Acts(layout, store, trail, self._status)
        self._exit.push_async_callback(self._acts.close)
        concerns = Concerns(store, self.parts.board, self.parts.retention)
        server = grpc.aio.server(
            interceptors=[Gate(self._entrance, trail, self._rate, concerns, self._refusals)],
            options=OPTIONS,
            maximum_concurrent_rpcs=MAX_CALLS,
        )
        await self._register(server)
        port, self.token_port = listen(server, self._settings.api, certificates)

        def take_up() -> None:
            certificates.reload()
            self._notices.page.reload()

        self._renewal = Renewal(self._settings, self._status, self._entrance, take_up)
        await self._exit.enter_async_context(self._tasks())
        await server.start()
        self._exit.push_async_callback(server.stop, STOP_GRACE_S)
        self._exit.callback(self._audit.close)  # watches end before the server does
        self._exit.push_async_callback(self._health.enter_graceful_shutdown)
        return port

    async def _assemble(self, store: Store, routing: Routing, prompts: PromptStore) -> Parts:
        settings, layout = self._settings, self._settings.layout
        vault = Vault(layout)
        self._exit.push_async_callback(vault.close)
        retention = VaultRetention(layout)
        self._exit.push_async_callback(retention.close)
        vault_keys = VaultKeys(layout)
        self._exit.push_async_callback(vault_keys.close)
        reader = VaultReader(layout)
        self._exit.callback(reader.close)
        readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._exit.callback(readers.shutdown, wait=False, cancel_futures=True)
        board = Board(layout, store, self._status)
        self._exit.push_async_callback(board.close)
        listening = ListenPost(settings, board.changed)
        self._exit.push_async_callback(listening.close)
        processes = Processes(settings, store, self._status)
        self._exit.push_async_callback(processes.close)
        renders = Renders()
        self._exit.callback(renders.close)
        follower = Follower(
            store, vault, Taker(store, reader, readers, Witness(self.trail)), self._status, renders.forget
        )
        link_key = await store.write(noticelinks.key)  # before a new box has a key of tokens
        return Parts(
            settings=settings,
            status=self._status,
            store=store,
            tokens=await store.write(Tokens.of),
            link_key=link_key,
            vault=vault,
            reader=reader,
            readers=readers,
            follower=follower,
            board=board,
            processes=processes,
            renders=renders,
            routing=routing,
            retention=retention,
            line_policies=LinePolicies(store, retention, self._status),
            prompts=prompts,
            vault_keys=vault_keys,
            key_states=KeyStates(store, vault_keys, follower, renders, routing, clock_ns=self._clock_ns),
            listening=listening,
            clock_ns=self._clock_ns,
        )

    async def _register(self, server: grpc.aio.Server) -> None:
        parts = self.parts
        self._audit = Audit(parts, self.trail, self._refusals, self._heartbeat_s)
        entrance = self._entrance
        servicers: dict[str, Any] = {
            "earwitness.v1.AccessService": Access(parts, entrance.roll, entrance.sign_ins),
            "earwitness.v1.AlarmsService": Alarms(parts, self._post),
            "earwitness.v1.CallsService": Calls(parts, self._heartbeat_s),
            "earwitness.v1.RecordingsService": GrantedRecordings(parts, self.granted),
            "earwitness.v1.RetentionService": Retention(parts),
            "earwitness.v1.ReviewService": Reviews(parts, self._worker),
            "earwitness.v1.TenantsService": Tenants(parts),
            "earwitness.v1.NotesService": Notes(parts),
            "earwitness.v1.NoticesService": self._notices.servicer,
            "earwitness.v1.PromptsService": Prompts(parts),
            "earwitness.v1.PurposesService": Purposes(parts),
            "earwitness.v1.EvidenceService": EvidenceOf(parts, self.trail),
            "earwitness.v1.GrantsService": Grants(parts, self.granted),
            "earwitness.v1.ClosingService": ClosingOf(parts, self._worker),
            "earwitness.v1.CompletenessService": self._completeness.servicer,
            "earwitness.v1.DocumentsService": self._documents.servicer,
            "earwitness.v1.SubjectsService": Subjects(parts, self._subjects, self._worker),
            "earwitness.v1.OperationsService": Operations(parts, self._worker),
            "earwitness.v1.EventsService": Events(parts, self.granted, self._heartbeat_s),
            "earwitness.v1.BoxService": Box(parts),
            "earwitness.v1.AuditService": self._audit,
            "earwitness.v1.KeysService": Keys(parts),
        }
        for name, add in SERVICES.items():
            register: Any = add
            register(servicers[name], server)
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)

    @asynccontextmanager
    async def _tasks(self) -> AsyncIterator[None]:
        parts = self.parts
        work: dict[str, Coroutine[Any, Any, None]] = {
            "follower": parts.follower.run(),
            "board": parts.board.run(),
            "keys": parts.key_states.run(),
            "acts": self._acts.run(),
            "alarms": self._post.run(),
            "grants": self.granted.run(),
            "notices": self._notices.run(),
            "reminders": self.reminders.run(),
            "processes": parts.processes.run(),
            "rules": self._rules.watch(),
            "provision": self._provision(),
            "housekeeping": self._keep_house(),
            "operations": self._worker.run(),
            "copy": self._copy.run(),
            "completeness": self._completeness.watch.run(),
            "documents": self._documents.run(),
            "closing": ClosingWork(parts, self.trail, self._exit_packs).run(),
            "renewal": self._renewal.run(),
            "health": self._show_health(),
            "subjects": self._subjects.run(),
            "older notes": OlderNotes(parts).run(),
            "reindex": reindex(parts.store, self._status),
        }
        tasks = [asyncio.create_task(one, name=name) for name, one in work.items()]
        for task in tasks:
            task.add_done_callback(self._ended)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _provision(self) -> None:
        """Until signaling has tenants to decide by, and lines the prompts that come with the box."""
        delay = 0.1
        installed = False
        while True:
            try:
                if not installed:
                    await self._samples.install()
                    installed = True
                if await self.parts.routing.restore():
                    await self.parts.line_policies.try_push()
                    await self.parts.routing.publish()
                else:
                    await self.parts.routing.provision(self.parts.vault, self._clock_ns())
            except EarwitnessError as error:
                if error.kind is not Kind.UNAVAILABLE:
                    raise
                log.info("not provisioned yet", reason=error.reason, again_in_s=delay)
            else:
                self.provisioned.set()
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, 2.0)

    async def _keep_house(self) -> None:
        analyzed_s = float("-inf")
        while True:
            now_ns = self._clock_ns()

            def work(connection: sa.Connection, now_ns: int = now_ns) -> None:
                events.prune(connection, now_ns - events.KEEP_NS)
                requests.prune(connection, now_ns)
                reads.prune(connection, now_ns)
                operations.prune(connection, now_ns)
                alarms.prune(connection, now_ns)

            try:
                await self.parts.store.write(work)
                await self.parts.follower.scrub()
                await self.parts.store.look()
                await self._samples.look()
                await self._entrance.look()
                if time.monotonic() - analyzed_s > ANALYSIS_S:
                    await self.parts.store.analyze()
                    analyzed_s = time.monotonic()
            except CatalogueUnavailableError:
                pass  # its condition is raised; there is a next round
            await self.trail.tell(self._refusals)
            await self.parts.line_policies.try_push()
            self.parts.renders.expire()
            await asyncio.sleep(HOUSEKEEPING_S)

    async def _show_health(self) -> None:
        """A service is NOT_SERVING while what it needs is away."""
        seen = -1
        states = {
            "earwitness.v1.CallsService": lambda: self.parts.board.in_sync,
            "earwitness.v1.RecordingsService": lambda: self.parts.follower.connected,
            "earwitness.v1.RetentionService": lambda: self.parts.follower.connected,
        }
        while True:
            for name, serves in states.items():
                serving = health_pb2.HealthCheckResponse.SERVING
                await self._health.set(
                    name, serving if serves() else health_pb2.HealthCheckResponse.NOT_SERVING
                )
            try:
                await self.parts.board.changed.wait(seen, 1.0)
            except ShuttingDownError:
                return  # health says NOT_SERVING from here on
            seen = self.parts.board.changed.number

    async def stop(self) -> None:
        """No new calls; watches end at once, other calls have a few seconds; then everything is closed."""
        if hasattr(self, "parts"):
            self.parts.store.events.close()
            self.parts.board.changed.close()
            self._worker.changed.close()
        await self._exit.aclose()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", work=task.get_name(), error=type(error).__name__)
            if not self.failed.done():
                self.failed.set_exception(error)
