"""PDF: its pages as text, what is filled into its forms and written on them, and what of it was not read."""

import ctypes
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from ingest.readers.document import Block, EmptyError, Read, UnreadableError, locked
from ingest.readers.ocr import CURRENT, listed
from ingest.readers.pdf_page import page_lines
from ingest.readers.pdf_tables import Table
from ingest.readers.pdf_text import MOST_RUNNING, text_blocks, without_running_lines
from rag_app.words import msg, nmsg

# It advises another build of itself for some forms.
logging.getLogger("pypdfium2").setLevel(logging.ERROR)


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
        attached = [pdf.get_attachment(n).get_name() for n in range(pdf.count_attachments())]
        pages = []
        beside: dict[int, list[Block]] = {}
        # Pages that are pictures, and pages in letters that cannot be told.
        scanned: list[int] = []
        strange: list[int] = []
        table: Table | None = None
        # The boxes of a form are ruled too.
        ruled = pdf.get_formtype() == pdfium.FORMTYPE_NONE
        if not ruled:
            pdf.init_forms()
        for number in range(1, len(pdf) + 1):
            page = pdf[number - 1]
            lines, table = page_lines(page, number, table, ruled=ruled)
            text = "".join(line.text for line in lines)
            if 2 * len(re.findall(_UNMAPPED, text)) > len(re.sub(r"\s", "", text)) > 0:
                strange.append(number)
                lines = []
            # A scan has no text, or what was stamped on it.
            elif len(lines) <= MOST_RUNNING and _is_scanned(page):
                scanned.append(number)
            pages.append(lines)
            beside[number] = list(_fields_and_comments(page, pdf.formenv, number))
        lines = without_running_lines(pages, scanned)
        read = {line.page for line in lines}
        scanned = [number for number in scanned if number not in read]
        ocr = CURRENT.get()
        if ocr:
            for number in sorted([*scanned, *strange]):
                beside[number] += ocr.page(number, partial(_picture, pdf[number - 1]))
    finally:
        pdf.close()
    if not lines and not any(beside.values()):
        if ocr:
            raise ocr.nothing()
        happened = msg("its fonts do not say which letters they show") if strange else msg("it has only images of text")
        raise EmptyError(happened, msg("set RAG_OCR_TIMEOUT=600, or run OCR on it first, e.g. `ocrmypdf IN OUT`"))
    blocks = list(text_blocks(lines))
    # What stands beside the text of a page comes after it.
    for number in sorted((number for number, found in beside.items() if found), reverse=True):
        at = next((i for i, block in enumerate(blocks) if (block.page or 0) > number), len(blocks))
        blocks[at:at] = beside[number]
    blocks += ocr.notes() if ocr else _unread(scanned, strange)
    if attached:
        names = ", ".join(attached[:5]) + (", …" if len(attached) > 5 else "")
        told = nmsg("its attachment {names} was not read", "its attachments {names} were not read", len(attached), names=names)
        blocks.append(Block("note", told))
    return "" if re.fullmatch(_NO_TITLE, title.strip(), re.I) or not re.search(r"\w{2}", title) else title, blocks


# Pixels to an inch that a page is drawn with for OCR, and the most along it: more is no better read.
DPI, MAX_SIDE = 200, 2400


def _picture(page: pypdfium2.PdfPage) -> Any:
    """Return a page as a picture of Pillow."""
    return page.render(scale=min(DPI / 72, MAX_SIDE / max(*page.get_size(), 1))).to_pil()


def _unread(scanned: Sequence[int], strange: Sequence[int]) -> Iterator[Block]:
    """Yield the notes on pages that OCR could read."""
    remedy = msg("set RAG_OCR_TIMEOUT=600, or run OCR on it first, e.g. `ocrmypdf --skip-text IN OUT`")
    if scanned:
        told = nmsg(
            "page {pages} holds pictures and no text: {remedy}",
            "pages {pages} hold pictures and no text: {remedy}",
            len(scanned),
            pages=listed(scanned),
            remedy=remedy,
        )
        yield Block("note", told)
    if strange:
        told = nmsg(
            "the fonts of page {pages} do not say which letters they show: {remedy}",
            "the fonts of pages {pages} do not say which letters they show: {remedy}",
            len(strange),
            pages=listed(strange),
            remedy=remedy,
        )
        yield Block("note", told)


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


def _is_scanned(page: pypdfium2.PdfPage) -> bool:
    """Say whether pictures cover half of a page, or it has a picture and no text."""
    covered = 0.0
    found = False
    for picture in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=3):
        left, bottom, right, top = picture.get_bounds()
        covered, found = covered + (right - left) * (top - bottom), True
    width, height = page.get_size()
    return found and (2 * covered > width * height or not page.get_textpage().count_chars())
