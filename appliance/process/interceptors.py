"""Server interceptors that turn an error of the house into a gRPC status, and a fault into a log line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import structlog

from appliance.model import EarwitnessError
from appliance.process.rpc import grpc_status, to_status, unexpected

log = structlog.get_logger()


def _fault(method: str, error: Exception) -> None:
    # The exception's own text may hold what a caller sent: only its type and place are logged.
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    log.error("rpc fault", method=method, error=type(error).__name__, place=place)


def _rebuild(handler: grpc.RpcMethodHandler, wrapped: Any) -> grpc.RpcMethodHandler:
    kind = (
        ("stream_" if handler.request_streaming else "unary_")
        + ("stream" if handler.response_streaming else "unary")
        + "_rpc_method_handler"
    )
    make = getattr(grpc, kind)
    return make(
        wrapped,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _behaviour(handler: grpc.RpcMethodHandler) -> Any:
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


class ErrorInterceptor(grpc.ServerInterceptor):
    """For synchronous servers."""

    def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See grpc.ServerInterceptor."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        method, inner = handler_call_details.method, _behaviour(handler)

        def unary(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return inner(request, context)
            except EarwitnessError as error:
                context.abort_with_status(grpc_status(to_status(error)))
            except Exception as error:
                if context.code() is not None:  # type: ignore[attr-defined]
                    raise  # abort() of the handler itself
                _fault(method, error)
                context.abort_with_status(grpc_status(unexpected()))

        def stream(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                yield from inner(request, context)
            except EarwitnessError as error:
                context.abort_with_status(grpc_status(to_status(error)))
            except Exception as error:
                if context.code() is not None:  # type: ignore[attr-defined]
                    raise
                _fault(method, error)
                context.abort_with_status(grpc_status(unexpected()))

        return _rebuild(handler, stream if handler.response_streaming else unary)


class AioErrorInterceptor(grpc.aio.ServerInterceptor):
    """For grpc.aio servers."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method, inner = handler_call_details.method, _behaviour(handler)

        async def unary(request: Any, context: Any) -> Any:
            try:
                return await inner(request, context)
            except EarwitnessError as error:
                await context.abort_with_status(grpc_status(to_status(error)))
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - the last resort of a server
                _fault(method, error)
                await context.abort_with_status(grpc_status(unexpected()))

        async def stream(request: Any, context: Any) -> Any:
            try:
                async for message in inner(request, context):
                    yield message
            except EarwitnessError as error:
                await context.abort_with_status(grpc_status(to_status(error)))
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001
                _fault(method, error)
                await context.abort_with_status(grpc_status(unexpected()))

        return _rebuild(handler, stream if handler.response_streaming else unary)
