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
    pack_rtcp,
)
from appliance.storage.sealed.columns import (
    PacketBlock,
    PacketColumns,
    Packets,
    PreparedColumns,
    join_packets,
    prepare,
)
from appliance.storage.sealed.errors import (
    HeaderError,
    Problem,
    SealedCorruptError,
    SealedLimitError,
    SealedStateError,
)
from appliance.storage.sealed.footer import Footer, device_id
from appliance.storage.sealed.inspection import Finding, Inspection, inspect, recover, seal_footer
from appliance.storage.sealed.layout import FOOTER_BYTES, HEADER_BYTES, FooterFlag, Header
from appliance.storage.sealed.reader import SealedReader
from appliance.storage.sealed.verification import Report, verify
from appliance.storage.sealed.writer import Compressor, SealedWriter

__all__ = [
    "FOOTER_BYTES",
    "HEADER_BYTES",
    "RTCP_DTYPE",
    "Block",
    "BlockType",
    "Compressor",
    "EndBlock",
    "EvidenceBlock",
    "Finding",
    "Footer",
    "FooterFlag",
    "Header",
    "HeaderError",
    "InfoBlock",
    "Inspection",
    "MarkBlock",
    "PacketBlock",
    "PacketColumns",
    "Packets",
    "PreparedColumns",
    "Problem",
    "Report",
    "RtcpBlock",
    "SealedCorruptError",
    "SealedLimitError",
    "SealedReader",
    "SealedStateError",
    "SealedWriter",
    "UnknownBlock",
    "device_id",
    "inspect",
    "join_packets",
    "pack_evidence",
    "pack_info",
    "pack_mark",
    "pack_rtcp",
    "prepare",
    "recover",
    "seal_footer",
    "verify",
]
