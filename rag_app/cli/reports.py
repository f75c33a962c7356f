"""Reports, sweeps and comparisons in the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rag_app.cli.terminal import out, printable
from rag_app.evaluation.answers import AnswersReport
from rag_app.evaluation.answers import moved as changed
from rag_app.evaluation.comparing import GATED, Comparison, Gate
from rag_app.evaluation.differences import Measured
from rag_app.evaluation.drafts import Draft
from rag_app.evaluation.report import Outcome, Report, moved
from rag_app.evaluation.sweep import Sweep
from rag_app.evaluation.verdict import shown_p
from rag_app.types import arrow, seconds

VERDICT_STYLE = {"helps": "bold green", "hurts": "bold red", "no difference": "bold yellow", "cannot tell": "bold yellow"}


def table_of(*headings: str) -> Table:
    """Return a table whose columns are numbers but for the first."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, heading in enumerate(headings):
        table.add_column(Text(printable(heading)), justify="right" if i else "left", no_wrap=True)
    return table


def tell(table: Table) -> None:
    Console(highlight=False, emoji=False, markup=False).print(table)


def interval(m: Measured) -> list[str]:
    """Return difference, interval and p as they are shown."""
    return [f"{m.difference:+.3f}", f"{m.low:+.3f}…{m.high:+.3f}", shown_p(m.p)]


def show_report(report: Report, n_moved: int) -> None:
    """Print a report, the verdict first."""
    c = report.counts
    out.print(printable(report.verdict.sentence), style=VERDICT_STYLE[report.verdict.kind])
    out.print(printable(f"→ {report.verdict.next}\n"))
    if report.measured:
        table = table_of("", "before", "after", "change", "95% interval", "p", "ceiling", "▲/=/▼")
        for m in report.measured:
            ceiling = "–" if m.ceiling is None else f"{m.ceiling:.3f}"
            scores = [f"{m.before:.3f}", f"{m.after:.3f}", *interval(m), ceiling]
            table.add_row(m.name, *scores, f"{m.wins}/{m.ties}/{m.losses}")
        tell(table)
        first = report.measured[0]
        if first.needed is not None and first.needed > first.n:
            out.print(f"a {first.name} difference of this size takes about {first.needed:,} questions to find", style="dim")
    if report.recall is not None:
        out.print(
            f"recall of the {report.n_candidates} candidates: {report.recall:.3f}; the ceiling is the best order of them",
            style="dim",
        )
    show_counts(report)
    if report.stages:
        table = table_of("stage", "p50", "p95", "tokens")
        for stage in report.stages:
            tokens = "–" if stage.tokens is None else f"{stage.tokens:,}"
            table.add_row(stage.name, seconds(stage.p50), seconds(stage.p95), tokens)
        out.print()
        tell(table)
        out.print("as first measured", style="dim")
    show_gain(report)
    for s in report.unanswerable:
        out.print(
            f"top {s.score} score: an answerable question is above an unanswerable one {s.auc:.0%} of the time; "
            f"at {s.threshold:.4g} {s.kept:.0%} of {s.n_answerable} answerable are kept, {s.refused:.0%} of {s.n_unanswerable} "
            "unanswerable turned away" + (f" (RAG_RERANK_MIN_SCORE={s.threshold:.4g})" if s.score == "rerank" else "")
        )
    if report.answers:
        show_answers(report.answers)
    if report.measured and n_moved:
        gained, lost = moved(report, n_moved)
        show_moved("gained most", gained, report)
        show_moved("lost most", lost, report)
    if c.lost:
        out.print(f"\n{c.lost} judgements stand in no chunk of {report.collection}:", style="yellow")
        for words in report.lost[:5]:
            out.print(printable(f"  {words}"), style="dim")


def show_counts(report: Report) -> None:
    """Print what became of the questions; failures are a line of their own."""
    c = report.counts
    parts = [f"{c.measured} measured", f"{c.unanswerable} unanswerable", f"{c.unjudged} without a judgement that is found here"]
    told = ", ".join(part for part in parts if part[0] != "0")
    out.print(printable(f"{report.set}, {c.questions} questions: {told}"), style="dim")
    for failure in report.failures:
        out.print(printable(f"FAILED, left out: {failure.questions} questions: {failure.reason}"), style="bold red")
    for failure in report.skipped:
        out.print(
            printable(f"not reranked, retrieval order counts: {failure.questions} questions: {failure.reason}"), style="yellow"
        )
    for failure in report.warnings:
        out.print(printable(f"note: {failure.questions} questions: {failure.reason}"), style="yellow")
    if report.left_out:
        out.print(f"{report.left_out} records of the corpus are not stored: they are empty, or were refused", style="yellow")


def show_gain(report: Report) -> None:
    """Print what the difference costs in time and money."""
    if not report.measured:
        return
    name, parts = report.measured[0].name, []
    if report.gain_per_100_ms is not None:
        parts.append(f"{report.gain_per_100_ms:+.4f} {name} for 100 ms of reranking")
    if report.gain_per_unit is not None and report.rerank_cost is not None:
        parts.append(f"{report.gain_per_unit:+.3g} {name} for 1 {report.currency} a question")
        parts.append(f"reranking costs {1000 * report.rerank_cost:.4g} {report.currency} for 1,000 questions")
    if parts:
        out.print("; ".join(parts))


def show_moved(title: str, outcomes: Sequence[Outcome], report: Report) -> None:
    """Print questions that moved, with the passages that are relevant and those that stood first."""
    if not outcomes:
        return
    name = report.measured[0].name
    out.print(f"\n{title}", style="bold")
    for o in outcomes:
        out.print(printable(f"{o.after[name] - o.before[name]:+.3f}  {o.question}  [{o.id}]"))
        for place in sorted(o.places, key=lambda place: place.after):
            grade = "not judged" if place.grade is None else f"grade {place.grade}"
            way = arrow(place.before - place.after) or "="
            line = f"        {place.before} → {place.after} {way}  {grade}  {place.document}: {place.text[:90]}"
            out.print(printable(line), style="" if place.grade else "dim")


def show_answers(answers: AnswersReport) -> None:
    """Print what was measured of answers."""
    table = table_of("answers", "n", "before", "after", "change", "95% interval", "p")
    for m in answers.measured:
        table.add_row(m.name, str(m.n), f"{m.before:.3f}", f"{m.after:.3f}", *interval(m))
    out.print(printable(f"\nanswers of {answers.model}"), style="dim")
    tell(table)
    for stage in answers.stages:
        tokens = "" if stage.tokens is None else f", {stage.tokens:,} tokens with reranking"
        out.print(f"an answer takes {seconds(stage.p50)} (p50), {seconds(stage.p95)} (p95){tokens}", style="dim")
    for pair in changed(answers.pairs, 3):
        out.print(printable(f"\n{pair.question}  [{pair.id}]"))
        out.print(printable(f"  expected: {' / '.join(pair.expected) or 'no answer'}"), style="dim")
        for which, answer in (("before", pair.before), ("after", pair.after)):
            out.print(printable(f"  {which}: {' '.join(answer.text.split())[:200]}"))
    for reason, n in answers.failures.items():
        out.print(printable(f"FAILED, left out: {n} answers: {reason}"), style="bold red")
    if a := answers.agreement:
        out.print(
            printable(
                f"the judge {a.model} agrees with the labels on {a.share:.0%} of {a.n} answers (kappa {a.kappa:.2f}); "
                f"{a.unclear} replies were neither yes nor no"
            )
        )


def show_sweep(result: Sweep) -> None:
    """Print the table, candidates down and passages across, then the best and the cheapest."""
    passages = sorted({cell.passages for cell in result.cells})
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("candidates ↓ passages →", justify="right", no_wrap=True)
    for n in passages:
        table.add_column(str(n), justify="right")
    cells = {(cell.candidates, cell.passages): cell for cell in result.cells}
    low, high = (pick(cell.quality for cell in result.cells) for pick in (min, max))
    for k in sorted({cell.candidates for cell in result.cells}):
        row = [Text(str(k) if k else "not reranked")]
        for n in passages:
            cell = cells.get((k, n))
            mark = "*" if cell == result.cheapest else "≈" if cell and cell.within else " "
            row.append(Text(f"{cell.quality:.3f}{mark}", style=heat(cell.quality, low, high)) if cell else Text(""))
        table.add_row(*row)
    out.print(
        printable(f"{result.measure} on {result.n} questions of {result.set}; ")
        + "≈ within the noise of the best, * the cheapest of them"
    )
    tell(table)
    best, cheap = result.best, result.cheapest
    out.print(f"best: {setting(best.candidates, best.passages)}, {best.quality:.3f}, {best.cost:.4g} {result.unit} a question")
    if cheap:
        out.print(
            f"cheapest within its noise: {setting(cheap.candidates, cheap.passages)}, {cheap.quality:.3f}, "
            f"{cheap.cost:.4g} {result.unit} a question",
            style="bold",
        )
    else:
        out.print("cannot tell which are as good: these are too few questions", style="bold yellow")
    out.print("costs are estimated from the length of the texts", style="dim")
    if result.failed:
        out.print(f"FAILED, left out: {result.failed} questions; `rag-app eval` says why", style="bold red")


def setting(candidates: int, passages: int) -> str:
    return f"{candidates} candidates, {passages} passages" if candidates else f"without reranking, {passages} passages"


def heat(value: float, low: float, high: float) -> str:
    """Return a style between grey and blue."""
    share = (value - low) / (high - low) if high > low else 1.0
    level = ("dim", "", "#56B4E9", "#0072B2", "bold #0072B2")
    return level[min(4, int(5 * share))]


def show_comparison(result: Comparison) -> None:
    """Print systems side by side; their names stand before the numbers, which need the room."""
    out.print(f"{result.measure} on the {result.n} questions that all share; each against 1", style="dim")
    for n, s in enumerate(result.systems, 1):
        out.print(printable(f"{n}  {s.name}") + (f": {s.said}" if s.said else ""), style="bold")
    table = table_of("", "value", "ceiling", "recall", "rerank", "failed", "change", "95% interval", "p")
    for n, s in enumerate(result.systems, 1):
        time_ = "–" if s.rerank_p50 is None else seconds(s.rerank_p50)
        against = interval(s.difference) if s.difference else ["", "", ""]
        table.add_row(str(n), f"{s.value:.3f}", f"{s.ceiling:.3f}", f"{s.recall:.3f}", time_, str(s.failed), *against)
    tell(table)
    if len(result.systems) > 2:
        out.print(f"p after Holm for {len(result.systems) - 1} comparisons", style="dim")
    for n, report in enumerate(result.reports, 1):
        for failure in report.failures:
            out.print(printable(f"FAILED, left out, {n}: {failure.questions} questions: {failure.reason}"), style="bold red")
        for failure in report.warnings:
            out.print(printable(f"note, {n}: {failure.questions} questions: {failure.reason}"), style="yellow")
        if report.counts.lost:
            out.print(f"note, {n}: {report.counts.lost} judgements stand in no chunk of it", style="yellow")


def show_draft(one: Draft) -> None:
    out.print(printable(f"{one.question}"), style="bold")
    out.print(printable(f"  answer: {one.answer}\n  {one.document}: “{one.quote}”"))


def show_gate(result: Gate, now: Report) -> None:
    """Print whether a run passes, and by what."""
    for reason in result.reasons:
        out.print(printable(f"FAILED: {reason}"), style="bold red")
    told = f"{GATED} {result.value:.3f} on {now.counts.measured} questions"
    if d := result.difference:
        told += (
            f"; {d.difference:+.3f} from the baseline on {d.n} shared questions (95% interval {d.low:+.3f} to {d.high:+.3f})"
        )
    if result.n_new or result.n_gone:
        told += f"; {result.n_new} questions are new and {result.n_gone} gone since the baseline"
    out.print(f"{'passed: ' if result.passed else ''}{told}", style="green" if result.passed else "dim")
