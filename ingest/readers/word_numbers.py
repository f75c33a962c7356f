"""The numbers that Word puts before headings, clauses and steps, and counts itself: "2.1", "Article 7", "(b)"."""

import re
import zipfile
from dataclasses import dataclass, field

from lxml import etree

from ingest.readers.html import counted
from ingest.readers.oxide import NUMBERED
from ingest.readers.package import parse_xml, value_of


@dataclass
class _Level:
    """One level of a numbering: what stands before its paragraphs."""

    format: str
    text: str
    start: int
    style: str


@dataclass
class Styles:
    """The styles and numberings of a Word file, and how far each has counted."""

    package: zipfile.ZipFile
    folder: str
    styles: dict[str, etree._Element] = field(init=False)
    levels: dict[str, dict[int, _Level]] = field(init=False)
    numbers: dict[str, str] = field(init=False)
    starts: dict[tuple[str, int], int] = field(init=False)
    counts: dict[str, dict[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read both parts; either may lack."""
        styles, numbering = self._part("styles.xml"), self._part("numbering.xml")
        self.styles = {value_of(style, "styleId"): style for style in styles if etree.QName(style).localname == "style"}
        self.levels = {
            value_of(one, "abstractNumId"): {int(value_of(level, "ilvl")): _level(level) for level in one.findall("{*}lvl")}
            for one in numbering
            if etree.QName(one).localname == "abstractNum"
        }
        kinds = [one for one in numbering if etree.QName(one).localname == "num"]
        self.numbers = {value_of(one, "numId"): value_of(one.find("{*}abstractNumId")) for one in kinds}
        self.starts = {
            (value_of(one, "numId"), int(value_of(other, "ilvl"))): int(value_of(other.find("{*}startOverride")))
            for one in kinds
            for other in one.findall("{*}lvlOverride")
            if other.find("{*}startOverride") is not None
        }

    def _part(self, name: str) -> etree._Element | tuple[()]:
        whole = f"{self.folder}/{name}"
        return parse_xml(self.package.read(whole)) if whole in self.package.namelist() else ()

    def write_out(self, paragraph: etree._Element) -> None:
        """Put a paragraph's number before its text, and make the title a heading."""
        properties = paragraph.find("{*}pPr")
        if properties is None:
            return
        style = self.styles.get(value_of(properties.find("{*}pStyle")))
        if style is not None and value_of(style.find("{*}name")).lower() == "title":
            space = etree.QName(paragraph).namespace
            etree.SubElement(properties, f"{{{space}}}outlineLvl", {f"{{{space}}}val": "0"})
        if number := self._number(properties):
            paragraph.insert(paragraph.index(properties) + 1, run_like(paragraph, f"{NUMBERED}{number} "))

    def _number(self, properties: etree._Element) -> str:
        numbering, at = self._numbering(properties)
        levels = self.levels.get(self.numbers.get(numbering, ""), {})
        if at not in levels or levels[at].format in ("bullet", "none"):
            return ""
        counts = self.counts.setdefault(self.numbers[numbering], {})
        start = self.starts.pop((numbering, at), None)
        counts[at] = start if start is not None else counts[at] + 1 if at in counts else levels[at].start
        for deeper in [level for level in counts if level > at]:
            del counts[deeper]

        def written(match: re.Match[str]) -> str:
            level = int(match[1]) - 1
            number = counts.setdefault(level, levels[level].start) if level in levels else 0
            return counted(number, _FORMATS.get(levels[level].format, "1") if level in levels else "1")[:-1]

        return re.sub(r"%([1-9])", written, levels[at].text)

    def _numbering(self, properties: etree._Element) -> tuple[str, int]:
        """Return a paragraph's numbering and its level: its own, or that of its style or one that the style is based on."""
        level = properties.find("{*}numPr/{*}ilvl")
        named = value_of(properties.find("{*}pStyle"))
        number = properties.find("{*}numPr/{*}numId")
        for _ in range(10):
            if number is not None:
                found = self.levels.get(self.numbers.get(value_of(number), ""), {})
                linked = next((n for n, one in found.items() if one.style == named), 0)
                return value_of(number), int(value_of(level)) if level is not None else linked
            style = self.styles.get(named)
            if style is None:
                break
            number = style.find("{*}pPr/{*}numPr/{*}numId")
            level = style.find("{*}pPr/{*}numPr/{*}ilvl") if level is None else level
            named = named if number is not None else value_of(style.find("{*}basedOn"))
        return "", 0


_FORMATS = {"lowerLetter": "a", "upperLetter": "A", "lowerRoman": "i", "upperRoman": "I"}


def _level(level: etree._Element) -> _Level:
    format, text, start, style = (value_of(level.find(f"{{*}}{name}")) for name in ("numFmt", "lvlText", "start", "pStyle"))
    return _Level(format or "decimal", text, int(start or "1"), style)


def run_like(like: etree._Element, text: str) -> etree._Element:
    """Return a run of text, in the namespace of another element."""
    space = etree.QName(like).namespace
    run = etree.Element(f"{{{space}}}r")
    etree.SubElement(run, f"{{{space}}}t", {"{http://www.w3.org/XML/1998/namespace}space": "preserve"}).text = text
    return run
