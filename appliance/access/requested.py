"""Certificate requests (PKCS #10, RFC 2986): what is accepted of them. Their names are not: the box says whose it is."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from appliance.access.refusals import CertificateRequestError

MAX_BYTES: Final = 16 * 1024
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
_RSA_BITS: Final = range(2048, 4097)
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def public_key(pem: bytes, field: str = "certificate_request") -> PublicKey:
    """The key of a request (PEM) that was signed with it: who asks has its private half. CertificateRequestError.

    Keys that TLS between gRPC peers takes: EC on P-256 or P-384, RSA of 2048 to 4096 bits.
    """
    if len(pem) > MAX_BYTES:
        raise CertificateRequestError(f"should have at most {MAX_BYTES} bytes", field=field)
    try:
        request = x509.load_pem_x509_csr(pem)
        key = request.public_key()
        proven = isinstance(request.signature_hash_algorithm, _HASHES) and request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        raise CertificateRequestError(
            "should be a certificate request (PKCS #10, PEM)", field=field
        ) from None
    fits = (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES)) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS and key.public_numbers().e == 65537
    )
    if not fits or not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise CertificateRequestError(
            "should have a key on P-256 or P-384, or an RSA key of 2048 to 4096 bits", field=field
        )
    if not proven:
        raise CertificateRequestError("is not signed by its own key with SHA-2", field=field)
    return key
