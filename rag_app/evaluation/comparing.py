"""Several systems on the same questions, each against the first; and a run against a stored one."""

from collections.abc import Mapping, Sequence

from rag_app.errors import RagError
from rag_app.evaluation import statistics
from rag_app.evaluation.differences import Measured, compared, mean
from rag_app.evaluation.report import Report
from rag_app.evaluation.verdict import FEWEST, LEAST_ASKED, MOST_FAILED, kind_of
from rag_app.types import Record
from rag_app.words import Message, Said, joined, msg, nmsg

# The measure that the gate is by.
GATED = "nDCG@10"


class System(Record):
    """One system: its mean over the questions that all systems share, and its difference from the first (None for that).

    `p` of the difference is adjusted for the number of systems (Holm 1979).
    """

    name: str
    value: float
    ceiling: float
    recall: float
    rerank_p50: float | None
    failed: int
    difference: Measured | None
    said: Said


class Comparison(Record):
    """Systems side by side by one measure over n questions."""

    set: str
    measure: str
    n: int
    systems: tuple[System, ...]
    reports: tuple[Report, ...]


def comparison(names: Sequence[str], reports: Sequence[Report], measure: str) -> Comparison:
    """Return systems side by side. RagError if no question was measured in all of them."""
    values = [{o.id: o.after[measure] for o in report.outcomes} for report in reports]
    shared = [question for question in values[0] if all(question in other for other in values)]
    if not shared:
        raise RagError(msg("no question was measured in every system"), msg("run `rag-app eval` for each, which says why"))
    differences = [compared(measure, _at(values[0], shared), _at(other, shared)) for other in values[1:]]
    adjusted = statistics.holm([difference.p for difference in differences])
    told = [None, *(d.model_copy(update={"p": p}) for d, p in zip(differences, adjusted, strict=True))]
    systems = []
    for name, report, of_system, difference in zip(names, reports, values, told, strict=True):
        outcomes = [o for o in report.outcomes if o.id in set(shared)]
        rerank = next((stage.p50 for stage in report.stages if stage.name == "rerank"), None)
        systems.append(
            System(
                name=name,
                value=mean(_at(of_system, shared)),
                ceiling=mean([o.best[measure] for o in outcomes]),
                recall=mean([o.recall for o in outcomes]),
                rerank_p50=rerank,
                failed=report.counts.failed,
                difference=difference,
                said=_said(difference, next(zip(names, reports, strict=True)), (name, report)) if difference else "",
            )
        )
    return Comparison(set=reports[0].set, measure=measure, n=len(shared), systems=tuple(systems), reports=tuple(reports))


def _said(difference: Measured, *systems: tuple[str, Report]) -> Message:
    """Return what a difference says, by the rules of the verdict."""
    failed = any(report.counts.failed > MOST_FAILED * report.counts.questions for _, report in systems)
    # Of a system that is to be reranked.
    skipped = any(
        report.counts.measured - report.counts.skipped < LEAST_ASKED * report.counts.measured
        for name, report in systems
        if name != "none"
    )
    if difference.n < FEWEST or failed or skipped:
        return msg("cannot tell")
    return {"helps": msg("better"), "hurts": msg("worse")}.get(kind_of(difference), msg("no difference seen"))


def _at(values: Mapping[str, float], questions: Sequence[str]) -> list[float]:
    return [values[question] for question in questions]


class Gate(Record):
    """Whether a run passes: `reasons` say why not. `difference` is that from the baseline on the questions of both."""

    passed: bool
    reasons: tuple[Said, ...]
    value: float
    difference: Measured | None
    n_new: int = 0
    n_gone: int = 0


def gate(now: Report, baseline: Report | None, at_least: float | None, max_drop: float) -> Gate:
    """Return whether a run is good enough: its mean reaches `at_least`, and it is not worse than a baseline beyond noise.

    Worse beyond noise: the mean difference, on the questions of both, is below -`max_drop`, and the interval and the
    randomisation test tell it from 0. A run that failed for more than one question in ten does not pass. RagError if there is
    nothing to compare.
    """
    if not now.measured:
        raise RagError(msg("nothing was measured"), joined(" ", (now.verdict.sentence, now.verdict.next)))
    name = now.measured[0].name
    reasons: list[Message] = []
    value = now.measured[0].after
    if now.counts.failed > MOST_FAILED * now.counts.questions:
        why = now.failures[0].reason
        reasons.append(msg("{n:,} of {of:,} questions failed: {why}", n=now.counts.failed, of=now.counts.questions, why=why))
    if at_least is not None and value < at_least - 1e-9:
        reasons.append(
            msg("{measure} is {value:.3f}, below the minimum of {least:.3f}", measure=name, value=value, least=at_least)
        )
    if baseline is None:
        return Gate(passed=not reasons, reasons=tuple(reasons), value=value, difference=None)
    if now.set != baseline.set:
        raise RagError(
            msg("the baseline is for the set {set}, not for {this}", set=baseline.set, this=now.set),
            msg("store one for this set"),
        )
    own = msg("those of the set")
    theirs, ours = (report.system.get("judgements", own) for report in (baseline, now))
    if theirs != ours:
        raise RagError(
            msg("the baseline was measured with other judgements: {theirs}, now {ours}", theirs=theirs, ours=ours),
            msg("store one with these judgements"),
        )
    before, after = ({o.id: o.after.get(name) for o in report.outcomes} for report in (baseline, now))
    shared = [(before[i], after[i]) for i in before if before[i] is not None and after.get(i) is not None]
    if not shared:
        raise RagError(
            msg("the baseline and this run share no question measured by {measure}", measure=name), msg("store a new baseline")
        )
    if len(shared) < FEWEST:
        reasons.append(
            nmsg(
                "only {n} question is shared with the baseline; at least {least} needed: store a new baseline",
                "only {n} questions are shared with the baseline; at least {least} needed: store a new baseline",
                len(shared),
                least=FEWEST,
            )
        )
    difference = compared(name, [b for b, _ in shared if b is not None], [a for _, a in shared if a is not None])
    if difference.difference < -max_drop and kind_of(difference) == "hurts":
        reasons.append(
            nmsg(
                "{measure} fell from {before:.3f} to {after:.3f} on {n:,} question, by more than {drop:.3f} and beyond noise "
                "(95% interval {low:+.3f} to {high:+.3f})",
                "{measure} fell from {before:.3f} to {after:.3f} on {n:,} questions, by more than {drop:.3f} and beyond noise "
                "(95% interval {low:+.3f} to {high:+.3f})",
                difference.n,
                measure=name,
                before=difference.before,
                after=difference.after,
                drop=max_drop,
                low=difference.low,
                high=difference.high,
            )
        )
    return Gate(
        passed=not reasons,
        reasons=tuple(reasons),
        value=value,
        difference=difference,
        n_new=len(after.keys() - before.keys()),
        n_gone=len(before.keys() - after.keys() - {i for failure in now.failures for i in failure.ids}),
    )
