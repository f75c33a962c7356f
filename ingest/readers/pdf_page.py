"""A page of a PDF: its lines in the order in which people read them, tables as rows."""

import bisect
import ctypes
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from statistics import median_low

import pypdfium2
import pypdfium2.raw as pdfium

from ingest.readers.document import Block, names_columns, table_rows
from ingest.readers.pdf_tables import Table, ruled_tables


@dataclass(frozen=True)
class Line:
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


def page_lines(page: pypdfium2.PdfPage, number: int, above: Table | None, *, ruled: bool) -> tuple[list[Line], Table | None]:
    """Return a page's lines in order, a table's rows among them, and the last table of this page.

    `above` is that of the page before: a table in the same columns at the top goes on with it.
    """
    words, rotation = page.get_textpage(), page.get_rotation()
    tables = ruled_tables(page, words) if ruled else []
    lines: list[Line] = []
    done: list[Table] = []
    at = 0
    whole = units(words.get_text_range())
    for raw in _split_at(_gutter(words, whole.count("\n") + 1), words, whole):
        first, end = at + len(raw) - len(raw.lstrip()), at + len(raw.rstrip()) - 1
        at += len(raw)
        text = _clean(_logical(raw, words, at - len(raw)))
        if not text:
            continue
        left, bottom, right, top = words.get_charbox(first, loose=True)
        turned = _turned(page, rotation, (left, bottom, right, top))
        table = next((table for table in tables if table.holds((left + right) / 2, (bottom + top) / 2)), None)
        if table is None:
            size, bold = _type(words, raw, first, end)
            _, _, last_right, last_top = _turned(page, rotation, words.get_charbox(end, loose=True))
            lines.append(Line(text, size, turned[3], last_top, turned[0], last_right, number, bold))
        elif table not in done:
            rows = table.rows
            # Of two tables in the same columns each may have a header of its own.
            goes_on = above and not done and len(lines) <= 2 and above.same_columns(table) and not names_columns(rows)
            if above and goes_on and above.rows[0] != rows[0]:
                rows = [above.rows[0], *rows]
            done.append(table)
            place = (table.top, table.bottom, table.left, table.right)
            size, _ = _type(words, raw, first, end)
            lines += [Line(block.text, size, *place, number, block=block) for block in table_rows(rows, page=number)]
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


def _in_columns(lines: list[Line]) -> list[Line]:
    """Return lines with those of prose in two columns in order: the left column, then the right one."""
    ordered: list[Line] = []
    pairs: list[tuple[Line, Line]] = []
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


def _with_open_tables(lines: list[Line], number: int) -> list[Line]:
    """Return lines with tables that have no rules and are drawn column by column as rows: a column is numbers."""
    heights: dict[int, list[Line]] = {}
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
            Line(b.text, first.size, *place, number, block=b)
            for b in table_rows([[c.text for c in row] for row in table], page=number)
        ]
        lines = [*lines[:at], *made, *(line for line in lines[at:] if line not in cells)]
    return lines


def _runs(rows: list[list[Line]]) -> Iterator[list[list[Line]]]:
    """Yield the rows that follow each other in the same columns."""
    run: list[list[Line]] = []
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


def _logical(raw: str, words: pypdfium2.PdfTextPage, start: int) -> str:
    """Return a line with the letters of Arabic and Hebrew words in the order in which they are read, from right to left.

    Programs draw such words in either order.
    """
    if not re.search(_RIGHT_TO_LEFT, raw):
        return raw

    def in_order(match: re.Match[str]) -> str:
        places = [words.get_charbox(start + match.start() + i, loose=True)[0] for i in range(len(match[0]))]
        # Letters of one sign have one place; of those pdfium gives the last first.
        signs = [
            (place, "".join(letter for _, letter in group)[::-1])
            for place, group in groupby(zip(places, match[0], strict=True), key=lambda pair: round(pair[0], 1))
        ]
        groups: list[tuple[float, str]] = []
        for place, sign in signs if signs[0][0] >= signs[-1][0] else signs[::-1]:
            # A sign above or below a letter goes with it.
            if groups and unicodedata.combining(sign[0]):
                groups[-1] = (groups[-1][0], groups[-1][1] + sign)
            else:
                groups.append((place, sign))
        return "".join(sign for _, sign in sorted(groups, key=lambda group: -group[0]))

    return re.sub(rf"{_RIGHT_TO_LEFT}{{2,}}", in_order, raw)


_RIGHT_TO_LEFT = r"[\u0591-\u05f4\u0610-\u065f\u066e-\u06d3\u06d5-\u06ef\u06fa-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]"


def units(text: str) -> str:
    """Return text with a character for each of pdfium's, which counts those beyond U+FFFF twice."""
    if text.isascii() or max(text) <= "\uffff":
        return text
    return "".join(map(chr, memoryview(text.encode("utf-16-le")).cast("H")))


def _clean(text: str) -> str:
    text = text.strip()
    if re.search(r"[\ud800-\udfff]", text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
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
