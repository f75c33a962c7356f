"""OpenDocument texts and presentations."""

from collections.abc import Sequence
from dataclasses import replace

import bs4
from lxml import etree

from ingest.readers.document import Block, Read, locked
from ingest.readers.html import clear, html_blocks
from ingest.readers.package import open_package, parse_xml
from ingest.readers.slides import slide_blocks

# OpenDocument elements by the HTML elements that say the same.
_ODF_TAGS = {
    "p": "p", "list": "ul", "list-item": "li", "list-header": "li", "table": "table", "table-row": "tr", "table-cell": "td",
    "line-break": "br", "span": "span", "a": "a", "page": "section", "table-header-rows": "thead",
}  # fmt: skip
# What a reader of the page does not see.
_ODF_HIDDEN = {"tracked-changes", "annotation", "sequence-decls", "forms", "note-citation", "covered-table-cell"}


def read_odf(content: bytes) -> Read:
    """OpenDocument text and presentations: by way of HTML; a slide is a page with its title as heading."""
    with open_package(content) as package:
        if b"encryption-data" in package.read("META-INF/manifest.xml"):
            raise locked()
        root = parse_xml(package.read("content.xml"))
        styles = [root, *([parse_xml(package.read("styles.xml"))] if "styles.xml" in package.namelist() else [])]
    _number_lists(root, styles)
    slides = [element for element in root.iter() if _local(element) == "page"]
    blocks: list[Block] = []
    titles: list[str] = []
    for number, slide in enumerate(slides, 1):
        found = [replace(b, page=number) for b in html_blocks(_soup(slide))]
        titles.append(next((block.text for block in found if block.kind == "heading"), ""))
        blocks += slide_blocks(titles[-1], [block for block in found if block.text != titles[-1]], number)
    return next(filter(None, titles), ""), blocks if slides else list(html_blocks(_soup(root)))


def _soup(element: etree._Element) -> bs4.BeautifulSoup:
    soup = bs4.BeautifulSoup(_odf_html(element), "lxml")
    clear(soup)
    return soup


def _number_lists(root: etree._Element, parts: Sequence[etree._Element]) -> None:
    """Say of each list whether its style counts it, and how: `1`, `a`, `I`."""
    levels = {
        (_value(style, "name"), _value(level, "level")): _value(level, "num-format")
        for part in parts
        for style in part.iter("{*}list-style")
        for level in style.findall("{*}list-level-style-number")
    }
    for one in root.iter("{*}list"):
        above = list(one.iterancestors("{*}list"))
        style = next(filter(None, (_value(other, "style-name") for other in (one, *above))), "")
        if counting := levels.get((style, str(len(above) + 1))):
            one.set("counted", counting)


def _value(element: etree._Element, name: str) -> str:
    return next((str(value) for key, value in element.items() if etree.QName(key).localname == name), "")


def _odf_html(element: etree._Element) -> str:
    """Return an element as HTML, with headings, lists, tables and breaks."""
    name = _local(element)
    if name in _ODF_HIDDEN:
        return ""
    if name == "s":
        return " "
    if name == "tab":
        return "\t"
    inside = _escaped(element.text) + "".join(_odf_html(child) + _escaped(child.tail) for child in element)
    role = next((value for key, value in element.items() if key.endswith("}class")), "")
    if role == "title" and inside.strip():
        return f"<h1>{inside}</h1>"
    if name == "h":
        level = next((value for key, value in element.items() if key.endswith("}outline-level")), "1")
        return f"<h{min(int(level), 6)}>{inside}</h{min(int(level), 6)}>"
    if name == "notes":
        said = [_escaped("".join(map(str, line.itertext())).strip()) for line in element.iter("{*}p")]
        return f"<p>Notes: {'<br>'.join(filter(None, said))}</p>" if any(said) else ""
    if name == "note-body":
        return f" ({_escaped(' '.join(''.join(map(str, element.itertext())).split()))})"
    if name == "list" and (counting := element.get("counted")):
        return f'<ol type="{counting if counting in "1aAiI" else "1"}">{inside}</ol>'
    tag = _ODF_TAGS.get(name, "div" if name in ("frame", "text-box", "custom-shape") else "")
    spans = {key.rpartition("}")[2]: value for key, value in element.items() if "number-" in key}
    down, across = spans.get("number-rows-spanned", "1"), spans.get("number-columns-spanned", "1")
    if tag == "td":
        times = min(int(spans.get("number-columns-repeated", "1")), 100)
        return f'<td rowspan="{down}" colspan="{across}">{inside}</td>' * times
    return f"<{tag}>{inside}</{tag}>" if tag else inside


def _escaped(text: str | None) -> str:
    return (text or "").replace("&", "&amp;").replace("<", "&lt;")


def _local(element: etree._Element) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""
