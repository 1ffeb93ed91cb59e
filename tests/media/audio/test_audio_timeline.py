"""Samples stand where they were spoken, whatever senders and networks do."""

import dataclasses

import numpy as np
import pytest
from audio_calls import MS, PCMU, SECOND, START, Call, Packet, noise, ulaw
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.media.audio.codecs import ULAW
from appliance.media.audio.mix import Mixer
from appliance.media.audio.timeline import Reports, TrackPackets, place
from appliance.model import MarkKind, PayloadFormat, Role


def sound(recording, **options):
    mixer = Mixer(recording, **options)
    pieces = list(mixer.pieces())
    return np.concatenate(pieces) if pieces else np.zeros((0, mixer.channels), np.int16)


def left(call, **options):
    return sound(call.load(**options))[:, 0]


def test_continuous_speech_is_exact_and_sides_are_kept_apart():
    (mine, heard), (yours, answered) = noise(16000, 1), noise(8000, 2)
    call = Call().speak(0, mine).speak(1, yours, at_ns=SECOND, ssrc=9, sequence=65500, timestamp=2**32 - 700)
    recording = call.load()
    both = sound(recording)
    assert both.shape == (16000, 2)
    assert np.array_equal(both[:, 0], heard)
    assert np.array_equal(both[8000:, 1], answered) and not both[:8000, 1].any()
    assert [track.placement.lost for track in recording.tracks] == [0, 0]


def test_jitter_moves_nothing():
    codes, heard = noise(80_000)
    rng = np.random.default_rng(3)
    jitter = np.abs(rng.normal(0, 15 * MS, 500)).astype(np.int64)
    jitter[::37] = 0
    placed = left(Call(duration_ns=10 * SECOND).speak(0, codes, jitter=jitter))
    assert np.array_equal(placed[: len(heard)], heard)


def test_loss_is_a_gap_of_its_length_and_marked():
    codes, heard = noise(16000)
    call = Call().speak(0, codes)
    del call.packets[40:43]
    recording = call.load()
    expected = heard.copy()
    expected[6400:6880] = 0
    assert np.array_equal(sound(recording)[:, 0], expected)
    assert recording.tracks[0].placement.lost == 3
    assert recording.tracks[0].losses == [(800 * MS, 860 * MS)]


def test_duplicates_and_reordering():
    codes, heard = noise(16000)
    call = Call().speak(0, codes)
    for number in (10, 20, 30):
        call.packets.append(
            dataclasses.replace(call.packets[number], arrival_ns=call.packets[number].arrival_ns + 5 * MS)
        )
    call.packets[50].arrival_ns += 25 * MS  # one place late
    call.packets[60].arrival_ns += 90 * MS  # four places late
    recording = call.load()
    assert np.array_equal(sound(recording)[:, 0], heard)
    assert recording.tracks[0].placement.duplicates == 3


def test_a_stall_in_the_network_leaves_no_trace():
    codes, heard = noise(80_000)
    call = Call(duration_ns=10 * SECOND).speak(0, codes)
    for packet in call.packets[100:250]:  # three seconds come in a burst
        packet.arrival_ns = max(packet.arrival_ns, 5 * SECOND)
    assert np.array_equal(left(call), heard)


def test_ssrc_changes_keep_every_voice():
    codes, heard = noise(80 * 160 * 5)
    call = Call(duration_ns=8 * SECOND)
    for number in range(80):
        part = codes[number * 800 : number * 800 + 800]
        call.speak(
            0,
            part,
            at_ns=number * 100 * MS,
            ssrc=1000 + number,
            sequence=number * 9000 & 0xFFFF,
            timestamp=number * 77_777_777 & 0xFFFFFFFF,
        )
    assert np.array_equal(left(call), heard)


def test_late_packets_of_an_old_ssrc_stand_where_they_belong():
    codes, heard = noise(16000)
    call = Call().speak(0, codes[:8000], ssrc=1).speak(0, codes[8000:], at_ns=SECOND, ssrc=2, timestamp=9)
    for packet in call.packets[48:50]:
        packet.arrival_ns = SECOND + 70 * MS
    assert np.array_equal(left(call), heard)


def test_two_sources_at_once_are_both_heard():
    (_, one), (_, two) = noise(8000, 1, 3000), noise(8000, 2, 3000)
    call = Call(duration_ns=SECOND).speak(0, ulaw(one), ssrc=1).speak(0, ulaw(two), ssrc=2)
    assert np.array_equal(left(call), one + two)


@pytest.mark.parametrize("timestamp", [5000 + 4000, 5000 + 8000, 123, 4_000_000_000])
@pytest.mark.parametrize("sequence", [125, 125 + 150, 40_000])
def test_restart_after_hold_is_anchored_by_arrival(timestamp, sequence):
    codes, heard = noise(16000)
    hold = 3 * SECOND
    call = Call(duration_ns=5 * SECOND).speak(0, codes[:4000])
    call.speak(0, codes[4000:], at_ns=500 * MS + hold, sequence=sequence, timestamp=timestamp)
    placed = left(call)
    assert np.array_equal(placed[:4000], heard[:4000])
    assert not placed[4000:28000].any()
    assert np.array_equal(placed[28000:], heard[4000:])


def test_frozen_clock_through_a_hold():
    """Sequence and timestamp go on as if nothing had been: the gap is seen by arrival alone."""
    codes, heard = noise(16000)
    call = Call(duration_ns=4 * SECOND).speak(0, codes)
    for packet in call.packets[50:]:
        packet.arrival_ns += 2 * SECOND
    placed = left(call)
    assert np.array_equal(placed[:8000], heard[:8000])
    assert not placed[8000:24000].any()
    assert np.array_equal(placed[24000:], heard[8000:])


def test_pause_holds_no_sample_and_keeps_its_length():
    codes, heard = noise(24000)
    call = Call(duration_ns=3 * SECOND).speak(0, codes)
    call.packets = [p for p in call.packets if not SECOND <= p.arrival_ns < 2 * SECOND]  # what capture drops
    call.mark(MarkKind.PAUSED, SECOND, actor="agent").mark(MarkKind.RESUMED, 2 * SECOND)
    recording = call.load()
    placed = sound(recording)[:, 0]
    assert np.array_equal(placed[:8000], heard[:8000]) and np.array_equal(placed[16000:], heard[16000:])
    assert not placed[8000:16000].any()
    assert recording.tracks[0].losses == []  # nothing was lost there: it was not to be kept


def test_dtx_and_comfort_noise_are_silence_of_their_length():
    codes, heard = noise(24000)
    call = Call(duration_ns=3 * SECOND).speak(0, codes[:8000])
    call.packets.append(Packet(0, 150, 5000 + 8000, SECOND, b"\x40" * 11, payload_type=13))
    call.speak(0, codes[16000:], at_ns=2 * SECOND, sequence=151, timestamp=5000 + 16000)
    placed = left(call)
    assert np.array_equal(placed[:8000], heard[:8000])
    assert not placed[8000:16000].any()
    assert np.array_equal(placed[16000:], heard[16000:])


def test_telephone_events_are_not_audio():
    codes, heard = noise(16000)
    call = Call().speak(0, codes)
    for number in range(5):
        call.packets.append(
            Packet(0, 150, 5000, 400 * MS + number, b"\5\0\0\xa0", payload_type=101, event=True)
        )
    recording = call.load()
    assert np.array_equal(sound(recording)[:, 0], heard)
    assert recording.tracks[0].packets == 100
    # Even one that was taken for media stays silent, by its payload type.
    call.packets.append(Packet(0, 200, 5000 + 15840, 1990 * MS, b"\5\0\0\xa0", payload_type=101))
    assert np.array_equal(left(call), heard)


def drifting(seconds, ppm, quiet_every=0):
    """Speech of a sender whose clock is off; silences where wanted."""
    codes, _ = noise(seconds * 8000, 5)
    rng = np.random.default_rng(6)
    if quiet_every:
        for start in range(quiet_every * 8000, len(codes), quiet_every * 8000):
            codes[start : start + 1600] = ulaw(rng.normal(0, 60, 1600))  # the noise of a line
    return Call(duration_ns=int(seconds * SECOND * (1 + ppm / 1e6))).speak(
        0, codes, rate=1 + ppm / 1e6
    ), codes


@pytest.mark.parametrize("ppm", [300, -300])
def test_drift_is_corrected_in_silence_and_never_in_speech(ppm):
    call, codes = drifting(600, ppm, quiet_every=5)
    recording = call.load()
    placed = sound(recording)[:, 0]
    heard = ULAW[codes]
    assert 2 <= recording.tracks[0].placement.moves <= 6
    worst = 0
    for start in range(0, len(codes) - 40_000, 40_000):
        speech = heard[start + 1600 : start + 40_000]  # between two silences
        place = round((start + 1600) * (1 + ppm / 1e6))
        shifts = [
            s for s in range(-700, 701) if np.array_equal(placed[place + s : place + s + 50], speech[:50])
        ]
        assert shifts, start
        worst = max(worst, abs(shifts[0]))
        begin = place + shifts[0]
        assert np.array_equal(placed[begin : begin + len(speech)], speech), start
    assert worst <= 8 * 65  # never off by more than the tolerance and what drifts between two silences


def test_speech_without_any_silence_is_never_cut():
    call, codes = drifting(300, 200)
    recording = call.load()
    assert recording.tracks[0].placement.moves == 0
    assert np.array_equal(sound(recording)[: len(codes), 0], ULAW[codes])


def test_sender_reports_correct_what_jitter_hides():
    """Single packets between long silences come late by chance; the reports know better."""
    rng = np.random.default_rng(8)
    codes, heard = noise(160 * 60)
    call = Call(duration_ns=61 * SECOND)
    for number in range(60):
        late = 0 if number % 25 == 0 else int(rng.integers(0, 110)) * MS
        call.packets.append(
            Packet(
                0,
                100 + number,
                5000 + number * 8000,
                number * SECOND + late,
                bytes(codes[number * 160 : number * 160 + 160]),
            )
        )
        call.reports.append((0, 7, 5000 + number * 8000, 4e9 + number, number * SECOND + 20 * MS))
    with_reports = left(call)
    for number in range(60):
        part = heard[number * 160 : number * 160 + 160]
        exact = with_reports[number * 8000 : number * 8000 + 160]
        assert np.array_equal(exact, part), number


@pytest.mark.parametrize(
    "reports",
    [
        [(0, 7, 5000, 0, 0)] * 5,
        [(0, 7, n * 123456, 5 - n, n * SECOND) for n in range(5)],
        [(0, 99, n, n, n) for n in range(5)],
        [(0, 7, 5000 + n * 16000, 100 + n, n * SECOND) for n in range(5)],
    ],
)
def test_senseless_reports_do_no_harm(reports):
    codes, heard = noise(40_000)
    call = Call(duration_ns=5 * SECOND).speak(0, codes)
    call.reports = reports
    assert np.array_equal(left(call), heard)


def test_track_that_starts_late_begins_with_silence_and_empty_ones_are_silent():
    codes, heard = noise(8000)
    call = Call(duration_ns=3 * SECOND).speak(1, codes, at_ns=1_500 * MS)
    both = sound(call.load())
    assert both.shape == (24000, 2) and not both[:, 0].any() and not both[:12000, 1].any()
    assert np.array_equal(both[12000:20000, 1], heard)


def test_empty_recordings():
    assert sound(Call().load()).shape == (16000, 2)
    assert not sound(Call().load()).any()
    assert sound(Call(duration_ns=0).load()).shape == (0, 2)
    assert sound(Call(roles=()).load()).shape == (16000, 2)
    cut = Call().load(ended=False)
    assert cut.duration_ns == 0 and not cut.whole and cut.notes


def test_length_without_an_end_is_that_of_the_last_packet():
    codes, heard = noise(12_340)
    call = Call().speak(0, codes)
    assert np.array_equal(left(call, ended=False)[: len(heard)], heard)
    assert call.load(ended=False).duration_ns == pytest.approx(len(codes) * 125_000, abs=20 * MS)


def test_timestamp_in_sample_rate_of_g722_is_understood():
    """G.722 counts 8,000 a second though it has 16,000 samples; some senders do not know."""
    arrays = [np.arange(200, dtype=np.int64)]
    (n,) = arrays
    for step, clock in ((160, 8000), (320, 16000)):
        placed = place(
            TrackPackets(
                n.astype(np.uint16),
                (n * step).astype(np.uint32),
                START + n * 20 * MS,
                np.full(200, 5, np.uint32),
                np.full(200, 8000, np.int64),
                np.full(200, 20 * MS, np.int64),
                lambda: np.zeros(200, np.bool_),
            ),
            Reports.none(),
            START,
        )
        assert placed.moves == 0
        assert set(placed.clock.tolist()) == {clock}
        assert np.array_equal(placed.ticks, n * step)


def test_packets_of_changing_length():
    codes, heard = noise(16000)
    call = Call()
    at = 0
    sizes = [160, 80, 240, 480, 160, 40] * 14
    for number, size in enumerate(sizes):
        part = bytes(codes[at : at + size])
        call.packets.append(Packet(0, number, at, at * 125_000, part))
        at += size
    assert np.array_equal(left(call)[:at], heard[:at])


def test_change_of_payload_type_within_a_call():
    from appliance.media.audio.codecs import ALAW

    codes, heard = noise(16000)
    call = Call(formats=(PCMU, PayloadFormat(number=8, encoding="PCMA", clock_rate=8000)))
    call.speak(0, codes[:8000]).speak(
        0, codes[8000:], at_ns=SECOND, sequence=150, timestamp=13000, payload_type=8
    )
    placed = left(call)
    assert np.array_equal(placed[:8000], heard[:8000]) and np.array_equal(placed[8000:], ALAW[codes[8000:]])


def test_unknown_formats_are_silence_and_said_so():
    call = Call(formats=(PCMU,)).speak(0, noise(8000)[0], payload_type=77)
    recording = call.load()
    assert not sound(recording).any()
    assert recording.notes == ["track 0: 50 packets of payload type 77 cannot be decoded and are silent"]


def test_layouts_and_muting():
    (_, one), (_, two), (_, three) = noise(8000, 1, 2000), noise(8000, 2, 2000), noise(8000, 3, 2000)
    call = Call(duration_ns=SECOND, roles=(Role.AGENT, Role.CALLER, Role.UNKNOWN))
    for number, values in enumerate((one, two, three)):
        call.speak(number, ulaw(values), ssrc=number + 1)
    recording = call.load()
    sides = sound(recording)
    assert np.array_equal(sides[:, 0], two + three) and np.array_equal(sides[:, 1], one)
    assert np.array_equal(sound(recording, layout="mono")[:, 0], one + two + three)
    assert np.array_equal(sound(recording, layout="tracks"), np.stack([one, two, three], axis=1))
    muted = sound(recording, tracks=[0])
    assert not muted[:, 0].any() and np.array_equal(muted[:, 1], one)
    alone = Call(duration_ns=SECOND, roles=(Role.UNKNOWN,)).speak(0, ulaw(one)).load()
    assert sound(alone).shape == (8000, 1)


def test_loud_mixes_saturate():
    codes = np.full(8000, 0x80, np.uint8)  # the largest positive value
    call = Call(duration_ns=SECOND).speak(0, codes).speak(1, codes, ssrc=2)
    assert (sound(call.load(), layout="mono") == 32767).all()


def test_parts_of_a_recording_are_the_same_samples():
    codes, heard = noise(16000)
    recording = Call().speak(0, codes).load()
    part = sound(recording, start_ns=300 * MS, end_ns=1_100 * MS)
    assert np.array_equal(part[:, 0], heard[2400:8800])
    assert sound(recording, start_ns=5 * SECOND).shape == (0, 2)
    pieces = np.concatenate(list(Mixer(recording).pieces(size=333)))
    assert np.array_equal(pieces[:, 0], heard)


def test_hostile_timestamps_allocate_nothing():
    rng = np.random.default_rng(4)
    call = Call()
    for number in range(200):
        call.packets.append(
            Packet(
                0,
                int(rng.integers(0, 65536)),
                int(rng.integers(0, 2**32)),
                number * 10 * MS,
                bytes(rng.integers(0, 256, 160, dtype=np.uint8)),
                int(rng.integers(0, 3)),
            )
        )
    recording = call.load()
    assert sound(recording).shape == (16000, 2)
    # Each packet is placed near where it arrived.
    place_ns = recording.tracks[0].placement.base_ns
    assert place_ns.min() > -SECOND and place_ns.max() < 3 * SECOND


packet_lists = st.lists(
    st.tuples(
        st.integers(0, 65535),
        st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 20).map(lambda n: n * 160)),
        st.integers(-(2**40), 2**40),
        st.integers(0, 3),
        st.sampled_from([1, 8000, 44100, 48000, 384_000]),
        st.sampled_from([0, 20 * MS, 60 * MS, 2**33]),
        st.booleans(),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(
    packet_lists, st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 2, st.integers(0, 2**64 - 1)), max_size=5)
)
def test_placement_of_anything(rows, reports):
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    kinds = ("u2", "u4", "i8", "u4", "i8", "i8", "?")
    sequence, timestamp, arrival, ssrc, clock, length, quiet = (
        np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)
    )
    packets = TrackPackets(sequence, timestamp, arrival, ssrc, clock, length, lambda: quiet)
    told = Reports(
        np.array([r[0] % 4 for r in reports], np.uint32),
        np.array([r[1] for r in reports], np.uint32),
        np.array([r[2] for r in reports], np.uint64),
        np.zeros(len(reports), np.int64),
    )
    placed = place(packets, told, 0)
    assert len(placed) + placed.duplicates == len(rows)
    assert len(set(placed.order.tolist())) == len(placed)
