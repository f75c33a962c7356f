"""Build the PDF and DOCX documents of the sample corpus from their Markdown sources.

Every `source/**/<name>.pdf.md` becomes `corpus/**/<name>.pdf`, every `<name>.docx.md` becomes
`<name>.docx`. The result depends on the sources and library versions alone: dates are fixed.

    python data/build_corpus.py
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from docx import Document
from fpdf import FPDF, FontFace
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

ROOT = Path(__file__).resolve().parent
COMPANY = "Orrery Instruments"
DATE = datetime(2026, 1, 1, tzinfo=UTC)
# The core PDF fonts know Latin-1 only.
LATIN1 = str.maketrans({"–": "-", "—": "-", "−": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "•": "-", "€": "EUR"})


class Run(NamedTuple):
    """A piece of a paragraph set in one style."""

    text: str
    bold: bool = False
    italic: bool = False


@dataclass(frozen=True)
class Block:
    """A heading (level 1-3), paragraph, list item (level = depth) or table."""

    kind: str
    runs: list[Run] = field(default_factory=list)
    level: int = 0
    number: int = 0  # of an item in a numbered list, 0 in a bulleted one
    rows: list[list[str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The words without their style."""
        return "".join(run.text for run in self.runs)


def inline(node: SyntaxTreeNode, bold: bool = False, italic: bool = False) -> Iterator[Run]:
    """The styled pieces below an inline node."""
    for child in node.children:
        if child.type in ("text", "code_inline"):
            yield Run(child.content, bold, italic)
        elif child.type in ("softbreak", "hardbreak"):
            yield Run(" ", bold, italic)
        else:
            yield from inline(child, bold or child.type == "strong", italic or child.type == "em")


def blocks(node: SyntaxTreeNode, depth: int = 0, number: int | None = None) -> Iterator[Block]:
    """The blocks below a node in reading order; `number` is set inside a list item."""
    for child in node.children:
        if child.type == "heading":
            yield Block("heading", list(inline(child)), level=int(child.tag[1]))
        elif child.type == "paragraph":
            kind = "paragraph" if number is None else "item"
            yield Block(kind, list(inline(child)), level=depth, number=number or 0)
        elif child.type in ("bullet_list", "ordered_list"):
            first = int(child.attrs.get("start", 1)) if child.type == "ordered_list" else 0
            for index, item in enumerate(child.children):
                yield from blocks(item, depth + 1, first + index if first else 0)
        elif child.type == "table":
            rows = [row for part in child.children for row in part.children]
            yield Block("table", rows=[["".join(r.text for r in inline(c)) for c in row.children] for row in rows])
        else:
            raise ValueError(f"not supported in a source: {child.type}")


def parse(path: Path) -> tuple[str, list[Block]]:
    """The title (first heading) and the blocks of a Markdown source."""
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    found = list(blocks(SyntaxTreeNode(tokens)))
    return next(block.text for block in found if block.kind == "heading"), found


class Paper(FPDF):
    """An A4 page with the title and the page number in the footer."""

    def footer(self) -> None:
        """Draw the footer; called by `add_page` and `output`."""
        self.set_y(-15)
        self.set_font("Helvetica", size=8)
        self.cell(0, 8, f"{COMPANY} - {self.title} - page {self.page_no()} of {{nb}}", align="C")


def build_pdf(title: str, content: list[Block]) -> bytes:
    """Set the blocks as a PDF."""
    pdf = Paper(format="A4")
    pdf.set_title(title.translate(LATIN1))
    pdf.set_author(COMPANY)
    pdf.set_creation_date(DATE)
    pdf.set_margins(25, 22, 25)
    pdf.set_auto_page_break(True, margin=24)
    pdf.add_page()
    left = pdf.l_margin
    for block in content:
        if block.kind == "table":
            pdf.set_font("Helvetica", size=9.5)
            head = FontFace(emphasis="BOLD", fill_color=(226, 230, 236))
            with pdf.table(line_height=5.5, padding=1, text_align="LEFT", headings_style=head) as table:
                for cells in block.rows:
                    table.row([cell.translate(LATIN1) for cell in cells])
            pdf.ln(4)
            continue
        size, height = {1: (20.0, 9.0), 2: (14.0, 7.0)}.get(block.level, (12.0, 6.0)), 5.8
        if block.kind == "heading":
            if block.level > 1:
                pdf.ln(3)
            if pdf.will_page_break(30):  # keep a heading with the text below it
                pdf.add_page()
            height = size[1]
        if block.kind == "item":
            pdf.set_x(left + 6 * block.level - 5)
            pdf.set_font("Helvetica", size=11)
            pdf.write(height, f"{block.number}." if block.number else "-")
            pdf.set_left_margin(left + 6 * block.level)
            pdf.set_x(left + 6 * block.level)
        for run in block.runs:
            style = ("B" if run.bold or block.kind == "heading" else "") + ("I" if run.italic else "")
            pdf.set_font("Helvetica", style, size[0] if block.kind == "heading" else 11)
            pdf.write(height, run.text.translate(LATIN1))
        pdf.set_left_margin(left)
        pdf.ln(height + (1 if block.kind == "item" else 2.5))
    return bytes(pdf.output())


def restart_numbers(document: Any) -> int:
    """A new numbering that begins at 1, as its id."""
    numbering = document.part.numbering_part.element
    style = document.styles["List Number"].element.pPr.numPr.numId.val
    num = numbering.add_num(numbering.num_having_numId(style).abstractNumId.val)
    num.add_lvlOverride(0).add_startOverride(1)
    return int(num.numId)


def build_docx(title: str, content: list[Block]) -> bytes:
    """Set the blocks as a DOCX, its zip entries without a time of their own."""
    document: Any = Document()
    properties = document.core_properties
    properties.title, properties.author, properties.last_modified_by = title, COMPANY, COMPANY
    properties.created = properties.modified = DATE.replace(tzinfo=None)
    properties.comments = ""
    numbering = 0
    for block in content:
        if block.kind == "table":
            table = document.add_table(rows=len(block.rows), cols=len(block.rows[0]), style="Table Grid")
            for row, cells in zip(table.rows, block.rows, strict=True):
                for cell, text in zip(row.cells, cells, strict=True):
                    cell.text = text
            for cell in table.rows[0].cells:
                cell.paragraphs[0].runs[0].bold = True
            document.add_paragraph()
            continue
        if block.kind == "heading":
            paragraph = document.add_heading(level=block.level)
        elif block.kind == "item":
            style = "List Number" if block.number else "List Bullet"
            paragraph = document.add_paragraph(style=style if block.level == 1 else f"{style} {min(block.level, 3)}")
            if block.number == 1:
                numbering = restart_numbers(document)
            if block.number and block.level == 1:
                paragraph._p.get_or_add_pPr().get_or_add_numPr().get_or_add_numId().val = numbering
        else:
            paragraph = document.add_paragraph()
        for run in block.runs:
            piece = paragraph.add_run(run.text)
            piece.bold, piece.italic = run.bold or None, run.italic or None
    raw, out = io.BytesIO(), io.BytesIO()
    document.save(raw)
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            entry = zipfile.ZipInfo(name)  # dated 1980-01-01
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, source.read(name))
    return out.getvalue()


def main() -> None:
    """Build every document that has a source."""
    for kind, build in (("pdf", build_pdf), ("docx", build_docx)):
        for source in sorted((ROOT / "source").rglob(f"*.{kind}.md")):
            target = ROOT / "corpus" / source.relative_to(ROOT / "source").with_suffix("")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(build(*parse(source)))
            print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
