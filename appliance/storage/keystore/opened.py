"""An epoch in memory, with the intermediate keys opened of late."""

from __future__ import annotations

import threading
from collections import OrderedDict

from appliance.storage.keystore.contents import Contents, TenantKey
from appliance.storage.keystore.deposit import IntermediateRecord
from appliance.storage.keystore.wrap import unseal_intermediate

_HELD = 64  # intermediate keys kept open in memory


class Opened:
    """An epoch's contents with the intermediate keys opened of late; goes as a whole when the epoch goes."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self._keys: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def intermediate_key(self, above: IntermediateRecord, tenant: TenantKey) -> bytes:
        """The intermediate key, 32 bytes; KeyRefusedError where it is sealed to another key of the tenant."""
        with self._lock:
            key = self._keys.get(above.id)
            if key is not None:
                self._keys.move_to_end(above.id)
                return key
        key = unseal_intermediate(tenant.private, above.tenant, above.id, above.sealed)
        with self._lock:
            self._keys[above.id] = key
            if len(self._keys) > _HELD:
                self._keys.popitem(last=False)
        return key
