"""What a report says, as sections: every sentence once, for the terminal, the page and the HTML file."""

import time
from collections.abc import Iterator, Sequence

from rag_app.evaluation.answers import AnswerPair, AnswersReport
from rag_app.evaluation.answers import moved as changed
from rag_app.evaluation.differences import Measured
from rag_app.evaluation.report import Outcome, Report, moved
from rag_app.evaluation.running import Failure, Stage
from rag_app.evaluation.sections import (
    Chart,
    Columns,
    Fold,
    Heading,
    Section,
    Sentence,
    Table,
    count,
    difference,
    or_dash,
    text,
)
from rag_app.evaluation.sweep_sections import of_sweep
from rag_app.evaluation.verdict import formatted
from rag_app.types import arrow, seconds
from rag_app.words import Message, joined, msg, nmsg

# Judgements that match no chunk: so many are shown.
LOST = 10
SYSTEM = {
    "embedding_model": msg("embedding model"),
    "embedding_at": msg("embedding endpoint"),
    "first_stage": msg("candidates found by"),
    "dense_weight": msg("weight of the vectors"),
    "rerank_model": msg("rerank model"),
    "rerank_at": msg("rerank endpoint"),
    "rerank_dialect": msg("rerank dialect"),
    "rerank_max_tokens": msg("rerank token limit"),
    "rerank_parameters": msg("rerank parameters"),
    "rerank_min_score": msg("minimum rerank score"),
    "question_prefix": msg("question prefix"),
    "passage_prefix": msg("passage prefix"),
    "chunk_size": msg("chunk size"),
    "chunk_overlap": msg("chunk overlap"),
    "chunk_unit": msg("chunks measured in"),
    "judgements": msg("judgements"),
    "run before": msg("run before"),
    "run after": msg("run after"),
}
# The values of a system that are words of ours.
VALUES = {
    "hybrid": msg("vectors and words"),
    "dense": msg("vectors"),
    "built-in": msg("built-in"),
    "characters": msg("characters"),
    "tokens": msg("tokens"),
}
STAGES = {"embed": msg("embed"), "retrieve": msg("retrieve"), "rerank": msg("rerank")}


def of_report(report: Report, n_moved: int) -> Iterator[Section]:
    """Yield what a report says, the verdict first; of the questions and answers that moved, n_moved each."""
    yield report.verdict
    yield from _counted(report)
    if not report.measured:
        if report.answers:
            yield from _answers(report.answers, n_moved)
        return
    yield _measured(report.measured)
    if needed := [joined(" ", (text(m.name), count(m.needed))) for m in report.measured if m.needed is not None]:
        yield Sentence(
            msg("Questions needed to detect a difference of this size: {needed}.", needed=joined(", ", needed)), "quiet"
        )
    yield Sentence(
        msg("Intervals: paired bootstrap. p: paired randomisation test. Both with a fixed seed."),
        "quiet",
    )
    yield from _questions(report, n_moved)
    yield Heading(msg("Before, after, and the ceiling"))
    yield Chart("ceilings", report.measured, msg("Before, after, and the ceiling"))
    if report.recall is not None:
        yield Sentence(
            msg(
                "The ceiling is the best order of the same candidates; only better retrieval can exceed it. "
                "Recall of the {n:,} candidates: {recall:.3f}.",
                n=report.n_candidates,
                recall=report.recall,
            ),
            "quiet",
        )
    if report.sweep:
        yield Heading(msg("How many candidates and passages"))
        # Its failures, and what was not reranked, are those of the report.
        yield from of_sweep(report.sweep.model_copy(update={"failed": 0, "skipped": 0}))
    yield from _costs(report)
    if report.unanswerable:
        yield Heading(msg("Unanswerable questions"))
    for s in report.unanswerable:
        yield Sentence(
            msg(
                "{score}: AUC {auc:.2f}, the chance that an answerable question scores above an unanswerable one. At "
                "{threshold:.15g}, {kept:.0%} of {n:,} answerable questions are kept and {refused:.0%} of {n_other:,} "
                "unanswerable ones rejected.",
                score=msg("highest rerank score")
                if s.score == "rerank"
                else msg("{score} of the first candidate", score=Message(s.score)),
                auc=s.auc,
                threshold=s.threshold,
                kept=s.kept,
                n=s.n_answerable,
                refused=s.refused,
                n_other=s.n_unanswerable,
            )
        )
        if s.score == "rerank":
            yield Sentence(msg("To reject them, set `{setting}`.", setting=f"RAG_RERANK_MIN_SCORE={s.threshold!r}"), "quiet")
    if report.answers:
        yield from _answers(report.answers, n_moved)


def over_time(reports: Sequence[Report]) -> Iterator[Section]:
    """Yield the runs of one set, the oldest first, before and after."""
    yield Heading(msg("Runs over time"))
    yield Chart("over_time", reports, msg("Runs over time"))
    heads = (msg("when"), msg("before"), msg("after"), msg("change"), msg("candidates"), msg("measured"), msg("failed"))
    names = (msg("collection"), *(SYSTEM[name] for name in ("embedding_model", "rerank_model")))
    rows = [
        (
            when(r.when),
            formatted(r.measured[0].before),
            formatted(r.measured[0].after),
            formatted(r.measured[0].difference, "{x:+.3f}"),
            *(count(n) for n in (r.n_candidates, r.counts.measured, r.counts.failed)),
            *map(text, (r.collection, r.system.get("embedding_model", ""), r.system.get("rerank_model", ""))),
        )
        for r in reversed(reports)
    ]
    yield Table((*heads, *names), tuple(rows))


def when(moment: float) -> str:
    """Return a time, in seconds since 1970, as date and time of this machine."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def gained(o: Outcome, report: Report) -> float:
    """Return the difference of a question, by the first measure."""
    name = report.measured[0].name
    return o.after[name] - o.before[name]


def gain(o: Outcome, report: Report) -> Message:
    """Return a question after its difference."""
    return Message("{change:+.3f} · {question}", {"change": gained(o, report), "question": o.question})


def _counted(report: Report) -> Iterator[Section]:
    """Yield what was measured, what became of the questions, and what to know about it."""
    c = report.counts
    sample = nmsg("a sample of {n:,} question", "a sample of {n:,} questions", report.sample) if report.sample else ""
    depth = nmsg("{n:,} candidate", "{n:,} candidates", report.n_candidates)
    collection = msg("collection {collection}", collection=report.collection) if report.collection else ""
    facts = [when(report.when), text(report.set), collection, depth, sample]
    system = [
        joined(" ", (SYSTEM.get(name, text(name)), VALUES.get(value, text(value)))) for name, value in report.system.items()
    ]
    yield Sentence(joined(" · ", (*facts, *system)), "quiet")
    counted = [
        nmsg("{n:,} question", "{n:,} questions", c.questions),
        msg("{n:,} measured", n=c.measured),
        msg("{n:,} unanswerable", n=c.unanswerable) if c.unanswerable else "",
        msg("{n:,} with no matching judgement", n=c.unjudged) if c.unjudged else "",
        msg("{n:,} failed", n=c.failed),
    ]
    yield Sentence(joined(", ", counted))
    yield from notes(report)
    if report.lost:
        more = msg("and {n:,} more", n=c.lost - LOST) if c.lost > LOST else ""
        shown = (*map(text, report.lost[:LOST]), *([more] if more else []))
        yield Fold(msg("Judgements that match no chunk"), tuple(Sentence(line, "quiet") for line in shown))


def notes(report: Report) -> Iterator[Sentence]:
    """Yield what to know about the questions of a run: failures, warnings, and what is missing."""
    for failure in report.failures:
        yield Sentence(_failed(failure), "failed")
    for skipped in report.skipped:
        yield Sentence(
            nmsg(
                "Not reranked, retrieval order used: {n:,} question: {reason}",
                "Not reranked, retrieval order used: {n:,} questions: {reason}",
                skipped.questions,
                reason=skipped.reason,
            ),
            "note",
        )
    for w in report.warnings:
        note = nmsg("Note: {n:,} question: {reason}", "Note: {n:,} questions: {reason}", w.questions, reason=w.reason)
        yield Sentence(note, "note")
    if report.left_out:
        yield Sentence(
            nmsg(
                "{n:,} record of the corpus is not stored: it is empty, or was rejected.",
                "{n:,} records of the corpus are not stored: they are empty, or were rejected.",
                report.left_out,
            ),
            "note",
        )
    if report.counts.lost:
        lost = nmsg("{n:,} judgement matches no chunk.", "{n:,} judgements match no chunk.", report.counts.lost)
        yield Sentence(lost, "note")


def _failed(failure: Failure) -> Message:
    return nmsg(
        "Failed (excluded): {n:,} question: {reason}",
        "Failed (excluded): {n:,} questions: {reason}",
        failure.questions,
        reason=failure.reason,
    )


def _measured(measured: Sequence[Measured]) -> Table:
    """Return measures as a table; the number of questions is a column if it is not the same for all."""
    with_n, with_ceiling = len({m.n for m in measured}) > 1, any(m.ceiling is not None for m in measured)
    rows = [
        (
            m.name,
            *([count(m.n)] if with_n else []),
            formatted(m.before),
            formatted(m.after),
            *difference(m),
            *([or_dash(m.ceiling, formatted)] if with_ceiling else []),
            Message("{wins:,}/{ties:,}/{losses:,}", {"wins": m.wins, "ties": m.ties, "losses": m.losses}),
        )
        for m in measured
    ]
    n, ceiling = ["n"] * with_n, [msg("ceiling")] * with_ceiling
    heads = ("", *n, msg("before"), msg("after"), msg("change"), msg("95% interval"), "p", *ceiling, "▲/=/▼")
    return Table(heads, tuple(rows))


def _questions(report: Report, n_moved: int) -> Iterator[Section]:
    """Yield the difference of every question, and those that moved most with their passages."""
    m = report.measured[0]
    yield Heading(msg("Question by question"))
    counts = {"wins": m.wins, "ties": m.ties, "losses": m.losses}
    yield Sentence(msg("{wins:,} better, {ties:,} the same, {losses:,} worse by {measure}.", measure=m.name, **counts), "quiet")
    yield Chart("differences", report, msg("The difference of each question, sorted"))
    if n_moved:
        titles = (msg("Gained most"), msg("Lost most"))
        columns = []
        for title, outcomes in zip(titles, moved(report, n_moved), strict=True):
            folds = tuple(Fold(gain(o, report), tuple(_places(o)), o.id) for o in outcomes)
            columns.append((Sentence(title, "strong"), *(folds or (Sentence(msg("none"), "quiet"),))))
        yield Columns(tuple(columns))


def _places(o: Outcome) -> Iterator[Section]:
    """Yield the relevant candidates and those that stood first, with their ranks."""
    if o.recall == 0:
        yield Sentence(msg("No relevant chunk is among the candidates."), "note")
    for place in sorted(o.places, key=lambda place: place.after):
        way = f"{place.before} → {place.after} {arrow(place.before - place.after) or '='}"
        grade = msg("not judged") if place.grade is None else msg("grade {n}", n=place.grade)
        facts = joined(" · ", (way, grade, text(place.document)))
        yield Sentence(joined("\n", (facts, text(place.text))), "" if place.grade else "quiet")


def _costs(report: Report) -> Iterator[Section]:
    """Yield times, tokens, and what the gain costs."""
    if report.stages:
        yield Heading(msg("Time and cost"))
        rows = [
            (
                STAGES.get(s.name, text(s.name)),
                seconds(s.p50),
                seconds(s.p95),
                or_dash(s.tokens, count),
            )
            for s in report.stages
        ]
        yield Table((msg("stage"), "p50", "p95", msg("tokens")), tuple(rows))
        yield Sentence(msg("As first measured."), "quiet")
    name = report.measured[0].name
    if report.gain_per_100_ms is not None:
        yield Sentence(
            msg("{gain:+.4f} {measure} for 100 ms of reranking.", gain=report.gain_per_100_ms, measure=name), "quiet"
        )
    if report.gain_per_unit is not None and report.rerank_cost is not None:
        yield Sentence(
            msg(
                "{gain:+.3g} {measure} for 1 {currency} a question; reranking costs {cost:.4g} {currency} for 1,000 questions.",
                gain=report.gain_per_unit,
                measure=name,
                currency=report.currency,
                cost=1000 * report.rerank_cost,
            ),
            "quiet",
        )


def _answers(answers: AnswersReport, n_moved: int) -> Iterator[Section]:
    yield Heading(msg("Answers"))
    yield Sentence(msg("by {model}", model=answers.model), "quiet")
    for reason, n in answers.failures.items():
        failed = nmsg(
            "Failed (excluded): {n:,} answer: {reason}", "Failed (excluded): {n:,} answers: {reason}", n, reason=reason
        )
        yield Sentence(failed, "failed")
    if answers.measured:
        yield _measured(answers.measured)
    for stage in answers.stages:
        yield Sentence(_answer_time(stage), "quiet")
    if a := answers.agreement:
        yield Sentence(
            msg(
                "The judge {model} agrees with the labels on {share:.0%} of {n:,} answers (kappa {kappa:.2f}); {unclear:,} "
                "replies were neither yes nor no.",
                model=a.model,
                share=a.share,
                n=a.n,
                kappa=a.kappa,
                unclear=a.unclear,
            )
        )
    for pair in changed(answers.pairs, n_moved):
        yield Fold(text(pair.question), tuple(_pair(pair)), pair.id)


def _answer_time(stage: Stage) -> Message:
    p50, p95 = seconds(stage.p50), seconds(stage.p95)
    if stage.tokens is None:
        return msg("An answer takes {p50} (p50), {p95} (p95).", p50=p50, p95=p95)
    return msg(
        "An answer takes {p50} (p50), {p95} (p95); {tokens:,} tokens with reranking.", p50=p50, p95=p95, tokens=stage.tokens
    )


def _pair(pair: AnswerPair) -> Iterator[Section]:
    expected = text(" / ".join(pair.expected)) if pair.expected else msg("no answer")
    yield Sentence(msg("expected: {answer}", answer=expected), "quiet")
    yield Sentence(msg("before: {answer}", answer=pair.before.text))
    yield Sentence(msg("after: {answer}", answer=pair.after.text))
