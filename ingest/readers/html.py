"""HTML, and Markdown by way of it: blocks in reading order."""

import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress

import bs4
import bs4.element
import yaml
from markdown_it import MarkdownIt

from ingest.readers.document import Block, Read, grid, table_rows
from ingest.readers.encoding import decode

# Characters of a picture's address; a data URI of about 75 kB.
MAX_IMAGE = 100_000
# Stands for <br> until white space is squeezed; no text holds it.
_BREAK = "\0"
_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_INLINE = {
    "a", "abbr", "b", "bdi", "bdo", "br", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd", "mark", "q",
    "s", "samp", "small", "span", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr", "img", "label",
}  # fmt: skip


def read_markdown(content: bytes) -> Read:
    """CommonMark with tables; front matter gives the title and, like template tags, is left out of the text."""
    title, text = _without_front_matter(decode(content))
    return title, list(html_blocks(bs4.BeautifulSoup(_MARKDOWN.render(_without_templates(text)), "lxml")))


def read_html(content: bytes) -> Read:
    """HTML: the main part of the page, without navigation, scripts and footers."""
    declared = bs4.dammit.EncodingDetector.find_declared_encoding(content, is_html=True) or ""
    return read_page(decode(content, declared))


def read_page(html: str) -> Read:
    """Return a page's title and the blocks of its main part."""
    front, html = _without_front_matter(html)
    soup = bs4.BeautifulSoup(_without_templates(html) if "{%" in html else html, "lxml")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    heading = soup.find("h1")
    title = front or (heading.get_text(" ", strip=True) if heading else "") or title
    for tag in soup(["script", "style", "noscript", "template", "nav", "footer", "aside", "button", "select", "svg", "head"]):
        tag.decompose()
    articles = soup.find_all("article")
    return title, list(html_blocks(soup.find("main") or (articles[0] if len(articles) == 1 else soup)))


def _without_front_matter(text: str) -> tuple[str, str]:
    """Return the title that front matter gives, and the text after it."""
    match = re.match(
        r"\s*(?:---(?P<of>\w*)|(?P<toml>\+\+\+))[ \t]*\n(?P<front>.*?)\n(?:---|\.\.\.|\+\+\+)[ \t]*(?:\n|$)", text, re.S
    )
    if not match:
        return "", text
    front: object = None
    with suppress(yaml.YAMLError, ValueError):
        front = tomllib.loads(match["front"]) if match["toml"] else yaml.safe_load(match["front"])
    # A rule at the top is no front matter; `---js` is, though its language is none that is read.
    if not isinstance(front, dict) and not match["of"]:
        return "", text
    title = str(front.get("title") or "") if isinstance(front, dict) else ""
    # Titles are written with markup now and then.
    return bs4.BeautifulSoup(title, "lxml").get_text() if "<" in title else title, text[match.end() :]


_TEMPLATE = re.compile(
    r"\{%-?\s*raw\s*-?%\}(?P<raw>.*?)\{%-?\s*endraw\s*-?%\}"
    r"|\{%-?\s*comment\s*-?%\}.*?\{%-?\s*endcomment\s*-?%\}|\{#.{0,2000}?#\}"
    r"|(?P<code>^(?P<fence>```+|~~~+).*?^(?P=fence)|(?<!`)`[^`\n]+`)"
    r"|\{%-?\s*(?P<tag>(?:(?!\{%).){0,2000}?)%\}|\{\{(?!\{).{0,500}?\}\}",
    re.S | re.M,
)


def _without_templates(text: str) -> str:
    """Return text without Jekyll's and Liquid's tags. Code keeps its braces, and a tag the words that it would show.

    `{% slack_channel "it-help" %}` shows `it-help`; what looks like a path or a file's name is no word.
    """
    if "{%" not in text and "{{" not in text:
        return text

    def shown(match: re.Match[str]) -> str:
        if match["code"]:
            return re.sub(r"\{%-?\s*(?:end)?raw\s*-?%\}", "", match["code"])
        if match["raw"] is not None:
            return str(match["raw"])
        words = [word for word in re.findall(r'(?<=\s)"([^"]*)"', match["tag"] or "") if not re.search(r"^\S*[/.]\S*$", word)]
        return words[-1] if words else ""

    return _TEMPLATE.sub(shown, text)


def html_blocks(tag: bs4.Tag) -> Iterator[Block]:
    """Yield the blocks below a tag, in reading order."""
    inline: list[str] = []

    def flush() -> Iterator[Block]:
        if text := _squeeze("".join(inline)):
            yield Block("paragraph", text)
        inline.clear()

    for child in tag.children:
        if isinstance(child, bs4.Tag) and child.name == "img" and (caption := _squeeze(str(child.get("alt") or ""))):
            source = str(child.get("src") or "")
            # Files beside the document stay out: a rerank endpoint could not reach them.
            if source.startswith(("http://", "https://", "data:image/")) and len(source) <= MAX_IMAGE:
                yield from flush()
                yield Block("picture", caption, image=source)
        elif isinstance(child, bs4.Tag) and child.name not in _INLINE:
            yield from flush()
            yield from _element_blocks(child)
        elif isinstance(child, bs4.Tag):
            inline.append(_inline_text(child))
        elif type(child) is bs4.element.NavigableString:
            inline.append(str(child))
    yield from flush()


def _element_blocks(tag: bs4.Tag) -> Iterator[Block]:
    if tag.name in _HEADINGS:
        yield Block("heading", _squeeze(_inline_text(tag)), level=_HEADINGS[tag.name])
    elif tag.name == "pre":
        yield Block("code", tag.get_text().strip("\n"))
    elif tag.name == "table":
        yield from _table_blocks(tag)
    elif tag.name in ("li", "dd", "dt"):
        for n, block in enumerate(html_blocks(tag)):
            # The item's own first words carry the dash; nested items have theirs already.
            if n == 0 and block.kind == "paragraph":
                yield Block("item", f"- {block.text}")
            else:
                yield block
    else:
        yield from html_blocks(tag)


def _table_blocks(table: bs4.Tag) -> Iterator[Block]:
    """Yield a table's rows with their headers; a table that only places things on the page gives what it holds."""
    if caption := table.find("caption"):
        yield Block("paragraph", _squeeze(_inline_text(caption)))
    rows = [row for row in table.find_all("tr") if row.find_parent("table") is table]
    cells = [row.find_all(["td", "th"], recursive=False) for row in rows]
    if (
        not any(cells)
        or table.get("role") == "presentation"
        or len(cells) == len(cells[0]) == 1
        or (table.find("table") and not table.find("th"))
    ):
        for cell in [cell for row in cells for cell in row]:
            yield from html_blocks(cell)
    elif cells and all([cell.name for cell in row] == ["th", "td"] for row in cells):
        for name, cell in cells:
            yield Block("row", f"{_squeeze(_inline_text(name))}: {_squeeze(_inline_text(cell))}")
    else:
        in_head = [bool(row.parent and row.parent.name == "thead") for row in rows]
        heads = [head or all(cell.name == "th" for cell in row) for head, row in zip(in_head, cells, strict=True)]
        headers = next((n for n, head in enumerate(heads) if not head), len(heads))
        yield from table_rows(*grid([[_cell(cell) for cell in row] for row in cells], headers))


def _cell(cell: bs4.Tag) -> tuple[str, int, int]:
    down, across = (str(cell.get(name) or "") for name in ("rowspan", "colspan"))
    return (
        _squeeze(_inline_text(cell)),
        max(int(down), 1) if down.isdecimal() else 1,
        max(int(across), 1) if across.isdecimal() else 1,
    )


def _inline_text(tag: bs4.Tag) -> str:
    for line_break in tag.find_all("br"):
        line_break.replace_with(_BREAK)
    if tag.name == "br":
        return _BREAK
    # Blocks inside a cell or item must not run together.
    return tag.get_text(" " if tag.find(["p", "div", "li"]) else "")


def _squeeze(text: str) -> str:
    """Return HTML text as it is shown: white space is one space, only <br> breaks a line."""
    return "\n".join(filter(None, (" ".join(line.split()) for line in text.split(_BREAK))))
