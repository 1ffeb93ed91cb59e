"""Call records of real switchboards' shapes, and all ways in which a file can be wrong: row, column, reason are named."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from appliance.completeness.errors import (
    RecordMapError,
    RecordMapMisfitError,
    RecordsTooLargeError,
    RecordsUnreadableError,
)
from appliance.completeness.maps import RecordMap, checked
from appliance.completeness.presets import PRESETS
from appliance.completeness.reading import KEEP_NS, MAX_BYTES, MAX_PROBLEMS, MAX_ROWS, read
from appliance.model import Direction

S = 10**9
LONDON = ZoneInfo("Europe/London")
NOW = int(datetime(2026, 11, 29, 18, tzinfo=UTC).timestamp()) * S
START = int(datetime(2026, 11, 29, 9, 30, tzinfo=UTC).timestamp()) * S
PLAIN = {"start": "start", "duration": "talk", "from_number": "from", "to_number": "to"}


def records(data: bytes | str, how: RecordMap | str, now_ns: int = NOW):
    raw = data.encode() if isinstance(data, str) else data
    return read(raw, PRESETS[how] if isinstance(how, str) else how, LONDON, now_ns)


def one(data: bytes | str, how: RecordMap | str):
    found = records(data, how)
    assert not found.broken, found.problems
    assert len(found.records) == found.rows == 1
    return found.records[0]


def plain(**fields) -> RecordMap:
    return checked({**PLAIN, **fields})


def test_asterisk():
    text = (
        '"","07700900123","200","from-trunk","""Ada Lovelace"" <07700900123>","PJSIP/trunk-00000001",'
        '"PJSIP/200-00000002","Dial","PJSIP/200,30","2026-11-29 09:30:00","2026-11-29 09:30:12",'
        '"2026-11-29 09:32:12",132,120,"ANSWERED","DOCUMENTATION","1795944600.1",""\n'
    )
    found = one(text, "asterisk-cdr-csv")
    assert (found.start_ns, found.answer_ns, found.talk_ns) == (START, START + 12 * S, 120 * S)
    assert found.numbers == ("07700900123", "200") and found.call_id == "1795944600.1" and found.answered
    # As it comes without loguniqueid; and nobody answered.
    bare = '"","07700900123","200","x","","a","b","Dial","",'
    bare += '"2026-11-29 09:30:00",,"2026-11-29 09:30:20",20,0,"NO ANSWER","DOCUMENTATION"'
    found = one(bare, "asterisk-cdr-csv")
    assert not found.answered and not found.call_id


def test_freeswitch():
    text = (
        '"Ada","07700900123","01632960100","public","2026-11-29 09:30:00","2026-11-29 09:30:08",'
        '"2026-11-29 09:31:08","68","60","NORMAL_CLEARING","0ae3dd4c-uuid","","","PCMA","PCMA"\n'
    )
    found = one(text, "freeswitch-cdr-csv")
    assert (found.start_ns, found.answer_ns, found.talk_ns) == (START, START + 8 * S, 60 * S)
    assert found.numbers == ("07700900123", "01632960100") and found.call_id == "0ae3dd4c-uuid"


def test_cisco():
    names = (
        "cdrRecordType,globalCallID_callManagerId,globalCallID_callId,origLegCallIdentifier,dateTimeOrigination,"
        "callingPartyNumber,originalCalledPartyNumber,finalCalledPartyNumber,dateTimeConnect,dateTimeDisconnect,duration"
    )
    head = ",".join(f'"{name}"' for name in names.split(","))
    types = (
        "INTEGER,INTEGER,INTEGER,INTEGER,INTEGER,VARCHAR(50),VARCHAR(50),VARCHAR(50),INTEGER,INTEGER,INTEGER"
    )
    at = START // S
    row = f'1,2,5001,111,{at},"07700900123","7002","7005",{at + 5},{at + 65},60'
    missed = f'1,2,5002,112,{at},"07700900123","7002","7002",0,{at + 30},0'
    found = records("\n".join((head, types, row, missed)) + "\n", "cisco-cucm")
    answered, other = found.records
    assert (answered.start_ns, answered.answer_ns, answered.talk_ns) == (START, START + 5 * S, 60 * S)
    assert answered.call_id == "2-5001" and answered.numbers == ("07700900123", "7002", "7005")
    assert answered.answered and not other.answered


def test_avaya():
    row = (
        "2026/11/29 09:30:00,00:01:40,7,07700900123,I,01632960100,01632960100,,0,1000014160,0,"
        "E200,Ward 7,T9001,Line 1.0,0,0,,,,,,,,\r\n"
    )
    found = one(row, "avaya-ip-office-smdr")
    assert (found.start_ns, found.answer_ns, found.talk_ns) == (START, START + 7 * S, 100 * S)
    assert found.direction is Direction.INBOUND and found.call_id == "1000014160"
    internal = row.replace(",I,", ",O,").replace(",,0,1000", ",,1,1000")
    assert one(internal, "avaya-ip-office-smdr").direction is Direction.INTERNAL
    swapped = row.replace("E200,Ward 7,T9001", "T9001,x,E200")
    assert "200" in one(swapped, "avaya-ip-office-smdr").numbers


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "latin-1", "utf-16"])
def test_encodings_delimiters_and_decimal_commas(encoding):
    text = "Start;Talk;From;To;Bemærkning\n29.11.2026 09:30:00;90,5;07700 900-123;(01632) 960100;Grüße\n"
    how = plain(
        encoding="utf-8" if encoding == "utf-8-sig" else encoding,
        delimiter=";",
        decimal_comma=True,
        time_format="%d.%m.%Y %H:%M:%S",
    )
    found = one(text.encode(encoding), how)
    assert found.start_ns == START and found.talk_ns == 90_500_000_000
    assert found.numbers == ("07700900123", "01632960100")


@pytest.mark.parametrize(
    ("form", "text", "wanted"),
    [
        ("iso", "2026-11-29T09:30:00", START),
        ("iso", "2026-11-29T10:30:00+01:00", START),
        ("iso", "2026-11-29T09:30:00Z", START),
        ("epoch", str(START // S), START),
        ("epoch-ms", str(START // 10**6), START),
        ("%m/%d/%Y %I:%M:%S %p", "11/29/2026 09:30:00 AM", START),
    ],
)
def test_times(form, text, wanted):
    assert one(f"start,talk,from,to\n{text},1,1,2\n", plain(time_format=form)).start_ns == wanted


@pytest.mark.parametrize(
    ("form", "text", "seconds"),
    [("seconds", "61", 61), ("seconds", "0.25", 0.25), ("clock", "1:02:03", 3723), ("clock", "2:03", 123)]
    + [("milliseconds", "1500", 1.5)],
)
def test_durations(form, text, seconds):
    text = f"start,talk,from,to\n2026-11-29T09:30:00,{text},1,2\n"
    assert one(text, plain(duration_format=form)).talk_ns == int(seconds * S)


def test_a_day_and_a_time_may_stand_apart():
    how = plain(start_time="at", time_format="%d/%m/%Y %H:%M")
    assert one("start,at,talk,from,to\n29/11/2026,09:30,5,1,2\n", how).start_ns == START


def test_an_hour_of_autumn_comes_twice_and_one_of_spring_not_at_all():
    rows = ["2026-10-25T01:50:00", "2026-10-25T01:10:00", "2026-10-25T02:10:00"]
    text = "start,talk,from,to\n" + "".join(f"{one},5,1,2\n" for one in rows)
    found = [
        (one.start_ns - records(text, plain()).records[0].start_ns) // S
        for one in records(text, plain()).records
    ]
    assert found == [0, 1200, 4800], "01:10 after 01:50 is the second one"
    spring = records(
        "start,talk,from,to\n" + "2026-09-29T01:30:00,5,1,2\n" * 9 + "2027-03-28T01:30:00,5,1,2\n", plain()
    )
    assert [(one.row, one.column, one.reason) for one in spring.problems] == [(11, "start", "TIME_SKIPPED")]


def test_broken_rows_are_named_and_the_rest_goes_on():
    good = "2026-11-29T09:30:00,5,07700900123,2"
    bad = {
        "yesterday,5,1,2": ("start", "TIME_UNREADABLE"),
        ",5,1,2": ("start", "COLUMN_MISSING"),
        "2026-11-29T09:30:00,five,1,2": ("talk", "DURATION_UNREADABLE"),
        "2026-11-29T09:30:00,-5,1,2": ("talk", "DURATION_UNREADABLE"),
        "2026-11-29T09:30:00,99999999,1,2": ("talk", "DURATION_UNREADABLE"),
        "2026-11-29T09:30:00,,1,2": ("talk", "COLUMN_MISSING"),
        f"2026-11-29T09:30:00,5,{'1' * 65},2": ("from", "FIELD_TOO_LONG"),
        "2027-11-29T09:30:00,5,1,2": ("start", "TIME_IN_FUTURE"),
        '"2026-11-29T09:30:00,5,1,2': ("", "ROW_MALFORMED"),
        f"2026-11-29T09:30:00,5,1,2,{'x' * 20000}": ("", "ROW_TOO_LONG"),
        "2026-11-29T09:30:00,5,1,2" + "," * 600: ("", "ROW_TOO_LONG"),
        "\x00": ("start", "TIME_UNREADABLE"),
    }
    lines = ["start,talk,from,to"]
    for line in bad:
        lines += [good] * 5 + [line]
    encoded = ("\n".join(lines) + "\n").replace("\x00", "\x01")
    found = records(encoded, plain())
    assert {(one.row, one.column, one.reason) for one in found.problems} == {
        (7 + 6 * at, column, reason) for at, (column, reason) in enumerate(bad.values())
    }
    assert len(found.records) == 5 * len(bad) and not found.misfit
    found.check_fit()


def test_a_zero_byte_far_into_a_file_breaks_its_row_alone():
    rows = "2026-11-29T09:30:00,5,07700900123,2\n" * 500
    found = records(f"start,talk,from,to\n{rows}2026-11-29T09:30:00,5,077\0,2\n", plain())
    assert [(one.row, one.reason) for one in found.problems] == [(502, "ROW_MALFORMED")]


def test_too_much_that_is_broken_is_the_maps_fault():
    lines = ["start,talk,from,to"] + ["29/11/2026 09:30,5,1,2"] * 3 + ["2026-11-29T09:30:00,5,1,2"] * 9
    found = records("\n".join(lines), plain())
    with pytest.raises(RecordMapMisfitError) as caught:
        found.check_fit()
    assert caught.value.data == {"rows": 12, "broken": 3, "column": "start", "problem": "TIME_UNREADABLE"}
    with pytest.raises(RecordMapMisfitError) as caught:
        records("a,b\n1,2\n", plain())
    assert (caught.value.data["field"], caught.value.data["column"]) == ("map.start", "start")


def test_files_that_are_none():
    with pytest.raises(RecordsUnreadableError, match="UTF-16"):
        records("start,talk\n".encode("utf-16"), plain())
    with pytest.raises(RecordsUnreadableError) as caught:
        records(b"start,talk,from,to\n\xff\xff", plain())
    assert caught.value.data["offset"] == 19
    with pytest.raises(RecordsTooLargeError):
        read(b" " * (MAX_BYTES + 1), plain(), LONDON, NOW)
    with pytest.raises(RecordsTooLargeError):
        records("start,talk,from,to\n" + "x\n" * (MAX_ROWS + 1), plain())
    assert records(b"", plain()).rows == 0


def test_3cx():
    head = (
        "Call 2655,89d3af2d8f010000_3456,00:08:10,2026/11/29 09:30:00,2026/11/29 09:30:08,2026/11/29 09:38:18"
    )
    text = (
        f"{head},TerminatedByDst,07700900123,Ext.8002,10020,8002,8002,ReplacedDst,Ext.113,113,,,,,"
        "Chain: 07700900123;Ext.8002;Ext.113;,Line,Queue,Extension,07700900123,Desk,Lovelace, Ada,\n"
    )
    found = one(text, "3cx-cdr")
    assert (found.start_ns, found.answer_ns, found.talk_ns) == (START, START + 8 * S, 490 * S)
    assert found.numbers == ("07700900123", "8002", "113") and found.call_id == "89d3af2d8f010000_3456"
    assert found.answered and found.direction is Direction.INBOUND
    # Dialled by an extension, and nobody answered. In summer it is still UTC.
    text = (
        "Call 7,00000184_1,,2026/09/29 09:30:00,,2026/09/29 09:30:20,TerminatedBySrc,Ext.113,07700900123,113,10001,"
        "07700900123,,,,,,,,Chain: Ext.113;07700900123;,Extension,Line,,Ada,,,"
    )
    found = one(text, "3cx-cdr")
    assert not found.answered and found.talk_ns == 0 and found.direction is None
    assert found.numbers == ("113", "07700900123")
    assert found.start_ns == int(datetime(2026, 9, 29, 9, 30, tzinfo=UTC).timestamp()) * S


def test_whatever_comes_nothing_breaks():
    rng = random.Random(5)
    for how in (*PRESETS.values(), plain()):
        for _ in range(30):
            raw = bytes(rng.choice(b'",;\n\r0123456789:/- TZabc\xc3\xa9') for _ in range(400))
            try:
                found = read(raw, how, LONDON, NOW)
            except (RecordsUnreadableError, RecordMapMisfitError):
                continue
            assert found.broken + found.old + len(found.records) == found.rows
            assert len(found.problems) <= MAX_PROBLEMS


def test_calls_before_what_is_kept_are_counted_and_no_more():
    old = datetime.fromtimestamp((NOW - KEEP_NS) // S - 60, UTC).isoformat()
    found = records(f"start,talk,from,to\n{old},5,1,2\n", plain())
    assert (found.old, found.broken, found.records) == (1, 0, [])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"start": ""}, "map.start"),
        ({"duration": ""}, "map"),
        ({"delimiter": "ab"}, "map.delimiter"),
        ({"encoding": "ebcdic"}, "map.encoding"),
        ({"time_format": "%Q"}, "map.time_format"),
        ({"time_format": "now"}, "map.time_format"),
        ({"time_format": "%d/%m/%"}, "map.time_format"),
        ({"time_zone": "Mars/Olympus"}, "map.time_zone"),
        ({"header_rows": 9}, "map.header_rows"),
        ({"header_rows": 0}, "map"),
        ({"start": "0"}, "map"),
        ({"start": "9" * 30}, "map"),
        ({"to_number": "x\x1b[2J"}, "map.to_number"),
        ({"directions": {"I": "sideways"}}, "map.directions"),
        ({"unknown": "x"}, "map.unknown"),
    ],
)
def test_maps_that_cannot_be_name_the_field(fields, field):
    with pytest.raises(RecordMapError) as caught:
        checked({**PLAIN, **fields})
    assert caught.value.data["field"] == field
