"""XML from the network as a small tree: namespaces taken off, everything bounded, nothing ever fetched or expanded.

Whatever could be read before a fault or a bound is kept, with a flag that says so. Element and attribute names are
lower case without prefix, as vendors disagree about both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lxml import etree

MAX_BYTES = 512 * 1024
MAX_DEPTH = 24
MAX_ELEMENTS = 8_000
MAX_ATTRIBUTES = 24
MAX_VALUE = 4_096  # characters of one attribute, or of the text of one element

MALFORMED = "metadata-malformed"
TRUNCATED = "metadata-truncated"

_DECLARATION = re.compile(r"\s*<\?xml\b[^>]*\?>", re.IGNORECASE)
_DECLARED = re.compile(rb"<\?xml[^>]{0,200}encoding\s*=\s*[\"']([A-Za-z0-9._\-]{1,40})[\"']")
# What XML 1.0 forbids, surrogates included.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What vendors forget: quotes around an attribute's value, and to escape an ampersand.
_UNQUOTED = re.compile(r"(<[^<>]*?\s[A-Za-z_][\w:.\-]{0,100})\s?=\s?([^\s\"'<>=]{1,500})(?=[\s/>])")
_AMPERSAND = re.compile(r"&(?!#[0-9]{1,7};|#x[0-9A-Fa-f]{1,6};|[A-Za-z]{1,30};)")
_MENDS = 8  # attributes of one element that are mended
_EIGHT_BIT = frozenset({"iso-8859-1", "latin1", "latin-1", "windows-1252", "cp1252", "iso-8859-15"})


@dataclass(slots=True)
class Node:
    """One element. `text` is what stands directly inside of it, stripped."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict, repr=False)
    namespace: str = ""
    text: str = field(default="", repr=False)
    children: list[Node] = field(default_factory=list, repr=False)

    def first(self, *names: str) -> Node | None:
        """The first child of one of these names."""
        return next((child for child in self.children if child.name in names), None)

    def all(self, *names: str) -> list[Node]:
        """All children of these names, in order."""
        return [child for child in self.children if child.name in names]

    def text_of(self, *names: str) -> str:
        """The text of the first child of one of these names that has any; "" where none has."""
        return next((child.text for child in self.all(*names) if child.text), "")

    def attribute(self, *names: str) -> str:
        """The first of these attributes that is there, stripped; "" where none is."""
        return next((value for name in names if (value := self.attributes.get(name, "").strip())), "")

    def walk(self) -> Iterator[Node]:
        """This element and everything below, in order of the document."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


@dataclass(frozen=True, slots=True)
class Tree:
    """What could be read. `flags` holds MALFORMED and TRUNCATED where they apply."""

    root: Node | None
    flags: tuple[str, ...] = ()


class _Enough(Exception):
    """A bound, or a DTD, ends the reading."""


class _Builder:
    """lxml's parser target: builds nodes as they come, so that a fault later leaves what came before."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.truncated = False
        self._open: list[Node] = []
        self._texts: list[list[str]] = []
        self._sizes: list[int] = []
        self._count = 0

    def _stop(self) -> None:
        self.truncated = True
        raise _Enough

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """A DTD: no recorder needs one, and entities live there."""
        self._stop()

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS or len(self._open) >= MAX_DEPTH:
            self._stop()
        namespace, name = _split(tag)
        node = Node(name, {}, namespace)
        for key, value in attributes.items():
            if len(node.attributes) >= MAX_ATTRIBUTES:
                self.truncated = True
                break
            node.attributes.setdefault(_split(key)[1], self._cut(value))
        if self._open:
            self._open[-1].children.append(node)
        elif self.root is None:
            self.root = node
        else:
            self._stop()
        self._open.append(node)
        self._texts.append([])
        self._sizes.append(0)

    def _cut(self, value: str) -> str:
        if len(value) > MAX_VALUE:
            self.truncated = True
            return value[:MAX_VALUE]
        return value

    def data(self, text: str) -> None:
        if not self._open:
            return
        room = MAX_VALUE - self._sizes[-1]
        if len(text) > room:
            self.truncated = True
            text = text[:room]
        if text:
            self._texts[-1].append(text)
            self._sizes[-1] += len(text)

    def end(self, tag: str) -> None:
        if self._open:
            self._sizes.pop()
            self._open.pop().text = "".join(self._texts.pop()).strip()

    def comment(self, text: str) -> None:
        pass

    def pi(self, target: str, data: str | None) -> None:
        pass

    def close(self) -> None:
        """Also called by us after a fault: elements still open keep their text."""
        while self._open:
            self.end("")


def _split(tag: str) -> tuple[str, str]:
    """Namespace and local name; a prefix that was never declared is taken off too."""
    namespace, brace, name = tag.rpartition("}")
    return namespace.removeprefix("{") if brace else "", name.rpartition(":")[2].lower()


def read_tree(data: bytes) -> Tree:
    """Reads a document. Raises nothing: `root` is None where there is no element at all."""
    flags: list[str] = []
    if len(data) > MAX_BYTES:
        data = data[:MAX_BYTES]
        flags.append(TRUNCATED)
    text, clean = _decode(data)
    match = _DECLARATION.match(text)
    start = text.find("<", match.end() if match else 0)
    if start < 0:
        return Tree(None, (*flags, MALFORMED) if text.strip() else tuple(flags))
    document = text[start:].encode("utf-8")
    builder, whole = _parse(document, recover=False)
    if not whole and not builder.truncated:
        mended, _ = _parse(_mend(text[start:]).encode("utf-8"), recover=True)
        if _size(mended.root) >= _size(builder.root):
            builder = mended
    if not whole and not builder.truncated:
        clean = False
    if not clean:
        flags.append(MALFORMED)
    if builder.truncated and TRUNCATED not in flags:
        flags.append(TRUNCATED)
    return Tree(builder.root, tuple(flags))


def _parse(document: bytes, *, recover: bool) -> tuple[_Builder, bool]:
    builder = _Builder()
    parser = etree.XMLParser(
        target=builder,
        encoding="utf-8",
        recover=recover,
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    whole = True
    try:
        # In pieces: a document that hits a bound is not read to its end.
        for place in range(0, len(document), 16_384):
            parser.feed(document[place : place + 16_384])
        parser.close()
    except (_Enough, etree.LxmlError, AssertionError):
        whole = False  # AssertionError: lxml's way to say that nothing was there
    builder.close()
    return builder, whole


def _mend(text: str) -> str:
    """Puts right what is known to be forgotten; what else there is, such as prefixes never declared, libxml2 takes."""
    text = _AMPERSAND.sub("&amp;", text)
    for _ in range(_MENDS):
        text, count = _UNQUOTED.subn(r'\1="\2"', text)
        if not count:
            break
    return text


def _size(root: Node | None) -> int:
    return sum(1 for _ in root.walk()) if root is not None else 0


def _decode(data: bytes) -> tuple[str, bool]:
    """The text, and whether its bytes were what they said to be."""
    data = data.rstrip(b"\0 \t\r\n")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or data[:2] in (b"<\0", b"\0<"):
        encoding = "utf-16" if data[0] in (0xFE, 0xFF) else "utf-16-le" if data[0] else "utf-16-be"
        text = data.decode(encoding, "replace")
        clean = "\ufffd" not in text
    else:
        declared = _DECLARED.search(data[:300])
        name = declared[1].decode("ascii").lower() if declared else "utf-8"
        try:
            text, clean = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8"), True
        except UnicodeDecodeError:
            text, clean = data.decode("cp1252", "replace"), name in _EIGHT_BIT
    legal = _ILLEGAL.sub(" ", text)
    return legal, clean and legal == text
