"""How the box calls others over TLS: the same with every Python."""

from __future__ import annotations

import ssl
from pathlib import Path


def client_context(ca: Path | str | None, pem: str | None = None) -> ssl.SSLContext:
    """Certificate and host name are checked, TLS 1.2 or later; `ca`: a file, `pem`: its text, None: the system's. OSError,
    ssl.SSLError.

    From Python 3.13 on a certificate must have each extension that RFC 5280 asks authorities for. Those of hospitals often
    lack one (an authority key identifier), and say who somebody is all the same: that alone is not asked for.
    """
    context = ssl.create_default_context(cafile=None if ca is None else str(ca), cadata=pem)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
