"""Forwards the log to a syslog collector over TLS (RFC 5425): in order, at least once, from a cursor on disk.

Syslog acknowledges nothing. What comes nearest is that the peer's system has acknowledged every byte (SIOCOUTQ is zero)
and that the connection is still up a while later; only then the cursor moves. After a broken connection everything from the
cursor on is sent again. What waits is read from the log: nothing is held but what is on its way.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
import ssl
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from appliance.audit import files, syslog
from appliance.audit.errors import EntryDamagedError
from appliance.audit.log import Log
from appliance.audit.reader import Reader
from appliance.config.settings import SyslogSettings
from appliance.process.status import WARNING, Status
from appliance.process.tls import client_context

log = structlog.get_logger()

CURSOR: Final = "syslog.json"
FAILING: Final = "AuditForwardingFailing"
BEHIND: Final = "AuditForwardingBehind"
BEHIND_COUNT: Final = 10_000
CONNECT_S: Final = 10.0
SEND_S: Final = 30.0
BATCH_BYTES: Final = 128 * 1024
ON_THE_WAY: Final = 4 << 20  # bytes that may be unacknowledged or unsettled
_BACKOFF_MOST_S: Final = 30.0


@dataclass(frozen=True)
class Progress:
    """How far forwarding is."""

    cursor: int
    connected: bool
    failure: str
    delivered_ns: int


class Forwarder:
    """A thread that sends. `progress` may be asked from any thread."""

    def __init__(
        self,
        log_: Log,
        settings: SyslogSettings,
        status: Status,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        settle_s: float = 2.0,
        retry_s: float = 1.0,
    ) -> None:
        """`settle_s`: how long a connection stays up after an acknowledgement before the cursor moves."""
        self._log = log_
        self._settings = settings
        self._status = status
        self._clock_ns = clock_ns
        self._settle_s = settle_s
        self._retry_s = retry_s
        self._path = log_.folder / CURSOR
        self._host = syslog.host_name(socket.gethostname())
        self._cursor, self._noted_checkpoint = self._read_cursor()
        self._live: ssl.SSLSocket | None = None
        self._connected = False
        self._failure = ""
        self._delivered_ns = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-syslog", daemon=True)
        self._thread.start()

    @property
    def progress(self) -> Progress:
        return Progress(self._cursor, self._connected, self._failure, self._delivered_ns)

    def close(self) -> None:
        """Stops; what was not delivered comes with the next start."""
        self._stop.set()
        live = self._live
        if live is not None:
            with contextlib.suppress(OSError):
                live.shutdown(socket.SHUT_RDWR)  # it may wait for a collector that takes nothing
        with self._log.grown:
            self._log.grown.notify_all()
        self._thread.join(2 * CONNECT_S)

    def _read_cursor(self) -> tuple[int, int]:
        try:
            found = json.loads(self._path.read_bytes())
            cursor, checkpoint, generation = (
                int(found["cursor"]), int(found["checkpoint"]), int(found["generation"]),
            )  # fmt: skip
        except FileNotFoundError:
            return 0, -1
        except (ValueError, OverflowError, KeyError, TypeError):
            log.warning("audit cursor damaged, everything is forwarded again")
            return 0, -1
        if generation != self._log.generation or not 0 <= cursor <= self._log.size:
            # The log was broken since: the collector gets all that is left, and so sees it.
            return 0, -1
        leaf = found.get("leaf")  # absent in what older releases wrote
        if cursor and leaf is not None and leaf != self._leaf(cursor):
            # A power cut took what had gone out, and others have its numbers: they have not gone out.
            return 0, -1
        return cursor, checkpoint

    def _leaf(self, cursor: int) -> str:
        """Leaf hash of the entry before the cursor, which there is."""
        return self._log.hashes.get(0, cursor - 1).hex()

    def _write_cursor(self) -> None:
        said = {
            "cursor": self._cursor, "checkpoint": self._noted_checkpoint, "generation": self._log.generation,
            "leaf": self._leaf(self._cursor) if self._cursor else None,
        }  # fmt: skip
        files.replace(self._path, json.dumps(said).encode())

    def _run(self) -> None:
        delay = self._retry_s
        while not self._stop.is_set():
            before = self._cursor
            try:
                with self._connect() as connection:
                    self._live = connection
                    self._serve(connection)
            except (OSError, EntryDamagedError) as error:
                if not self._stop.is_set():
                    self._fail(failure_word(error))
            finally:
                self._live = None
            if self._cursor > before:
                delay = self._retry_s
            self._stop.wait(delay)
            delay = min(2 * delay, _BACKOFF_MOST_S)

    def _connect(self) -> ssl.SSLSocket:
        settings = self._settings
        context = client_context(settings.ca)
        if settings.certificate is not None:
            context.load_cert_chain(str(settings.certificate), str(settings.key))
        plain = socket.create_connection((settings.host, settings.port), CONNECT_S)
        try:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SEND_S * 1000))
            connection = context.wrap_socket(plain, server_hostname=settings.host)
        except BaseException:
            plain.close()
            raise
        connection.settimeout(SEND_S)
        return connection

    def _serve(self, connection: ssl.SSLSocket) -> None:
        """Until told to stop; OSError where the connection ends."""
        reader = Reader(self._log, self._cursor)
        sent: deque[tuple[int, int, int, float]] = (
            deque()
        )  # entries before, checkpoint, bytes, when acknowledged
        checkpoint = self._noted_checkpoint
        on_the_way = 0
        self._connected, self._failure = True, ""
        self._status.clear_condition(FAILING)
        while not self._stop.is_set():
            data = b""
            if on_the_way < ON_THE_WAY:
                some = reader.take(BATCH_BYTES)
                data = b"".join(syslog.entry(one.line, one.index, self._host) for one in some)
                signed = self._log.signed
                if signed and checkpoint < signed.checkpoint.size <= reader.index:
                    data += syslog.checkpoint(signed, self._host)
                    checkpoint = signed.checkpoint.size
            if data:
                connection.sendall(data)
                sent.append((reader.index, checkpoint, len(data), float("inf")))
                on_the_way += len(data)
            on_the_way -= self._settle(connection, sent)
            self._tell_lag()
            if not data:
                self._pause(connection, reader.index, bool(sent))

    def _settle(self, connection: ssl.SSLSocket, sent: deque[tuple[int, int, int, float]]) -> int:
        """Move the cursor over what was acknowledged long enough ago; gives how many bytes that was."""
        now_s = time.monotonic()
        if sent and sent[-1][3] == float("inf") and unacknowledged(connection) == 0:
            for place, (index, checkpoint, size, at_s) in enumerate(sent):
                sent[place] = (index, checkpoint, size, min(at_s, now_s))
        settled = 0
        reached = None
        while sent and sent[0][3] + self._settle_s <= now_s:
            *reached, size, _ = sent.popleft()
            settled += size
        if reached is not None:
            check_alive(connection)  # before the cursor moves: what a dead connection took is sent again
            self._delivered_ns = self._clock_ns()
            self._cursor, self._noted_checkpoint = reached
            self._write_cursor()
        return settled

    def _pause(self, connection: ssl.SSLSocket, index: int, unsettled: bool) -> None:
        check_alive(connection)
        wait_s = min(0.2, self._settle_s / 2) if unsettled else 1.0
        with self._log.grown:
            if self._log.size <= index and not self._stop.is_set():
                self._log.grown.wait(wait_s)

    def _fail(self, reason: str) -> None:
        self._connected, self._failure = False, reason
        log.warning("audit not forwarded", reason=reason)
        self._status.raise_condition(
            FAILING,
            WARNING,
            f"The audit log cannot be forwarded to {self._settings.host}:{self._settings.port} ({reason}); it is kept, and "
            "goes out when the collector is back.",
        )
        self._tell_lag()

    def _tell_lag(self) -> None:
        lag = self._log.size - self._cursor
        self._status.gauge("audit_forwarding_lag", lag)
        if lag >= BEHIND_COUNT:
            self._status.raise_condition(
                BEHIND, WARNING, f"{lag} entries of the audit log wait for the collector of syslog."
            )
        elif lag < BEHIND_COUNT // 2:
            self._status.clear_condition(BEHIND)


def unacknowledged(connection: ssl.SSLSocket) -> int:
    """Bytes that the peer's system has not acknowledged (tcp(7), SIOCOUTQ)."""
    raw = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    return int(struct.unpack("i", raw)[0])


def check_alive(connection: ssl.SSLSocket) -> None:
    """OSError where the peer has closed. It has nothing to say; what it says is not looked at."""
    connection.settimeout(0.0)
    try:
        with contextlib.suppress(ssl.SSLWantReadError, BlockingIOError):
            if connection.recv(4096) == b"":
                raise ConnectionResetError("the collector has closed the connection")
    finally:
        connection.settimeout(SEND_S)


def failure_word(error: BaseException) -> str:
    """Why a connection failed, as a stable word."""
    match error:
        case EntryDamagedError():
            return "entry-damaged"
        case ssl.SSLCertVerificationError():
            return "certificate-not-trusted"
        case ssl.SSLError():
            return "tls-failed"
        case socket.gaierror():
            return "name-unknown"
        case TimeoutError():
            return "no-answer"
        case ConnectionRefusedError():
            return "refused"
        case ConnectionError():
            return "closed"
        case FileNotFoundError() | PermissionError():
            return "file-unreadable"
        case _:
            return "failed"
