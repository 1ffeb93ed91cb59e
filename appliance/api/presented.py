"""What a caller presents, read once when the call begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

from appliance.access.networks import network_of

_PEM: Final = "x509_pem_cert"
_HEADER: Final = "authorization"


@dataclass(frozen=True, slots=True)
class Presented:
    """See the module. The context is not asked again: once the client has gone, gRPC's core reads what it has freed, and
    the whole process dies of it (grpcio 1.7x, `grpc_call_auth_context`)."""

    certificate: bytes | None
    """The client's, as PEM."""
    tokens: tuple[str | bytes, ...]
    """Values of `authorization`."""
    network: str
    """Where it comes from; see `access.networks`."""

    @classmethod
    def of(cls, context: Any) -> Self:
        """Of a call that begins."""
        return cls(
            next((bytes(one) for one in context.auth_context().get(_PEM, ())), None),
            tuple(value for key, value in context.invocation_metadata() or () if key == _HEADER),
            network_of(context.peer()),
        )
