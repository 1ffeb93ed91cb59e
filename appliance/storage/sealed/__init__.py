"""The sealed recording: one append-only, self-describing, encrypted file per recording. See docs/sealed-format.md."""

from appliance.storage.sealed.blocks import (
    RTCP_DTYPE,
    Block,
    BlockType,
    EndBlock,
    EvidenceBlock,
    InfoBlock,
    MarkBlock,
    RtcpBlock,
    UnknownBlock,
    pack_evidence,
    pack_info,
    pack_mark,
    pack_packets,
    pack_rtcp,
)
from appliance.storage.sealed.columns import PacketBlock, PacketColumns, PreparedColumns, prepare
from appliance.storage.sealed.errors import (
    HeaderError,
    Problem,
    SealedCorruptError,
    SealedLimitError,
    SealedStateError,
)
from appliance.storage.sealed.layout import HEADER_BYTES, Header
from appliance.storage.sealed.writer import Compressor, SealedWriter

__all__ = [
    "HEADER_BYTES",
    "RTCP_DTYPE",
    "Block",
    "BlockType",
    "Compressor",
    "EndBlock",
    "EvidenceBlock",
    "Header",
    "HeaderError",
    "InfoBlock",
    "MarkBlock",
    "PacketBlock",
    "PacketColumns",
    "PreparedColumns",
    "Problem",
    "RtcpBlock",
    "SealedCorruptError",
    "SealedLimitError",
    "SealedStateError",
    "SealedWriter",
    "UnknownBlock",
    "pack_evidence",
    "pack_info",
    "pack_mark",
    "pack_packets",
    "pack_rtcp",
    "prepare",
]
