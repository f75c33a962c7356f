"""PowerPoint files, new and old: a slide is a page."""

import io
from collections.abc import Iterator

import pptx
from pptx.enum.shapes import PP_PLACEHOLDER
from pptx.shapes.base import BaseShape
from pptx.slide import Slide
from pptx.text.text import _Paragraph

from ingest.readers.document import Block, Read, comments_note, grid, table_rows
from ingest.readers.html import counted
from ingest.readers.oxide import blocks_of, embedded_note, parse, text_of
from ingest.readers.package import n_elements, open_package, parse_xml, replace_element
from ingest.readers.workbook import cell_text
from rag_app.words import msg

_COMPATIBLE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"


def read_pptx(content: bytes) -> Read:
    """PowerPoint: a slide is a page with its title as heading; text, tables, charts, diagrams and the speaker's notes."""
    with open_package(content) as package:
        noted = comments_note(n_elements(package, r"ppt/comments/\w+\.xml", "cm"))
        if objects := sum(name.startswith("ppt/embeddings/oleObject") for name in package.namelist()):
            noted.append(Block("note", embedded_note(objects)))
    presentation = pptx.Presentation(io.BytesIO(content))
    blocks: list[Block] = []
    titles: list[str] = []
    for number, slide in enumerate(presentation.slides, 1):
        if slide._element.get("show") == "0":
            blocks.append(_hidden(number))
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
        blocks += slide_blocks(named, found, number)
    return next(filter(None, titles), ""), [*blocks, *noted]


def _from_the_top(shape: BaseShape) -> tuple[int, int]:
    """Return where a shape stands: slides are read from the top, whatever was drawn first."""
    # What stands where its layout says has no place of its own; half an inch apart is one row.
    return (shape.top or 0) // 457_200, shape.left or 0


def slide_blocks(title: str, blocks: list[Block], number: int) -> list[Block]:
    """Return a slide's blocks under its title; without a title it is not taken for more of the slide before."""
    return [Block("heading", title or f"Slide {number}", level=1, page=number), *blocks] if title or blocks else []


# Placeholders that repeat on every slide.
_RUNNING = {PP_PLACEHOLDER.SLIDE_NUMBER, PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.FOOTER}


def _shape_blocks(shape: BaseShape, page: int) -> Iterator[Block]:
    listed = shape.is_placeholder and shape.placeholder_format.type != PP_PLACEHOLDER.SUBTITLE
    if shape.is_placeholder and shape.placeholder_format.type in _RUNNING:
        return
    for part in sorted(getattr(shape, "shapes", ()), key=_from_the_top):
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
        counts: dict[int, int] = {}
        for paragraph in shape.text_frame.paragraphs:  # type: ignore[attr-defined]
            if text := paragraph.text.replace("\v", "\n").strip():
                mark = _mark(paragraph, counts) or ("-" if listed else "")
                yield Block("item", f"{mark} {text}", page=page) if mark else Block("paragraph", text, page=page)


def _mark(paragraph: _Paragraph, counts: dict[int, int]) -> str:
    """Return the number before a paragraph of a counted list, and count on: `3.`, `(c)`."""
    counting = paragraph._p.find(f"{_DRAWING}pPr/{_DRAWING}buAutoNum")
    for deeper in [level for level in counts if level > paragraph.level - (counting is None)]:
        del counts[deeper]
    if counting is None:
        return ""
    start = counting.get("startAt") or "1"
    first = int(start) if start.isdecimal() else 1
    counts[paragraph.level] = counts.get(paragraph.level, first - 1) + 1
    kind = str(counting.get("type"))
    letters = {"alphaLc": "a", "alphaUc": "A", "romanLc": "i", "romanUc": "I"}
    shown = counted(counts[paragraph.level], next((mark for name, mark in letters.items() if kind.startswith(name)), "1"))[:-1]
    return f"({shown})" if kind.endswith("Both") else f"{shown})" if kind.endswith("R") else f"{shown}."


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


def read_ppt(content: bytes) -> Read:
    """PowerPoint up to 2003."""
    found, notes = parse(content, "ppt")
    blocks: list[Block] = []
    titles: list[str] = []
    for number, slide in enumerate(found["sections"], 1):
        if slide.get("hidden"):
            notes.append(_hidden(number))
            continue
        heading = next((element for element in slide["elements"] if element["type"] == "heading"), None)
        titles.append(" ".join(text_of(heading["content"]).split()) if heading else "")
        inside = list(blocks_of([element for element in slide["elements"] if element is not heading], number))
        if said := "\n".join(block.text.removeprefix("- ") for block in blocks_of(slide.get("speaker_notes") or [])):
            inside.append(Block("paragraph", f"Notes: {said}", page=number))
        blocks += slide_blocks(titles[-1], inside, number)
    return next(filter(None, titles), ""), [*blocks, *notes]


def _hidden(number: int) -> Block:
    return Block("note", msg("slide {n} is hidden and was not read", n=number))
