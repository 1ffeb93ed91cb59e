"""A document as PDF: A4, title, language, outline, page numbers. The same document gives the same bytes.

Han, Hangul and Kana are of Debian's fonts-droid-fallback, where it is installed. A character that no font here has is
written as its code point, and the document says so at its end: it cannot be shown, and must not be lost.
"""

from __future__ import annotations

import functools
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from zoneinfo import ZoneInfo

from fontTools.ttLib import TTFont
from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import FontFace
from pymupdf_fonts import fontbuffers

from appliance.documents import drawing
from appliance.documents.blocks import Block, Document, Listing, Pairs, Picture, Table, Text
from appliance.documents.words import when

_FAMILY: Final = "body"
_SYMBOLS: Final = "symbols"
_EASTERN: Final = "eastern"
EASTERN: Final = Path("/usr/share/fonts-droid-fallback/truetype/DroidSansFallback.ttf")
_JOINERS: Final = (
    "\u200c\u200d"  # names of some scripts have them: they part or join letters, and are not seen
)
LACKING: Final = (
    "The box has no font for some characters of this document: they stand in brackets, as code points of Unicode. The"
    " same document as HTML or Markdown has them."
)
_MARGIN: Final = 18.0  # millimetres
_GREY: Final = (74, 84, 99)
_RULE: Final = (201, 206, 214)
_NEXT: Final[dict[str, Any]] = {"new_x": XPos.LMARGIN, "new_y": YPos.NEXT}


@functools.cache
def _fonts() -> dict[tuple[str, str], bytes]:
    return {
        (_FAMILY, ""): fontbuffers["figo"](),
        (_FAMILY, "B"): fontbuffers["figbo"](),
        (_SYMBOLS, ""): fontbuffers["symbol2"](),
    }


@functools.cache
def _known() -> frozenset[int]:
    """Code points that a font of ours has."""
    found: set[int] = set()
    for (family, style), data in _fonts().items():
        if (family, style) != (_FAMILY, "B"):
            with TTFont(io.BytesIO(data), lazy=True) as font:
                found |= set(font.getBestCmap())
    return frozenset(found)


def _eastern() -> frozenset[int]:
    """Code points that the machine's own font has besides; none where it is not installed."""
    try:
        data = EASTERN.read_bytes()
    except FileNotFoundError:
        return frozenset()
    with TTFont(io.BytesIO(data), lazy=True) as font:
        return frozenset(font.getBestCmap()) - _known()


def written(document: Document) -> bytes:
    """A whole PDF file."""
    with TemporaryDirectory(prefix="earwitness-fonts-") as folder:  # the library takes fonts from files alone
        made = _Sheet(document, Path(folder))
        made.begin()
        for section in document.sections:
            made.heading(section.heading)
            for block in section.blocks:
                made.block(block)
        made.end()
        return bytes(made.output())


class _Sheet(FPDF):
    def __init__(self, document: Document, folder: Path) -> None:
        super().__init__(format="A4")
        self._told = document
        said = set(repr(document))
        self._made = when(document.made_ns, ZoneInfo(document.zone))
        self.set_creation_date(
            datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=document.made_ns // 10**9)
        )
        self.set_title(document.title)
        self.set_subject(document.subject)
        self.set_lang(document.language)
        self.set_creator("Earwitness")
        self.set_margin(_MARGIN)
        self.set_auto_page_break(True, _MARGIN + 4)
        for (family, style), data in _fonts().items():
            path = folder / f"{family}{style}.ttf"
            path.write_bytes(data)
            self.add_font(family, style, path)
        self._shows, self._lacks = _known(), False
        others = [_SYMBOLS]
        if any(ord(c) not in self._shows for c in said) and (eastern := _eastern()) & set(map(ord, said)):
            self._shows |= eastern
            self.add_font(_EASTERN, "", EASTERN)
            others.append(_EASTERN)
        self.set_fallback_fonts(others, exact_match=False)
        self.set_text_shaping(_is_shaped(document))  # it takes its time

    def add_page(self, *how: Any, **named: Any) -> None:
        super().add_page(*how, **named)
        self._set_on_page()

    def _render_styled_text_line(self, *how: Any, **named: Any) -> bool:
        self._set_on_page()
        return super()._render_styled_text_line(*how, **named)

    def _set_on_page(self) -> None:
        """Writes the present font into the page. The library takes it for written by a line that begins in another font,
        and forgets it with that line (2.8.9): what follows would be in the font before, with letters of this one."""
        if self.current_font is not None and not self.current_font_is_set_on_page:
            self._out(self._set_font_for_page(self.current_font, self.font_size_pt))

    def begin(self) -> None:
        self.add_page()
        self.set_font(_FAMILY, "B", 19)
        self._put(self._told.title, 8)
        self.set_font(_FAMILY, "", 10)
        self.set_text_color(*_GREY)
        self._put(self._told.subject, 5)
        self._put(f"As of {self._made}.", 5)
        self.set_text_color(0)

    def end(self) -> None:
        """Says what could not be shown."""
        if self._lacks:
            self.ln(4)
            self.set_font(_FAMILY, "", 8.5)
            self._put(LACKING, 4.3)

    def footer(self) -> None:
        self.set_y(-13)
        self.set_font(_FAMILY, "", 8)
        self.set_text_color(*_GREY)
        half = self.epw / 2
        self.cell(half, 5, self._shown(f"{self._told.title}, as of {self._made}"))
        self.cell(half, 5, f"Page {self.page_no()} of {{nb}}", align="R")
        self.set_text_color(0)

    def heading(self, text: str) -> None:
        if self.will_page_break(28):  # not alone at the foot of a page
            self.add_page()
        self.ln(5)
        self.set_font(_FAMILY, "B", 13)
        self.start_section(self._shown(text))
        self._put(text, 6)
        self.set_draw_color(*_RULE)
        self.line(self.l_margin, self.get_y() + 0.5, self.w - self.r_margin, self.get_y() + 0.5)
        self.ln(2.5)

    def block(self, block: Block) -> None:
        self.set_font(_FAMILY, "", 9.5)
        match block:
            case Text():
                self._put(block.text, 4.8)
            case Listing():
                for one in block.points:
                    self.set_x(self.l_margin + 2)
                    self.cell(4, 4.8, "•")
                    self.multi_cell(self.epw - 6, 4.8, self._shown(one), align="L", **_NEXT)
            case Pairs():
                self._table((), block.pairs, frozenset(), (34, 66))
            case Table():
                self._caption(block.caption)
                if block.rows:
                    self._table(block.head, block.rows, block.numbers, _widths(block))
                else:
                    self._put(block.empty, 4.8)
            case Picture():
                self._picture(block)
        self.ln(2)

    def _put(self, text: str, height: float) -> None:
        self.multi_cell(0, height, self._shown(text), align="L", **_NEXT)

    def _shown(self, text: str) -> str:
        """With code points for what cannot be shown, and spaces for what is not to be."""
        found = []
        for c in text:
            if ord(c) in self._shows or c == " ":
                found.append(c)
            elif not c.isprintable():
                found.append("" if c in _JOINERS else " ")
            else:
                found.append(f"[U+{ord(c):04X}]")
                self._lacks = True
        return "".join(found)

    def _caption(self, text: str) -> None:
        if self.will_page_break(16):
            self.add_page()
        self.set_font(_FAMILY, "B", 9.5)
        self._put(text, 5)
        self.set_font(_FAMILY, "", 9.5)

    def _table(
        self,
        head: tuple[str, ...],
        rows: tuple[tuple[str, ...], ...],
        numbers: frozenset[int],
        widths: tuple[int, ...],
    ) -> None:
        self.set_font(_FAMILY, "", 8.5 if len(widths) < 7 else 7.2)
        self.set_draw_color(*_RULE)
        aligned = tuple("RIGHT" if place in numbers else "LEFT" for place in range(len(widths)))
        how: dict[str, Any] = {
            "borders_layout": "HORIZONTAL_LINES",
            "col_widths": widths,
            "first_row_as_headings": bool(head),
            "headings_style": FontFace(emphasis="BOLD"),
            "line_height": 4.1,
            "padding": (0.7, 1),
            "text_align": aligned,
            "width": self.epw,
        }
        with self.table(**how) as made:
            for row in (head, *rows) if head else rows:
                made.row([self._shown(one) for one in row])

    def _picture(self, block: Picture) -> None:
        scale = self.epw / 100
        if self.will_page_break(block.drawing.height * scale + 14):
            self.add_page()
        self._caption(block.caption)
        top = self.get_y() + 1
        with self.local_context():  # its colours are its own
            for one in block.drawing.shapes:
                self._shape(one, self.l_margin, top, scale)
        self.set_y(top + block.drawing.height * scale + 1)
        self.set_font(_FAMILY, "", 8.5)
        self._put(block.alt, 4.3)

    def _shape(self, one: drawing.Shape, left: float, top: float, scale: float) -> None:
        match one:
            case drawing.Rectangle():
                self.set_fill_color(one.color)
                self.rect(
                    left + one.x * scale, top + one.y * scale, one.width * scale, one.height * scale, "F"
                )
            case drawing.Line():
                self.set_draw_color(one.color)
                self.set_line_width(0.15 * scale)
                self.line(
                    left + one.x1 * scale, top + one.y1 * scale, left + one.x2 * scale, top + one.y2 * scale
                )
            case drawing.Label():
                self.set_font(_FAMILY, "", one.size * scale * 72 / 25.4)
                shown = self._shown(one.text)
                width = self.get_string_width(shown)
                back = {"start": 0.0, "middle": width / 2, "end": width}[one.align]
                self.text(left + one.x * scale - back, top + one.y * scale, shown)


def _is_shaped(document: Document) -> bool:
    """Whether letters of it may join or change places: from Hebrew on, and marks that combine."""
    return any("\u0300" <= c < "\u0370" or "\u0590" <= c < "\u2000" for c in repr(document))


def _widths(block: Table) -> tuple[int, ...]:
    """Shares of columns by what stands in them: no word is cut where that can be helped."""
    shares = []
    for place, name in enumerate(block.head):
        lengths = [len(name), *(len(row[place]) for row in block.rows[:200])]
        longest = max(max(map(len, text.split()), default=1) for text in _cells(block, place))
        shares.append(max(9, min(40, max(sum(lengths) // len(lengths), min(longest + 2, 28)))))
    return tuple(shares)


def _cells(block: Table, place: int) -> list[str]:
    return [block.head[place], *(row[place] for row in block.rows[:200])]
