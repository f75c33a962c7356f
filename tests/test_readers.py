"""Readers: what a file's owner would look for in what was read of it, kind by kind, and why a file was not read."""

import base64
import copy
import datetime
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import docx
import fpdf
import openpyxl
import pptx
import pytest
import xlwt
from docx.oxml import parse_xml
from fpdf.encryption import EncryptionMethod
from openpyxl.comments import Comment
from PIL import Image
from pptx.chart.data import CategoryChartData, XyChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.oxml import parse_xml as pptx_parse_xml
from pptx.util import Inches

from ingest.readers.document import Document, EmptyError, SkippedError, UnreadableError, table_rows
from ingest.readers.load import kind_of, read
from tests import old_office as old_office_files
from tests.helpers import SHARED, needs_shared


def document(name: str, content: bytes | str) -> Document:
    return read(Path(name), content.encode() if isinstance(content, str) else content)


def texts(name: str, content: bytes | str, *kinds: str) -> list[str]:
    return [block.text for block in document(name, content).blocks if not kinds or block.kind in kinds]


def zipped(**members: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        for name, text in members.items():
            package.writestr(name.replace("__", "/"), text)
    return out.getvalue()


def pdf_of(*lines: str) -> bytes:
    pdf = fpdf.FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=11)
    for line in lines:
        pdf.multi_cell(0, text=line, new_x="LMARGIN", new_y="NEXT")
    return bytes(pdf.output())


TABLE = [["Country", "Dinner"], ["France", "32 EUR"], ["Spain", "28 EUR"]]
ROWS = ["Country: France | Dinner: 32 EUR", "Country: Spain | Dinner: 28 EUR"]


def word_table() -> bytes:
    word, out = docx.Document(), io.BytesIO()
    table = word.add_table(rows=3, cols=2)
    for y, row in enumerate(TABLE):
        for x, text in enumerate(row):
            table.cell(y, x).text = text
    word.save(out)
    return out.getvalue()


def slide_table() -> bytes:
    deck, out = pptx.Presentation(), io.BytesIO()
    slide = deck.slides.add_slide(deck.slide_layouts[6])
    table = slide.shapes.add_table(3, 2, Inches(1), Inches(1), Inches(4), Inches(2)).table
    for y, row in enumerate(TABLE):
        for x, text in enumerate(row):
            table.cell(y, x).text = text
    deck.save(out)
    return out.getvalue()


def workbook(*sheets: tuple[str, list[list[object]]], merged: str = "") -> bytes:
    book, out = openpyxl.Workbook(), io.BytesIO()
    book.remove(book.active)
    for name, rows in sheets:
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
        if merged:
            sheet.merge_cells(merged)
    book.save(out)
    return out.getvalue()


def pdf_table() -> bytes:
    pdf = fpdf.FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=11)
    with pdf.table() as table:
        for row in TABLE:
            table.row(row)
    return bytes(pdf.output())


ODF = (
    '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
    ' xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"'
    ' xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"'
    ' xmlns:presentation="urn:oasis:names:tc:opendocument:xmlns:presentation:1.0"><office:body>{}</office:body>'
    "</office:document-content>"
)
CELL = "<table:table-cell office:value-type='string'><text:p>{}</text:p></table:table-cell>"
ODF_TABLE = (
    "<table:table table:name='Rates'>"
    + "".join(f"<table:table-row>{''.join(CELL.format(cell) for cell in row)}</table:table-row>" for row in TABLE)
    + "</table:table>"
)


def odf(kind: str, body: str, manifest: str = "<manifest/>") -> bytes:
    mime = f"application/vnd.oasis.opendocument.{kind}"
    return zipped(mimetype=mime, **{"META-INF__manifest.xml": manifest, "content.xml": ODF.format(body)})


HTML_TABLE = "<table>" + "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in TABLE) + "</table>"
RTF_TABLE = "".join(r"\trowd\cellx1000\cellx2000 " + "".join(rf"{cell}\cell " for cell in row) + r"\row " for row in TABLE)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "Country,Dinner\nFrance,32 EUR\nSpain,28 EUR\n"),
        ("semicolons.csv", "Country;Dinner\nFrance;32 EUR\nSpain;28 EUR\n"),
        ("tabs.csv", "Country\tDinner\nFrance\t32 EUR\nSpain\t28 EUR\n"),
        ("a line above.csv", "Rates of 2026,\n\nCountry,Dinner\nFrance,32 EUR\nSpain,28 EUR\n"),
        ("a.tsv", "Country\tDinner\nFrance\t32 EUR\nSpain\t28 EUR\n"),
        ("a.html", HTML_TABLE),
        ("a.md", "| Country | Dinner |\n|---|---|\n| France | 32 EUR |\n| Spain | 28 EUR |\n"),
        ("a.docx", word_table()),
        ("a.pptx", slide_table()),
        ("a.xlsx", workbook(("Rates", TABLE))),
        ("a.odt", odf("text", f"<office:text>{ODF_TABLE}</office:text>")),
        ("a.ods", odf("spreadsheet", f"<office:spreadsheet>{ODF_TABLE}</office:spreadsheet>")),
        ("a.rtf", r"{\rtf1\ansi " + RTF_TABLE + "}"),
        ("a.pdf", pdf_table()),
        ("a.json", json.dumps([dict(zip(TABLE[0], row, strict=True)) for row in TABLE[1:]])),
        ("a.jsonl", "\n".join(json.dumps(dict(zip(TABLE[0], row, strict=True))) for row in TABLE[1:])),
        ("a.xml", "<r>" + "".join(f"<e><Country>{c}</Country><Dinner>{d}</Dinner></e>" for c, d in TABLE[1:]) + "</r>"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)  # fmt: skip
def test_a_row_of_a_table_carries_its_header(name: str, content: bytes | str) -> None:
    assert texts(name, content, "row") == ROWS


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("report.txt", pdf_of("A page."), "pdf"),
        ("letter.pdf", word_table(), "docx"),
        ("slides.zip", slide_table(), "pptx"),
        ("rates", workbook(("Rates", TABLE)), "xlsx"),
        ("rates.doc", b"<html><body><p>Saved as a page.</p></body></html>", "html"),
        ("rates.xls", b"Country\tDinner\nFrance\t32\n", "csv"),
        ("old.doc", rb"{\rtf1 Hello.}", "rtf"),
        ("page.txt", b"<!DOCTYPE html><title>A</title><p>Text", "html"),
        ("README", b"Plain words.\n", "text"),
        ("notes.unknown", b"Plain words.\n", "text"),
        ("records", b'[{"a": 1}]', "json"),
        ("broken.txt", b'{"a": 1', "text"),
        ("mail.txt", b"Received: from x\r\nSubject: Hello\r\n\r\nText.", "eml"),
        ("a.md", b"<html> is a tag.", "markdown"),
        ("a.py", b"x = {}\n", "code"),
        ("feed", b'<?xml version="1.0"?><rss/>', "xml"),
    ],
)
def test_the_content_says_what_a_file_is_and_its_name_only_what_is_left_open(name: str, content: bytes, kind: str) -> None:
    assert kind_of(Path(name), content) == kind


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8-sig", "Grüße"),
        ("utf-16", "Grüße an alle"),
        ("utf-16-be", "Grüße an alle"),
        ("utf-16-le", "2026 年出差须提前三个工作日申请。"),
        ("utf-32", "Grüße an alle"),
        ("cp1252", "Le dîner à l’hôtel coûte 32 € ; été, naïve, cœur."),
        ("cp1250", "Zażółć gęślą jaźń, każdy źródło światła"),
        ("cp1251", "Съешь же ещё этих мягких французских булок, да выпей чаю"),
        ("gb18030", "住宿费用每晚最高四百五十元，出差须提前三个工作日申请。"),
        ("big5", "住宿費用每晚最高四百五十元，出差須提前三個工作日申請。"),
        ("shift_jis", "宿泊費は一泊一万円までとする。領収書を必ず提出してください。"),
        ("iso2022_jp", "宿泊費は一泊一万円までとする。"),
        ("euc_kr", "숙박비는 하룻밤에 십만 원까지 지급됩니다."),
    ],
)
def test_encodings_are_told(encoding: str, text: str) -> None:
    assert texts("a.txt", text.encode(encoding)) == [text]
    assert texts("a.csv", f"名,b\n{text.replace(',', '')},2".encode(encoding, "ignore"))[0].endswith("b: 2")


def test_a_file_in_two_encodings_is_read_line_by_line() -> None:
    first, second = "住宿费用每晚最高四百五十元。", "出差须提前三个工作日申请，超出部分自理。"
    assert texts("a.txt", first.encode() + b"\n\n" + second.encode("gb18030")) == [first, second]


def test_nul_bytes_in_a_text_are_left_out() -> None:
    assert texts("a.txt", b"The canteen\0 opens at eleven." + b" It closes at two." * 9) == [
        "The canteen opens at eleven." + " It closes at two." * 9
    ]


@pytest.mark.parametrize(
    ("front", "title"),
    [
        ("---\ntitle: Leave types\nkeywords: sick\n---\n", "Leave types"),
        ('+++\ntitle = "Leave types"\n+++\n', "Leave types"),
        ("---js\n{ layout: 'page' }\n---\n", "a"),
    ],
)
def test_front_matter_gives_the_title_and_is_left_out(front: str, title: str) -> None:
    found = document("a.md", f"{front}\nTwelve days a year.\n")
    assert (found.title, [block.text for block in found.blocks]) == (title, ["Twelve days a year."])
    assert texts("a.html", f"{front}<p>Twelve days a year.</p>") == ["Twelve days a year."]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% alert %}\nTake leave.\n{% endalert %}", "Take leave."),
        ('See [the policy]({% page "/leave/" %}) of {{ site.name }} first.', "See the policy of first."),
        ('Ask in {% slack_channel "it-help" %}.', "Ask in it-help."),
        ('{% image "a/duck.png" "A duck" %}', "A duck"),
        ("Now. {% comment %}Not yet.{% endcomment %}", "Now."),
        ("Write `{{ name }}` there.", "Write {{ name }} there."),
        ("{% raw %}Write {{ name }} there.{% endraw %}", "Write {{ name }} there."),
    ],
)
def test_template_tags_are_left_out_but_not_their_words_nor_code(source: str, text: str) -> None:
    assert texts("a.md", f"---\nlayout: page\n---\n{source}") == [text]


def test_braces_that_no_site_generator_fills_stay() -> None:
    prose = "Use {{ service }} and {% if x %}yes{% endif %}, or {{ .Values.host }} {# see below #}."
    assert texts("a.md", f"# Ops\n\n{prose}\n", "paragraph") == [prose]
    assert texts("a.md", "Use {{ site.name }} {% include 'a.html' %} here.\n") == ["Use here."]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("See [[Shift plan|the plan]] and ![[rota.png]].", ["See the plan and ."]),
        ("See [[Shift plan#Night]].", ["See Shift plan › Night."]),
        ("![[Night rules]]", ["Night rules"]),
        ("Now. %% hidden remark 4242 %%", ["Now."]),
        ("At 5 %% and 6 %%.", ["At 5 %% and 6 %%."]),
        ("> [!warning] Forklifts\n> Never ride on the forks.", ["Warning: Forklifts", "Never ride on the forks."]),
        ("> [!NOTE]\n> Read this.", ["Note", "Read this."]),
        (
            '!!! danger "High voltage"\n    Keep two metres away.\n\n    Ever.\n\nGo.',
            ["Danger: High voltage", "Keep two metres away.", "Ever.", "Go."],
        ),
        ("import { Card } from '@site/card'\n\nThe gate is open.\n\nexport default Page", ["The gate is open."]),
        ("```\nimport a from 'b'\nx = [[1, 2]]\n```", ["import a from 'b'\nx = [[1, 2]]"]),
        ("Write `[[link]]`.", ["Write [[link]]."]),
        ("3. Ring\n4. Wait", ["3. Ring", "4. Wait"]),
        ("at most ~~300~~ 250 kg", ["at most ~~300~~ 250 kg"]),
    ],
)
def test_markdown_of_other_programs_is_read_as_its_words(source: str, text: list[str]) -> None:
    assert texts("a.md", source) == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        (
            '<h2><button>How do I unlock it?</button></h2><p>Hold it. <button>Copy</button></p>',
            ["How do I unlock it?", "Hold it."],
        ),
        (
            "<article><p>Doors.</p><aside>Never run.</aside><footer>The guard</footer></article>",
            ["Doors.", "Never run.", "The guard"],
        ),
        (
            '<p>Doors.</p><aside>Our sponsors</aside><aside class="warning">Hot!</aside><footer>Imprint</footer>',
            ["Doors.", "Hot!"],
        ),
        ("<p>Doors.</p><noscript>Deck 3.</noscript><noscript>Turn on JavaScript!</noscript>", ["Doors.", "Deck 3."]),
        ("<ol><li>Ring</li><li value=5>Wait</li><li>Go</li></ol>", ["1. Ring", "5. Wait", "6. Go"]),
        ("<ol type=a start=2><li>Ring</li></ol><ol type=I><li>x</li><li>y</li></ol>", ["b. Ring", "I. x", "II. y"]),
        ("<p>Price: <del>120 EUR</del> <ins>99 EUR</ins></p>", ["Price: ~~120 EUR~~ 99 EUR"]),
        (
            "<table><tr><td class=linenos><pre>1\n2</pre></td><td><pre>import os\nos.abort()</pre></td></tr></table>",
            ["import os\nos.abort()"],
        ),
        (
            "<p>F is <span class=katex><math><mfrac><mi>a</mi><mi>b</mi></mfrac><annotation encoding='application/x-tex'>"
            "\\frac{a}{b}</annotation></math><span class=katex-html aria-hidden=true>ab</span></span>.</p>",
            ["F is \\frac{a}{b}."],
        ),
        ("<div><![CDATA[x = 1]]></div><p>y<!-- no text --></p>", ["x = 1", "y"]),
        ("<p><b>312</b>employees, <b>17</b>sites, H<sub>2</sub>O, CO<sub>2</sub>.</p>", ["312 employees, 17 sites, H2O, CO2."]),
        ("<p>Area <span>312</span><span>employees</span><span>17</span></p>", ["Area 312 employees 17"]),
    ],
    ids=[
        "buttons", "within an article", "beside the text", "noscript", "numbers", "letters", "struck", "line numbers",
        "a formula", "code of a wiki", "numbers that a style sets apart", "spans",
    ],
)  # fmt: skip
def test_what_a_page_says_by_its_tags_is_read(html: str, text: list[str]) -> None:
    assert texts("a.html", f"<html><body>{html}</body></html>") == text


def test_a_fenced_template_stays_as_it_is_written() -> None:
    assert texts("a.md", "```\n{{ name }} {% if x %}\n```\n") == ["{{ name }} {% if x %}"]


def test_html_headers_over_several_columns_and_rows_reach_every_cell() -> None:
    table = (
        "<table><thead><tr><th rowspan=2>Site</th><th colspan=2>Spaces</th></tr><tr><th>Cars</th><th>Bikes</th></tr></thead>"
        "<tr><td rowspan=2>Jena</td><td>120</td><td>40</td></tr><tr><td>9</td><td>4</td></tr></table>"
    )
    assert texts("a.html", table) == [
        "Site: Jena | Spaces Cars: 120 | Spaces Bikes: 40",
        "Site: Jena | Spaces Cars: 9 | Spaces Bikes: 4",
    ]


def test_a_table_that_only_places_things_is_read_as_what_it_holds() -> None:
    page = "<table role=presentation><tr><td><h2>Left</h2></td><td><p>Right</p></td></tr></table>"
    assert [(b.kind, b.text) for b in document("a.html", page).blocks] == [("heading", "Left"), ("paragraph", "Right")]


def test_word_formulas_and_the_title_style_are_read() -> None:
    word, out = docx.Document(), io.BytesIO()
    word.add_heading("Rules", level=0)
    paragraph = word.add_paragraph("The area is ")
    math = "http://schemas.openxmlformats.org/officeDocument/2006/math"
    part = "<m:{0}><m:r><m:t>{1}</m:t></m:r></m:{0}>"
    fraction = f"<m:f>{part.format('num', 'a+b')}{part.format('den', '2')}</m:f>"
    paragraph._p.append(docx.oxml.parse_xml(f'<m:oMath xmlns:m="{math}">{fraction}</m:oMath>'))
    word.save(out)
    found = document("a.docx", out.getvalue())
    assert (found.title, found.blocks[-1].text) == ("Rules", "The area is (a+b)/2")


def test_slides_keep_titles_numbers_lists_notes_and_charts() -> None:
    deck, out = pptx.Presentation(), io.BytesIO()
    first = deck.slides.add_slide(deck.slide_layouts[1])
    first.shapes.title.text = "Travel"
    first.placeholders[1].text = "Book early\nKeep receipts"
    first.notes_slide.notes_text_frame.text = "Speak slowly."
    second = deck.slides.add_slide(deck.slide_layouts[6])
    second.shapes.add_textbox(Inches(1), Inches(1), Inches(4), Inches(1)).text_frame.text = "Ask Finance."
    chart = CategoryChartData()
    chart.categories = ["2025", "2026"]
    chart.add_series("Trips", (40, 55))
    second.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, Inches(1), Inches(2), Inches(4), Inches(3), chart)
    deck.save(out)
    found = document("a.pptx", out.getvalue())
    assert found.title == "Travel"
    assert [(b.kind, b.text, b.level, b.page) for b in found.blocks] == [
        ("heading", "Travel", 1, 1),
        ("item", "- Book early", 0, 1),
        ("item", "- Keep receipts", 0, 1),
        ("paragraph", "Notes: Speak slowly.", 0, 1),
        # A slide without a title is not more of the slide before.
        ("heading", "Slide 2", 1, 2),
        ("paragraph", "Ask Finance.", 0, 2),
        ("row", "2025 | Trips: 40", 0, 2),
        ("row", "2026 | Trips: 55", 0, 2),
    ]


def test_sheets_are_headings_and_numbers_are_as_shown() -> None:
    book = workbook(
        ("Rates", [["Item", "Price"], ["Tea", 3.0], ["Cake", 0.1 + 0.2]]), ("Empty", []), ("Sites", [["Site"], ["Jena"]])
    )
    assert [(b.kind, b.text) for b in document("a.xlsx", book).blocks] == [
        ("heading", "Rates"),
        ("row", "Item: Tea | Price: 3"),
        ("row", "Item: Cake | Price: 0.3"),
        ("heading", "Sites"),
        ("row", "Site"),
        ("row", "Jena"),
    ]


def test_a_sheet_may_have_a_title_above_and_a_second_table_below() -> None:
    rows: list[list[object]] = [
        ["Rates of 2026", None],
        ["Item", "Price"],
        ["Tea", 3],
        [None],
        ["Site", "City"],
        ["North", "Jena"],
    ]
    assert texts("a.xlsx", workbook(("A", rows), merged="A1:B1"))[1:] == [
        "Rates of 2026",
        "Item: Tea | Price: 3",
        "Site: North | City: Jena",
    ]


def test_open_document_text_keeps_headings_lists_and_notes() -> None:
    body = (
        '<office:text><text:h text:outline-level="2">Leave</text:h><text:p>Ask<text:s/>first<text:note><text:note-citation>1'
        "</text:note-citation><text:note-body><text:p>In writing.</text:p></text:note-body></text:note></text:p>"
        "<text:list><text:list-item><text:p>Sick</text:p></text:list-item></text:list></office:text>"
    )
    assert [(b.kind, b.text, b.level) for b in document("a.odt", odf("text", body)).blocks] == [
        ("heading", "Leave", 2),
        ("paragraph", "Ask first (In writing.)", 0),
        ("item", "- Sick", 0),
    ]


def test_lists_of_open_document_have_the_numbers_of_their_style() -> None:
    style = (
        '<text:list-style text:name="L"><text:list-level-style-number text:level="1" style:num-format="1"/>'
        '<text:list-level-style-number text:level="2" style:num-format="a"/></text:list-style>'
    ).replace("<text:list-style ", '<text:list-style xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0" ')
    item = "<text:list-item><text:p>{}</text:p>{}</text:list-item>"
    inner = f"<text:list>{item.format('Gloves', '')}{item.format('Mask', '')}</text:list>"
    body = f'<office:text>{style}<text:list text:style-name="L">{item.format("Dress", inner)}{item.format("Enter", "")}'
    assert texts("a.odt", odf("text", f"{body}</text:list></office:text>")) == ["1. Dress", "a. Gloves", "b. Mask", "2. Enter"]


def test_open_document_slides_keep_titles_and_numbers() -> None:
    frame = "<draw:frame{}><draw:text-box><text:p>{}</text:p></draw:text-box></draw:frame>"
    title = frame.format(' presentation:class="title"', "Travel")
    body = f"<office:presentation><draw:page>{frame.format('', 'Book early.')}{title}</draw:page></office:presentation>"
    assert [(b.kind, b.text, b.page) for b in document("a.odp", odf("presentation", body)).blocks] == [
        ("heading", "Travel", 1),
        ("paragraph", "Book early.", 1),
    ]


def test_a_book_is_read_chapter_by_chapter_in_its_own_order() -> None:
    item = '<item id="{}" href="{}" media-type="application/xhtml+xml" properties="{}"/>'
    items = item.format("b", "b.xhtml", "") + item.format("a", "a%20a.xhtml", "") + item.format("n", "nav.xhtml", "nav")
    opf = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata><dc:title xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f'The Book</dc:title></metadata><manifest>{items}</manifest><spine><itemref idref="n"/><itemref idref="a"/>'
        '<itemref idref="b"/></spine></package>'
    )
    members = {
        "META-INF__container.xml": '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
        "OEBPS__book.opf": opf,
        "OEBPS__a a.xhtml": "<html><head><title>One</title></head><body><p>First.</p></body></html>",
        "OEBPS__b.xhtml": "<html><body><h2>Two</h2><p>Second.</p></body></html>",
        "OEBPS__nav.xhtml": "<html><body>Contents</body></html>",
    }
    found = document("a.epub", zipped(mimetype="application/epub+zip", **members))
    assert (found.title, [b.text for b in found.blocks]) == ("The Book", ["One", "First.", "Two", "Second."])


def test_rtf_is_read_with_its_letters() -> None:
    assert texts("a.rtf", r"{\rtf1\ansi\ansicpg1252 Stra\'dfe am \u26085? Tag.\par Ende.\par}") == [
        "Straße am 日 Tag.",
        "Ende.",
    ]


def mail() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Ann <ann@example.com>", "bob@example.com", "Reise nach Köln"
    message.set_content("Bitte lesen.")
    return message


def test_attachments_of_a_mail_are_read_by_their_own_readers_under_their_names() -> None:
    message, inner = mail(), mail()
    inner.replace_header("Subject", "Weiter")
    message.add_attachment(
        "Country;Dinner\nFrance;32 EUR\n".encode("utf-16"), "application", "octet-stream", filename="rates.csv"
    )
    message.add_attachment(word_table(), "application", "octet-stream", filename="word.docx")
    message.add_attachment(b"\x89PNG\r\n\x1a\n", "image", "png", filename="photo.png")
    message.add_attachment(inner)
    found = document("a.eml", message.as_bytes())
    assert found.title == "Reise nach Köln"
    assert [(b.kind, b.text) for b in found.blocks] == [
        ("paragraph", "From: Ann <ann@example.com>\nTo: bob@example.com"),
        ("paragraph", "Bitte lesen."),
        ("heading", "rates.csv"),
        ("row", "Country: France | Dinner: 32 EUR"),
        ("heading", "word.docx"),
        ("row", ROWS[0]),
        ("row", ROWS[1]),
        ("heading", "photo.png"),
        ("heading", "Weiter.eml"),
        ("paragraph", "From: Ann <ann@example.com>\nTo: bob@example.com"),
        ("paragraph", "Bitte lesen."),
    ]


def test_a_mail_in_html_keeps_its_tables() -> None:
    message = mail()
    message.add_alternative(f"<p>Rates:</p>{HTML_TABLE}", subtype="html")
    assert texts("a.eml", message.as_bytes())[1:] == ["Rates:", *ROWS]


def test_json_objects_stand_under_their_keys() -> None:
    staff = [{"name": "Ann", "home": {"city": "Jena"}}]
    shop = {"name": "Shop", "hours": {"mon": "9-5", "sat": None}, "staff": staff, "sites": ["Jena"]}
    assert [(b.kind, b.text) for b in document("a.json", json.dumps(shop)).blocks] == [
        ("row", "name: Shop"),
        ("heading", "hours"),
        ("row", "mon: 9-5"),
        ("heading", "staff"),
        ("row", "name: Ann | home.city: Jena"),
        ("heading", "sites"),
        ("item", "Jena"),
    ]


def test_xml_titles_are_headings_and_its_own_entities_are_read() -> None:
    content = (
        '<!DOCTYPE book [<!ENTITY us "Orrery">]><book><title>Guide of &us;</title><chapter><title>Start</title>'
        "<para>Call <b>&us;</b> first.</para></chapter></book>"
    )
    found = document("a.xml", content)
    assert found.title == "Guide of Orrery"
    assert [(b.kind, b.text, b.level) for b in found.blocks][1:] == [
        ("heading", "Start", 2),
        ("paragraph", "Call Orrery first.", 0),
    ]


def test_source_code_is_cut_at_its_classes_and_functions() -> None:
    code = "import os\n\n\ndef fee(days):\n    x = days\n\n    return x\n\n\nclass Shop:\n    pass\n"
    assert [(b.kind, b.text) for b in document("fees.py", code).blocks] == [
        ("code", "import os"),
        ("heading", "def fee"),
        ("code", "def fee(days):\n    x = days\n\n    return x"),
        ("heading", "class Shop"),
        ("code", "class Shop:\n    pass"),
    ]


def test_a_pdf_table_that_goes_on_on_the_next_page_keeps_its_header() -> None:
    pdf = fpdf.FPDF()
    pdf.set_font("Helvetica", size=11)
    rows = [["Record", "Years"], *([f"Record {n}", str(n)] for n in range(60))]
    pdf.add_page()
    with pdf.table(repeat_headings=0) as table:
        for row in rows:
            table.row(row)
    found = document("a.pdf", bytes(pdf.output())).blocks
    assert [b.text for b in found] == [f"Record: Record {n} | Years: {n}" for n in range(60)]
    assert {b.page for b in found} == {1, 2}


def test_a_pdf_table_with_lines_between_its_rows_only_is_told_by_its_gaps() -> None:
    pdf = fpdf.FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=11)
    rows = [*TABLE, ["Cuba", "30 EUR"]]
    with pdf.table(borders_layout="NONE") as table:
        for row in rows:
            table.row(row)
    # As a paper has them: a line above the header, below it, and at the end.
    height = (pdf.get_y() - 10) / len(rows)
    for y in (10, 10 + height, pdf.get_y()):
        pdf.line(10, y, 200, y)
    pdf.ln(8)
    pdf.multi_cell(0, text="Rates of 2026.")
    assert texts("a.pdf", bytes(pdf.output())) == [*ROWS, "Country: Cuba | Dinner: 30 EUR", "Rates of 2026."]


def test_a_bold_line_alone_is_a_heading_and_bold_words_in_a_line_are_not() -> None:
    pdf = fpdf.FPDF()
    pdf.add_page()
    for style, text in (("", "A first line of text that goes on. " * 8), ("B", "Late arrival"), ("", "Call the hotel. " * 20)):
        pdf.set_font("Helvetica", style, 11)
        pdf.ln(6)
        pdf.multi_cell(0, text=text, new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("Helvetica", "", 11)
    pdf.ln(6)
    pdf.multi_cell(0, text="**Always** call before six. " * 6, markdown=True)
    kinds = [(b.kind, b.text[:12]) for b in document("a.pdf", bytes(pdf.output())).blocks]
    assert kinds == [
        ("paragraph", "A first line"),
        ("heading", "Late arrival"),
        ("paragraph", "Call the hot"),
        ("paragraph", "Always call "),
    ]


def old_office(*streams: str) -> bytes:
    """Return a compound file of Office up to 2003 that has these streams, all empty."""
    free, end, none = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH6x", 62, 3, 0xFFFE, 9, 6)
    head += struct.pack("<IIIIIIIIII", 0, 1, 1, 0, 4096, end, 0, end, 0, 0) + struct.pack("<108I", *[free] * 108)
    fat = struct.pack("<128I", 0xFFFFFFFD, end, *[free] * 126)

    def entry(name: str, kind: int, right: int, child: int) -> bytes:
        label = (name + "\0").encode("utf-16-le")
        return label.ljust(64, b"\0") + struct.pack("<HBBIII36xIQ", len(label), kind, 1, none, right, child, end, 0)

    entries = [entry("Root Entry", 5, none, 1)]
    entries += [entry(name, 2, n + 1 if n < len(streams) else none, none) for n, name in enumerate(streams, 1)]
    return head + fat + b"".join(entries).ljust(512, b"\0")


def locked_pdf() -> bytes:
    pdf = fpdf.FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=11)
    pdf.cell(text="Secret.")
    pdf.set_encryption(owner_password="b", user_password="a", encryption_method=EncryptionMethod.RC4)  # noqa: S106
    return bytes(pdf.output())


def picture_pdf() -> bytes:
    pdf = fpdf.FPDF()
    pdf.add_page()
    pdf.rect(10, 10, 50, 50, style="F")
    return bytes(pdf.output())


BOMB = (
    "<!DOCTYPE l [<!ENTITY a0 'lol'>"
    + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10))
    + "]><l>&a9;</l>"
)


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("empty.txt", b"", EmptyError, "it is empty: 0 bytes"),
        ("blank.txt", b" \n\n ", EmptyError, "it has no text"),
        ("blank.docx", b"", EmptyError, "it is empty"),
        ("front.md", b"---\ntitle: A\n---\n", EmptyError, "it has front matter but no text"),
        ("blank.xlsx", workbook(("A", [])), EmptyError, "it has no text"),
        ("scan.pdf", picture_pdf(), EmptyError, "it has only images of text: set RAG_OCR_TIMEOUT=600, or run OCR on it first"),
        ("locked.pdf", locked_pdf(), UnreadableError, "it needs a password: save it without one"),
        ("locked.docx", old_office("EncryptionInfo", "EncryptedPackage"), UnreadableError, "it needs a password"),
        ("locked.odt", odf("text", "", "<manifest><encryption-data/></manifest>"), UnreadableError, "it needs a password"),
        ("locked.epub", zipped(mimetype="application/epub+zip", **{"META-INF__rights.xml": ""}), UnreadableError, "protection"),
        ("broken.pdf", b"%PDF-1.4 broken", UnreadableError, "not a readable PDF file"),
        ("text.pdf", b"not a pdf", UnreadableError, "not a readable PDF file (it lacks the header of that format): check"),
        ("broken.docx", b"PK\x03\x04 broken", UnreadableError, "not a readable DOCX file (File is not a zip file): check that"),
        ("broken.xlsx", zipped(**{"a.txt": "a"}), UnreadableError, "not a readable XLSX file (parts of it are missing)"),
        ("broken.json", b'{"a": 1', UnreadableError, "not valid JSON (Expecting ',' delimiter: line 1 column 8"),
        ("broken.jsonl", b'{"b"\n', UnreadableError, "line 1 is not valid JSON"),
        ("broken.xml", b"<?xml version='1.0'?><a><b></a>", UnreadableError, "not valid XML"),
        ("noise.txt", bytes(range(1, 256)) * 8, UnreadableError, "its encoding is unknown"),
        ("old.doc", old_office("WordDocument"), UnreadableError, "not a readable DOC file"),
        ("old.ppt", old_office("PowerPoint Document"), EmptyError, "no text"),
        ("setup.msi", old_office("Other"), SkippedError, "a binary file"),
        ("essay.pages", zipped(**{"Index__Document.iwa": ""}), SkippedError, "iWork file: export it as .docx"),
        ("all.zip", zipped(**{"a.txt": "a"}), SkippedError, "an archive (zip): unpack it first"),
        ("all.gz", b"\x1f\x8b\x08" + bytes(20), SkippedError, "an archive (gz): unpack it first"),
        ("photo.txt", b"\x89PNG\r\n\x1a\n" + bytes(20), SkippedError, "an image (png)"),
        ("logo.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', SkippedError, "an image (svg)"),
        ("song.mp3", b"ID3" + bytes(20), SkippedError, "an audio file (mp3)"),
        ("data.bin", bytes(range(256)) * 4, SkippedError, "a binary file"),
        ("bomb.xml", BOMB, UnreadableError, "not valid XML (Maximum entity amplification factor exceeded"),
        ("outside.xml", "<!DOCTYPE l [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><l>&a;</l>", UnreadableError, "not valid XML"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 15 else "",
)  # fmt: skip
def test_a_file_that_gives_no_document_says_why_and_what_to_do(
    name: str, content: bytes | str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as caught:
        document(name, content)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.docx", "a.pptx", "a.xlsx", "a.epub", "a.odt", "a.zip"])
def test_a_package_that_would_unpack_to_more_than_a_document_is_refused_unread(name: str) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("word/document.xml", "")
    # What the directory at the end of the file declares as unpacked size, 24 bytes into its one entry.
    content = bytearray(out.getvalue())
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 600_000_000)
    with pytest.raises(UnreadableError, match="it unpacks to 600 MB"):
        document(name, bytes(content))


def test_headings_without_text_under_them_are_the_text() -> None:
    assert [(b.kind, b.text) for b in document("a.md", "# Agenda\n\n## Lunch\n").blocks] == [
        ("paragraph", "Agenda"),
        ("paragraph", "Lunch"),
    ]


DOCS = SHARED / "docs"
FILES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*") if path.is_file())
# What a person found right to come of them: an error and a word of its reason, or a title and words of one of the blocks.
OUTCOMES: dict[str, tuple[type[Exception], str] | tuple[str, str]] = {
    "awkward/bad-ocr-layer.pdf": ("Source: https://www.industrydocuments.ucsf.edu/docs/mjgl0226", "Foundation"),
    "awkward/broken-structure.pdf": (UnreadableError, "open it in a viewer and print it to a new PDF"),
    "awkward/empty-workbook.xlsx": (EmptyError, "no text"),
    "awkward/empty.docx": (EmptyError, "0 bytes"),
    "awkward/empty.eml": (EmptyError, "no text"),
    "awkward/empty.pdf": (EmptyError, "0 bytes"),
    "awkward/empty.txt": (EmptyError, "0 bytes"),
    "awkward/encrypted-1234.pdf": (UnreadableError, "needs a password"),
    "awkward/encrypted-openpassword.pdf": (UnreadableError, "needs a password"),
    "awkward/garbled-font-encoding-ko.pdf": ("스마트", "(Blockchain)"),
    "awkward/incomplete-json.txt": ("incomplete json", "John Doe"),
    "awkward/invisible-text.pdf": ("invisible text", "Visible heading line"),
    "awkward/long-book-1225p.txt": ("long book 1225p", '"Well, Prince'),
    "awkward/long-table-31480-rows.csv": ("long table 31480 rows", "cid: 1003 | len: 192"),
    "awkward/malformed.pptx": ("Test Slide", "Test Slide"),
    "awkward/mixed-encodings-utf8-then-gb18030.md": (
        "mixed encodings utf8 then gb18030",
        "隶属于用户个人的页面或者功能必须进行权限控制校验",
    ),
    "awkward/nul-bytes.txt": ("nul bytes", "TTS has leave types for the following scenarios."),
    "awkward/random.bin": (SkippedError, "binary"),
    "awkward/scanned-loremipsum.pdf": (EmptyError, "run OCR on it first"),
    "awkward/single-line-1mb.txt": ("single line 1mb", '"Well, Prince'),
    "awkward/single-line-elife-56337.xml": (
        "KRAB-zinc finger protein gene expansion in response to active retrotransposons in the murine lineage",
        "surname: Wolf | given-names: Gernot",
    ),
    "awkward/whitespace-only.txt": (EmptyError, "no text"),
    "awkward/names/.hidden.md": ("Leave types", "Annual Leave"),
    "encodings/test_mskanji-shift-jis.csv": ("test mskanji shift jis", "名前: 髙橋淳 | 年齢: 35 | 住所: 名古屋"),
    "formats/GeoTopo-de-117p.pdf": ("Geometrie und Topologie", "Wer es gerne in A5 (Schwarz-Weiß, Ringbindung)"),
    "formats/autogen-paper.docx": (
        "AutoGen: Enabling Next-Gen LLM Applications via Multi-Agent Conversation",
        "7 | 8 | 9",
    ),
    "formats/autogen-paper.pptx": (
        "AutoGen: Enabling Next-Gen LLM Applications via Multi-Agent Conversation",
        "ColA: 7 | ColB: 8",
    ),
    "formats/csv-comma.csv": ("csv comma", "Last Name: Lozano, Dr | Company: Vega-Gentry"),
    "formats/csv-semicolon.csv": ("csv semicolon", "Company: Dominguez;Mcmillan and Donovan"),
    "formats/csv-tab.csv": ("csv tab", "First Name: Roy | Last Name: Berry"),
    "formats/csv-too-many-columns.csv": ("csv too many columns", "1: a | 2: b | 3: c | 4: d | e"),
    "formats/eml_with_attachment.eml": ("Email with Attachment", "It contains some dummy content."),
    "formats/equations.docx": ("equations", "First item with inline equation: A=πr^2 is the area formula."),
    "formats/habibi-arabic.pdf": ("habibi", "habibi"),
    "formats/msg_with_attachment.msg": (
        "Email with Attachment",
        "its attachment report.pdf was not read: not a readable PDF file",
    ),
    "formats/multicolumn.pdf": (
        "Two-Column Document with Lorem Ipsum",
        "consectetuer adipiscing elit. Ut purus elit, vestibulum ut",
    ),
    "formats/nested.md": ("Nesting", "- abc12345"),
    "formats/odf_presentation_01.odp": ("Test Table Slide", "R2 | Class1 C: True | Class2 A: False"),
    "formats/odf_table_with_title_01.ods": ("odf table with title 01", "Year: 2020 | Freshwater Ducks: 135"),
    "formats/powerpoint_bad_text.pptx": ("X-Library The fully customisable", "X-Library"),
    "formats/powerpoint_sample.pptx": ("Test Table Slide", "R2 | Class1 C: True | Class2 A: False"),
    "formats/powerpoint_with_image.pptx": ("Docling", "Image test"),
    "formats/purvis-poetry.epub": ("Poetry", "The cold storms of winter shall chill him no more,"),
    "formats/repair-invoice-multipage.pdf": ("ZAVA AUTO REPAIR", "Email gabriel@contoso.com"),
    "formats/table_06.html": ("Header", "This is the first paragraph."),
    "formats/test_outlook_msg.msg": ("Test Email Message", "From: M. C. Kurtuluş <muratcan.kurtulus@gmail.com>"),
    "formats/textbox.docx": ("textbox", "A report must be submitted within 24 hours"),
    "formats/word_sample.docx": ("Swimming in the lake", "Food: Ash, Elm, Maple | Calories per portion: 50"),
    "formats/xlsx_01.xlsx": ("xlsx 01", "first: 6 | second: 0 | third: -6"),
    "handbook-18f/about-us/org-chart.md": (EmptyError, "no text"),
}


@needs_shared
@pytest.mark.parametrize("folder", sorted({name.partition("/")[0] for name in FILES}))
def test_every_real_file_gives_a_document_or_says_why_not(folder: str) -> None:
    for name in FILES:
        if name.partition("/")[0] == folder:
            try:
                found = read(DOCS / name, (DOCS / name).read_bytes())
            except (UnreadableError, SkippedError, EmptyError) as error:
                assert str(error)
            else:
                assert found.title and found.blocks and all(block.text.strip() for block in found.blocks)


@needs_shared
@pytest.mark.parametrize("name", OUTCOMES)
def test_a_real_file_reads_as_a_person_would_read_it(name: str) -> None:
    outcome, words = OUTCOMES[name]
    try:
        found = read(DOCS / name, (DOCS / name).read_bytes())
    except (UnreadableError, SkippedError, EmptyError) as error:
        assert type(error) is outcome and words in str(error)
    else:
        assert found.title.startswith(str(outcome)) and any(
            words in text for text in (*(block.text for block in found.blocks), *found.notes)
        )


PAIRS = [path for path in sorted(DOCS.glob("encodings/cpython/*.txt")) if not path.stem.endswith("-utf8")]


@needs_shared
@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_a_file_in_another_encoding_reads_like_its_twin_in_utf8(path: Path) -> None:
    if path.stem == "big5hkscs":
        pytest.xfail("23 bytes, ten characters: no detector tells them")
    assert read(path, path.read_bytes()).blocks == read(path, path.with_name(f"{path.stem}-utf8.txt").read_bytes()).blocks


@needs_shared
@pytest.mark.parametrize("path", sorted(DOCS.glob("encodings/zh-gb18030/*.md")), ids=lambda path: path.stem)
def test_a_page_in_gb18030_reads_like_its_original_in_utf8(path: Path) -> None:
    original = next((DOCS / "handbook-java-zh").rglob(path.name))
    assert read(path, path.read_bytes()) == read(original, original.read_bytes())


def laid_out(*pages: list[tuple[float, float, str]]) -> bytes:
    """Return a PDF with words at places of each page, millimetres from the left and from the top."""
    pdf = fpdf.FPDF()
    pdf.set_auto_page_break(False)
    for page in pages:
        pdf.add_page()
        pdf.set_font("Helvetica", size=11)
        for x, y, text in page:
            pdf.text(x, y, text)
    return bytes(pdf.output())


class TestPdf:
    def test_a_line_that_is_only_a_number_is_stored(self) -> None:
        lines = ["Ambulance and fire", "112", "Works guard", "1450", "Open", "24/7", "Founded in", "1987"]
        found = texts("a.pdf", laid_out([(20, 40 + 8 * i, line) for i, line in enumerate(lines)]))
        assert " ".join(found) == " ".join(lines)

    def test_numbers_that_count_the_pages_are_left_out_and_others_are_not(self) -> None:
        def pages(*numbers: int) -> str:
            said = ["The gate is open.", "Bring a key along.", "Nobody works at night."]
            body = [[(20, 40, text), (20, 46, text[::-1]), (100, 285, str(n))] for text, n in zip(said, numbers, strict=True)]
            return " ".join(texts("a.pdf", laid_out(*body)))

        assert not re.search(r"\d", pages(4, 5, 6))
        assert re.findall(r"\d+", pages(31, 40, 12)) == ["31", "40", "12"]

    def test_heads_and_feet_of_several_lines_and_of_odd_and_even_pages_are_left_out(self) -> None:
        pages = []
        for n in range(1, 7):
            words = [f"Rule {n}.{i}: part {n * 10 + i} is measured on every shift" for i in range(8)]
            body = [(20.0, 40.0 + 6 * i, line) for i, line in enumerate(words)]
            head = [(20.0, 15.0, "Helios Works, Quality"), (20.0, 19.0, "Confidential, do not copy")]
            pages.append([*head, *body, (20.0, 285.0, f"Section {'AB'[n % 2]}, {'left' if n % 2 else 'right'} page {n}")])
        text = " ".join(texts("a.pdf", laid_out(*pages)))
        assert "Helios" not in text and "Confidential" not in text and "page" not in text
        assert all(f"Rule {n}.{i}" in text for n in range(1, 7) for i in range(8))

    def test_a_page_that_is_there_twice_is_stored_twice(self) -> None:
        page = [(20.0, 40.0, "The lift is closed."), (20.0, 60.0, "Use the stairs.")]
        assert " ".join(texts("a.pdf", laid_out(page, page))).count("Use the stairs.") == 2

    def test_columns_drawn_one_after_the_other_are_rows_where_one_is_numbers(self) -> None:
        columns = [("Article", "Hinges", "Locks", "Screws"), ("Pieces", "120", "14", "9800")]
        placed = [(20.0 + 80 * x, 40.0 + 6 * y, cell) for x, column in enumerate(columns) for y, cell in enumerate(column)]
        rows = ["Article: Hinges | Pieces: 120", "Article: Locks | Pieces: 14", "Article: Screws | Pieces: 9800"]
        assert texts("a.pdf", laid_out(placed), "row") == rows
        prose = [
            ("He came to the gate", "and rang the bell", "until they opened"),
            ("She was at home", "all day long", "and heard it"),
        ]
        placed = [(20.0 + 80 * x, 40.0 + 6 * y, line) for x, column in enumerate(prose) for y, line in enumerate(column)]
        assert " ".join(texts("a.pdf", laid_out(placed))) == " ".join(line for column in prose for line in column)

    def test_two_columns_drawn_line_by_line_are_read_one_after_the_other(self) -> None:
        left = ["The committee reviewed the annual", "report in March and asked the", "auditor to explain the rise in"]
        left += ["transport costs before any vote", "could be held by the members."]
        right = ["New members pay a joining fee of", "sixty euros, which is returned", "after two years if they have"]
        right += ["attended at least half of the", "meetings held in that time."]

        def beside(one: list[str], other: list[str]) -> bytes:
            return laid_out([(x, 40.0 + 5 * y, lines[y]) for y in range(5) for x, lines in ((20.0, one), (115.0, other))])

        assert " ".join(texts("a.pdf", beside(left, right))) == " ".join((*left, *right))
        # Two columns of a table stay rows.
        prices = [f"{n * 7} EUR and {n} cents a piece, {n} pieces" for n in range(5)]
        assert " ".join(texts("a.pdf", beside(left, prices))).startswith(f"{left[0]} {prices[0]}")

    def test_a_stamp_on_a_scan_is_no_text_of_it(self) -> None:
        pdf = fpdf.FPDF()
        for _ in range(3):
            pdf.add_page()
            pdf.image(picture(), x=0, y=0, w=210, h=250)
            pdf.set_font("Helvetica", size=8)
            pdf.text(20, 290, "Scanned with a telephone")
        with pytest.raises(EmptyError, match="only images of text"):
            document("a.pdf", bytes(pdf.output()))

    @pytest.mark.parametrize(
        ("left", "right", "known", "whole"),
        [
            ("trans", "portation", "", "transportation"),
            ("well", "known", "", "well-known"),
            ("well", "ness", "", "wellness"),
            ("e", "mail", "", "e-mail"),
            ("re", "entry", "", "re-entry"),
            ("twenty", "four", "", "twenty-four"),
            ("Müller", "Weg", "", "Müller-Weg"),
            ("Nord", "und Südtor", "", "Nord- und Südtor"),
            ("long", "term", "a long-term plan", "long-term"),
            ("self", "service", "selfservice", "selfservice"),
        ],
    )
    def test_a_hyphen_at_the_end_of_a_line_stays_where_it_is_the_words_own(
        self, left: str, right: str, known: str, whole: str
    ) -> None:
        from ingest.readers.pdf_text import join_lines

        assert join_lines(iter([f"a {left}-", f"{right} b"]), set(known.split())) == f"a {whole} b"
        if " " not in whole:
            assert join_lines(iter([f"a {left}\ufffe{right} b"]), set(known.split())) == f"a {whole} b"

    @pytest.mark.parametrize(
        "title", ["untitled", "(anonymous)", "Microsoft Word - Dokument1", "Slide 1", "report.indd", "无标题"]
    )
    def test_a_title_that_a_program_made_up_gives_way_to_the_heading(self, title: str) -> None:
        pdf = fpdf.FPDF()
        pdf.set_title(title)
        pdf.add_page()
        pdf.set_font("Helvetica", size=24)
        pdf.multi_cell(0, text="Crane rules", new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("Helvetica", size=11)
        pdf.multi_cell(0, text="Lift at most four tonnes, and never over people.", new_x="LMARGIN", new_y="NEXT")
        assert document("a.pdf", bytes(pdf.output())).title == "Crane rules"

    def test_a_title_that_only_names_a_program_stays(self) -> None:
        pdf = fpdf.FPDF()
        pdf.set_title("Excel for beginners")
        pdf.add_page()
        pdf.set_font("Helvetica", size=11)
        pdf.multi_cell(0, text="Open a sheet.")
        assert document("a.pdf", bytes(pdf.output())).title == "Excel for beginners"

    def test_pages_that_hold_pictures_alone_are_noted(self) -> None:
        pdf = fpdf.FPDF()
        for n in range(3):
            pdf.add_page()
            pdf.set_font("Helvetica", size=11)
            if n == 0:
                pdf.multi_cell(0, text="The tariff is on the next pages.")
            else:
                pdf.image(picture(), w=100)
        found = document("a.pdf", bytes(pdf.output()))
        assert "pages 2, 3 hold pictures and no text" in found.notes[0] and "ocrmypdf" in found.notes[0]

    @pytest.mark.parametrize("drawn", ["CBA", "A B C"], ids=["from the left", "one by one from the right"])
    def test_words_from_right_to_left_are_stored_as_they_are_read(self, drawn: str) -> None:
        # Signs of Helvetica that say they are Arabic letters; one is two of them, lam and alef.
        letters = (
            "1 begincodespacerange <00> <FF> endcodespacerange 3 beginbfchar <41> <0633> <42> <06440627> <43> <0645> endbfchar"
        )
        cmap = f"/CIDInit /ProcSet findresource begin 12 dict begin begincmap {letters} endcmap end end"
        places = {"CBA": "100 700 Td (CBA) Tj", "A B C": "130 700 Td (A) Tj -10 0 Td (B) Tj -10 0 Td (C) Tj"}
        content = f"BT /F1 12 Tf {places[drawn]} ET"
        objects = [
            "<< /Type /Catalog /Pages 2 0 R >>",
            "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 5 0 R /Resources << /Font << /F1 4 0 R >> >> >>",
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>",
            f"<< /Length {len(content)} >> stream\n{content}\nendstream",
            f"<< /Length {len(cmap)} >> stream\n{cmap}\nendstream",
        ]
        body = "".join(f"{n} 0 obj {text} endobj\n" for n, text in enumerate(objects, 1))
        assert texts("a.pdf", f"%PDF-1.4\n{body}trailer << /Root 1 0 R >>\n%%EOF") == ["سلام"]

    def test_letters_beyond_the_first_plane_are_counted_as_pdfium_does(self) -> None:
        from ingest.readers.pdf_page import _clean, units

        assert len(units("𝟘𝟘 ab")) == 7 and units("日 ab") == "日 ab"
        assert _clean(units("𝟘𝟘 ab")) == "𝟘𝟘 ab"

    def test_what_is_attached_to_a_pdf_is_noted(self) -> None:
        pdf = fpdf.FPDF()
        pdf.add_page()
        pdf.set_font("Helvetica", size=11)
        pdf.multi_cell(0, text="The prices are in the table attached.")
        for name in ("prices.xlsx", "terms.txt"):
            pdf.embed_file(basename=name, bytes=b"x")
        assert document("a.pdf", bytes(pdf.output())).notes == ("its attachments prices.xlsx, terms.txt were not read",)

    def test_fonts_that_name_no_letters_are_told(self) -> None:
        from ingest.readers import pdf as reader

        assert len(re.findall(reader._UNMAPPED, "\ue001\uf8ff\ufffda")) == 3


def picture() -> io.BytesIO:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), "grey").save(out, "PNG")
    out.seek(0)
    return out


class TestTables:
    @pytest.mark.parametrize(
        ("rows", "stored"),
        [
            ("Machine|Press 4\nBuilt|2019\nMax. load|12 t", "Machine: Press 4\nBuilt: 2019\nMax. load: 12 t"),
            ("Name|Ann\nBorn|1984\nOffice|Bonn", "Name: Ann\nBorn: 1984\nOffice: Bonn"),
            ("Name:|Ann\nOffice:|Bonn", "Name: Ann\nOffice: Bonn"),
            ("Name:|Ann|Born:|1984\nOffice:|Bonn|Room:|14", "Name: Ann | Born: 1984\nOffice: Bonn | Room: 14"),
            (
                "Country|Dinner\nFrance|32 EUR\nSpain|28 EUR",
                "Country: France | Dinner: 32 EUR\nCountry: Spain | Dinner: 28 EUR",
            ),
            ("Site|Manager\nJena|Ms Ito", "Site: Jena | Manager: Ms Ito"),
            ("Jena|120|north\nUlm|14|south", "Jena | 120 | north\nUlm | 14 | south"),
            ("Sales|2019|2020\nHinges|120|130", "Sales: Hinges | 2019: 120 | 2020: 130"),
            ("Type|Platform|Notes\nCalls||loud\nMail||", "Type | Platform | Notes\nType: Calls | Notes: loud\nType: Mail"),
        ],
        ids=[
            "labels",
            "a form",
            "colons",
            "four columns",
            "a header",
            "a header of words",
            "no header",
            "a header of years",
            "an empty column",
        ],
    )
    def test_cells_tell_whether_there_is_a_header(self, rows: str, stored: str) -> None:
        assert "\n".join(block.text for block in table_rows([row.split("|") for row in rows.split("\n")])) == stored

    def test_a_marked_header_is_one_whatever_it_says(self) -> None:
        html = "<table><thead><tr><th>7</th><th>8</th></tr></thead><tr><td>1</td><td>2</td></tr></table>"
        assert texts("a.html", html) == ["7: 1 | 8: 2"]


class TestContainers:
    def test_a_notebook_is_its_text_its_code_and_what_it_printed(self) -> None:
        cells = [
            {"cell_type": "markdown", "source": ["# Yield study\n", "\n", "By line."]},
            {
                "cell_type": "code",
                "source": "print(7)",
                "outputs": [
                    {"output_type": "stream", "text": ["\x1b[31m7\x1b[0m\n"]},
                    {"output_type": "display_data", "data": {"image/png": "aahkgPoZ", "text/plain": ["<Figure>"]}},
                    {"output_type": "error", "ename": "E", "evalue": "no such line", "traceback": ["x"]},
                ],
            },
        ]
        content = json.dumps({"nbformat": 4, "metadata": {}, "cells": cells})
        found = document("a.ipynb", content)
        assert found.title == "Yield study"
        assert [block.text for block in found.blocks] == [
            "Yield study",
            "By line.",
            "print(7)",
            "7",
            "<Figure>",
            "no such line",
        ]
        with pytest.raises(UnreadableError, match="not a readable notebook"):
            document("a.ipynb", "{}")

    def test_a_mailbox_is_all_of_its_messages(self) -> None:
        mails = []
        for n in range(3):
            message = EmailMessage()
            message["From"], message["Subject"] = f"u{n}@x.example", f"Topic {n}"
            message.set_content(f"Depot {n} is closed für immer.\n\nFrom there on walk.", cte="base64")
            mails.append(b"From u@x.example Mon May  4 10:00:00 2026\n" + message.as_bytes() + b"\n")
        for name in ("a.mbox", "a.txt"):
            found = document(name, b"".join(mails))
            assert [block.text for block in found.blocks if block.kind == "heading"] == ["Topic 0", "Topic 1", "Topic 2"]
            assert "Depot 2 is closed für immer." in [block.text for block in found.blocks]

    def test_a_saved_web_page_is_the_page(self) -> None:
        message = EmailMessage()
        message["Subject"] = "Gate"
        message.set_content("<html><body><h1>Gate</h1><p>Open at noon.</p></body></html>", subtype="html")
        message.add_related(b"png", maintype="image", subtype="png")
        assert texts("a.mhtml", message.as_bytes()) == ["Gate", "Open at noon."]

    def test_subtitles_are_what_is_said(self) -> None:
        srt = "1\n00:00:01,000 --> 00:00:02,500\n<i>The gate</i>\n\n2\n00:00:02,600 --> 00:00:04,000\nopens at noon.\n\n"
        srt += "3\n00:01:00,000 --> 00:01:02,000\n{\\an8}Bring the key.\n"
        assert texts("a.srt", srt) == ["The gate opens at noon.", "Bring the key."]
        vtt = "WEBVTT\n\nNOTE by Ann\n\nSTYLE\n::cue { color: red }\n\n00:01.000 --> 00:02.000 align:left\n<v Ann>Hello.\n"
        assert texts("a.vtt", vtt) == ["Hello."]

    def test_colours_of_a_terminal_are_no_text(self) -> None:
        assert texts("a.log", "\x1b[1;31mERROR\x1b[0m gate \x1b]0;title\x07open\n") == ["ERROR gate open"]

    def test_json_with_comments_is_read(self) -> None:
        text = '{\n // the port\n "port": 8812, /* and\n the host */ "url": "http://gate // 7", "list": [1, 2,],\n}'
        assert texts("a.json", text)[0] == "port: 8812 | url: http://gate // 7"

    def test_yaml_stands_under_its_keys_with_its_comments(self) -> None:
        source = (
            "# The image\nimage:\n  tag: 1.4 # fixed\nservice:\n- name: web\n  port: 8080\n  about: |\n"
            + "".join(f"    Line {n} of a long text that explains what the service is for.\n" for n in range(12))
            + "# The interface\n- name: api\n  port: 9090\ntimeouts: {connect: 3}\nretries: 5\n"
        )
        found = document("values.yaml", source).blocks
        headings = [(block.level, block.text) for block in found if block.kind == "heading"]
        assert headings == [
            (2, "image"), (2, "service"), (3, "name: web"), (4, "port"), (4, "about"), (3, "name: api"),
            (2, "timeouts, retries"),
        ]  # fmt: skip
        assert found[1].text == "# The image\nimage:\n  tag: 1.4 # fixed"
        assert "\n".join(block.text for block in found).count("Line 11 of") == 1
        assert found[-3].text == "# The interface\n- name: api\n  port: 9090"

    def test_comments_and_odd_lines_of_yaml_are_kept(self) -> None:
        long = "".join(f"  key{n}: some value of it\n" for n in range(30))
        for source in (f"services:\n{long}# end of file\n", f"services:\n{long}# TODO\n{long}", "# only\n# comments\n"):
            stored = "\n".join(texts("a.yaml", source))
            assert all(line.strip(" :") in stored for line in source.splitlines())
        for first in ("command: cat 4713 file |", "steps: # never skip 4714:", "x: &anchor4715 |", '"a: b 4716":'):
            stored = "\n".join(texts("a.yaml", f"{first}\n{long}other: 1\n"))
            assert re.search(r"471\d", first)[0] in stored  # type: ignore[index]

    def test_a_bad_line_of_json_lines_is_noted_and_the_others_are_stored(self) -> None:
        found = document("a.jsonl", '{"a": 1}\n{"a": "open\n{"a": 3}\n')
        assert [block.text for block in found.blocks] == ["a: 1", "a: 3"] and found.notes[0].startswith(
            "line 2 is not valid JSON"
        )
        many = document("a.jsonl", '{"a": 1}\n' + "x\n" * 9)
        assert len(many.notes) == 6 and many.notes[-1] == "4 more lines are not valid JSON"
        with pytest.raises(UnreadableError, match="line 1 is not valid JSON"):
            document("a.jsonl", "x\ny\n")

    def test_a_quote_that_does_not_end_swallows_no_rows(self) -> None:
        rows = ["Article,Note,Stock", 'Pipe,"best seller,7', *(f"Tube {n},plain,{n}" for n in range(9))]
        stored = texts("a.csv", "\n".join(rows))
        assert len(stored) == 10 and stored[1] == "Article: Tube 0 | Note: plain | Stock: 0"
        assert texts("a.csv", 'Article,Note\nPipe,"two\nlines"\nTube,x\n')[0] == "Article: Pipe | Note: two lines"
        assert texts("a.csv", "sep=;\r\nA;B\r\n1,5;2\r\n") == ["A: 1,5 | B: 2"]

    def test_a_workbook_of_excel_2003_is_a_table(self) -> None:
        cells = [("Name", "Depot"), ("Ivo", "Graz")]
        row = "<Row><Cell><Data>{}</Data></Cell><Cell ss:Index='3'><Data>{}</Data></Cell></Row>"
        named = "urn:schemas-microsoft-com:office:spreadsheet"
        table = f"<Table>{''.join(row.format(*pair) for pair in cells)}</Table>"
        xml = f'<?xml version="1.0"?><Workbook xmlns="{named}" xmlns:ss="{named}">'
        xml += f'<Worksheet ss:Name="Depots">{table}</Worksheet></Workbook>'
        assert texts("a.xls", xml) == ["Depots", "Name: Ivo | Depot: Graz"]

    def test_headers_of_mail_in_chinese_are_read_however_they_are_written(self) -> None:
        raw = "Subject: 会议改期通知，请各部门准时参加\nFrom: a@x.example\n\nText.".encode("gb18030")
        assert document("a.eml", raw).title == "会议改期通知，请各部门准时参加"
        whole = "会议改期".encode("gb18030")
        parts = [base64.b64encode(part).decode() for part in (whole[:3], whole[3:])]
        words = "\n ".join(f"=?gb18030?B?{part}?=" for part in parts)
        assert document("a.eml", f"Subject: {words}\nFrom: a@x.example\n\nText.").title == "会议改期"
        assert document("a.eml", "Subject: Hello\nFrom: a@x.example\n\nText.".encode("utf-16")).title == "Hello"


def word_file(change: Callable[[Any], object]) -> bytes:
    """Return a Word file with what a test puts in."""
    word, out = docx.Document(), io.BytesIO()
    change(word)
    word.save(out)
    return out.getvalue()


WORD_NAMES = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    'xmlns:w14="http://schemas.microsoft.com/office/word/2010/wordml"'
)


LETTERS_FROM_26 = '<w:lvl w:ilvl="0"><w:start w:val="26"/><w:numFmt w:val="lowerLetter"/><w:lvlText w:val="(%1)"/></w:lvl>'


class TestWord:
    def test_steps_keep_their_numbers(self) -> None:
        def change(word: Any) -> None:
            for step in ("Check the oil", "Close the hatch", "Open the drain"):
                word.add_paragraph(step, style="List Number")

        assert texts("a.docx", word_file(change)) == ["1. Check the oil", "2. Close the hatch", "3. Open the drain"]

    def test_headings_clauses_and_steps_have_the_numbers_that_word_counts(self) -> None:
        def level(n: int, kind: str, text: str, style: str = "") -> str:
            linked = f'<w:pStyle w:val="{style}"/>' if style else ""
            start = f'<w:start w:val="1"/><w:numFmt w:val="{kind}"/>{linked}<w:lvlText w:val="{text}"/>'
            return f'<w:lvl w:ilvl="{n}">{start}</w:lvl>'

        def change(word: Any) -> None:
            numbering = word.part.numbering_part.element
            clauses = level(0, "decimal", "Article %1") + level(1, "decimal", "%1.%2") + level(2, "lowerLetter", "(%3)")
            headings = level(0, "decimal", "%1", "Heading1") + level(1, "decimal", "%1.%2", "Heading2")
            for number, levels in ((90, clauses), (91, headings)):
                numbering.insert(
                    0, parse_xml(f'<w:abstractNum {WORD_NAMES} w:abstractNumId="{number}">{levels}</w:abstractNum>')
                )
                own = f'<w:num {WORD_NAMES} w:numId="{number}"><w:abstractNumId w:val="{number}"/></w:num>'
                numbering.append(parse_xml(own))
            again = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="7"/></w:lvlOverride>'
            numbering.append(parse_xml(f'<w:num {WORD_NAMES} w:numId="92"><w:abstractNumId w:val="90"/>{again}</w:num>'))
            for style in ("Heading 1", "Heading 2"):
                own = f'<w:numPr {WORD_NAMES}><w:numId w:val="91"/></w:numPr>'
                word.styles[style].element.get_or_add_pPr().append(parse_xml(own))
            for name, depth in (("Aims", 1), ("Duties", 1), ("Managers", 2)):
                word.add_heading(name, depth)
            clauses_of = [
                ("Scope", 0, 90),
                ("guests", 1, 90),
                ("minors", 2, 90),
                ("pets", 2, 90),
                ("Duties", 0, 90),
                ("", -1, 0),
            ]
            for text, depth, number in [*clauses_of, ("sign", 1, 90), ("End", 0, 92)]:
                paragraph = word.add_paragraph(text or "Plain between.")
                if text:
                    own = f'<w:numPr {WORD_NAMES}><w:ilvl w:val="{depth}"/><w:numId w:val="{number}"/></w:numPr>'
                    paragraph._p.get_or_add_pPr().append(parse_xml(own))

        assert texts("a.docx", word_file(change)) == [
            "1 Aims", "2 Duties", "2.1 Managers",
            "Article 1 Scope", "1.1 guests", "(a) minors", "(b) pets", "Article 2 Duties", "Plain between.", "2.1 sign",
            "Article 7 End",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("levels", "override", "shown"),
        [
            ([("lowerLetter", "%1)")], "", ["a)", "b)", "c)"]),
            ([("decimal", "%1.")], LETTERS_FROM_26, ["(z)", "(aa)", "(bb)"]),
            ([("upperRoman", "%1.")], '<w:startOverride w:val="39"/>', ["XXXIX.", "XL.", "XLI."]),
            ([("decimalZero", "%1")], "", ["01", "02", "03"]),
            ([("ordinal", "%1")], '<w:startOverride w:val="11"/>', ["11th", "12th", "13th"]),
            ([("chineseCountingThousand", "%1、")], '<w:startOverride w:val="9"/>', ["九、", "十、", "十一、"]),
            ([("none", "Note:")], "", ["Note:", "Note:", "Note:"]),
        ],
        ids=["letters", "another level", "roman", "with a zero", "ordinal", "Chinese", "words"],
    )  # fmt: skip
    def test_numbers_are_written_as_word_writes_them(
        self, levels: list[tuple[str, str]], override: str, shown: list[str]
    ) -> None:
        def change(word: Any) -> None:
            inside = "".join(
                f'<w:lvl w:ilvl="{n}"><w:start w:val="1"/><w:numFmt w:val="{kind}"/><w:lvlText w:val="{text}"/></w:lvl>'
                for n, (kind, text) in enumerate(levels)
            )
            numbering = word.part.numbering_part.element
            numbering.insert(0, parse_xml(f'<w:abstractNum {WORD_NAMES} w:abstractNumId="90">{inside}</w:abstractNum>'))
            other = f'<w:lvlOverride w:ilvl="0">{override}</w:lvlOverride>' if override else ""
            numbering.append(parse_xml(f'<w:num {WORD_NAMES} w:numId="90"><w:abstractNumId w:val="90"/>{other}</w:num>'))
            for name in ("one", "two", "three"):
                own = f'<w:numPr {WORD_NAMES}><w:ilvl w:val="0"/><w:numId w:val="90"/></w:numPr>'
                word.add_paragraph(name)._p.get_or_add_pPr().append(parse_xml(own))

        names = ("one", "two", "three")
        assert texts("a.docx", word_file(change)) == [f"{mark} {name}" for mark, name in zip(shown, names, strict=True)]

    def test_what_is_deleted_is_gone_and_comments_are_noted(self) -> None:
        def change(word: Any) -> None:
            first = word.add_paragraph("The tariff is ")
            gone = f"<w:del {WORD_NAMES}><w:r><w:delText>30</w:delText></w:r></w:del>"
            first._p.append(parse_xml(gone))
            first._p.get_or_add_pPr().append(parse_xml(f"<w:rPr {WORD_NAMES}><w:del/></w:rPr>"))
            word.add_paragraph("32 EUR.")
            word.add_comment(word.add_paragraph("Paid monthly.").runs, "Is that so?", "Kim")

        found = document("a.docx", word_file(change))
        assert [block.text for block in found.blocks] == ["The tariff is 32 EUR.", "Paid monthly."]
        assert found.notes == ("1 comment was not read",)

    def test_old_files_are_read(self) -> None:
        found = document("a.doc", old_office_files.doc("Travel rules\rKeep receipts for 30 days.\rFünf Räume – 北京.\r"))
        assert [block.text for block in found.blocks] == ["Travel rules", "Keep receipts for 30 days.", "Fünf Räume – 北京."]
        assert document("a.ppt", old_office_files.ppt([[(0, "Charts")]], 2)).notes == ("2 embedded objects were not read",)
        deck = old_office_files.ppt(
            [[(0, "Dosing"), (1, "Open the tap\rAdd 5 ml")], [(0, "Storage"), (1, "Keep at 2 °C 北京")]]
        )
        assert [(block.kind, block.text, block.page) for block in document("a.ppt", deck).blocks] == [
            ("heading", "Dosing", 1), ("paragraph", "Open the tap", 1), ("paragraph", "Add 5 ml", 1),
            ("heading", "Storage", 2), ("paragraph", "Keep at 2 °C 北京", 2),
        ]  # fmt: skip

    def test_heads_and_feet_are_stored_once(self) -> None:
        def change(word: Any) -> None:
            word.sections[0].header.paragraphs[0].text = "AZ 4711/23"
            word.sections[0].footer.paragraphs[0].text = "Page 7 of 9"
            word.add_paragraph("Every gauge is checked.")

        assert texts("a.docx", word_file(change)) == ["AZ 4711/23", "Every gauge is checked."]

    def test_hidden_text_is_none_and_fields_and_boxes_are(self) -> None:
        def change(word: Any) -> None:
            paragraph = word.add_paragraph("Write to desk 5.")
            paragraph.add_run(" internal 999").font.hidden = True
            field = f'<w:fldSimple {WORD_NAMES} w:instr=" PAGEREF x "><w:r><w:t> See page 12.</w:t></w:r></w:fldSimple>'
            paragraph._p.append(parse_xml(field))
            for checked, mark in ((1, "☒"), (0, "☐")):
                box = f'<w:sdtPr><w14:checkbox><w14:checked w14:val="{checked}"/></w14:checkbox></w:sdtPr>'
                box += f"<w:sdtContent><w:r><w:t>{mark}</w:t></w:r></w:sdtContent>"
                word.add_paragraph()._p.append(parse_xml(f"<w:sdt {WORD_NAMES}>{box}</w:sdt>"))

        assert texts("a.docx", word_file(change)) == ["Write to desk 5. See page 12.", "☒", "☐"]

    def test_a_main_part_of_another_name_is_read(self) -> None:
        whole = io.BytesIO()
        file = io.BytesIO(word_file(lambda word: word.add_paragraph("Return the badge.")))
        with zipfile.ZipFile(file) as package, zipfile.ZipFile(whole, "w") as other:
            for name in package.namelist():
                text = package.read(name)
                if name.endswith((".rels", "[Content_Types].xml")):
                    text = text.replace(b"word/document.xml", b"word/document2.xml")
                other.writestr(name.replace("document.xml", "document2.xml"), text)
        assert texts("a.docx", whole.getvalue()) == ["Return the badge."]


class TestSheets:
    def test_a_cell_far_from_the_others_is_noted_and_the_others_are_read(self) -> None:
        book, out = openpyxl.Workbook(), io.BytesIO()
        sheet = book.active
        for row in (["Part", "Stock"], ["Seal", "few"], ["Ring", "many"]):
            sheet.append(row)
        sheet["XFD1048576"] = "x"
        sheet["ZZ2"] = "y"
        book.save(out)
        found = document("a.xlsx", out.getvalue())
        assert [block.text for block in found.blocks][1:] == ["Part: Seal | Stock: few", "Part: Ring | Stock: many"]
        assert found.notes == ("cells far from the others were not read: XFD1048576, ZZ2",)

    def test_cells_are_what_excel_shows(self) -> None:
        book, out = openpyxl.Workbook(), io.BytesIO()
        sheet = book.active
        cells = [
            ("Growth", 0.075, "0.0%", "7.5%"),
            ("Share", 0.5, "0%", "50%"),
            ("Cost centre", 42, "0000", "0042"),
            ("Machine hours", 1.510416666666667, "[h]:mm", "36:15"),
            ("To the second", 1.5107638888888889, "[h]:mm:ss", "36:15:30"),
            ("Loss or gain", 0.25, "0.0%;[Red]-0.00%", "25.0%"),
            ("Serial", 4711000011112222, "0", "4711000011112222"),
            ("Sum", "=SUM(B2:B4)", "General", "=SUM(B2:B4)"),
            ("Missing", "#N/A", "General", "#N/A"),
            ("Stamp", datetime.datetime(2026, 3, 15, 23, 59, 59), "yyyy-mm-dd hh:mm:ss", "2026-03-15 23:59:59"),
            ("Plain", 12.5, "General", "12.5"),
            ("Price", 1250.5, '#,##0.00 "€"', "1250.50 €"),
            ("Price in Germany", 1250.5, "#,##0.00\\ [$€-407]", "1250.50 €"),
            ("Price in books", 1250.5, '_-* #,##0.00 "€"_-;-* #,##0.00 "€"_-', "1250.50 €"),
            ("Price there", -12, "$#,##0.00", "-$12.00"),
            ("A quoted percent sign", 7.5, '0.0"%"', "7.5%"),
            ("A share in words", 0.075, '0.0% "of sales"', "7.5% of sales"),
            ("By size", 5, '[<1]0.0" g";0" kg"', "5 kg"),
            ("By colour and size", 5, '[Red][>100]0" over";0" ok"', "5 ok"),
            ("By sign", -500, '"Profit "0;"Loss "0', "Loss 500"),
            ("Nothing", 0, '0.00 "€";-0.00 "€";"free"', "free"),
            ("Below zero", -5, "0000", "-0005"),
            ("Weight", 12.345, '0.0 "kg"', "12.3 kg"),
            ("Sales", 12_300_000, '#,##0.0,," Mio."', "12.3 Mio."),
            ("Day", datetime.date(2026, 3, 15), "dd.mm.yyyy", "2026-03-15"),
        ]
        sheet.append(["Kind", "Value"])
        for name, value, code, _ in cells:
            sheet.append([name, value])
            sheet.cell(sheet.max_row, 2).number_format = code
        book.save(out)
        rows = [f"{name}: {said}" for name, _, _, said in cells]
        assert texts("a.xlsx", out.getvalue(), "row")[1:] == rows

    def test_sheets_of_excel_up_to_2003_are_shown_likewise(self) -> None:
        book, out = xlwt.Workbook(), io.BytesIO()
        sheet = book.add_sheet("Rates")
        cells = [
            ("Growth", 0.125, "0.0%", "12.5%"),
            ("Cost centre", 42, "0000", "0042"),
            ("Machine hours", 1.510416666666667, "[h]:mm", "36:15"),
            ("Price", 1250.5, '#,##0.00 "€"', "1250.50 €"),
            ("Day", datetime.date(2026, 3, 15), "DD.MM.YYYY", "2026-03-15"),
            ("Start", datetime.time(7, 30), "hh:mm", "07:30"),
            ("Open", True, "General", "True"),
            ("Plain", 12.5, "General", "12.5"),
            ("City", "Köln 北京", "General", "Köln 北京"),
        ]
        for x, name in enumerate(("Kind", "Value", "Secret")):
            sheet.write(0, x, name)
        for y, (name, value, code, _) in enumerate(cells, 1):
            sheet.write(y, 0, name)
            sheet.write(y, 1, value, xlwt.easyxf(num_format_str=code))
        sheet.write(1, 2, "no")
        sheet.col(2).hidden = True
        book.add_sheet("Old").write(0, 0, "x")
        book.get_sheet(1).visibility = 1
        book.save(out)
        found = document("a.xls", out.getvalue())
        assert [block.text for block in found.blocks] == [
            "Rates",
            *(f"Kind: {name} | Value: {said}" for name, _, _, said in cells),
        ]
        assert found.notes == ("sheet Old is hidden and was not read", "2 cells in hidden columns were not read")

    def test_comments_are_noted_and_odd_values_cost_no_file(self) -> None:
        book, out = openpyxl.Workbook(), io.BytesIO()
        book.active.append(["Part", "Stock"])
        book.active.append(["Seal", 14])
        book.active["B2"].comment = Comment("counted twice", "Kim")
        book.save(out)
        assert document("a.xlsx", out.getvalue()).notes == ("1 comment was not read",)
        old, out = xlwt.Workbook(), io.BytesIO()
        for y, value in enumerate((1e9, -1, 45_000)):
            old_sheet = old.add_sheet(f"S{y}")
            old_sheet.write(0, 0, "Day")
            old_sheet.write(0, 1, value, xlwt.easyxf(num_format_str="DD.MM.YYYY"))
        old.save(out)
        assert texts("a.xls", out.getvalue(), "row", "paragraph") == ["Day: 1000000000", "Day: -1", "Day: 2023-03-15"]

    def test_what_is_hidden_is_noted_and_not_read(self) -> None:
        book, out = openpyxl.Workbook(), io.BytesIO()
        sheet = book.active
        sheet.title = "Plan"
        for row in (["City", "Visits", "Note"], ["Kiel", "few", "ask Jo"], ["Ulm", "many", "x"], ["Bonn", "none", "y"]):
            sheet.append(row)
        sheet.column_dimensions["C"].hidden = True
        sheet.row_dimensions[4].hidden = True
        other = book.create_sheet("Salaries")
        other.append(["Ann", "91000"])
        other.sheet_state = "hidden"
        book.save(out)
        found = document("a.xlsx", out.getvalue())
        rows = ["City: Kiel | Visits: few", "City: Ulm | Visits: many", "City: Bonn | Visits: none"]
        assert [block.text for block in found.blocks] == ["Plan", *rows]
        assert found.notes == ("4 cells in hidden columns were not read", "sheet Salaries is hidden and was not read")


class TestSlides:
    def test_a_hidden_slide_is_noted_and_not_read(self) -> None:
        deck, out = pptx.Presentation(), io.BytesIO()
        for title, hidden in (("Dosing", False), ("Secret price", True)):
            slide = deck.slides.add_slide(deck.slide_layouts[5])
            slide.shapes.title.text = title
            if hidden:
                slide._element.set("show", "0")
        deck.save(out)
        found = document("a.pptx", out.getvalue())
        assert [block.text for block in found.blocks] == ["Dosing"] and found.notes == ("slide 2 is hidden and was not read",)

    def test_what_stands_above_comes_first_whatever_was_drawn_first(self) -> None:
        deck, out = pptx.Presentation(), io.BytesIO()
        slide = deck.slides.add_slide(deck.slide_layouts[6])
        for top, text in ((4, "Second step"), (1, "First step"), (6, "Third step")):
            slide.shapes.add_textbox(Inches(1), Inches(top), Inches(3), Inches(1)).text_frame.text = text
        deck.save(out)
        assert texts("a.pptx", out.getvalue(), "paragraph") == ["First step", "Second step", "Third step"]

    def test_counted_paragraphs_have_their_numbers_and_groups_are_read_from_the_top(self) -> None:
        deck, out = pptx.Presentation(), io.BytesIO()
        slide = deck.slides.add_slide(deck.slide_layouts[6])
        frame = slide.shapes.add_textbox(Inches(1), Inches(1), Inches(4), Inches(1)).text_frame
        frame.text = "Turn it off\nOpen it\nThe lid first"
        for paragraph, kind in zip(frame.paragraphs, ("arabicPeriod", "arabicPeriod", "alphaLcParenR"), strict=True):
            start = ' startAt="7"' if kind == "arabicPeriod" else ""
            names = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
            paragraph._p.get_or_add_pPr().append(pptx_parse_xml(f'<a:buAutoNum {names} type="{kind}"{start}/>'))
        frame.paragraphs[2].level = 1
        group = slide.shapes.add_group_shape()
        for n in (3, 1, 2):
            group.shapes.add_textbox(Inches(1), Inches(2 + n), Inches(2), Inches(0.4)).text_frame.text = f"box {n}"
        slide.shapes.add_ole_object(io.BytesIO(b"x"), "Excel.Sheet.8", Inches(5), Inches(5))
        deck.save(out)
        found = document("a.pptx", out.getvalue())
        told = ["Slide 1", "7. Turn it off", "8. Open it", "a) The lid first", "box 1", "box 2", "box 3"]
        assert [block.text for block in found.blocks] == told
        assert found.notes == ("1 embedded object was not read",)

    def test_what_is_there_in_two_ways_is_stored_once(self) -> None:
        deck, out = pptx.Presentation(), io.BytesIO()
        slide = deck.slides.add_slide(deck.slide_layouts[6])
        box = slide.shapes.add_textbox(Inches(1), Inches(1), Inches(3), Inches(1))
        box.text_frame.text = "Dose 5 ml"
        names = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
        both = parse_xml(f"<mc:AlternateContent {names}><mc:Choice Requires='a14'/><mc:Fallback/></mc:AlternateContent>")
        tree = box._element.getparent()
        both[1].append(copy.deepcopy(box._element))
        both[0].append(box._element)
        tree.append(both)
        deck.save(out)
        assert texts("a.pptx", out.getvalue(), "paragraph") == ["Dose 5 ml"]

    def test_points_of_a_chart_are_rows(self) -> None:
        data = XyChartData()
        series = data.add_series("Pressure")
        for x, y in ((1.5, 20), (2.5, 31)):
            series.add_data_point(x, y)
        deck, out = pptx.Presentation(), io.BytesIO()
        slide = deck.slides.add_slide(deck.slide_layouts[6])
        slide.shapes.add_chart(XL_CHART_TYPE.XY_SCATTER, 0, 0, Inches(4), Inches(3), data)
        deck.save(out)
        assert texts("a.pptx", out.getvalue(), "row") == ["1.5 | Pressure: 20", "2.5 | Pressure: 31"]
