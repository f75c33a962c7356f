"""Reports, sweeps and comparisons in the terminal: how it draws a sentence, a table and a chart."""

from collections.abc import Iterable

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from rag_app import colours
from rag_app.cli.terminal import out, printable
from rag_app.evaluation import comparing_sections, report_sections, sections, sweep_sections, weights
from rag_app.evaluation.comparing import Comparison, Gate
from rag_app.evaluation.report import Report
from rag_app.evaluation.sections import Chart, Columns, Fold, Heading, Section, Sentence
from rag_app.evaluation.sweep import Sweep
from rag_app.evaluation.verdict import Verdict
from rag_app.evaluation.weights import Weights
from rag_app.words import joined, msg

VERDICT = {"helps": "bold green", "hurts": "bold red", "no difference": "bold yellow", "cannot tell": "bold yellow"}
TONES: dict[sections.Tone, str] = {
    "": "",
    "quiet": "dim",
    "note": "yellow",
    "failed": "bold red",
    "strong": "bold",
    "good": "green",
}
# So much of a line below a question is shown.
WIDTH = 200


def show_report(report: Report, n_moved: int) -> None:
    """Print a report, with so many questions that gained most and that lost most."""
    show(report_sections.of_report(report, n_moved))


def show_sweep(sweep: Sweep) -> None:
    show(sweep_sections.of_sweep(sweep))


def show_weights(found: Weights) -> None:
    show(weights.sections(found))


def show_comparison(comparison: Comparison) -> None:
    show(comparing_sections.of_comparison(comparison))


def show_gate(gate: Gate, now: Report) -> None:
    show(comparing_sections.of_gate(gate, now))


def show(parts: Iterable[Section]) -> None:
    """Print sections, one below the other."""
    for section in parts:
        match section:
            case Verdict():
                print_line(section.sentence, VERDICT[section.kind])
                print_line(joined(" ", ("→", section.next)))
            case Heading():
                out.print()
                print_line(section.text, "bold")
            case Sentence():
                print_line(section.text, TONES[section.tone])
            case sections.Table():
                tell(table(section))
            case Chart():
                if section.name == "heat_map":
                    tell(heat_map(section.of))
            case Fold():
                fold(section)
            case Columns():
                for column in section.columns:
                    show(column)


def print_line(text: str, style: str = "") -> None:
    out.print(text, style=style)


def fold(section: Fold) -> None:
    """Print a title, and below it each sentence on an indented line; tables as they are."""
    print_line(joined("  ", (section.title, f"[{section.question}]" if section.question else "")))
    for part in section.body:
        if isinstance(part, Sentence):
            line = " ".join(printable(part.text).split())
            out.print(f"    {line[:WIDTH]}{'…' * (len(line) > WIDTH)}", style=TONES[part.tone])
        else:
            show((part,))


def table(section: sections.Table) -> Table:
    """Return a table whose columns are numbers but for the first."""
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for i, heading in enumerate(section.headings):
        drawn.add_column(Text(printable(heading)), justify="right" if i else "left", no_wrap=True)
    for i, row in enumerate(section.rows):
        drawn.add_row(*(Text(printable(cell)) for cell in row), style="bold" if i == section.marked else "")
    return drawn


def tell(table: Table) -> None:
    """Print a table as wide as it is: a number that is cut off would be another number."""
    console = Console(highlight=False, emoji=False, markup=False)
    needed = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    console.width = max(console.width, needed)
    console.print(table)


def heat_map(sweep: Sweep) -> Table:
    """Return the settings as a table, candidates down and passages across; ≈ and ★ as the sentence below says."""
    passages = sorted({cell.passages for cell in sweep.cells})
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for heading in (printable(msg("candidates ↓ passages →")), *map(str, passages)):
        drawn.add_column(heading, justify="right", no_wrap=True)
    cells = {(cell.candidates, cell.passages): cell for cell in sweep.cells}
    low, high = (pick(cell.quality for cell in sweep.cells) for pick in (min, max))
    for k in sorted({cell.candidates for cell in sweep.cells}):
        row = [Text(str(k) if k else printable(msg("not reranked")))]
        for n in passages:
            cell = cells.get((k, n))
            mark = "★" if cell == sweep.cheapest else "≈" if cell and cell.within else " "
            row.append(Text(f"{cell.quality:.3f}{mark}", style=heat(cell.quality, low, high)) if cell else Text(""))
        drawn.add_row(*row)
    return drawn


def heat(value: float, low: float, high: float) -> str:
    """Return a style between grey and the colour of gains."""
    share = (value - low) / (high - low) if high > low else 1.0
    full, bright = colours.GAIN
    return ("dim", "", bright, full, f"bold {full}")[min(4, int(5 * share))]
