"""Sends mail: one connection a mail, bounded in time, never in the clear where TLS was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import aiosmtplib

from appliance.alarms import dial
from appliance.alarms.channel import PORTS, Security, Smtp
from appliance.alarms.errors import DeliveryError, cleaned
from appliance.alarms.mail import envelope, is_address, mail
from appliance.alarms.message import Message
from appliance.audit.forward import failure_word

SEND_S: Final = 30.0


async def send(
    settings: Smtp,
    password: str,
    messages: Sequence[Message],
    recipients: Sequence[str] = (),
    *,
    inward: bool = True,
) -> str:
    """Gives what the server said. `recipients`: only these; `inward`: see `dial`. DeliveryError."""
    wanted = [one for one in (recipients or settings.to) if one in settings.to]
    if not wanted:
        return "nobody is left to tell"  # who was refused is no recipient any more
    return await deliver(
        settings, password, wanted, mail(messages, settings), messages[0].box_name, inward=inward
    )


async def deliver(
    settings: Smtp, password: str, recipients: Sequence[str], content: bytes, box_name: str, *, inward: bool
) -> str:
    """One mail, as it is, to these; gives what the server said. DeliveryError."""
    sender, *to = envelope(settings.sender, *recipients)
    wanted = dict(zip(to, recipients, strict=True))
    if not all(map(is_address, (sender, *wanted))):  # in ASCII a domain may be none, or another
        raise DeliveryError("address-unusable", of_message=is_address(sender))
    context = dial.tls(settings.ca) if settings.security is not Security.NONE else None
    client = aiosmtplib.SMTP(
        hostname=settings.host,
        use_tls=settings.security is Security.TLS,
        start_tls=settings.security is Security.STARTTLS,
        tls_context=context,
        username=settings.username or None,
        password=password if settings.username else None,
        local_hostname=box_name if box_name.isascii() else "earwitness",
        timeout=SEND_S,
    )
    options = [] if all(map(str.isascii, (sender, *wanted))) else ["SMTPUTF8", "BODY=8BITMIME"]
    begun = False
    try:
        async with asyncio.timeout(SEND_S):
            port = settings.port or PORTS[settings.security]
            connection = await dial.connected(settings.host, port, inward=inward)
            await client.connect(port=None, sock=connection)  # which it closes from here on
            begun = True
            refused, reply = await client.sendmail(sender, list(wanted), content, mail_options=options)
            client.close()  # what follows the answer to the data says nothing more
    except TimeoutError as error:
        raise DeliveryError("no-answer", in_doubt=begun) from error
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        raise _told(error, sender, wanted, begun) from error
    finally:
        client.close()
    if refused:
        code, said = next(iter(refused.values()))
        raise DeliveryError(
            f"smtp-{code}", said, of_message=True, refused=tuple(wanted[one] for one in refused)
        )
    return cleaned(reply)


def _told(error: Exception, sender: str, wanted: dict[str, str], begun: bool) -> DeliveryError:
    """`begun`: the mail was on its way. An answer of the server leaves no doubt, a connection that is lost does."""
    match error:
        case aiosmtplib.SMTPRecipientsRefused():
            first = error.recipients[0]
            return DeliveryError(
                f"smtp-{first.code}",
                first.message,
                of_message=True,
                refused=tuple(wanted.get(one.recipient, one.recipient) for one in error.recipients),
            )
        case aiosmtplib.SMTPAuthenticationError():
            return DeliveryError("sign-in-refused", f"{error.code} {error.message}")
        case aiosmtplib.SMTPNotSupported():
            # SMTPUTF8. Where the sender needs it nobody gets mail, else who has an address of another script.
            return DeliveryError("not-supported", error.message, of_message=sender.isascii())
        case aiosmtplib.SMTPResponseException():
            # Of the connection, the sender or the data: only the last may be this message's own.
            return DeliveryError(
                f"smtp-{error.code}", error.message, of_message=isinstance(error, aiosmtplib.SMTPDataError)
            )
        case aiosmtplib.SMTPTimeoutError():
            return DeliveryError("no-answer", in_doubt=begun)
        case aiosmtplib.SMTPServerDisconnected():
            return DeliveryError(_cause(error, "closed"), in_doubt=begun)
        case aiosmtplib.SMTPException():
            return DeliveryError(_cause(error, "failed"), error.message, in_doubt=begun)
        case _:
            return DeliveryError(failure_word(error), in_doubt=begun)


def _cause(error: BaseException, otherwise: str) -> str:
    """What lies beneath, where the library has wrapped it."""
    inner = error.__cause__ or error.__context__
    return failure_word(inner) if isinstance(inner, OSError) else otherwise
