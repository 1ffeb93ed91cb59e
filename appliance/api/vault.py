"""Control's side of the vault: calls with errors of the house, and a sealed file as something to read from."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
import grpc.aio

from appliance.api.errors import VaultUnavailableError
from appliance.config.layout import Layout
from appliance.model import EarwitnessError, Kind
from appliance.process import rpc
from earwitness.internal.v1 import sidecars_pb2, sidecars_pb2_grpc, vault_pb2, vault_pb2_grpc

_QUICK_S: Final = 15.0
_SLOW_S: Final = 180.0  # erasing rewrites the keystore
Message = TypeVar("Message")


def vault_error(error: grpc.RpcError) -> EarwitnessError:
    """What the vault raised; VaultUnavailableError where it does not answer."""
    found = rpc.from_rpc_error(error)
    if found.kind is Kind.UNAVAILABLE and found.reason in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        return VaultUnavailableError("the vault does not answer; recordings are kept in the spool meanwhile")
    return found


class Vault:
    """The vault, for asyncio."""

    def __init__(self, layout: Layout) -> None:
        self._channel = rpc.aio_channel(layout, "vault")
        self._stub: vault_pb2_grpc.VaultServiceAsyncStub = vault_pb2_grpc.VaultServiceStub(self._channel)
        self._sidecars: sidecars_pb2_grpc.SidecarServiceAsyncStub = sidecars_pb2_grpc.SidecarServiceStub(
            self._channel
        )

    async def create_tenant_key(self, tenant_id: str) -> bytes:
        request = vault_pb2.CreateTenantKeyRequest(tenant_id=tenant_id)
        return (await answer(self._stub.CreateTenantKey(request, timeout=_QUICK_S))).public_key

    async def holding(self, recording_id: str) -> vault_pb2.Holding:
        request = vault_pb2.GetHoldingRequest(recording_id=recording_id)
        return (await answer(self._stub.GetHolding(request, timeout=_QUICK_S))).holding

    # `check`: whether it may be done, and no more.

    async def delete(self, recording_id: str, reason: str, *, check: bool = False) -> None:
        request = vault_pb2.DeleteRecordingRequest(
            recording_id=recording_id, reason=reason, validate_only=check
        )
        await answer(self._stub.DeleteRecording(request, timeout=_QUICK_S))

    async def undelete(self, recording_id: str, *, check: bool = False) -> None:
        request = vault_pb2.UndeleteRecordingRequest(recording_id=recording_id, validate_only=check)
        await answer(self._stub.UndeleteRecording(request, timeout=_QUICK_S))

    async def erase(self, recording_id: str, reason: str, *, check: bool = False) -> None:
        request = vault_pb2.EraseRecordingsRequest(
            recording_ids=[recording_id], reason=reason, validate_only=check
        )
        await answer(self._stub.EraseRecordings(request, timeout=_SLOW_S))

    async def status(self) -> vault_pb2.GetVaultStatusResponse:
        return await answer(self._stub.GetVaultStatus(vault_pb2.GetVaultStatusRequest(), timeout=_QUICK_S))

    async def journal(self, after: int) -> AsyncIterator[vault_pb2.WatchRecordingsResponse]:
        """The journal after a position; waits for more, without end."""
        stream = self._stub.WatchRecordings(vault_pb2.WatchRecordingsRequest(after=after))
        async for entry in items(stream):
            yield entry

    async def holdings(self) -> AsyncIterator[vault_pb2.ListHoldingsResponse]:
        """Everything the vault holds."""
        async for item in items(self._stub.ListHoldings(vault_pb2.ListHoldingsRequest())):
            yield item

    async def sealed(self, recording_id: str, offset: int) -> AsyncGenerator[bytes, None]:
        """Bytes of a sealed file, from an offset to the end."""
        request = vault_pb2.ReadSealedRequest(recording_id=recording_id, offset=offset)
        async for item in items(self._stub.ReadSealed(request)):
            yield item.data

    async def annotate(
        self, recording_id: str, contents: Sequence[bytes]
    ) -> sidecars_pb2.AnnotateRecordingResponse:
        """Enter something in a recording's sidecar, durably; what is entered under an id stays as it is."""
        request = sidecars_pb2.AnnotateRecordingRequest(recording_id=recording_id, contents=contents)
        return await answer(self._sidecars.AnnotateRecording(request, timeout=_QUICK_S))

    async def begin_sidecar_anew(
        self, recording_id: str, content: bytes, more: Sequence[bytes], *, validate_only: bool = False
    ) -> sidecars_pb2.BeginSidecarAnewResponse:
        """Set a recording's damaged sidecar aside, durably, and begin a new one with these entries."""
        request = sidecars_pb2.BeginSidecarAnewRequest(
            recording_id=recording_id, content=content, more=more, validate_only=validate_only
        )
        return await answer(self._sidecars.BeginSidecarAnew(request, timeout=_QUICK_S))

    async def sidecar(self, recording_id: str) -> bytes:
        """A recording's sidecar, sealed; empty where it has none."""
        request = sidecars_pb2.ReadSidecarRequest(recording_id=recording_id)
        return b"".join([one.data async for one in items(self._sidecars.ReadSidecar(request))])

    async def close(self) -> None:
        await self._channel.close(None)


async def answer(call: Awaitable[Message]) -> Message:
    """What a call answers. Errors of the house."""
    try:
        return await call
    except grpc.RpcError as error:
        raise vault_error(error) from error


async def items(stream: Any) -> AsyncIterator[Any]:
    """What a stream gives. Errors of the house; who ends early ends the stream."""
    try:
        async for item in stream:
            yield item
    except grpc.RpcError as error:
        raise vault_error(error) from error
    finally:
        stream.cancel()


class VaultReader:
    """The vault, for worker threads: data keys and sealed files."""

    def __init__(self, layout: Layout) -> None:
        self._channel = rpc.channel(layout, "vault")
        self._stub = vault_pb2_grpc.VaultServiceStub(self._channel)
        self._sidecars = sidecars_pb2_grpc.SidecarServiceStub(self._channel)

    def lease(self, recording_id: str, actor: str, purpose: str, *, deleted: bool = False) -> bytes:
        """The data key; to be forgotten after the reading. `deleted`: of a deleted one within its grace, too."""
        request = vault_pb2.LeaseKeyRequest(
            recording_id=recording_id, actor=actor, purpose=purpose, deleted=deleted
        )
        try:
            return self._stub.LeaseKey(request, timeout=_QUICK_S).data_key
        except grpc.RpcError as error:
            raise vault_error(error) from error

    def lease_if_unlocked(self, recording_id: str, actor: str, purpose: str) -> bytes | None:
        """As `lease`; None where the tenant's keys are locked: for what can be done without."""
        try:
            return self.lease(recording_id, actor, purpose)
        except EarwitnessError as error:
            if error.reason != "TENANT_LOCKED":
                raise
            return None

    def device_key(self) -> bytes:
        """The box's public key."""
        try:
            return self._stub.GetVaultStatus(
                vault_pb2.GetVaultStatusRequest(), timeout=_QUICK_S
            ).device_public_key
        except grpc.RpcError as error:
            raise vault_error(error) from error

    def open(self, recording_id: str, *, deleted: bool = False) -> SealedStream:
        """The sealed file, from its beginning. `deleted`: as in `lease`."""
        request = vault_pb2.ReadSealedRequest(recording_id=recording_id, deleted=deleted)
        return SealedStream(self._stub.ReadSealed(request))

    def sidecar(self, recording_id: str) -> bytes:
        """A recording's sidecar, sealed; empty where it has none."""
        request = sidecars_pb2.ReadSidecarRequest(recording_id=recording_id)
        try:
            return b"".join(one.data for one in self._sidecars.ReadSidecar(request, timeout=_QUICK_S))
        except grpc.RpcError as error:
            raise vault_error(error) from error

    def sidecar_head(self, recording_id: str) -> sidecars_pb2.SidecarHead | None:
        """How far a recording's sidecar goes, as the vault's journal says; None where it has none."""
        request = vault_pb2.GetHoldingRequest(recording_id=recording_id)
        try:
            holding = self._stub.GetHolding(request, timeout=_QUICK_S).holding
        except grpc.RpcError as error:
            raise vault_error(error) from error
        return holding.sidecar if holding.HasField("sidecar") else None

    def close(self) -> None:
        self._channel.close()


class SealedStream:
    """A sealed file that comes from the vault: a blocking `read`. May be cancelled from another thread."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._chunks: Iterator[vault_pb2.ReadSealedResponse] = iter(call)
        self._rest = memoryview(b"")
        self.bytes_read = 0

    def read(self, size: int, /) -> bytes:
        """Exactly `size` bytes, less only at the end."""
        parts: list[memoryview] = []
        wanted = size
        while wanted > 0:
            if not self._rest:
                try:
                    chunk = next(self._chunks, None)
                except grpc.RpcError as error:
                    raise vault_error(error) from error
                if chunk is None:
                    break
                self._rest = memoryview(chunk.data)
                continue
            part, self._rest = self._rest[:wanted], self._rest[wanted:]
            parts.append(part)
            wanted -= len(part)
        self.bytes_read += size - wanted
        return b"".join(parts)

    def cancel(self) -> None:
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
