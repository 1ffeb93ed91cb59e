"""What every public call passes, in this order: request id, identity, rate limit, policy, audit, handler.

And what comes out of it: an error of the house becomes a rich status; anything else is a fault, of which the caller
learns nothing but that.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio
import structlog

from appliance.access import policy
from appliance.access.errors import RightsChangedError
from appliance.access.identities import Identity
from appliance.api import identitynames, names, scope
from appliance.api.concerns import Concerns
from appliance.api.entrance import Entrance
from appliance.api.errors import wire_status
from appliance.api.limits import (
    NETWORK_OPEN,
    NETWORK_SILENT,
    SILENT_OPEN,
    STRANGERS_OPEN,
    OpenCalls,
    RateLimit,
)
from appliance.api.presented import Presented
from appliance.api.uploads import Upload
from appliance.audit.errors import AuditUnavailableError
from appliance.audit.refusals import Refusals
from appliance.audit.trail import Trail
from appliance.model import EarwitnessError, Kind, is_id, new_id
from appliance.model.purpose import FORM
from appliance.process import rpc
from earwitness.v1 import access_pb2

log = structlog.get_logger()

REQUEST_ID: Final = "x-request-id"
RECHECK_S: Final = (
    5.0  # a stream asks so often whether its caller still may; a change of identities asks at once
)
_REQUEST_ID_FORM = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_UNAUDITED: Final = (
    "/grpc.",  # health and reflection: asked every few seconds, and they say nothing of calls
    "/earwitness.v1.BoxService/GetBoxStatus",  # counts and conditions; it must say that the disk is full when it is
)
_LISTS = re.compile(r".*/(List(?!en)|Watch|Get(?!Waveform))[A-Za-z]*")


@dataclass
class Call:
    """One call on its way."""

    method: str
    request_id: str
    presented: Presented
    identity: Identity | None = None
    subject: str = ""
    tenant_id: str = ""  # whom it concerns
    purpose: str = ""
    grant: str = ""  # name of the support grant by which it is allowed
    started_s: float = field(default_factory=time.monotonic)
    write_down: Callable[..., Awaitable[None]] | None = None
    watch: Callable[[Coroutine[Any, Any, EarwitnessError]], None] | None = None  # of a stream


_current: contextvars.ContextVar[Call] = contextvars.ContextVar("call")


def current() -> Call:
    """The call under way, within a handler."""
    return _current.get()


def concern(tenant_id: str) -> None:
    """The call under way turned out to concern this tenant: its last entry in the audit log says so."""
    _current.get().tenant_id = tenant_id


def allowed_by(grant: str) -> None:
    """The call under way is allowed by this support grant: its last entry in the audit log says so."""
    _current.get().grant = grant


def ends_with(error: Coroutine[Any, Any, EarwitnessError]) -> None:
    """The stream under way ends with the error that this gives, once it gives one, even where its caller takes nothing."""
    watch = _current.get().watch
    assert watch is not None, "no stream"
    watch(error)


async def write_down(what: str, **more: object) -> None:
    """An entry of the call under way in the audit log, on disk before this returns. AuditUnavailableError."""
    call = _current.get()
    assert call.write_down is not None
    await call.write_down(call, what, durable=True, **more)


class Gate(grpc.aio.ServerInterceptor):
    """The interceptor of the public server."""

    def __init__(
        self, entrance: Entrance, trail: Trail, limit: RateLimit, concerns: Concerns, refusals: Refusals
    ) -> None:
        self._entrance = entrance
        self._trail = trail
        self._limit = limit
        self._open = OpenCalls()
        self._strangers, self._networks = OpenCalls(STRANGERS_OPEN), OpenCalls(NETWORK_OPEN)
        self._silent, self._silent_networks = OpenCalls(SILENT_OPEN), OpenCalls(NETWORK_SILENT)
        self._concerns = concerns
        self._refusals = refusals

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler  # no such method: gRPC says so
        method = str(handler_call_details.method)
        many, gives = handler.request_streaming, "stream" if handler.response_streaming else "unary"
        inner = getattr(handler, f"{'stream' if many else 'unary'}_{gives}")
        read = handler.request_deserializer

        async def pass_unary(_: Any, context: Any) -> Any:
            upload = Upload(context, read)

            def handle(first: Any) -> Awaitable[Any]:
                return inner(upload if many else first, context)

            return await self._pass(method, upload, context, handle)

        async def pass_stream(messages: Any, context: Any) -> None:
            def handle(first: Any) -> Awaitable[None]:
                return self._stream(inner, messages if many else first, context)

            await self._pass(method, None if many else Upload(context, read), context, handle)

        # Each is a stream of messages to gRPC, which is the same on the wire. Of a single message it would wait for the
        # whole of it, however long that takes, before it says here that there is a call.
        make = getattr(grpc, f"stream_{gives}_rpc_method_handler")
        return make(
            pass_stream if handler.response_streaming else pass_unary,
            # What a request holds is looked at once it is known who sent it.
            request_deserializer=read if many and handler.response_streaming else None,
            response_serializer=handler.response_serializer,
        )

    async def _pass(
        self,
        method: str,
        upload: Upload | None,
        context: Any,
        handle: Callable[[Any], Awaitable[Any]],
    ) -> Any:
        call = Call(method, _request_id(context), Presented.of(context), write_down=self._audit)
        _current.set(call)
        context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
        audited = not method.startswith(_UNAUDITED)
        admitted = counted = False
        outcome = "OK"
        try:
            call.identity = await self._entrance.identify(call.presented, method, call.started_s)
            if call.identity is not None:
                scope.enter(call.identity)
                self._limit.take(call.identity.name, call.started_s)
                self._open.begin(call.identity.name)
                counted = True
            message = await self._first(upload, call) if upload is not None else None
            _describe(call, message)
            if call.identity is None:
                # A stranger may type anything for a name, a passphrase too; and fills the audit no faster than refusals do.
                call.subject = await self._entrance.known_subject(call.subject)
                call.tenant_id = await self._concerns.tenant_of(call.subject, None)
                answer = await handle(message)
                admitted = True
                return answer
            policy.check(call.identity, method)
            if audited:
                call.tenant_id = await self._concerns.tenant_of(call.subject, call.identity)
                await self._audit(call, "asked", durable=not _LISTS.fullmatch(method))
            admitted = True
            return await handle(message)
        except EarwitnessError as error:
            outcome = error.reason
            log.info("call refused", method=method, request=call.request_id, reason=error.reason)
            await _abort(context, wire_status(error), call)
        except (asyncio.CancelledError, grpc.aio.AbortError):
            outcome = "CANCELLED"
            raise
        except Exception as error:  # noqa: BLE001 - the last resort of a server
            outcome = "INTERNAL"
            _fault(call, error)
            await _abort(context, rpc.grpc_status(rpc.unexpected()), call)
        finally:
            if counted and call.identity is not None:
                self._open.end(call.identity.name)
            if audited and (admitted or outcome != "CANCELLED"):
                await self._conclude(call, outcome, admitted)

    async def _first(self, upload: Upload, call: Call) -> Any:
        if call.identity is not None:
            return await upload.first()
        with self._silent_networks.held(call.presented.network), self._silent.held(""):
            return await upload.first()

    async def _stream(self, inner: Any, request: Any, context: Any) -> None:
        if _current.get().identity is not None:
            await self._answers(inner, request, context)
            return
        # Calls of strangers are seldom and short; streams that they leave open would come to be all there may be.
        with self._networks.held(_current.get().presented.network), self._strangers.held(""):
            await self._answers(inner, request, context)

    async def _answers(self, inner: Any, request: Any, context: Any) -> None:
        answer = inner(request, context)
        if inspect.isawaitable(answer):  # writes by itself, as the health service does
            await answer
            return
        items: AsyncIterator[Any] = answer
        async with self._watched():
            try:
                async for item in items:
                    await context.write(item)
            finally:
                await items.aclose()  # type: ignore[attr-defined]

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """Ends what is within, with the error of it, when its caller may call it no more."""
        call, task, found = _current.get(), asyncio.current_task(), list[BaseException]()
        watchers: list[asyncio.Task[Any]] = []

        def end(error: BaseException) -> None:
            if call.watch is not None and not found and task is not None:
                found.append(error)
                task.cancel()

        def told(asked: asyncio.Task[EarwitnessError]) -> None:
            if not asked.cancelled():
                end(asked.exception() or asked.result())

        def until(error: Coroutine[Any, Any, EarwitnessError]) -> None:
            watchers.append(asyncio.create_task(error))
            watchers[-1].add_done_callback(told)

        async def watch() -> None:
            changed = self._entrance.roll.changed
            while not found:
                await changed.wait(changed.number, RECHECK_S)
                try:
                    identity = await self._entrance.identify(
                        call.presented, call.method, time.monotonic(), notes=False
                    )
                    if identity is not None:
                        policy.check(identity, call.method)
                    if identity != call.identity:
                        # What the stream shows was chosen for who the caller was when it began.
                        raise RightsChangedError("what you may see has changed: begin the stream anew")
                except EarwitnessError as error:
                    if error.kind is not Kind.UNAVAILABLE:  # nobody can say now: it is asked again
                        end(error)

        watchers.append(asyncio.create_task(watch()))
        call.watch = until
        try:
            yield
        except asyncio.CancelledError:
            if found:
                if task is not None:
                    task.uncancel()  # it was ours, and ends here
                raise found[0] from None
            raise
        finally:
            call.watch = None
            for watcher in watchers:
                watcher.cancel()

    async def _audit(self, call: Call, what: str, *, durable: bool, **more: object) -> None:
        record = {
            "time_ns": time.time_ns(),
            "what": what,
            "request": call.request_id,
            "who": call.identity.name if call.identity else "",
            "roles": sorted(call.identity.roles) if call.identity else [],
            "tenant": call.tenant_id,
            "certificate": call.identity.fingerprint if call.identity else "",
            "method": call.method,
            "subject": call.subject,
            **({"purpose": call.purpose} if call.purpose else {}),
            **({"grant": call.grant} if call.grant else {}),
            **more,
        }
        await self._trail.append(record, durable=durable)

    async def _conclude(self, call: Call, outcome: str, admitted: bool) -> None:
        if not admitted:
            if not self._refusals.take(time.monotonic()):
                return  # counted, and the count is written down
            call.tenant_id = call.tenant_id or (call.identity.tenant_id if call.identity else "")
        took_ms = round((time.monotonic() - call.started_s) * 1000)
        try:
            # Shielded: a caller that goes away must not take the last line with it.
            await asyncio.shield(
                self._audit(call, "done", durable=False, outcome=outcome, milliseconds=took_ms)
            )
        except AuditUnavailableError:
            # The call is over, so it cannot be refused; the condition is raised, and the next one will be.
            log.error("outcome not audited", request=call.request_id, outcome=outcome)


def _request_id(context: Any) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID and isinstance(value, str) and _REQUEST_ID_FORM.fullmatch(value):
            return value
    return new_id()


def _describe(call: Call, request: Any) -> None:
    """What the call is about. A text that is no resource name may be anything, so it is not repeated."""
    parts = (
        "retention_policy",
        "line",
        "tenant",
        "purpose",
        "identity",
        "note",
        "subject_request",
        "alarm_channel",
        "source",
        "staff_member",
        "notice",
        "scorecard",
        "rule",
        "settings",
        "review",
    )
    said = (request, *(getattr(request, part, None) for part in parts))
    for text in (*(getattr(one, "name", "") for one in said), getattr(request, "parent", "")):
        if isinstance(text, str) and text:
            call.subject = text if names.is_name(text) else "malformed"
    # Nobody else reads the tenant beside the name: it must not decide whose audit an act stands in.
    made = request.identity.tenant if isinstance(request, access_pb2.CreateIdentityRequest) else ""
    below = made.removeprefix("tenants/")
    own = call.identity.tenant_id if call.identity else ""
    call.subject = identitynames.full(call.subject, own or (below if is_id(below) else ""))
    if is_id(getattr(request, "copy_id", "")):
        call.subject = request.copy_id
    purpose = getattr(request, "purpose", "")
    if isinstance(purpose, str) and purpose:
        call.purpose = purpose if FORM.fullmatch(purpose) else "malformed"


async def _abort(context: Any, status: grpc.Status, call: Call) -> None:
    trailing = (*(status.trailing_metadata or ()), (REQUEST_ID, call.request_id))
    await context.abort(status.code, status.details, trailing)


def _fault(call: Call, error: Exception) -> None:
    # The exception's own text may hold what a caller sent: only its type and place are logged.
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    log.error(
        "rpc fault", method=call.method, request=call.request_id, error=type(error).__name__, place=place
    )
