"""Keys and certificate requests made where the key shall stay."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance.cli.exits import Exit, Failure


def key_and_request(name: str) -> tuple[bytes, bytes]:
    """A new private key on P-256 (PKCS #8) and a request signed with it (PKCS #10), both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem, request.public_bytes(serialization.Encoding.PEM)


def write_new(path: Path, content: bytes, mode: int) -> None:
    """A file that was not there; Failure where it was, or cannot be written."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise Failure(Exit.USAGE, f"cannot write {path}: {error.strerror}", "FILE_UNWRITABLE") from error
