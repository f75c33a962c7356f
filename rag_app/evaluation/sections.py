"""What a report says is a list of sections, which the terminal, the page and the HTML file each draw.

Texts are messages, in which `code` stands in backticks; every number is formatted here once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from rag_app.evaluation.differences import Measured
from rag_app.evaluation.verdict import Verdict, formatted, shown_p
from rag_app.words import Message

T = TypeVar("T")
Tone = Literal["", "quiet", "note", "failed", "strong", "good"]


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Sentence:
    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells below headings; the first column is text, the others are numbers. The row `marked` stands out."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: int | None = None


@dataclass(frozen=True)
class Chart:
    """A chart of `charts.DRAWN`, and what it draws; `alt` says what it shows."""

    name: Literal["differences", "ceilings", "heat_map", "systems", "over_time"]
    of: Any
    alt: str


@dataclass(frozen=True)
class Fold:
    """Sections below a title, folded where that is possible; `question` is the id if they are about one."""

    title: str
    body: "tuple[Section, ...]"
    question: str = ""


@dataclass(frozen=True)
class Columns:
    """Sections side by side where there is room."""

    columns: "tuple[tuple[Section, ...], ...]"


Section = Verdict | Heading | Sentence | Table | Chart | Fold | Columns


def text(value: str) -> Message:
    """Return a text that is not ours: it is in no catalogue, and may hold anything."""
    return Message("{text}", {"text": value})


def difference(m: Measured) -> tuple[Message, Message, Message]:
    """Return the difference of a measure, its interval and p as three cells."""
    return change(m.difference, m.low, m.high, m.p)


def change(difference: float, low: float, high: float, p: float) -> tuple[Message, Message, Message]:
    """Return a difference, its interval and p as three cells."""
    return formatted(difference, "{x:+.3f}"), Message("{low:+.3f}…{high:+.3f}", {"low": low, "high": high}), shown_p(p)


def count(n: int) -> Message:
    return formatted(n, "{x:,}")


def or_dash(value: T | None, shown: Callable[[T], str]) -> str:
    """Return a value as it is shown; a dash if there is none."""
    return "–" if value is None else shown(value)
