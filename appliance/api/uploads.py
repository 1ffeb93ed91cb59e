"""What a client sends, message by message. A call of a single message is read in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc.aio
from google.protobuf.message import DecodeError

from appliance.api.errors import RequestMalformedError, UploadTooSlowError

UPLOAD_WAIT_S: Final = 20.0  # for the next message of a client, its only one too
SETTLE_S: Final = 0.05  # a call that is cancelled seems to end without a message, before gRPC says what it is


class Upload:
    """What a client sends, read as it is asked for. The first message says what the call is about."""

    def __init__(self, context: Any, read: Callable[[bytes], Any] | None) -> None:
        self._context = context
        self._read = read or (lambda raw: raw)  # gRPC has none where bytes are meant
        self._first: Any = None

    async def first(self) -> Any:
        """The first message; RequestMalformedError where there is none, UploadTooSlowError."""
        if self._first is None:
            self._first = await self._next()
            if self._first is None:
                await asyncio.sleep(SETTLE_S)
                raise RequestMalformedError("the call holds no message")
        return self._first

    async def __aiter__(self) -> AsyncIterator[Any]:
        message = await self.first()
        while message is not None:
            yield message
            message = await self._next()

    async def _next(self) -> Any:
        try:
            async with asyncio.timeout(UPLOAD_WAIT_S):
                raw = await self._context.read()
        except TimeoutError:
            raise UploadTooSlowError("the next message of the call does not come") from None
        end = raw is grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs have none of it
        return None if end else _parse(self._read, raw)


def _parse(read: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return read(raw)
    except DecodeError:
        raise RequestMalformedError("the request is not a message of its type") from None
