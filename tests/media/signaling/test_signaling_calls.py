"""A recording client, signaling, and capture: calls from INVITE to BYE over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from signaling_kit import (
    LINE,
    MULTIPART,
    PATIENT,
    SURGERY,
    TENANT,
    House,
    a_house,
    both,
    described,
    metadata,
    sdp,
    usual,
)

from appliance.media.sip.flow import Transport
from appliance.media.sip.sdp import MediaDirection
from appliance.model import Direction, Role

Scenario = Callable[[House], Awaitable[None]]


def in_house(root: Path, scenario: Scenario, *lines: object, **options: object) -> None:
    async def run() -> None:
        async with a_house(root, *lines, **options) as house:  # type: ignore[arg-type]
            await scenario(house)

    asyncio.run(run())


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP])
def test_call_from_invite_to_bye(tmp_path: Path, transport: Transport) -> None:
    async def scenario(house: House) -> None:
        src = await house.src(transport)
        session, response = await src.invite(usual(), MULTIPART)
        assert response.status == 200
        assert response.contact is not None and "+sip.srs" in str(response.contact)
        answer = described(response)
        assert [media.port for media in answer.media] == [20_000, 20_002]
        assert [media.label for media in answer.media] == ["1", "2"]
        assert {answer.direction_of(media) for media in answer.media} == {MediaDirection.RECVONLY}
        taken = house.capture.history[0]
        info = taken.info
        assert (info.direction, info.part, info.source) == (Direction.INBOUND, 1, "siprec")
        assert [(party.aor, party.role) for party in info.parties] == [
            (PATIENT, Role.CALLER),
            (SURGERY, Role.AGENT),
        ]
        assert [(track.label, track.party) for track in info.tracks] == [("1", 0), ("2", 1)]
        assert info.tenant_id == TENANT.tenant_id and info.line_id == LINE.line_id
        assert "c2Vzc2lvbi0x" in info.session_ids
        assert taken.request.tenant_public_key == TENANT.public_key
        assert [one.encoding for one in taken.specs[0].payload_types] == ["PCMU", "TELEPHONE-EVENT"]
        assert [one.kind for one in taken.evidence] == ["sip-invite", "siprec-metadata"]
        assert b"Call-ID" in taken.evidence[0].content and PATIENT.encode() in taken.evidence[1].content
        await src.bye(session)
        await house.capture.until(lambda: taken.closed)
        assert taken.closed == "bye"
        assert [one.kind for one in taken.evidence][-1] == "sip-bye"
        await src.close()

    in_house(tmp_path, scenario)


def test_options_says_what_we_take(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        response = await src.options()
        assert response.status == 200
        assert {"siprec", "timer", "100rel", "replaces"} <= set(response.supported)
        assert {"INVITE", "ACK", "BYE", "CANCEL", "UPDATE", "OPTIONS", "PRACK"} <= set(response.allow)
        accepted = {kind.essence for kind in response.accept or ()}
        assert {
            "application/sdp",
            "application/rs-metadata",
            "application/rs-metadata+xml",
            "multipart/mixed",
        } <= accepted
        await src.close()

    in_house(tmp_path, scenario)


HELD_OFFERS = [
    sdp("1 inactive", "2 inactive"),
    sdp("1 sendonly", "2 sendonly", session="c=IN IP4 0.0.0.0"),
    sdp("1 none", "2 none", session="c=IN IP4 0.0.0.0"),
]


@pytest.mark.parametrize("held", HELD_OFFERS)
def test_hold_and_resume(tmp_path: Path, held: bytes) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        session, _ = await src.invite(usual(), MULTIPART)
        taken = house.capture.history[0]
        response = await src.change(session, "INVITE", held, "application/sdp")
        answer = described(response)
        assert response.status == 200
        assert {answer.direction_of(media) for media in answer.media} == {MediaDirection.INACTIVE}
        assert [media.port for media in answer.media] == [20_000, 20_002]
        assert not any(spec.active for spec in taken.specs.values())
        assert taken.kinds == ["held"] and taken.marks[0].track == -1
        assert house.signaling.board.listing()[0].state == 3  # held
        response = await src.change(session, "INVITE", sdp("1", "2"), "application/sdp")
        assert {described(response).direction_of(one) for one in described(response).media} == {
            MediaDirection.RECVONLY
        }
        assert all(spec.active for spec in taken.specs.values())
        assert taken.kinds == ["held", "unheld"]
        assert [party.aor for party in taken.info.parties] == [
            PATIENT,
            SURGERY,
        ]  # a plain re-INVITE takes nothing away
        await src.close()

    in_house(tmp_path, scenario)


def test_metadata_only_update_corrects_a_party(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        body = both(sdp("1", "2"), metadata({"a": ("sip:anonymous@x", "1"), "b": (SURGERY, "2")}))
        session, _ = await src.invite(body, MULTIPART)
        taken = house.capture.history[0]
        document = metadata({"a": (PATIENT, "1"), "b": (SURGERY, "2")}, complete=False)
        response = await src.change(session, "UPDATE", document, "application/rs-metadata")
        assert response.status == 200 and not response.body
        assert "+sip.srs" in str(response.contact)
        await house.capture.until(lambda: taken.info.parties[0].aor == PATIENT)
        assert taken.info.parties[0].role is Role.CALLER
        assert [track.party for track in taken.info.tracks] == [0, 1]
        await src.close()

    in_house(tmp_path, scenario)


@pytest.mark.parametrize(
    "junk", [b"<recording><participant", b"\x00\xff\xfe", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", b""]
)
def test_broken_metadata_never_refuses(tmp_path: Path, junk: bytes) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        session, response = await src.invite(usual(), MULTIPART)
        response = await src.change(session, "INVITE", both(sdp("1", "2"), junk), MULTIPART)
        assert response.status == 200 and len(described(response).media) == 2
        response = await src.change(session, "UPDATE", junk, "application/rs-metadata+xml" if junk else None)
        assert response.status == 200
        assert [party.aor for party in house.capture.history[0].info.parties] == [PATIENT, SURGERY]
        await src.close()

    in_house(tmp_path, scenario)


def test_no_metadata_is_recorded_and_flagged(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        _, response = await src.invite(
            sdp("1", "2"), "application/sdp", from_="<sip:07700900101@x>", to="<sip:01632960100@x>"
        )
        assert response.status == 200
        info = house.capture.history[0].info
        assert {"metadata-missing", "party-unknown", "parties-from-headers"} <= set(info.flags)
        assert [track.party for track in info.tracks] == [-1, -1]
        assert [(party.aor, party.role) for party in info.parties] == [
            ("07700900101", Role.CALLER),
            ("01632960100", Role.AGENT),
        ]
        await src.close()

    in_house(tmp_path, scenario)


def test_invite_without_sdp_gets_an_offer(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        line = house.signaling.table.table
        assert line is not None
        session, response = await src.answered_offer(sdp("", "- inactive 0"))
        assert response.status == 200
        offer = described(response)
        assert [media.port for media in offer.media] == [20_000, 20_002]
        taken = house.capture.history[0]
        await house.capture.until(lambda: not taken.specs[1].active)
        assert taken.specs[0].active
        await src.bye(session)
        await src.close()

    catch_all = LINE.model_copy(update={"catch_all": True})
    in_house(tmp_path, scenario, catch_all)


def test_lines_come_and_go(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        session, _ = await src.invite(usual(), MULTIPART)
        taken = house.capture.history[0]
        three = both(
            sdp("1", "2 sendonly 0", "3"),
            metadata({"a": (PATIENT, "1"), "c": ("sip:999@x", "3")}),
        )
        response = await src.change(session, "INVITE", three, MULTIPART)
        assert [media.port for media in described(response).media] == [20_000, 0, 20_004]
        assert not taken.specs[1].active and taken.specs[2].active
        assert [track.party for track in taken.info.tracks] == [0, 1, 2]
        assert taken.kinds == ["party-joined", "party-left"]
        await src.close()

    in_house(tmp_path, scenario)


def test_srtp_is_answered_in_kind_and_impossible_srtp_refused(tmp_path: Path) -> None:
    key = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"

    def secure(suite: str) -> bytes:
        crypto = f"a=crypto:1 {suite} inline:{key}\r\na=sendonly".encode()
        return sdp("1", "2").replace(b"RTP/AVP", b"RTP/SAVP").replace(b"a=sendonly", crypto)

    async def scenario(house: House) -> None:
        src = await house.src()
        session, response = await src.invite(usual(offer=secure("AES_CM_128_HMAC_SHA1_80")), MULTIPART)
        first = described(response)
        assert {media.proto for media in first.media} == {"RTP/SAVP"}
        spec = house.capture.history[0].specs[0]
        assert spec.srtp.suite == "AES_CM_128_HMAC_SHA1_80" and len(spec.srtp.key_salt) == 30
        again = described(
            await src.change(session, "INVITE", secure("AES_CM_128_HMAC_SHA1_80"), "application/sdp")
        )
        assert [media.cryptos for media in again.media] == [media.cryptos for media in first.media]
        refused = await src.change(session, "INVITE", secure("F8_128_HMAC_SHA1_80"), "application/sdp")
        assert refused.status == 488
        _, response = await src.invite(usual("other-session", secure("F8_128_HMAC_SHA1_80")), MULTIPART)
        assert response.status == 488
        assert len(house.capture.history) == 1 and not house.capture.history[0].closed
        await src.close()

    in_house(tmp_path, scenario)


def test_call_of_no_line_is_answered_and_told(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        session, response = await src.invite(usual(), MULTIPART)
        answer = described(response)
        assert response.status == 200
        assert [(media.port, answer.direction_of(media)) for media in answer.media] == [
            (9, MediaDirection.INACTIVE)
        ] * 2
        assert not house.capture.history and not house.signaling.board.listing()
        assert "CallsWithoutLine" in house.conditions()
        response = await src.change(session, "INVITE", sdp("1", "2"), "application/sdp")
        assert response.status == 200
        await src.bye(session)
        await house.signaling.desk.idle()
        assert "CallsWithoutLine" not in house.conditions()
        await src.close()

    in_house(tmp_path, scenario, LINE.model_copy(update={"numbers": ("123",)}))


def test_do_not_record_is_noted_without_a_track(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        session, response = await src.invite(usual(), MULTIPART)
        assert response.status == 200 and described(response).media[0].port == 9
        taken = house.capture.history[0]
        assert not taken.specs and not taken.info.tracks
        assert "do-not-record" in taken.info.flags and taken.marks[0].reason == "do-not-record"
        live = house.signaling.board.listing()[0]
        assert (live.state, live.detail) == (4, "do-not-record")
        await src.bye(session)
        await house.capture.until(lambda: taken.closed)
        await src.close()

    in_house(tmp_path, scenario, LINE.model_copy(update={"do_not_record": ("0770090*",)}))


def test_number_found_out_later_to_be_on_the_list_ends_the_recording(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        body = both(sdp("1", "2"), metadata({"a": ("sip:anonymous@x", "1"), "b": (SURGERY, "2")}))
        session, _ = await src.invite(body, MULTIPART)
        taken = house.capture.history[0]
        document = metadata({"a": (PATIENT, "1")}, complete=False)
        assert (await src.change(session, "UPDATE", document, "application/rs-metadata+xml")).status == 200
        assert taken.closed == "stopped" and taken.marks[-1].reason == "do-not-record"
        response = await src.change(session, "INVITE", sdp("1", "2"), "application/sdp")
        assert described(response).media[0].port == 9
        await src.close()

    in_house(tmp_path, scenario, LINE.model_copy(update={"do_not_record": ("07700900101",)}))


def test_direction_not_contracted_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        _, response = await src.invite(usual(), MULTIPART)
        assert response.status == 200 and described(response).media[0].port == 9
        assert not house.capture.history
        assert house.signaling.board.listing()[0].detail == "direction-not-contracted"
        await src.close()

    in_house(tmp_path, scenario, LINE.model_copy(update={"directions": (Direction.OUTBOUND,)}))


def test_without_ports_the_client_goes_elsewhere(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        house.capture.full = True
        _, response = await src.invite(usual(), MULTIPART)
        assert response.status == 503 and response.retry_after
        assert "MediaPortsExhausted" in house.conditions()
        assert not house.signaling.desk.legs and not house.signaling.board.listing()
        house.capture.full = False
        _, response = await src.invite(usual(), MULTIPART)
        assert response.status == 200
        assert "MediaPortsExhausted" not in house.conditions()
        await src.close()

    in_house(tmp_path, scenario)


def test_calls_are_spread_and_one_full_worker_does_not_matter(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        for number in range(4):
            _, response = await src.invite(usual(f"session-{number}"), MULTIPART)
            assert response.status == 200
        assert [len(capture.history) for capture in house.captures] == [2, 2]
        house.captures[0].full = True
        for number in range(4, 6):
            _, response = await src.invite(usual(f"session-{number}"), MULTIPART)
            assert response.status == 200
        assert [len(capture.sessions) for capture in house.captures] == [2, 4]
        await src.close()

    in_house(tmp_path, scenario, workers=2)


def test_capture_away_from_the_start(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        await house.capture.stop()
        worker = house.signaling.desk.workers.all[0]
        while worker.up.is_set():
            await asyncio.sleep(0.01)
        _, response = await src.invite(usual(), MULTIPART)
        assert response.status == 503 and response.retry_after
        assert (await src.options()).status == 503
        assert "CaptureUnreachable" in house.conditions()
        await house.capture.start()
        await asyncio.wait_for(worker.up.wait(), 20)
        assert (await src.options()).status == 200
        assert "CaptureUnreachable" not in house.conditions()
        await src.close()

    in_house(tmp_path, scenario)


def test_cancelled_invite_leaves_no_session(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        session = src.send_invite(usual(), MULTIPART)
        with src.transports.acting() as now:
            src.endpoint.cancel(session, now=now)
        await house.capture.until(lambda: "close" in house.capture.calls)
        assert not house.capture.sessions
        await house.signaling.desk.idle()
        assert not house.signaling.desk.legs
        await src.close()

    in_house(tmp_path, scenario)


def test_shutdown_ends_calls_in_good_order(tmp_path: Path) -> None:
    async def run() -> None:
        async with a_house(tmp_path, farewell_s=10) as house:
            src = await house.src()
            session, _ = await src.invite(usual(), MULTIPART)
            taken = house.capture.history[0]
            closing = asyncio.create_task(house.signaling.close())
            await src.byed(session)
            await closing
            assert taken.closed == "shutdown"
            await src.close()

    asyncio.run(run())


def test_replaces_continues_the_call(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        session, _ = await src.invite(usual(), MULTIPART)
        first = house.capture.history[0]
        dialog = session.dialog
        assert dialog is not None
        replaces = f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}"
        await src.invite(
            usual("another"), MULTIPART, headers=[("Require", "siprec, replaces"), ("Replaces", replaces)]
        )
        await src.byed(session)
        await house.capture.until(lambda: first.closed)
        second = house.capture.history[1]
        assert first.closed == "replaced"
        assert (
            second.info.call_id == first.info.call_id and second.info.recording_id != first.info.recording_id
        )
        assert f"continues:{first.info.recording_id}" in second.info.flags
        await src.close()

    in_house(tmp_path, scenario)


def invite_and_cancel(host: str, port: int) -> bytes:
    """Both at once, as a stream may carry them."""
    common = [
        f"Via: SIP/2.0/TCP {host}:{port};branch=z9hG4bK-at-once",
        "Max-Forwards: 70",
        "From: <sip:src@127.0.0.1>;tag=1",
        "To: <sip:recorder@127.0.0.1>",
        "Call-ID: at-once",
    ]
    body = usual()
    invite = [
        "INVITE sip:recorder@127.0.0.1 SIP/2.0",
        *common,
        "CSeq: 1 INVITE",
        f"Contact: <sip:src@{host}:{port};transport=tcp>;+sip.src",
        "Require: siprec",
        f"Content-Type: {MULTIPART}",
        f"Content-Length: {len(body)}",
    ]
    cancel = ["CANCEL sip:recorder@127.0.0.1 SIP/2.0", *common, "CSeq: 1 CANCEL", "Content-Length: 0"]
    first, second = ("\r\n".join((*lines, "", "")).encode() for lines in (invite, cancel))
    return first + body + second


def test_invite_that_comes_with_its_cancel_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        reader, writer = await asyncio.open_connection(*house.address(Transport.TCP))
        writer.write(invite_and_cancel(*writer.get_extra_info("sockname")[:2]))
        async with asyncio.timeout(20):
            await reader.readuntil(b"SIP/2.0 487 ")
        await house.signaling.desk.idle()
        assert not house.signaling.desk.legs and not house.capture.sessions
        assert not house.signaling.board.listing()
        writer.close()

    in_house(tmp_path, scenario)
