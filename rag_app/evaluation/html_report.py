"""A report as one HTML file to hand around: its charts are drawn in, and it asks nothing of the network."""

import re
import time
from collections.abc import Iterable
from pathlib import Path

import jinja2
import vl_convert
from markupsafe import Markup, escape

from rag_app import colours
from rag_app.errors import RagError
from rag_app.evaluation import charts, comparing_sections, report_sections, sweep_sections, weights
from rag_app.evaluation.comparing import Comparison
from rag_app.evaluation.report import Report
from rag_app.evaluation.report_sections import when
from rag_app.evaluation.sections import Chart, Columns, Fold, Heading, Section, Sentence, Table
from rag_app.evaluation.sweep import Sweep
from rag_app.evaluation.verdict import Verdict
from rag_app.evaluation.weights import Weights
from rag_app.words import ENGLISH, Message, Words, msg, words

# Questions shown of those that gained and lost most.
SHOWN = 10
_PAGE = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
# Stand for the ends of a text that is not ours, and for its backticks; none of these is printable.
_START, _END, _TICK = "\ue000", "\ue001", "\ue002"
_EN = words(ENGLISH)


def of_report(report: Report, say: Words = _EN) -> str:
    """Return a report as HTML."""
    title = msg("Is reranking worth it? {set}", set=report.set)
    return _page(title, report_sections.of_report(report, SHOWN), say)


def of_sweep(sweep: Sweep, say: Words = _EN) -> str:
    """Return a sweep as HTML."""
    title = msg("How many candidates and passages? {set}", set=sweep.set)
    return _page(title, [Sentence(when(time.time()), "quiet"), *sweep_sections.of_sweep(sweep)], say)


def of_weights(found: Weights, say: Words = _EN) -> str:
    """Return what weights are worth as HTML."""
    title = msg("Vectors or words? {set}", set=found.set)
    return _page(title, [Sentence(when(time.time()), "quiet"), *weights.sections(found)], say)


def of_comparison(comparison: Comparison, say: Words = _EN) -> str:
    """Return a comparison as HTML."""
    title = msg("Systems compared: {set}", set=comparison.set)
    return _page(title, [Sentence(when(time.time()), "quiet"), *comparing_sections.of_comparison(comparison)], say)


def write(path: Path, page: str) -> None:
    """Write a page whole. RagError if the file cannot be written."""
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(page, "utf-8")
        partial.replace(path)
    except OSError as error:
        happened = msg("{path} cannot be written ({reason})", path=path, reason=error.strerror)
        raise RagError(happened, msg("name a file that can be written")) from None


def drawn(section: Section, say: Words) -> Markup:
    """Return a section as HTML."""
    match section:
        case Verdict(kind=kind, sentence=sentence, next=to_do):
            classes, line, step = kind.replace(" ", "-"), said(sentence, say), said(to_do, say)
            return _html('<div class="verdict {}" role="status"><h3>{}</h3><p class="todo">→ {}</p></div>', classes, line, step)
        case Heading(text):
            return _html("<h2>{}</h2>", said(text, say))
        case Sentence(text, tone):
            return _html('<p class="{}">{}</p>', tone, said(text, say))
        case Table(headings, rows, marked):
            head = _cells("th", headings, say)
            body = [
                _html('<tr class="{}">{}</tr>', "pick" if i == marked else "", _cells("td", r, say)) for i, r in enumerate(rows)
            ]
            return _html(
                '<div class="scroll" tabindex="0"><table class="facts measures"><thead><tr>{}</tr></thead><tbody>{}</tbody>'
                "</table></div>",
                head,
                Markup("").join(body),
            )
        case Chart(name, of):
            # The drawer escapes the texts in it.
            return Markup(vl_convert.vegalite_to_svg(charts.draw(name, of, say).to_json()))  # noqa: S704
        case Fold(title, body):
            return _html("<details><summary>{}</summary>{}</details>", said(title, say), _all(body, say))
        case Columns(columns):
            return Markup("").join(_all(column, say) for column in columns)


def said(text: str, say: Words) -> Markup:
    """Return a message as HTML: `code` as code, texts that are not ours isolated and without control characters."""
    line = re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(say(_isolated(text, say)))))
    for mark, tag in ((_START, "<bdi>"), (_END, "</bdi>"), (_TICK, "`"), ("\n", "<br>")):
        line = line.replace(mark, tag)
    return Markup(line)  # noqa: S704


def _isolated(text: str, say: Words) -> Message:
    """Return a message whose texts that are not ours stand between marks."""
    message = text if isinstance(text, Message) else Message(text)
    values = {name: _value(value, say) if isinstance(value, str) else value for name, value in message.values.items()}
    return Message(message.template, values, many=message.many, n=message.n, context=message.context)


def _value(value: str, say: Words) -> str:
    if isinstance(value, Message) and value.values:
        return _isolated(value, say)
    # A message without values may be a text of ours, and may be what an endpoint said.
    text = say(value) if isinstance(value, Message) else value
    shown = "".join(c for c in text if c.isprintable() or c in "\n\u200c\u200d")
    return f"{_START}{shown.replace('`', _TICK)}{_END}"


def _cells(tag: str, cells: Iterable[str], say: Words) -> Markup:
    """Return the cells of a row, the first a heading, the others numbers."""
    kinds = ("th", tag)
    drawn = [(kinds[i > 0], "number" if i else "", said(cell, say)) for i, cell in enumerate(cells)]
    return Markup("").join(_html('<{0} class="{1}">{2}</{0}>', *cell) for cell in drawn)


def _all(sections: Iterable[Section], say: Words) -> Markup:
    return Markup("").join(drawn(section, say) for section in sections)


def _html(template: str, *values: object) -> Markup:
    return Markup(template).format(*values)  # noqa: S704


def _page(title: Message, sections: Iterable[Section], say: Words) -> str:
    page = _PAGE.get_template("report.html.jinja")
    return page.render(title=say(title), language=say.language, css=Markup(colours.CSS), content=_all(sections, say))  # noqa: S704
