"""A served box, a recording client, and everything a user does with a recording."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import whole_kit as kit
from embedded_kit import started

from appliance.cli.connection import Connection
from appliance.cli.demonstration.embedded import BoxError, EmbeddedBox
from appliance.demo.sbc import Sbc
from earwitness.v1 import box_pb2, box_pb2_grpc

pytestmark = pytest.mark.timeout(150)
SECONDS = 2.0


async def call(
    box: EmbeddedBox, number: int, payloads: list[bytes], transport: str = "udp", srtp: str = ""
) -> None:
    context = None
    if transport == "tls":
        import ssl

        context = ssl.create_default_context(cafile=str(box.layout.pki / "ca.crt"))
    async with Sbc(transport, box.sip(transport), tls=context) as sbc:
        placed = await sbc.place(kit.parties(number), payloads, srtp=srtp)
        await placed.play()
        await placed.hang_up()


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    with started(tmp_path_factory.mktemp("whole") / "data") as running:
        yield running


def recorded(box: EmbeddedBox, number: int) -> dict[str, Any]:
    def find() -> dict[str, Any] | None:
        for one in kit.recordings(box):
            if any(f"07700900{number:03}" in party["address"] for party in one["parties"]):
                return one
        return None

    return dict(kit.until(find, "the recording is filed"))


@pytest.mark.parametrize(
    ("number", "transport", "srtp"),
    [
        (1, "udp", ""),
        (2, "tcp", "AES_CM_128_HMAC_SHA1_80"),
        (3, "tls", "AEAD_AES_256_GCM"),
    ],
)
def test_what_is_said_is_what_is_heard(
    box: EmbeddedBox, tmp_path: Path, number: int, transport: str, srtp: str
) -> None:
    payloads = [kit.noise(SECONDS, 2 * number), kit.noise(SECONDS, 2 * number + 1)]
    asyncio.run(call(box, number, payloads, transport, srtp))
    found = recorded(box, number)
    assert found["whole"]
    sound = kit.wav(box, found["name"], tmp_path)
    for payload, channel in zip(payloads, sound, strict=True):
        assert kit.heard_whole(channel, payload)
        assert abs(len(channel) - len(payload)) < 8000
    report = kit.cli(box, "recordings", "verify", found["name"])
    assert report["verdict"] == "VERDICT_INTACT" and report["signatureValid"]
    for format_ in ("flac", "ogg", "sealed"):
        kit.cli(
            box, "recordings", "download", found["name"], "-f", format_, "-o", str(tmp_path / f"x.{format_}")
        )


def test_delete_undelete_erase(box: EmbeddedBox, tmp_path: Path) -> None:
    payloads = [kit.noise(1, 90), kit.noise(1, 91)]
    asyncio.run(call(box, 9, payloads))
    name = recorded(box, 9)["name"]
    assert kit.cli(box, "recordings", "delete", name)["state"] == "RECORDING_STATE_DELETED"
    assert name not in [one["name"] for one in kit.recordings(box)]
    assert name in [one["name"] for one in kit.recordings(box, "--deleted")]
    assert kit.cli(box, "recordings", "undelete", name)["state"] == "RECORDING_STATE_FILED"
    assert kit.heard_whole(kit.wav(box, name, tmp_path)[0], payloads[0])

    async def twice() -> list[Any]:
        return await asyncio.gather(
            *(
                asyncio.to_thread(kit.cli, box, "recordings", "erase", name, "--yes", "--reason", "test")
                for _ in range(2)
            )
        )

    first, second = asyncio.run(twice())
    assert first["state"] == second["state"] == "RECORDING_STATE_ERASED"
    assert first["certificate"] == second["certificate"]
    said = kit.cli(box, "recordings", "download", name, "-o", str(tmp_path / "no.wav"), code=7)
    assert "[ERASED]" in said and not (tmp_path / "no.wav").exists()
    left = [path for path in box.layout.vault.rglob("*") if name.rsplit("/", 1)[-1] in path.name]
    assert all("snapshots" in path.parts for path in left), "there until the next run, and nobody can read it"
    shown = kit.cli(box, "recordings", "show", name)
    assert not shown["parties"], "who took part goes with the key"


def test_a_rebuilt_catalogue_is_the_same(box: EmbeddedBox) -> None:
    asyncio.run(call(box, 7, [kit.noise(0.5, 70), kit.noise(0.5, 71)]))
    recorded(box, 7)
    before = {
        one["name"]: (one["parties"], one.get("duration"), one["state"])
        for one in kit.recordings(box, "--deleted")
    }
    assert kit.cli(box, "box", "rebuild-catalogue")["done"]
    after = {
        one["name"]: (one["parties"], one.get("duration"), one["state"])
        for one in kit.recordings(box, "--deleted")
    }
    assert after == before


def test_a_flipped_byte_is_found_and_named(box: EmbeddedBox, tmp_path: Path) -> None:
    asyncio.run(call(box, 8, [kit.noise(1, 80), kit.noise(1, 81)]))
    name = recorded(box, 8)["name"]
    (path,) = [found for found in box.layout.vault.rglob("*") if name.rsplit("/", 1)[-1] in found.name]
    whole = path.read_bytes()
    spoiled = bytearray(whole)
    spoiled[len(whole) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(spoiled))
    try:
        said = kit.cli(box, "recordings", "verify", name, code=6)
        assert "NOT intact" in said and "at byte" in said
    finally:
        path.write_bytes(whole)
    assert kit.cli(box, "recordings", "verify", name)["verdict"] == "VERDICT_INTACT"


def test_bad_input_is_said_in_one_line_with_its_field(box: EmbeddedBox) -> None:
    assert "filter" in kit.cli(box, "recordings", "list", "--filter", "colour = 3", code=2)
    assert "NAME_INVALID" in kit.cli(box, "recordings", "show", "nonsense", code=2)
    assert kit.cli(box, "recordings", "show", "a" * 25 + "a", code=3).count("\n") <= 2


def test_a_second_server_on_the_same_data_is_refused(box: EmbeddedBox) -> None:
    with pytest.raises(BoxError, match="DATA_DIRECTORY_IN_USE"), started(box.data):
        pass


def test_a_port_already_taken_is_named(box: EmbeddedBox, tmp_path: Path) -> None:
    _, port = box.sip("tcp")
    options = ("--sip-port", str(port), "--sips-port", "0", "--api-port", "0")
    with pytest.raises(BoxError, match=str(port)), started(tmp_path / "other", *options, ports=False):
        pass
    api = box.addresses["api"].rsplit(":", 1)[1]
    options = ("--sip-port", "0", "--sips-port", "0", "--api-port", api)
    with (
        pytest.raises(BoxError, match=api),
        started(tmp_path / "third", *options, ports=False),
    ):
        pass


def test_a_stranger_with_a_certificate_of_another_authority(box: EmbeddedBox, tmp_path: Path) -> None:
    with started(tmp_path / "stranger") as other:
        shutil.copytree(other.layout.pki, tmp_path / "pki")
    stranger = tmp_path / "pki" / "clients" / "admin"
    connection = Connection(
        box.data, box.addresses["api"], None, stranger.with_suffix(".crt"), stranger.with_suffix(".key")
    )
    with connection.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        box_pb2_grpc.BoxServiceStub(channel).GetBoxStatus(box_pb2.GetBoxStatusRequest(), timeout=10)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)
