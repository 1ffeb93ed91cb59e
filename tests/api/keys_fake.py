"""The vault's contract for tenants' keys, held in memory: what control asks, and what it is told."""

from __future__ import annotations

import os
import time

from appliance.storage.keystore import hpke
from appliance.storage.keystore.errors import (
    KeyModeError,
    KeystoreDegradedError,
    PassphraseFormatError,
    PassphraseWrongError,
    TenantKeyMissingError,
    TenantLockedError,
)
from earwitness.internal.v1 import tenantkeys_pb2 as pb
from earwitness.internal.v1 import tenantkeys_pb2_grpc

RECOVERY = "aaaa-bbbb-cccc-dddd"


class KeysServer(tenantkeys_pb2_grpc.TenantKeysServiceServicer):
    """`public`: the tenants' present keys, by id. `until`: until when they are unlocked, by id (ns)."""

    def __init__(self, public: dict[str, bytes]) -> None:
        self.public = public
        self.passphrases: dict[str, str] = {}
        self.until: dict[str, int] = {}
        self.changes = 0
        self.granted: dict[str, list[pb.GrantKey]] = {}
        self.stuck = False

    def lock(self, tenant_id: str) -> None:
        """As where the time is over."""
        self.until.pop(tenant_id, None)

    def refuse_locked(self, tenant_id: str) -> None:
        if tenant_id in self.passphrases and self.until.get(tenant_id, 0) <= time.time_ns():
            raise TenantLockedError("locked", tenant_id=tenant_id)

    def _keys(self, tenant_id: str) -> pb.TenantKeys:
        if tenant_id not in self.public:
            raise TenantKeyMissingError("no keys", tenant_id=tenant_id)
        attended = tenant_id in self.passphrases
        until = self.until.get(tenant_id, 0)
        return pb.TenantKeys(
            tenant_id=tenant_id,
            mode=pb.KEY_MODE_ATTENDED if attended else pb.KEY_MODE_AUTO,
            locked=attended and not until,
            unlocked_until_ns=until if attended else 0,
            public_key=self.public[tenant_id],
            pairs=1 + self.changes,
            public_key_id=hpke.key_id(self.public[tenant_id]),
        )

    def _prove(self, tenant_id: str, proof: pb.Proof) -> None:
        if tenant_id not in self.passphrases:
            raise KeyModeError("not attended", tenant_id=tenant_id, mode="auto")
        if proof.passphrase != self.passphrases[tenant_id] and proof.recovery_key != RECOVERY:
            raise PassphraseWrongError("wrong", retry_after_s=1.0)

    def ListTenantKeys(self, request, context):
        return pb.ListTenantKeysResponse(keys=[self._keys(one) for one in sorted(self.public)])

    def GetTenantKeys(self, request, context):
        return pb.GetTenantKeysResponse(keys=self._keys(request.tenant_id))

    def SetKeyMode(self, request, context):
        tenant_id, words = request.tenant_id, request.proof.passphrase
        recovery = ""
        if request.mode == pb.KEY_MODE_ATTENDED:
            if tenant_id in self.passphrases:
                raise KeyModeError("attended", tenant_id=tenant_id, mode="attended")
            if len(words) < 12:
                raise PassphraseFormatError("too short", field="passphrase")
            if not request.validate_only:
                self.passphrases[tenant_id] = words
                self.public[tenant_id] = hpke.public_key(hpke.new_private_key())
                self.changes += 1
                recovery = RECOVERY
        else:
            self._prove(tenant_id, request.proof)
            if not request.validate_only:
                del self.passphrases[tenant_id]
                self.lock(tenant_id)
        return pb.SetKeyModeResponse(keys=self._keys(tenant_id), recovery_key=recovery)

    def Unlock(self, request, context):
        self._prove(request.tenant_id, request.proof)
        self.until[request.tenant_id] = time.time_ns() + int((request.duration_s or 8 * 3600) * 1e9)
        return pb.UnlockResponse(keys=self._keys(request.tenant_id))

    def Lock(self, request, context):
        self.lock(request.tenant_id)
        return pb.LockResponse(keys=self._keys(request.tenant_id))

    def ChangePassphrase(self, request, context):
        self._prove(request.tenant_id, request.proof)
        self.passphrases[request.tenant_id] = request.new_passphrase
        return pb.ChangePassphraseResponse(
            keys=self._keys(request.tenant_id), recovery_key=RECOVERY if request.renew_recovery_key else ""
        )

    def SealKeysForGrant(self, request, context):
        if request.tenant_id not in self.passphrases:
            return pb.SealKeysForGrantResponse(mode=pb.KEY_MODE_AUTO)
        self.refuse_locked(request.tenant_id)
        self.granted[request.grant_id] = [
            pb.GrantKey(
                recording_id=one,
                sealed_key=hpke.seal(request.public_key, os.urandom(32), b"test"),
                expire_ns=request.expire_ns,
            )
            for one in request.recording_ids
        ]
        return pb.SealKeysForGrantResponse(mode=pb.KEY_MODE_ATTENDED, keys=self.granted[request.grant_id])

    def ListGrantKeys(self, request, context):
        return pb.ListGrantKeysResponse(keys=self.granted.get(request.grant_id, ()))

    def DropGrant(self, request, context):
        if self.stuck:
            raise KeystoreDegradedError("a copy cannot be written")
        return pb.DropGrantResponse(dropped=len(self.granted.pop(request.grant_id, ())))
