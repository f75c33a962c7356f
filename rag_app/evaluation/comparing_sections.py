"""What a comparison and a gate say, as sections."""

from collections.abc import Iterator

from rag_app.evaluation.comparing import GATED, Comparison, Gate
from rag_app.evaluation.report import Report
from rag_app.evaluation.report_sections import notes
from rag_app.evaluation.sections import Chart, Section, Sentence, Table, count, difference, or_dash, text
from rag_app.evaluation.verdict import formatted
from rag_app.types import seconds
from rag_app.words import joined, msg, nmsg


def of_comparison(comparison: Comparison) -> Iterator[Section]:
    """Yield systems side by side; their names stand before the numbers, which need the room."""
    yield Sentence(
        nmsg(
            "{measure} on the {n:,} question that all systems share; each against 1",
            "{measure} on the {n:,} questions that all systems share; each against 1",
            comparison.n,
            measure=comparison.measure,
        ),
        "quiet",
    )
    for i, s in enumerate(comparison.systems, 1):
        yield Sentence(joined("  ", (str(i), joined(": ", (text(s.name), s.said)))), "strong")
    yield Chart("systems", comparison, msg("The difference of each system from the first"))
    heads = (msg("value"), msg("ceiling"), msg("recall"), msg("rerank"), msg("failed"), msg("change"), msg("95% interval"), "p")
    rows = [
        (
            str(i),
            *map(formatted, (s.value, s.ceiling, s.recall)),
            or_dash(s.rerank_p50, seconds),
            count(s.failed),
            *(difference(s.difference) if s.difference else ("", "", "")),
        )
        for i, s in enumerate(comparison.systems, 1)
    ]
    yield Table(("", *heads), tuple(rows))
    n_compared = len(comparison.systems) - 1
    if n_compared > 1:
        yield Sentence(msg("p adjusted for {n} comparisons (Holm)", n=n_compared), "quiet")
    for i, (s, report) in enumerate(zip(comparison.systems, comparison.reports, strict=True), 1):
        # That `none` is not reranked, its name says.
        for sentence in notes(report.model_copy(update={"skipped": ()}) if s.name == "none" else report):
            yield Sentence(joined("  ", (str(i), sentence.text)), sentence.tone)


def of_gate(gate: Gate, now: Report) -> Iterator[Section]:
    """Yield whether a run passes, and by what."""
    for reason in gate.reasons:
        yield Sentence(msg("Failed: {reason}", reason=reason), "failed")
    n = now.counts.measured
    parts = [
        nmsg("{measure} {x:.3f} on {n:,} question", "{measure} {x:.3f} on {n:,} questions", n, measure=GATED, x=gate.value)
    ]
    if d := gate.difference:
        parts.append(
            nmsg(
                "{change:+.3f} from the baseline on {n:,} shared question (95% interval {low:+.3f} to {high:+.3f})",
                "{change:+.3f} from the baseline on {n:,} shared questions (95% interval {low:+.3f} to {high:+.3f})",
                d.n,
                change=d.difference,
                low=d.low,
                high=d.high,
            )
        )
    if gate.n_new or gate.n_gone:
        new, gone = gate.n_new, gate.n_gone
        parts.append(msg("questions since the baseline: {new:,} new, {gone:,} gone", new=new, gone=gone))
    said = joined("; ", parts)
    yield Sentence(msg("Passed: {said}", said=said), "good") if gate.passed else Sentence(said, "quiet")
