"""PDF: lines by page, joined to paragraphs under the headings that their type tells; ruled tables row by row."""

import bisect
import ctypes
import difflib
import logging
import re
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from statistics import median_low
from typing import Literal

import pypdfium2
import pypdfium2.raw as pdfium

from ingest.readers.document import Block, EmptyError, Read, UnreadableError, locked, table_rows
from ingest.readers.pdf_tables import Table, ruled_tables
from rag_app.words import msg, nmsg

# It advises another build of itself for some forms.
logging.getLogger("pypdfium2").setLevel(logging.ERROR)
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
        beside: dict[int, list[Block]] = {}
        pictures: list[int] = []
        table: Table | None = None
        # The boxes of a form are ruled too.
        ruled = pdf.get_formtype() == pdfium.FORMTYPE_NONE
        if not ruled:
            pdf.init_forms()
        for number in range(len(pdf)):
            page = pdf[number]
            lines, table = _page_lines(page, number + 1, table, ruled=ruled)
            pages.append(lines)
            beside[number + 1] = list(_fields_and_comments(page, pdf.formenv, number + 1))
            # A scan has no text, or what was stamped on it.
            if len(lines) <= MOST_RUNNING and _is_scanned(page):
                pictures.append(number + 1)
    finally:
        pdf.close()
    lines = _without_running_lines(pages, pictures)
    read = {line.page for line in lines}
    pictures = [number for number in pictures if number not in read]
    ocr = msg("run OCR on it first, e.g. `ocrmypdf IN OUT`")
    if not lines and not any(beside.values()):
        raise EmptyError(msg("it has only images of text"), ocr)
    text = "".join(line.text for line in lines)
    if 2 * len(re.findall(_UNMAPPED, text)) > len(re.sub(r"\s", "", text)) > 0:
        raise EmptyError(msg("its fonts do not say which letters they show"), ocr)
    blocks = list(_blocks(lines))
    # What stands beside the text of a page comes after it.
    for number in sorted((number for number, found in beside.items() if found), reverse=True):
        at = next((i for i, block in enumerate(blocks) if (block.page or 0) > number), len(blocks))
        blocks[at:at] = beside[number]
    if pictures:
        listed = ", ".join(map(str, pictures[:20])) + (", …" if len(pictures) > 20 else "")
        scanned = nmsg(
            "page {pages} holds pictures and no text: run OCR on it first, e.g. `ocrmypdf --skip-text IN OUT`",
            "pages {pages} hold pictures and no text: run OCR on it first, e.g. `ocrmypdf --skip-text IN OUT`",
            len(pictures),
            pages=listed,
        )
        blocks.append(Block("note", scanned))
    return "" if re.fullmatch(_NO_TITLE, title.strip(), re.I) or not re.search(r"\w{2}", title) else title, blocks


# Letters that a font keeps to itself, or does not name.
_UNMAPPED = r"[\ue000-\uf8ff\ufffd\U000f0000-\U0010fffd]"
# Titles that programs write by themselves.
_NO_TITLE = (
    r"\(?(untitled|unbenannt|anonymous|无标题|未命名)\)?( document| \d+)?|"
    r"(document|dokument|文档|presentation|präsentation|slide|folie) ?\d*|"
    r"microsoft (word|powerpoint|excel)\b.*|powerpoint[- ](presentation|präsentation)|"
    r".*\.(docx?|indd|tex|pptx?|xlsx?|qxd|rtf|odt)"
)


def _fields_and_comments(page: pypdfium2.PdfPage, form: pypdfium2.PdfFormEnv | None, number: int) -> Iterator[Block]:
    """Yield what is filled into the fields of a form and what is written on a page: neither is of its text."""
    for i in range(pdfium.FPDFPage_GetAnnotCount(page.raw)):
        note = pdfium.FPDFPage_GetAnnot(page.raw, i)
        kind = pdfium.FPDFAnnot_GetSubtype(note)
        if kind == pdfium.FPDF_ANNOT_WIDGET and form is not None:
            name = _string(pdfium.FPDFAnnot_GetFormFieldAlternateName, form.raw, note) or _string(
                pdfium.FPDFAnnot_GetFormFieldName, form.raw, note
            )
            field = pdfium.FPDFAnnot_GetFormFieldType(form.raw, note)
            value = _string(pdfium.FPDFAnnot_GetFormFieldValue, form.raw, note)
            if field in (pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON):
                if pdfium.FPDFAnnot_IsChecked(form.raw, note):
                    yield Block("row", f"[x] {name}", page=number)
            elif value and field != pdfium.FPDF_FORMFIELD_PUSHBUTTON:
                yield Block("row", f"{name}: {value}" if name else value, page=number)
        said = _string(pdfium.FPDFAnnot_GetStringValue, note, b"Contents")
        if said and kind in (pdfium.FPDF_ANNOT_FREETEXT, pdfium.FPDF_ANNOT_TEXT):
            yield Block("paragraph", said if kind == pdfium.FPDF_ANNOT_FREETEXT else f"Comment: {said}", page=number)
        pdfium.FPDFPage_CloseAnnot(note)


def _string(call: Callable[..., int], *args: object) -> str:
    """Return the text that a call of pdfium writes, which says first how long it is."""
    size = call(*args, None, 0)
    if size <= 2:
        return ""
    buffer = ctypes.create_string_buffer(size)
    call(*args, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), size)
    return " ".join(buffer.raw[: size - 2].decode("utf-16-le", "replace").split())


def _page_lines(page: pypdfium2.PdfPage, number: int, above: Table | None, *, ruled: bool) -> tuple[list[_Line], Table | None]:
    """Return a page's lines in order, a table's rows among them, and the last table of this page.

    `above` is that of the page before: a table in the same columns at the top goes on with it.
    """
    words, rotation = page.get_textpage(), page.get_rotation()
    tables = ruled_tables(page, words) if ruled else []
    lines: list[_Line] = []
    done: list[Table] = []
    at = 0
    whole = words.get_text_range()
    for raw in _split_at(_gutter(words, whole.count("\n") + 1), words, whole):
        first, end = at + len(raw) - len(raw.lstrip()), at + len(raw.rstrip()) - 1
        at += len(raw)
        text = _clean(raw)
        if not text:
            continue
        left, bottom, right, top = words.get_charbox(first, loose=True)
        turned = _turned(page, rotation, (left, bottom, right, top))
        table = next((table for table in tables if table.holds((left + right) / 2, (bottom + top) / 2)), None)
        if table is None:
            size, bold = _type(words, raw, first, end)
            _, _, last_right, last_top = _turned(page, rotation, words.get_charbox(end, loose=True))
            lines.append(_Line(text, size, turned[3], last_top, turned[0], last_right, number, bold))
        elif table not in done:
            rows = table.rows
            if above and not done and len(lines) <= 2 and above.same_columns(table) and above.rows[0] != rows[0]:
                rows = [above.rows[0], *rows]
            done.append(table)
            place = (table.top, table.bottom, table.left, table.right)
            lines += [_Line(block.text, 0.0, *place, number, block=block) for block in table_rows(rows, page=number)]
            above = replace(table, rows=rows)
    return _with_open_tables(_in_columns(lines), number), above if done else None


def _gutter(words: pypdfium2.PdfTextPage, n_lines: int) -> float | None:
    """Return where the right one of two columns begins that are drawn line by line over both, None if there are none."""
    n = words.count_rects()
    # What is drawn word by word, as by TeX, is drawn column by column.
    if not 2 * COLUMN_LINES <= n < 4 * n_lines:
        return None
    heights: dict[int, list[tuple[float, float]]] = {}
    for left, bottom, right, top in map(words.get_rect, range(n)):
        heights.setdefault(round((bottom + top) / 8), []).append((left, right))
    begins: Counter[float] = Counter()
    for row in heights.values():
        gaps = [b for (_, a), (b, _) in pairwise(sorted(row)) if b - a > GUTTER]
        begins.update({round(gaps[0] / 3) * 3.0} if len(gaps) == 1 else ())
    x, count = max(begins.items(), key=lambda item: item[1], default=(0.0, 0))
    return x if count >= COLUMN_LINES else None


def _split_at(x: float | None, words: pypdfium2.PdfTextPage, text: str) -> list[str]:
    """Return a page's lines and what parts them, cut where the right column begins; all of it is the text."""
    parts: list[str] = []
    at = 0
    for raw in re.split(r"(\r?\n)", text):
        cut = 0
        if x is not None and len(raw.strip()) > 20:
            # Along a line the characters stand further and further right.
            right = bisect.bisect_left(range(len(raw)), x - 4, key=lambda i: words.get_charbox(at + i, loose=True)[0])
            before = len(raw[:right].rstrip())
            if before and right < len(raw):
                gap = words.get_charbox(at + right, loose=True)[0] - words.get_charbox(at + before - 1, loose=True)[2]
                cut = right if gap > GUTTER else 0
        parts += [raw[:cut], raw[cut:]] if cut else [raw]
        at += len(raw)
    return parts


def _in_columns(lines: list[_Line]) -> list[_Line]:
    """Return lines with those of prose in two columns in order: the left column, then the right one."""
    ordered: list[_Line] = []
    pairs: list[tuple[_Line, _Line]] = []
    i = 0
    while i <= len(lines):
        two = lines[i : i + 2]
        if (
            len(two) == 2
            and all(line.block is None for line in two)
            and two[0].right < two[1].left
            and abs(two[0].top - two[1].top) < 2
        ):
            pairs.append((two[0], two[1]))
            i += 2
            continue
        long = sum(len(line.text) for pair in pairs for line in pair) > 40 * len(pairs)
        # Where most lines of a column have numbers, it is one of a table.
        counted = any(2 * sum(any(map(str.isdigit, pair[n].text)) for pair in pairs) > len(pairs) for n in (0, 1))
        prose = len(pairs) >= COLUMN_LINES and long and not counted
        ordered += [pair[n] for n in (0, 1) for pair in pairs] if prose else [line for pair in pairs for line in pair]
        ordered += lines[i : i + 1]
        pairs = []
        i += 1
    return ordered


# Points between two columns, and the lines that make them.
GUTTER = 9.0
COLUMN_LINES = 5


def _turned(
    page: pypdfium2.PdfPage, rotation: int, box: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """Return a box (left, bottom, right, top) as a reader of the page sees it, who sees it rotated by so many degrees."""
    if not rotation:
        return box
    left, bottom, right, top = box
    width, height = page.get_mediabox()[2:]
    if rotation == 90:
        return bottom, width - right, top, width - left
    if rotation == 180:
        return width - right, height - top, width - left, height - bottom
    return height - top, left, height - bottom, right


def _with_open_tables(lines: list[_Line], number: int) -> list[_Line]:
    """Return lines with tables that have no rules and are drawn column by column as rows: a column is numbers."""
    heights: dict[int, list[_Line]] = {}
    for line in lines:
        if line.block is None and len(line.text) <= LONGEST_CELL:
            heights.setdefault(round(line.top / 2), []).append(line)
    rows = [sorted(row, key=lambda line: line.left) for _, row in sorted(heights.items(), reverse=True) if len(row) > 1]
    for table in _runs(rows):
        columns = list(zip(*table, strict=True))
        counted = any(
            sum(re.fullmatch(_NUMBER, cell.text) is not None for cell in column[1:]) * 2 > len(table) for column in columns
        )
        if len(table) < 3 or not counted:
            continue
        cells = {cell for row in table for cell in row}
        at = next(i for i, line in enumerate(lines) if line in cells)
        first, last = table[0][0], table[-1][-1]
        place = (first.top, last.top, first.left, last.right)
        made = [
            _Line(b.text, first.size, *place, number, block=b)
            for b in table_rows([[c.text for c in row] for row in table], page=number)
        ]
        lines = [*lines[:at], *made, *(line for line in lines[at:] if line not in cells)]
    return lines


def _runs(rows: list[list[_Line]]) -> Iterator[list[list[_Line]]]:
    """Yield the rows that follow each other in the same columns."""
    run: list[list[_Line]] = []
    for row in rows:
        last = run[-1] if run else row
        same = len(last) == len(row) and all(abs(a.left - b.left) < 4 for a, b in zip(last, row, strict=True))
        if run and not (same and last[0].top - row[0].top < 3 * max(row[0].size, 6)):
            yield run
            run = []
        run.append(row)
    if run:
        yield run


# Characters of the longest cell of a table without rules.
LONGEST_CELL = 60
_NUMBER = r"[-+(]?[\d.,'\s]*\d[\d.,'\s]*[)%]?\s?\w{0,3}"


def _clean(text: str) -> str:
    text = text.strip()
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


def _is_scanned(page: pypdfium2.PdfPage) -> bool:
    """Say whether pictures cover half of a page, or it has a picture and no text."""
    covered = 0.0
    found = False
    for picture in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=3):
        left, bottom, right, top = picture.get_bounds()
        covered, found = covered + (right - left) * (top - bottom), True
    width, height = page.get_size()
    return found and (2 * covered > width * height or not page.get_textpage().count_chars())


def _without_running_lines(pages: list[list[_Line]], scanned: Container[int]) -> list[_Line]:
    """Return the lines without headers, footers and page numbers: lines at an edge that a page nearby has in the same place.

    Pages nearby are the next two, before and after: odd and even pages may differ.
    """
    body = _body_size([line for page in pages for line in page])
    from_the_top = [sorted(page, key=lambda line: -line.top) for page in pages]
    whole = [[line.text for line in page] for page in pages]
    running: set[_Line] = set()
    for edges in ([_edge(page) for page in from_the_top], [_edge(page[::-1]) for page in from_the_top]):
        for n, edge in enumerate(edges):
            # A page that is there twice has no header in all of its lines.
            nearby = [m for m in (n - 2, n - 1, n + 1, n + 2) if 0 <= m < len(edges)]
            nearby = [m for m in nearby if whole[m] != whole[n] or n + 1 in scanned]
            near = [line for m in nearby for line in edges[m]]
            # Large type at the top of each page is a heading ("Chapter 2"), not a header.
            small = [line for line in edge if line.size <= body * LARGER and line.block is None]
            running.update(line for line in small if any(_runs_on(line, other) for other in near))
    # Of a page that is nothing else, it is the text; on a scan it is a stamp.
    return [
        line
        for page in pages
        for line in page
        if line not in running or (running.issuperset(page) and line.page not in scanned)
    ]


def _edge(page: Sequence[_Line]) -> list[_Line]:
    """Return the lines of a page, in order from its edge, that may run on: those above a gap, or the first."""
    gaps = [abs(a.top - b.top) for a, b in pairwise(page)]
    usual = median_low(gaps or [0.0])
    # Of a page of a few lines no block is its header.
    most = min(MOST_RUNNING, len(page) // 3)
    return list(page[: next((n for n, gap in enumerate(gaps[:most], 1) if gap > 1.5 * usual), 1)])


def _runs_on(line: _Line, other: _Line) -> bool:
    """Say whether a line at the edge of a page is what another page nearby has there; a number has to count on."""
    if abs(line.top - other.top) > 3:
        return False
    one, two = (re.fullmatch(_PAGE_NUMBER, text.lower()) for text in (line.text, other.text))
    if one and two:
        return int(one[1]) - int(two[1]) == line.page - other.page
    if one or two or not re.search(r"[^\W\d_]{2}", line.text):
        return False
    return difflib.SequenceMatcher(None, _without_numbers(line), _without_numbers(other)).ratio() > 0.8


# Lines of the highest header or footer.
MOST_RUNNING = 4
_PAGE_NUMBER = r"\W*(?:page|seite|p\.|s\.|第)?\s*(\d{1,5})\s*页?(?:\s?(?:of|von|/)\s?\d+)?\W*"


def _body_size(lines: list[_Line]) -> float:
    """Return the type size of most characters."""
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[line.size] += len(line.text) if line.size else 0
    return max(sizes, key=lambda size: (sizes[size], -size), default=0.0)


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
    known = set(re.findall(r"\w+(?:-\w+)*", "\n".join(line.text for line in lines).lower()))
    open_lines: list[_Line] = []

    def flush() -> Iterator[Block]:
        if open_lines:
            text, first = _join((line.text for line in open_lines), known), open_lines[0]
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


def _join(lines: Iterator[str], known: Container[str]) -> str:
    """Join wrapped lines: a hyphenated word is closed, and no space goes between Chinese or Japanese characters.

    `known` are the words of the document, in lower case.
    """
    text = ""
    for line in lines:
        # "Nord- und Südtor" has its hyphen for itself.
        if re.fullmatch(r"[^\W\d_]-", text[-2:]) and re.match(r"(?!(?:und|oder|bis|and|or|to)\b)[^\W\d_]", line):
            text = f"{text[:-1]}\ufffe"
        elif text and not text.endswith("\ufffe") and not (re.match(_CJK, text[-1:]) and re.match(_CJK, line)):
            text += " "
        text += line
    # pdfium writes U+FFFE too, for a hyphen at the end of a line.
    return re.sub(r"(\w*)\ufffe(\w*)", lambda match: _closed(match[1], match[2], known), text)


def _closed(left: str, right: str, known: Container[str]) -> str:
    """Return a word that stood in two lines, with its hyphen if that is its own."""
    one, two = left.lower(), right.lower()
    own = f"{one}-{two}" in known or (
        f"{one}{two}" not in known
        and (
            not right[:1].islower()
            or len(left) == 1
            or (one in _COMPOUND and two not in ("ness", "less", "ish"))
            or (one[-1:] == two[:1] and one[-1:] in "aeiou")
        )
    )
    return f"{left}{'-' if own and right else ''}{right}"


# First parts of words that keep their hyphen.
_COMPOUND = {"well", "self", "quasi", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"}
