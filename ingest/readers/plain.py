"""Files that are text themselves: plain text, tables, data and source code."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from itertools import islice

from lxml import etree

from ingest.readers.document import Block, Read, UnreadableError, table_rows
from ingest.readers.encoding import decode
from ingest.readers.package import parse_xml
from rag_app.words import msg


def read_text(content: bytes) -> Read:
    """Plain text: paragraphs between blank lines."""
    return "", _paragraphs(decode(content))


def _paragraphs(text: str) -> list[Block]:
    return [Block("paragraph", part.strip()) for part in re.split(r"\n[ \t\r\f\v]*\n\s*", text)]


def read_csv(content: bytes) -> Read:
    """A table with commas, semicolons, tabs or bars between its cells; the first row is its header."""
    text = decode(content)
    # A cell may hold a whole page.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    rows = csv.reader(StringIO(text, newline=""), delimiter=_delimiter(text))
    return "", list(table_rows([[" ".join(cell.split()) for cell in row] for row in rows]))


def _delimiter(text: str) -> str:
    """Return the delimiter that cuts most of the first rows into the same number of cells, and those into most cells."""

    def fits(delimiter: str) -> tuple[int, int]:
        widths = Counter(len(row) for row in islice(csv.reader(StringIO(text, newline=""), delimiter=delimiter), 50) if row)
        width, rows = max(widths.items(), key=lambda item: (item[0] > 1, item[1]), default=(1, 0))
        return (rows, width) if width > 1 else (0, 0)

    return max(",;\t|", key=fits)


def read_json(content: bytes) -> Read:
    """JSON: a list of objects is a table, an object below a key stands under that key as heading."""
    text = decode(content)
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UnreadableError(msg("not valid JSON ({reason})", reason=error), msg("fix it or export it again")) from error
    return "", list(_json_blocks(value, 2))


def read_jsonl(content: bytes) -> Read:
    """JSON Lines: one value a line."""
    values = []
    for number, line in enumerate(decode(content).split("\n"), 1):
        if line.strip():
            try:
                values.append(json.loads(line))
            except ValueError as error:
                raise UnreadableError(
                    msg("line {number} is not valid JSON ({reason})", number=number, reason=error), msg("fix that line")
                ) from error
    return "", list(_json_blocks(values, 2))


def _json_blocks(value: object, level: int) -> Iterator[Block]:
    if isinstance(value, dict):
        alone = {key: one for key, one in value.items() if not isinstance(one, dict | list)}
        if alone:
            yield Block("row", _flat(alone))
        for key, one in value.items():
            if key not in alone and one:
                yield Block("heading", str(key), level=min(level, 6))
                yield from _json_blocks(one, level + 1)
    elif isinstance(value, list):
        for one in value:
            yield Block("row" if isinstance(one, dict | list) else "item", _flat(one) if one not in ({}, []) else "")
    else:
        yield Block("paragraph", _flat(value))


def _flat(value: object, name: str = "") -> str:
    """Return a value in one line, `name: Ann | home.city: Jena`."""
    if isinstance(value, dict):
        return " | ".join(filter(None, (_flat(one, f"{name}.{key}" if name else str(key)) for key, one in value.items())))
    if isinstance(value, list):
        if any(isinstance(one, dict | list) for one in value):
            return " | ".join(filter(None, (_flat(one, name) for one in value)))
        value = ", ".join(str(one) for one in value)
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"{name}: {text}" if name and text else text


def read_rtf(content: bytes) -> Read:
    """Rich text: paragraphs, and tables with their headers."""
    from striprtf.striprtf import rtf_to_text  # Of the extra `files`.

    # RTF is ASCII; what is not stands in it by number.
    text = rtf_to_text(content.decode("latin-1"), errors="replace")  # type: ignore[no-untyped-call]
    blocks, table = list[Block](), list[list[str]]()
    for line in [*text.split("\n"), ""]:
        if line.count("|") > 1 and line.endswith("|"):
            table.append([" ".join(cell.split()) for cell in line[:-1].split("|")])
            continue
        blocks += [*table_rows(table), Block("paragraph", line.strip())]
        table = []
    return "", blocks


# What holds a heading, in DocBook, JATS, DITA and others.
_TITLES = {"title", "article-title", "book-title"}
# What holds text and says nothing by its name, as `price` does.
_TEXT = {"p", "para", "simpara", "li", "item", "listitem", "label", "text"}


def read_xml(content: bytes) -> Read:
    """XML: titles are headings, an element with text in it is a paragraph, one of short named values a row."""
    root = parse_xml(content)
    title = next(root.iter("{*}article-title", "{*}book-title"), root.find("{*}title"))
    return "" if title is None else _words(title), list(_xml_blocks(root, 0))


def _xml_blocks(element: etree._Element, level: int) -> Iterator[Block]:
    children = [child for child in element if isinstance(child.tag, str)]
    if _name(element) in _TITLES:
        yield Block("heading", _words(element), level=min(max(level, 1), 6))
    elif not children or (element.text or "").strip() or any((child.tail or "").strip() for child in children):
        words = _words(element)
        named = words and not children and len(words) < 40 and _name(element) not in _TEXT
        yield Block("paragraph", f"{_name(element)}: {words}" if named else words)
    elif _name(element) in ("table", "tgroup"):
        rows = [row for row in element.iter() if _name(row) in ("tr", "row")]
        yield from table_rows([[_words(cell) for cell in row] for row in rows])
    elif len(children) > 1 and not any(len(child) for child in children) and len({child.tag for child in children}) > 1:
        yield Block("row", " | ".join(f"{_name(child)}: {_words(child)}" for child in children if _words(child)))
    else:
        deeper = level + any(_name(child) in _TITLES for child in children)
        for child in children:
            yield from _xml_blocks(child, deeper)


def _name(element: etree._Element) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _words(element: etree._Element) -> str:
    return " ".join("".join(map(str, element.itertext())).split())


# A class or function at the left edge, in most languages that name them so.
_DEFINES = re.compile(
    r"^(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|pub|open) +)*"
    r"((?:class|def|func|function|fn|fun|interface|struct|enum|trait|impl|record|object|module|type) +\w+(?:(?:\.|::)\w+)*)",
)


def read_code(content: bytes) -> Read:
    """Source code: what starts at the left edge after a blank line is a block; classes and functions are headings."""
    blocks: list[Block] = []
    for part in re.split(r"\n(?:[ \t]*\n)+(?=[^\s)}\]])", decode(content).replace("\r\n", "\n")):
        defined = next(filter(None, map(_DEFINES.match, part.split("\n"))), None)
        if defined:
            blocks.append(Block("heading", defined[1], level=2))
        blocks.append(Block("code", part.strip("\n")))
    # No heading of level 1: the file's name is its title, not its first function.
    return "", blocks
