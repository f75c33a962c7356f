"""Chunks: blocks packed under their headings, cut at sentence ends where a block is too long."""

import hashlib
from collections import Counter
from collections.abc import Iterator

from ingest.load import Block, Document
from rag_app import language
from rag_app.types import Chunk

SIZE = 1000


def chunks(path: str, document: Document, size: int = SIZE) -> list[Chunk]:
    """Return a document's chunks in order, each at most `size` characters, none across a heading.

    Ids depend on path, title, headings and text alone: a chunk keeps its id wherever in the document it moves.
    """
    spoken = language.detect(" ".join(block.text for block in document.blocks))
    seen: Counter[str] = Counter()
    cut: list[Chunk] = []
    for headings, blocks in _sections(document):
        for text, page, image in _pack(blocks, size, spoken):
            key = "\0".join((path, document.title, *headings, text, image))
            seen[key] += 1
            identity = hashlib.sha256(f"{key}\0{seen[key]}".encode()).hexdigest()[:32]
            cut.append(
                Chunk(
                    id=identity,
                    document=path,
                    title=document.title,
                    headings=headings,
                    page=page,
                    position=len(cut),
                    language=spoken,
                    text=text,
                    image=image,
                )
            )
    return cut


def _sections(document: Document) -> Iterator[tuple[tuple[str, ...], list[Block]]]:
    """Yield (heading path, blocks under it); the title itself is not repeated in the path."""
    path: list[tuple[int, str]] = []
    blocks: list[Block] = []

    def headings() -> tuple[str, ...]:
        return tuple(text for _, text in path if text != document.title)

    for block in document.blocks:
        if block.kind != "heading":
            blocks.append(block)
            continue
        if blocks:
            yield headings(), blocks
            blocks = []
        path = [(level, text) for level, text in path if level < block.level]
        path.append((block.level, " ".join(block.text.split())))
    if blocks:
        yield headings(), blocks


def _pack(blocks: list[Block], size: int, spoken: str) -> Iterator[tuple[str, int | None, str]]:
    """Yield texts of at most `size` characters, filled with whole blocks where those fit, with the page they start on.

    A picture's caption stands alone, with the picture's address as the third value.
    """
    text, page = "", None
    for block in blocks:
        if block.kind == "picture":
            if text:
                yield text, page, ""
            text = ""
            yield block.text[:size], block.page, block.image
            continue
        for piece in _pieces(block, size, spoken):
            joint = "\n" if block.kind in ("item", "row") else "\n\n"
            if text and len(text) + len(joint) + len(piece) > size:
                yield text, page, ""
                text = ""
            if not text:
                text, page = piece, block.page
            else:
                text += joint + piece
    if text:
        yield text, page, ""


def _pieces(block: Block, size: int, spoken: str) -> Iterator[str]:
    """Yield a block whole if it fits, else its sentences in as few pieces as fit."""
    if len(block.text) <= size:
        yield block.text
        return
    if block.kind == "code":
        parts, joint = block.text.split("\n"), "\n"
    else:
        parts, joint = language.sentences(block.text, spoken), "" if spoken in ("zh", "ja") else " "
    text = ""
    for part in parts:
        for piece in _hard_cut(part, size):
            if text and len(text) + len(joint) + len(piece) > size:
                yield text
                text = ""
            text = text + joint + piece if text else piece
    if text:
        yield text


def _hard_cut(sentence: str, size: int) -> Iterator[str]:
    """Yield a sentence in pieces of at most `size`, cut at white space if there is any in the last half of a piece."""
    while len(sentence) > size:
        cut = max(sentence.rfind(" ", size // 2, size), sentence.rfind("\n", size // 2, size))
        cut = cut if cut > 0 else size
        yield sentence[:cut].rstrip()
        sentence = sentence[cut:].lstrip()
    if sentence:
        yield sentence
