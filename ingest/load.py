"""Readers: from a file to a title and a list of blocks. One line in READERS per type of file."""

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_low
from typing import Literal

import bs4
import bs4.element
import mammoth
import pypdfium2
import yaml
from charset_normalizer import from_bytes
from markdown_it import MarkdownIt


@dataclass(frozen=True)
class Block:
    """A heading, a paragraph, a list item, a table row or a piece of code, kept whole as far as its size allows.

    A picture is a block of its own: `text` is its caption, `image` its URL or data URI.
    """

    kind: Literal["heading", "paragraph", "item", "row", "code", "picture"]
    text: str
    level: int = 0
    page: int | None = None
    image: str = ""


@dataclass(frozen=True)
class Document:
    """A file as read."""

    title: str
    blocks: tuple[Block, ...]


class UnreadableError(Exception):
    """Why a file cannot be read, in words for its owner."""


def read(path: Path, content: bytes) -> Document:
    """Return the document in a file's bytes. UnreadableError says what is wrong with it."""
    reader = READERS[path.suffix.lower()]
    try:
        title, blocks = reader(content)
    except UnreadableError:
        raise
    except Exception as error:
        # A reader meets whatever a file holds; whatever it raises is this file's failure and no one else's.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UnreadableError(f"not a readable {path.suffix.lower()} file ({reason})") from error
    blocks = [replace(block, text=_sound(block.text)) for block in blocks if block.text.strip()]
    title = title or next((b.text for b in blocks if b.kind == "heading" and b.level == 1), "")
    title = " ".join(title.split()) or path.stem.replace("-", " ").replace("_", " ")
    return Document(_sound(title), tuple(blocks))


def _sound(text: str) -> str:
    """Return text that can be stored and sent: a lone surrogate, as of a file name that is no text, becomes "?"."""
    return text.encode("utf-8", "replace").decode()


Read = tuple[str, list[Block]]


def read_text(content: bytes) -> Read:
    """Plain text: paragraphs between blank lines."""
    return "", [Block("paragraph", part.strip()) for part in re.split(r"\n\s*\n", decode(content))]


def read_markdown(content: bytes) -> Read:
    """CommonMark with tables; front matter gives the title and is left out of the text."""
    text = decode(content)
    title = ""
    if match := re.match(r"---\s*\n(.*?)\n(?:---|\.\.\.)\s*(?:\n|$)", text, re.DOTALL):
        try:
            front = yaml.safe_load(match[1])
        except (yaml.YAMLError, ValueError):
            front = None
        if isinstance(front, dict):
            title = str(front.get("title") or "")
            text = text[match.end() :]
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    return title, list(html_blocks(bs4.BeautifulSoup(html, "lxml")))


def read_html(content: bytes) -> Read:
    """HTML: the main part of the page, without navigation, scripts and footers."""
    soup = bs4.BeautifulSoup(decode(content, declared=True), "lxml")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    heading = soup.find("h1")
    title = (heading.get_text(" ", strip=True) if heading else "") or title
    for tag in soup(["script", "style", "noscript", "template", "nav", "footer", "aside", "button", "select", "svg", "head"]):
        tag.decompose()
    articles = soup.find_all("article")
    return title, list(html_blocks(soup.find("main") or (articles[0] if len(articles) == 1 else soup)))


def read_docx(content: bytes) -> Read:
    """Word: headings, lists and tables by their styles."""
    html = mammoth.convert_to_html(io.BytesIO(content)).value
    return "", list(html_blocks(bs4.BeautifulSoup(html, "lxml")))


def read_pdf(content: bytes) -> Read:
    """PDF: paragraphs by page; lines in larger type are headings."""
    try:
        pdf = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        raise UnreadableError("the PDF needs a password" if locked else f"not a readable PDF ({error})") from error
    try:
        pages = [list(_pdf_lines(pdf[number], number + 1)) for number in range(len(pdf))]
        title = pdf.get_metadata_value("Title")
    finally:
        pdf.close()
    lines = _without_running_lines(pages)
    if not lines:
        raise UnreadableError("the PDF holds no text, it may be a scan: run OCR on it first")
    return title, list(_pdf_blocks(lines))


# A line whose type is larger than the body's by this factor is a heading.
LARGER = 1.05


@dataclass(frozen=True)
class _Line:
    text: str
    size: float
    top: float
    page: int


def _pdf_lines(page: pypdfium2.PdfPage, number: int) -> Iterator[_Line]:
    words = page.get_textpage()
    at = 0
    for raw in re.split(r"(\r?\n)", words.get_text_range()):
        text = raw.strip()
        # A page number alone is not text.
        if text and not re.fullmatch(r"(page )?\d+( (of|/) \d+)?", text.lower()):
            first = at + len(raw) - len(raw.lstrip())
            _, bottom, _, top = words.get_charbox(first, loose=True)
            yield _Line(text, round(top - bottom, 1), top, number)
        at += len(raw)


def _without_running_lines(pages: list[list[_Line]]) -> list[_Line]:
    """Return the lines without headers and footers: first or last lines that are alike on most pages but for numbers."""
    body = _body_size([line for page in pages for line in page])
    ends = Counter(text for page in pages if page for text in {_alike(page[0]), _alike(page[-1])})
    running = {text for text, count in ends.items() if count > 1 and count > len(pages) / 2}
    last = [{0, len(page) - 1} for page in pages]
    return [
        line
        for page, edge in zip(pages, last, strict=True)
        for i, line in enumerate(page)
        # Large type at the top of each page is a heading ("Chapter 2"), not a header.
        if not (i in edge and _alike(line) in running and line.size <= body * LARGER)
    ]


def _body_size(lines: list[_Line]) -> float:
    """Return the type size of most characters."""
    return median_low([line.size for line in lines for _ in line.text] or [0.0])


def _alike(line: _Line) -> str:
    return re.sub(r"\d+", "0", line.text)


def _pdf_blocks(lines: list[_Line]) -> Iterator[Block]:
    body = _body_size(lines)
    sizes = sorted({line.size for line in lines if line.size > body * LARGER and len(line.text) < 120}, reverse=True)
    paragraph: list[_Line] = []

    def flush() -> Iterator[Block]:
        if paragraph:
            yield Block("paragraph", _join(line.text for line in paragraph), page=paragraph[0].page)
            paragraph.clear()

    for line in lines:
        if line.size in sizes and len(line.text) < 120:
            yield from flush()
            yield Block("heading", line.text, level=min(sizes.index(line.size) + 1, 6), page=line.page)
            continue
        last = paragraph[-1] if paragraph else None
        # A wider gap than between lines, or a bullet, starts a paragraph; a page break does so after a full stop.
        if last and (
            (line.page == last.page and last.top - line.top > 1.6 * line.size)
            or (line.page != last.page and last.text.endswith((".", ":", "!", "?", "。")))
            or re.match(r"[•●▪–-]\s|\d{1,2}[.)]\s", line.text)
        ):
            yield from flush()
        paragraph.append(line)
    yield from flush()


def _join(lines: Iterator[str]) -> str:
    """Join wrapped lines: a hyphenated word is closed, and no space goes between Chinese or Japanese characters."""
    text = ""
    for line in lines:
        # pdfium writes U+FFFE for a hyphen at the end of a line.
        if text.endswith("\ufffe") or (re.search(r"[a-zà-ÿ]-$", text) and line[:1].islower()):
            text = text[:-1] + line
        elif text and re.match(r"[\u3000-\u9fff\uff00-\uffef]", text[-1]) and re.match(r"[\u3000-\u9fff\uff00-\uffef]", line):
            text += line
        else:
            text = f"{text} {line}" if text else line
    return text


# Characters of a picture's address; a data URI of about 75 kB.
MAX_IMAGE = 100_000
# Stands for <br> until white space is squeezed; no text holds it.
_BREAK = "\0"
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_INLINE = {
    "a", "abbr", "b", "bdi", "bdo", "br", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd", "mark", "q",
    "s", "samp", "small", "span", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr", "img", "label",
}  # fmt: skip


def html_blocks(tag: bs4.Tag) -> Iterator[Block]:
    """Yield the blocks below a tag, in reading order."""
    inline: list[str] = []

    def flush() -> Iterator[Block]:
        if text := _squeeze("".join(inline)):
            yield Block("paragraph", text)
        inline.clear()

    for child in tag.children:
        if isinstance(child, bs4.Tag) and child.name == "img" and (caption := _squeeze(str(child.get("alt") or ""))):
            source = str(child.get("src") or "")
            # Files beside the document stay out: a rerank endpoint could not reach them.
            if source.startswith(("http://", "https://", "data:image/")) and len(source) <= MAX_IMAGE:
                yield from flush()
                yield Block("picture", caption, image=source)
        elif isinstance(child, bs4.Tag) and child.name not in _INLINE:
            yield from flush()
            yield from _element_blocks(child)
        elif isinstance(child, bs4.Tag):
            inline.append(_inline_text(child))
        elif type(child) is bs4.element.NavigableString:
            inline.append(str(child))
    yield from flush()


def _element_blocks(tag: bs4.Tag) -> Iterator[Block]:
    if tag.name in _HEADINGS:
        yield Block("heading", _squeeze(_inline_text(tag)), level=_HEADINGS[tag.name])
    elif tag.name == "pre":
        yield Block("code", tag.get_text().strip("\n"))
    elif tag.name == "table":
        yield from _table_rows(tag)
    elif tag.name in ("li", "dd", "dt"):
        for n, block in enumerate(html_blocks(tag)):
            # The item's own first words carry the dash; nested items have theirs already.
            if n == 0 and block.kind == "paragraph":
                yield Block("item", f"- {block.text}")
            else:
                yield block
    else:
        yield from html_blocks(tag)


def _table_rows(table: bs4.Tag) -> Iterator[Block]:
    """Yield each row with its header, `Country: France | Dinner: 32 EUR`, so that it can be read alone."""
    if caption := table.find("caption"):
        yield Block("paragraph", _squeeze(_inline_text(caption)))
    rows = [row for row in table.find_all("tr") if row.find_parent("table") is table]
    cells = [[_squeeze(_inline_text(cell)) for cell in row.find_all(["td", "th"], recursive=False)] for row in rows]
    header = cells[0] if len(cells) > 1 and len(cells[0]) > 1 else []
    for row in cells[1:] if header else cells:
        named = [f"{header[i]}: {cell}" if i < len(header) and header[i] else cell for i, cell in enumerate(row) if cell]
        yield Block("row", " | ".join(named))


def _inline_text(tag: bs4.Tag) -> str:
    for line_break in tag.find_all("br"):
        line_break.replace_with(_BREAK)
    if tag.name == "br":
        return _BREAK
    # Blocks inside a cell or item must not run together.
    return tag.get_text(" " if tag.find(["p", "div", "li"]) else "")


def _squeeze(text: str) -> str:
    """Return HTML text as it is shown: white space is one space, only <br> breaks a line."""
    return "\n".join(filter(None, (" ".join(line.split()) for line in text.split(_BREAK))))


def decode(content: bytes, *, declared: bool = False) -> str:
    """Return bytes as text: by BOM, as UTF-8, by what HTML declares, else by detection. UnreadableError if binary."""
    if b"\0" in content[:4000]:
        return _decode_wide(content)
    with suppress(UnicodeDecodeError):
        return content.decode("utf-8-sig")
    if declared:
        markup = bs4.dammit.EncodingDetector.find_declared_encoding(content, is_html=True)
        if markup:
            with suppress(LookupError, UnicodeDecodeError):
                return content.decode(markup)
    best = from_bytes(content).best()
    if best is None:
        raise UnreadableError("its encoding cannot be told, it may be a binary file: save it as UTF-8")
    return str(best)


def _decode_wide(content: bytes) -> str:
    """Return UTF-16 text, with or without a BOM; other content with NULs is no text."""
    for encoding in (
        ("utf-16", "utf-16-le", "utf-16-be") if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-16-le", "utf-16-be")
    ):
        with suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            if "\0" not in text and sum(character.isascii() or character.isalpha() for character in text) > 0.9 * len(text):
                return text
    raise UnreadableError("it holds NUL bytes, so it is no text: give it the suffix of what it is")


READERS: dict[str, Callable[[bytes], Read]] = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".txt": read_text,
    ".html": read_html,
    ".htm": read_html,
    ".pdf": read_pdf,
    ".docx": read_docx,
}
