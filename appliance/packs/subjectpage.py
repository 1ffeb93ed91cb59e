"""index.html and README.txt of a pack: what a person reads without any program of ours. Pure.

Everything that somebody typed is escaped, and set apart from the text around it in its own direction: a name may be of any
script. There is no script in the page, and nothing that it loads.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Final

from appliance.packs.subject import Facts, Given, Withheld, clock, reason, roles_in_words

_STYLE: Final = (
    "body{font:1rem/1.5 sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%;margin:.5rem 0}th,td{text-align:start;vertical-align:top;"
    "border-bottom:1px solid #bbb;padding:.3rem}section{border-top:2px solid #333;margin-top:2rem}"
)
_TOLD: Final = {
    "announced": "You were told in the announcement at the beginning of the call.",
    "line": "You were told by a notice of this service.",
    "not-announced": "That you were told is not known to the recorder.",
}
README: Final = """\
YOUR RECORDINGS

index.html    open it in any browser: each call, what was withheld and why, who listened, your rights
index.json    the same for programs; subject-pack.schema.json says what is in it
audio/        the calls as WAV files, for any player: caller on the left, the other side on the right
SHA256SUMS    the checksum of every other file but the signature
SIGNATURE     the recorder's signature over SHA256SUMS

WHAT IS SILENT. Where another person's voice, or a part of a call, may not be given to you, it is silent. index.html says
where, and why.

HOW TO CHECK THAT NOTHING WAS CHANGED. In the folder into which you unpacked this:

    sha256sum -c SHA256SUMS        (Linux)
    shasum -a 256 -c SHA256SUMS    (macOS)
    certutil -hashfile FILE SHA256 (Windows, one file after the other)

SIGNATURE is a signed note (https://c2sp.org/signed-note): its second line is the SHA-256 of SHA256SUMS, and its last line
an Ed25519 signature by the key of the recorder, which whoever keeps your data gives to you.
"""


def page(facts: Facts) -> bytes:
    """index.html, UTF-8."""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en-GB"><head><meta charset="utf-8"><title>Your recordings</title>',
        '<meta name="viewport" content="width=device-width">',
        f"<style>{_STYLE}</style></head><body>",
        "<h1>Your recordings</h1>",
        f"<p>From {_typed(facts.controller)}, who is responsible for this data"
        f"{', contact ' + _typed(facts.contact) if facts.contact else ''}. Your request {_typed(facts.reference)}"
        f" of {_typed(facts.received)}. Made {_typed(facts.made)}; times are of {_typed(facts.time_zone)}.</p>",
        f"<p>{len(facts.given)} given, {len(facts.withheld)} withheld.</p>",
        *(part for number, one in enumerate(facts.given, 1) for part in _given(number, one)),
        *_withheld(facts.withheld),
        *_rights(facts),
        "</body></html>",
    ]
    return ("\n".join(parts) + "\n").encode()


def _typed(text: str) -> str:
    return f'<bdi dir="auto">{html.escape(text)}</bdi>'


def _row(head: str, cell: str) -> str:
    return f"<tr><th>{head}</th><td>{cell}</td></tr>"


def _given(number: int, one: Given) -> Iterable[str]:
    file = html.escape(one.file)
    yield f'<section><h2>{number}. {_typed(one.time)}</h2><p><a href="{file}">{file}</a></p>'
    yield f'<audio controls preload="none" src="{file}"></audio><table>'
    yield _row("Length", clock(one.duration_ms))
    yield _row("Direction", html.escape(one.direction))
    yield _row("Service", _typed(one.line))
    yield _row("You hear", ", ".join(map(html.escape, one.channels)))
    if not one.whole:
        yield _row("Not whole", "The recording was cut short; this is what there is of it.")
    uses = "; ".join(
        f"{_typed(use.name)}{' (' + _typed(use.legal_basis) + ')' if use.legal_basis else ''}"
        for use in one.purposes
    )
    yield _row("Recorded for", f"{uses or 'no purpose was stated'}. {_TOLD.get(one.told, '')}")
    yield _row("Kept until", html.escape(one.kept_until) or "no date is set")
    if one.muted:
        spans = "; ".join(
            f"{html.escape(m.whose)}, {clock(m.from_ms)} to {clock(m.to_ms)}" for m in one.muted
        )
        yield _row("Silent", f"{spans}. {_typed(reason(one.ground, one.text))}")
    if one.marks:
        marks = "; ".join(
            f"{clock(m.at_ms)}{' to ' + clock(m.to_ms) if m.to_ms is not None else ''} {html.escape(m.kind)}"
            for m in one.marks
        )
        yield _row("What happened", marks)
    read = "; ".join(
        f"{_typed(r.time)} {html.escape(roles_in_words(r.roles))}, for {_typed(r.purpose)}" for r in one.reads
    )
    more = f"; and {one.reads_more} times more" if one.reads_more else ""
    yield _row("Who listened", f"{read or 'nobody'}{more}")
    yield "</table></section>"


def _withheld(some: tuple[Withheld, ...]) -> Iterable[str]:
    if not some:
        return
    yield "<section><h2>What is withheld</h2><table>"
    yield "<tr><th>Call of</th><th>Why</th></tr>"
    for one in some:
        yield f"<tr><td>{_typed(one.time)}</td><td>{_typed(reason(one.ground, one.text))}</td></tr>"
    yield "</table></section>"


def _rights(facts: Facts) -> Iterable[str]:
    yield "<section><h2>Your rights</h2>"
    yield (
        "<p>You may ask for this data to be corrected, erased or restricted, and object to its use (UK GDPR Articles 16,"
        f" 17, 18 and 21): write to {_typed(facts.contact or facts.controller)}.</p>"
    )
    yield (
        "<p>You may complain to the Information Commissioner's Office, Wycliffe House, Water Lane, Wilmslow,"
        " Cheshire SK9 5AF, telephone 0303 123 1113,"
        ' <a href="https://ico.org.uk/make-a-complaint/">ico.org.uk/make-a-complaint</a>, and go to court.</p></section>'
    )
