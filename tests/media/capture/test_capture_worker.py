"""The worker as a process: gRPC, kill -9, sockets that outlive it, a proper stop."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from capture_kit import Content, Keys, free_range, rtp, tone

from appliance.config.layout import Layout
from appliance.config.settings import MediaSettings, Settings
from appliance.model import Mark, MarkKind, RecordingInfo, new_id
from appliance.process import datadir, rpc
from appliance.process.fdstore import FdStore
from appliance.process.spawn import spawn
from earwitness.internal.v1 import capture_pb2 as pb
from earwitness.internal.v1 import capture_pb2_grpc, process_pb2, process_pb2_grpc

FORMATS = [
    pb.PayloadType(number=0, encoding="PCMU", clock_rate=8000),
    pb.PayloadType(number=101, encoding="telephone-event", clock_rate=8000),
]


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


class Keeper:
    """The supervisor's half: hears sd_notify, keeps sockets, starts the worker with them."""

    def __init__(self, root: Path) -> None:
        first, last = free_range(16)
        self.settings = Settings(
            data=root / "data",
            media=MediaSettings(workers=1, port_min=first, port_max=last - 1, cool_down_s=0.2),
        )
        self.layout: Layout = self.settings.layout
        datadir.prepare(self.layout)
        self.keys = Keys(self.layout)
        self.file = root / "settings.json"
        self.file.write_text(self.settings.model_dump_json(), "utf-8")
        self.log = root / "log"
        self.store = FdStore()
        self.names: set[str] = set()
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._path = root / "notify"
        self._notify.bind(str(self._path))
        self._lifeline = os.pipe()
        self.ready = threading.Event()
        self.pid = 0
        threading.Thread(target=self._hear, daemon=True).start()
        self.tenant_id, self.line_id = new_id(), new_id()
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.channel: grpc.Channel | None = None

    def _hear(self) -> None:
        while True:
            message, fds, _, _ = socket.recv_fds(self._notify, 4096, 16)
            if message == b"end":
                return
            values = dict(line.split("=", 1) for line in message.decode().splitlines())
            name = values.get("FDNAME", "")
            if values.get("FDSTORE") == "1":
                self.store.add(name, list(fds))
                self.names.add(name)
            if values.get("FDSTOREREMOVE") == "1":
                self.store.remove(name)
                self.names.discard(name)
            if values.get("READY") == "1":
                self.ready.set()

    def start(self) -> None:
        self.ready.clear()
        self.pid = spawn(
            ["-m", "appliance.media.capture", "--settings", str(self.file), "--worker", "0"],
            log=self.log,
            notify=self._path,
            lifeline=self._lifeline[0],
            store=self.store,
            environment=dict(os.environ),
        )
        assert self.ready.wait(30), self.log.read_text()
        if self.channel is not None:
            self.channel.close()
        self.channel = rpc.channel(self.layout, "capture-0")
        grpc.channel_ready_future(self.channel).result(timeout=30)
        self.stub = capture_pb2_grpc.CaptureServiceStub(self.channel)

    def end(self, number: signal.Signals) -> int:
        os.kill(self.pid, number)
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def open(self, port: int = 0, **more: object) -> tuple[str, int]:
        session = new_id()
        info = RecordingInfo(
            recording_id=session,
            call_id=new_id(),
            tenant_id=self.tenant_id,
            line_id=self.line_id,
            started_ns=time.time_ns(),
        )
        answer = self.stub.OpenSession(
            pb.OpenSessionRequest(
                session_id=session,
                tenant_id=self.tenant_id,
                line_id=self.line_id,
                tenant_public_key=self.keys.tenant_public,
                tracks=[pb.TrackSpec(track=0, active=True, payload_types=FORMATS, port=port)],
                info_json=info.model_dump_json().encode(),
                address="127.0.0.1",
                context=b"opaque",
                **more,  # type: ignore[arg-type]
            )
        )
        return session, answer.ports[0].rtp_port

    def send(self, port: int, packets: list[bytes]) -> None:
        for packet in packets:
            self.sender.sendto(packet, ("127.0.0.1", port))

    def state(self, session: str) -> pb.SessionState:
        return next(
            item
            for item in self.stub.ListSessions(pb.ListSessionsRequest()).sessions
            if item.session_id == session
        )

    def counters(self) -> dict[str, int]:
        stub = process_pb2_grpc.ProcessServiceStub(self.channel)
        return dict(stub.GetProcessStatus(process_pb2.GetProcessStatusRequest()).counters)

    def conditions(self) -> set[str]:
        stub = process_pb2_grpc.ProcessServiceStub(self.channel)
        found = stub.GetProcessStatus(process_pb2.GetProcessStatusRequest(), timeout=20)
        return {condition.type for condition in found.conditions}

    def path(self, session: str, suffix: str) -> Path:
        return self.layout.spool_recordings / f"{session}.{suffix}"

    def read(self, session: str, suffix: str = "sealed") -> Content:
        return Content(self.path(session, suffix), self.keys.data_key(session))

    def shut(self) -> None:
        if self.channel is not None:
            self.channel.close()
        if self.pid:
            self.end(signal.SIGKILL)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"end", str(self._path))
        self._notify.close()
        self.store.clear()
        self.sender.close()
        for fd in self._lifeline:
            os.close(fd)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    found = Keeper(tmp_path)
    found.start()
    yield found
    found.shut()


def test_a_call_over_grpc(keeper: Keeper) -> None:
    session, port = keeper.open()
    keeper.send(port, [rtp(seq, tone(seq)) for seq in range(5)])
    mark = Mark(kind=MarkKind.PAUSED, at_ns=time.time_ns(), actor="agent", reason="card")
    paused = keeper.stub.PauseSession(
        pb.PauseSessionRequest(session_id=session, mark=pb.MarkJson(json=mark.model_dump_json().encode()))
    )
    assert abs(paused.at_ns - time.time_ns()) < 10_000_000_000
    keeper.send(port, [rtp(seq, tone(200)) for seq in range(5, 10)])
    assert keeper.state(session).paused
    keeper.stub.ResumeSession(pb.ResumeSessionRequest(session_id=session))
    keeper.send(port, [rtp(10), rtp(11, b"\x05\x0a\x00\xa0", pt=101)])
    keeper.stub.AnnotateSession(pb.AnnotateSessionRequest(session_id=session, context=b"newer"))
    wait_until(lambda: keeper.state(session).tracks[0].packets == 7)
    state = keeper.state(session)
    assert state.context == b"newer"
    assert state.tracks[0].dropped == 5
    assert 0 < state.tracks[0].last_packet_ns <= time.time_ns()
    closed = keeper.stub.CloseSession(pb.CloseSessionRequest(session_id=session, reason="stopped"))
    assert closed.packets == 7
    assert closed.bytes == keeper.path(session, "sealed").stat().st_size
    content = keeper.read(session)
    assert content.sequences(0) == [0, 1, 2, 3, 4, 10]
    assert [mark.kind for mark in content.marks] == [MarkKind.PAUSED, MarkKind.STOPPED]
    assert tone(200) not in [payload for _, _, payload in content.packets(0)]
    with pytest.raises(grpc.RpcError) as error:
        keeper.stub.PauseSession(pb.PauseSessionRequest(session_id=session))
    assert rpc.from_rpc_error(error.value).reason == "SESSION_NOT_FOUND"


def test_errors_cross_the_wire_with_their_reason(keeper: Keeper) -> None:
    session, _ = keeper.open()
    with pytest.raises(grpc.RpcError) as error:
        keeper.stub.UpdateSession(pb.UpdateSessionRequest(session_id=session, info_json=b"[]"))
    found = rpc.from_rpc_error(error.value)
    assert (found.reason, found.data["field"]) == ("CAPTURE_REQUEST_INVALID", "info_json")
    public, keeper.keys.tenant_public = keeper.keys.tenant_public, b"no key"
    with pytest.raises(grpc.RpcError) as error:
        keeper.open()
    assert rpc.from_rpc_error(error.value).data["field"]
    keeper.keys.tenant_public = public
    with pytest.raises(grpc.RpcError) as error:
        keeper.open(port=1025)
    assert rpc.from_rpc_error(error.value).reason == "PORT_TAKEN"


def test_kill_9_leaves_whole_frames_and_the_call_goes_on_at_the_same_port(keeper: Keeper) -> None:
    session, port = keeper.open()
    keeper.send(port, [rtp(seq, tone(seq)) for seq in range(50)])
    wait_until(lambda: keeper.counters().get("frames_written", 0) > 0)
    keeper.send(port, [rtp(seq, tone(seq)) for seq in range(50, 60)])
    wait_until(lambda: keeper.state(session).tracks[0].packets == 60)
    frames = keeper.counters()["frames_written"]
    wait_until(lambda: keeper.counters()["frames_written"] > frames or _kept(keeper, session) == 60)
    wait_until(lambda: {f"rtp-{port}", f"rtcp-{port + 1}"} <= keeper.names)
    keeper.end(signal.SIGKILL)
    part = keeper.path(session, "part")
    with part.open("rb") as file:  # an orphan: nobody holds it
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    content = keeper.read(session, "part")
    assert content.end is None
    assert content.sequences(0) == list(range(len(content.sequences(0))))
    assert len(content.sequences(0)) >= 50

    # Nobody is there: what is sent now waits in the kernel.
    keeper.send(port, [rtp(seq, tone(seq)) for seq in range(60, 70)])
    keeper.start()
    assert list(keeper.stub.ListSessions(pb.ListSessionsRequest()).sessions) == []
    second, again = keeper.open(port=port)
    assert again == port
    keeper.send(port, [rtp(70, tone(70))])
    keeper.stub.CloseSession(pb.CloseSessionRequest(session_id=second, reason="bye"))
    assert keeper.read(second).sequences(0) == list(range(60, 71))
    # Once cooled, the sockets leave the store too.
    wait_until(lambda: not {f"rtp-{port}", f"rtcp-{port + 1}"} & keeper.names)


def _kept(keeper: Keeper, session: str) -> int:
    return len(keeper.read(session, "part").sequences(0))


def test_a_stop_ends_recordings_properly(keeper: Keeper) -> None:
    sessions = [keeper.open() for _ in range(3)]
    for number, (_, port) in enumerate(sessions):
        keeper.send(port, [rtp(seq) for seq in range(number + 1)])
    assert keeper.end(signal.SIGTERM) == 0
    for number, (session, _) in enumerate(sessions):
        content = keeper.read(session)
        assert content.sequences(0) == list(range(number + 1))
        assert (content.marks[-1].kind, content.marks[-1].reason) == (MarkKind.ENDED, "shutdown")
        assert content.end is not None


def test_a_full_disk_does_not_end_the_worker_and_what_came_meanwhile_is_kept(keeper: Keeper) -> None:
    session, port = keeper.open()
    keeper.send(port, [rtp(seq, tone(seq)) for seq in range(5)])
    wait_until(lambda: keeper.counters().get("frames_written", 0) > 0)
    unlimited = resource.RLIM_INFINITY
    resource.prlimit(keeper.pid, resource.RLIMIT_FSIZE, (0, unlimited))  # the log is a file, too
    keeper.send(port, [rtp(seq, tone(seq)) for seq in range(5, 10)])
    wait_until(lambda: "DiskFull" in keeper.conditions())
    keeper.send(port, [rtp(seq, tone(seq)) for seq in range(10, 15)])
    assert keeper.stub.ListSessions(pb.ListSessionsRequest(), timeout=20).sessions[0].session_id == session
    resource.prlimit(keeper.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
    keeper.stub.CloseSession(pb.CloseSessionRequest(session_id=session, reason="bye"), timeout=30)
    assert keeper.read(session).sequences(0) == list(range(15))
    wait_until(lambda: "DiskFull" not in keeper.conditions())
    assert keeper.end(signal.SIGTERM) == 0
    assert "lines of this log lost" in keeper.log.read_text("utf-8")


def test_a_change_for_which_no_port_is_free_raises_the_alarm(keeper: Keeper) -> None:
    session, _ = keeper.open()
    for number in range(1, 17):  # of sixteen pairs one is taken
        added = pb.UpdateSessionRequest(session_id=session, tracks=[pb.TrackSpec(track=number, active=True)])
        if number < 16:
            keeper.stub.UpdateSession(added)
    assert "PortsExhausted" not in keeper.conditions()
    with pytest.raises(grpc.RpcError) as error:
        keeper.stub.UpdateSession(added)
    assert rpc.from_rpc_error(error.value).reason == "PORTS_EXHAUSTED"
    assert "PortsExhausted" in keeper.conditions()
