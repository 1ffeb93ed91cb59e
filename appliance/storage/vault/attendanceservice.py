"""TenantKeysService: attended keys and keys under grants, over gRPC on the vault's socket. No rule lives here."""

from __future__ import annotations

from collections.abc import Iterable

import grpc

from appliance.model import InvalidError, id_text
from appliance.storage.keystore import GrantedKey, KeyMode, Proof, TenantKeys, hpke
from appliance.storage.vault.assembly import Assembly
from earwitness.internal.v1 import tenantkeys_pb2 as pb
from earwitness.internal.v1 import tenantkeys_pb2_grpc

_MODES = {pb.KEY_MODE_AUTO: KeyMode.AUTO, pb.KEY_MODE_ATTENDED: KeyMode.ATTENDED}
_SAID = {mode: said for said, mode in _MODES.items()}


def keys_message(found: TenantKeys, *, listed: bool = False) -> pb.TenantKeys:
    """How a tenant's keys stand, as a message; `listed`: one of many, without the key itself."""
    return pb.TenantKeys(
        tenant_id=found.tenant_id,
        mode=_SAID[found.mode],
        locked=found.locked,
        unlocked_until_ns=found.unlocked_until_ns,
        public_key=b"" if listed else found.public,
        pairs=found.pairs,
        public_key_id=hpke.key_id(found.public),
    )


def _grant_keys(found: Iterable[GrantedKey]) -> list[pb.GrantKey]:
    return [
        pb.GrantKey(recording_id=id_text(item.recording), sealed_key=item.sealed, expire_ns=item.expire_ns)
        for item in found
    ]


def _proof(said: pb.Proof) -> Proof:
    return Proof(said.passphrase, said.recovery_key)


class TenantKeysServicer(tenantkeys_pb2_grpc.TenantKeysServiceServicer):
    """See tenantkeys.proto."""

    def __init__(self, parts: Assembly) -> None:
        self._keystore = parts.vault.keystore
        self._attendance = parts.attendance

    def ListTenantKeys(
        self, request: pb.ListTenantKeysRequest, context: grpc.ServicerContext
    ) -> pb.ListTenantKeysResponse:
        """See tenantkeys.proto."""
        found = self._keystore.all_tenant_keys()
        return pb.ListTenantKeysResponse(keys=[keys_message(one, listed=True) for one in found])

    def GetTenantKeys(
        self, request: pb.GetTenantKeysRequest, context: grpc.ServicerContext
    ) -> pb.GetTenantKeysResponse:
        """See tenantkeys.proto."""
        return pb.GetTenantKeysResponse(keys=keys_message(self._attendance.keys(request.tenant_id)))

    def SetKeyMode(
        self, request: pb.SetKeyModeRequest, context: grpc.ServicerContext
    ) -> pb.SetKeyModeResponse:
        """See tenantkeys.proto."""
        mode = _MODES.get(request.mode)
        if mode is None:
            raise InvalidError("should be auto or attended", field="mode")
        keys, recovery = self._attendance.set_mode(
            request.tenant_id, mode, _proof(request.proof), check=request.validate_only
        )
        return pb.SetKeyModeResponse(keys=keys_message(keys), recovery_key=recovery)

    def Unlock(self, request: pb.UnlockRequest, context: grpc.ServicerContext) -> pb.UnlockResponse:
        """See tenantkeys.proto."""
        keys = self._attendance.unlock(request.tenant_id, _proof(request.proof), request.duration_s)
        return pb.UnlockResponse(keys=keys_message(keys))

    def Lock(self, request: pb.LockRequest, context: grpc.ServicerContext) -> pb.LockResponse:
        """See tenantkeys.proto."""
        return pb.LockResponse(keys=keys_message(self._attendance.lock(request.tenant_id)))

    def ChangePassphrase(
        self, request: pb.ChangePassphraseRequest, context: grpc.ServicerContext
    ) -> pb.ChangePassphraseResponse:
        """See tenantkeys.proto."""
        keys, recovery = self._attendance.change_passphrase(
            request.tenant_id,
            _proof(request.proof),
            request.new_passphrase,
            renew_recovery_key=request.renew_recovery_key,
        )
        return pb.ChangePassphraseResponse(keys=keys_message(keys), recovery_key=recovery)

    def SealKeysForGrant(
        self, request: pb.SealKeysForGrantRequest, context: grpc.ServicerContext
    ) -> pb.SealKeysForGrantResponse:
        """See tenantkeys.proto."""
        mode, keys = self._attendance.seal_for_grant(
            request.grant_id,
            request.tenant_id,
            request.recording_ids,
            request.public_key,
            request.expire_ns,
        )
        return pb.SealKeysForGrantResponse(mode=_SAID[mode], keys=_grant_keys(keys))

    def ListGrantKeys(
        self, request: pb.ListGrantKeysRequest, context: grpc.ServicerContext
    ) -> pb.ListGrantKeysResponse:
        """See tenantkeys.proto."""
        return pb.ListGrantKeysResponse(keys=_grant_keys(self._attendance.granted(request.grant_id)))

    def DropGrant(self, request: pb.DropGrantRequest, context: grpc.ServicerContext) -> pb.DropGrantResponse:
        """See tenantkeys.proto."""
        return pb.DropGrantResponse(dropped=self._attendance.drop_grant(request.grant_id))
