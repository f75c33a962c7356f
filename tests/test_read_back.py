"""Documents made up at random, written in each format and read back: every word and number once, in order, in its place."""

import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from html import escape
from itertools import count
from pathlib import Path
from typing import Literal

import docx
import fpdf
import openpyxl
import pptx
import pytest
import xlwt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pptx.util import Inches

from ingest.chunk import Cutting, chunks
from ingest.readers.load import read
from tests import old_office
from tests.test_readers import CELL, odf, zipped

STEMS = ("gate", "valve", "Prüf", "Maß", "Größe", "hook", "Öl", "façade")
CHINESE = ("起重机", "阀门", "压力", "检查")
# Of other letters than Latin ones PDF and RTF need more than is tried here.
LATIN = {"pdf", "rtf"}


@dataclass(frozen=True)
class Part:
    """A paragraph or item, which is one row of words; or a table, whose first row is its header."""

    kind: Literal["paragraph", "item", "table"]
    rows: list[list[str]]


@dataclass(frozen=True)
class Section:
    heading: str
    parts: list[Part]


@st.composite
def documents(draw: st.DrawFn, kinds: tuple[str, ...], *, latin: bool = False, prose: bool = False) -> list[Section]:
    """Draw sections of parts, with `prose` after some text; no word or number is there twice, or inside another one."""
    numbers, chance = count(), random.Random(draw(st.integers(0, 2**32)))

    def word() -> str:
        n = next(numbers)
        # A word ends in three letters that no other one ends in.
        ending = "".join(chr(ord("a") + n // 26**power % 26) for power in (2, 1, 0))
        return chance.choice(STEMS if latin else STEMS + CHINESE) + ending

    def number() -> str:
        return f"{chance.randint(1, 9)}{next(numbers):03}{chance.choice(['', '.5', '.25'])}"

    def token() -> str:
        return number() if chance.random() < 0.25 else word()

    def part() -> Part:
        kind = draw(st.sampled_from(kinds))
        if kind == "table":
            width, height = draw(st.integers(2, 4)), draw(st.integers(2, 5))
            rows = [[word(), *(number() for _ in range(width - 1))] for _ in range(height)]
            return Part("table", [[word() for _ in range(width)], *rows])
        most = draw(st.sampled_from([3, 12, 120]))
        return Part(kind, [[word(), *(token() for _ in range(draw(st.integers(1, most))))]])  # type: ignore[arg-type]

    def text() -> list[Part]:
        return [Part("paragraph", [[word(), *(token() for _ in range(20))]])] if prose else []

    def section() -> Section:
        return Section(f"{word()} {word()}", [*text(), *(part() for _ in range(draw(st.integers(1, 4))))])

    return [section() for _ in range(draw(st.integers(1, 4)))]


def line(part: Part) -> str:
    return " ".join(part.rows[0])


def markdown(sections: list[Section]) -> bytes:
    def written(part: Part) -> str:
        if part.kind == "table":
            header, *rows = (f"| {' | '.join(row)} |" for row in part.rows)
            return "\n".join([header, "|---" * len(part.rows[0]) + "|", *rows])
        return f"- {line(part)}" if part.kind == "item" else line(part)

    return "\n\n".join(text for s in sections for text in (f"## {s.heading}", *map(written, s.parts))).encode()


def html(sections: list[Section]) -> bytes:
    def written(part: Part) -> str:
        if part.kind == "table":
            rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in part.rows)
            return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
        return f"<ul><li>{line(part)}</li></ul>" if part.kind == "item" else f"<p>{line(part)}</p>"

    return "".join(text for s in sections for text in (f"<h2>{s.heading}</h2>", *map(written, s.parts))).encode()


def word(sections: list[Section]) -> bytes:
    made, out = docx.Document(), io.BytesIO()
    for section in sections:
        made.add_heading(section.heading, 2)
        for part in section.parts:
            if part.kind == "table":
                table = made.add_table(len(part.rows), len(part.rows[0]))
                for y, row in enumerate(part.rows):
                    for x, cell in enumerate(row):
                        table.cell(y, x).text = cell
            else:
                made.add_paragraph(line(part), style="List Bullet" if part.kind == "item" else None)
    made.save(out)
    return out.getvalue()


def slides(sections: list[Section]) -> bytes:
    deck, out = pptx.Presentation(), io.BytesIO()
    for section in sections:
        slide = deck.slides.add_slide(deck.slide_layouts[5])
        slide.shapes.title.text = section.heading
        for n, part in enumerate(section.parts):
            place = Inches(1), Inches(2 + n), Inches(6), Inches(0.8)
            if part.kind == "table":
                table = slide.shapes.add_table(len(part.rows), len(part.rows[0]), *place).table
                for y, row in enumerate(part.rows):
                    for x, cell in enumerate(row):
                        table.cell(y, x).text = cell
            else:
                slide.shapes.add_textbox(*place).text_frame.text = line(part)
    deck.save(out)
    return out.getvalue()


def pdf(sections: list[Section]) -> bytes:
    made = fpdf.FPDF()
    for section in sections:
        made.add_page()
        made.set_font("Helvetica", size=18)
        made.multi_cell(0, text=section.heading, new_x="LMARGIN", new_y="NEXT")
        made.set_font("Helvetica", size=11)
        for part in section.parts:
            made.ln(6)
            if part.kind == "table":
                with made.table() as table:
                    for row in part.rows:
                        table.row(row)
            else:
                text = f"- {line(part)}" if part.kind == "item" else line(part)
                made.multi_cell(0, text=text, align="L", new_x="LMARGIN", new_y="NEXT")
    return bytes(made.output())


def workbook(sections: list[Section]) -> bytes:
    book, out = openpyxl.Workbook(), io.BytesIO()
    book.remove(book.active)
    for section in sections:
        sheet = book.create_sheet(section.heading)
        for part in section.parts:
            for row in part.rows:
                sheet.append([float(cell) if cell[0].isdigit() else cell for cell in row])
            sheet.append([])
    book.save(out)
    return out.getvalue()


def old_workbook(sections: list[Section]) -> bytes:
    book, out = xlwt.Workbook(), io.BytesIO()
    for section in sections:
        sheet, y = book.add_sheet(section.heading), count()
        for part in section.parts:
            for row in part.rows:
                at = next(y)
                for x, cell in enumerate(row):
                    sheet.write(at, x, float(cell) if cell[0].isdigit() else cell)
            next(y)
    book.save(out)
    return out.getvalue()


def csv(sections: list[Section]) -> bytes:
    return "\n".join(",".join(row) for row in sections[0].parts[0].rows).encode()


def plain(sections: list[Section]) -> bytes:
    return "\n\n".join(text for s in sections for text in (s.heading, *map(line, s.parts))).encode()


def rtf(sections: list[Section]) -> bytes:
    text = r"\par ".join(text for s in sections for text in (s.heading, *map(line, s.parts)))
    return (r"{\rtf1\ansi " + "".join(c if c.isascii() else rf"\u{ord(c)}?" for c in text) + r"\par}").encode()


def open_document(sections: list[Section]) -> bytes:
    def written(part: Part) -> str:
        if part.kind == "table":
            rows = ("".join(CELL.format(cell) for cell in row) for row in part.rows)
            return f"<table:table>{''.join(f'<table:table-row>{row}</table:table-row>' for row in rows)}</table:table>"
        text = f"<text:p>{line(part)}</text:p>"
        return f"<text:list><text:list-item>{text}</text:list-item></text:list>" if part.kind == "item" else text

    heads = '<text:h text:outline-level="2">{}</text:h>'
    body = "".join(text for s in sections for text in (heads.format(s.heading), *map(written, s.parts)))
    return odf("text", f"<office:text>{body}</office:text>")


def book(sections: list[Section]) -> bytes:
    names = [f"c{n}" for n in range(len(sections))]
    items = "".join(f'<item id="{name}" href="{name}.xhtml" media-type="application/xhtml+xml"/>' for name in names)
    spine = "".join(f'<itemref idref="{name}"/>' for name in names)
    opf = f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}</manifest><spine>{spine}</spine></package>'
    container = '<container><rootfiles><rootfile full-path="book.opf"/></rootfiles></container>'
    chapters = {
        f"{name}.xhtml": f"<html><body>{html([section]).decode()}</body></html>"
        for name, section in zip(names, sections, strict=True)
    }
    members = {"META-INF__container.xml": container, "book.opf": opf, **chapters}
    return zipped(mimetype="application/epub+zip", **members)


def mail(sections: list[Section]) -> bytes:
    message = EmailMessage()
    message["From"], message["Subject"] = "Ann <ann@example.com>", "The rules"
    message.set_content("As HTML.")
    message.add_alternative(html(sections).decode(), subtype="html")
    return message.as_bytes()


def notebook(sections: list[Section]) -> bytes:
    return json.dumps({"cells": [{"cell_type": "markdown", "source": markdown([s]).decode()} for s in sections]}).encode()


def objects(sections: list[Section]) -> bytes:
    def value(part: Part) -> object:
        header, *rows = part.rows
        return [dict(zip(header, row, strict=True)) for row in rows] if part.kind == "table" else [line(part)]

    return json.dumps({s.heading: {f"part {n}": value(p) for n, p in enumerate(s.parts)} for s in sections}).encode()


def yaml(sections: list[Section]) -> bytes:
    return "\n".join(text for s in sections for text in (f"{s.heading}:", *(f"  - {line(part)}" for part in s.parts))).encode()


def old_word(sections: list[Section]) -> bytes:
    return old_office.doc("".join(f"{text}\r" for s in sections for text in (s.heading, *map(line, s.parts))))


def old_slides(sections: list[Section]) -> bytes:
    return old_office.ppt([[(0, s.heading), (1, "\r".join(map(line, s.parts)))] for s in sections])


ALL = ("paragraph", "item", "table")
TEXT = ("paragraph", "item")
# Of each format: what writes it, which parts it has, and whether it knows headings and pages.
FORMATS: dict[str, tuple[Callable[[list[Section]], bytes], tuple[str, ...], str]] = {
    "md": (markdown, ALL, "headings"),
    "html": (html, ALL, "headings"),
    "docx": (word, ALL, "headings"),
    "pptx": (slides, ("paragraph", "table"), "headings pages"),
    "pdf": (pdf, ALL, "headings pages"),
    "odt": (open_document, ALL, "headings"),
    "epub": (book, ALL, "headings"),
    "eml": (mail, ALL, "headings"),
    "ipynb": (notebook, ALL, "headings"),
    "json": (objects, ALL, "headings"),
    "yaml": (yaml, TEXT, ""),
    "xlsx": (workbook, ("table",), "headings"),
    "xls": (old_workbook, ("table",), "headings"),
    "csv": (csv, ("table",), "one"),
    "txt": (plain, TEXT, ""),
    "rtf": (rtf, TEXT, ""),
    "doc": (old_word, TEXT, ""),
    "ppt": (old_slides, TEXT, "headings pages"),
}


def tokens(part: Part) -> Iterator[str]:
    """Yield the words and numbers of a part, without a table's header, which each row repeats."""
    for row in part.rows[part.kind == "table" :]:
        yield from row


def named_cells(part: Part) -> Iterator[tuple[str, str]]:
    """Yield the cells of a table with the names of their columns, nothing of other parts."""
    for row in part.rows[1:]:
        yield from zip(part.rows[0], row, strict=True)


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_every_word_and_number_is_stored_once_in_order_in_its_place(kind: str, data: st.DataObject) -> None:
    write, parts, knows = FORMATS[kind]
    # A heading of a PDF is known by its type alone, which has to be larger than that of most letters.
    sections = data.draw(documents(parts, latin=kind in LATIN, prose=kind == "pdf"))
    if knows == "one":
        sections = [Section("", sections[0].parts[:1])]
    size = data.draw(st.sampled_from([1000, 150]))
    cut = chunks(f"a.{kind}", read(Path(f"a.{kind}"), write(sections)), Cutting(size))
    text = "\n".join(chunk.text for chunk in cut)
    at = -1
    for number, section in enumerate(sections, 1):
        for part in section.parts:
            for token in tokens(part):
                assert text.count(token) == 1, f"{token} is there {text.count(token)} times"
                assert text.index(token) > at, f"{token} is not in order"
                at = text.index(token)
                holds = next(chunk for chunk in cut if token in chunk.text)
                if "headings" in knows:
                    assert section.heading in holds.heading_path, f"{token} is under {holds.heading_path!r}"
                if "pages" in knows:
                    assert holds.page == number, f"{token} is on page {holds.page}"
            for name, cell in named_cells(part):
                holds = next(chunk for chunk in cut if cell in chunk.text)
                row = next(row for row in (*holds.headings, *holds.text.split("\n")) if cell in row)
                # Where a row was cut, the name of its column is in the context.
                assert f"{name}: {cell}" in row or (len(row) > size // 2 and name in holds.text_in_context), row
