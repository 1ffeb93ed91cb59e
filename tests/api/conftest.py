"""A real control process's inside, over mutual TLS on loopback; vault and signaling are real gRPC servers on its sockets.

The servers here speak the internal contract with real sealed files and nothing else of the vault's insides, so that
what is tested is control.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import catalogue_kit
import grpc
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from embedded_kit import rendered_samples
from keys_fake import KeysServer
from retention_fake import ReplicaServer, RetentionServer
from sidecars_fake import SidecarServer

import earwitness
from appliance.access import identities, pki
from appliance.api.control import Control
from appliance.api.limits import RateLimit
from appliance.config.catalogue import CatalogueSettings
from appliance.config.notices import NoticeSettings
from appliance.config.settings import ApiSettings, MediaSettings, Settings
from appliance.model import (
    Direction,
    Mark,
    MarkKind,
    NotFoundError,
    Party,
    PayloadFormat,
    RecordingInfo,
    Role,
    TrackInfo,
    new_id,
)
from appliance.process import rpc
from appliance.process.interceptors import ErrorInterceptor
from appliance.process.status import Status
from appliance.storage import sealed
from appliance.storage.vault.errors import (
    RecordingDeletedError,
    RecordingErasedError,
    RecordingKeyAbsentError,
    StoredFileCorruptError,
)
from earwitness.internal.v1 import (
    replicas_pb2_grpc,
    retention_pb2_grpc,
    sidecars_pb2_grpc,
    signaling_pb2,
    signaling_pb2_grpc,
    tenantkeys_pb2_grpc,
    vault_pb2,
    vault_pb2_grpc,
)

START = 1_764_000_000_000_000_000
SECOND = 10**9
DEVICE = Ed25519PrivateKey.generate()


@dataclass
class Sealed:
    """A recording as it lies in the vault."""

    info: RecordingInfo
    data: bytes
    key: bytes
    unsigned: bytes = b""  # as capture leaves it, without the vault's footer


def seal(
    tenant_id: str,
    line_id: str,
    *,
    seconds: int = 2,
    start_ns: int = START,
    names: tuple[str, str] = ("Ada Lovelace", "Dr. Grace Hopper"),
    numbers: tuple[str, str] = ("+441632960001", "200"),
    marks: tuple[Mark, ...] = (),
    noise: int = 0,
    **info: object,
) -> Sealed:
    """A two-party PCMU call; `noise`: packets of random codes, so that the file does not shrink to nothing."""
    recording_id, key = new_id(), os.urandom(32)
    formats = (PayloadFormat(number=0, encoding="PCMU", clock_rate=8000),)
    made = RecordingInfo(
        **{
            "recording_id": recording_id,
            "call_id": new_id(),
            "tenant_id": tenant_id,
            "line_id": line_id,
            "started_ns": start_ns,
            "direction": Direction.INBOUND,
            "parties": (
                Party(aor=f"sip:{numbers[0]}@pstn.example", name=names[0], role=Role.CALLER),
                Party(aor=f"sip:{numbers[1]}@pbx.example", name=names[1], role=Role.AGENT),
            ),
            "tracks": tuple(TrackInfo(track=n, party=n, formats=formats, label=str(n)) for n in range(2)),
            "sip_call_id": "abc@sbc.example",
            "session_ids": ("ucid-1234",),
            **info,
        }
    )
    writer = sealed.SealedWriter(recording_id, tenant_id, line_id, start_ns - 1000, key)
    parts = [writer.header, writer.frame([sealed.pack_info(made), *map(sealed.pack_mark, marks)])]
    rng = np.random.default_rng(noise or 1)
    for second in range(seconds):
        count = 100  # 50 packets of 20 ms on each of two tracks
        order = np.tile(np.arange(50), 2)
        payload = (
            rng.integers(0, 256, count * 160, dtype=np.uint8)
            if noise
            else np.full(count * 160, 0x55, np.uint8)
        )
        columns = sealed.PacketColumns(
            sequence=(second * 50 + order).astype(np.uint16),
            timestamp=((second * 50 + order) * 160).astype(np.uint32),
            arrival_ns=start_ns + second * SECOND + order * 20_000_000,
            payload_type=np.zeros(count, np.uint8),
            ssrc=np.repeat(np.array([1, 2], np.uint32), 50),
            size=np.full(count, 160, np.uint16),
            payload=payload,
        )
        prepared = sealed.prepare(columns, [0, 50, 100], [0, 1])
        parts.append(writer.frame([prepared.block(0), prepared.block(1)]))
        writer.count(count, count * 160)
    parts.append(writer.end(start_ns + seconds * SECOND))
    unsigned = b"".join(parts)
    found = sealed.inspect(io.BytesIO(unsigned))
    return Sealed(made, unsigned + sealed.seal_footer(found, DEVICE, start_ns), key, unsigned)


class VaultServer(vault_pb2_grpc.VaultServiceServicer):
    """The vault's contract, held in memory."""

    def __init__(self, layout) -> None:
        self.layout = layout
        self.holdings: dict[str, vault_pb2.Holding] = {}
        self.files: dict[str, Sealed] = {}
        self.journal: list[vault_pb2.Holding] = []
        self.erasures = 0
        self.spooled = 0
        self.leases: list[tuple[str, str, str]] = []
        self.keyless: set[str] = set()
        self.changed = threading.Condition()
        self.tenant_keys: dict[str, bytes] = {}
        self.spoiled: dict[str, int] = {}
        """From which byte on the store does not give out a file."""
        self.retention = RetentionServer(layout.vault, self.holdings, self._erase)
        self.replicas = ReplicaServer()
        self.keys = KeysServer(self.tenant_keys)
        self.sidecars = SidecarServer(self, DEVICE)
        self._server: grpc.Server | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        path = self.layout.socket("vault")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._stopped.clear()
        self._server = grpc.server(ThreadPoolExecutor(16), interceptors=[ErrorInterceptor()])
        vault_pb2_grpc.add_VaultServiceServicer_to_server(self, self._server)
        retention_pb2_grpc.add_RetentionServiceServicer_to_server(self.retention, self._server)
        replicas_pb2_grpc.add_ReplicaServiceServicer_to_server(self.replicas, self._server)
        tenantkeys_pb2_grpc.add_TenantKeysServiceServicer_to_server(self.keys, self._server)
        sidecars_pb2_grpc.add_SidecarServiceServicer_to_server(self.sidecars, self._server)
        self._server.add_insecure_port(rpc.target(self.layout, "vault"))
        self._server.start()

    def stop(self) -> None:
        self._stopped.set()
        with self.changed:
            self.changed.notify_all()
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None

    def file(self, recording: Sealed, **fields: object) -> str:
        info = recording.info
        self.files[info.recording_id] = recording
        self._set(
            vault_pb2.Holding(
                **{
                    "recording_id": info.recording_id,
                    "tenant_id": info.tenant_id,
                    "line_id": info.line_id,
                    "slice": "2025-11-24",
                    "state": vault_pb2.HOLDING_STATE_FILED,
                    "size": len(recording.data),
                    "whole": True,
                    "since_ns": info.started_ns + 5 * SECOND,
                    "created_ns": info.started_ns - 1000,
                    **fields,
                }
            )
        )
        return info.recording_id

    def _set(self, holding: vault_pb2.Holding) -> None:
        with self.changed:
            self.holdings[holding.recording_id] = holding
            self.journal.append(holding)
            self.changed.notify_all()

    def _get(self, recording_id: str) -> vault_pb2.Holding:
        try:
            return self.holdings[recording_id]
        except KeyError:
            raise NotFoundError("no such recording") from None

    def _move(self, recording_id: str, state, reason: str = "", **more: object) -> vault_pb2.Holding:
        holding = vault_pb2.Holding()
        holding.CopyFrom(self._get(recording_id))
        if holding.state == state:
            return holding
        moved = vault_pb2.Holding(state=state, since_ns=time.time_ns(), **more)
        holding.MergeFrom(moved)
        holding.reason = reason
        self._set(holding)
        return holding

    def CreateTenantKey(self, request, context):
        key = self.tenant_keys.setdefault(request.tenant_id, os.urandom(1216))
        return vault_pb2.CreateTenantKeyResponse(public_key=key)

    def WatchRecordings(self, request, context):
        after = request.after
        while not self._stopped.is_set() and context.is_active():
            with self.changed:
                if len(self.journal) <= after:
                    self.changed.wait(0.2)
                    continue
                holding = self.journal[after]
            after += 1
            yield vault_pb2.WatchRecordingsResponse(position=after, holding=holding)

    def GetHolding(self, request, context):
        return vault_pb2.GetHoldingResponse(holding=self._get(request.recording_id))

    def ListHoldings(self, request, context):
        with self.changed:
            some, position = list(self.holdings.values()), len(self.journal)
        for holding in some:
            yield vault_pb2.ListHoldingsResponse(holding=holding, position=position)

    def LeaseKey(self, request, context):
        holding = self._get(request.recording_id)
        if holding.state == vault_pb2.HOLDING_STATE_ERASED:
            raise RecordingErasedError("erased")
        if holding.state == vault_pb2.HOLDING_STATE_DELETED and not request.deleted:
            raise RecordingDeletedError("deleted")
        if request.recording_id in self.keyless:
            raise RecordingKeyAbsentError("no key")
        self.keys.refuse_locked(holding.tenant_id)
        self.leases.append((request.recording_id, request.actor, request.purpose))
        return vault_pb2.LeaseKeyResponse(data_key=self.files[request.recording_id].key)

    def ReadSealed(self, request, context):
        holding = self._get(request.recording_id)
        if holding.state == vault_pb2.HOLDING_STATE_ERASED:
            raise RecordingErasedError("erased")
        if holding.state == vault_pb2.HOLDING_STATE_DELETED and not request.deleted:
            raise RecordingDeletedError("deleted")
        data = self.files[request.recording_id].data
        for offset in range(request.offset, len(data), 65536):
            if offset >= self.spoiled.get(request.recording_id, len(data)):
                raise StoredFileCorruptError("a file is not what was written", offset=offset)
            yield vault_pb2.ReadSealedResponse(data=data[offset : offset + 65536])

    def DeleteRecording(self, request, context):
        holding = self._get(request.recording_id)
        if holding.state != vault_pb2.HOLDING_STATE_DELETED:
            self.retention.refuse_held(holding)
            if not request.validate_only:
                holding = self._move(request.recording_id, vault_pb2.HOLDING_STATE_DELETED, request.reason)
        return vault_pb2.DeleteRecordingResponse(holding=holding)

    def UndeleteRecording(self, request, context):
        holding = self._get(request.recording_id)
        self.retention.refuse_late(holding)
        if not request.validate_only:
            holding = self._move(request.recording_id, vault_pb2.HOLDING_STATE_FILED)
        return vault_pb2.UndeleteRecordingResponse(holding=holding)

    def EraseRecordings(self, request, context):
        for recording_id in request.recording_ids:
            holding = self._get(recording_id)
            if holding.state != vault_pb2.HOLDING_STATE_ERASED:
                self.retention.refuse_held(holding)
        if request.validate_only:
            return vault_pb2.EraseRecordingsResponse()
        made = [self._erase(one, request.reason).certificate for one in request.recording_ids]
        return vault_pb2.EraseRecordingsResponse(certificates=made)

    def _erase(self, recording_id: str, reason: str) -> vault_pb2.Holding:
        holding = self._get(recording_id)
        if holding.state == vault_pb2.HOLDING_STATE_ERASED:
            return holding
        self.erasures += 1
        proof = vault_pb2.ErasureCertificate(
            recording_id=recording_id,
            tenant_id=holding.tenant_id,
            epoch=self.erasures,
            erased_ns=time.time_ns(),
            reason=reason,
            signature=os.urandom(64),
            device_public_key=DEVICE.public_key().public_bytes_raw(),
            version=2,
            log_number=100 + self.erasures,
            replicas=self.retention.replicas,
        )
        self.files.pop(recording_id)
        self.sidecars.files.pop(recording_id, None)
        return self._move(recording_id, vault_pb2.HOLDING_STATE_ERASED, reason, certificate=proof)

    def GetVaultStatus(self, request, context):
        return vault_pb2.GetVaultStatusResponse(
            backend="directory",
            position=len(self.journal),
            free_bytes=5,
            total_bytes=10,
            filed=len(self.files),
            store_answers=True,
            spooled=self.spooled,
            device_public_key=DEVICE.public_key().public_bytes_raw(),
        )


class SignalingServer(signaling_pb2_grpc.SignalingServiceServicer):
    """Signaling's contract, held in memory."""

    def __init__(self, layout) -> None:
        self.layout = layout
        self.calls: dict[str, signaling_pb2.LiveCall] = {}
        self.log: list[signaling_pb2.LiveCall] = []
        self.controls: list[signaling_pb2.ControlCallRequest] = []
        self.epoch = "first"
        self.acts: list[signaling_pb2.Act] = []
        self.acts_asked: list[tuple[str, int]] = []
        self.changed = threading.Condition()
        self._server: grpc.Server | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        path = self.layout.socket("signaling")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._stopped.clear()
        self._server = grpc.server(ThreadPoolExecutor(8), interceptors=[ErrorInterceptor()])
        signaling_pb2_grpc.add_SignalingServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(rpc.target(self.layout, "signaling"))
        self._server.start()

    def stop(self) -> None:
        self._stopped.set()
        with self.changed:
            self.changed.notify_all()
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None

    def put(self, call: signaling_pb2.LiveCall) -> None:
        with self.changed:
            kept = signaling_pb2.LiveCall()
            kept.CopyFrom(call)
            if kept.state == signaling_pb2.CALL_STATE_ENDED:
                self.calls.pop(kept.call_id, None)
            else:
                self.calls[kept.call_id] = kept
            self.log.append(kept)
            self.changed.notify_all()

    def begin(self, tenant_id: str, line_id: str, **fields: object) -> str:
        call = signaling_pb2.LiveCall(
            **{
                "call_id": new_id(),
                "tenant_id": tenant_id,
                "line_id": line_id,
                "recording_ids": [new_id()],
                "state": signaling_pb2.CALL_STATE_RECORDING,
                "started_ns": time.time_ns(),
                "source": "siprec",
                "parties": [
                    signaling_pb2.LiveParty(
                        aor="sip:+441632960001@pstn.example", name="Ada", role="caller", track=0
                    )
                ],
                **fields,
            }
        )
        self.put(call)
        return call.call_id

    def change(self, call_id: str, state) -> None:
        call = signaling_pb2.LiveCall()
        call.CopyFrom(self.calls[call_id])
        call.state = state
        self.put(call)

    def ListCalls(self, request, context):
        return signaling_pb2.ListCallsResponse(calls=self.calls.values())

    def WatchCalls(self, request, context):
        with self.changed:
            some, at = list(self.calls.values()), len(self.log)
        for call in some:
            yield signaling_pb2.WatchCallsResponse(call=call)
        yield signaling_pb2.WatchCallsResponse(in_sync=True)
        while not self._stopped.is_set() and context.is_active():
            with self.changed:
                if len(self.log) <= at:
                    self.changed.wait(0.2)
                    continue
                call = self.log[at]
            at += 1
            yield signaling_pb2.WatchCallsResponse(call=call)

    def ControlCall(self, request, context):
        if request.call_id not in self.calls:
            raise NotFoundError("no such call")
        self.controls.append(request)
        state = {
            signaling_pb2.CALL_ACTION_PAUSE: signaling_pb2.CALL_STATE_PAUSED,
            signaling_pb2.CALL_ACTION_RESUME: signaling_pb2.CALL_STATE_RECORDING,
            signaling_pb2.CALL_ACTION_STOP: signaling_pb2.CALL_STATE_NOT_RECORDED,
        }[request.action]
        self.change(request.call_id, state)
        return signaling_pb2.ControlCallResponse(call=self.calls[request.call_id])

    def acted(self, call_id: str, action, serial: int = 0, **fields: object) -> int:
        """An act of the call is told; its number."""
        call = self.calls[call_id]
        with self.changed:
            serial = serial or (self.acts[-1].serial if self.acts else 0) + 1
            self.acts.append(
                signaling_pb2.Act(
                    **{
                        "serial": serial,
                        "at_ns": START + serial,
                        "call_id": call_id,
                        "tenant_id": call.tenant_id,
                        "line_id": call.line_id,
                        "recording_id": call.recording_ids[-1],
                        "action": action,
                        "by": signaling_pb2.ACT_BY_AGENT,
                        **fields,
                    }
                )
            )
            self.changed.notify_all()
        return serial

    def WatchActs(self, request, context):
        self.acts_asked.append((request.epoch, request.after))
        seen = request.after if request.epoch == self.epoch else 0
        yield signaling_pb2.WatchActsResponse(epoch=self.epoch)
        while not self._stopped.is_set() and context.is_active():
            with self.changed:
                fresh = [act for act in self.acts if act.serial > seen]
                if not fresh:
                    self.changed.wait(0.2)
                    continue
            for act in fresh:
                yield signaling_pb2.WatchActsResponse(epoch=self.epoch, act=act)
                seen = act.serial


class Clock:
    """The wall clock, which a test may move."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def __call__(self) -> int:
        return time.time_ns() + self.ahead_ns


@dataclass
class Box:
    """One control with its neighbours."""

    settings: Settings
    vault: VaultServer
    signaling: SignalingServer
    clock: Clock
    loop: asyncio.AbstractEventLoop
    status: Status = field(default_factory=Status)
    port: int = 0
    control: Control | None = None
    rate: RateLimit | None = None
    _clients: list[earwitness.Client] = field(default_factory=list)

    @property
    def layout(self):
        return self.settings.layout

    def start(self) -> None:
        """Control on a loop of its own."""

        async def begin() -> int:
            self.control = Control(
                self.settings, self.status, clock_ns=self.clock, heartbeat_s=0.3, rate=self.rate
            )
            return await self.control.start()

        self.port = self.run(begin())

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()
        if self.control is not None:
            self.run(self.control.stop())
            self.control = None

    def run(self, coroutine):
        """Run something on control's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def write(self, work):
        """Change the catalogue."""
        return self.run(self.control.parts.store.write(work))

    def client(self, name: str = "admin") -> earwitness.Client:
        folder = self.layout.pki
        made = earwitness.connect(
            f"127.0.0.1:{self.port}",
            folder / "ca.crt",
            folder / "clients" / f"{name}.crt",
            folder / "clients" / f"{name}.key",
        )
        self._clients.append(made)
        return made

    def audited(self) -> list[dict]:
        """The entries of the audit log, oldest first."""
        return self.control.trail.tail(1 << 30)

    def fix_port(self) -> None:
        """The next start listens where this one does."""
        api = self.settings.api.model_copy(update={"port": self.port})
        self.settings = self.settings.model_copy(update={"api": api})

    def client_once(self) -> earwitness.Client:
        """The same client each time."""
        return self._clients[0] if self._clients else self.client()

    def enroll(
        self, name: str, *roles: identities.Role, tenant_id: str = "", agent: str = ""
    ) -> earwitness.Client:
        issued = pki.issue(self.layout, name)

        def work(connection):
            identities.enroll(connection, issued, roles, time.time_ns(), tenant_id=tenant_id, agent=agent)

        self.write(work)
        return self.client(name)

    def default_line(self) -> tuple[str, str]:
        """Ids of the default tenant and line."""
        self.wait(lambda: self.control.provisioned.is_set())
        routing = self.run(self.control.parts.routing._store.read(_routing))
        return routing.tenants[0].tenant_id, routing.lines[0].line_id

    def wait(self, condition, seconds: float = 15.0):
        """Until the condition gives something true: for what has no call to await."""
        deadline, pause_s = time.monotonic() + seconds, 0.005
        while not (found := condition()):
            assert time.monotonic() < deadline, "it never came to be"
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.1)  # to ask takes processor time, too
        return found

    def filed(self, recording_id: str) -> None:
        """Until the catalogue has a recording."""
        client = self.client()
        from earwitness.v1 import recordings_pb2

        def there() -> bool:
            try:
                client.recordings.GetRecording(
                    recordings_pb2.GetRecordingRequest(name=f"tenants/-/recordings/{recording_id}")
                )
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND, error
                return False
            return True

        self.wait(there)


def _routing(connection):
    from appliance.catalog import tenants

    return tenants.routing(connection)


@pytest.fixture(scope="session")
def sample_prompts():
    """The samples of the product, rendered once for all boxes of this test process."""
    return rendered_samples()


@contextmanager
def boxes(folder, loop, sample_prompts):
    """Makes boxes, each in a place of its own within `folder`; all are gone at the end."""
    made: list[Box] = []

    def make(
        *,
        vault: bool = True,
        signaling: bool = True,
        rate: RateLimit | None = None,
        rendered: bool = True,
        catalogue: str = "",
        notices: NoticeSettings | None = None,
    ) -> Box:
        """`rendered`: the samples are in the data directory already, as after a first start. `catalogue`: a URL."""
        settings = Settings(
            data=folder / f"box{len(made)}",
            api=ApiSettings(port=0),
            media=MediaSettings(workers=1),
            catalogue=CatalogueSettings(url=catalogue),
            notices=notices or NoticeSettings(),
        )
        box = Box(
            settings, VaultServer(settings.layout), SignalingServer(settings.layout), Clock(), loop, rate=rate
        )
        made.append(box)
        if not catalogue:
            catalogue_kit.place(settings.layout.control / "catalogue.db")
        if rendered:
            shutil.copytree(sample_prompts, settings.layout.prompts)
        if vault:
            box.vault.start()
        if signaling:
            box.signaling.start()
        box.start()
        if vault:  # its default tenant is the first one: what a test makes comes after it
            box.wait(box.control.provisioned.is_set)
        return box

    yield make
    for box in made:
        box.stop()
        box.signaling.stop()
        box.vault.stop()


@pytest.fixture
def make_box(tmp_path, loop, sample_prompts):
    with boxes(tmp_path, loop, sample_prompts) as make:
        yield make


@pytest.fixture(scope="module")
def refusing_box(tmp_path_factory, loop, sample_prompts):
    """One box for all tests of a module that are marked `refusals`."""
    with boxes(tmp_path_factory.mktemp("refusals"), loop, sample_prompts) as make:
        yield make(rate=RateLimit(100_000, 100_000))


@pytest.fixture
def make_url(postgres, make_postgresql):
    """Makes databases on PostgreSQL; gives their URLs, as a site file has them."""
    return lambda: postgres.text(make_postgresql())


@pytest.fixture
def catalogue_files(request):
    """Every file of a box's data directory, and of the PostgreSQL its catalogue is on, its logs included."""

    def read(box: Box):
        folders = [box.layout.root]
        if box.settings.catalogue.url:
            server = request.getfixturevalue("postgres")
            server.execute("CHECKPOINT")
            folders.append(server.folder)
        for folder in folders:
            for path in folder.rglob("*"):
                if path.is_file():
                    yield path, path.read_bytes()

    return read


@pytest.fixture
def make_servers():
    """Vault and signaling for a control process that runs by itself."""
    made = []

    def make(layout):
        pair = VaultServer(layout), SignalingServer(layout)
        made.extend(pair)
        for one in pair:
            one.start()
        return pair

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def box(request) -> Box:
    """A box of the test's own, or the module's where the test is marked `refusals`: it leaves nothing in it."""
    if request.node.get_closest_marker("refusals"):
        return request.getfixturevalue("refusing_box")
    return request.getfixturevalue("make_box")()


@pytest.fixture
def sealing():
    """Makes sealed recordings."""
    return seal


@pytest.fixture
def pause_mark() -> Mark:
    return Mark(
        kind=MarkKind.PAUSED, at_ns=START + SECOND, actor="agent", reason="card number", data={"n": 1}
    )
