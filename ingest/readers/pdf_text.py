"""The lines of a PDF as text: without what runs on every page, in paragraphs under the headings of larger type."""

import difflib
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from statistics import median_low
from typing import Literal

from ingest.readers.document import Block
from ingest.readers.pdf_page import Line

# A line whose type is larger than the body's by this factor is a heading.
LARGER = 1.05
# So much larger that it need not stand alone.
MUCH_LARGER = 1.15
# Characters of the longest heading.
LONGEST = 120
# The share of characters in a type size that can be the body's.
MUCH = 0.4
# Characters of a line that runs on though a word of it changes.
LONG = 40
# Lines of the highest header or footer.
MOST_RUNNING = 4


def without_running_lines(pages: list[list[Line]], scanned: Container[int]) -> list[Line]:
    """Return the lines without headers, footers and page numbers: lines at an edge that a page nearby has in the same place.

    Pages nearby are the next two, before and after: odd and even pages may differ.
    """
    body = _body_size([line for page in pages for line in page])
    from_the_top = [sorted(page, key=lambda line: -line.top) for page in pages]
    whole = [[line.text for line in page] for page in pages]
    running: set[Line] = set()
    for edges in ([_edge(page) for page in from_the_top], [_edge(page[::-1]) for page in from_the_top]):
        for n, edge in enumerate(edges):
            # A page that is there twice has no header in all of its lines.
            nearby = [m for m in (n - 2, n - 1, n + 1, n + 2) if 0 <= m < len(edges)]
            nearby = [m for m in nearby if whole[m] != whole[n] or n + 1 in scanned]
            near = [line for m in nearby for line in edges[m]]
            # Large type at the top of each page is a heading ("Chapter 2"), not a header.
            small = [line for line in edge if line.size <= body * LARGER and line.block is None]
            running.update(line for line in small if any(_runs_on(line, other) for other in near))
    # Of a page that is nothing else, it is the text; on a scan it is a stamp.
    return [
        line
        for page in pages
        for line in page
        if line not in running or (running.issuperset(page) and line.page not in scanned)
    ]


def _edge(page: Sequence[Line]) -> list[Line]:
    """Return the lines of a page, in order from its edge, that may run on: those above a gap, or the first."""
    gaps = [abs(a.top - b.top) for a, b in pairwise(page)]
    usual = median_low(gaps or [0.0])
    # Of a page of a few lines no block is its header.
    most = min(MOST_RUNNING, len(page) // 3)
    return list(page[: next((n for n, gap in enumerate(gaps[:most], 1) if gap > 1.5 * usual), 1)])


def _runs_on(line: Line, other: Line) -> bool:
    """Say whether a line at the edge of a page is what another page nearby has there; a number has to count on."""
    if abs(line.top - other.top) > 3:
        return False
    one, two = (re.fullmatch(_PAGE_NUMBER, text.lower()) for text in (line.text, other.text))
    if one and two:
        return int(one[1]) - int(two[1]) == line.page - other.page
    if one or two or not re.search(r"[^\W\d_]{2}", line.text):
        return False
    texts = _without_numbers(line), _without_numbers(other)
    if texts[0] == texts[1]:
        numbers = zip(*(map(int, re.findall(r"\d+", text)) for text in (line.text, other.text)), strict=True)
        return all(a in (b, b + line.page - other.page) for a, b in numbers)
    # A short one that is only alike, "Gate A: 1003", is text.
    return len(line.text) >= LONG and difflib.SequenceMatcher(None, *texts).ratio() > 0.9


_PAGE_NUMBER = r"\W*(?:page|seite|p\.|s\.|第)?\s*(\d{1,5})\s*页?(?:\s?(?:of|von|/)\s?\d+)?\W*"


def _body_size(lines: list[Line]) -> float:
    """Return the type size of most characters; of two that share them about evenly the smaller: the other is of headings."""
    text, tables = (_sizes(line for line in lines if (line.block is None) == of_text) for of_text in (True, False))
    # Where all that stands beside tables is larger than they are, it is their headings.
    sizes = tables if tables and (not text or (len(text) == 1 and max(tables) < min(text))) else text
    common = [size for size, n in sizes.items() if n >= MUCH * sizes.total()]
    return min(common) if common else max(sizes, key=lambda size: (sizes[size], -size), default=0.0)


def _sizes(lines: Iterable[Line]) -> Counter[float]:
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[line.size] += len(line.text)
    return sizes


def _without_numbers(line: Line) -> str:
    return re.sub(r"\d+", "0", line.text)


def _headings(lines: list[Line]) -> dict[Line, int]:
    """Return the lines that are headings by their type, with their level: larger than the body, or bold and alone."""
    body = _body_size(lines)
    usual = _usual_gap(lines)
    full = max((line.right for line in lines), default=0.0)
    found: dict[Line, int] = {}
    bold: list[Line] = []
    sizes: set[float] = set()
    above: Line | None = None
    for (size, _, is_bold, in_table), group in groupby(
        lines, lambda line: (line.size, line.page, line.bold, line.block is not None)
    ):
        run = list(group)
        first, ends = run[0], run[-1].text.endswith((".", ",", ";", "。", "，", "；"))
        apart = above is None or above.page != first.page or not 0 < above.last_top - first.top < 1.2 * usual
        # Text that only looks larger, in a font of another build, fills its line.
        alone = apart and run[-1].right < 0.9 * full
        above = run[-1]
        # Larger type that goes on for more than a few lines is text.
        if in_table or len(run) > 3 or ends or not all(len(line.text) < LONGEST and _is_wordy(line.text) for line in run):
            continue
        if size > body * MUCH_LARGER or (size > body * LARGER and alone):
            found |= dict.fromkeys(run, 0)
            sizes.add(size)
        elif is_bold and alone:
            bold += run
    order = sorted(sizes, reverse=True)
    found = {line: min(order.index(line.size) + 1, 6) for line in found}
    # Where much is bold, as in a form, it means nothing.
    return found | (dict.fromkeys(bold, min(len(order) + 1, 6)) if 4 * len(bold) < len(lines) else {})


def _usual_gap(lines: list[Line]) -> float:
    """Return the most frequent distance of a line to the next, to half a point."""
    gaps = Counter(round(2 * (a.last_top - b.top)) / 2 for a, b in pairwise(lines) if a.page == b.page and a.last_top > b.top)
    return max(gaps, key=lambda gap: (gaps[gap], -gap), default=0.0)


def _is_wordy(text: str) -> bool:
    """Say whether a line is words rather than a formula."""
    if re.search(r"[\ue000-\uf8ff\ufffd]", text):
        return False
    letters = sum(character.isalpha() or character.isspace() for character in text)
    # Neither is a line of a table of contents, whose dots _clean has drawn together.
    return (
        letters > 0.6 * len(text)
        and " …" not in text
        and re.search(r"[^\W\d_]{3}|[\u3000-\u9fff\uac00-\ud7af]", text) is not None
    )


def text_blocks(lines: list[Line]) -> Iterator[Block]:
    headings, usual = _headings(lines), _usual_gap(lines)
    known = set(re.findall(r"\w+(?:-\w+)*", "\n".join(line.text for line in lines).lower()))
    open_lines: list[Line] = []

    def flush() -> Iterator[Block]:
        if open_lines:
            text, first = join_lines((line.text for line in open_lines), known), open_lines[0]
            level = headings.get(first)
            kind: Literal["item", "paragraph"] = "item" if re.match(_BULLET, text) else "paragraph"
            yield Block("heading", text, level, first.page) if level else Block(kind, text, page=first.page)
            open_lines.clear()

    for line in lines:
        if line.block is not None:
            yield from flush()
            yield line.block
            continue
        last = open_lines[-1] if open_lines else None
        if last and (headings.get(line) != headings.get(last) or _begins(line, last, open_lines[0], usual)):
            yield from flush()
        open_lines.append(line)
    yield from flush()


def _begins(line: Line, last: Line, first: Line, usual: float) -> bool:
    """Say whether a line begins a paragraph after one that goes from `first` to `last`."""
    ended = last.text.endswith((".", ":", "!", "?", "。", "：", "！", "？"))
    if line.page != last.page:
        # A paragraph goes on over the end of a page, a heading does not.
        return ended or not last.text or line.size != last.size
    return (
        last.last_top - line.top > max(1.6 * line.size, 1.3 * usual)
        or re.match(rf"{_BULLET}|\d{{1,2}}[.)、](\s|[\u3000-\u9fff])", line.text) is not None
        # A first line stands further right; after the last item of a list the text goes on further left.
        or (ended and 0.8 * line.size < line.left - last.left < 4 * line.size)
        or (re.match(_BULLET, first.text) is not None and line.left < first.left - 2)
    )


_BULLET = r"[•●▪–-]\s"
_CJK = r"[\u3000-\u9fff\uff00-\uffef]"


def join_lines(lines: Iterator[str], known: Container[str]) -> str:
    """Join wrapped lines: a hyphenated word is closed, and no space goes between Chinese or Japanese characters.

    `known` are the words of the document, in lower case.
    """
    text = ""
    for line in lines:
        # "Nord- und Südtor" has its hyphen for itself.
        if re.fullmatch(r"[^\W\d_]-", text[-2:]) and re.match(r"(?!(?:und|oder|bis|and|or|to)\b)[^\W\d_]", line):
            text = f"{text[:-1]}\ufffe"
        elif text and not text.endswith("\ufffe") and not (re.match(_CJK, text[-1:]) and re.match(_CJK, line)):
            text += " "
        text += line
    # pdfium writes U+FFFE too, for a hyphen at the end of a line.
    return re.sub(r"(\w*)\ufffe(\w*)", lambda match: _closed(match[1], match[2], known), text)


def _closed(left: str, right: str, known: Container[str]) -> str:
    """Return a word that stood in two lines, with its hyphen if that is its own."""
    one, two = left.lower(), right.lower()
    own = f"{one}-{two}" in known or (
        f"{one}{two}" not in known
        and (
            not right[:1].islower()
            or len(left) == 1
            or (one in _COMPOUND and two not in ("ness", "less", "ish"))
            or (one[-1:] == two[:1] and one[-1:] in "aeiou")
        )
    )
    return f"{left}{'-' if own and right else ''}{right}"


# First parts of words that keep their hyphen.
_COMPOUND = {"well", "self", "quasi", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"}
