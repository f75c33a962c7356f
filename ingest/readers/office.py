"""Office files: Word, PowerPoint, Excel, OpenDocument."""

import datetime
import functools
import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

import bs4
import mammoth
import pptx
import python_calamine
from lxml import etree
from pptx.enum.shapes import PP_PLACEHOLDER
from pptx.shapes.base import BaseShape
from pptx.slide import Slide

from ingest.readers.document import Block, Read, grid, locked, table_rows
from ingest.readers.html import clear, html_blocks, read_html
from ingest.readers.package import open_package, parse_xml
from rag_app.words import msg, nmsg

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_COMPATIBLE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"


def read_docx(content: bytes) -> Read:
    """Word: headings, lists, tables, text boxes and notes by their styles; formulas in one line, `(a)/(b)`."""
    with open_package(content) as package:
        main = next((name for name in package.namelist() if re.fullmatch(r"word/document\d*\.xml", name)), "word/document.xml")
        content = _without_gaps(package, main)
        beside = _heads_and_feet(package)
    html = mammoth.convert_to_html(io.BytesIO(content), style_map="p[style-name='Title'] => h1:fresh").value
    soup = bs4.BeautifulSoup(html, "lxml")
    clear(soup)
    return "", [*beside, *html_blocks(soup)]


def _heads_and_feet(package: zipfile.ZipFile) -> list[Block]:
    """Return what stands at the head and foot of the pages, once."""
    names = [name for name in package.namelist() if re.fullmatch(r"word/(header|footer)\d*\.xml", name)]
    lines = [
        "".join(t.text or "" for t in p.iter(f"{_WORD}t")).strip()
        for n in names
        for p in parse_xml(package.read(n)).iter(f"{_WORD}p")
    ]
    return [Block("paragraph", line) for line in dict.fromkeys(lines) if re.search(r"[^\W\d_]{3}", line)]


def _without_gaps(package: zipfile.ZipFile, main: str) -> bytes:
    """Return the package with what mammoth leaves out as runs of text, and without the hidden text that it shows.

    Left out are formulas, the results of simple fields, and pages that stand in the document as files.
    """
    root = parse_xml(package.read(main))
    for run in list(root.iter(f"{_WORD}r")):
        shown = run.find(f"{_WORD}rPr/{_WORD}vanish")
        if shown is not None and shown.get(f"{_WORD}val") not in ("0", "false"):
            _replace(run, [])
    for field in list(root.iter(f"{_WORD}fldSimple")):
        _replace(field, list(field))
    for chunk in list(root.iter(f"{_WORD}altChunk")):
        _replace(chunk, [_paragraph(block.text) for block in _embedded(package, main, chunk)])
    for formula in list(root.iter(f"{_MATH}oMath")):
        run = etree.Element(f"{_WORD}r")
        run.tail = formula.tail
        text = etree.SubElement(run, f"{_WORD}t")
        text.text = _formula(formula)
        parent = formula.getparent()
        if parent is not None:
            parent.replace(formula, run)
    for paragraph in list(root.iter(f"{_MATH}oMathPara")):
        parent = paragraph.getparent()
        if parent is not None:
            at = parent.index(paragraph)
            parent[at : at + 1] = list(paragraph.iter(f"{_WORD}r"))
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as copy:
        for member in package.infolist():
            whole = etree.tostring(root) if member.filename == main else package.read(member)
            copy.writestr(member.filename, whole)
    return changed.getvalue()


def _replace(element: etree._Element, others: list[etree._Element]) -> None:
    parent = element.getparent()
    if parent is not None:
        at = parent.index(element)
        parent[at : at + 1] = others


def _paragraph(text: str) -> etree._Element:
    paragraph = etree.Element(f"{_WORD}p")
    etree.SubElement(etree.SubElement(paragraph, f"{_WORD}r"), f"{_WORD}t").text = text
    return paragraph


def _embedded(package: zipfile.ZipFile, main: str, chunk: etree._Element) -> list[Block]:
    """Return what a web page says that stands in a Word file as a file of its own."""
    folder, _, name = main.rpartition("/")
    relations = parse_xml(package.read(f"{folder}/_rels/{name}.rels"))
    wanted = next((value for key, value in chunk.items() if key.endswith("}id")), "")
    target = next((str(r.get("Target")) for r in relations if r.get("Id") == wanted), "")
    if not re.search(r"\.x?html?$", target):
        return [Block("paragraph", "")]
    return read_html(package.read(target.removeprefix("/") if target.startswith("/") else f"{folder}/{target}"))[1]


def _formula(element: etree._Element) -> str:
    def part(name: str) -> str:
        found = element.find(f"{_MATH}{name}")
        text = "" if found is None else _formula(found)
        return f"({text})" if len(text) > 1 and not text.isalnum() and not text.startswith("(") else text

    kind = etree.QName(element).localname
    if kind == "t":
        return element.text or ""
    if kind == "f":
        return f"{part('num')}/{part('den')}"
    if kind in ("sSup", "sSub", "sSubSup"):
        return part("e") + "".join(f"{sign}{part(n)}" for n, sign in (("sub", "_"), ("sup", "^")) if part(n))
    if kind == "rad":
        return f"√{part('e')}"
    if kind == "func":
        return f"{part('fName')} {part('e')}"
    if kind == "d":
        return f"({','.join(_formula(inside) for inside in element.findall(f'{_MATH}e'))})"
    if kind == "limLow":
        return f"{part('e')}_{part('lim')}"
    if kind == "nary":
        sign = element.find(f"{_MATH}naryPr/{_MATH}chr")
        mark = "∫" if sign is None else sign.get(f"{_MATH}val", "")
        whole = element.find(f"{_MATH}e")
        limits = "".join(f"{s}{part(n)}" for n, s in (("sub", "_"), ("sup", "^")) if part(n))
        return f"{mark}{limits} {'' if whole is None else _formula(whole)}"
    return "".join(_formula(child) for child in element if isinstance(child.tag, str))


def read_pptx(content: bytes) -> Read:
    """PowerPoint: a slide is a page with its title as heading; text, tables, charts, diagrams and the speaker's notes."""
    open_package(content).close()
    presentation = pptx.Presentation(io.BytesIO(content))
    blocks: list[Block] = []
    titles: list[str] = []
    for number, slide in enumerate(presentation.slides, 1):
        if slide._element.get("show") == "0":
            blocks.append(Block("note", msg("slide {n} is hidden and was not read", n=number)))
            continue
        for choice in list(slide._element.iter(f"{_COMPATIBLE}AlternateContent")):
            # The same in two ways, for programs that know the newer one.
            first = next(iter(choice), None)
            _replace(choice, [] if first is None else list(first))
        title = slide.shapes.title
        named = " ".join(title.text_frame.text.split()) if title is not None else ""
        titles.append(named)
        found: list[Block] = []
        for shape in sorted(slide.shapes, key=_from_the_top):
            if title is None or shape.shape_id != title.shape_id:
                found += _shape_blocks(shape, number)
        found += _diagram_blocks(slide, number)
        notes = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
        if notes is not None and notes.text.strip():
            found.append(Block("paragraph", f"Notes: {notes.text.strip()}", page=number))
        blocks += _slide(named, found, number)
    return next(filter(None, titles), ""), blocks


def _from_the_top(shape: BaseShape) -> tuple[int, int]:
    """Return where a shape stands: slides are read from the top, whatever was drawn first."""
    # What stands where its layout says has no place of its own; half an inch apart is one row.
    return (shape.top or 0) // 457_200, shape.left or 0


def _slide(title: str, blocks: list[Block], number: int) -> list[Block]:
    """Return a slide's blocks under its title; without a title it is not taken for more of the slide before."""
    return [Block("heading", title or f"Slide {number}", level=1, page=number), *blocks] if title or blocks else []


# Placeholders that repeat on every slide.
_RUNNING = {PP_PLACEHOLDER.SLIDE_NUMBER, PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.FOOTER}


def _shape_blocks(shape: BaseShape, page: int) -> Iterator[Block]:
    listed = shape.is_placeholder and shape.placeholder_format.type != PP_PLACEHOLDER.SUBTITLE
    if shape.is_placeholder and shape.placeholder_format.type in _RUNNING:
        return
    for part in getattr(shape, "shapes", ()):
        yield from _shape_blocks(part, page)
    if getattr(shape, "has_table", False):
        rows = [
            [(" ".join(c.text.split()), c.span_height, c.span_width) for c in row.cells if not c.is_spanned]
            for row in shape.table.rows  # type: ignore[attr-defined]
        ]
        yield from table_rows(*grid(rows), page=page)
    elif getattr(shape, "has_chart", False):
        yield from _chart_rows(shape.chart, page)  # type: ignore[attr-defined]
    elif shape.has_text_frame:
        for paragraph in shape.text_frame.paragraphs:  # type: ignore[attr-defined]
            if text := paragraph.text.replace("\v", "\n").strip():
                yield Block("item", f"- {text}", page=page) if listed else Block("paragraph", text, page=page)


def _chart_rows(chart: object, page: int) -> Iterator[Block]:
    plots = list(chart.plots)  # type: ignore[attr-defined]
    if chart.has_title and chart.chart_title.has_text_frame:  # type: ignore[attr-defined]
        yield Block("paragraph", chart.chart_title.text_frame.text, page=page)  # type: ignore[attr-defined]
    for plot in plots:
        header = ["", *(series.name for series in plot.series)]
        columns = [[_cell(value) for value in series.values] for series in plot.series]
        rows = [[str(category), *(c[i] for c in columns if i < len(c))] for i, category in enumerate(plot.categories)]
        if not rows:
            # Points have an x in place of a category.
            points = [s._element.findall(f"{_CHART}xVal//{_CHART}v") for s in plot.series]
            rows = [
                [x.text or "", *([""] * n), columns[n][i]]
                for n, xs in enumerate(points)
                for i, x in enumerate(xs)
                if i < len(columns[n])
            ]
        yield from table_rows([header, *rows], page=page)


def _diagram_blocks(slide: Slide, page: int) -> Iterator[Block]:
    for relation in slide.part.rels.values():
        if relation.reltype.endswith("/diagramData"):
            for paragraph in parse_xml(relation.target_part.blob).iter(f"{_DRAWING}p"):
                if text := "".join(word.text or "" for word in paragraph.iter(f"{_DRAWING}t")).strip():
                    yield Block("item", f"- {text}", page=page)


def read_workbook(content: bytes) -> Read:
    """Excel and OpenDocument sheets: a heading per sheet, then its rows with their header."""
    notes: list[Block] = []
    if content.startswith(b"PK"):
        with open_package(content) as package:
            content, notes = _as_shown(package, content)
    try:
        workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content))
    except python_calamine.PasswordError as error:
        raise locked() from error
    blocks: list[Block] = []
    for name, visible in [(sheet.name, sheet.visible) for sheet in workbook.sheets_metadata]:
        if visible != python_calamine.SheetVisibleEnum.Visible:
            notes.append(Block("note", msg("sheet {name} is hidden and was not read", name=name)))
            continue
        sheet = workbook.get_sheet_by_name(name)
        rows = [[_cell(value) for value in row] for row in sheet.to_python(skip_empty_area=False)]
        width = max((sum(map(bool, row)) for row in rows), default=0)
        for (top, left), (bottom, right) in sheet.merged_cell_ranges or []:
            for y in range(top, min(bottom + 1, len(rows))):
                # A line merged over the whole table is its title and names no column.
                for x in range(left, min(right + 1, len(rows[y])) if right - left + 1 < width else left + 1):
                    rows[y][x] = rows[top][left]
        found = [block for part in _parts(rows) for block in table_rows(part, _headers(part))]
        blocks += [Block("heading", name, level=2), *found] if found else []
    return "", [*blocks, *notes]


def _as_shown(package: zipfile.ZipFile, content: bytes) -> tuple[bytes, list[Block]]:
    """Return a workbook without what Excel hides, and without cells far from all others, whose gap its reader would fill; and
    what is to be noted.
    """
    far: list[str] = []
    hidden: list[str] = []
    styled = _formats(package)
    changed: dict[str, bytes] = {}
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
            _replace(cell, [])
        changed[name] = etree.tostring(root)
    if not changed:
        return content, []
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as copy:
        for member in package.infolist():
            copy.writestr(member.filename, changed.get(member.filename) or package.read(member))
    notes = []
    if hidden:
        told = nmsg(
            "{n} cell in hidden columns was not read",
            "{n} cells in hidden columns were not read",
            len(hidden),
        )
        notes.append(Block("note", told))
    if far:
        listed = ", ".join(sorted(far)[:5]) + (", …" if len(far) > 5 else "")
        notes.append(Block("note", msg("cells far from the others were not read: {cells}", cells=listed)))
    return out.getvalue(), notes


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
    # Of several sections the first is for positive numbers.
    named = {
        str(i): codes.get(str(one.get("numFmtId")), "").partition(";")[0]
        for i, one in enumerate(cells if cells is not None else ())
    }
    return {style: code for style, code in named.items() if re.search(r"%|^0{2,}$|\[h+\]", code)}


def _show(cell: etree._Element, formats: Mapping[str, str]) -> None:
    """Make a cell's value the text that Excel shows, where it is not the number itself."""
    value, formula, kind = cell.find("{*}v"), cell.find("{*}f"), cell.get("t", "n")
    text = value.text or "" if value is not None else ""
    shown = ""
    if formula is not None and formula.text and not text:
        shown = f"={formula.text}"
    elif kind == "e" or (kind == "n" and re.fullmatch(r"\d{16,}", text)):
        shown = text
    elif kind == "n" and text and (code := formats.get(cell.get("s", ""))):
        number = float(text)
        if "%" in code:
            decimals = re.search(r"\.(0+)", code)
            shown = f"{100 * number:.{len(decimals[1]) if decimals else 0}f}%"
        elif "[" in code:
            minutes, seconds = divmod(round(86_400 * number), 60)
            shown = f"{minutes // 60}:{minutes % 60:02}" + (f":{seconds:02}" if "s" in code else "")
        elif number == int(number):
            shown = f"{int(number):0{len(code)}}"
    if shown:
        cell.set("t", "str")
        for child in list(cell):
            cell.remove(child)
        etree.SubElement(cell, cell.tag[:-1] + "v").text = shown


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
    for row in [*rows, []]:
        filled = {x for x, cell in enumerate(row) if cell}
        if part and (not row or (gap and filled and _begins(part, row, filled))):
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


def _cell(value: object) -> str:
    """Return a cell as a sheet shows it: 3.0 is 3, midnight is no time."""
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, datetime.datetime):
        shown = value.isoformat(" ", "seconds" if value.second else "minutes")
        return value.date().isoformat() if value.time() == datetime.time() else shown
    return "" if value is None else " ".join(str(value).split())


# OpenDocument elements by the HTML elements that say the same.
_ODF_TAGS = {
    "p": "p", "list": "ul", "list-item": "li", "list-header": "li", "table": "table", "table-row": "tr", "table-cell": "td",
    "line-break": "br", "span": "span", "a": "a", "page": "section", "table-header-rows": "thead",
}  # fmt: skip
# What a reader of the page does not see.
_ODF_HIDDEN = {"tracked-changes", "annotation", "sequence-decls", "forms", "note-citation", "covered-table-cell"}


def read_odf(content: bytes) -> Read:
    """OpenDocument text and presentations: by way of HTML; a slide is a page with its title as heading."""
    with open_package(content) as package:
        if b"encryption-data" in package.read("META-INF/manifest.xml"):
            raise locked()
        root = parse_xml(package.read("content.xml"))
    slides = [element for element in root.iter() if _local(element) == "page"]
    blocks: list[Block] = []
    titles: list[str] = []
    for number, slide in enumerate(slides, 1):
        found = [replace(b, page=number) for b in html_blocks(bs4.BeautifulSoup(_odf_html(slide), "lxml"))]
        titles.append(next((block.text for block in found if block.kind == "heading"), ""))
        blocks += _slide(titles[-1], [block for block in found if block.text != titles[-1]], number)
    return next(filter(None, titles), ""), blocks if slides else list(html_blocks(bs4.BeautifulSoup(_odf_html(root), "lxml")))


def _odf_html(element: etree._Element) -> str:
    """Return an element as HTML, with headings, lists, tables and breaks."""
    name = _local(element)
    if name in _ODF_HIDDEN:
        return ""
    if name == "s":
        return " "
    if name == "tab":
        return "\t"
    inside = _escaped(element.text) + "".join(_odf_html(child) + _escaped(child.tail) for child in element)
    role = next((value for key, value in element.items() if key.endswith("}class")), "")
    if role == "title" and inside.strip():
        return f"<h1>{inside}</h1>"
    if name == "h":
        level = next((value for key, value in element.items() if key.endswith("}outline-level")), "1")
        return f"<h{min(int(level), 6)}>{inside}</h{min(int(level), 6)}>"
    if name == "notes":
        said = [_escaped("".join(map(str, line.itertext())).strip()) for line in element.iter("{*}p")]
        return f"<p>Notes: {'<br>'.join(filter(None, said))}</p>" if any(said) else ""
    if name == "note-body":
        return f" ({_escaped(' '.join(''.join(map(str, element.itertext())).split()))})"
    tag = _ODF_TAGS.get(name, "div" if name in ("frame", "text-box", "custom-shape") else "")
    spans = {key.rpartition("}")[2]: value for key, value in element.items() if "number-" in key}
    down, across = spans.get("number-rows-spanned", "1"), spans.get("number-columns-spanned", "1")
    if tag == "td":
        times = min(int(spans.get("number-columns-repeated", "1")), 100)
        return f'<td rowspan="{down}" colspan="{across}">{inside}</td>' * times
    return f"<{tag}>{inside}</{tag}>" if tag else inside


def _escaped(text: str | None) -> str:
    return (text or "").replace("&", "&amp;").replace("<", "&lt;")


def _local(element: etree._Element) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""
