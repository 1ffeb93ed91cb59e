"""Sends messages to a collector of syslog over TLS (RFC 5425). Delivered is what the peer's system has acknowledged, on a
connection that is still up after that: syslog itself acknowledges nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from typing import Final

from appliance.alarms import dial
from appliance.alarms.channel import SYSLOG_PORT, Syslog
from appliance.alarms.errors import DeliveryError
from appliance.alarms.message import Message
from appliance.alarms.payload import syslog_frame
from appliance.audit.forward import check_alive, failure_word, unacknowledged

SEND_S: Final = 20.0
SETTLE_S: Final = 0.3  # a collector that wants another certificate says so only now (TLS 1.3)
_LOOK_S: Final = 0.02


async def send(settings: Syslog, message: Message, *, inward: bool = True) -> str:
    """Gives that it was acknowledged. `inward`: see `dial`. DeliveryError."""
    context = dial.tls(settings.ca)
    connection = await dial.connected(settings.host, settings.port or SYSLOG_PORT, inward=inward)
    return await asyncio.to_thread(_send, context, connection, settings.host, syslog_frame(message))


def _send(context: ssl.SSLContext, connection: socket.socket, host: str, frame: bytes) -> str:
    until_s = time.monotonic() + SEND_S
    with connection:
        connection.settimeout(SEND_S)
        try:
            with context.wrap_socket(connection, server_hostname=host) as secured:
                secured.sendall(frame)
                while unacknowledged(secured):
                    if time.monotonic() > until_s:
                        raise TimeoutError
                    time.sleep(_LOOK_S)
                time.sleep(SETTLE_S)
                check_alive(secured)
        except (OSError, ValueError) as error:
            raise DeliveryError(failure_word(error)) from error
    return "acknowledged"
