"""What of a document's words and numbers is stored, against an independent extraction of the same files.

    python benchmarks/reading.py FOLDER

PDF is held against pdfium's raw text without page numbers and lines that run on a third of the pages, Office files
against every text element of their XML (formulas and charts too), workbooks against openpyxl, HTML against the text of
its body without a site generator's marks. Recall counts each word as often as it stands there; extra are stored words
that stand nowhere in the reference. Printed per format with the seconds of reading, then the five files with the lowest
recall of numbers. Exit 1 below the limits.
"""

import re
import sys
import time
import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import bs4
import openpyxl
import pypdfium2
from lxml import etree
from rich.progress import track

from ingest.chunk import chunks
from ingest.readers.document import NoDocumentError
from ingest.readers.encoding import decode
from ingest.readers.load import read

LEAST_RECALL, MOST_EXTRA = 0.995, 0.01
# Parts of an Office package that hold text, and are shown.
PARTS = r"(word/(document|footnotes|endnotes)|ppt/(slides/slide|notesSlides/notesSlide|charts/chart|diagrams/data)\d+)\d*\.xml"

# Elements of them that end a word.
APART = [f"{{*}}{name}" for name in ("p", "br", "tab", "v", "sup", "sub", "num", "den", "lim", "deg", "fName")]


@dataclass
class Kept:
    """Words and numbers of one file: in the reference, stored of them, and stored ones that the reference lacks."""

    path: Path
    words: int
    words_kept: int
    numbers: int
    numbers_kept: int
    stored: int
    extra: int
    seconds: float


def words_of(text: str) -> Counter[str]:
    """Return the words and numbers of a text; marks between them are none, Chinese is read by character."""
    return Counter(
        re.findall(r"[\u3040-\u9fff\uac00-\ud7af]|\d+|[^\W\d_\u3040-\u9fff\uac00-\ud7af]+", text.casefold().replace("\xad", ""))
    )


def reference(path: Path) -> str:
    """Return the text of a file as something else than our readers finds it."""
    content = path.read_bytes()
    kind = path.suffix.lower()
    if kind == ".pdf":
        with pypdfium2.PdfDocument(content) as pdf:
            pages = [pdf[n].get_textpage().get_text_range() for n in range(len(pdf))]
        # A hyphen at the end of a line.
        return re.sub(r"\ufffe|-\r?\n", "", "\n".join(without_running_lines(pages)))
    if kind == ".html":
        # What a site generator reads above a page, and fills into it.
        text = re.sub(r"\A---.*?^---|\{%.*?%\}|\{\{.*?\}\}", "", decode(content), flags=re.DOTALL | re.MULTILINE)
        soup = bs4.BeautifulSoup(text, "lxml")
        for tag in soup(["script", "style", "template", "nav", "svg", "head", "noscript"]):
            tag.decompose()
        return soup.get_text(" ")
    if kind == ".xlsx":
        book = openpyxl.load_workbook(path, data_only=True)
        sheets = {
            sheet.title: [str(c) for row in sheet.values for c in row if c is not None]
            for sheet in book.worksheets
            if sheet.sheet_state == "visible"
        }
        return "\n".join(word for name, cells in sheets.items() if cells for word in (name, *cells))
    with zipfile.ZipFile(path) as package:
        roots = [etree.fromstring(package.read(name)) for name in package.namelist() if re.fullmatch(PARTS, name)]
    words: list[str] = []
    for root in roots:
        # A text box stands there twice, for old programs too.
        etree.strip_elements(root, "{*}Fallback", with_tail=False)
        # Dates, feet and numbers of slides.
        for running in root.xpath(
            "//*[local-name()='sp'][.//*[local-name()='ph'][@type='dt' or @type='ftr' or @type='sldNum']]"
        ):
            running.getparent().remove(running)
        for element in root.iter(*APART, "{*}t"):
            # Parts of a word may be apart in runs, not so those of a fraction, or the values of a chart.
            words += ["" if element.tag.endswith("}t") else " ", str(element.text or "")]
    return "".join(words)


def without_running_lines(pages: list[str]) -> list[str]:
    """Return pages without their numbers, and without lines that, but for numbers, a third of six pages or more have."""
    kinds = Counter(kind for page in pages for kind in {re.sub(r"\d+", "0", line.strip()) for line in page.splitlines()})
    running = {kind for kind, n in kinds.items() if len(pages) >= 6 and 3 * n >= len(pages)}
    return [
        "\n".join(
            line
            for line in page.splitlines()
            if re.sub(r"\d+", "0", line.strip()) not in running and line.strip() != str(number)
        )
        for number, page in enumerate(pages, 1)
    ]


def measure(path: Path) -> Kept | None:
    """Return what is kept of a file, None if it gives no document."""
    start = time.perf_counter()
    try:
        document = read(path, path.read_bytes())
    except NoDocumentError:
        return None
    seconds = time.perf_counter() - start
    cut = chunks(path.name, document)
    stored = words_of("\n".join(["\n".join((*chunk.headings, chunk.text)) for chunk in cut] + [document.title]))
    wanted = words_of(reference(path))
    numbers = Counter({word: n for word, n in wanted.items() if any(map(str.isdigit, word))})
    text = words_of("\n".join(chunk.text for chunk in cut))
    return Kept(
        path,
        wanted.total(),
        (wanted & stored).total(),
        numbers.total(),
        (numbers & stored).total(),
        text.total(),
        sum(n for word, n in text.items() if word not in wanted),
        seconds,
    )


def main(folder: Path) -> int:
    """Measure each file of a folder, print, and return the exit code."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".pdf", ".docx", ".pptx", ".xlsx", ".html"))
    found = defaultdict(list)
    for path in track(files, "reading"):
        try:
            kept = measure(path)
        except (zipfile.BadZipFile, etree.XMLSyntaxError, pypdfium2.PdfiumError, NoDocumentError):
            # What the other extraction cannot read is no reference.
            continue
        if kept and kept.words:
            found[path.suffix.lower()].append(kept)
    good = True
    for kind, of in sorted(found.items()):
        recall = sum(k.words_kept for k in of) / sum(k.words for k in of)
        numbers = sum(k.numbers_kept for k in of) / max(sum(k.numbers for k in of), 1)
        extra = sum(k.extra for k in of) / sum(k.stored for k in of)
        good &= recall >= LEAST_RECALL and numbers >= LEAST_RECALL and extra <= MOST_EXTRA
        print(
            f"{kind:6} {len(of):4} files: words {recall:.2%}, numbers {numbers:.2%} (at least {LEAST_RECALL:.1%}), "
            f"extra {extra:.2%} (at most {MOST_EXTRA:.0%}), {sum(k.seconds for k in of):.1f} s"
        )
    worst = sorted((k for of in found.values() for k in of if k.numbers > 20), key=lambda k: k.numbers_kept / k.numbers)
    for kept in worst[:5]:
        print(f"  {kept.numbers_kept / kept.numbers:.1%} of {kept.numbers} numbers: {kept.path.relative_to(folder)}")
    return int(not good)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
