"""An inline call in a worker of its own, over gRPC: joined, played to, keyed, ended in two steps."""

from __future__ import annotations

import queue
import signal
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from bridge_kit import Phone
from capture_kit import tone
from test_capture_worker import FORMATS, Keeper, wait_until

from appliance.model import new_id
from appliance.process import rpc
from earwitness.internal.v1 import capture_pb2 as pb

PCMU = FORMATS[0]


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    found = Keeper(tmp_path)
    found.start()
    yield found
    found.shut()


class Watch:
    """What WatchMedia tells, in a thread that reads it."""

    def __init__(self, keeper: Keeper) -> None:
        self.call = keeper.stub.WatchMedia(pb.WatchMediaRequest())
        self.first = next(self.call)
        self.events: queue.Queue[pb.WatchMediaResponse] = queue.Queue()
        self.ended = threading.Event()
        self.code: grpc.StatusCode | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for event in self.call:
                self.events.put(event)
        except grpc.RpcError as error:
            self.code = error.code()
        self.ended.set()

    def next(self) -> pb.WatchMediaResponse:
        return self.events.get(timeout=30)


class Phones:
    """Two phones and the session between them."""

    def __init__(self, keeper: Keeper, *, relay_only: bool = False) -> None:
        self.keeper = keeper
        self.caller, self.agent = Phone(100), Phone(200)
        self.session = new_id()
        tenant = {} if relay_only else {
            "tenant_id": keeper.tenant_id,
            "line_id": keeper.line_id,
            "tenant_public_key": keeper.keys.tenant_public,
        }  # fmt: skip
        answer = keeper.stub.OpenSession(
            pb.OpenSessionRequest(
                session_id=self.session,
                tracks=[
                    self.spec(0),
                    self.spec(1, codes=["*2"]),
                    pb.TrackSpec(track=2, box_voice=True),
                ],
                address="127.0.0.1",
                context=b"opaque",
                relay_only=relay_only,
                **tenant,
            )
        )
        assert [port.track for port in answer.ports] == [0, 1, 2] and answer.ports[2].rtp_port == 0
        self.caller.to, self.agent.to = answer.ports[0].rtp_port, answer.ports[1].rtp_port

    def spec(self, track: int, **more: object) -> pb.TrackSpec:
        phone = (self.caller, self.agent)[track]
        return pb.TrackSpec(
            track=track,
            active=True,
            payload_types=FORMATS,
            remote=pb.Remote(host="127.0.0.1", rtp_port=phone.port, rtcp_port=phone.rtcp_port),
            hears=1 - track,
            **more,  # type: ignore[arg-type]
        )

    def heard(self, phone: Phone, count: int) -> list[bytes]:
        found: list[bytes] = []

        def enough() -> bool:
            found.extend(packet.payload for packet in phone.hears())
            return len(found) >= count

        wait_until(enough)
        return found

    def close(self) -> None:
        self.caller.close()
        self.agent.close()


def write_prompt(keeper: Keeper, payloads: list[bytes]) -> str:
    name = new_id()
    folder = keeper.layout.prompts / name
    folder.mkdir(parents=True)
    data = b"".join(struct.pack(">H", len(payload)) + payload for payload in payloads)
    (folder / "PCMU-8000-1.packets").write_bytes(data)
    return name


def test_a_call_from_announcement_to_end(keeper: Keeper) -> None:
    watch = Watch(keeper)
    assert watch.first == pb.WatchMediaResponse()
    phones = Phones(keeper)
    payloads = [bytes([n + 1]) * 160 for n in range(10)]
    answer = keeper.stub.Play(
        pb.PlayRequest(
            session_id=phones.session,
            play_id="announcement",
            track=0,
            prompt_id=write_prompt(keeper, payloads),
            payload_type=PCMU,
            record_track=2,
        )
    )
    assert answer.duration_ms == 200 and answer.at_ns > 0
    event = watch.next()
    assert (event.session_id, event.track) == (phones.session, 0)
    assert event.play_ended == pb.PlayEnded(play_id="announcement", whole=True, played_ms=200)
    assert phones.heard(phones.caller, 10) == payloads
    # Joined.
    phones.caller.say(tone(50))
    phones.agent.say(tone(60))
    assert phones.heard(phones.agent, 1) == [tone(50)]
    assert phones.heard(phones.caller, 1) == [tone(60)]
    # Ringing until stopped.
    keeper.stub.Play(
        pb.PlayRequest(
            session_id=phones.session,
            play_id="ringing",
            track=0,
            tone=pb.TONE_RINGING,
            payload_type=PCMU,
            repeat=True,
        )
    )
    phones.heard(phones.caller, 3)
    keeper.stub.StopPlaying(pb.StopPlayingRequest(session_id=phones.session, play_id="ringing"))
    ended = watch.next().play_ended
    assert (ended.play_id, ended.whole) == ("ringing", False) and ended.played_ms >= 60
    # Keys.
    phones.caller.key("5")
    assert watch.next().key == "5"
    phones.agent.key("*")
    phones.agent.key("2")
    event = watch.next()
    assert (event.track, event.code) == (1, "*2")
    # The recording ends, the call does not.
    closed = keeper.stub.CloseSession(
        pb.CloseSessionRequest(session_id=phones.session, reason="stopped", keep_relaying=True)
    )
    assert closed.bytes == keeper.path(phones.session, "sealed").stat().st_size
    state = keeper.state(phones.session)
    assert state.relay_only and not state.paused and state.tracks[0].sent >= 14
    phones.heard(phones.agent, 6)  # the caller's key
    phones.caller.say(tone(51))
    assert phones.heard(phones.agent, 1) == [tone(51)]
    with pytest.raises(grpc.RpcError) as error:
        keeper.stub.PauseSession(pb.PauseSessionRequest(session_id=phones.session))
    assert rpc.from_rpc_error(error.value).reason == "SESSION_RELAY_ONLY"
    keeper.stub.CloseSession(pb.CloseSessionRequest(session_id=phones.session, reason="bye"))
    assert list(keeper.stub.ListSessions(pb.ListSessionsRequest()).sessions) == []
    content = keeper.read(phones.session)
    assert [payload for _, _, payload in content.packets(2)] == payloads
    assert [payload for _, _, payload in content.packets(0)] == [tone(50)]
    assert [payload for _, _, payload in content.packets(1)] == [tone(60)]
    assert content.packets(1, audio=False) == [] and len(content.packets(0, audio=False)) == 6
    wait_until(lambda: keeper.counters().get("packets_played", 0) >= 13)
    counters = keeper.counters()
    assert counters["packets_relayed"] == 9 and counters["relay_failed"] == 0
    phones.close()


def test_without_key_and_vault_the_parties_are_joined_all_the_same(keeper: Keeper) -> None:
    keeper.layout.deposit_key.unlink()
    phones = Phones(keeper, relay_only=True)
    phones.caller.say(tone(1))
    assert phones.heard(phones.agent, 1) == [tone(1)]
    assert keeper.state(phones.session).relay_only
    keeper.stub.CloseSession(pb.CloseSessionRequest(session_id=phones.session))
    assert list(keeper.layout.spool_recordings.iterdir()) == []
    phones.close()


def test_errors_say_what_is_wrong(keeper: Keeper) -> None:
    phones = Phones(keeper)
    known = write_prompt(keeper, [tone(1)])
    wrong = [
        ("SESSION_NOT_FOUND", {"session_id": new_id(), "prompt_id": known}),
        ("PLAY_INVALID", {"prompt_id": "../../etc"}),
        ("PLAY_INVALID", {"prompt_id": known, "play_id": ""}),
        ("PLAY_INVALID", {}),
        ("PLAY_INVALID", {"tone": 99}),
        ("PLAY_INVALID", {"prompt_id": known, "payload_type": pb.PayloadType(number=200)}),
        ("PROMPT_NOT_PLAYABLE", {"prompt_id": new_id()}),
        ("PLAY_FORMAT_UNSUPPORTED", {
            "tone": pb.TONE_REFUSED,
            "payload_type": pb.PayloadType(number=18, encoding="G729", clock_rate=8000),
        }),
        ("CAPTURE_REQUEST_INVALID", {"prompt_id": known, "track": 7}),
        ("CAPTURE_REQUEST_INVALID", {"prompt_id": known, "record_track": 1}),
    ]  # fmt: skip
    for reason, fields in wrong:
        usual: dict[str, object] = {"session_id": phones.session, "play_id": "p", "payload_type": PCMU}
        with pytest.raises(grpc.RpcError) as error:
            keeper.stub.Play(pb.PlayRequest(**{**usual, **fields}))  # type: ignore[arg-type]
        assert rpc.from_rpc_error(error.value).reason == reason, fields
    for reason, spec in (
        ("REMOTE_ADDRESS_INVALID", pb.TrackSpec(track=0, remote=pb.Remote(host="224.0.0.1", rtp_port=4000))),
        ("SRTP_KEY_INVALID", pb.TrackSpec(
            track=0,
            remote=pb.Remote(host="127.0.0.1", rtp_port=4000, srtp=pb.SrtpKey(suite="NULL", key_salt=b"x")),
        )),
        ("KEY_CODE_INVALID", pb.TrackSpec(track=0, codes=["*x"])),
        ("CAPTURE_REQUEST_INVALID", pb.TrackSpec(track=0, hears=9)),
        ("CAPTURE_REQUEST_INVALID", pb.TrackSpec(track=0, box_voice=True)),
    ):  # fmt: skip
        with pytest.raises(grpc.RpcError) as error:
            keeper.stub.UpdateSession(pb.UpdateSessionRequest(session_id=phones.session, tracks=[spec]))
        assert rpc.from_rpc_error(error.value).reason == reason
    phones.caller.say(tone(1))
    assert phones.heard(phones.agent, 1) == [tone(1)]  # nothing of it has changed anything
    phones.close()


def test_watchers_that_go_make_room_and_a_stop_ends_the_rest(keeper: Keeper) -> None:
    for _ in range(3):
        watches = [_watch(keeper) for _ in range(4)]
        with pytest.raises(grpc.RpcError) as error:
            next(keeper.stub.WatchMedia(pb.WatchMediaRequest()))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for watch in watches:
            watch.call.cancel()
    last = _watch(keeper)
    phones = Phones(keeper)
    assert keeper.end(signal.SIGTERM) == 0
    assert last.ended.wait(30)
    assert keeper.path(phones.session, "sealed").exists()
    phones.close()


def _watch(keeper: Keeper) -> Watch:
    """A place gets free a moment after its watcher went."""
    found: list[Watch] = []

    def tried() -> bool:
        try:
            found.append(Watch(keeper))
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return bool(found)

    wait_until(tried)
    return found[0]
