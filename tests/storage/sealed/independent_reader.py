"""A reader of sealed recordings written from docs/sealed-format.md alone. It shares no code with the appliance.

python independent_reader.py FILE HEX_KEY [HEX_DEVICE_PUBLIC_KEY]
"""

import hashlib
import json
import struct
import sys
import zlib

import zstandard
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Refused(Exception):
    """The file is not what the document says."""


def require(condition, what):
    if not condition:
        raise Refused(what)


def merkle(leaves):
    """RFC 6962 section 2.1, straight from its definition, over leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + merkle(leaves[:k]) + merkle(leaves[k:])).digest()


def le(raw, signed=False):
    return int.from_bytes(raw, "little", signed=signed)


def read_header(data):
    require(len(data) >= 128, "header cut")
    h = data[:128]
    require(h[:8] == bytes.fromhex("894557530D0A1A0A"), "magic")
    require(le(h[8:10]) == 1 and le(h[10:12]) == 128, "version")
    require(h[12:16] == b"\x01\x01\x01\x01", "algorithms")
    require(h[79:124] == bytes(45), "reserved")
    require(le(h[124:128]) == zlib.crc32(h[:124]), "header checksum")
    return {
        "recording": h[16:32],
        "tenant": h[32:48],
        "line": h[48:64],
        "created_ns": le(h[64:72], signed=True),
        "nonce_prefix": h[72:79],
        "leaf": hashlib.sha256(b"\x00" + h).digest(),
    }


def read_planes(planes, n, first_plane, width, first_value):
    """A delta column: width planes of n bytes; gives n values modulo 256**width."""
    values = []
    value = first_value
    for i in range(n):
        difference = sum(planes[(first_plane + w) * n + i] << (8 * w) for w in range(width))
        value = (value + difference) % (1 << (8 * width))
        values.append(value)
    return values


def read_packets(body):
    require(len(body) >= 32, "packets cut")
    track, coding, layout, n, arrival, timestamp, ssrc, sequence, size, unit = struct.unpack(
        "<HBBIqIIHHI", body[:32]
    )
    require(coding == 0 and layout == 1 and n >= 1, "coding")
    planes = body[32 : 32 + 17 * n]
    require(len(planes) == 17 * n, "planes cut")
    arrivals = []
    for i in range(n):
        raw = bytes(planes[(6 + w) * n + i] for w in range(4))
        arrival += le(raw, signed=True) * unit
        arrivals.append(arrival)
    sizes = read_planes(planes, n, 14, 2, size)
    columns = zip(
        read_planes(planes, n, 0, 2, sequence),
        read_planes(planes, n, 2, 4, timestamp),
        arrivals,
        read_planes(planes, n, 10, 4, ssrc),
        sizes,
        planes[16 * n : 17 * n],
        strict=True,
    )
    rest = body[32 + 17 * n :]
    require(sum(sizes) == len(rest), "payload size")
    packets = []
    at = 0
    for seq, ts, arrived, source, length, second in columns:
        packets.append(
            {
                "sequence": seq,
                "timestamp": ts,
                "arrival_ns": arrived,
                "ssrc": source,
                "marker": second >= 128,
                "payload_type": second % 128,
                "payload": rest[at : at + length],
            }
        )
        at += length
    return {"track": track, "packets": packets}


def read_evidence(body):
    at, n, m = struct.unpack("<qHH", body[:12])
    require(12 + n + m <= len(body), "evidence cut")
    return {
        "at_ns": at,
        "kind": body[12 : 12 + n].decode(),
        "content_type": body[12 + n : 12 + n + m].decode(),
        "content": body[12 + n + m :],
    }


def read_rtcp(body):
    require(len(body) % 36 == 0, "rtcp size")
    names = ("track", "zero", "ssrc", "timestamp", "packets", "octets", "ntp", "arrival_ns")
    return [dict(zip(names, row, strict=True)) for row in struct.iter_unpack("<HHIIIIQq", body)]


def read_end(body):
    require(len(body) == 80, "end size")
    names = ("frames", "media_packets", "media_bytes", "event_packets", "ended_ns", "flags", "zero", "root")
    return dict(zip(names, struct.unpack("<QQQQqII32s", body), strict=True))


READERS = {
    1: ("INFO", json.loads),
    2: ("MARK", json.loads),
    3: ("EVIDENCE", read_evidence),
    4: ("MEDIA", read_packets),
    5: ("EVENT", read_packets),
    6: ("RTCP", read_rtcp),
    7: ("END", read_end),
}


def decompress(packed):
    plain = b""
    while packed:
        one = zstandard.ZstdDecompressor().decompressobj()
        plain += one.decompress(packed)
        require(one.eof, "zstd frame cut")
        packed = one.unused_data
    require(len(plain) <= 33554432, "too much in a frame")
    return plain


def read_blocks(plain):
    at = 0
    while at < len(plain):
        kind = plain[at]
        length = le(plain[at + 4 : at + 8])
        body = plain[at + 8 : at + 8 + length]
        require(len(body) == length, "block cut")
        if kind in READERS:
            name, reader = READERS[kind]
            yield name, reader(body)
        at += 8 + length


def read(data, key, device_public_key=None):
    """Reads a whole file strictly; Refused where anything at all is wrong. A file may lack last frame and footer."""
    header = read_header(data)
    cipher = AESGCM(key) if key is not None else None
    leaves = [header["leaf"]]
    blocks = []
    at = 128
    last = False
    while at < len(data) and data[at : at + 4] == bytes.fromhex("E7455752"):
        require(not last, "frame after the last")
        prefix = data[at : at + 32]
        require(len(prefix) == 32, "frame cut")
        length, counter = le(prefix[4:8]), le(prefix[8:12])
        require(16 <= length <= 34603008, "frame length")
        require(prefix[12] in (1, 2) and prefix[13:16] == bytes(3), "frame kind")
        require(counter == len(leaves) - 1, "frame counter")
        require(prefix[16:32] == leaves[-1][:16], "frame chain")
        ciphertext = data[at + 32 : at + 32 + length]
        check = data[at + 32 + length : at + 40 + length]
        leaf = hashlib.sha256(b"\x00" + prefix + ciphertext).digest()
        require(check == leaf[:8], "frame checksum")
        last = prefix[12] == 2
        if cipher is not None:
            nonce = header["nonce_prefix"] + counter.to_bytes(4, "big") + (b"\x01" if last else b"\x00")
            bound = b"earwitness sealed frame v1\x00" + header["leaf"] + at.to_bytes(8, "little") + prefix
            try:
                plain = decompress(cipher.decrypt(nonce, ciphertext, bound))
            except InvalidTag:
                raise Refused("frame does not open") from None
            found = list(read_blocks(plain))
            ends = [name for name, _ in found].count("END")
            require(ends == (1 if last else 0) and (not last or found[-1][0] == "END"), "END out of place")
            if last:
                require(found[-1][1]["root"] == merkle(leaves), "root in END")
            blocks.append(found)
        leaves.append(leaf)
        at += 40 + length
    footer = None
    if at < len(data):
        footer = read_footer(data[at:], len(leaves) - 1, at, last, merkle(leaves), device_public_key)
    return {"header": header, "frames": blocks, "whole": last, "footer": footer, "root": merkle(leaves)}


def read_footer(raw, frames, offset, last, root, device_public_key):
    require(len(raw) == 200 and raw[:8] == bytes.fromhex("894557460D0A1A0A"), "footer")
    require(le(raw[8:10]) == 1 and le(raw[10:12]) == 200 and le(raw[192:196]) == 200, "footer version")
    require(le(raw[196:200]) == zlib.crc32(raw[:196]), "footer checksum")
    require(raw[12] in range(4) and raw[13:16] == bytes(3), "footer flags")
    require(bool(raw[12] & 1) == last, "whole or not")
    require(le(raw[16:24]) == frames and le(raw[24:32]) == offset, "footer totals")
    require(raw[48:80] == root, "footer root")
    key = raw[96:128]
    require(raw[80:96] == hashlib.sha256(key).digest()[:16], "device id")
    require(device_public_key in (None, key), "another device")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(
            raw[128:192], b"earwitness sealed footer v1\x00" + raw[:128]
        )
    except InvalidSignature:
        raise Refused("signature") from None
    return {
        "recovered": bool(raw[12] & 2),
        "dropped": le(raw[32:40]),
        "sealed_ns": le(raw[40:48], signed=True),
        "device_key": key,
    }


def main(arguments):
    with open(arguments[1], "rb") as file:
        data = file.read()
    key = bytes.fromhex(arguments[2])
    device = bytes.fromhex(arguments[3]) if len(arguments) > 3 else None
    found = read(data, key, device)
    packets = sum(len(body["packets"]) for f in found["frames"] for name, body in f if name == "MEDIA")
    print(
        f"whole: {found['whole']}; frames: {len(found['frames'])}; packets: {packets}; signed: {bool(found['footer'])}"
    )


if __name__ == "__main__":
    main(sys.argv)
