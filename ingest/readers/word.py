"""Word files: new ones with what only their XML tells, numbers of headings and steps, formulas; old ones."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from posixpath import dirname
from typing import Literal

from lxml import etree

from ingest.readers.document import Block, Read
from ingest.readers.oxide import NUMBERED, Element, blocks_of, parse
from ingest.readers.package import changed, open_package, parse_xml, replace_element, value_of
from ingest.readers.word_numbers import Styles, run_like


def read_docx(content: bytes) -> Read:
    """Word: headings and steps with their numbers, lists, tables, text boxes, notes; formulas in one line, `(a)/(b)`."""
    with open_package(content) as package:
        main = next((name for name in package.namelist() if re.fullmatch(r"word/document\d*\.xml", name)), "word/document.xml")
        content = changed(package, {main: etree.tostring(_written_out(package, main))})
    return _read_word(content, "docx")


def read_doc(content: bytes) -> Read:
    """Word up to 2003."""
    return _read_word(content, "doc")


def _read_word(content: bytes, kind: Literal["docx", "doc"]) -> Read:
    found, notes = parse(content, kind)
    blocks = [*_heads_and_feet(found["sections"]), *(b for s in found["sections"] for b in blocks_of(s["elements"]))]
    return "", [*(replace(block, text=block.text.replace(NUMBERED, "")) for block in blocks), *notes]


def _heads_and_feet(sections: Sequence[Element]) -> list[Block]:
    """Return what stands at the head and foot of the pages, once."""
    parts = [
        s.get(f"{page}{name}") for s in sections for name in ("header", "footer") for page in ("first_page_", "", "even_page_")
    ]
    lines = [block.text for part in parts if part for block in blocks_of(part["content"])]
    return [Block("paragraph", line) for line in dict.fromkeys(lines) if not re.fullmatch(_PAGE, line.lower())]


# A page's number, and nothing else.
_PAGE = r"\W*(?:page|seite|p\.|s\.|第)?\s*\d*\s*页?(?:\s*(?:of|von|/|共)\s*\d+\s*页?)?\W*"


def _written_out(package: zipfile.ZipFile, main: str) -> etree._Element:
    """Return the main part of a Word file with formulas, symbols and numbers as text, and the title as a heading."""
    root = parse_xml(package.read(main))
    _join_paragraphs(root)
    styles = Styles(package, dirname(main))
    for paragraph in root.iter("{*}p"):
        if next(paragraph.iterancestors("{*}Fallback"), None) is None:
            styles.write_out(paragraph)
    for formula in list(root.iter("{*}oMath")):
        run = run_like(root, _formula(formula))
        run.tail = formula.tail
        replace_element(formula, [run])
    for whole in list(root.iter("{*}oMathPara")):
        replace_element(whole, list(whole.iter("{*}r")))
    for symbol in list(root.iter("{*}sym")):
        text = etree.Element(f"{{{etree.QName(symbol).namespace}}}t")
        char = value_of(symbol, "char")
        code = int(char, 16) & 0xFF if re.fullmatch(r"[0-9A-Fa-f]{1,6}", char) else 0
        text.text = _SYMBOLS.get((value_of(symbol, "font"), code)) or chr(code)
        replace_element(symbol, [text])
    return root


def _join_paragraphs(root: etree._Element) -> None:
    """Join each paragraph whose mark is deleted, as a tracked change, with the one that follows it."""
    for mark in list(root.iterfind(".//{*}p/{*}pPr/{*}rPr/{*}del")):
        paragraph = next(mark.iterancestors("{*}p"))
        following = paragraph.getnext()
        if following is not None and etree.QName(following).localname == "p":
            # What follows may be joined with the next one itself.
            at = 1 if (properties := following.find("{*}pPr")) is not None else 0
            runs = [child for child in paragraph if etree.QName(child).localname != "pPr"]
            following[at:at] = runs
            if properties is not None:
                following.remove(properties)
            following.insert(0, paragraph[0])
            replace_element(paragraph, [])


# What Word shows of codes in fonts of signs; the codes are those of other letters.
_SYMBOLS = {
    ("Symbol", 0xB3): "≥", ("Symbol", 0xA3): "≤", ("Symbol", 0xB1): "±", ("Symbol", 0xB4): "×", ("Symbol", 0xB0): "°",
    ("Symbol", 0xB8): "÷", ("Symbol", 0xB9): "≠", ("Symbol", 0xBB): "≈", ("Symbol", 0x61): "α", ("Symbol", 0x62): "β",
    ("Symbol", 0x6D): "μ", ("Symbol", 0x70): "π", ("Symbol", 0x57): "Ω", ("Symbol", 0x44): "Δ", ("Symbol", 0x53): "Σ",
    ("Symbol", 0xAE): "→", ("Wingdings", 0xFC): "✓", ("Wingdings", 0xFB): "✗", ("Wingdings", 0xA8): "☐",
    ("Wingdings", 0xFE): "☑", ("Wingdings", 0xFD): "☒", ("Wingdings", 0xE0): "→",
}  # fmt: skip


def _formula(element: etree._Element) -> str:
    def part(name: str) -> str:
        found = element.find(f"{{*}}{name}")
        text = "" if found is None else _formula(found)
        return f"({text})" if len(text) > 1 and not text.isalnum() and not text.startswith("(") else text

    kind = etree.QName(element).localname
    if kind == "t":
        return element.text or ""
    if kind == "f":
        return f"{part('num')}/{part('den')}"
    if kind in ("sSup", "sSub", "sSubSup"):
        return part("e") + "".join(f"{sign}{part(n)}" for n, sign in (("sub", "_"), ("sup", "^")) if part(n))
    if kind == "rad":
        return f"√{part('e')}"
    if kind == "func":
        return f"{part('fName')} {part('e')}"
    if kind == "d":
        return f"({','.join(_formula(inside) for inside in element.findall('{*}e'))})"
    if kind == "limLow":
        return f"{part('e')}_{part('lim')}"
    if kind == "nary":
        sign = element.find("{*}naryPr/{*}chr")
        mark = "∫" if sign is None else value_of(sign)
        whole = element.find("{*}e")
        limits = "".join(f"{s}{part(n)}" for n, s in (("sub", "_"), ("sup", "^")) if part(n))
        return f"{mark}{limits} {'' if whole is None else _formula(whole)}"
    return "".join(_formula(child) for child in element if isinstance(child.tag, str))
