"""A report as one HTML file to hand around: its charts are drawn in, and it asks nothing of the network."""

import time
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from rag_app.errors import RagError
from rag_app.evaluation import answers, charts
from rag_app.evaluation.comparing import Comparison
from rag_app.evaluation.report import Report, moved
from rag_app.evaluation.sweep import Sweep
from rag_app.evaluation.verdict import shown_p
from rag_app.types import arrow, seconds

# Questions shown of those that gained and lost most.
SHOWN = 10
_PAGE = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
_PAGE.filters |= {"seconds": seconds, "p": shown_p}
_PAGE.globals["arrow"] = arrow


def of_report(report: Report) -> str:
    """Return a report as HTML."""
    pictures = {}
    gained, lost = ([], []) if not report.measured else moved(report, SHOWN)
    if report.measured:
        pictures = {"differences": _svg(charts.differences(report)), "ceilings": _svg(charts.ceilings(report.measured))}
    if report.sweep:
        pictures["heat_map"] = _svg(charts.heat_map(report.sweep))
    changed = answers.moved(report.answers.pairs, SHOWN) if report.answers else []
    return _render("report.html.jinja", report=report, changed=changed, gained=gained, lost=lost, when=report.when, **pictures)


def of_sweep(sweep: Sweep) -> str:
    """Return a sweep as HTML."""
    return _render("sweep.html.jinja", sweep=sweep, when=time.time(), heat_map=_svg(charts.heat_map(sweep)))


def of_comparison(comparison: Comparison) -> str:
    """Return a comparison as HTML."""
    return _render("comparison.html.jinja", comparison=comparison, when=time.time(), systems=_svg(charts.systems(comparison)))


def write(path: Path, page: str) -> None:
    """Write a page whole. RagError if the file cannot be written."""
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(page, "utf-8")
        partial.replace(path)
    except OSError as error:
        raise RagError(f"{path} cannot be written ({error.strerror}): name a file that can") from None


def _render(template: str, *, when: float, **values: Any) -> str:
    stamp = time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
    return _PAGE.get_template(template).render(stamp=stamp, **values)


def _svg(chart: Any) -> Markup:
    """Draw a chart; the drawer escapes the texts in it."""
    return Markup(vl_convert.vegalite_to_svg(chart.to_json()))  # noqa: S704
