"""Each codec gives the samples its specification says, and what is broken is silence that is counted."""

import base64

import av
import numpy as np
import pytest
from audio_calls import MS, SECOND, Call, Packet
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.media.audio import Rendering, RenderOptions
from appliance.media.audio.amr import storage_frames
from appliance.media.audio.codecs import ALAW, ULAW, Silent, Stateful, Stateless, codec_for
from appliance.media.audio.formats import parameter, resolve
from appliance.model import PayloadFormat


def fmt(encoding, clock=8000, number=96, channels=1, fmtp=""):
    return PayloadFormat(number=number, encoding=encoding, clock_rate=clock, channels=channels, fmtp=fmtp)


def test_g711_tables_against_the_library():
    every = bytes(range(256))
    for name, table in (("pcm_mulaw", ULAW), ("pcm_alaw", ALAW)):
        context = av.CodecContext.create(name, "r")
        context.sample_rate, context.layout = 8000, "mono"
        (frame,) = context.decode(av.Packet(every))
        assert np.array_equal(frame.to_ndarray()[0], table)


def test_l16_is_big_endian_and_channels_become_one():
    mono = codec_for(fmt("L16", 44100))
    assert mono.decode(np.frombuffer(b"\x01\x02\xff\xff", np.uint8)).tolist() == [258, -1]
    stereo = codec_for(fmt("L16", 44100, channels=2))
    data = np.frombuffer(b"\x00\x0a\x00\x14\x80\x00\x80\x00\x01", np.uint8)
    assert stereo.decode(data).tolist() == [15, -32768]
    assert stereo.samples(data, np.array([0]), np.array([9])).tolist() == [2]


def encoded(name, rate, samples, size, **options):
    context = av.CodecContext.create(name, "w")
    context.sample_rate, context.layout = rate, "mono"
    context.format = context.codec.audio_formats[0].name
    for key, value in options.items():
        setattr(context, key, value)
    context.open()
    out = []
    for start in range(0, len(samples), size):
        part = samples[start : start + size].reshape(1, -1)
        if context.format.name.startswith("flt"):
            part = (part / 32768).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(part, format=context.format.name, layout="mono")
        frame.sample_rate, frame.pts = rate, start
        out += [bytes(packet) for packet in context.encode(frame)]
    return out


def tone(rate, seconds=2, hertz=440):
    return (9000 * np.sin(2 * np.pi * hertz * np.arange(rate * seconds) / rate)).astype(np.int16)


def through(payloads, payload_format, ticks, duration=2 * SECOND):
    call = Call(formats=(payload_format,), duration_ns=duration)
    for number, payload in enumerate(payloads):
        at = number * ticks * SECOND // payload_format.clock_rate
        call.packets.append(Packet(0, number, number * ticks, at, payload, 1, payload_format.number))
    rendering = Rendering(call.load(), RenderOptions())
    data = b"".join(rendering.chunks())
    return np.frombuffer(data[44:], "<i2").reshape(-1, 2)[:, 0].astype(float), rendering


def loudest(values, rate):
    middle = values[rate // 2 : rate * 3 // 2]
    return int(np.argmax(np.abs(np.fft.rfft(middle)))) * rate / len(middle)


def test_opus_decodes_in_place():
    payloads = encoded("libopus", 48000, tone(48000), 960, bit_rate=32000)
    values, rendering = through(payloads[:100], fmt("OPUS", 48000, channels=2), 960)
    assert rendering.rate == 48000 and len(values) == 96_000
    assert abs(loudest(values, 48000) - 440) < 2 and rendering.report().undecodable == 0


def test_opus_lengths_by_toc():
    codec = codec_for(fmt("OPUS", 48000))
    cases = [
        (b"\x00xxx", 480),
        (b"\x18xxx", 2880),
        (b"\x80xxx", 120),
        (b"\xf8xxx", 960),
        (b"\xf9xxx", 1920),
        (b"\xfb\x03xx", 2880),
        (b"\xfb\x3fxx", 0),  # more than 120 ms
        (b"\xf8x", 0),  # DTX
        (b"", 0),
    ]
    payload = np.frombuffer(b"".join(data for data, _ in cases), np.uint8)
    size = np.array([len(data) for data, _ in cases])
    assert codec.samples(payload, np.cumsum(size) - size, size).tolist() == [want for _, want in cases]


# Half a second of a tone of 440 Hz as AMR at 12.2 kbit/s, storage frames of 32 bytes.
AMR_TONE = base64.b85decode(
    "JR}C<kN`EkL6QSnXB3?}!v30a9?=xo&pf;KYK4N}JS~9bNC0J@kcb94^YBM%#FJ6C$a&ax2jqZbk|W$;JR}Fh@BlTR;gSKG>vgvA"
    "_m2m;5FoUq0StVq1{TIJJS~9bkN|U^kctLc`)1+8>i-9=tFAqENr%?~b7T9!JR}FHNB|$(p}+yUmtk3(@-"
    "$cEis5+ZhEC#B9S_SeJS~9YkN|Ppu%rfB&|?Yc=f`P%$Xl#h90piFERgu{JR}C?NB|$7VS)j=&gg9V^Z(@|uhZi_gGiOI>k)KtJS"
    "-2x@Bn9@V44J)W3@Yg;X8jcJVi-s$6LSy-lg5pJR}C?kN_W_;fMj+#?qGo=KBnwznBix?kWsN0APObJS~B#NC0))v4{pb)3MkZ@P"
    "Z|_K?!TiAzaW$MvwNeJR}C<kN`KmL7oBHVK^^7!-l<Z<Zx+tFDv=MR%WL#JS~9bNC0P_ftm!m`;xqS#Itd*p+;iG2O?v0E6wt-JR"
    "}Fh@BlTR;h+JU?2xyY|IX`*oL-"
    "%$0Vv*ZKNZF>JS~9bkN{_&(2xY$*A{WY)?Z<}lq1hFNuYxVQ$<AZJR}FHNB}k4pq>G`8R4tA|5h&KnT1?XdLjHsNiu$LJS~9YkN|"
    "Ppu!06!)jfG?=GP3rOCLX45J1<-wGh5AJR}C?NB|$7;f4Xaj2xz1>mey69KL5aI5HpCU#v@TJS-"
    "2x@Bn3=VGafw)ZD|f{li+fg)I8)5<rjGJhet3JR}C?kN_W_;g|v1!#<$m@K)g*OvM_^Kd3?<5B#98JS~B#NC6|;u$l%s%iGr3=1x"
    "TpcgCx@3dfHsivnCwJR}C<kN`EkL5c%fYDqr=!-"
    "dv&9#SD$2_BToq}snAJS~9bNC0J@(1Hd!)b!6|#873hnOvTQ3*~?)XgmlYJR}Fh@Bkm5@Pq>z<Hb)k#&SK+C#e&x*e#WmC1u9oJS"
    "~9bkN{_&(3%EX)rLVs;@4zGW&AtZDFDLlc_Rm)JR}FHNB}k4p&kLcm4Qnr|E=lesSSUy#y`b^kPnt{"
)


def test_amr_decodes_in_both_modes():
    frames = [AMR_TONE[at : at + 32] for at in range(0, len(AMR_TONE), 32)] * 4
    aligned = [b"\xf0" + bytes([frame[0] & 0x7C]) + frame[1:] for frame in frames]
    for payload, frame in zip(aligned, frames, strict=True):
        assert storage_frames(payload, wide=False, aligned=True) == [frame]
    values, rendering = through(aligned, fmt("AMR", fmtp="octet-align=1"), 160)
    assert abs(loudest(values, 8000) - 440) < 2 and rendering.report().undecodable == 0

    def efficient(frame):  # CMR 15, then F=0, FT=7, Q=1, then 244 bits
        bits = 0b1111 << 6 | 0 << 5 | 7 << 1 | 1
        bits = bits << 244 | int.from_bytes(frame[1:], "big") >> 4
        return (bits << 2).to_bytes(32, "big")

    assert storage_frames(efficient(frames[3]), wide=False, aligned=False) == [frames[3]]
    values, rendering = through([efficient(frame) for frame in frames], fmt("AMR"), 160)
    assert abs(loudest(values, 8000) - 440) < 2


def test_several_amr_frames_in_one_packet():
    one, two = bytes(range(31)), bytes(range(31, 62))
    payload = b"\xf0\xbc\x3c" + one + two
    assert storage_frames(payload, wide=False, aligned=True) == [b"\x3c" + one, b"\x3c" + two]
    assert codec_for(fmt("AMR", fmtp="octet-align=1")).samples(
        np.frombuffer(payload, np.uint8), np.array([0]), np.array([len(payload)])
    ).tolist() == [320]
    assert storage_frames(payload[:-1], wide=False, aligned=True) is None
    assert storage_frames(b"\xf0" + b"\xbc" * 100, wide=True, aligned=True) is None


@pytest.mark.parametrize(
    ("encoding", "payload", "fmtp", "samples", "rate"),
    [
        ("GSM", (b"\xd0" + bytes(32)) * 2, "", 320, 8000),
        ("G729", bytes(20), "", 160, 8000),
        ("G729", bytes(22), "annexb=yes", 160, 8000),
        ("G723", bytes(24), "", 240, 8000),
        ("ILBC", bytes(38), "mode=20", 160, 8000),
        ("ILBC", bytes(100), "", 480, 8000),
        ("AMR-WB", b"\xf0\x44" + bytes(60), "octet-align=1", 320, 16000),
        ("G722", bytes(160), "", 320, 16000),
    ],
)
def test_frame_codecs_decode_what_they_announce(encoding, payload, fmtp, samples, rate):
    codec = codec_for(fmt(encoding, 16000 if encoding == "AMR-WB" else 8000, fmtp=fmtp))
    assert isinstance(codec, Stateful) and codec.rate == rate
    size = np.array([len(payload)])
    assert codec.samples(np.frombuffer(payload, np.uint8), np.array([0]), size).tolist() == [samples]
    decode = codec.decoder()
    for _ in range(3):
        assert len(decode(payload)) == samples


def test_comfort_noise_of_g729_is_silence():
    values, rendering = through([bytes(2)] * 50, fmt("G729", number=18), 160, SECOND)
    assert not values.any() and rendering.report().undecodable == 0


def test_broken_payloads_are_silence_and_counted():
    # A TOC that promises frames, and too few bytes for their lengths.
    values, rendering = through([b"\x03\x83\xff\xff"] * 10, fmt("OPUS", 48000), 960, 200 * MS)
    assert len(values) == 9600
    assert rendering.report().undecodable == 10


def test_formats_are_resolved():
    assert resolve(0, ()).encoding == "PCMU"
    assert resolve(96, ()) is None
    assert resolve(0, [fmt("PCMA", number=0)]).encoding == "PCMA"
    assert resolve(96, [fmt("X", clock=0)]) is None
    assert codec_for(fmt("CLEARMODE")) is None
    assert codec_for(fmt("AMR", fmtp="interleaving=4")) is None
    assert isinstance(codec_for(fmt("CN")), Silent)
    assert isinstance(codec_for(fmt("pcmu")), Stateless)
    assert parameter("octet-align=1; mode-set=0,2", "octet-align") == "1"
    assert parameter("", "mode") == ""


ENCODINGS = ["PCMU", "PCMA", "L16", "G722", "OPUS", "G729", "GSM", "G723", "ILBC", "AMR", "AMR-WB", "CN"]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(ENCODINGS),
    st.lists(st.binary(max_size=200), max_size=8),
    st.sampled_from(["", "octet-align=1"]),
)
def test_any_bytes_for_any_codec(encoding, payloads, fmtp):
    codec = codec_for(fmt(encoding, fmtp=fmtp))
    size = np.array([len(data) for data in payloads], np.int64)
    payload = np.frombuffer(b"".join(payloads), np.uint8)
    offset = np.cumsum(size) - size
    samples = codec.samples(payload, offset, size)
    assert len(samples) == len(payloads) and (samples >= 0).all()
    assert (samples <= 48_000).all()  # no packet of 200 bytes is longer than this
    if isinstance(codec, Stateful):
        decode = codec.decoder()
        for data, count in zip(payloads, samples.tolist(), strict=True):
            if count:
                values = decode(data)
                assert values is None or values.dtype == np.int16
