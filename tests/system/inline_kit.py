"""A tenant with an inline line on a served box, its phones, and what is to be seen of a call of it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import sound
import speech
import wire
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import duration_pb2
from phone import Phone

from appliance.access import certificates
from appliance.access.certificates import Pair
from appliance.cli.demonstration.embedded import EmbeddedBox
from earwitness.client import Client
from earwitness.v1 import calls_pb2, prompts_pb2, recordings_pb2, tenants_pb2

PATIENCE_S = 20.0
NOWHERE = "sip:127.0.0.1:9"
_NUMBERS = itertools.count(5550200)

ANNOUNCEMENT = speech.speech("prescription-agent", 7.0, 10.0)
WHISPER = speech.speech("payment-caller", 10.0, 12.0)


@dataclass
class Office:
    """A tenant of the box."""

    box: EmbeddedBox
    client: Client
    folder: Path
    tenant: str
    prompts: dict[str, str] = field(default_factory=dict)

    def prompt(self, words: np.ndarray, name: str) -> str:
        """The resource name of a prompt that says these words; made once."""
        if name not in self.prompts:
            file = speech.write_wav(self.folder / f"{name}.wav", words)
            request = prompts_pb2.CreatePromptRequest(
                parent=self.tenant,
                prompt=prompts_pb2.Prompt(
                    display_name=name, language="en-GB", text=f"The {name}.", purposes=["quality"]
                ),
                audio=file.read_bytes(),
            )
            self.prompts[name] = self.client.prompts.CreatePrompt(iter([request]), timeout=30).prompt.name
        return self.prompts[name]

    def line(
        self,
        *,
        inbound: Sequence[str] = (),
        outbound: Sequence[str] = (),
        srtp: bool = False,
        announced: bool = False,
        whispered: bool = False,
        after_answer: bool = False,
        rights: int = tenants_pb2.RIGHTS_END,
        ring_s: int = 20,
    ) -> str:
        """A line with a number of its own; gives the number. `srtp`: to its inbound targets.

        Calls go out from where calls go in only: a line without inbound targets has one on this host, which nobody takes.
        """
        number = str(next(_NUMBERS))
        rules = tenants_pb2.InlineRules(
            inbound=[tenants_pb2.Target(uri=uri, srtp=srtp) for uri in inbound or [NOWHERE]],
            outbound=[tenants_pb2.Target(uri=uri) for uri in outbound],
            ring_time=duration_pb2.Duration(seconds=ring_s),
        )
        if announced:
            rules.announcement.prompts.append(self.prompt(ANNOUNCEMENT, "announcement"))
            if after_answer:
                rules.announcement.when = tenants_pb2.ANNOUNCE_WHEN_AFTER_ANSWER
        if whispered:
            rules.whisper = self.prompt(WHISPER, "whisper")
        line = tenants_pb2.Line(display_name=f"Line {number}", numbers=[number], inline=rules, rights=rights)
        self.client.tenants.CreateLine(
            tenants_pb2.CreateLineRequest(parent=self.tenant, line=line), timeout=30
        )
        return number

    def phone(self, name: str, *, tls: bool = False) -> Phone:
        """A phone that is not switched on yet; with TLS and SRTP, on a certificate of the box's own authority."""
        if not tls:
            return Phone(self.folder, name)
        authority = _authority(self.box)
        return Phone(
            self.folder,
            name,
            transport="tls",
            srtp=True,
            certificate=certificates.make_server(authority, name, ["127.0.0.1"], datetime.now(UTC)),
            authority=authority.certificate_pem,
        )

    def number_at_box(self, number: str, transport: str = "udp") -> str:
        """The URI of a number behind the box."""
        host, port = self.box.sip(transport)
        return f"sip:{number}@{host}:{port}" + ("" if transport == "udp" else f";transport={transport}")

    def calls(self) -> list[calls_pb2.Call]:
        """Live calls of the tenant."""
        request = calls_pb2.ListCallsRequest(parent=self.tenant)
        return list(self.client.calls.ListCalls(request, timeout=10).calls)

    def wait_state(self, state: int) -> calls_pb2.Call:
        """The tenant's one call, once it is in this state."""
        deadline = time.monotonic() + PATIENCE_S
        found: list[calls_pb2.Call] = []
        while time.monotonic() < deadline:
            found = self.calls()
            if len(found) == 1 and found[0].state == state:
                return found[0]
            time.sleep(0.1)
        wanted = calls_pb2.CallState.Name(state)
        raise AssertionError(f"no call became {wanted}: {found}")

    def wait_over(self) -> None:
        """Until the tenant has no live call."""
        deadline = time.monotonic() + PATIENCE_S
        while self.calls():
            assert time.monotonic() < deadline, f"a call stays: {self.calls()}"
            time.sleep(0.1)

    def recording(self) -> tuple[recordings_pb2.Recording, np.ndarray]:
        """The tenant's one recording, once it is filed, and its channels: caller left, agent right."""
        (found,) = self.recordings_with_sound(1)
        return found

    def recordings_with_sound(self, count: int) -> list[tuple[recordings_pb2.Recording, np.ndarray]]:
        """As `recording`, where there are `count`."""
        deadline = time.monotonic() + PATIENCE_S
        request = recordings_pb2.ListRecordingsRequest(parent=self.tenant)
        while True:
            found = self.client.recordings.ListRecordings(request, timeout=10).recordings
            if len(found) >= count:
                break
            assert time.monotonic() < deadline, f"{len(found)} of {count} recordings were filed in time"
            time.sleep(0.2)
        assert len(found) == count, [one.name for one in found]
        return [(self.shown(one.name), self._sound_of(one.name)) for one in found]

    def shown(self, name: str) -> recordings_pb2.Recording:
        """A recording with all that is known of it."""
        request = recordings_pb2.GetRecordingRequest(name=name)
        return self.client.recordings.GetRecording(request, timeout=10).recording

    def _sound_of(self, name: str) -> np.ndarray:
        request = recordings_pb2.DownloadRecordingRequest(
            name=name, format=recordings_pb2.DOWNLOAD_FORMAT_WAV, purpose="quality"
        )
        file = self.folder / "recording.wav"
        with file.open("wb") as out:
            for item in self.client.recordings.DownloadRecording(request, timeout=60):
                out.write(item.chunk.data)
        return speech.read_wav(file)


def kinds(recording: recordings_pb2.Recording) -> list[str]:
    """The kinds of its marks, in order."""
    names = [recordings_pb2.MarkKind.Name(mark.kind) for mark in recording.marks]
    return [name.removeprefix("MARK_KIND_") for name in names]


def on(words: np.ndarray, channels: np.ndarray) -> list[int]:
    """Numbers of the channels these words are on."""
    return [at for at, channel in enumerate(channels) if sound.said(words, channel)]


def to_phone(pcap: Path, phone: Phone, start: float, end: float) -> tuple[np.ndarray, wire.Heard]:
    """What the phone was sent in its first call: as sound, and as packets. AssertionError where it could not decrypt it."""
    assert not phone.undecrypted, f"{phone.name} could not decrypt {phone.undecrypted} packets"
    messages = [message for message in phone.messages if message.media_port]
    own = next(message for message in messages if message.sent)
    call = own.headers["call-id"]
    theirs = [message for message in messages if not message.sent and message.headers["call-id"] == call]
    keys = dict.fromkeys(message.crypto for message in theirs if message.crypto is not None)
    came = wire.heard(pcap, own.media_port, *keys)
    return came.sound(start, end), came


def offices(box: EmbeddedBox, folder: Path) -> Iterator[Office]:
    """A new tenant, for as long as a test runs; asserts that no call of it is left."""
    with Client(box.connection.channel()) as client:
        made = client.tenants.CreateTenant(
            tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="Office")), timeout=30
        )
        office = Office(box, client, folder, made.tenant.name)
        yield office
        office.wait_over()


def _authority(box: EmbeddedBox) -> Pair:
    pki = box.layout.pki
    key = serialization.load_pem_private_key((pki / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Pair(x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes()), key)
