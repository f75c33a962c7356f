"""What every reader gives: a document of blocks, or the reason why there is none."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import ClassVar, Literal

from rag_app.errors import RagError
from rag_app.words import msg, nmsg


@dataclass(frozen=True)
class Block:
    """A heading, a paragraph, a list item, a table row or a piece of code, kept whole as far as its size allows.

    A picture is a block of its own: `text` is its caption, `image` its URL or data URI. A note is no text of the document but
    what its owner should know about it. What was read by OCR says so.
    """

    kind: Literal["heading", "paragraph", "item", "row", "code", "picture", "note"]
    text: str
    level: int = 0
    page: int | None = None
    image: str = ""
    ocr: bool = False


@dataclass(frozen=True)
class Document:
    """A file as read."""

    title: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()


class NoDocumentError(RagError):
    """Why a file gives no document, in words for its owner, and the state that the file ends in."""

    state: ClassVar[Literal["failed", "skipped", "empty"]]


class UnreadableError(NoDocumentError):
    """The file is broken, locked or in no known encoding."""

    state = "failed"


class SkippedError(NoDocumentError):
    """The file is not for us: an image, an archive, a format to convert first."""

    state = "skipped"


class EmptyError(NoDocumentError):
    """The file holds nothing to index."""

    state = "empty"


def locked() -> UnreadableError:
    """Return the error for a file that needs a password."""
    return UnreadableError(msg("it needs a password"), msg("save it without one"))


def comments_note(n: int) -> list["Block"]:
    """Return the note that comments were not read, if there are some."""
    return [Block("note", nmsg("{n} comment was not read", "{n} comments were not read", n))] if n else []


# What a reader returns: the title that the file states, or "", and the blocks.
Read = tuple[str, list[Block]]


def table_rows(rows: Sequence[Sequence[str]], headers: int | None = None, page: int | None = None) -> Iterator[Block]:
    """Yield each row with its header, `Country: France | Dinner: 32 EUR`, so that it can be read alone.

    The first `headers` rows are the header, but for lines above it that say one thing only: those are paragraphs. A header
    with columns that nobody has filled in is a row too. Where nothing marks a header, the cells tell whether there is one:
    labels beside values have none, `Built: 2019`.
    """
    rows = [row for row in rows if any(row)]
    if max((sum(map(bool, row)) for row in rows), default=0) < 2:
        yield from (Block("row" if len(rows) > 1 else "paragraph", "".join(row), page=page) for row in rows)
        return
    while len(rows) > 1 and rows[0][0] and len(set(filter(None, rows[0]))) == 1:
        yield Block("paragraph", rows[0][0], page=page)
        rows, headers = rows[1:], max(headers - 1, 1) if headers else None
    if headers is None and _are_pairs(rows):
        for row in rows:
            pairs = (row[i : i + 2] for i in range(0, len(row), 2))
            yield Block(
                "row",
                " | ".join(": ".join(cell.rstrip(":： ") for cell in pair if cell) for pair in pairs if any(pair)),
                page=page,
            )
        return
    if headers is None:
        headers = 0 if _is_data(rows) else 1
    if len(rows) <= headers:
        headers = min(len(rows) - 1, 1)
    width = max(map(len, rows[:headers]), default=0)
    names = [" ".join(dict.fromkeys(row[i] for row in rows[:headers] if row[i : i + 1] and row[i])) for i in range(width)]
    if any(name and not any(row[i : i + 1] and row[i] for row in rows[headers:]) for i, name in enumerate(names)):
        # The name of an empty column stands in no row below.
        yield Block("row", " | ".join(filter(None, names)), page=page)
    for row in rows[headers:]:
        named = [f"{names[i]}: {cell}" if i < width and names[i] else cell for i, cell in enumerate(row) if cell]
        yield Block("row", " | ".join(named), page=page)


def _are_pairs(rows: Sequence[Sequence[str]]) -> bool:
    """Say whether a table without a header is labels beside their values, in two or four columns.

    Values are of several kinds, numbers, dates and words, where a column has one under its name.
    """
    width = max(map(len, rows))
    if width not in (2, 4) or min(map(len, rows)) < width:
        return False
    labels = [row[i] for row in rows for i in range(0, width, 2) if row[i]]
    if all(label.endswith((":", "：")) for label in labels):
        return True
    columns = [[row[i] for row in rows] for i in range(1, width, 2)]
    return not any(map(_has_digit, labels)) and all(_has_digit(first) or _are_mixed(rest) for first, *rest in columns)


def _are_mixed(cells: Sequence[str]) -> bool:
    return 0 < sum(map(_has_digit, filter(None, cells))) < len(list(filter(None, cells)))


def _is_data(rows: Sequence[Sequence[str]]) -> bool:
    """Say whether the first row is data as those below are: it has numbers where they have. A row of years is a header."""
    rest = rows[1:]
    counted = [i for i in range(len(rows[0])) if rest and all(_has_digit(row[i]) for row in rest if row[i : i + 1] and row[i])]
    counted = [i for i in counted if any(row[i : i + 1] and row[i] for row in rest)]
    first = [rows[0][i] for i in counted]
    return bool(first) and all(map(_has_digit, first)) and not all(re.fullmatch(r"(19|20)\d\d", cell) for cell in first)


def names_columns(rows: Sequence[Sequence[str]]) -> bool:
    """Say whether the first row names columns of numbers, so that it is a header for sure."""
    for cell, *column in zip_longest(*rows, fillvalue=""):
        below = [text for text in column if text]
        if cell and not _has_digit(cell) and below and all(map(_has_digit, below)):
            return True
    return False


def _has_digit(cell: str) -> bool:
    return any(map(str.isdigit, cell))


def grid(rows: Sequence[Sequence[tuple[str, int, int]]], headers: int | None = None) -> tuple[list[list[str]], int | None]:
    """Return the text of each place in a table of cells (text, rows down, columns across), and how many rows are its header.

    A cell over several rows stands in each; one over several columns does so in the header, so that each column has a name.
    """
    places: dict[tuple[int, int], str] = {}
    # Names over several columns have the names of each below them.
    split = not headers and len(rows) > 2 and any(across > 1 for _, _, across in rows[0]) and len(rows[0]) > 1
    headers = headers or (2 if split else None)
    for y, row in enumerate(rows):
        x = 0
        for text, down, across in row:
            while (y, x) in places:
                x += 1
            for below in range(min(down, len(rows) - y)):
                for right in range(min(across, 100)):
                    places[y + below, x + right] = text if right == 0 or y < (headers or 1) else ""
            x += across
    width = 1 + max((x for _, x in places), default=-1)
    return [[places.get((y, x), "") for x in range(width)] for y in range(len(rows))], headers
