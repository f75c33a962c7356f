"""Files that are text themselves: plain text, tables, data and source code."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import groupby, islice

from lxml import etree

from ingest.readers.document import Block, Read, UnreadableError, table_rows
from ingest.readers.encoding import decode
from ingest.readers.html import read_markdown
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
    # Excel reads the delimiter from a first line of its own.
    if said := re.match(r"sep=(.)\r?\n", text):
        text = text[said.end() :]
    delimiter = said[1] if said else _delimiter(text)
    rows = list(csv.reader(StringIO(text, newline=""), delimiter=delimiter))
    width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    if any(_holds_rows(cell, delimiter, width) for row in rows for cell in row):
        # An inch mark, or a quote without an end, that has swallowed the rows below it.
        rows = list(csv.reader(StringIO(text, newline=""), delimiter=delimiter, quoting=csv.QUOTE_NONE))
    return "", list(table_rows([[" ".join(cell.split()) for cell in row] for row in rows]))


def _holds_rows(cell: str, delimiter: str, width: int) -> bool:
    """Say whether most lines of a cell are rows of the table themselves."""
    lines = cell.split("\n")[1:]
    return width > 1 and len(lines) > 1 and 2 * sum(line.count(delimiter) == width - 1 for line in lines) > len(lines)


def _delimiter(text: str) -> str:
    """Return the delimiter that cuts most of the first rows into the same number of cells, and those into most cells."""

    def fits(delimiter: str) -> tuple[int, int]:
        widths = Counter(len(row) for row in islice(csv.reader(StringIO(text, newline=""), delimiter=delimiter), 50) if row)
        width, rows = max(widths.items(), key=lambda item: (item[0] > 1, item[1]), default=(1, 0))
        return (rows, width) if width > 1 else (0, 0)

    return max(",;\t|", key=fits)


def read_json(content: bytes) -> Read:
    """JSON, with comments too: a list of objects is a table, an object below a key stands under that key as heading."""
    text = decode(content)
    try:
        try:
            value = json.loads(text)
        except ValueError:
            value = json.loads(re.sub(_COMMENTS, lambda match: match["kept"] or "", text, flags=re.S))
    except ValueError as error:
        raise UnreadableError(msg("not valid JSON ({reason})", reason=error), msg("fix it or export it again")) from error
    return "", list(_json_blocks(value, 2))


# Comments, and commas before a closing bracket; texts are kept.
_COMMENTS = r'(?P<kept>"(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[}\]])'


def read_jsonl(content: bytes) -> Read:
    """JSON Lines: one value a line; a line that is none is noted, and the others are read."""
    values, notes = [], []
    for number, line in enumerate(decode(content).split("\n"), 1):
        if line.strip():
            try:
                values.append(json.loads(line))
            except ValueError as error:
                notes.append(msg("line {number} is not valid JSON ({reason})", number=number, reason=error))
    if notes and not values:
        raise UnreadableError(notes[0], msg("fix that line"))
    left_out = notes[:MOST_NOTES]
    if len(notes) > MOST_NOTES:
        left_out.append(msg("{n} more lines are not valid JSON", n=len(notes) - MOST_NOTES))
    return "", [*_json_blocks(values, 2), *(Block("note", note) for note in left_out)]


# Lines that are named one by one.
MOST_NOTES = 5


def read_notebook(content: bytes) -> Read:
    """A Jupyter notebook: its text as Markdown, its code, and what that printed; pictures are left out."""
    try:
        notebook = json.loads(decode(content))
        cells = notebook["cells"] if "cells" in notebook else [c for sheet in notebook["worksheets"] for c in sheet["cells"]]
        blocks: list[Block] = []
        for cell in cells:
            source = _lines(cell.get("source", cell.get("input")))
            if cell["cell_type"] in ("markdown", "heading"):
                level = "#" * int(cell.get("level", 0))
                blocks += read_markdown(f"{level} {source}".strip().encode())[1]
            else:
                blocks.append(Block("code", source))
            for output in cell.get("outputs", ()):
                data = output.get("data", output)
                printed = _lines(output.get("text") or data.get("text/plain") or output.get("evalue"))
                blocks.append(Block("code", printed.strip("\n")))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnreadableError(msg("not a readable notebook ({reason})", reason=error), msg("save it again")) from error
    return "", blocks


def _lines(value: object) -> str:
    """Return text that a notebook has as one or as a list of lines."""
    return "".join(map(str, value)) if isinstance(value, list) else str(value or "")


def read_subtitles(content: bytes) -> Read:
    """Subtitles (SRT, WebVTT): what is said, in paragraphs between pauses, without numbers, times and styles."""
    blocks: list[Block] = []
    said: list[str] = []
    last = 0.0
    for cue in re.split(r"\n\s*\n", decode(content).replace("\r\n", "\n")):
        times = re.search(rf"^[ ]*{_TIME}[ ]*-->[ ]*{_TIME}[^\n]*$", cue, re.M)
        if not times:
            continue
        text = " ".join(re.sub(r"<[^>\n]*>|\{\\[^}\n]*\}", "", cue[times.end() :]).split())
        begins, ends = (_seconds(times.groups()[i : i + 3]) for i in (0, 3))
        if said and begins - last > PAUSE and said[-1].endswith((".", "!", "?", "。", "！", "？", "…")):
            blocks.append(Block("paragraph", " ".join(said)))
            said = []
        # Captions that roll say each line twice.
        if text and text not in said[-1:]:
            said.append(text)
        last = ends
    return "", [*blocks, Block("paragraph", " ".join(said))]


_TIME = r"(?:(\d+):)?(\d+):(\d+[.,]\d+)"
# Seconds of silence after which a new paragraph begins.
PAUSE = 2.0


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds = parts
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float((seconds or "0").replace(",", "."))


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


def read_yaml(content: bytes) -> Read:
    """YAML, as it was written, comments too: what is long is cut at its keys, which are the headings of what stands below."""
    lines = [line.rstrip() for line in decode(content).expandtabs(2).splitlines()]
    return "", list(_yaml_blocks([line for line in lines if line], 2))


# Characters of what is not cut further.
_SHORT = 500


def _yaml_blocks(lines: list[str], level: int) -> Iterator[Block]:
    entries = [(*entry, sum(map(len, (*entry[0], *entry[2])))) for entry in _yaml_entries(lines)]
    long = [bool(below) and size > _SHORT for _, _, below, size in entries]
    for is_long, group in groupby(zip(entries, long, strict=True), key=lambda pair: pair[1]):
        together = [entry for entry, _ in group]
        if not is_long:
            # Below what has a heading, what is short needs one too, to be taken for no part of that.
            names = ", ".join(_yaml_name(key) for _, key, _, _ in together)
            yield Block("heading", names if any(long) else "", level=min(level, 6))
            yield Block("code", "\n".join(line for above, key, below, _ in together for line in (*above, key, *below)))
            continue
        for above, key, below, _ in together:
            yield Block("heading", _yaml_name(key), level=min(level, 6))
            # A value that begins beside its key, and whatever else its line says.
            alone = re.fullmatch(rf"(- +)*{re.escape(_yaml_name(key))}:?\s*([|>][-+\d]*)?", key.strip())
            yield Block("code", "\n".join(above if alone else (*above, key)))
            yield from _yaml_blocks(below, level + 1)


def _yaml_name(line: str) -> str:
    """Return the key of a first line, or what an item of a list begins with: `service`, `name: web`."""
    line = line.strip()
    return re.sub(r"^(- +)+|:$", "", line) if line.startswith("- ") else re.split(r": |:$| #", line)[0]


def _yaml_entries(lines: list[str]) -> Iterator[tuple[list[str], str, list[str]]]:
    """Yield the entries of the outermost level: the comments above each, its first line, and the lines below that."""
    said = [line for line in lines if not line.lstrip().startswith("#")]
    indent = min((len(line) - len(line.lstrip()) for line in said), default=0)

    def is_comment(line: str) -> bool:
        return line.lstrip().startswith("#") and len(line) - len(line.lstrip()) <= indent

    starts: list[int] = []
    for n, line in enumerate(lines):
        first = line[indent:]
        # A list may stand no deeper than its key.
        listed = first.startswith("- ") and starts and lines[starts[-1]].endswith(":") and lines[starts[-1]][indent] != "-"
        if not first.startswith(" ") and not line.lstrip().startswith("#") and not listed:
            starts.append(n)
    if not starts:
        yield lines, "", []
    at = 0
    for n, end in zip(starts, [*starts[1:], len(lines)][: len(starts)], strict=True):
        # Comments at the end of one entry are the next one's.
        while end < len(lines) and end > n + 1 and is_comment(lines[end - 1]):
            end -= 1
        yield lines[at:n], lines[n], lines[n + 1 : end]
        at = end


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
    if root.tag == f"{_SHEET}Workbook":
        return "", list(_sheets(root))
    title = next(root.iter("{*}article-title", "{*}book-title"), root.find("{*}title"))
    return "" if title is None else _words(title), list(_xml_blocks(root, 0))


_SHEET = "{urn:schemas-microsoft-com:office:spreadsheet}"


def _sheets(root: etree._Element) -> Iterator[Block]:
    """Yield the sheets of a workbook as Excel 2003 wrote it in XML."""
    for sheet in root.iter(f"{_SHEET}Worksheet"):
        yield Block("heading", sheet.get(f"{_SHEET}Name", ""), level=2)
        rows: list[list[str]] = []
        for row in sheet.iter(f"{_SHEET}Row"):
            rows += [[] for _ in range(min(int(row.get(f"{_SHEET}Index", 0)) - len(rows) - 1, 1))]
            cells: list[str] = []
            for cell in row.iter(f"{_SHEET}Cell"):
                cells += [""] * min(int(cell.get(f"{_SHEET}Index", 0)) - len(cells) - 1, 1000)
                cells.append(_words(cell))
            rows.append(cells)
        yield from table_rows(rows)


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
