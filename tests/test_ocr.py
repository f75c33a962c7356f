"""OCR: scans and photographs are read, marked as such, within their time, and doubted where they are hard to read."""

import io
from dataclasses import replace
from pathlib import Path

import fpdf
import numpy as np
import pypdfium2
import pytest
from PIL import Image, ImageFilter

from ingest.beside import kind, page_picture
from ingest.chunk import chunks
from ingest.readers import ocr as room
from ingest.readers.document import Document, EmptyError, SkippedError
from ingest.readers.load import read
from ingest.sync import cutting_and_limits
from ingest.worker import WORKERS, Limits, result
from rag_app import extras
from rag_app.extras import MissingExtraError
from rag_app.settings import Settings

pytest.importorskip("rapidocr", reason='pip install "rag_app[ocr]" has it')

LEFT = [
    "The crane lifts four tonnes at most,",
    "and never over people who stand",
    "below its hook, whoever asks for it.",
    "It is checked every morning.",
]
RIGHT = [
    "Die Prüfung der Kühlflüssigkeit",
    "übernimmt der Schichtführer, bevor",
    "er die große Schleuse öffnet.",
    "Der Füllstand steht im Heft.",
]


def scan(*columns: list[str], title: str = "", turned: int = 0) -> Image.Image:
    """Return a page of 150 dots to the inch, as a picture, with columns of lines."""
    made = fpdf.FPDF()
    made.add_page()
    if title:
        made.set_font("Helvetica", size=26)
        made.text(75, 20, title)
    made.set_font("Helvetica", size=13)
    for x, lines in enumerate(columns):
        for y, line in enumerate(lines):
            made.text(15 + 95 * x, 45 + 7 * y, line)
    with pypdfium2.PdfDocument(bytes(made.output())) as drawn:
        page: Image.Image = drawn[0].render(scale=150 / 72).to_pil().convert("L")
    return page.rotate(turned, expand=True, fillcolor=255)


def png(picture: Image.Image) -> bytes:
    picture.save(out := io.BytesIO(), "PNG")
    return out.getvalue()


def pdf(*pages: Image.Image | str) -> bytes:
    made = fpdf.FPDF()
    made.set_font("Helvetica", size=11)
    for page in pages:
        made.add_page()
        if isinstance(page, str):
            made.multi_cell(0, text=page)
        else:
            made.image(page, x=0, y=0, w=210)
    return bytes(made.output())


def by_ocr(name: str, content: bytes, seconds: float = 600) -> Document:
    return read(Path(name), content, seconds)


def test_columns_are_read_one_after_the_other_below_their_heading_with_umlauts() -> None:
    found = by_ocr("scan.png", png(scan(LEFT, RIGHT, title="House rules")))
    assert [(block.kind, block.text) for block in found.blocks] == [
        ("heading", "House rules"), ("paragraph", " ".join(LEFT)), ("paragraph", " ".join(RIGHT)),
    ]  # fmt: skip
    assert found.notes == ("page 1 was read by OCR",) and found.title == "scan"


@pytest.mark.parametrize("degrees", [2, 90, 180])
def test_a_page_that_lies_on_its_side_or_is_upside_down_is_turned(degrees: int) -> None:
    assert by_ocr("scan.png", png(scan(LEFT, turned=degrees))).blocks[0].text == " ".join(LEFT)


def test_only_the_scanned_pages_of_a_pdf_are_read_by_ocr_and_their_chunks_say_so() -> None:
    found = by_ocr("a.pdf", pdf("The tariff is 4711.", scan(LEFT)))
    assert [(block.page, block.ocr, block.text) for block in found.blocks] == [
        (1, False, "The tariff is 4711."), (2, True, " ".join(LEFT)),
    ]  # fmt: skip
    assert found.notes == ("page 2 was read by OCR",)
    labels = [str(chunk.page_label) for chunk in chunks("a.pdf", replace(found, blocks=found.blocks[1:]))]
    assert labels == ["page 2, read by OCR"]


def test_without_ocr_scans_and_photographs_say_how_to_have_them_read() -> None:
    with pytest.raises(EmptyError, match="only images of text: set RAG_OCR_TIMEOUT=600, or run OCR"):
        read(Path("a.pdf"), pdf(scan(LEFT)))
    with pytest.raises(SkippedError, match=r"an image \(png\), and only text is indexed: RAG_OCR_TIMEOUT=600"):
        read(Path("a.png"), png(scan(LEFT)))
    assert "page 2 holds pictures and no text: set RAG_OCR_TIMEOUT" in read(Path("a.pdf"), pdf("Text.", scan(LEFT))).notes[0]


@pytest.mark.parametrize("how", ["transparent", "16 bits", "1 bit", "CMYK", "MPO"])
def test_pictures_of_all_kinds_are_read_once(how: str) -> None:
    page = scan(LEFT)
    content = io.BytesIO()
    if how == "transparent":
        ink = Image.new("RGBA", page.size, (0, 0, 0, 0))
        ink.putalpha(page.point(lambda light: 255 - light))
        ink.save(content, "PNG")
    elif how == "16 bits":
        Image.fromarray(np.asarray(page).astype("uint16") * 200 + 5000).save(content, "TIFF")
    elif how == "1 bit":
        page.convert("1").save(content, "TIFF")
    elif how == "CMYK":
        page.convert("CMYK").save(content, "JPEG")
    else:
        page.convert("RGB").save(content, "MPO", save_all=True, append_images=[page.convert("RGB").resize((620, 877))])
    found = by_ocr("scan.bin", content.getvalue())
    assert [block.text for block in found.blocks] == [" ".join(LEFT)] and found.notes == ("page 1 was read by OCR",)


def test_what_is_hard_to_read_is_doubted_and_a_picture_without_text_is_empty() -> None:
    blurred = scan(LEFT, LEFT).resize((420, 594)).filter(ImageFilter.GaussianBlur(1.5)).resize((1240, 1754))
    assert "page 1 is hard to read: check it" in by_ocr("scan.png", png(blurred)).notes
    with pytest.raises(EmptyError, match="OCR found no text in it"):
        by_ocr("grey.png", png(Image.new("L", (600, 400), 128)))
    with pytest.raises(EmptyError, match="OCR found no text in it"):
        by_ocr("grey.pdf", pdf(Image.new("L", (600, 800), 128)))


def test_pages_for_which_no_time_is_left_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 700.0, 701.0])
    monkeypatch.setattr(room, "monotonic", lambda: next(clock))
    pages = [scan(LEFT[:1]) for _ in range(3)]
    pages[0].save(out := io.BytesIO(), "TIFF", save_all=True, append_images=pages[1:])
    found = by_ocr("scan.tiff", out.getvalue())
    assert [block.page for block in found.blocks] == [1]
    assert found.notes == (
        "page 1 was read by OCR",
        "pages 2, 3 were not read: OCR took more than 600 s (RAG_OCR_TIMEOUT)",
    )


def test_a_scan_that_is_attached_to_a_mail_is_read_too() -> None:
    from email.message import EmailMessage

    mail = EmailMessage()
    mail["Subject"] = "The rules"
    mail.set_content("See the scan.")
    mail.add_attachment(png(scan(LEFT)), maintype="image", subtype="png", filename="rules.png")
    found = by_ocr("a.eml", mail.as_bytes())
    assert " ".join(LEFT) in [block.text for block in found.blocks] and found.notes == ("page 1 was read by OCR",)


def test_a_worker_reads_by_ocr_within_its_memory_and_the_page_is_shown(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(png(scan(LEFT)))
    cutting, limits = cutting_and_limits(settings.model_copy(update={"ocr_timeout": 60}))
    assert limits == Limits(120, 4000, 60)
    found = result(WORKERS.submit(path, "scan.png", cutting, limits), limits)
    assert found.state == "read" and found.chunks[0].text == " ".join(LEFT) and found.chunks[0].ocr
    assert kind(path) == "pages"
    shown = page_picture(path, 1, found.chunks[0].text, "")
    assert (shown.n_pages, shown.n_words) == (1, 0) and shown.png.startswith(b"\x89PNG")


def test_that_ocr_is_not_installed_is_said_before_the_first_file(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.MODULES, "ocr", ("no_such_package",))
    extras.require.cache_clear()
    with pytest.raises(
        MissingExtraError, match=r'RAG_OCR_TIMEOUT is set, but OCR is not installed: pip install "rag_app\[ocr\]"'
    ):
        cutting_and_limits(settings.model_copy(update={"ocr_timeout": 60}))
    extras.require.cache_clear()
