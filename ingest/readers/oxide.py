"""Office files by office-oxide: what it reads of a Word or PowerPoint file, as blocks."""

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal

import office_oxide
import olefile

from ingest.readers.document import Block, comments_note, grid, locked, table_rows
from ingest.readers.html import MAX_IMAGE, counted
from rag_app.words import Message, msg, nmsg

# What office-oxide makes of a file: an element by the names of its parts.
Element = Mapping[str, Any]
# Elements that hold no words.
_SILENT = {"thematic_break", "page_break", "column_break", "shape", "line_break", "comment_start", "comment_ref"}
_BLOCKS = {"heading", "paragraph", "list", "table", "text_box", "image", "code_block", "footnote", "endnote"}
_KNOWN = {*_SILENT, *_BLOCKS, "text", "footnote_ref", "endnote_ref"}
# Stands before a number that is written in full; of private use, in no text.
NUMBERED = "\ue000"


def parse(content: bytes, kind: Literal["docx", "doc", "ppt"]) -> tuple[dict[str, Any], list[Block]]:
    """Return a file's sections, with footnotes in their places, and what is to be noted. UnreadableError if it is locked."""
    try:
        with office_oxide.Document.from_bytes(content, kind) as document:
            found = document.to_ir()
    except office_oxide.OfficeOxideError as error:
        raise locked() if "encrypted" in str(error) else error from None
    inside = list(_inside(found["sections"]))
    texts = {}
    comments = 0
    for one in inside:
        if one["type"] in ("footnote", "endnote"):
            # Comments are endnotes that say so.
            is_comment = one["type"] == "endnote" and (
                kind == "ppt" or "author" in one or str(one.get("marker")).startswith("Comment")
            )
            comments += is_comment
            text = "" if is_comment else " ".join(block.text for block in blocks_of(one["content"]))
            texts[one["type"], one["id"]], one["content"] = text, []
    for one in inside:
        if one["type"] in ("footnote_ref", "endnote_ref"):
            text = texts.pop((one["type"].removesuffix("_ref"), one["note_id"]), "")
            one.update(type="text", text=f" ({text})" if text else "")
    last = found["sections"][-1]["elements"] if found["sections"] else []
    last += [{"type": "paragraph", "content": [{"type": "text", "text": text}]} for text in texts.values() if text]
    notes = [msg("{kind} was not read", kind=kind) for kind in sorted({one["type"] for one in inside} - _KNOWN)]
    if kind != "docx":
        lists = [one for one in inside if one["type"] == "list" and one.get("ordered")]
        if lists:
            # Of old files it takes every list for a numbered one.
            notes.append(msg("the numbers of its lists were not read: save it as .docx or .pptx"))
        for one in lists:
            one["ordered"] = False
        if embedded := _embedded(content):
            notes.append(embedded_note(embedded))
    if found["metadata"].get("text_truncated"):
        notes.append(msg("a part of it could not be read"))
    return found, [*comments_note(comments), *(Block("note", note) for note in notes)]


def embedded_note(n: int) -> Message:
    """Return the note that objects of other programs were not read."""
    return nmsg("{n} embedded object was not read", "{n} embedded objects were not read", n)


# The kind of record in which PowerPoint keeps an object of another program [MS-PPT 2.10.34].
_OBJECT = 0x1011


def _embedded(content: bytes) -> int:
    """Return how many objects of other programs, formulas and charts, stand in a file up to 2003."""
    with olefile.OleFileIO(io.BytesIO(content)) as container:
        names = container.listdir(streams=False, storages=True)
        objects: int = sum(name[0] == "ObjectPool" and len(name) == 2 for name in names)
        if container.exists("PowerPoint Document"):
            records, at = container.openstream("PowerPoint Document").read(), 0
            while at + 8 <= len(records):
                kind, size = struct.unpack_from("<HI", records, at + 2)
                objects += kind == _OBJECT
                at += 8 + size
    return objects


def _inside(value: object) -> Iterator[dict[str, Any]]:
    """Yield every element below a value."""
    if isinstance(value, dict):
        if "type" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _inside(one)


# Roles of paragraphs that repeat on every slide.
_RUNNING = {"sldNum", "dt", "ftr", "hdr"}


def blocks_of(elements: Sequence[Element], page: int | None = None) -> Iterator[Block]:
    for element in elements:
        kind = element["type"]
        if kind == "heading":
            yield Block("heading", " ".join(text_of(element["content"]).split()), level=element["level"], page=page)
        elif kind == "paragraph" and element.get("placeholder_role") not in _RUNNING:
            if text := text_of(element["content"]):
                yield Block("paragraph", text, page=page)
        elif kind == "list":
            yield from _items(element, page)
        elif kind == "table":
            yield from _rows(element, page)
        elif kind == "text_box":
            yield from blocks_of(element["content"], page)
        elif kind == "code_block":
            yield Block("code", element["content"], page=page)
        elif kind == "image":
            source = f"data:image/{element.get('format')};base64,{element.get('data')}"
            caption = " ".join((element.get("alt_text") or "").split())
            if caption and element.get("data") and len(source) <= MAX_IMAGE:
                yield Block("picture", caption, page=page, image=source)


_STYLES = {"lower_alpha": "a", "upper_alpha": "A", "lower_roman": "i", "upper_roman": "I"}


def _items(listed: Element, page: int | None) -> Iterator[Block]:
    for number, item in enumerate(listed["items"], listed.get("start_number") or 1):
        mark = counted(number, _STYLES.get(listed.get("style", ""), "1")) if listed.get("ordered") else "-"
        for n, block in enumerate(blocks_of(item["content"], page)):
            if n == 0 and block.kind == "paragraph":
                yield replace(block, kind="item", text=block.text if NUMBERED in block.text else f"{mark} {block.text}")
            else:
                yield block
        if item.get("nested"):
            yield from _items(item["nested"], page)


def _rows(table: Element, page: int | None) -> Iterator[Block]:
    """Yield a table's rows with their headers; a table that only places things gives what it holds."""
    cells = [cell for row in table["rows"] for cell in row["cells"]]
    if len(cells) == 1 or any(inside["type"] == "table" for cell in cells for inside in cell["content"]):
        for cell in cells:
            yield from blocks_of(cell["content"], page)
        return
    # PowerPoint calls every first row a header.
    named = 0 if page else next((n for n, row in enumerate(table["rows"]) if not row.get("is_header")), len(table["rows"]))
    rows = [
        [(_cell(cell), cell.get("row_span") or 1, cell.get("col_span") or 1) for cell in row["cells"]] for row in table["rows"]
    ]
    yield from table_rows(*grid(rows, named or None), page=page)


def _cell(cell: Element) -> str:
    return " ".join(block.text.removeprefix("- ") for block in blocks_of(cell["content"]))


def text_of(nodes: Sequence[Element]) -> str:
    """Return a paragraph's text: white space is one space, only breaks break a line; struck text is ~~struck~~."""
    text = ""
    for struck, group in groupby(nodes, lambda node: bool(node.get("strikethrough"))):
        part = "".join("\n" if node["type"] == "line_break" else str(node.get("text") or "") for node in group)
        text += f"~~{part}~~" if struck and part.strip() else part
    return "\n".join(filter(None, (" ".join(line.split()) for line in text.split("\n"))))
