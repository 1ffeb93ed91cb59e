"""Column maps of five switchboards' files, as they come.

Sources: Asterisk cdr_csv (README of its call detail records; `uniqueid` stands there with loguniqueid=yes); FreeSWITCH
mod_cdr_csv, template "example"; Cisco Unified Communications Manager CDR (a row of names, a row of types, times in seconds
since the Unix epoch); Avaya IP Office SMDR (fields by position, times rounded up to the second, no header); 3CX CDR (all
fields in the order of "CDR - Call Data Records" in 3CX's documentation, which says no form of times: that is taken from
records that users of version 20 published, UTC too. Not held against a 3CX of our own).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from appliance.completeness.maps import EPOCH, RecordMap
from appliance.model import Direction

PRESETS: Final[Mapping[str, RecordMap]] = MappingProxyType(
    {
        "asterisk-cdr-csv": RecordMap(
            header_rows=0,
            start="10",
            answer="11",
            end="12",
            duration="14",  # billsec: from the answer on
            from_number="2",
            to_number="3",
            disposition="15",
            call_id=("17",),
            answered=("ANSWERED",),
        ),
        "freeswitch-cdr-csv": RecordMap(
            header_rows=0,
            start="5",
            answer="6",
            end="7",
            duration="9",
            from_number="2",
            to_number="3",
            call_id=("11",),
        ),
        "cisco-cucm": RecordMap(
            header_rows=2,
            start="dateTimeOrigination",
            answer="dateTimeConnect",
            end="dateTimeDisconnect",
            duration="duration",
            from_number="callingPartyNumber",
            to_number="originalCalledPartyNumber",
            extension="finalCalledPartyNumber",
            call_id=("globalCallID_callManagerId", "globalCallID_callId"),
            time_format=EPOCH,
            time_zone="UTC",
        ),
        "avaya-ip-office-smdr": RecordMap(
            header_rows=0,
            start="1",
            duration="2",
            ring="3",
            from_number="4",
            direction="5",
            to_number="6",
            internal="9",
            call_id=("10",),
            extension="14",
            time_format="%Y/%m/%d %H:%M:%S",
            duration_format="clock",
            directions={"I": Direction.INBOUND, "O": Direction.OUTBOUND},
            strip=("E",),
        ),
        "3cx-cdr": RecordMap(
            header_rows=0,
            start="4",
            answer="5",
            end="6",
            duration="3",  # from the answer on
            from_number="8",
            to_number="9",
            extension="14",  # who had it in the end, where it was passed on
            direction="21",  # the caller's type: of an extension the numbers tell
            call_id=("2",),
            time_format="%Y/%m/%d %H:%M:%S",
            time_zone="UTC",
            duration_format="clock",
            directions={"Line": Direction.INBOUND},
            strip=("Ext.",),
        ),
    }
)
