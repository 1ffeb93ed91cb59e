"""Posts messages over HTTPS: bounded in time, redirects not followed, answers read to a kibibyte."""

from __future__ import annotations

import time
from typing import Final

import aiohttp
from yarl import URL

from appliance.alarms import dial
from appliance.alarms.channel import Webhook
from appliance.alarms.errors import MAX_REPLY, DeliveryError, cleaned
from appliance.alarms.message import Message
from appliance.alarms.payload import document, signed_headers
from appliance.audit.forward import failure_word

SEND_S: Final = 30.0
_PER_MESSAGE: Final = frozenset({400, 413, 422})  # what one message may be to blame for


async def send(settings: Webhook, secret: str, message: Message, *, inward: bool = True) -> str:
    """Gives what the far end said. `inward`: see `dial`. DeliveryError."""
    address = URL(settings.url)
    if not inward:
        dial.check_literal(address.host or "")
    body = document(message)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "earwitness",
        "Accept-Encoding": "identity",
        **signed_headers(message.id, int(time.time()), body, secret),
    }
    try:
        async with (
            _session(settings, inward=inward) as session,
            session.post(address, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            said = f"{answer.status} {cleaned(answer.reason or '')[:100]}\n" + await _read(answer)
            if not 200 <= answer.status < 300:
                raise DeliveryError(f"status-{answer.status}", said, of_message=answer.status in _PER_MESSAGE)
            return cleaned(said)
    except TimeoutError as error:
        raise DeliveryError("no-answer") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise DeliveryError(_why(error)) from error


def _session(settings: Webhook, *, inward: bool) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            ssl=dial.tls(settings.ca), limit=1, force_close=True, resolver=dial.Resolver(inward=inward)
        ),
        timeout=aiohttp.ClientTimeout(total=SEND_S),
        trust_env=False,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def _read(answer: aiohttp.ClientResponse) -> str:
    said = bytearray()
    while len(said) < MAX_REPLY and (part := await answer.content.read(MAX_REPLY - len(said))):
        said += part
    return said.decode("utf-8", "replace")


def _why(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "certificate-not-trusted"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "tls-failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return failure_word(error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "closed"
    return failure_word(error)
