"""KeysService. Passphrases go to the vault and nowhere else: no log, no audit, no digest of them."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from appliance.api import convert, names
from appliance.api.errors import FieldInvalidError
from appliance.api.keystates import KeyStates
from appliance.api.parts import Note, Parts
from appliance.api.vaultkeys import VaultKeys
from appliance.catalog import tenants
from earwitness.internal.v1 import tenantkeys_pb2 as vault_pb
from earwitness.v1 import keys_pb2 as pb
from earwitness.v1 import keys_pb2_grpc

MAX_SECRET: Final = 1024  # characters of whatever is said to be a passphrase or a recovery key
MAX_UNLOCKED_S: Final = 24 * 3600
_MODES: Final = {
    pb.KEY_MODE_AUTO: vault_pb.KEY_MODE_AUTO,
    pb.KEY_MODE_ATTENDED: vault_pb.KEY_MODE_ATTENDED,
}
_SAID: Final = {mode: said for said, mode in _MODES.items()}
_SECRETS: Final = ("passphrase", "recovery_key", "new_passphrase")


class Keys(keys_pb2_grpc.KeysServiceServicer):
    """See keys.proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._vault: VaultKeys = parts.vault_keys
        self._states: KeyStates = parts.key_states

    async def GetTenantKeys(self, request: pb.GetTenantKeysRequest, context: Any) -> pb.GetTenantKeysResponse:
        tenant_id = await self._tenant(request.name)
        return pb.GetTenantKeysResponse(keys=_message(await self._vault.of(tenant_id)))

    async def SetKeyMode(self, request: pb.SetKeyModeRequest, context: Any) -> pb.SetKeyModeResponse:
        tenant_id = await self._tenant(request.name)
        if request.mode not in _MODES:
            raise FieldInvalidError("should be AUTO or ATTENDED", field="mode")
        if request.mode == pb.KEY_MODE_ATTENDED and request.recovery_key:
            raise FieldInvalidError("should be empty: it is made, and answered", field="recovery_key")
        proof, mode = _proof(request), _MODES[request.mode]
        if request.validate_only:
            await self._vault.set_mode(tenant_id, mode, proof, check=True)
            return pb.SetKeyModeResponse(keys=_message(await self._vault.of(tenant_id)))
        shown: list[str] = []

        async def act(note: Note) -> str:
            answer = await self._vault.set_mode(tenant_id, mode, proof)
            shown.append(answer.recovery_key)
            return await self._done(answer.keys, note)

        await self._parts.once("SetKeyMode", _without_secrets(request), act)
        keys = _message(await self._vault.of(tenant_id))
        return pb.SetKeyModeResponse(keys=keys, recovery_key="".join(shown))

    async def UnlockTenant(self, request: pb.UnlockTenantRequest, context: Any) -> pb.UnlockTenantResponse:
        tenant_id = await self._tenant(request.name)
        seconds = request.duration.seconds + request.duration.nanos / 1e9
        if not 0 <= seconds <= MAX_UNLOCKED_S or (request.HasField("duration") and seconds == 0):
            raise FieldInvalidError("should be more than nothing, at most 24 hours", field="duration")
        keys = await self._vault.unlock(tenant_id, _proof(request), seconds)
        await self._states.take(keys)
        return pb.UnlockTenantResponse(keys=_message(keys))

    async def LockTenant(self, request: pb.LockTenantRequest, context: Any) -> pb.LockTenantResponse:
        tenant_id = await self._tenant(request.name)
        keys = await self._vault.lock(tenant_id)
        await self._states.take(keys)
        return pb.LockTenantResponse(keys=_message(keys))

    async def ChangeTenantPassphrase(
        self, request: pb.ChangeTenantPassphraseRequest, context: Any
    ) -> pb.ChangeTenantPassphraseResponse:
        tenant_id = await self._tenant(request.name)
        proof, passphrase = _proof(request), _secret(request.new_passphrase, "new_passphrase")
        shown: list[str] = []

        async def act(note: Note) -> str:
            answer = await self._vault.change_passphrase(
                tenant_id, proof, passphrase, renew_recovery_key=request.renew_recovery_key
            )
            shown.append(answer.recovery_key)
            return await self._done(answer.keys, note)

        await self._parts.once("ChangeTenantPassphrase", _without_secrets(request), act)
        keys = _message(await self._vault.of(tenant_id))
        return pb.ChangeTenantPassphraseResponse(keys=keys, recovery_key="".join(shown))

    async def _tenant(self, name: str) -> str:
        """The id of a tenant that there is, for this caller; TenantNotFoundError."""
        tenant_id = names.keys(name)
        await self._parts.store.read(lambda connection: tenants.get_tenant(connection, tenant_id))
        return tenant_id

    async def _done(self, keys: vault_pb.TenantKeys, note: Note) -> str:
        await self._states.take(keys)
        await self._parts.store.write(lambda connection: note(connection, keys.tenant_id))
        return keys.tenant_id


def _proof(request: Any) -> vault_pb.Proof:
    return vault_pb.Proof(
        passphrase=_secret(request.passphrase, "passphrase"),
        recovery_key=_secret(request.recovery_key, "recovery_key"),
    )


def _secret(text: str, field: str) -> str:
    if len(text) > MAX_SECRET:
        raise FieldInvalidError(f"should have at most {MAX_SECRET} characters", field=field)
    return text


def _without_secrets(request: Any) -> Any:
    """What a request id is bound to: of a passphrase nothing is written down, not even a digest."""
    bare = type(request)()
    bare.CopyFrom(request)
    for field in _SECRETS:
        if field in bare.DESCRIPTOR.fields_by_name:
            bare.ClearField(field)
    return bare


def _message(keys: vault_pb.TenantKeys) -> pb.TenantKeys:
    state = pb.KEY_STATE_OPEN
    if keys.mode == vault_pb.KEY_MODE_ATTENDED:
        state = pb.KEY_STATE_LOCKED if keys.locked else pb.KEY_STATE_UNLOCKED
    made = pb.TenantKeys(
        name=names.keys_name(keys.tenant_id),
        mode=_SAID[keys.mode],
        state=state,
        public_key_sha256=hashlib.sha256(keys.public_key).hexdigest(),
        key_pairs=keys.pairs,
    )
    if keys.unlocked_until_ns:
        made.unlock_expire_time.CopyFrom(convert.timestamp(keys.unlocked_until_ns))
    return made
