"""Prompts: what is read, what is refused, and what callers will hear of it."""

from __future__ import annotations

import io
import struct
import subprocess
import sys

import av
import numpy as np
import pytest

from appliance.media.audio import prompts, sound
from appliance.media.audio.codecs import Stateful, Stateless, codec_for
from appliance.media.audio.encode import wav_header
from appliance.media.audio.prompts import FORMS, check, pack, render, speech_level, unpack
from appliance.media.audio.sound import Sound, read_sound
from appliance.model import InvalidError, PayloadFormat

RATE = 16000


def speech(seconds: float = 2.0, rate: int = RATE, level: float = 0.1, seed: int = 1) -> np.ndarray:
    """Noise with the spectrum and the rhythm of speech: what correlates with itself at one place alone."""
    rng = np.random.default_rng(seed)
    count = int(seconds * rate)
    shape = np.fft.rfftfreq(count, 1 / rate)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum *= np.where((shape > 250) & (shape < 3200), 1 / np.maximum(shape, 250), 0)
    out = np.fft.irfft(spectrum, count)
    rhythm = np.repeat(rng.uniform(0.3, 1.0, count // (rate // 5) + 1), rate // 5)[:count]
    out *= rhythm
    return out / np.sqrt(np.mean(out**2)) * level


def of(mono: np.ndarray, rate: int = RATE) -> Sound:
    return Sound("wav/pcm_s16le", rate, mono.astype(np.float32)[:, None])


def wav(values: np.ndarray, rate: int = RATE) -> bytes:
    """16 bits; one column a channel."""
    table = values if values.ndim == 2 else values[:, None]
    pcm = np.clip(np.rint(table * 32768), -32768, 32767).astype("<i2")
    return wav_header(rate, table.shape[1], len(table)) + pcm.tobytes()


def encoded(values: np.ndarray, container: str, codec: str, rate: int, kind: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as target:
        stream = target.add_stream(codec, rate=rate, layout="mono")
        pcm = values[None, :].astype(np.float32)
        if kind == "s16":
            pcm = np.rint(pcm * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm, format=kind, layout="mono")
        frame.sample_rate = rate
        size = stream.codec_context
        fifo = av.AudioFifo()
        fifo.write(frame)
        stream.codec_context.open()
        step = size.frame_size or 1024
        while (part := fifo.read(step, partial=True)) is not None:
            target.mux(stream.encode(part))
        target.mux(stream.encode(None))
    return file.getvalue()


def refused(kind: type[InvalidError], data: bytes) -> InvalidError:
    with pytest.raises(kind) as caught:
        check(read_sound(data))
    assert caught.value.data["field"] == "audio"
    return caught.value


def correlation(heard: np.ndarray, meant: np.ndarray) -> tuple[float, int]:
    """The highest correlation there is within 20 ms to either side, at 8 kHz, and by how many samples it is late."""
    best = (0.0, 0)
    for late in range(-160, 161):
        one = heard[max(late, 0) :]
        other = meant[max(-late, 0) :]
        count = min(len(one), len(other))
        value = float(np.corrcoef(one[:count], other[:count])[0, 1])
        best = max(best, (value, late))
    return best


def decoded(form: prompts.Form, payloads: list[bytes]) -> tuple[np.ndarray, int]:
    codec = codec_for(
        PayloadFormat(number=96, encoding=form.encoding, clock_rate=form.clock_rate, channels=form.channels)
    )
    if isinstance(codec, Stateless):
        return codec.decode(np.frombuffer(b"".join(payloads), np.uint8)), codec.rate
    assert isinstance(codec, Stateful)
    decode = codec.decoder()
    parts = [decode(payload) for payload in payloads]
    assert all(part is not None for part in parts)
    return np.concatenate(parts), codec.rate


@pytest.fixture(scope="module")
def rendered() -> tuple[prompts.Checked, dict[prompts.Form, list[bytes]]]:
    checked = check(of(speech()))
    return checked, render(checked)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.file)
def test_each_rendering_is_what_was_said(rendered, form):
    checked, all_of_it = rendered
    heard, rate = decoded(form, all_of_it[form])
    narrow = heard.astype(np.float64)[:: rate // 8000]  # nothing is above 4 kHz
    value, late = correlation(narrow, speech()[:: RATE // 8000])
    assert value > (0.9 if form == prompts.OPUS else 0.97), (
        "Opus keeps the sound of noise, not its every wave"
    )
    assert abs(late) <= 60, "less than what a codec delays sound by"
    level = 20 * np.log10(np.sqrt(np.mean((heard / 32768) ** 2)))
    wanted = 20 * np.log10(np.sqrt(np.mean(checked.mono**2))) + checked.gain_db
    assert level == pytest.approx(wanted, abs=0.6)


def test_payloads_are_20_ms_each_and_as_many_in_each_rendering(rendered):
    checked, all_of_it = rendered
    assert {form.file for form in all_of_it} == {
        "PCMU-8000-1.packets",
        "PCMA-8000-1.packets",
        "G722-8000-1.packets",
        "OPUS-48000-2.packets",
        "L16-8000-1.packets",
        "L16-16000-1.packets",
    }
    assert {len(payloads) for payloads in all_of_it.values()} == {checked.packets}
    assert checked.duration_ms == checked.packets * 20 == 2020
    for form, size in ((prompts.PCMU, 160), (prompts.PCMA, 160), (prompts.G722, 160)):
        assert {len(payload) for payload in all_of_it[form]} == {size}
    assert {len(payload) for payload in all_of_it[prompts.L16_NARROW]} == {320}
    assert {len(payload) for payload in all_of_it[prompts.L16_WIDE]} == {640}
    tocs = {payload[0] for payload in all_of_it[prompts.OPUS]}
    # RFC 6716 section 3.1: configurations with frames of 20 ms; one channel; one frame a packet.
    assert all(toc >> 3 in (1, 5, 9, 13, 15, 19, 23, 27, 31) and not toc & 7 for toc in tocs)


def test_the_last_sound_is_in_every_rendering():
    values = np.zeros(RATE)
    values[-RATE // 20 :] = speech(0.05)  # the last 50 ms of a second that fills its last packet
    checked = check(of(values))
    for form, payloads in render(checked).items():
        heard, rate = decoded(form, payloads)
        energy = np.square(heard.astype(np.float64))
        assert energy[round(0.945 * rate) :].sum() > 0.98 * energy.sum(), form.file


@pytest.mark.parametrize("level", [0.004, 0.02, 0.3])
def test_speech_is_brought_to_its_level(level):
    checked = check(of(np.clip(speech(level=level), -0.99, 0.99)))
    heard, rate = decoded(prompts.L16_WIDE, render(checked)[prompts.L16_WIDE])
    samples = heard / 32768
    assert np.abs(samples).max() <= 10 ** (-1 / 20) + 0.001
    if checked.gain_db < prompts.PEAK_DBFS - checked.peak_dbfs:
        assert speech_level(samples, rate) == pytest.approx(prompts.SPEECH_DBFS, abs=0.3)


def test_peaks_bound_the_gain():
    values = speech(level=0.01)
    values[1000] = 0.9
    checked = check(of(values))
    assert checked.gain_db == pytest.approx(-1 - checked.peak_dbfs)


def test_the_level_of_speech_does_not_count_silence():
    talk = speech(2)
    gaps = np.concatenate([talk, np.zeros(RATE * 6), speech(2, seed=2), np.zeros(RATE * 6)])
    whole = speech_level(talk, RATE)
    assert speech_level(gaps, RATE) == pytest.approx(whole, abs=1.0)
    assert 20 * np.log10(np.sqrt(np.mean(gaps**2))) < whole - 5


def test_two_channels_become_one_and_a_constant_goes():
    both = np.stack([speech(), np.zeros(len(speech()))], axis=1) + 0.2
    checked = check(Sound("wav/pcm_s16le", RATE, both.astype(np.float32)))
    assert checked.mono.mean() == pytest.approx(0, abs=1e-6)
    assert correlation(checked.mono[::2], speech()[::2]) == (pytest.approx(1), 0)


@pytest.mark.parametrize(
    ("container", "codec", "rate", "kind", "least"),
    [
        ("wav", "pcm_s16le", 8000, "s16", 0.999),
        ("wav", "pcm_f32le", 44100, "flt", 0.999),
        ("wav", "pcm_alaw", 8000, "s16", 0.99),
        ("wav", "pcm_mulaw", 11025, "s16", 0.99),
        ("flac", "flac", 22050, "s16", 0.999),
        ("ogg", "libopus", 48000, "flt", 0.95),
    ],
)
def test_what_is_read(container, codec, rate, kind, least):
    meant = speech(rate=rate)
    data = encoded(meant, container, codec, rate, kind)
    found = read_sound(data)
    assert (found.rate, found.samples.shape[1]) == (rate, 1)
    assert found.format == f"{container}/{codec.removeprefix('lib')}"
    count = min(len(found.samples), len(meant))
    early = 312 if codec == "libopus" and len(found.samples) > len(meant) else 0
    pair = found.samples[early:count, 0], meant[: count - early]
    assert np.corrcoef(*pair)[0, 1] > least
    assert found.sha256 == read_sound(data).sha256


def test_vorbis():
    meant = speech(rate=44100)
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as target:
        # FFmpeg's own encoder: rough, two channels alone, and everywhere.
        stream = target.add_stream("vorbis", rate=44100, layout="stereo", options={"strict": "experimental"})
        frame = av.AudioFrame.from_ndarray(
            np.stack([meant, meant]).astype(np.float32), format="fltp", layout="stereo"
        )
        frame.sample_rate = 44100
        fifo = av.AudioFifo()
        fifo.write(frame)
        stream.codec_context.open()
        while (part := fifo.read(stream.codec_context.frame_size)) is not None:
            target.mux(stream.encode(part))
        target.mux(stream.encode(None))
    found = read_sound(file.getvalue())
    assert (found.format, found.rate, found.samples.shape[1]) == ("ogg/vorbis", 44100, 2)
    assert correlation(found.samples[::5, 0], meant[::5])[0] > 0.8


def test_24_bits_and_8_bits():
    meant = speech()
    deep = np.rint(meant * (1 << 23)).astype("<i4")
    data = np.frombuffer(deep.tobytes(), np.uint8).reshape(-1, 4)[:, :3].tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, RATE, RATE * 3, 3,
                       24, b"data", len(data))  # fmt: skip
    assert np.abs(read_sound(head + data).samples[:, 0] - meant).max() < 1e-5
    coarse = np.clip(np.rint(meant * 128) + 128, 0, 255).astype(np.uint8).tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(coarse), b"WAVE", b"fmt ", 16, 1, 1, RATE, RATE, 1,
                       8, b"data", len(coarse))  # fmt: skip
    assert np.abs(read_sound(head + coarse).samples[:, 0] - meant).max() < 1 / 100


def test_bad_sounds_are_refused_each_for_its_reason():
    talk = speech()
    refused(sound.PromptEmptyError, b"")
    refused(sound.PromptEmptyError, wav(np.zeros(0)))
    refused(sound.PromptFormatError, b"The quick brown fox jumps over the lazy dog." * 100)
    refused(sound.PromptFormatError, b"ID3\x04" + bytes(5000))
    refused(sound.PromptFormatError, b"RIFF\0\0\0\0WAVE" + bytes(5000))
    refused(sound.PromptFormatError, b"fLaC" + bytes(5000))
    refused(sound.PromptFormatError, b"OggS" + bytes(5000))
    refused(sound.PromptFormatError, encoded(talk, "wav", "mp2", RATE, "s16"))
    assert refused(sound.PromptTooLargeError, bytes(sound.MAX_BYTES + 1)).data["limit"] == 20 << 20
    assert refused(sound.PromptTooLongError, wav(speech(60.1, 8000), 8000)).data["limit"] == 60
    check(read_sound(wav(speech(60, 8000), 8000)))
    assert refused(prompts.PromptTooShortError, wav(speech(0.19))).data["duration_ms"] == 190
    check(read_sound(wav(speech(0.2))))
    assert refused(prompts.PromptSilentError, wav(talk / np.abs(talk).max() * 0.003)).data["peak_dbfs"] == (
        pytest.approx(-50.5, abs=0.2)
    )
    refused(prompts.PromptSilentError, wav(np.full(RATE, 0.4)))
    assert refused(sound.PromptRateError, wav(speech(rate=7999), 7999)).data["rate"] == 7999
    assert refused(sound.PromptRateError, wav(speech(rate=96000), 96000)).data["rate"] == 96000
    assert refused(sound.PromptChannelsError, wav(np.stack([talk] * 3, axis=1))).data["channels"] == 3


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_u8", "pcm_alaw", "pcm_mulaw", "pcm_f32le"])
def test_clipping(codec):
    talk = speech(4)
    loud = np.clip(talk * 12, -1, 1)
    kind = {"pcm_u8": "u8", "pcm_f32le": "flt"}.get(codec, "s16")
    if codec == "pcm_u8":
        data = np.clip(np.rint(loud * 127) + 128, 0, 255).astype(np.uint8).tobytes()
        file = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, RATE, RATE, 1,
                           8, b"data", len(data)) + data  # fmt: skip
    else:
        file = encoded(loud, "wav", codec, RATE, kind)
    assert refused(prompts.PromptClippingError, file).data["clipped"] > 0.001
    # A few samples at full scale are no clipping.
    few = talk * (0.7 / np.abs(talk).max())
    few[:: len(few) // 30] = 1.0
    check(read_sound(wav(few)))


def test_numbers_that_are_none_are_refused():
    values = speech().astype("<f4")
    values[7] = np.nan
    data = values.tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 3, 1, RATE, RATE * 4, 4,
                       32, b"data", len(data))  # fmt: skip
    refused(sound.PromptFormatError, head + data)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_are_read_or_refused_never_worse(seed):
    rng = np.random.default_rng(seed)
    container, codec, kind = [
        ("wav", "pcm_s16le", "s16"),
        ("flac", "flac", "s16"),
        ("ogg", "libopus", "flt"),
    ][seed % 3]
    data = bytearray(encoded(speech(0.5, 48000), container, codec, 48000, kind))
    for place in rng.integers(0, len(data), 1 + seed // 2):
        data[place] = rng.integers(0, 256)
    cut = bytes(data[: rng.integers(1, len(data) + 1)])
    try:
        check(read_sound(cut))
    except InvalidError as error:
        assert error.reason.startswith("PROMPT_")


def chunks(*some: tuple[bytes, int, bytes]) -> bytes:
    """A WAV file of these chunks: name, size that is claimed, content."""
    body = b"".join(struct.pack("<4sI", name, size) + content for name, size, content in some)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(body), b"WAVE") + body


PCM = wav(speech(0.5))[44:]
FORM = (b"fmt ", 16, struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))


def test_wav_files_with_other_things_in_them():
    plain = read_sound(chunks(FORM, (b"data", len(PCM), PCM)))
    for file in (
        chunks(
            (b"JUNK", 3, b"abc\0"), FORM, (b"LIST", 4, b"INFO"), (b"data", len(PCM), PCM), (b"id3 ", 9, b"x")
        ),
        chunks(FORM, (b"data", 0xFFFFFFFF, PCM)),
        chunks(FORM, (b"data", 0x7FFFF000, PCM)),
        b"RF64" + chunks((b"ds64", 28, bytes(28)), FORM, (b"data", 0xFFFFFFFF, PCM))[4:],
    ):
        assert read_sound(file).sha256 == plain.sha256
    for file in (
        chunks((b"data", len(PCM), PCM)),
        chunks(FORM),
        chunks((b"data", len(PCM), PCM), FORM),
        chunks((b"fmt ", 0xFFFFFFFF, FORM[2]), (b"data", len(PCM), PCM)),
        chunks(
            (b"fmt ", 16, struct.pack("<HHIIHH", 0x7777, 1, RATE, 2 * RATE, 2, 16)), (b"data", 64, PCM[:64])
        ),
        chunks(*[(b"JUNK", 0, b"")] * 1001, FORM, (b"data", len(PCM), PCM)),
    ):
        refused(sound.PromptFormatError, file)


def test_what_a_file_claims_takes_no_memory():
    huge = 0x7FFF0000
    name = struct.pack("<4sI", b"INAM", huge - 100)
    file = chunks(FORM, (b"LIST", huge, b"INFO" + name + bytes(100)), (b"data", len(PCM), PCM))
    code = (
        "import re, sys\n"
        "from appliance.media.audio.sound import PromptFormatError, read_sound\n"
        "try: read_sound(sys.stdin.buffer.read())\n"
        "except PromptFormatError: pass\n"
        # Of this program alone: getrusage counts what its parent had before it began.
        "print(re.search(r'VmHWM:\\s+([0-9]+) kB', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], input=file, capture_output=True, check=True)
    assert int(done.stdout) < 500_000, "kB"


def test_payload_files():
    some = [b"a", b"bc" * 300, b"\0"]
    assert unpack(pack(some)) == some
    assert pack([b"abc"]) == b"\x00\x03abc"
    for bad in (pack(some)[:-1], b"\0", b"\0\0", b"\xff\xffx"):
        with pytest.raises(prompts.PayloadsCorruptError):
            unpack(bad)
