"""An epoch in memory, with the intermediate keys opened of late."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from appliance.storage.keystore.contents import Contents
from appliance.storage.keystore.deposit import IntermediateRecord
from appliance.storage.keystore.errors import KeyRefusedError
from appliance.storage.keystore.wrap import unseal_intermediate

_HELD = 64  # intermediate keys kept open in memory


class Opened:
    """An epoch's contents with the intermediate keys opened of late; goes as a whole when the epoch goes."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self._keys: OrderedDict[bytes, tuple[bytes, bytearray]] = OrderedDict()  # with their tenants
        self._lock = threading.Lock()

    def intermediate_key(
        self, above: IntermediateRecord, privates: Sequence[bytes], still: Callable[[], bool]
    ) -> bytes:
        """The intermediate key, 32 bytes; KeyRefusedError where it is sealed to none of these private keys.

        `still`: whether it may be kept, asked when it is; what `forget` wiped does not come back.
        """
        with self._lock:
            held = self._keys.get(above.id)
            if held is not None:
                self._keys.move_to_end(above.id)
                return bytes(held[1])
        key = _unseal(above, privates)
        with self._lock:
            if above.id not in self._keys and still():
                self._keys[above.id] = (above.tenant, bytearray(key))
                if len(self._keys) > _HELD:
                    _wipe(self._keys.popitem(last=False)[1][1])
        return key

    def forget(self, tenant: bytes | None = None) -> None:
        """Wipes what is open of a tenant, or all."""
        with self._lock:
            for name in [
                name for name, (whose, _) in self._keys.items() if tenant is None or whose == tenant
            ]:
                _wipe(self._keys.pop(name)[1])


def _unseal(above: IntermediateRecord, privates: Sequence[bytes]) -> bytes:
    for private in privates[:-1]:
        try:
            return unseal_intermediate(private, above.tenant, above.id, above.sealed)
        except KeyRefusedError:
            continue  # sealed to an older key pair
    return unseal_intermediate(privates[-1], above.tenant, above.id, above.sealed)


def _wipe(key: bytearray) -> None:
    key[:] = bytes(len(key))
