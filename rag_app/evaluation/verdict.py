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

Kind = Literal["helps", "hurts", "no difference", "cannot tell"]


class Verdict(Record):
    """What a run says about reranking, and the next step."""

    kind: Kind
    sentence: str
    next: str


def verdict(
    found: Measured | None,
    recall: float | None,
    counts: Counts,
    n_candidates: int,
    failures: Sequence[Failure],
    skipped: Sequence[Failure],
) -> Verdict:
    """Return the verdict on a measure; `recall` is that of the candidates."""
    kind, sentence = _said(found, counts)
    return Verdict(kind=kind, sentence=sentence, next=_next(kind, found, recall, counts, n_candidates, failures, skipped))


def kind_of(found: Measured) -> Kind:
    """Return what a difference is, its interval and p together."""
    if found.p < ALPHA and found.low > 0:
        return "helps"
    if found.p < ALPHA and found.high < 0:
        return "hurts"
    return "no difference"


def _said(found: Measured | None, counts: Counts) -> tuple[Kind, str]:
    asked = counts.measured - counts.skipped
    tried = counts.measured + counts.failed
    if counts.failed > MOST_FAILED * counts.questions:
        return "cannot tell", f"Cannot tell whether reranking helps: {counts.failed} of {counts.questions} questions failed."
    if found is None:
        return (
            "cannot tell",
            "Cannot tell whether reranking helps: no question has a judgement that is found in this collection.",
        )
    if asked < LEAST_ASKED * tried:
        return (
            "cannot tell",
            f"Cannot tell whether reranking helps: it was not asked for {counts.skipped} of {counts.measured} questions.",
        )
    if counts.measured < FEWEST:
        return (
            "cannot tell",
            f"Cannot tell whether reranking helps: {counts.measured} measured questions are too few, {FEWEST} are the least.",
        )
    change = (
        f"{found.name} {found.before:.3f} → {found.after:.3f}, {found.difference:+.3f} "
        f"(95% interval {found.low:+.3f} to {found.high:+.3f}, p {shown_p(found.p)}, {counts.measured} questions)"
    )
    kind = kind_of(found)
    if kind == "helps":
        return kind, f"Reranking helps: {change}."
    if kind == "hurts":
        return kind, f"Reranking hurts: {change}."
    seen = f"; so many would show one of {found.detectable:.3f}" if found.detectable else ""
    return kind, f"No difference seen at this size: {change}{seen}."


def _next(
    kind: Kind,
    found: Measured | None,
    recall: float | None,
    counts: Counts,
    n_candidates: int,
    failures: Sequence[Failure],
    skipped: Sequence[Failure],
) -> str:
    if counts.failed > MOST_FAILED * counts.questions:
        return f"Mend this and run it again, what was measured is kept: {failures[0].reason}"
    if found is None:
        return "Judge candidates on the page (Evaluate, Label), or ingest the documents that the judgements are of."
    if kind == "cannot tell" and counts.skipped:
        return f"Take a reranker that fits these documents (RAG_RERANK_MODEL): {skipped[0].reason}."
    if kind == "cannot tell":
        return f"Label at least {FEWEST - counts.measured} more questions: on the page, or from drafts of `rag-app questions`."
    missed = 1 - (recall if recall is not None else 1.0)
    limit = (
        f"Retrieval misses {missed:.0%} of the relevant chunks at {n_candidates} candidates: raise RAG_N_CANDIDATES, or change "
        "chunks or the embedding model, before the reranker."
        if missed >= MISSED
        else ""
    )
    if kind == "hurts":
        return f"Ask without it (--no-rerank; the switch on the page), or try another RAG_RERANK_MODEL. {limit}".strip()
    if limit:
        return limit
    if kind == "no difference":
        more = (found.needed or 0) - counts.measured
        if found.needed is None:
            return "The two orders score the same: the cheaper way is without reranking."
        if more > 0:
            return f"Label about {more:,} more questions to find a difference of this size; till then without is cheaper."
        return "A difference of this size is at the edge of what these questions show: label some more."
    if found.ceiling is not None and found.ceiling - found.after >= ROOM:
        return (
            f"The best order of the same candidates has {found.ceiling:.3f}: another RAG_RERANK_MODEL has room "
            f"(`rag-app compare` measures it)."
        )
    return "Keep it: the best order of the same candidates is hardly better. `rag-app sweep` finds the cheapest setting."


def shown_p(p: float) -> str:
    """Return a p as it is written: the test cannot tell smaller ones apart."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
