"""PDF: lines by page, joined to paragraphs under the headings that their type tells; ruled tables row by row."""

import ctypes
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from statistics import median_low
from typing import Literal

import pypdfium2
import pypdfium2.raw as pdfium

from ingest.readers.document import Block, EmptyError, Read, UnreadableError, locked, table_rows
from ingest.readers.pdf_tables import Table, ruled_tables
from rag_app.words import msg

# A line whose type is larger than the body's by this factor is a heading.
LARGER = 1.05
# So much larger that it need not stand alone.
MUCH_LARGER = 1.15
# Characters of the longest heading.
LONGEST = 120


@dataclass(frozen=True)
class _Line:
    """A line of a page: from where its first character stands to where its last does, which may be lines below.

    A row of a table is one too, with its block ready.
    """

    text: str
    size: float
    top: float
    last_top: float
    left: float
    right: float
    page: int
    bold: bool = False
    block: Block | None = None


def read_pdf(content: bytes) -> Read:
    """PDF: paragraphs by page, tables with their headers; lines in larger or bold type are headings."""
    try:
        pdf = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise locked() from error
        raise UnreadableError(
            msg("not a readable PDF file ({reason})", reason=error), msg("open it in a viewer and print it to a new PDF")
        ) from error
    try:
        title = pdf.get_metadata_value("Title")
        pages = []
        table: Table | None = None
        # The boxes of a form are ruled too.
        ruled = pdf.get_formtype() == pdfium.FORMTYPE_NONE
        for number in range(len(pdf)):
            lines, table = _page_lines(pdf[number], number + 1, table, ruled=ruled)
            pages.append(lines)
    finally:
        pdf.close()
    lines = _without_running_lines(pages)
    if not lines:
        raise EmptyError(msg("it has only images of text"), msg("run OCR on it first, e.g. `ocrmypdf IN OUT`"))
    # Some programs write the name of the file or nothing that can be read.
    named = title if re.search(r"\w{2}", title) and not re.search(r"\.(docx?|indd|tex|pptx?|qxd)$", title) else ""
    return named, list(_blocks(lines))


def _page_lines(page: pypdfium2.PdfPage, number: int, above: Table | None, *, ruled: bool) -> tuple[list[_Line], Table | None]:
    """Return a page's lines in order, a table's rows among them, and the last table of this page.

    `above` is that of the page before: a table in the same columns at the top goes on with it.
    """
    words = page.get_textpage()
    tables = ruled_tables(page, words) if ruled else []
    lines: list[_Line] = []
    done: list[Table] = []
    at = 0
    for raw in re.split(r"(\r?\n)", words.get_text_range()):
        first, end = at + len(raw) - len(raw.lstrip()), at + len(raw.rstrip()) - 1
        at += len(raw)
        text = _clean(raw)
        # A page number alone is not text.
        if not text or re.fullmatch(r"(page )?\d+(\s?(of|/)\s?\d+)?", text.lower()):
            continue
        left, bottom, right, top = words.get_charbox(first, loose=True)
        table = next((table for table in tables if table.holds((left + right) / 2, (bottom + top) / 2)), None)
        if table is None:
            size, bold = _type(words, raw, first, end)
            _, _, last_right, last_top = words.get_charbox(end, loose=True)
            lines.append(_Line(text, size, top, last_top, left, last_right, number, bold))
        elif table not in done:
            rows = table.rows
            if above and not done and len(lines) <= 2 and above.same_columns(table) and above.rows[0] != rows[0]:
                rows = [above.rows[0], *rows]
            done.append(table)
            place = (table.top, table.bottom, table.left, table.right)
            lines += [_Line(block.text, 0.0, *place, number, block=block) for block in table_rows(rows, page=number)]
            above = replace(table, rows=rows)
    return lines, above if done else None


def _clean(text: str) -> str:
    # pdfium writes U+FFFE for a hyphen at the end of a line; at the end of what it gives as a line, _join looks at it.
    text = re.sub(r"\ufffe(?=[^\W\d_])", lambda match: "-" if text[match.end()].isupper() else "", text.strip())
    # Word writes its bullets in fonts of its own.
    return re.sub(r"(?:\s?\.){5,}", " …", re.sub(r"^[\uf0a7\uf0b7\uf0d8\uf0fc]", "•", text))


def _type(words: pypdfium2.PdfTextPage, raw: str, first: int, end: int) -> tuple[float, bool]:
    """Return the type size of most letters of a line, and whether it is bold from its first to its last letter."""
    start = first - (len(raw) - len(raw.lstrip()))
    letters = [start + i for i, character in enumerate(raw) if character.isalpha()] or [first]
    few = [*letters[:: max(len(letters) // 8, 1)], letters[-1]]
    boxes = [words.get_charbox(i, loose=True) for i in few]
    return median_low([round(2 * (top - bottom)) / 2 for _, bottom, _, top in boxes]), all(_is_bold(words, i) for i in few)


def _is_bold(words: pypdfium2.PdfTextPage, index: int) -> bool:
    name, flags = ctypes.create_string_buffer(100), ctypes.c_int()
    pdfium.FPDFText_GetFontInfo(words.raw, index, name, len(name), flags)
    # The 14 fonts that every viewer has state no weight, subsets often none that is true.
    return bool(re.search(rb"bold|black|heavy|-bd|bx\d", name.value, re.IGNORECASE))


def _without_running_lines(pages: list[list[_Line]]) -> list[_Line]:
    """Return the lines without headers and footers: first or last lines that most pages share, apart from numbers."""
    body = _body_size([line for page in pages for line in page])
    ends = Counter(text for page in pages if page for text in {_without_numbers(page[0]), _without_numbers(page[-1])})
    running = {text for text, count in ends.items() if count > 1 and count > len(pages) / 2}
    last = [{0, len(page) - 1} for page in pages]
    return [
        line
        for page, edge in zip(pages, last, strict=True)
        for i, line in enumerate(page)
        # Large type at the top of each page is a heading ("Chapter 2"), not a header.
        if not (i in edge and _without_numbers(line) in running and line.size <= body * LARGER and line.block is None)
    ]


def _body_size(lines: list[_Line]) -> float:
    """Return the type size of most characters."""
    return median_low([line.size for line in lines if line.block is None for _ in line.text] or [0.0])


def _without_numbers(line: _Line) -> str:
    return re.sub(r"\d+", "0", line.text)


def _headings(lines: list[_Line]) -> dict[_Line, int]:
    """Return the lines that are headings by their type, with their level: larger than the body, or bold and alone."""
    body = _body_size(lines)
    usual = _usual_gap(lines)
    full = max((line.right for line in lines), default=0.0)
    found: dict[_Line, int] = {}
    bold: list[_Line] = []
    sizes: set[float] = set()
    above: _Line | None = None
    for (size, _, is_bold, in_table), group in groupby(
        lines, lambda line: (line.size, line.page, line.bold, line.block is not None)
    ):
        run = list(group)
        first, ends = run[0], run[-1].text.endswith((".", ",", ";", "。", "，", "；"))
        apart = above is None or above.page != first.page or not 0 < above.last_top - first.top < 1.2 * usual
        # Text that only looks larger, in a font of another build, fills its line.
        alone = apart and run[-1].right < 0.9 * full
        above = run[-1]
        # Larger type that goes on for more than a few lines is text.
        if in_table or len(run) > 3 or ends or not all(len(line.text) < LONGEST and _is_wordy(line.text) for line in run):
            continue
        if size > body * MUCH_LARGER or (size > body * LARGER and alone):
            found |= dict.fromkeys(run, 0)
            sizes.add(size)
        elif is_bold and alone:
            bold += run
    order = sorted(sizes, reverse=True)
    found = {line: min(order.index(line.size) + 1, 6) for line in found}
    # Where much is bold, as in a form, it means nothing.
    return found | (dict.fromkeys(bold, min(len(order) + 1, 6)) if 4 * len(bold) < len(lines) else {})


def _usual_gap(lines: list[_Line]) -> float:
    """Return the distance of most lines to the next."""
    return median_low([a.last_top - b.top for a, b in pairwise(lines) if a.page == b.page and a.last_top > b.top] or [0.0])


def _is_wordy(text: str) -> bool:
    """Say whether a line is words rather than a formula."""
    if re.search(r"[\ue000-\uf8ff\ufffd]", text):
        return False
    letters = sum(character.isalpha() or character.isspace() for character in text)
    # Neither is a line of a table of contents, whose dots _clean has drawn together.
    return (
        letters > 0.6 * len(text)
        and " …" not in text
        and re.search(r"[^\W\d_]{3}|[\u3000-\u9fff\uac00-\ud7af]", text) is not None
    )


def _blocks(lines: list[_Line]) -> Iterator[Block]:
    headings, usual = _headings(lines), _usual_gap(lines)
    open_lines: list[_Line] = []

    def flush() -> Iterator[Block]:
        if open_lines:
            text, first = _join(line.text for line in open_lines), open_lines[0]
            level = headings.get(first)
            kind: Literal["item", "paragraph"] = "item" if re.match(_BULLET, text) else "paragraph"
            yield Block("heading", text, level, first.page) if level else Block(kind, text, page=first.page)
            open_lines.clear()

    for line in lines:
        if line.block is not None:
            yield from flush()
            yield line.block
            continue
        last = open_lines[-1] if open_lines else None
        if last and (headings.get(line) != headings.get(last) or _begins(line, last, open_lines[0], usual)):
            yield from flush()
        open_lines.append(line)
    yield from flush()


def _begins(line: _Line, last: _Line, first: _Line, usual: float) -> bool:
    """Say whether a line begins a paragraph after one that goes from `first` to `last`."""
    ended = last.text.endswith((".", ":", "!", "?", "。", "：", "！", "？"))
    if line.page != last.page:
        # A paragraph goes on over the end of a page, a heading does not.
        return ended or not last.text or line.size != last.size
    return (
        last.last_top - line.top > max(1.6 * line.size, 1.3 * usual)
        or re.match(rf"{_BULLET}|\d{{1,2}}[.)、](\s|[\u3000-\u9fff])", line.text) is not None
        # A first line stands further right; after the last item of a list the text goes on further left.
        or (ended and 0.8 * line.size < line.left - last.left < 4 * line.size)
        or (re.match(_BULLET, first.text) is not None and line.left < first.left - 2)
    )


_BULLET = r"[•●▪–-]\s"
_CJK = r"[\u3000-\u9fff\uff00-\uffef]"


def _join(lines: Iterator[str]) -> str:
    """Join wrapped lines: a hyphenated word is closed, and no space goes between Chinese or Japanese characters."""
    parts: list[str] = []
    for line in lines:
        end = parts[-1][-2:] if parts else ""
        # pdfium writes U+FFFE for a hyphen at the end of a line.
        if end.endswith("\ufffe") or (re.fullmatch(r"[a-zà-ÿ]-", end) and line[:1].islower()):
            parts[-1] = parts[-1][:-1]
        elif parts and not (re.match(_CJK, end[-1:]) and re.match(_CJK, line)):
            parts.append(" ")
        parts.append(line)
    return "".join(parts)
