"""The signaling process put together: table, capture, SIP sockets, service; and its end in good order."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import grpc.aio
import structlog

from appliance.media.signaling.board import Board
from appliance.media.signaling.capture import LIST_INTERVAL_S, Workers
from appliance.media.signaling.certificates import (
    ask_for_names,
    certificate_stamp,
    client_context,
    load_certificate,
    server_context,
)
from appliance.media.signaling.control import Control, SignalingServicer
from appliance.media.signaling.desk import Desk
from appliance.media.signaling.errors import CertificateMissingError
from appliance.media.signaling.inline.accounts import Accounts, Registrar
from appliance.media.signaling.inline.desk import InlineDesk
from appliance.media.signaling.keeper import Keeper
from appliance.media.signaling.reception import Reception
from appliance.media.signaling.recordings import Recordings
from appliance.media.signaling.routing import named_trunks
from appliance.media.signaling.table import TableFile
from appliance.media.sip.endpoint import EndpointConfig, SipEndpoint
from appliance.media.sip.flow import Listener, Transport
from appliance.media.sip.transports import SipTransports
from appliance.model import EarwitnessError
from appliance.model.routing import RoutingTable
from appliance.process.child import Child
from appliance.process.status import WARNING
from earwitness.internal.v1 import signaling_pb2_grpc

MEET_S = 5.0  # for capture's workers, which may know calls of an earlier life of ours
FAREWELL_S = 5.0  # for BYEs to be answered
WAIT_S = 0.1
CERTIFICATE_LOOK_S = 5.0
NO_CERTIFICATE = "SipCertificateMissing"
ACCEPT = ("application/sdp", "application/rs-metadata", "application/rs-metadata+xml", "multipart/mixed")
METHODS = (
    "INVITE",
    "ACK",
    "CANCEL",
    "BYE",
    "OPTIONS",
    "PRACK",
    "UPDATE",
    "INFO",
    "REFER",
    "NOTIFY",
)
EXTENSIONS = ("siprec", "timer", "100rel", "replaces", "norefersub", "histinfo")

log = structlog.get_logger()


class Signaling:
    """One signaling process, or one in a test."""

    def __init__(
        self, child: Child, *, list_interval_s: float = LIST_INTERVAL_S, farewell_s: float = FAREWELL_S
    ) -> None:
        self.child = child
        self.settings = child.settings
        self.board = Board()
        self.table = TableFile(child.layout.routing, child.status, self._table_changed)
        self.accounts = Accounts(self.settings.sip.accounts, child.status)
        self.endpoint = SipEndpoint(
            EndpointConfig(
                contact_user="recorder",
                contact_params="+sip.srs",
                extensions=EXTENSIONS,
                methods=METHODS,
                accept=ACCEPT,
                max_sessions=20_000,
                max_transactions=60_000,
                credentials=self.accounts.credentials,
            )
        )
        self.desk = Desk(self.settings, child.status, self.table, self.endpoint, self.board)
        self.inline = InlineDesk(self.desk)
        self.registrar = Registrar(self.settings.sip.accounts, self.endpoint, child.status)
        self.keeper = Keeper(self.desk, self.inline)
        self.listeners: dict[Transport, Listener] = {}
        self._list_interval_s = list_interval_s
        self._farewell_s = farewell_s
        self._stop = asyncio.Event()
        self._tls: ssl.SSLContext | None = None
        self._server: grpc.aio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def stop(self) -> None:
        """Asks for the end. To be called in the loop's thread."""
        self._stop.set()

    async def run(self) -> None:
        """From start to end."""
        loop = asyncio.get_running_loop()

        def asked() -> None:
            loop.call_soon_threadsafe(self._stop.set)

        self.child.on_stop(asked)
        try:
            if await self.start():
                await self._stop.wait()
        finally:
            await self.close()

    async def start(self) -> bool:
        """Comes up; gives False where it was asked to stop meanwhile."""
        media = self.settings.media
        reception = Reception(self.desk, self.inline, self.registrar)
        transports = SipTransports(
            self.endpoint,
            reception.on_event,
            # Made anew for each connection: certificates come after us, and are renewed.
            tls_client=lambda: client_context(self.child.layout.pki, self.settings.sip.trust),
        )
        workers = Workers(
            self.child.layout,
            media.worker_count,
            self.child.status,
            self.keeper.listed,
            interval_s=self._list_interval_s,
        )
        recordings = Recordings(workers, media.address, self.child.status, self.desk.snapshot)
        self.desk.connect(transports, workers, recordings)
        control = Control(self.desk)
        self._server = await self.child.serve_aio(
            lambda server: signaling_pb2_grpc.add_SignalingServiceServicer_to_server(
                SignalingServicer(self.board, control, self.desk.acts), server
            )
        )
        if not await self._await_table():
            return False
        if self.settings.sip.tls_port >= 0 and not await self._await_certificate():
            return False
        # Calls of an earlier life are taken up before their requests can come in.
        workers.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MEET_S):
                await asyncio.gather(*(worker.up.wait() for worker in workers.all))
        await self._listen(transports)
        self.inline.follow()
        self.accounts.check()
        self.registrar.start(transports)
        self._tasks.append(asyncio.create_task(self.table.follow()))
        self._tasks.append(asyncio.create_task(control.follow()))
        if self._tls is not None:
            self._tasks.append(asyncio.create_task(self._follow_certificate(self._tls)))
        self.child.ready(
            **{
                f"sip_{transport.lower()}": f"{listener.host}:{listener.port}"
                for transport, listener in self.listeners.items()
            }
        )
        return True

    async def _await_table(self) -> bool:
        while not self.table.look():
            if await self._stopped_within(WAIT_S):
                return False
        return True

    async def _await_certificate(self) -> bool:
        pki, status = self.child.layout.pki, self.child.status
        while True:
            try:
                self._tls = server_context(pki)
            except CertificateMissingError as error:
                status.raise_condition(NO_CERTIFICATE, WARNING, error.message)
                if await self._stopped_within(WAIT_S):
                    return False
            else:
                status.clear_condition(NO_CERTIFICATE)
                assert self.table.table is not None
                ask_for_names(self._tls, pki, named_trunks(self.table.table))
                return True

    async def _follow_certificate(self, context: ssl.SSLContext) -> None:
        """A renewed certificate holds for connections made from then on."""
        pki, status = self.child.layout.pki, self.child.status
        seen = certificate_stamp(pki)
        while True:
            await asyncio.sleep(CERTIFICATE_LOOK_S)
            stamp = certificate_stamp(pki)
            if stamp == seen:
                continue
            try:
                load_certificate(context, pki)
            except CertificateMissingError as error:
                # Half of the pair may be written by now; the old one stays until both are there.
                status.raise_condition(NO_CERTIFICATE, WARNING, error.message)
                continue
            seen = stamp
            status.clear_condition(NO_CERTIFICATE)
            log.info("certificate renewed")

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        return self._stop.is_set()

    def _table_changed(self, table: RoutingTable) -> None:
        self.inline.neighbours.follow_table(table)
        if self._tls is not None:
            ask_for_names(self._tls, self.child.layout.pki, named_trunks(table))

    async def _listen(self, transports: SipTransports) -> None:
        sip = self.settings.sip
        advertised = sip.advertised_address or None
        wanted: list[tuple[Transport, int, ssl.SSLContext | None]] = [
            (Transport.UDP, sip.udp_port, None),
            (Transport.TCP, sip.tcp_port, None),
        ]
        if sip.tls_port >= 0:
            wanted.append((Transport.TLS, sip.tls_port, self._tls))
        for transport, port, tls in wanted:
            try:
                listener = await transports.listen(
                    transport, sip.address, port, advertised=advertised, tls=tls
                )
            except OSError as error:
                raise SipPortError(
                    f"cannot listen on {sip.address}:{port} ({transport}): {error.strerror}", port=port
                ) from error
            self.listeners[transport] = listener

    async def close(self) -> None:
        """Refuses new calls, ends the present ones with their recordings whole, and goes."""
        desk = self.desk
        desk.stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None and self.listeners:
            await desk.idle()
            await self.registrar.close(desk.transports)
            await self.inline.close()
            legs = list(desk.legs)
            ends = asyncio.gather(*(desk.end(leg, "shutdown") for leg in legs), return_exceptions=True)
            with desk.transports.acting() as now:
                for leg in legs:
                    if leg.sip is not None and leg.sip.established:
                        desk.endpoint.bye(leg.sip, now=now)
            for outcome in await ends:
                if isinstance(outcome, BaseException):
                    log.error("session not ended", exc_info=outcome)
            await self._farewell()
        if self._server is not None:
            await desk.transports.close()
            await desk.workers.close()
            await self._server.stop(1.0)
        log.info("stopped")

    async def _farewell(self) -> None:
        """Until the BYEs are answered, within reason."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._farewell_s):
                while self.endpoint.sessions:
                    self.desk.ended.clear()
                    await self.desk.ended.wait()


class SipPortError(EarwitnessError):
    """A SIP port cannot be bound; `data['port']` says which."""

    reason = "SIP_PORT_UNUSABLE"
