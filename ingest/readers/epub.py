"""EPUB: its chapters in reading order."""

import posixpath
from urllib.parse import unquote

from ingest.readers.document import Block, Read, UnreadableError
from ingest.readers.encoding import decode
from ingest.readers.html import read_page
from ingest.readers.package import open_package, parse_xml
from rag_app.words import msg


def read_epub(content: bytes) -> Read:
    """EPUB: every chapter of the spine; one that has no heading gets its page's title as one."""
    with open_package(content) as package:
        names = set(package.namelist())
        if names & {"META-INF/rights.xml", "META-INF/sinf.xml"}:
            raise UnreadableError(msg("it is locked by copy protection"), msg("use an unprotected copy"))
        container = parse_xml(package.read("META-INF/container.xml"))
        opf = next(str(element.get("full-path")) for element in container.iter("{*}rootfile"))
        book = parse_xml(package.read(opf))
        title = next((element.text or "" for element in book.iter("{*}title")), "").strip()
        items = {element.get("id"): element for element in book.iter("{*}item")}
        blocks: list[Block] = []
        for reference in book.iter("{*}itemref"):
            item = items.get(reference.get("idref"))
            if item is None or "nav" in (item.get("properties") or "").split():
                continue
            name = posixpath.normpath(posixpath.join(posixpath.dirname(opf), unquote(item.get("href") or "")))
            if name in names and "html" in (item.get("media-type") or ""):
                blocks += _chapter(package.read(name), title)
    return title, blocks


def _chapter(content: bytes, book: str) -> list[Block]:
    title, blocks = read_page(decode(content))
    if title and title != book and not any(block.kind == "heading" for block in blocks):
        blocks.insert(0, Block("heading", title, level=1))
    return blocks
