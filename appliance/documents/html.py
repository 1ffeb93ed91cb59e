"""A document as one HTML file: nothing is loaded, nothing runs, it prints well, and a screen reader finds its way."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final
from zoneinfo import ZoneInfo

from appliance.documents.blocks import Block, Document, Listing, Pairs, Picture, Table, Text
from appliance.documents.drawing import svg
from appliance.documents.words import when

_STYLE: Final = """
:root{color-scheme:light}
body{font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;color:#1c2430;background:#fff;
max-width:60rem;margin:2rem auto;padding:0 1.25rem}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .25rem}
h2{font-size:1.2rem;margin:2.25rem 0 .5rem;border-bottom:1px solid #c9ced6}
header p{margin:.1rem 0;color:#4a5463}
table{border-collapse:collapse;width:100%;margin:.75rem 0;font-size:.92rem}
caption{text-align:left;font-weight:600;padding:.25rem 0}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid #dfe3e8;overflow-wrap:anywhere}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
table.pairs th{width:34%;font-weight:600}
figure{margin:1rem 0}figcaption{font-weight:600;font-size:.92rem}svg{width:100%;height:auto;display:block}
svg text{font-family:inherit}
@media print{body{margin:0;max-width:none;font-size:10.5pt}h2{break-after:avoid}tr,figure{break-inside:avoid}
thead{display:table-header-group}}
@page{margin:18mm}
""".strip()


def written(document: Document) -> bytes:
    """UTF-8."""
    said = when(document.made_ns, ZoneInfo(document.zone))
    parts = [
        "<!doctype html>",
        f'<html lang="{escape(document.language)}"><head><meta charset="utf-8">',
        # Nothing in it may load or run, whatever a name holds.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{_text(document.title)}</title><style>{_STYLE}</style></head><body>",
        f"<header><h1>{_text(document.title)}</h1><p>{_text(document.subject)}</p>",
        f"<p>As of {_text(said)}.</p></header><main>",
    ]
    for place, section in enumerate(document.sections, 1):
        parts.append(f'<section aria-labelledby="s{place}"><h2 id="s{place}">{_text(section.heading)}</h2>')
        for block in section.blocks:
            parts += _block(block)
        parts.append("</section>")
    return ("\n".join((*parts, "</main></body></html>")) + "\n").encode()


def _block(block: Block) -> Iterator[str]:
    match block:
        case Text():
            yield f"<p>{_text(block.text)}</p>"
        case Listing():
            yield f"<ul>{''.join(f'<li>{_text(one)}</li>' for one in block.points)}</ul>"
        case Pairs():
            yield '<table class="pairs"><tbody>'
            for name, value in block.pairs:
                yield f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>'
            yield "</tbody></table>"
        case Table():
            if not block.rows:
                yield f"<p><strong>{_text(block.caption)}.</strong> {_text(block.empty)}</p>"
                return
            kinds = [' class="n"' if place in block.numbers else "" for place in range(len(block.head))]
            head = "".join(
                f'<th scope="col"{kind}>{_text(name)}</th>'
                for name, kind in zip(block.head, kinds, strict=True)
            )
            yield f"<table><caption>{_text(block.caption)}</caption><thead><tr>{head}</tr></thead><tbody>"
            for row in block.rows:
                cells = "".join(
                    f"<td{kind}>{_text(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)
                )
                yield f"<tr>{cells}</tr>"
            yield "</tbody></table>"
        case Picture():
            caption = f"<figcaption>{_text(block.caption)}</figcaption>"
            yield f"<figure>{caption}{svg(block.drawing, block.alt)}</figure>"


def _text(text: str) -> str:
    """Isolated from what stands beside it where it may run from right to left."""
    shown = escape("".join(c if c.isprintable() else " " for c in text))
    return f"<bdi>{shown}</bdi>" if any(c >= "\u0590" for c in text) else shown
