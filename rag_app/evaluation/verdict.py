"""The verdict: one sentence, by these rules, and what to do next.

Cannot tell: fewer than 20 questions were measured, or more than one in ten failed, or the reranker was not asked for more than
half. Helps, or hurts: the 95% interval of the difference lies wholly on one side of 0, and the p of the randomisation test
(after Holm, where several systems are compared) is below 0.05. Otherwise no difference is seen at this size, and the size that
so many questions would have shown is said with it.

What to do next, the first of these that holds. Failures: mend them. Skipped: take a reranker that reads the language. Too few
questions: label more. It hurts: switch it off. At least a tenth of the relevant chunks is not among the candidates: retrieval
is what limits, not the reranker. No difference: label as many more as it takes. It helps, and the order is at least 0.1 below
the best order of the candidates: a better reranker has room. Else: nothing.
"""

from collections.abc import Sequence
from typing import Literal

from rag_app.evaluation.differences import Measured
from rag_app.evaluation.running import Counts, Failure
from rag_app.types import Record

FEWEST = 20
MOST_FAILED = 0.1
LEAST_ASKED = 0.5
ALPHA = 0.05
MISSED = 0.1
ROOM = 0.1
# 1 - 0.9 is a little less than 0.1 in floating point.
_ROUNDED = 1e-9

Kind = Literal["helps", "hurts", "no difference", "cannot tell"]


CHANGE = "{measure} {before} → {after}, {change} (95% interval {low} to {high}, p {p}, {n} questions)"
SENTENCES = {
    "failed": "Cannot tell whether reranking helps: {failed} of {questions} questions failed.",
    "unjudged": "Cannot tell whether reranking helps: no question has a judgement that is found in this collection.",
    "skipped": "Cannot tell whether reranking helps: it was not asked for {skipped} of {n} questions.",
    "few": "Cannot tell whether reranking helps: {n} measured questions are too few, {fewest} are the least.",
    "helps": f"Reranking helps: {CHANGE}.",
    "hurts": f"Reranking hurts: {CHANGE}.",
    "same": f"No difference seen at this size: {CHANGE}.",
    "no difference": f"No difference seen at this size: {CHANGE}; so many would show one of {{detectable}}.",
}
NEXT = {
    "failed": "Mend this and run it again, what was measured is kept: {reason}",
    "unjudged": "Judge candidates on the page (Evaluate, Label), or ingest the documents that the judgements are of.",
    "skipped": "Take a reranker that fits these documents (RAG_RERANK_MODEL): {reason}.",
    "few": "Label at least {more} more questions: on the page, or from drafts of `rag-app questions`.",
    "hurts": "Ask without it (--no-rerank; the switch on the page), or try another RAG_RERANK_MODEL.",
    "missed": "Retrieval misses {missed} of the relevant chunks at {candidates} candidates: raise RAG_N_CANDIDATES, or change "
    "chunks or the embedding model, before the reranker.",
    "same": "The two orders score the same: the cheaper way is without reranking.",
    "no difference": "Label about {more} more questions to find a difference of this size; till then without is cheaper.",
    "edge": "A difference of this size is at the edge of what these questions show: label some more.",
    "room": "The best order of the same candidates has {ceiling}: another RAG_RERANK_MODEL has room (`rag-app compare` "
    "measures it).",
    "keep": "Keep it: the best order of the same candidates is hardly better. `rag-app sweep` finds the cheapest setting.",
}


class Verdict(Record):
    """What a run says about reranking, and the next step; `parts` are the keys of both texts and the values in their places."""

    kind: Kind
    sentence: str
    next: str
    parts: tuple[str, str, dict[str, str]] = ("", "", {})


def verdict(
    found: Measured | None,
    recall: float | None,
    counts: Counts,
    n_candidates: int,
    failures: Sequence[Failure],
    skipped: Sequence[Failure],
) -> Verdict:
    """Return the verdict on a measure; `recall` is that of the candidates."""
    kind, said = _said(found, counts)
    missed = 1 - (1.0 if recall is None else recall)
    to_do = _next(kind, said, found, missed)
    reasons = failures if to_do == "failed" else skipped
    values = {
        "failed": f"{counts.failed:,}",
        "questions": f"{counts.questions:,}",
        "skipped": f"{counts.skipped:,}",
        "n": f"{counts.measured:,}",
        "fewest": f"{FEWEST}",
        "reason": reasons[0].reason if reasons else "",
        "missed": f"{missed:.0%}",
        "candidates": f"{n_candidates}",
        "more": f"{_more(kind, found, counts):,}",
    }
    if found:
        numbers = {"before": found.before, "after": found.after, "ceiling": found.ceiling, "detectable": found.detectable}
        values |= {name: f"{number:.3f}" for name, number in numbers.items() if number is not None}
        values |= {"change": f"{found.difference:+.3f}", "low": f"{found.low:+.3f}", "high": f"{found.high:+.3f}"}
        values |= {"measure": found.name, "p": shown_p(found.p)}
    return Verdict(
        kind=kind,
        sentence=SENTENCES[said].format(**values),
        next=NEXT[to_do].format(**values),
        parts=(said, to_do, values),
    )


def kind_of(found: Measured) -> Kind:
    """Return what a difference is, its interval and p together."""
    if found.p < ALPHA and found.low > 0:
        return "helps"
    if found.p < ALPHA and found.high < 0:
        return "hurts"
    return "no difference"


def _said(found: Measured | None, counts: Counts) -> tuple[Kind, str]:
    """Return the kind of verdict, and which sentence says it."""
    if counts.failed > MOST_FAILED * counts.questions:
        return "cannot tell", "failed"
    if found is None:
        return "cannot tell", "unjudged"
    if counts.measured - counts.skipped < LEAST_ASKED * counts.measured:
        return "cannot tell", "skipped"
    if counts.measured < FEWEST:
        return "cannot tell", "few"
    kind = kind_of(found)
    return kind, "same" if kind == "no difference" and found.detectable is None else kind


def _next(kind: Kind, said: str, found: Measured | None, missed: float) -> str:
    """Return which text says what to do next."""
    if kind == "cannot tell" or found is None:
        return said
    if kind == "hurts":
        return "hurts"
    if missed >= MISSED - _ROUNDED:
        return "missed"
    if kind == "no difference":
        return "same" if found.needed is None else "no difference" if found.needed > found.n else "edge"
    return "room" if found.ceiling is not None and found.ceiling - found.after >= ROOM - _ROUNDED else "keep"


def _more(kind: Kind, found: Measured | None, counts: Counts) -> int:
    """Return how many more questions to label."""
    if kind == "cannot tell" or found is None:
        return max(0, FEWEST - counts.measured)
    return max(0, (found.needed or 0) - found.n)


def shown_p(p: float) -> str:
    """Return a p as it is written: the test cannot tell smaller ones apart."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
