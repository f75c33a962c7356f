"""Office files: Word, PowerPoint, OpenDocument texts and presentations."""

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace

import bs4
import mammoth
import pptx
from lxml import etree
from pptx.enum.shapes import PP_PLACEHOLDER
from pptx.shapes.base import BaseShape
from pptx.slide import Slide

from ingest.readers.document import Block, Read, grid, locked, table_rows
from ingest.readers.html import clear, html_blocks, read_html
from ingest.readers.package import open_package, parse_xml, replace_element
from ingest.readers.workbook import cell_text
from rag_app.words import msg

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
            replace_element(run, [])
    for field in list(root.iter(f"{_WORD}fldSimple")):
        replace_element(field, list(field))
    for chunk in list(root.iter(f"{_WORD}altChunk")):
        replace_element(chunk, [_paragraph(block.text) for block in _embedded(package, main, chunk)])
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
            replace_element(choice, [] if first is None else list(first))
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
        columns = [[cell_text(value) for value in series.values] for series in plot.series]
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
