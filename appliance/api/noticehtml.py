"""The page where somebody reads a notice and says so: plain HTML without a script, for every browser. Pure."""

from __future__ import annotations

from html import escape
from typing import Final

from appliance.model.staff import Notice, NoticeVersion

STYLE: Final = (
    "body{max-width:42rem;margin:2rem auto;padding:0 1rem;font:1.1rem/1.6 sans-serif;color:#111;background:#fff}"
    "h1{font-size:1.6rem}h2{font-size:1.2rem}label{display:block;margin:1rem 0 .3rem}"
    "input[type=text]{font:inherit;width:100%;padding:.4rem;border:2px solid #333}"
    "button{font:inherit;padding:.5rem 1.2rem;margin-top:1rem;border:2px solid #111;background:#005eb8;color:#fff}"
    ".wrong{border-left:.4rem solid #b00;padding-left:.8rem}"
)
NAME: Final = "name"
READ: Final = "read"


def page(title: str, body: str, language: str = "en-GB") -> bytes:
    """A whole page. `title` is text, `body` HTML."""
    return (
        f'<!doctype html><html lang="{escape(language)}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    ).encode()


def notice(made: Notice, version: NoticeVersion, display_name: str, wrong: str = "") -> bytes:
    """The text, and the form below it."""
    told = f'<p class="wrong" role="alert">{escape(wrong)}</p>' if wrong else ""
    body = (
        f"<h1><bdi>{escape(made.display_name)}</bdi></h1>"
        f"<p>Version {version.version}, for <bdi>{escape(display_name)}</bdi>.</p>"
        f'<article lang="{escape(version.language)}" dir="auto">{text(version.text)}</article>'
        f'<form method="post" autocomplete="off">{told}'
        f'<p><input type="checkbox" id="{READ}" name="{READ}" value="yes" required>'
        f'<label for="{READ}" style="display:inline"> I have read this.</label></p>'
        f'<label for="{NAME}">Your full name</label>'
        f'<input type="text" id="{NAME}" name="{NAME}" maxlength="100" required dir="auto">'
        '<button type="submit">I have read this</button></form>'
    )
    return page(made.display_name, body, "en-GB")


def text(source: str) -> str:
    """Paragraphs, headings and lists of a notice as HTML; everything else in it is text."""
    made: list[str] = []
    items: list[str] = []
    words: list[str] = []

    def close() -> None:
        if words:
            made.append(f"<p>{'<br>'.join(words)}</p>")
            words.clear()
        if items:
            made.append("<ul>" + "".join(f"<li>{one}</li>" for one in items) + "</ul>")
            items.clear()

    for line in source.split("\n"):
        line = line.strip()
        if not line:
            close()
        elif line.startswith("# "):
            close()
            made.append(f"<h2>{escape(line[2:])}</h2>")
        elif line.startswith("- "):
            if words:
                close()
            items.append(escape(line[2:]))
        else:
            if items:
                close()
            words.append(escape(line))
    close()
    return "".join(made)


DONE: Final = page(
    "Thank you", "<h1>Thank you</h1><p>It is noted that you have read this. You can close the page.</p>"
)
GONE: Final = page(
    "Not found",
    "<h1>This link does not work</h1><p>It may have been used already, or its time is over. Ask whoever gave it to you for"
    " another one.</p>",
)
BUSY: Final = page("Too many requests", "<h1>Too many requests</h1><p>Please try again in a minute.</p>")
AWAY: Final = page("Not now", "<h1>Not now</h1><p>Please try again in a few minutes.</p>")
TOLD: Final = "Please tick the box, and type your full name."
