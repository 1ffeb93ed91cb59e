"""Make the sample prompts: `make_prompts.py [TARGET]`, wants espeak-ng (Debian).

Each is one FLAC file, 16 kHz mono; `prompts.json` says what is said in which language, and the purposes it states. A
prompt's id follows from its text and sound, so that a box that has it does not get it twice.
"""

import base64
import hashlib
import io
import json
import pathlib
import subprocess
import sys

import av
import numpy as np

RATE = 16000
STEP = 16  # the last four bits are the synthesiser's noise, and half of the file
MARGIN_S = 0.15  # silence before and after
PURPOSES = ["quality", "training", "evidence"]
PROMPTS = [
    (
        "announcement-en-gb",
        "Announcement (English)",
        "en-GB",
        "en-gb-x-rp",
        "Your call is being recorded for quality, training and evidence. If you do not wish to be recorded, please tell "
        "the person you speak to.",
        PURPOSES,
    ),
    (
        "announcement-cy",
        "Announcement (Welsh)",
        "cy",
        "cy",
        "Mae eich galwad yn cael ei recordio at ddibenion ansawdd, hyfforddiant a thystiolaeth. Os nad ydych yn dymuno "
        "cael eich recordio, dywedwch wrth y person sy'n siarad â chi.",
        PURPOSES,
    ),
    (
        "announcement-de",
        "Announcement (German)",
        "de",
        "de",
        "Ihr Anruf wird zur Qualitätssicherung, zur Schulung und zu Nachweiszwecken aufgezeichnet. Wenn Sie das nicht "
        "wünschen, sagen Sie es bitte Ihrem Gesprächspartner.",
        PURPOSES,
    ),
    (
        "announcement-fr",
        "Announcement (French)",
        "fr",
        "fr-fr",
        "Votre appel est enregistré à des fins de qualité, de formation et de preuve. Si vous ne souhaitez pas être "
        "enregistré, veuillez le dire à votre interlocuteur.",
        PURPOSES,
    ),
    (
        "announcement-pl",
        "Announcement (Polish)",
        "pl",
        "pl",
        "Ta rozmowa jest nagrywana w celu zapewnienia jakości, w celach szkoleniowych i dowodowych. Jeśli nie wyrażają "
        "Państwo na to zgody, prosimy poinformować o tym rozmówcę.",
        PURPOSES,
    ),
    ("whisper-en-gb", "Whisper (English)", "en-GB", "en-gb-x-rp", "This call is recorded.", []),
]


def speak(text: str, voice: str) -> np.ndarray:
    """One text as 16-bit samples at 16 kHz, from the first sound to the last, with a margin."""
    command = ["espeak-ng", "-v", voice, "-s", "150", "--stdout", text]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    parts = []
    with av.open(io.BytesIO(wav)) as container:
        for frame in container.decode(audio=0):
            parts += [out.to_ndarray()[0] for out in resampler.resample(frame)]
        parts += [out.to_ndarray()[0] for out in resampler.resample(None)]
    samples = np.concatenate(parts).astype(np.float64)
    loud = np.flatnonzero(np.abs(samples) > 200)
    samples = samples[loud[0] : loud[-1] + 1] * (16000 / np.abs(samples).max())
    margin = np.zeros(int(RATE * MARGIN_S))
    whole = np.concatenate([margin, samples, margin])
    return (np.rint(whole / STEP) * STEP).astype(np.int16)


def write(path: pathlib.Path, samples: np.ndarray) -> None:
    options = {"fflags": "+bitexact"}
    with av.open(str(path), "w", format="flac", container_options=options) as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        stream.options = {"compression_level": "12"}
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def main(target: pathlib.Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, title, language, voice, text, purposes in PROMPTS:
        samples = speak(text, voice)
        write(target / f"{name}.flac", samples)
        digest = hashlib.sha256(
            name.encode() + b"\0" + text.encode() + b"\0" + samples.astype("<i2").tobytes()
        )
        entries.append(
            {
                "id": base64.b32encode(digest.digest()[:16]).decode().rstrip("=").lower(),
                "file": f"{name}.flac",
                "display_name": title,
                "language": language,
                "text": text,
                "purposes": purposes,
            }
        )
        size = (target / f"{name}.flac").stat().st_size
        print(f"{name}: {len(samples) / RATE:.1f} s, {size / 1000:.0f} kB")
    text = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    (target / "prompts.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "appliance/data/prompts"))
