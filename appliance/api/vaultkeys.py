"""Control's side of the vault's tenant keys, for asyncio. A passphrase is held no longer than the call it is in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.api.vault import answer
from appliance.config.layout import Layout
from appliance.process import rpc
from earwitness.internal.v1 import tenantkeys_pb2 as pb
from earwitness.internal.v1 import tenantkeys_pb2_grpc

_QUICK_S: Final = 15.0
_SLOW_S: Final = 180.0  # a turn of the keystore, after a passphrase that waits for others


class VaultKeys:
    """Errors of the house; what they tell is the vault's."""

    def __init__(self, layout: Layout) -> None:
        self._channel = rpc.aio_channel(layout, "vault")
        self._stub: tenantkeys_pb2_grpc.TenantKeysServiceAsyncStub = (
            tenantkeys_pb2_grpc.TenantKeysServiceStub(self._channel)
        )

    async def all(self) -> Sequence[pb.TenantKeys]:
        return (await answer(self._stub.ListTenantKeys(pb.ListTenantKeysRequest(), timeout=_QUICK_S))).keys

    async def of(self, tenant_id: str) -> pb.TenantKeys:
        request = pb.GetTenantKeysRequest(tenant_id=tenant_id)
        return (await answer(self._stub.GetTenantKeys(request, timeout=_QUICK_S))).keys

    async def set_mode(
        self, tenant_id: str, mode: pb.KeyMode.ValueType, proof: pb.Proof, *, check: bool = False
    ) -> pb.SetKeyModeResponse:
        """`check`: whether it may be done, and no more."""
        request = pb.SetKeyModeRequest(tenant_id=tenant_id, mode=mode, proof=proof, validate_only=check)
        return await answer(self._stub.SetKeyMode(request, timeout=_SLOW_S))

    async def unlock(self, tenant_id: str, proof: pb.Proof, duration_s: float) -> pb.TenantKeys:
        """`duration_s` 0: as long as the vault holds right."""
        request = pb.UnlockRequest(tenant_id=tenant_id, proof=proof, duration_s=duration_s)
        return (await answer(self._stub.Unlock(request, timeout=_SLOW_S))).keys

    async def lock(self, tenant_id: str) -> pb.TenantKeys:
        return (await answer(self._stub.Lock(pb.LockRequest(tenant_id=tenant_id), timeout=_QUICK_S))).keys

    async def change_passphrase(
        self, tenant_id: str, proof: pb.Proof, passphrase: str, *, renew_recovery_key: bool
    ) -> pb.ChangePassphraseResponse:
        request = pb.ChangePassphraseRequest(
            tenant_id=tenant_id,
            proof=proof,
            new_passphrase=passphrase,
            renew_recovery_key=renew_recovery_key,
        )
        return await answer(self._stub.ChangePassphrase(request, timeout=_SLOW_S))

    # Support grants.

    async def seal_for_grant(
        self,
        grant_id: str,
        tenant_id: str,
        recording_ids: Sequence[str],
        public_key: bytes,
        expire_ns: int,
    ) -> pb.SealKeysForGrantResponse:
        """In auto mode nothing is sealed, and the answer's mode says so; TENANT_LOCKED, GRANT_KEYS_CONFLICT."""
        request = pb.SealKeysForGrantRequest(
            grant_id=grant_id,
            tenant_id=tenant_id,
            recording_ids=recording_ids,
            public_key=public_key,
            expire_ns=expire_ns,
        )
        return await answer(self._stub.SealKeysForGrant(request, timeout=_SLOW_S))

    async def grant_keys(self, grant_id: str) -> Sequence[pb.GrantKey]:
        """The sealed keys that the holder may have now."""
        request = pb.ListGrantKeysRequest(grant_id=grant_id)
        return (await answer(self._stub.ListGrantKeys(request, timeout=_QUICK_S))).keys

    async def drop_grant(self, grant_id: str) -> int:
        """Destroys a grant's sealed keys; how many. KEYSTORE_COPY_MISSING, KEYSTORE_DEGRADED: they may be there still."""
        request = pb.DropGrantRequest(grant_id=grant_id)
        return (await answer(self._stub.DropGrant(request, timeout=_SLOW_S))).dropped

    async def close(self) -> None:
        await self._channel.close(None)
