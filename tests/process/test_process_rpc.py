"""Errors of the house cross a process border with kind, reason and data; faults tell nothing of what was sent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from appliance.model import ErasedError, InvalidError, Kind
from appliance.process import rpc
from appliance.process.interceptors import AioErrorInterceptor, ErrorInterceptor
from earwitness.internal.v1 import process_pb2, process_pb2_grpc


def failure(name: str) -> Exception:
    return {
        "erased": ErasedError("the key is destroyed", recording="abc", epoch=4),
        "field": InvalidError("must be even", field="port"),
        "fault": ZeroDivisionError("secret of a patient"),
    }[name]


class Failing(process_pb2_grpc.ProcessServiceServicer):
    def __init__(self, name: str) -> None:
        self.name = name

    def GetProcessStatus(self, request: Any, context: Any) -> Any:
        raise failure(self.name)


class AioFailing(Failing):
    async def GetProcessStatus(self, request: Any, context: Any) -> Any:
        raise failure(self.name)


def ask(path: Path) -> grpc.RpcError:
    with grpc.insecure_channel(f"unix:{path}") as channel, pytest.raises(grpc.RpcError) as caught:
        stub = process_pb2_grpc.ProcessServiceStub(channel)
        stub.GetProcessStatus(process_pb2.GetProcessStatusRequest(), timeout=10)
    return caught.value


def check(name: str, error: grpc.RpcError) -> None:
    found = rpc.from_rpc_error(error)
    if name == "erased":
        assert (found.kind, found.reason, found.data) == (
            Kind.PRECONDITION,
            "ERASED",
            {"recording": "abc", "epoch": "4"},
        )
    elif name == "field":
        assert (found.kind, found.reason, found.data) == (Kind.INVALID, "INVALID", {"field": "port"})
    else:
        assert found.kind is Kind.INTERNAL
        assert "patient" not in str(error)


@pytest.mark.parametrize("name", ["erased", "field", "fault"])
def test_from_a_synchronous_server(tmp_path: Path, name: str) -> None:
    server = grpc.server(ThreadPoolExecutor(2), interceptors=[ErrorInterceptor()])
    process_pb2_grpc.add_ProcessServiceServicer_to_server(Failing(name), server)
    server.add_insecure_port(f"unix:{tmp_path}/s")
    server.start()
    try:
        check(name, ask(tmp_path / "s"))
    finally:
        server.stop(0).wait()


@pytest.mark.parametrize("name", ["erased", "field", "fault"])
def test_from_an_asyncio_server(tmp_path: Path, name: str) -> None:
    import asyncio

    async def serve() -> grpc.RpcError:
        server = grpc.aio.server(interceptors=[AioErrorInterceptor()])
        process_pb2_grpc.add_ProcessServiceServicer_to_server(AioFailing(name), server)
        server.add_insecure_port(f"unix:{tmp_path}/s")
        await server.start()
        try:
            return await asyncio.to_thread(ask, tmp_path / "s")
        finally:
            await server.stop(0)

    check(name, asyncio.run(serve()))


@pytest.mark.parametrize("name", ["erased", "field", "fault"])
def test_to_an_asyncio_client(tmp_path: Path, name: str) -> None:
    import asyncio

    async def ask_aio() -> grpc.RpcError:
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
            stub = process_pb2_grpc.ProcessServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                await stub.GetProcessStatus(process_pb2.GetProcessStatusRequest(), timeout=10)
        return caught.value

    server = grpc.server(ThreadPoolExecutor(2), interceptors=[ErrorInterceptor()])
    process_pb2_grpc.add_ProcessServiceServicer_to_server(Failing(name), server)
    server.add_insecure_port(f"unix:{tmp_path}/s")
    server.start()
    try:
        check(name, asyncio.run(ask_aio()))
    finally:
        server.stop(0).wait()


def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    assert rpc.from_rpc_error(ask(tmp_path / "nobody")).kind is Kind.UNAVAILABLE
