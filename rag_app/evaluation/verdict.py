"""The verdict: one sentence, by these rules, and what to do next.

Cannot tell: fewer than 20 questions were measured, or more than one in ten failed, or the reranker was not asked for more than
half. Helps, or hurts: the 95% interval of the difference lies wholly on one side of 0, and the p of the randomisation test
(after Holm, where several systems are compared) is below 0.05. Otherwise no difference is seen at this size, and the size that
so many questions would have shown is said with it.

What to do next, the first of these that holds. Failures: fix them. Skipped: use a reranker that supports the language. Too few
questions: label more. It hurts: switch it off. At least a tenth of the relevant chunks is not among the candidates: retrieval
is the limit, not the reranker. No difference: label as many more as needed. It helps, and the order is at least 0.1 below the
best order of the candidates: a better reranker may come closer. Else: nothing.
"""

from collections.abc import Sequence
from typing import Literal

from rag_app.evaluation.differences import Measured
from rag_app.evaluation.running import Counts, Failure
from rag_app.types import Record
from rag_app.words import Message, Said, msg, nmsg

FEWEST = 20
MOST_FAILED = 0.1
LEAST_ASKED = 0.5
ALPHA = 0.05
MISSED = 0.1
ROOM = 0.1
# 1 - 0.9 is a little less than 0.1 in floating point.
_ROUNDED = 1e-9

Kind = Literal["helps", "hurts", "no difference", "cannot tell"]


class Verdict(Record):
    """What a run says about reranking, and the next step."""

    kind: Kind
    sentence: Said
    next: Said


def verdict(
    found: Measured | None,
    recall: float | None,
    counts: Counts,
    n_candidates: int,
    failures: Sequence[Failure],
    skipped: Sequence[Failure],
) -> Verdict:
    """Return the verdict on a measure; `recall` is that of the candidates."""
    if counts.failed > MOST_FAILED * counts.questions:
        return _cannot_tell(
            msg(
                "Cannot tell whether reranking helps: {failed:,} of {questions:,} questions failed.",
                failed=counts.failed,
                questions=counts.questions,
            ),
            msg("Fix this and rerun; finished questions are cached: {reason}", reason=failures[0].reason if failures else ""),
        )
    if found is None:
        return _cannot_tell(
            msg("Cannot tell whether reranking helps: no question has a matching judgement in this collection."),
            msg("Judge candidates on the page (Evaluate, Label), or ingest the documents that the judgements refer to."),
        )
    if counts.measured - counts.skipped < LEAST_ASKED * counts.measured:
        return _cannot_tell(
            msg(
                "Cannot tell whether reranking helps: the reranker was not called for {skipped:,} of {n:,} questions.",
                skipped=counts.skipped,
                n=counts.measured,
            ),
            msg(
                "Use a reranker that supports these documents (`RAG_RERANK_MODEL`): {reason}",
                reason=skipped[0].reason if skipped else "",
            ),
        )
    if counts.measured < FEWEST:
        return _cannot_tell(
            nmsg(
                "Cannot tell whether reranking helps: only {n} question measured; at least {fewest} needed.",
                "Cannot tell whether reranking helps: only {n} questions measured; at least {fewest} needed.",
                counts.measured,
                fewest=FEWEST,
            ),
            nmsg(
                "Label at least {n} more question: on the page, or from drafts of `rag-app questions`.",
                "Label at least {n} more questions: on the page, or from drafts of `rag-app questions`.",
                FEWEST - counts.measured,
            ),
        )
    kind = kind_of(found)
    missed = 1 - (1.0 if recall is None else recall)
    return Verdict(kind=kind, sentence=_sentence(kind, found), next=_next(kind, found, missed, n_candidates))


def kind_of(found: Measured) -> Kind:
    """Return what a difference is, its interval and p together."""
    if found.p < ALPHA and found.low > 0:
        return "helps"
    if found.p < ALPHA and found.high < 0:
        return "hurts"
    return "no difference"


def _cannot_tell(sentence: Message, to_do: Message) -> Verdict:
    return Verdict(kind="cannot tell", sentence=sentence, next=to_do)


def _sentence(kind: Kind, found: Measured) -> Message:
    change = nmsg(
        "{measure} {before:.3f} → {after:.3f}, {difference:+.3f} (95% interval {low:+.3f} to {high:+.3f}, "
        "p {p}, {n:,} question)",
        "{measure} {before:.3f} → {after:.3f}, {difference:+.3f} (95% interval {low:+.3f} to {high:+.3f}, "
        "p {p}, {n:,} questions)",
        found.n,
        measure=found.name,
        before=found.before,
        after=found.after,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p=shown_p(found.p),
    )
    if kind == "helps":
        return msg("Reranking helps: {change}.", change=change)
    if kind == "hurts":
        return msg("Reranking hurts: {change}.", change=change)
    if found.detectable is None:
        return msg("No difference seen at this size: {change}.", change=change)
    return msg(
        "No difference seen at this size: {change}; this many questions can detect {detectable:.3f}.",
        change=change,
        detectable=found.detectable,
    )


def _next(kind: Kind, found: Measured, missed: float, n_candidates: int) -> Message:
    if kind == "hurts":
        return msg("Turn reranking off (`--no-rerank`, or the switch on the page), or try another `RAG_RERANK_MODEL`.")
    if missed >= MISSED - _ROUNDED:
        return msg(
            "Retrieval misses {missed:.0%} of the relevant chunks at {candidates:,} candidates: before changing the reranker, "
            "increase `RAG_N_CANDIDATES`, or change the chunking or the embedding model.",
            missed=missed,
            candidates=n_candidates,
        )
    if kind == "no difference":
        if found.needed is None:
            return msg("Both orders score the same; skip reranking.")
        if found.needed <= found.n:
            return msg("A difference of this size is borderline for this many questions: label some more.")
        return nmsg(
            "Label about {n:,} more question to detect a difference of this size; until then, skipping reranking is cheaper.",
            "Label about {n:,} more questions to detect a difference of this size; until then, skipping reranking is cheaper.",
            found.needed - found.n,
        )
    if found.ceiling is not None and found.ceiling - found.after >= ROOM - _ROUNDED:
        return msg(
            "The best order of the same candidates scores {ceiling:.3f}: another `RAG_RERANK_MODEL` may come closer "
            "(`rag-app compare` measures it).",
            ceiling=found.ceiling,
        )
    return msg("Keep it: the best order of the same candidates is hardly better. `rag-app sweep` finds the cheapest setting.")


def shown_p(p: float) -> Message:
    """Return a p as it is shown; the test cannot resolve smaller ones than 0.001."""
    return formatted(0.001, "< {x:.3f}") if p < 0.001 else formatted(p, "{x:.3f}")


def formatted(x: float, template: str = "{x:.3f}") -> Message:
    """Return a number in a template with the place {x}; each language writes it with its own marks."""
    return Message(template, {"x": x})
