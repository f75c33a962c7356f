"""The numbers that Word puts before headings, clauses and steps, and counts itself: "2.1", "Article 7", "(b)"."""

import re
import zipfile
from dataclasses import dataclass, field, replace

from lxml import etree

from ingest.readers.html import counted
from ingest.readers.oxide import NUMBERED
from ingest.readers.package import parse_xml, value_of


@dataclass(frozen=True)
class _Level:
    """One level of a numbering: what stands before its paragraphs.

    Its count begins again below a level up to `restart`, by default each above it; `arabic` has all numbers in digits.
    """

    format: str
    text: str
    start: int
    style: str
    restart: int | None
    arabic: bool


@dataclass
class Styles:
    """The styles and numberings of a Word file, and how far each has counted."""

    package: zipfile.ZipFile
    folder: str
    styles: dict[str, etree._Element] = field(init=False)
    # The levels of each numbering, what it is a kind of, and where it begins to count when it is first used.
    levels: dict[str, dict[int, _Level]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    starts: dict[tuple[str, int], int] = field(default_factory=dict)
    counts: dict[str, dict[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read both parts; either may lack."""
        styles, numbering = self._part("styles.xml"), self._part("numbering.xml")
        self.styles = {value_of(style, "styleId"): style for style in styles if _name(style) == "style"}
        kinds = {value_of(one, "abstractNumId"): one for one in numbering if _name(one) == "abstractNum"}
        linked = {value_of(one.find("{*}styleLink")): key for key, one in kinds.items() if one.find("{*}styleLink") is not None}
        for one in (one for one in numbering if _name(one) == "num"):
            number, kind = value_of(one, "numId"), value_of(one.find("{*}abstractNumId"))
            # A list of a style has its levels where the style says.
            kind = linked.get(value_of(kinds[kind].find("{*}numStyleLink")), kind) if kind in kinds else kind
            levels = {_int(value_of(v, "ilvl")): _level(v) for v in kinds[kind].findall("{*}lvl")} if kind in kinds else {}
            for other in one.findall("{*}lvlOverride"):
                at, start, whole = _int(value_of(other, "ilvl")), other.find("{*}startOverride"), other.find("{*}lvl")
                if whole is not None:
                    levels[at] = _level(whole)
                if start is not None and at in levels:
                    levels[at] = replace(levels[at], start=_int(value_of(start)))
                if at in levels and (start is not None or whole is not None):
                    self.starts[number, at] = levels[at].start
            self.levels[number], self.kinds[number] = levels, kind

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
        levels = self.levels.get(numbering, {})
        if at not in levels or levels[at].format == "bullet":
            return ""
        counts = self.counts.setdefault(self.kinds[numbering], {})
        start = self.starts.pop((numbering, at), None)
        counts[at] = start if start is not None else counts[at] + 1 if at in counts else levels[at].start
        for deeper in [level for level in counts if level > at]:
            restart = levels[deeper].restart if deeper in levels else None
            if restart is None or at < restart:
                del counts[deeper]

        def written(match: re.Match[str]) -> str:
            level = int(match[1]) - 1
            if level not in levels:
                return ""
            kind = "decimal" if levels[at].arabic else levels[level].format
            return _written(counts.setdefault(level, levels[level].start), kind)

        return re.sub(r"%([1-9])", written, levels[at].text).strip()

    def _numbering(self, properties: etree._Element) -> tuple[str, int]:
        """Return a paragraph's numbering and its level: its own, or that of its style or one that the style is based on."""
        level = properties.find("{*}numPr/{*}ilvl")
        named = value_of(properties.find("{*}pStyle"))
        number = properties.find("{*}numPr/{*}numId")
        for _ in range(10):
            if number is not None:
                found = self.levels.get(value_of(number), {})
                linked = next((n for n, one in found.items() if one.style == named), 0)
                return value_of(number), _int(value_of(level)) if level is not None else linked
            style = self.styles.get(named)
            if style is None:
                break
            number = style.find("{*}pPr/{*}numPr/{*}numId")
            level = style.find("{*}pPr/{*}numPr/{*}ilvl") if level is None else level
            named = named if number is not None else value_of(style.find("{*}basedOn"))
        return "", 0


_FORMATS = {"lowerRoman": "i", "upperRoman": "I"}
_CHINESE = ("chineseCounting", "chineseCountingThousand", "taiwaneseCounting", "japaneseCounting", "ideographDigital")


def _written(number: int, kind: str) -> str:
    """Return a number in one of Word's formats, in digits in one that is not known here."""
    if kind == "none":
        return ""
    if kind in ("lowerLetter", "upperLetter") and number > 0:
        # After z comes aa, then bb.
        letters = chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)
        return letters if kind == "lowerLetter" else letters.upper()
    if kind == "decimalZero":
        return f"{number:02}"
    if kind == "ordinal":
        ending = "th" if 10 < number % 100 < 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
        return f"{number}{ending}"
    if kind in _CHINESE and 0 < number < 100:
        tens, ones = divmod(number, 10)
        digits = "〇一二三四五六七八九"
        return (digits[tens] if tens > 1 else "") + ("十" if tens else "") + (digits[ones] if ones else "")
    return counted(number, _FORMATS.get(kind, "1"))[:-1]


def _level(level: etree._Element) -> _Level:
    format, text, start, style = (value_of(level.find(f"{{*}}{name}")) for name in ("numFmt", "lvlText", "start", "pStyle"))
    restart, legal = level.find("{*}lvlRestart"), level.find("{*}isLgl")
    return _Level(
        format or "decimal",
        text,
        _int(start or "1"),
        style,
        None if restart is None else _int(value_of(restart)),
        legal is not None and value_of(legal) not in ("0", "false"),
    )


def _int(text: str) -> int:
    """Return a number that a file states; what is none is 0."""
    return int(text) if re.fullmatch(r"-?\d{1,9}", text) else 0


def _name(element: etree._Element) -> str:
    return str(etree.QName(element).localname)


def run_like(like: etree._Element, text: str) -> etree._Element:
    """Return a run of text, in the namespace of another element."""
    space = etree.QName(like).namespace
    run = etree.Element(f"{{{space}}}r")
    etree.SubElement(run, f"{{{space}}}t", {"{http://www.w3.org/XML/1998/namespace}space": "preserve"}).text = text
    return run
