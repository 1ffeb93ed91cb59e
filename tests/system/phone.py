"""A real telephone: one baresip process, told what to do over its control socket (netstrings of JSON).

It calls and is called directly, without a registrar. What it plays is a WAV file that may be changed during the call; what
it hears is what baresip itself decoded (its `sndfile` filter). Every SIP message it sent and took is in `messages`, also
where it travelled over TLS.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import speech

from appliance.access.certificates import Pair

MODULES = ("account", "g711", "g722", "opus", "sndfile", "aufile", "aubridge", "srtp", "menu", "ctrl_tcp")
READY_S = 15.0
PATIENCE_S = 15.0
SILENCE_S = 180.0  # behind what is said: baresip ends a call whose file is at its end
KEY_GAP_S = 0.25
WAV_HEADER = 44  # of a file that is still being written the sizes are not true yet
MEDIA_PORTS = range(41000, 49000, 100)  # outside the box's range


@dataclass(frozen=True)
class Message:
    """One SIP message of the phone's trace."""

    transport: str
    sent: bool
    first: str
    headers: dict[str, str]  # by lower-case name; of a repeated one the first
    body: str

    @property
    def media_port(self) -> int:
        """The port of the first media line of its SDP; 0 without one."""
        found = re.search(r"^m=audio (\d+) ", self.body, re.M)
        return int(found[1]) if found else 0

    @property
    def crypto(self) -> tuple[str, str] | None:
        """Suite and key (base64) of the first crypto attribute of its SDP (RFC 4568)."""
        found = re.search(r"^a=crypto:\d+ (\S+) inline:([A-Za-z0-9+/=]+)", self.body, re.M)
        return (found[1], found[2]) if found else None


class PhoneError(AssertionError):
    """The phone did not do, or did not tell, what was waited for; the message holds what it logged last."""


class Phone:
    """A phone of the name `name`; at `uri`. Use it as a context manager."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        transport: str = "udp",
        srtp: bool = False,
        codecs: Sequence[str] = ("pcma",),
        certificate: Pair | None = None,
        authority: bytes = b"",
        answer: str = "manual",
        says: np.ndarray | None = None,
    ) -> None:
        assert transport != "tls" or certificate is not None, "a phone with TLS has a certificate"
        self.name = name
        self._folder = folder / f"phone-{name}"
        self._heard = self._folder / "heard"
        self._heard.mkdir(parents=True)
        self._port, self._control_port = _free_ports(transport)
        host = f"127.0.0.1:{self._port + (transport == 'tls')}"
        self._parameters = "" if transport == "udp" else f";transport={transport}"
        self.uri = f"sip:{name}@{host}{self._parameters}"
        self._says = 0
        account = f"<sip:{name}@127.0.0.1{self._parameters}>;regint=0;answermode={answer}"
        account += f";audio_codecs={','.join(codecs)}" + (";mediaenc=srtp-mand" if srtp else "")
        (self._folder / "accounts").write_text(account + "\n")
        (self._folder / "contacts").write_text("")
        if certificate is not None:
            (self._folder / "phone.pem").write_bytes(certificate.certificate_pem + certificate.key_pem)
            (self._folder / "trusted.pem").write_bytes(authority)
        source = self._sound(speech.speech("payment-agent", 0, 0) if says is None else says)
        (self._folder / "config").write_text(self._config(source, certificate is not None))
        self._log = self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._unread = b""
        self._events: list[dict[str, Any]] = []
        self._answers: dict[str, dict[str, Any]] = {}
        self._asked = 0

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["baresip", "-4", "-s", "-f", str(self._folder)],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + READY_S
        while self._control is None:
            try:
                self._control = socket.create_connection(("127.0.0.1", self._control_port), 1)
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    raise self._error("baresip does not come up") from None
                time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)

    # What a hand does

    def dial(self, uri: str) -> None:
        """Calls; the phone has one more call then, and that is the current one."""
        self.command("dial", uri.removesuffix(self._parameters))  # baresip puts the account's own behind it

    def answer(self) -> None:
        """Waits until it rings and picks up."""
        self.wait("CALL_INCOMING")
        self.command("accept")
        self.wait("CALL_ESTABLISHED")

    def hangup(self) -> None:
        """Ends the current call, or turns one down that rings."""
        self.command("hangup")

    def hold(self) -> None:
        """Puts the current call on hold."""
        self.command("hold")

    def resume(self) -> None:
        """Takes the current call off hold."""
        self.command("resume")

    def use(self, line: int) -> None:
        """Makes the call of this line (counted from 1, in the order they came) the current one."""
        self.command("line", str(line))

    def send_digits(self, digits: str) -> None:
        """Presses keys, one after the other, as telephone-events (RFC 4733)."""
        for digit in digits:
            self.command("sndcode", digit)
            time.sleep(KEY_GAP_S)

    def transfer(self, uri: str) -> None:
        """Blind transfer of the current call: REFER to `uri`."""
        self.command("transfer", uri)

    def transfer_attended(self, uri: str, consulted: str) -> None:
        """Attended transfer of the current call: REFER to `uri`, whose call with us, `consulted`, it replaces (RFC 3891).

        `consulted` is the Call-ID of the other call of this phone.
        """
        ours, theirs = self.tags(consulted)
        replaces = f"{consulted}%3Bto-tag%3D{theirs}%3Bfrom-tag%3D{ours}".replace("@", "%40")
        self.command("transfer", f"<{uri}?Replaces={replaces}>")

    def say(self, samples: np.ndarray) -> None:
        """From now on it says this, once, in all of its calls, and is silent then."""
        self.command("ausrc", f"aufile,{self._sound(samples)}")

    # What can be seen of it

    def wait(self, kind: str, timeout_s: float = PATIENCE_S, **fields: str) -> dict[str, Any]:
        """The next event of a kind (such as CALL_ESTABLISHED) whose fields have these values; forgets earlier ones."""
        deadline = time.monotonic() + timeout_s
        while True:
            while self._events:
                event = self._events.pop(0)
                if event["type"] == kind and all(event.get(name) == value for name, value in fields.items()):
                    return event
            if not self._read(deadline):
                raise self._error(f"no {kind} {fields or ''} within {timeout_s:.0f} s")

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Events of a kind that came and were not yet waited for; forgets none."""
        while self._read(time.monotonic() + 0.05):
            pass
        return [event for event in self._events if event["type"] == kind]

    def command(self, name: str, parameter: str = "") -> str:
        """Any command of baresip's menu, by its long name; gives what it says. PhoneError where it fails."""
        assert self._control is not None
        self._asked += 1
        token = str(self._asked)
        order = {"command": name, "token": token} | ({"params": parameter} if parameter else {})
        text = json.dumps(order).encode()
        self._control.settimeout(PATIENCE_S)
        self._control.sendall(b"%d:%s," % (len(text), text))
        deadline = time.monotonic() + PATIENCE_S
        while token not in self._answers:
            if not self._read(deadline):
                raise self._error(f"no answer to {name}")
        answer = self._answers.pop(token)
        if not answer["ok"]:
            raise self._error(f"{name} {parameter}: {answer['data']}")
        return str(answer["data"])

    def heard(self) -> np.ndarray:
        """What it decoded in all its calls so far, one after the other: 16-bit samples at 8 kHz.

        Time in which nothing came does not count. baresip 1.0 stops writing when its side of a call is renegotiated (hold):
        what is heard after that is for `wire.heard`.
        """
        files = sorted(self._heard.glob("*-dec.wav"), key=lambda path: path.stat().st_mtime_ns)
        parts = []
        for path in files:
            data = path.read_bytes()[WAV_HEADER:]
            parts.append(np.frombuffer(data[: len(data) // 2 * 2], "<i2"))
        return np.concatenate(parts) if parts else np.zeros(0, np.int16)

    @property
    def messages(self) -> list[Message]:
        """Its SIP messages so far, in order."""
        return list(_messages(self._log.read_text("utf-8", "replace"), self._own_addresses()))

    def wait_message(
        self, first: str, timeout_s: float = PATIENCE_S, *, sent: bool = False, body: str = ""
    ) -> Message:
        """The first SIP message, taken or `sent`, whose first line begins so and whose body holds `body`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for message in self.messages:
                if message.sent is sent and message.first.startswith(first) and body in message.body:
                    return message
            time.sleep(0.1)
        raise self._error(f"no {first!r} within {timeout_s:.0f} s")

    @property
    def undecrypted(self) -> int:
        """How many SRTP packets it could not decrypt."""
        return self.log().count("failed to decrypt RTP packet")

    def tags(self, call_id: str) -> tuple[str, str]:
        """Our tag and theirs of a call that is up."""
        for message in self.messages:
            if message.headers.get("call-id") == call_id and message.first.startswith("SIP/2.0 2"):
                sender, receiver = (_tag(message.headers[name]) for name in ("from", "to"))
                return (receiver, sender) if message.sent else (sender, receiver)
        raise self._error(f"no answered call {call_id}")

    def log(self) -> str:
        """All that baresip printed."""
        return self._log.read_text("utf-8", "replace")

    # Within

    def _own_addresses(self) -> set[str]:
        return {f"127.0.0.1:{self._port}", f"127.0.0.1:{self._port + 1}"}

    def _error(self, what: str) -> PhoneError:
        return PhoneError(f"{self.name}: {what}\n{self.log()[-3000:]}")

    def _sound(self, samples: np.ndarray) -> str:
        """A file for baresip to play, by its short name: long paths are cut there."""
        self._says += 1
        return speech.write_wav(self._folder / f"says-{self._says}.wav", samples, SILENCE_S).name

    def _config(self, source: str, tls: bool) -> str:
        here = Path("/usr/lib/baresip/modules")
        modules = here if here.is_dir() else next(Path("/usr/lib").glob("*/baresip/modules"))
        low = random.choice(MEDIA_PORTS)
        lines = [
            "net_interface 127.0.0.1",
            f"sip_listen 127.0.0.1:{self._port}",
            *(
                [f"sip_certificate {self._folder}/phone.pem", f"sip_cafile {self._folder}/trusted.pem"]
                if tls
                else []
            ),
            f"audio_player aubridge,{self.name}",
            f"audio_source aufile,{source}",
            "audio_alert aubridge,alert",
            f"audio_path {self._folder}",  # no ring tones
            *(f"{side}_{what}" for side in ("ausrc", "auplay") for what in ("srate 8000", "channels 1")),
            "jitter_buffer_delay 0-0",
            f"rtp_ports {low}-{low + 98}",
            "call_max_calls 4",
            "statmode_default off",
            f"ctrl_tcp_listen 127.0.0.1:{self._control_port}",
            f"snd_path {self._heard}",
            f"module_path {modules}",
        ]
        for name in MODULES:
            if (modules / f"{name}.so").exists():
                kind = {"account": "module_tmp", "menu": "module_app", "ctrl_tcp": "module_app"}.get(
                    name, "module"
                )
                lines.append(f"{kind} {name}.so")
        return "\n".join(lines) + "\n"

    def _read(self, deadline: float) -> bool:
        """Takes in what it tells; False where nothing came until the deadline."""
        assert self._control is not None
        self._control.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            data = self._control.recv(65536)
        except TimeoutError:
            return False
        if not data:
            raise self._error("baresip ended")
        self._unread += data
        while True:
            head, colon, rest = self._unread.partition(b":")
            if not colon or len(rest) <= int(head):
                return True
            told = json.loads(rest[: int(head)])
            self._unread = rest[int(head) + 1 :]
            if told.get("event"):
                self._events.append(told)
            else:
                self._answers[told.get("token", "")] = told


@contextlib.contextmanager
def phones(*made: Phone) -> Iterator[None]:
    """Switches phones on, and all of them off again."""
    with contextlib.ExitStack() as stack:
        for phone in made:
            stack.enter_context(phone)
        yield


def present() -> bool:
    """Is baresip installed?"""
    return shutil.which("baresip") is not None


def _tag(header: str) -> str:
    found = re.search(r";tag=([^;\s]+)", header)
    return found[1] if found else ""


def _messages(log: str, own: set[str]) -> Iterator[Message]:
    """From the trace: `UDP source -> destination`, the message, and a reset of the colour after it.

    Whose a request is says its top Via (RFC 3261 section 18.1.1); a response goes the other way. Addresses do not tell:
    connections have ports of their own.
    """
    pattern = re.compile(r"^(UDP|TCP|TLS) \S+ -> \S+\r?\n(.*?)\x1b\[;m", re.M | re.S)
    for transport, text in pattern.findall(log):
        head, _, body = text.replace("\r\n", "\n").partition("\n\n")
        first, *lines = head.split("\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name.strip().lower(), value.strip())
        via = re.match(r"SIP/2\.0/\S+ ([^;\s]+)", headers.get("via", ""))
        asked_by_us = via is not None and via[1] in own
        yield Message(transport.lower(), asked_by_us != first.startswith("SIP/2.0 "), first, headers, body)


def _free_ports(transport: str) -> tuple[int, int]:
    """A port for SIP that has a free neighbour for TLS, and one for the control socket."""
    for _ in range(200):
        port = random.randrange(34000, 40000, 2)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                for offset in (0, 1):
                    stack.enter_context(socket.socket(socket.AF_INET, kind)).bind(
                        ("127.0.0.1", port + offset)
                    )
            control = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            control.bind(("127.0.0.1", 0))
            return port, int(control.getsockname()[1])
    raise AssertionError("no free ports")
