"""An original beside what is stored of it: which of its words are in a chunk; a page as a picture with them marked."""

import io
import re
import unicodedata
import zipfile
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from pathlib import Path
from typing import Literal

from ingest.readers.document import NoDocumentError
from ingest.readers.encoding import decode
from ingest.readers.load import kind_of
from ingest.worker import WORKERS, Limits
from rag_app import colours
from rag_app.errors import RagError
from rag_app.words import msg

# What a word of an original is: in a chunk, in the passage that is looked for, in no chunk, or markup.
Mark = Literal["stored", "passage", "missing", "markup"]
# Kinds of files whose original is text that a person can read.
TEXT = {"markdown", "text", "html", "csv", "json", "jsonl", "yaml", "xml", "code", "subtitles", "eml"}
# Those in which not all words are text: there are tags, addresses of links, and what a site generator fills in.
_MARKED_UP = {"html", "xml", "markdown"}
_MARKUP = r"<[^<>]*>|\]\([^()\s]*\)|\{%[^{}]*%\}|\{\{[^{}]*\}\}"
# Pixels across a page, and at most down it.
WIDTH, HEIGHT = 1000, 3000
# Pairs of words up to which all are compared.
LONGEST = 40_000
# Bytes of the largest text that is shown.
LARGEST = 3_000_000


@dataclass(frozen=True)
class PagePicture:
    """A page as a PNG, how many pages there are, how many words this one has, and those of them that are in no chunk."""

    png: bytes
    n_pages: int
    n_words: int
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Excerpt:
    """A part of a text original in pieces, each with what it is; blanks and marks between words are "" """

    pieces: tuple[tuple[str, Mark | Literal[""]], ...]
    n_words: int
    missing: tuple[str, ...]


def kind(path: Path) -> Literal["pages", "text", ""]:
    """Return how an original can be shown, "" if it cannot. OSError if it is gone."""
    try:
        found = kind_of(path, path.read_bytes())
    except (NoDocumentError, zipfile.BadZipFile):
        # It changed since it was ingested.
        return ""
    small = path.stat().st_size <= LARGEST
    return "pages" if found in ("pdf", "image") else "text" if found in TEXT and small else ""


def page_picture(path: Path, number: int, stored: str, passage: str, limits: Limits = Limits()) -> PagePicture:
    """Return a page, from 1, of a PDF or picture: words in a chunk are underlined, in none framed, the passage's highlighted.

    It is drawn in a process of its own: a file can crash what draws it. RagError if it did.
    """
    return WORKERS.call(limits, _page_picture, path, number, stored, passage)


def excerpt(
    path: Path, shown: Sequence[str], passage: str, before: str = "", *, to_the_end: bool = True, limits: Limits = Limits()
) -> Excerpt:
    """Return the part of a text original that some chunks were cut from, and what stands between the one `before` and them.

    RagError if they are not in it: it changed since it was ingested.
    """
    return WORKERS.call(limits, _excerpt, path, shown, passage, before, to_the_end)


def _excerpt(path: Path, shown: Sequence[str], passage: str, before: str, to_the_end: bool) -> Excerpt:
    content = path.read_bytes()
    text = decode(content)
    found = list(_words(text, marked_up=kind_of(path, content) in _MARKED_UP))
    known = [word.text for word in found]
    spans = [span for one in shown if (span := _span(known, _texts(one)))]
    if not spans:
        raise RagError(msg("what is stored is not in {path}", path=path.name), msg("ingest it again"))
    above = _span(known, _texts(before)) or (0, 0)
    first = min(above[1], *(start for start, _ in spans))
    last = len(found) if to_the_end else max(end for _, end in spans)
    marks = _marks(known[first:last], "\n".join(shown), passage)
    # A line before the first word may hold its marks, as of a heading.
    at = text.rfind("\n", 0, found[first].start) + 1
    pieces: list[tuple[str, Mark | Literal[""]]] = []
    for word, mark in zip(found[first:last], marks, strict=True):
        pieces += [(text[at : word.start], ""), (text[word.start : word.end], "markup" if word.markup else mark)]
        at = word.end
    end = text.find("\n", at)
    pieces.append((text[at : end if end >= 0 else len(text)], ""))
    missing = tuple(
        text[word.start : word.end]
        for word, mark in zip(found[first:last], marks, strict=True)
        if mark == "missing" and not word.markup
    )
    return Excerpt(tuple(pieces), sum(not word.markup for word in found[first:last]), missing)


@dataclass(frozen=True)
class _Word:
    """A word, as it is compared, and where it stands."""

    text: str
    start: int
    end: int
    markup: bool = False


_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_LETTERS = rf"[^\W\d_{_CJK}]+"
# pdfium writes U+FFFE for a hyphen at the end of a line.
_HYPHEN = r"(?:\ufffe\s*|-\r?\n)"
_WORD = rf"[{_CJK}]|\d+|{_LETTERS}(?:{_HYPHEN}{_LETTERS})*"


def _words(text: str, *, marked_up: bool = False) -> Iterator[_Word]:
    spans = [match.span() for match in re.finditer(_MARKUP, text, re.DOTALL)] if marked_up else []
    ends = [end for _, end in spans]
    for match in re.finditer(_WORD, text):
        start, end = match.span()
        at = bisect_right(ends, start)
        yield _Word(_plain(match[0]), start, end, markup=at < len(spans) and spans[at][0] <= start)


def _plain(word: str) -> str:
    return unicodedata.normalize("NFKC", re.sub(rf"{_HYPHEN}|\xad", "", word)).casefold()


def _texts(text: str) -> list[str]:
    return [word.text for word in _words(text)]


def _marks(words: Sequence[str], stored: str, passage: str) -> list[Mark]:
    """Return of each word of an original whether it is stored: in the order in which it is, or anywhere as often."""
    known = _texts(stored)
    marks: list[Mark] = ["missing"] * len(words)
    left = Counter(known)
    for at, size in _runs(words, known):
        for i in range(at, at + size):
            marks[i] = "stored"
            left[words[i]] -= 1
    for i, word in enumerate(words):
        if marks[i] == "missing" and left[word] > 0:
            # Cells of a table are stored by row, whatever the order in which they were drawn.
            marks[i] = "stored"
            left[word] -= 1
    # The hyphen of a word in two lines may be its own.
    whole = "".join(known)
    marks = [
        "stored" if mark == "missing" and len(word) > 8 and word in whole else mark
        for word, mark in zip(words, marks, strict=True)
    ]
    sought = _texts(passage)
    if span := _span(words, sought):
        start, end = span
        for at, size in _runs(words[start:end], sought):
            marks[start + at : start + at + size] = ["passage"] * size
    return marks


def _runs(words: Sequence[str], known: Sequence[str]) -> list[tuple[int, int]]:
    """Return where runs of words stand that others have in the same order, and how long they are."""
    # What is everywhere in a long text costs the square of it, and tells nothing of the order.
    long = len(words) * len(known) > LONGEST
    blocks = SequenceMatcher(None, words, known, autojunk=long).get_matching_blocks()
    return [(at, size) for at, _, size in blocks]


def _span(words: Sequence[str], part: Sequence[str]) -> tuple[int, int] | None:
    """Return from where to where most of a part stands among words: where most of its runs of three, or fewer, are together."""
    for size in (3, 2, 1):
        runs = {tuple(part[i : i + size]) for i in range(len(part) - size + 1)}
        places = [i for i in range(len(words) - size + 1) if tuple(words[i : i + size]) in runs]
        reach = len(part) + len(part) // 2 + 5
        within: Counter[tuple[str, ...]] = Counter()
        best, span, first = (0, 0), None, 0
        for place in places:
            within[tuple(words[place : place + size])] += 1
            # What recurs in the window is dropped from its beginning.
            while place - places[first] > reach or within[tuple(words[places[first] : places[first] + size])] > 1:
                run = tuple(words[places[first] : places[first] + size])
                if within[run] == 1:
                    del within[run]
                else:
                    within[run] -= 1
                first += 1
            if (found := (len(within), places[first] - place)) > best:
                best, span = found, (places[first], place + size)
        if span:
            return span
    return None


def _page_picture(path: Path, number: int, stored: str, passage: str) -> PagePicture:
    """Draw a page; in a worker, where what reads PDF and pictures is loaded: both are of extras that a page can do without."""
    import pypdfium2
    from PIL import Image, ImageChops, ImageDraw, ImageOps

    from ingest.readers.pdf_page import units

    if kind_of(path, path.read_bytes()) == "image":
        from ingest.readers.rapid import n_pages, opaque

        with Image.open(path) as frames:
            frames.seek(number - 1)
            scan = opaque(ImageOps.exif_transpose(frames))
            scan.thumbnail((WIDTH, HEIGHT))
            scan.save(out := io.BytesIO(), "PNG")
            return PagePicture(out.getvalue(), n_pages(frames), 0, ())
    with pypdfium2.PdfDocument(path) as pdf:
        if pdf.get_formtype():
            pdf.init_forms()
        page = pdf[number - 1]
        width, height = page.get_size()
        bitmap = page.render(scale=min(WIDTH / width, HEIGHT / height))
        place, letters = bitmap.get_posconv(page), page.get_textpage()
        picture = bitmap.to_pil().convert("RGB")
        words = list(_words(units(letters.get_text_range())))
        marks = _marks([word.text for word in words], stored, passage)
        # Of each word the corners of its boxes, and the ends of the line below: on a page that lies it stands upright.
        boxes: dict[int, list[tuple[tuple[int, int, int, int], tuple[int, int, int, int]]]] = defaultdict(list)
        for i, word in enumerate(words):
            # A word in two lines has two boxes.
            corners = [letters.get_charbox(n, loose=True) for n in range(word.start, word.end)]
            for _, line in groupby((box for box in corners if box[2] > box[0]), key=lambda box: round(box[1] / 3)):
                on_line = list(line)
                left, bottom = place.to_bitmap(min(b[0] for b in on_line), min(b[1] for b in on_line))
                right, top = place.to_bitmap(max(b[2] for b in on_line), max(b[3] for b in on_line))
                below = place.to_bitmap(max(b[2] for b in on_line), min(b[1] for b in on_line))
                corners_of_box = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
                boxes[i].append((corners_of_box, (left, bottom, *below)))
        tint = Image.new("RGB", picture.size, "white")
        paint, lines = ImageDraw.Draw(tint), ImageDraw.Draw(picture)
        for i, mark in enumerate(marks):
            for (left, top, right, bottom), under in boxes[i]:
                if mark == "passage":
                    paint.rectangle((left - 2, top, right + 2, bottom), fill="#FFE066")
                elif mark == "stored":
                    lines.line(under, fill=colours.KEPT[0], width=2)
                else:
                    lines.rectangle((left - 2, top - 2, right + 2, bottom + 2), outline=colours.LOSS[0], width=2)
        out = io.BytesIO()
        ImageChops.multiply(picture, tint).save(out, "PNG")
        missing = tuple(word.text for word, mark in zip(words, marks, strict=True) if mark == "missing")
        return PagePicture(out.getvalue(), len(pdf), len(words), missing)
