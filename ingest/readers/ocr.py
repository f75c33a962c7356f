"""What OCR may read of a file, and what is to be known of it; who reads is handed in."""

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from ingest.readers.document import Block, EmptyError
from rag_app.words import msg, nmsg

# A page whose letters have a lower mean score is read with doubt.
UNSURE = 0.9
# Reads a picture (of Pillow), which has a number: its blocks, and the mean score of its letters.
ReadPicture = Callable[[Any, int], tuple[list[Block], float]]


@dataclass
class Ocr:
    """What OCR may take of one file, in seconds, and what came of its pages."""

    seconds: float
    reader: ReadPicture
    began: float = field(default_factory=lambda: monotonic())
    read: list[int] = field(default_factory=list)
    unsure: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)

    def page(self, number: int, picture: Callable[[], Any]) -> list[Block]:
        """Return what stands on a page, nothing if there is no time left for it."""
        if monotonic() - self.began > self.seconds:
            self.left.append(number)
            return []
        blocks, score = self.reader(picture(), number)
        self.read.append(number)
        if blocks and score < UNSURE:
            self.unsure.append(number)
        return blocks

    def nothing(self) -> EmptyError:
        """Return the error for a file in which no text was found."""
        if self.left:
            return EmptyError(msg("OCR took more than {seconds:g} s (RAG_OCR_TIMEOUT) and found no text", seconds=self.seconds))
        return EmptyError(msg("OCR found no text in it"))

    def notes(self) -> Iterator[Block]:
        """Yield what is to be known of the pages since the last call: a mail may hold several files."""
        if self.read:
            pages = listed(self.read)
            told = nmsg("page {pages} was read by OCR", "pages {pages} were read by OCR", len(self.read), pages=pages)
            yield Block("note", told)
        if self.unsure:
            pages = listed(self.unsure)
            n = len(self.unsure)
            told = nmsg("page {pages} is hard to read: check it", "pages {pages} are hard to read: check them", n, pages=pages)
            yield Block("note", told)
        if self.left:
            pages = listed(self.left)
            told = nmsg(
                "page {pages} was not read: OCR took more than {seconds:g} s (RAG_OCR_TIMEOUT)",
                "pages {pages} were not read: OCR took more than {seconds:g} s (RAG_OCR_TIMEOUT)",
                len(self.left),
                pages=pages,
                seconds=self.seconds,
            )
            yield Block("note", told)
        self.read, self.unsure, self.left = [], [], []


# That of the file that is being read, if it may be used: attachments of a mail are read by it too.
CURRENT: ContextVar[Ocr | None] = ContextVar("ocr", default=None)


def listed(pages: Sequence[int]) -> str:
    return ", ".join(map(str, pages[:20])) + (", …" if len(pages) > 20 else "")
