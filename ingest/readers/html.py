"""HTML, and Markdown by way of it: blocks in reading order."""

import re
import textwrap
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

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
    """CommonMark with tables; front matter gives the title and, like a site generator's tags, is left out of the text."""
    whole = decode(content)
    title, text = _without_front_matter(whole)
    # Braces in prose that no generator fills are what the author wrote.
    text = _without_templates(text) if text != whole or re.search(_GENERATED, text) else text
    soup = bs4.BeautifulSoup(_MARKDOWN.render(_as_commonmark(text)), "lxml")
    clear(soup)
    return title, list(html_blocks(soup))


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
    clear(soup)
    articles = soup.find_all("article")
    main = soup.find("main") or (articles[0] if len(articles) == 1 else soup)
    # What is named the main part, and is not, is a part.
    return title, list(html_blocks(main if 2 * len(main.get_text()) > len(soup.get_text()) else soup))


def clear(soup: bs4.BeautifulSoup) -> None:
    """Take out of a page what is no text of it, and bring in what its tags say and their words do not."""
    for text in soup.find_all(string=lambda text: isinstance(text, bs4.element.Comment | bs4.element.CData)):
        # Code in pages of a wiki; the parser takes it for a comment.
        if inside := re.fullmatch(r"(?:\[CDATA\[)?(.*?)(?:\]\])?", str(text), re.S):
            is_code = isinstance(text, bs4.element.CData) or str(text).startswith("[CDATA[")
            text.replace_with(bs4.element.NavigableString(inside[1] if is_code else ""))
    for tag in soup(["script", "style", "template", "nav", "select", "svg", "head"]):
        tag.decompose()
    # What a formula looks like, said beside the formula itself; numbers of lines of code.
    for tag in soup.select(
        ".katex-html, mjx-assistive-mml, td.linenos, td.hljs-ln-numbers, .lineno, .linenos, .line-numbers-rows"
    ):
        tag.decompose()
    for box in soup("input", type="checkbox"):
        box.replace_with("☒ " if box.has_attr("checked") else "☐ ")
    for tag in soup("math"):
        if source := tag.find("annotation", encoding="application/x-tex"):
            tag.replace_with(source.get_text().strip())
    for tag in soup(["button", "noscript", "aside", "footer"]):
        if tag.decomposed:
            continue
        if _is_text(tag):
            tag.unwrap() if tag.name in ("button", "noscript") else None
        else:
            tag.decompose()
    for tag in soup(["del", "s", "strike"]):
        if not tag.find(["p", "div", "li", "table"]):
            tag.replace_with(f"~~{tag.get_text()}~~")
    for listed in soup("ol"):
        number = _number(listed.get("start"), 1)
        for item in listed.find_all("li", recursive=False):
            number = _number(item.get("value"), number)
            item["value"] = counted(number, str(listed.get("type") or "1"))
            number += 1


def _is_text(tag: bs4.Tag) -> bool:
    """Say whether a button, an aside, a footer or a noscript is a part of the text, by where it stands and what it is for."""
    if tag.name == "button":
        # A question that opens its answer.
        return bool(tag.find_parent([*_HEADINGS, "dt", "summary"]) or tag.get("aria-controls") or tag.get("aria-expanded"))
    if tag.name == "noscript":
        return bool(tag.get_text(strip=True)) and not re.search(r"java\s?script|<(img|iframe)\b", str(tag), re.I)
    if tag.name == "aside":
        marks = " ".join([*(tag.get("class") or []), str(tag.get("role") or ""), str(tag.get("epub:type") or "")])
        return bool(tag.find_parent(["main", "article"]) or re.search(_ASIDE, marks, re.I))
    return tag.find_parent(["article", "blockquote", "main", "figure"]) is not None


_ASIDE = r"admonition|callout|warning|caution|danger|\bnote\b|\btip\b|\binfo\b|alert|footnote|notice"


def _number(value: object, otherwise: int) -> int:
    return int(str(value)) if re.fullmatch(r"-?\d{1,9}", str(value or "").strip()) else otherwise


def counted(number: int, kind: str) -> str:
    """Return the number of a list's item as it is shown: `3.`, `c.` or `iii.`."""
    if kind in "aA" and 1 <= number <= 26:
        return f"{chr(ord(kind) + number - 1)}."
    if kind in "iI" and 1 <= number < 400:
        # Hundreds, tens and ones are written alike, in their own letters.
        digits = ["", "a", "aa", "aaa", "ab", "b", "ba", "baa", "baaa", "ac"]
        places = zip(f"{number:03}", ("cdm", "xlc", "ivx"), strict=True)
        shown = "".join(digits[int(digit)].translate(str.maketrans("abc", letters)) for digit, letters in places)
        return f"{shown.upper() if kind == 'I' else shown}."
    return f"{number}."


def front_matter(text: str) -> tuple[dict[str, Any], str]:
    """Return what front matter says, by name, and the text after it."""
    match = re.match(
        r"\s*(?:---(?P<of>\w*)|(?P<toml>\+\+\+))[ \t]*\n(?P<front>.*?)\n(?:---|\.\.\.|\+\+\+)[ \t]*(?:\n|$)", text, re.S
    )
    if not match:
        return {}, text
    front: object = None
    with suppress(yaml.YAMLError, ValueError):
        front = tomllib.loads(match["front"]) if match["toml"] else yaml.safe_load(match["front"])
    # A rule at the top is no front matter; `---js` is, though its language is none that is read.
    if not isinstance(front, dict) and not match["of"]:
        return {}, text
    return front if isinstance(front, dict) else {}, text[match.end() :]


def _without_front_matter(text: str) -> tuple[str, str]:
    """Return the title that front matter gives, and the text after it."""
    front, rest = front_matter(text)
    title = str(front.get("title") or "")
    # Titles are written with markup now and then.
    return bs4.BeautifulSoup(title, "lxml").get_text() if "<" in title else title, rest


# Tags that only site generators know (Jekyll, Eleventy, Hugo).
_GENERATED = r"\{%-?\s*(raw|comment|include|highlight|link|post_url|assign|capture|layout)\b"
# Code, which stays as it is, or one of the forms that other programs than CommonMark's know.
_DIALECT = re.compile(
    r"(?P<code>^[ ]{0,3}(?P<fence>```+|~~~+).*?^[ ]{0,3}(?P=fence)|(?<!`)`[^`\n]+`)"
    # Obsidian: embedded files, links to notes, remarks.
    r"|!\[\[(?P<embedded>[^\]\n]*)\]\]|\[\[(?P<link>[^\]\n|]+)(?:\|(?P<words>[^\]\n]+))?\]\]|(?<!\S)%%.*?%%(?!\S)"
    # Callouts of Obsidian and GitHub, admonitions of MkDocs.
    r"|^(?P<quote>[ ]{0,3}>[ ]?)\[!(?P<callout>\w+)\][+-]?[ ]*(?P<named>[^\n]*)$"
    r"|^[ ]{0,3}(?:!!!|\?\?\?)\+?[ ]+(?P<admonition>\w+)(?:[ ]+\"(?P<titled>[^\"\n]*)\")?[ ]*$"
    r"(?P<body>(?:\n(?:[ ]{4}|\t)[^\n]*|\n[ \t]*$)*)"
    # MDX.
    r"|^(?:import\s[^\n]*?[\"'][^\"'\n]+[\"'];?|export\s+(?:default|const|let|function)\b[^\n]*)$",
    re.S | re.M,
)


def _as_commonmark(text: str) -> str:
    """Return Markdown of other dialects as CommonMark: links to notes as their words, callouts with their kind, no imports."""

    def written(match: re.Match[str]) -> str:
        if match["code"]:
            return match[0]
        if match["link"]:
            return (match["words"] or match["link"].replace("#", " › ").strip(" ›")).strip()
        if kind := match["callout"] or match["admonition"]:
            said = (match["named"] or match["titled"] or "").strip()
            title, quote = f"**{kind.capitalize()}{': ' if said else ''}{said}**", match["quote"] or ""
            return f"{quote}{title}\n{quote}{textwrap.dedent(match['body'] or '')}"
        # An embedded note is named, an embedded picture has no words.
        embedded = match["embedded"] or ""
        return "" if re.search(r"\.\w{2,4}$", embedded.partition("|")[0]) else embedded.replace("#", " › ")

    return _DIALECT.sub(written, text)


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
            inline.append(_space("".join(inline[-1:]), child) + _inline_text(child))
        elif type(child) is bs4.element.NavigableString:
            inline.append(_space("".join(inline[-1:]), child) + str(child))
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
                yield Block("item", f"{tag.get('value') or '-'} {block.text}")
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
    if tag.find(["p", "div", "li"]):
        return tag.get_text(" ")
    text = ""
    for piece in tag.find_all(string=True):
        if type(piece) is bs4.element.NavigableString:
            text += _space(text, piece) + piece
    return text


def _space(before: str, piece: bs4.element.PageElement) -> str:
    """Return the space that only the page's style sets between a number and a word: `<b>312</b>employees`."""
    inside = {"sub", "sup", "code"} & {
        tag.name for tag in (piece, piece.previous_sibling, piece.parent) if isinstance(tag, bs4.Tag)
    }
    after = piece.get_text() if isinstance(piece, bs4.Tag) else str(piece)
    apart = re.search(r"\d\0[^\W\d_]{3}|[^\W\d_]{3}\0\d", f"{before[-3:]}\0{after[:3]}")
    return " " if apart and not inside else ""


def _squeeze(text: str) -> str:
    """Return HTML text as it is shown: white space is one space, only <br> breaks a line."""
    return "\n".join(filter(None, (" ".join(line.split()) for line in text.split(_BREAK))))
