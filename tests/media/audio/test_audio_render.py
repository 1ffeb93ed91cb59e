"""Files that other programs can read, with the samples that were spoken."""

import hashlib
import io
import struct
import wave

import av
import numpy as np
import pytest
from audio_calls import MS, SECOND, Call, Packet, noise, ulaw

from appliance.media.audio import FORMATS, RenderError, Rendering, RenderOptions, load, peaks, render
from appliance.media.audio.encode import wav_header
from appliance.model import ExhaustedError, InvalidError, MarkKind, PayloadFormat, Role
from appliance.storage import sealed


@pytest.fixture(scope="module")
def spoken():
    call = Call(duration_ns=3 * SECOND)
    (mine, heard), (yours, answered) = noise(20_000, 1), noise(16_000, 2)
    call.speak(0, mine).speak(1, yours, at_ns=SECOND, ssrc=2)
    call.mark(MarkKind.HELD, 1_500 * MS)
    expected = np.zeros((24_000, 2), np.int16)
    expected[:20_000, 0] = heard
    expected[8_000:, 1] = answered
    return call, expected


def decoded(data):
    with av.open(io.BytesIO(data)) as container:
        frames = []
        for frame in container.decode(audio=0):
            values = frame.to_ndarray()
            channels = len(frame.layout.channels)
            frames.append(
                values.T if values.shape[0] == channels and channels > 1 else values.reshape(-1, channels)
            )
        return np.concatenate(frames), container.streams[0].rate


def test_wav(spoken):
    call, expected = spoken
    rendering = render(sealed.SealedReader(*call.seal()))
    data = b"".join(rendering.chunks())
    assert len(data) == rendering.size
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 2, 2)
        assert file.getnframes() == 24_000
        assert np.array_equal(np.frombuffer(file.readframes(24_000), "<i2").reshape(-1, 2), expected)
    report = rendering.report()
    assert (report.packets, report.lost, report.duplicates, report.undecodable) == (225, 0, 0, 0)


def test_flac_is_bit_exact_and_says_its_length_and_md5(spoken):
    call, expected = spoken
    data = b"".join(Rendering(call.load(), RenderOptions("flac")).chunks())
    values, rate = decoded(data)
    assert rate == 8000 and np.array_equal(values, expected)
    packed = int.from_bytes(data[8 + 10 : 8 + 18], "big")
    assert packed & (1 << 36) - 1 == 24_000 and packed >> 44 == 8000
    assert data[8 + 18 : 8 + 34] == hashlib.md5(expected.astype("<i2").tobytes()).digest()


def test_ogg_opus_has_the_length_of_the_call(spoken):
    call, expected = spoken
    data = b"".join(Rendering(call.load(), RenderOptions("ogg")).chunks())
    values, rate = decoded(data)
    assert rate == 48_000 and values.shape == (144_000, 2)
    # Speech on each side, where it was said.
    loud = np.abs(values.astype(np.float64)).reshape(-1, 4800, 2).mean(axis=1) > 0.01 * np.abs(values).max()
    spoken_in = np.abs(expected).reshape(-1, 800, 2).mean(axis=1) > 0
    assert (loud[1:-1] == spoken_in[1:-1]).mean() > 0.95


@pytest.mark.parametrize("name", FORMATS)
def test_same_bytes_each_time_and_from_any_offset(spoken, name):
    call, _ = spoken
    file = call.seal()
    first = b"".join(Rendering(load(sealed.SealedReader(*file)), RenderOptions(name)).chunks())
    again = Rendering(load(sealed.SealedReader(*file)), RenderOptions(name))
    for offset in (0, 1, 43, 44, 45, 47, 1000, len(first) - 1, len(first)):
        assert b"".join(again.chunks(offset)) == first[offset:], offset
    with pytest.raises(InvalidError):
        b"".join(again.chunks(-1))


@pytest.mark.parametrize("name", FORMATS)
def test_empty_recordings_are_valid_files(name):
    for duration in (0, SECOND):
        data = b"".join(Rendering(Call(duration_ns=duration).load(), RenderOptions(name)).chunks())
        assert data[:4] in (b"RIFF", b"fLaC", b"OggS")
        if duration:
            values, rate = decoded(data)
            assert len(values) == rate and np.abs(values).max() < 0.001  # Opus keeps a trace of dither


def test_more_than_four_gib_is_rf64():
    header = wav_header(8000, 2, 1 << 31)
    assert header[:4] == b"RF64" and header[12:16] == b"ds64" and len(header) == 80
    riff, size, samples = struct.unpack_from("<QQQ", header, 20)
    assert (riff, size, samples) == ((1 << 33) + 72, 1 << 33, 1 << 31)
    assert wav_header(8000, 2, 100)[:4] == b"RIFF" and len(wav_header(8000, 2, 100)) == 44


def test_what_cannot_be_asked_for():
    recording = Call(roles=(Role.CALLER, Role.AGENT, Role.AGENT)).load()
    with pytest.raises(InvalidError):
        Rendering(recording, RenderOptions("mp3"))
    with pytest.raises(InvalidError):
        Rendering(recording, RenderOptions(layout="round"))
    with pytest.raises(InvalidError):
        Rendering(recording, RenderOptions(start_ns=-1))
    with pytest.raises(InvalidError):
        Rendering(recording, RenderOptions(start_ns=5, end_ns=4))
    with pytest.raises(RenderError):
        Rendering(recording, RenderOptions("flac", "tracks"))
    assert Rendering(recording, RenderOptions("wav", "tracks")).channels == 3


def test_progress_is_told(spoken):
    call, _ = spoken
    seen = []
    rendering = Rendering(call.load(), RenderOptions(), lambda done, total: seen.append((done, total)))
    b"".join(rendering.chunks())
    assert seen[-1] == (24_000, 24_000)


def test_memory_is_bounded(monkeypatch):
    call = Call().speak(0, noise(16000)[0])
    monkeypatch.setattr("appliance.media.audio.recording.MAX_PAYLOAD_BYTES", 20_000)
    with pytest.raises(ExhaustedError):
        call.load()


def test_peaks_show_speech_silence_and_marks(spoken):
    call, expected = spoken
    picture = peaks(call.load(), 30)
    assert picture.low.shape == (2, 30)
    for channel in range(2):
        columns = expected[:, channel].reshape(30, 800)
        assert np.array_equal(picture.high[channel], np.maximum(columns.max(axis=1), 0))
        assert np.array_equal(picture.low[channel], np.minimum(columns.min(axis=1), 0))
        assert np.allclose(
            picture.rms[channel], np.sqrt((columns.astype(float) ** 2).mean(axis=1)), rtol=1e-5
        )
    assert [(column, mark.kind) for column, mark in picture.marks] == [(15, MarkKind.HELD)]


@pytest.mark.parametrize("columns", [1, 7, 999, 10_000])
def test_peaks_of_any_width(columns):
    codes, heard = noise(4000)
    picture = peaks(Call(duration_ns=500 * MS).speak(0, codes).load(), columns)
    assert picture.high.max() == heard.max() and picture.low.min() == heard.min()
    assert peaks(Call(duration_ns=0).load(), columns).high.shape == (2, columns)


def test_wideband_and_narrowband_share_one_file():
    """One leg G.711, one G.722: the file has the higher rate, and the narrow leg its own samples within it."""
    encoder = av.CodecContext.create("g722", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 16000, "mono", "s16"
    tone = (8000 * np.sin(2 * np.pi * 3000 * np.arange(32_000) / 16000)).astype(np.int16)
    coded = b""
    for start in range(0, len(tone), 320):
        frame = av.AudioFrame.from_ndarray(
            tone[start : start + 320].reshape(1, -1), format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts = 16000, start
        coded += b"".join(bytes(packet) for packet in encoder.encode(frame))
    call = Call(formats=())
    codes, heard = noise(16000)
    call.speak(0, codes)
    for number in range(100):
        call.packets.append(
            Packet(1, number, number * 160, number * 20 * MS, coded[number * 160 : number * 160 + 160], 2, 9)
        )
    rendering = Rendering(call.load(), RenderOptions())
    data = b"".join(rendering.chunks())
    assert rendering.rate == 16000
    values = np.frombuffer(data[44:], "<i2").reshape(-1, 2)
    assert np.array_equal(values[::2, 0], heard)
    # G.722 delays by 22 samples; the tone is there all the same.
    spectrum = np.abs(np.fft.rfft(values[3200:19_200, 1].astype(float)))
    assert abs(np.argmax(spectrum) - 3000) < 3
    assert 0.7 < np.abs(values[3200:, 1]).max() / 8000 < 1.3


def test_tone_survives_going_up_and_pieces_do_not_matter():
    tone = (8000 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 8000)).astype(np.int16)
    linear = PayloadFormat(number=96, encoding="L16", clock_rate=48000)
    call = Call(formats=(PayloadFormat(number=0, encoding="PCMU", clock_rate=8000), linear))
    call.speak(0, ulaw(tone))
    call.packets.append(Packet(1, 1, 1, 0, bytes(960), 2, 96))
    recording = call.load()
    from appliance.media.audio.mix import Mixer

    mixer = Mixer(recording)
    assert mixer.rate == 48000
    whole = np.concatenate(list(mixer.pieces()))
    for size in (777, 4801):
        assert np.array_equal(np.concatenate(list(Mixer(recording).pieces(size=size))), whole)
    inner = whole[4800:-4800, 0].astype(float)
    spectrum = np.abs(np.fft.rfft(inner * np.hanning(len(inner))))
    peak = int(np.argmax(spectrum))
    assert abs(peak * 48000 / len(inner) - 1000) < 1
    images = spectrum[int(4100 * len(inner) / 48000) :].max()
    assert images < spectrum[peak] / 1000  # what lies above the old band is 60 dB down
