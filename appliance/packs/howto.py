"""How to read an exit pack, for who opens it in ten years and knows nothing of it. Pure."""

from __future__ import annotations

import html
from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """What the page says of its pack."""

    pack: str  # its id
    tenant: str  # name to show
    scope: str  # in a few words
    made: str  # RFC 3339
    recordings: int
    tombstones: int
    sound: str  # wav, flac or none
    sealed: bool
    vcon: bool
    key: str  # the verifier key that signs; it is worth what you know of it from elsewhere
    complete: bool


def _sections(about: About) -> list[tuple[str, list[str]]]:
    sound = {
        "wav": ".wav is the sound, 16-bit WAV that any player plays: the caller left, the agent right.",
        "flac": ".flac is the sound, lossless (RFC 9639), in any common player: the caller left, the agent right.",
        "none": "There is no sound that plays as it is: the sealed files hold it, under keys of the box.",
    }[about.sound]
    files = [
        "recordings/ab/ID/ holds one recording, ID being its name and ab the first two letters of it.",
        ".json says all that is known of it: who took part, when, marks on the timeline (announced, paused, held,"
        " transferred, ...), notes, tags, and who read it and why.",
        ".reviews.json has the reviews of the call that were submitted; their questions are in scorecards.json, beside"
        " this file.",
        sound,
    ]
    if about.sealed:
        files.append(
            ".sealed is the file that the box sealed and signed while the call lasted; its signature can be checked with"
            " `python -m earwitness.verify`. .sealed.sidecar has the notes that were added later, sealed the same way."
        )
    if about.vcon:
        files.append(".vcon.json is the same as a vCon (draft-ietf-vcon-vcon-core), sound included.")
    part = [] if about.complete else ["THIS IS A PART: its making was ended before all was in it."]
    return [
        (
            "What this is",
            [
                *part,
                f"Recordings of {about.tenant}: {about.scope}. Made {about.made}, pack {about.pack}.",
                f"{about.recordings} recordings; of {about.tombstones} more that were erased before, that they were.",
            ],
        ),
        (
            "Find a recording",
            [
                "index.csv opens in a spreadsheet: one line a recording. An apostrophe before a cell only keeps the"
                " spreadsheet from taking it for a formula.",
                "index.json says the same for programs, with every erased recording, too. Times are UTC.",
                "state deleted: it had been deleted, and could still be brought back. restricted yes: a person's"
                " restriction (UK GDPR Art. 18) is in force; it is stored, and not to be used. problem: why a recording"
                " is not whole here.",
            ],
        ),
        ("The files", files),
        (
            "Check it",
            [
                "python3 verify.py checks every file against manifest.jsonl (its size and SHA-256), the length of the"
                " sound, and that nothing is missing or was added. It needs Python alone, and no network. Of a pack in a"
                " zip file: python3 verify.py PACK.zip.",
                "With the Python package cryptography, python3 verify.py --key KEY checks the signature of the box, too."
                f" The box says its key is {about.key}. Ask whoever ran the box whether it is: a key that comes with"
                " what it signed proves nothing by itself.",
                "Without Python: sha256sum of any file says what its line in manifest.jsonl says.",
            ],
        ),
        (
            "Your duties",
            [
                "These are recordings of people. Who holds this pack is answerable for it (UK GDPR): keep it encrypted,"
                " know who has it, and destroy it when its time is over.",
            ],
        ),
        ("For programs", ["schemas/ holds JSON schemas of all of it."]),
    ]


def text(about: About) -> bytes:
    """README.txt, UTF-8."""
    parts = ["EXIT PACK", "=========", ""]
    for title, lines in _sections(about):
        parts += [title, "-" * len(title), *(f"* {line}" for line in lines), ""]
    return "\n".join(parts).encode()


def page(about: About) -> bytes:
    """README.html: one file, nothing loaded from anywhere."""
    body = "".join(
        f"<h2>{html.escape(title)}</h2><ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"
        for title, lines in _sections(about)
    )
    style = "body{font:16px/1.5 sans-serif;max-width:46em;margin:2em auto;padding:0 1em}li{margin:.4em 0}"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Exit pack</title>'
        f"<style>{style}</style><h1>Exit pack</h1>{body}</html>\n"
    ).encode()
