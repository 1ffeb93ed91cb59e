"""The kernel proper out of Debian's self-extracting one: an emulated machine takes seconds to decompress it itself."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib

from image.errors import BuildError

HEADER = 0x1F1  # of the boot protocol; the offsets below are from the file's start
MAGIC = b"HdrS"


def _gunzip(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(data)


def _unzstd(data: bytes) -> bytes:
    import zstandard  # only here: a third-party package

    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


DECOMPRESSORS = {
    b"\x1f\x8b": _gunzip,
    b"\xfd7zXZ\x00": lambda data: lzma.LZMADecompressor().decompress(data),
    b"BZh": lambda data: bz2.BZ2Decompressor().decompress(data),
    b"\x28\xb5\x2f\xfd": _unzstd,
}


def vmlinux(image: bytes) -> bytes:
    """The ELF kernel in a bzImage (Linux's x86 boot protocol 2.08 or newer). `BuildError` where it is none."""
    if image[0x202:0x206] != MAGIC:
        raise BuildError("the kernel is no bzImage")
    (version,) = struct.unpack_from("<H", image, 0x206)
    if version < 0x208:
        raise BuildError(f"boot protocol {version:#x} says nothing of its payload")
    sectors = image[HEADER] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[(sectors + 1) * 512 + offset :][:length]
    for magic, decompress in DECOMPRESSORS.items():
        if payload.startswith(magic):
            found = decompress(payload)
            if not found.startswith(b"\x7fELF"):
                raise BuildError("the kernel's payload is no ELF file")
            return found
    raise BuildError(f"the kernel is compressed by something unknown: {payload[:6].hex()}")
