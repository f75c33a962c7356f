"""Chunks: blocks packed under their headings up to a size, cut at sentence ends where a block is too long."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ingest.readers.document import Block, Document
from rag_app import language
from rag_app.settings import FieldKind
from rag_app.types import Chunk

Unit = Literal["characters", "tokens"]
# Characters of the longest first cell, or name of a column, that a part of a row repeats.
LONGEST_NAME = 200


@dataclass(frozen=True)
class Cutting:
    """How documents are cut: chunks of at most `size`, of which the end of one, up to `overlap`, begins the next.

    `fields` are those that a document's chunks have, if something is said of it.
    The defaults are what benchmarks/chunking.md speaks for.
    """

    size: int = 1000
    overlap: int = 0
    unit: Unit = "characters"
    fields: tuple[tuple[str, FieldKind], ...] = ()

    @property
    def length(self) -> Callable[[str], float]:
        """What is measured; tokens are estimated, since every model counts its own."""
        return len if self.unit == "characters" else language.tokens


@dataclass(frozen=True)
class _Piece:
    """A part of the document's text that is not cut further, and where it stands."""

    start: int
    end: int
    headings: tuple[str, ...]
    page: int | None
    image: str = ""
    # What a piece in the middle of a table row belongs to: the row's first cell, and its own column.
    row: str = ""
    ocr: bool = False

    @property
    def context(self) -> tuple[str, ...]:
        """The headings of a chunk that begins with this piece."""
        return (*self.headings, self.row) if self.row else self.headings


def chunks(path: str, document: Document, cutting: Cutting = Cutting()) -> list[Chunk]:
    """Return a document's chunks in order: `chunk.text == text_of(document)[chunk.start:chunk.end]`, none across a heading.

    Ids depend on path, title, headings and text alone: a chunk keeps its id wherever in the document it moves.
    """
    text = text_of(document)
    spoken = language.detect(text)
    seen: Counter[str] = Counter()
    cut: list[Chunk] = []
    for pieces in _packed(list(_pieces(document, cutting, spoken)), text, cutting):
        first = pieces[0]
        start, end = first.start, pieces[-1].end
        key = "\0".join((path, document.title, *first.context, text[start:end], first.image))
        seen[key] += 1
        cut.append(
            Chunk(
                id=hashlib.sha256(f"{key}\0{seen[key]}".encode()).hexdigest()[:32],
                document=path,
                title=document.title,
                headings=first.context,
                page=first.page,
                position=len(cut),
                start=start,
                end=end,
                language=spoken,
                text=text[start:end],
                image=first.image,
                ocr=any(piece.ocr for piece in pieces),
            )
        )
    return cut


def text_of(document: Document) -> str:
    """Return a document's whole text as read: its blocks, headings too, in order."""
    return "".join(joint + block.text for joint, block in _joined(document.blocks))


def _joined(blocks: Sequence[Block]) -> Iterator[tuple[str, Block]]:
    """Yield each block with what stands between it and the one before."""
    before = ""
    for block in blocks:
        listed = block.kind in ("item", "row") and before in ("item", "row", "paragraph")
        yield ("\n" if listed else "\n\n") if before else "", block
        before = block.kind


def _pieces(document: Document, cutting: Cutting, spoken: str) -> Iterator[_Piece]:
    """Yield the pieces of a document: blocks that fit whole, else their lines or sentences.

    A heading with nothing under it is a piece too: else it would be in no chunk.
    """
    path: list[tuple[int, str]] = []
    headings: tuple[str, ...] = ()
    at = 0
    below = [*document.blocks[1:], None]
    for (joint, block), following in zip(_joined(document.blocks), below, strict=True):
        at += len(joint)
        alone = following is None or (following.kind == "heading" and following.level <= block.level)
        if block.kind == "heading":
            path = [(level, text) for level, text in path if level < block.level]
            path.append((block.level, " ".join(block.text.split())))
            # The title itself is not repeated in the path: it is in every chunk.
            headings = tuple(text for _, text in path if text != document.title)
            if alone and path[-1][1] != document.title:
                for start, end in _cuts(block, cutting, spoken):
                    yield _Piece(at + start, at + end, headings, block.page, ocr=block.ocr)
        else:
            for start, end in _cuts(block, cutting, spoken):
                row = _row(block.text, start) if block.kind == "row" and start else ""
                yield _Piece(at + start, at + end, headings, block.page, block.image, row, block.ocr)
        at += len(block.text)


def _row(text: str, start: int) -> str:
    """Return what a part of a table row belongs to: `Question: May I park here? | Answer` for one of a long answer."""
    before = text[:start].split(" | ")
    column, colon, _ = before[-1].partition(": ")
    first = before[0] if len(before) > 1 and len(before[0]) <= LONGEST_NAME else ""
    return " | ".join(filter(None, (first, column if colon and len(column) <= LONGEST_NAME else "")))


def _packed(pieces: Sequence[_Piece], text: str, cutting: Cutting) -> Iterator[list[_Piece]]:
    """Yield the pieces of one chunk after another; a picture's caption is a chunk by itself."""
    length = cutting.length
    chunk: list[_Piece] = []
    for piece in pieces:
        if chunk:
            alone = piece.headings != chunk[0].headings or bool(piece.image) or bool(chunk[0].image)
            if alone or length(text[chunk[0].start : piece.end]) > cutting.size:
                yield chunk
                chunk = [] if alone else _overlap(chunk, piece, text, cutting)
        chunk.append(piece)
    if chunk:
        yield chunk


def _overlap(chunk: list[_Piece], following: _Piece, text: str, cutting: Cutting) -> list[_Piece]:
    """Return the last pieces of a chunk that fit before the following piece into the next chunk."""
    first = len(chunk)
    while (
        first > 1
        and cutting.length(text[chunk[first - 1].start : chunk[-1].end]) <= cutting.overlap
        and cutting.length(text[chunk[first - 1].start : following.end]) <= cutting.size
    ):
        first -= 1
    return chunk[first:]


def _cuts(block: Block, cutting: Cutting, spoken: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of a block: whole if it fits, else its lines of code or its sentences, cut hard where those do not."""
    text = block.text
    if cutting.length(text) <= cutting.size:
        yield 0, len(text)
        return
    parts = text.split("\n") if block.kind == "code" else language.sentences(text, spoken)
    at = 0
    for part in map(str.rstrip if block.kind == "code" else str.strip, parts):
        if part:
            at = text.index(part, at)
            yield from _hard_cuts(text, at, at + len(part), cutting)
            at += len(part)


def _hard_cuts(text: str, start: int, end: int, cutting: Cutting) -> Iterator[tuple[int, int]]:
    """Yield a span in spans that fit, cut at white space if there is any in the last half of a span."""
    # A token is at most three characters.
    most = cutting.size * (1 if cutting.unit == "characters" else 3)
    while start < end:
        stop = min(end, start + most)
        while cutting.length(text[start:stop]) > cutting.size:
            stop = start + (stop - start) * 9 // 10
        if stop < end:
            half = (start + stop) // 2
            stop = max(text.rfind(" ", half, stop), text.rfind("\n", half, stop)) if _has_space(text[half:stop]) else stop
        yield start, stop
        start = stop
        while start < end and text[start].isspace():
            start += 1


def _has_space(text: str) -> bool:
    return " " in text or "\n" in text
