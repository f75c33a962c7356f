"""Spreadsheets of Excel and OpenDocument: what is shown of them, sheet by sheet and table by table."""

import datetime
import functools
import io
import operator
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise

import python_calamine
from lxml import etree

from ingest.readers.document import Block, Read, comments_note, locked, table_rows
from ingest.readers.package import changed, n_elements, open_package, parse_xml, replace_element
from rag_app.words import msg, nmsg


def read_workbook(content: bytes) -> Read:
    """Excel and OpenDocument sheets: a heading per sheet, then its rows with their header."""
    notes: list[Block] = []
    if content.startswith(b"PK"):
        with open_package(content) as package:
            content, notes = _as_shown(package, content)
            notes += comments_note(n_elements(package, r"xl/comments(/comment)?\d*\.xml", "comment"))
    try:
        workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content))
    except python_calamine.PasswordError as error:
        raise locked() from error
    blocks: list[Block] = []
    for name, visible in [(sheet.name, sheet.visible) for sheet in workbook.sheets_metadata]:
        if visible != python_calamine.SheetVisibleEnum.Visible:
            notes.append(hidden_sheet(name))
            continue
        sheet = workbook.get_sheet_by_name(name)
        # A million empty rows before a stray one are told as quickly as Python can count.
        values = sheet.to_python(skip_empty_area=False)
        rows = [[cell_text(value) for value in row] if row.count("") < len(row) else [] for row in values]
        merged = [(top, left, bottom + 1, right + 1) for (top, left), (bottom, right) in sheet.merged_cell_ranges or []]
        fill_merged(rows, merged)
        blocks += sheet_blocks(name, rows)
    return "", [*blocks, *notes]


def fill_merged(rows: list[list[str]], merged: Iterable[tuple[int, int, int, int]]) -> None:
    """Put the text of merged cells (top, left, and the bottom and right behind them) in each of their places."""
    width = max((sum(map(bool, row)) for row in rows), default=0)
    for top, left, bottom, right in merged:
        # A line merged over the whole table is its title and names no column.
        end = right if right - left < width else left + 1
        text = "".join(rows[top][left : left + 1]) if top < len(rows) else ""
        for row in rows[top:bottom]:
            row[left:end] = [text] * len(row[left:end])


def sheet_blocks(name: str, rows: list[list[str]]) -> list[Block]:
    """Return a sheet's tables under its name, nothing of an empty one."""
    found = [block for part in _parts(rows) for block in table_rows(part, _headers(part))]
    return [Block("heading", name, level=2), *found] if found else []


def hidden_sheet(name: str) -> Block:
    return Block("note", msg("sheet {name} is hidden and was not read", name=name))


def hidden_cells(n: int) -> Block:
    return Block("note", nmsg("{n} cell in hidden columns was not read", "{n} cells in hidden columns were not read", n))


def _as_shown(package: zipfile.ZipFile, content: bytes) -> tuple[bytes, list[Block]]:
    """Return a workbook without what Excel hides, and without cells far from all others, whose gap its reader would fill; and
    what is to be noted.
    """
    far: list[str] = []
    hidden: list[str] = []
    styled = _formats(package)
    sheets: dict[str, bytes] = {}
    for name in package.namelist():
        if not re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name):
            continue
        sheet = package.read(name)
        places = {(int(row), _column(letters)) for letters, row in re.findall(rb'<c [^>]*?r="([A-Z]{1,3})(\d{1,7})"', sheet)}
        rows, columns = (_end({place[n] for place in places}, gap) for n, gap in ((0, FAR_ROWS), (1, FAR_COLUMNS)))
        small = max((row for row, _ in places), default=0) * max((column for _, column in places), default=0) < MANY_CELLS
        if small and not (styled and b' s="' in sheet) and not re.search(_SHOWN_OTHERWISE, sheet):
            continue
        root = parse_xml(sheet)
        unseen = {
            n
            for column in root.iter("{*}col")
            if column.get("hidden") in ("1", "true")
            for n in range(int(column.get("min", 0)), int(column.get("max", 0)) + 1)
        }
        for cell in list(root.iter("{*}c")):
            found = re.fullmatch(r"([A-Z]{1,3})(\d{1,7})", str(cell.get("r")))
            if not found:
                continue
            # A hidden row is most often one that a filter leaves out for the moment.
            if _column(found[1].encode()) in unseen:
                hidden.append(found[0])
            elif not small and (int(found[2]) > rows or _column(found[1].encode()) > columns):
                far.append(found[0])
            else:
                _show(cell, styled)
                continue
            replace_element(cell, [])
        sheets[name] = etree.tostring(root)
    if not sheets:
        return content, []
    notes = []
    if hidden:
        notes.append(hidden_cells(len(hidden)))
    if far:
        listed = ", ".join(sorted(far)[:5]) + (", …" if len(far) > 5 else "")
        notes.append(Block("note", msg("cells far from the others were not read: {cells}", cells=listed)))
    return changed(package, sheets), notes


# A hidden column, an error, a formula whose value is not kept, a number of more digits than a float has.
_SHOWN_OTHERWISE = rb'<col [^>]*hidden="(1|true)"|t="e"|</f>(<v ?/>|<v></v>)?</c>|<v>\d{16,}</v>'


def _formats(package: zipfile.ZipFile) -> dict[str, str]:
    """Return the formats, by a cell's style, under which a number is shown as something that it is not: 7.5%, 0042, 36:15."""
    if "xl/styles.xml" not in package.namelist():
        return {}
    styles = parse_xml(package.read("xl/styles.xml"))
    codes = {"9": "0%", "10": "0.00%", "46": "[h]:mm:ss"}
    codes |= {str(one.get("numFmtId")): str(one.get("formatCode")) for one in styles.iter("{*}numFmt")}
    cells = styles.find("{*}cellXfs")
    named = {str(i): codes.get(str(one.get("numFmtId")), "") for i, one in enumerate(cells if cells is not None else ())}
    return {style: code for style, code in named.items() if any(shown(n, code) for n in (0.0, 1.0, -1.0, 0.5, 1000.0))}


def _show(cell: etree._Element, formats: Mapping[str, str]) -> None:
    """Make a cell's value the text that Excel shows, where it is not the number itself."""
    value, formula, kind = cell.find("{*}v"), cell.find("{*}f"), cell.get("t", "n")
    text = value.text or "" if value is not None else ""
    said = ""
    if formula is not None and formula.text and not text:
        said = f"={formula.text}"
    elif kind == "e" or (kind == "n" and re.fullmatch(r"\d{16,}", text)):
        said = text
    elif kind == "n" and text and (code := formats.get(cell.get("s", ""))):
        # What is no number is no number in any format.
        said = shown(float(text), code) if re.fullmatch(r"-?[\d.]+(E[-+]?\d+)?", text, re.I) else text
    if said:
        cell.set("t", "str")
        for child in list(cell):
            cell.remove(child)
        etree.SubElement(cell, cell.tag[:-1] + "v").text = said


def shown(number: float, code: str) -> str:
    """Return a number as Excel shows it under a format that makes something else of it, "" if it does not.

    Thousands are not parted, so that a number is found as it is asked for. A date is no number.
    """
    number, parts = _section(number, [re.findall(_SIGN, section, re.DOTALL) for section in re.findall(_SECTION, code) or [""]])
    # What fills up a cell, colours and conditions show nothing; a currency stands in brackets with its country: [$€-407].
    parts = [part for part in parts if not re.match(r"[_*].|\[(?!\$|h+\])", part, re.DOTALL)]
    said = [re.sub(r'^\[\$([^\]-]*).*|^\\|^"|"$', r"\1", part, flags=re.DOTALL) for part in parts]
    core = ["" if part[0] in '"\\[ ()-+/:$€£¥' and not re.match(r"\[h", part) else part for part in parts]
    digits = "".join(core)
    if re.search(r"\[h+\]", digits):
        minutes, seconds = divmod(round(86_400 * number), 60)
        return f"{minutes // 60}:{minutes % 60:02}" + (f":{seconds:02}" if "s" in digits else "")
    first, last = (next((i for i in order if core[i]), 0) for order in (range(len(core)), range(len(core) - 1, -1, -1)))
    before, after = "".join(said[:first]), "".join(said[last + 1 :])
    words = re.search(r"[^\W\d_]|[$€£¥%]", before + after)
    found = re.fullmatch(r"(General|[#0?,]*[#0?](?:\.([0#?]+))?)(,*)(%*)", digits)
    if not digits:
        text = "".join(said).strip()
        return text if re.search(r"\w", text) else ""
    if not found:
        return ""
    number *= 100 ** len(found[4]) / 1000 ** len(found[3])
    decimals = len(found[2] or "")
    sign, size = "-" if number < 0 else "", abs(number)
    if found[4] or words:
        text = cell_text(size) if found[1] == "General" else f"{size:.{decimals}f}"
        return f"{sign}{before}{text}{found[4]}{after}".strip()
    return f"{sign}{int(size):0{len(digits)}}" if re.fullmatch("0{2,}", digits) and number == int(number) else ""


# Quoted text, an escaped sign, what is in brackets, what fills up; else a sign.
_SIGN = r'"[^"]*"|\\.|\[[^\]]*\]|[_*].|General|.'
_SECTION = r'(?:"[^"]*"|\\.|\[[^\]]*\]|[^;])+'


def _section(number: float, sections: list[list[str]]) -> tuple[float, list[str]]:
    """Return which of a format's sections is for a number, and the number that it shows: one for negative ones has the sign."""
    matches = [[re.fullmatch(r"\[(<=|>=|<>|<|>|=)(-?[\d.]+)\]", part) for part in parts] for parts in sections]
    bounds = [next(filter(None, found), None) for found in matches]
    if any(bounds):
        for bound, parts in zip(bounds, sections, strict=True):
            if bound is None or _COMPARE[bound[1]](number, float(bound[2])):
                return number, parts
    if number < 0 and len(sections) > 1:
        return -number, sections[1]
    return number, sections[2 if number == 0 and len(sections) > 2 else 0]


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge, "=": operator.eq, "<>": operator.ne,
}  # fmt: skip


# Places of a sheet up to which nothing is far away, and the empty rows and columns before a cell that is.
MANY_CELLS = 5_000_000
FAR_ROWS, FAR_COLUMNS = 10_000, 200


def _end(places: set[int], gap: int) -> int:
    """Return the last of rows or columns before a gap."""
    last = min(places, default=0)
    for place in sorted(places):
        if place - last > gap:
            break
        last = place
    return last


def _column(letters: bytes) -> int:
    return functools.reduce(lambda n, letter: 26 * n + letter - 64, letters, 0)


def _parts(rows: list[list[str]]) -> Iterator[list[list[str]]]:
    """Yield a sheet's tables: below an empty row one begins if it has columns or a header of its own."""
    part: list[list[str]] = []
    gap = False
    for number, row in enumerate([*rows, []]):
        filled = {x for x, cell in enumerate(row) if cell}
        if part and (number == len(rows) or (gap and filled and _begins(part, row, filled))):
            yield from _beside(part)
            part = []
        gap = not filled
        if filled:
            part.append(row)


def _headers(part: list[list[str]]) -> int | None:
    """Return how many rows are the header: two if a name stands over several columns and another in both rows."""
    over = any(a and a == b for a, b in pairwise(part[0]))
    both = len(part) > 2 and any(a and a == b for a, b in zip(part[0], part[1], strict=False))
    return 2 if over and both else None


def _begins(part: list[list[str]], row: list[str], filled: set[int]) -> bool:
    columns = {x for above in part for x, cell in enumerate(above) if cell}
    numbers = any(re.match(r"-?\d", cell) for above in part[1:] for cell in above)
    return bool(filled - columns) or len(columns) == 1 or (numbers and not any(re.match(r"-?\d", cell) for cell in row))


def _beside(part: list[list[str]]) -> Iterator[list[list[str]]]:
    """Yield tables that stand side by side and begin in different rows; a table with an empty column is one."""
    width = max(map(len, part))
    starts = [next((y for y, row in enumerate(part) if x < len(row) and row[x]), None) for x in range(width)]
    cuts = [x for x in range(1, width) if starts[x] is not None and starts[x - 1] is None]
    cuts = [x for x in cuts if starts[x] and all(start is None or start > 0 for start in starts[x:])]
    for left, right in pairwise([0, *cuts[:1], width]):
        yield [row[left:right] for row in part]


def cell_text(value: object) -> str:
    """Return a cell as a sheet shows it: 3.0 is 3, midnight is no time."""
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, datetime.datetime):
        shown = value.isoformat(" ", "seconds" if value.second else "minutes")
        return value.date().isoformat() if value.time() == datetime.time() else shown
    if isinstance(value, datetime.time):
        return value.isoformat("seconds" if value.second else "minutes")
    return "" if value is None else " ".join(str(value).split())
