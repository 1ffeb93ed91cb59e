"""Make the speech of the demonstration: `make_speech.py [TARGET]`, wants espeak-ng (Debian).

Three short conversations at a surgery's reception, nobody's real words. Each side of each call is one FLAC file,
8 kHz mono, silent while the other side speaks, so that both sides together are the call; `script.json` says who
says what, when.
"""

import io
import json
import pathlib
import subprocess
import sys

import av
import numpy as np

RATE = 8000
PAUSE_S = 0.45
CALLER = ("en-gb-x-rp+f3", 150)
AGENT = ("en-gb+m3", 155)

CALLS = {
    "appointment": [
        ("agent", "Elm Street Surgery, good morning. This call is recorded. How can I help?"),
        ("caller", "Good morning. I would like to see somebody about my knee."),
        ("agent", "Of course. Is Thursday at ten past nine any good?"),
        ("caller", "Thursday is fine. Thank you very much."),
        ("agent", "Then we shall see you on Thursday. Good bye."),
    ],
    "prescription": [
        ("agent", "Elm Street Surgery, how can I help?"),
        ("caller", "My repeat prescription has not arrived at the pharmacy."),
        ("agent", "Let me put you on hold while I look."),
        ("agent", "It was signed this morning. They have it now."),
        ("caller", "That is a relief. Thank you."),
    ],
    "payment": [
        ("agent", "Elm Street Surgery, you are through to the desk."),
        ("caller", "I should like to pay for the travel vaccination."),
        ("agent", "I shall pause the recording while you read me the card."),
        ("caller", "Four four four four, three three three three."),
        ("agent", "Thank you. That is done, and we are recording again."),
        ("caller", "Lovely. Good bye."),
    ],
}


def speak(text: str, voice: tuple[str, int]) -> np.ndarray:
    """One utterance as float samples at 8 kHz."""
    wav = subprocess.run(
        ["espeak-ng", "-v", voice[0], "-s", str(voice[1]), "--stdout", text], check=True, capture_output=True
    ).stdout
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    parts = []
    with av.open(io.BytesIO(wav)) as container:
        for frame in container.decode(audio=0):
            parts += [out.to_ndarray()[0] for out in resampler.resample(frame)]
        parts += [out.to_ndarray()[0] for out in resampler.resample(None)]
    samples = np.concatenate(parts).astype(np.float64)
    loud = np.flatnonzero(np.abs(samples) > 200)
    return samples[loud[0] : loud[-1] + 1] * (12000 / np.abs(samples).max())


def write(path: pathlib.Path, samples: np.ndarray) -> None:
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        stream.options = {"compression_level": "12"}
        frame = av.AudioFrame.from_ndarray(samples.astype(np.int16)[None, :], format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def main(target: pathlib.Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    rest = np.zeros(int(RATE * PAUSE_S))
    times: dict[str, list[dict[str, object]]] = {}
    for name, script in CALLS.items():
        sides: dict[str, list[np.ndarray]] = {"caller": [rest], "agent": [rest]}
        times[name] = []
        for speaker, text in script:
            sound = speak(text, CALLER if speaker == "caller" else AGENT)
            begin = sum(map(len, sides["caller"])) / RATE
            end = begin + len(sound) / RATE
            times[name].append({"speaker": speaker, "text": text, "begin_s": begin, "end_s": end})
            for side, parts in sides.items():
                parts += [sound if side == speaker else np.zeros(len(sound)), rest]
        for side, parts in sides.items():
            samples = np.concatenate(parts)
            write(target / f"{name}-{side}.flac", samples)
            print(f"{name}-{side}: {len(samples) / RATE:.1f} s")
    (target / "script.json").write_text(json.dumps(times, indent=1) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "appliance/demo/speech"))
