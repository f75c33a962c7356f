"""Office files: Word, PowerPoint, Excel, OpenDocument."""

import datetime
import io
import re
import zipfile
from collections.abc import Iterator
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
from ingest.readers.html import html_blocks
from ingest.readers.package import open_package, parse_xml

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"


def read_docx(content: bytes) -> Read:
    """Word: headings, lists, tables, text boxes and notes by their styles; formulas in one line, `(a)/(b)`."""
    with open_package(content) as package:
        if b"oMath" in package.read("word/document.xml"):
            content = _with_formulas_as_text(package)
    html = mammoth.convert_to_html(io.BytesIO(content), style_map="p[style-name='Title'] => h1:fresh").value
    return "", list(html_blocks(bs4.BeautifulSoup(html, "lxml")))


def _with_formulas_as_text(package: zipfile.ZipFile) -> bytes:
    """Return the package with each formula as a run of text, because mammoth leaves formulas out."""
    root = parse_xml(package.read("word/document.xml"))
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
            whole = etree.tostring(root) if member.filename == "word/document.xml" else package.read(member)
            copy.writestr(member.filename, whole)
    return changed.getvalue()


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
        title = slide.shapes.title
        named = " ".join(title.text_frame.text.split()) if title is not None else ""
        titles.append(named)
        found: list[Block] = []
        for shape in slide.shapes:
            if title is None or shape.shape_id != title.shape_id:
                found += _shape_blocks(shape, number)
        found += _diagram_blocks(slide, number)
        notes = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
        if notes is not None and notes.text.strip():
            found.append(Block("paragraph", f"Notes: {notes.text.strip()}", page=number))
        blocks += _slide(named, found, number)
    return next(filter(None, titles), ""), blocks


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
        yield from table_rows([header, *rows], page=page)


def _diagram_blocks(slide: Slide, page: int) -> Iterator[Block]:
    for relation in slide.part.rels.values():
        if relation.reltype.endswith("/diagramData"):
            for paragraph in parse_xml(relation.target_part.blob).iter(f"{_DRAWING}p"):
                if text := "".join(word.text or "" for word in paragraph.iter(f"{_DRAWING}t")).strip():
                    yield Block("item", f"- {text}", page=page)


def read_workbook(content: bytes) -> Read:
    """Excel and OpenDocument sheets: a heading per sheet, then its rows with their header."""
    if content.startswith(b"PK"):
        open_package(content).close()
    try:
        workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content))
    except python_calamine.PasswordError as error:
        raise locked() from error
    blocks: list[Block] = []
    for name in workbook.sheet_names:
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
    return "", blocks


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
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ", "minutes")
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
