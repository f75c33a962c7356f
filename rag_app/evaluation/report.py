"""The report of a run: what was measured before and after reranking, how sure it is, what it costs, and the verdict."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from rag_app.evaluation import measures, statistics
from rag_app.evaluation.answers import AnswersReport
from rag_app.evaluation.differences import Measured, compared, mean
from rag_app.evaluation.running import Asked, Counts, Failure, Stage, stage
from rag_app.evaluation.sets import EvalSet, Question
from rag_app.evaluation.statistics import Separation
from rag_app.evaluation.sweep import Sweep
from rag_app.evaluation.verdict import Verdict, verdict
from rag_app.price import rerank_cost
from rag_app.settings import Settings
from rag_app.types import Candidate, Record
from rag_app.words import msg

# So much of a chunk's text stands in a report.
_EXCERPT = 300


class Place(Record):
    """A candidate in an outcome: its grade (None: not judged), and its ranks before and after."""

    id: str
    document: str
    text: str
    grade: int | None
    before: int
    after: int


class Outcome(Record):
    """One question as measured. `recall` is that of the candidates; `best` each measure of the best order of them.

    `places` are the relevant candidates and what stood first before and after.
    """

    id: str
    question: str
    before: dict[str, float]
    after: dict[str, float]
    best: dict[str, float]
    recall: float
    places: tuple[Place, ...] = ()


class Report(Record):
    """What a run found. `measured[0]` is the measure that the verdict is by; `system` says what was measured.

    `unjudged` are questions without anything relevant that is found here, `left_out` counts records that are not stored.
    """

    set: str
    collection: str
    when: float
    system: dict[str, str]
    n_candidates: int
    n_passages: int
    sample: int | None = None
    verdict: Verdict
    counts: Counts
    measured: tuple[Measured, ...]
    recall: float | None
    failures: tuple[Failure, ...]
    skipped: tuple[Failure, ...]
    warnings: tuple[Failure, ...] = ()
    unjudged: tuple[str, ...] = ()
    lost: tuple[str, ...]
    left_out: int = 0
    stages: tuple[Stage, ...]
    at_once: int
    currency: str = ""
    rerank_cost: float | None = None
    gain_per_100_ms: float | None = None
    gain_per_unit: float | None = None
    unanswerable: tuple[Separation, ...] = ()
    answers: AnswersReport | None = None
    sweep: Sweep | None = None
    outcomes: tuple[Outcome, ...]


def outcome(asked: Asked, names: Sequence[str]) -> Outcome:
    """Return one measured question, from its search."""
    search, qrels = asked.search, asked.question.qrels
    if search is None:
        raise ValueError("a question without a search is not measured")
    before, after = [c.id for c in search.candidates], [c.id for c in search.reranked]
    shown = {*(d for d, grade in qrels.items() if grade > 0), *before[:1], *after[:1]}
    places = tuple(_place(c, qrels, after) for c in search.candidates if c.id in shown)
    return outcome_of(asked.question, measures.ranked(before), measures.ranked(after), names, places)


def outcome_of(
    question: Question,
    before: Mapping[str, float],
    after: Mapping[str, float],
    names: Sequence[str],
    places: tuple[Place, ...] = (),
) -> Outcome:
    """Return one measured question, from the scores of its documents before and after."""
    orders = {"before": before, "after": after, "best": measures.ranked(measures.ideal(question.qrels, list(before)))}
    values = {
        which: {name: found["q"] for name, found in measures.measure(names, {"q": question.qrels}, {"q": order}).items()}
        for which, order in orders.items()
    }
    relevant = [d for d, grade in question.qrels.items() if grade > 0]
    return Outcome(
        id=question.id,
        question=question.text,
        recall=sum(d in before for d in relevant) / len(relevant),
        places=places,
        **values,
    )


def _place(c: Candidate, qrels: Mapping[str, int], after: Sequence[str]) -> Place:
    text = " ".join(c.text.split())
    excerpt = text if len(text) <= _EXCERPT else text[:_EXCERPT].rpartition(" ")[0] + " …"
    grade = qrels.get(c.id)
    return Place(id=c.id, document=c.document, text=excerpt, grade=grade, before=c.retrieval.rank, after=after.index(c.id) + 1)


def of_outcomes(name: str, outcomes: Sequence[Outcome], *, ceiling: bool = True) -> Measured:
    """Return a measure over questions, before against after."""
    before, after, best = ([getattr(o, which)[name] for o in outcomes] for which in ("before", "after", "best"))
    return compared(name, before, after, best if ceiling else ())


def report(
    evalset: EvalSet,
    asked: Sequence[Asked],
    settings: Settings,
    names: Sequence[str],
    n_candidates: int,
    at_once: int,
    *,
    made: Mapping[str, str],
    sample: int | None = None,
    answers: AnswersReport | None = None,
) -> Report:
    """Return what a run found; the first of the measures is what the verdict is by, `made` the system that was measured."""
    fine = [a for a in asked if not a.failure]
    outcomes = [outcome(a, names) for a in fine if a.question.answerable]
    skipped = [a for a in fine if a.question.answerable and a.search and a.search.rerank.status == "skipped"]
    failed = grouped((a.question.id, a.failure) for a in asked)
    unasked = grouped((a.question.id, a.search.rerank.reason) for a in skipped if a.search)
    unjudged = tuple(a.question.id for a in fine if not a.question.answerable and not a.question.unanswerable)
    lost = [f"{a.question.id}: {words}" for a in asked for words in a.question.lost]
    counts = Counts(
        questions=len(asked),
        measured=len(outcomes),
        failed=sum(bool(a.failure) for a in asked),
        unanswerable=sum(a.question.unanswerable for a in fine),
        unjudged=len(unjudged),
        partial=sum(a.search.rerank.status == "partial" for a in fine if a.search and a.question.answerable),
        skipped=len(skipped),
        lost=len(lost),
    )
    measured = [of_outcomes(name, outcomes) for name in names] if outcomes else []
    recall = mean([o.recall for o in outcomes]) if outcomes else None
    stages = stages_of(fine)
    costs = [rerank_cost(a.search, settings) for a in fine if a.search]
    cost = mean([c for c in costs if c is not None]) if costs and None not in costs else None
    reranked = [a.search.ms.rerank for a in fine if a.search and a.search.rerank.status in ("applied", "partial")]
    ms = float(np.median(reranked)) if reranked else None
    gain = measured[0].difference if measured else None
    return Report(
        set=evalset.name,
        collection=settings.collection,
        when=time.time(),
        system=dict(made),
        n_candidates=n_candidates,
        n_passages=settings.n_passages,
        sample=sample,
        verdict=verdict(measured[0] if measured else None, recall, counts, n_candidates, failed, unasked),
        counts=counts,
        measured=tuple(measured),
        recall=recall,
        failures=failed,
        skipped=unasked,
        warnings=grouped(warnings(fine)),
        unjudged=unjudged,
        lost=tuple(lost),
        left_out=evalset.left_out,
        stages=stages,
        at_once=at_once,
        currency=settings.price_currency,
        rerank_cost=cost,
        gain_per_100_ms=100 * gain / ms if gain is not None and ms else None,
        gain_per_unit=gain / cost if gain is not None and cost else None,
        unanswerable=separations(fine),
        answers=answers,
        outcomes=tuple(outcomes),
    )


def report_of_runs(
    evalset: EvalSet, runs: Sequence[tuple[str, Mapping[str, Mapping[str, float]]]], names: Sequence[str]
) -> Report:
    """Return a report on one or two runs (name, query → document → score) from TREC files, the second against the first.

    A question that a run does not have has failed: it is no zero.
    """
    (name_before, before), (name_after, after) = runs[0], runs[-1]
    measured_questions = [q for q in evalset.questions if q.answerable and q.id in before and q.id in after]
    outcomes = [outcome_of(q, before[q.id], after[q.id], names) for q in measured_questions]
    missing = [q for q in evalset.questions if q.answerable and q not in measured_questions]
    failed = grouped((q.id, msg("the question is not in the run")) for q in missing)
    same = all(before[q.id].keys() == after[q.id].keys() for q in measured_questions)
    counts = Counts(
        questions=len(evalset.questions),
        measured=len(outcomes),
        failed=len(missing),
        unanswerable=sum(q.unanswerable for q in evalset.questions),
        unjudged=sum(not q.answerable and not q.unanswerable for q in evalset.questions),
        partial=0,
        skipped=0,
        lost=0,
    )
    # Of other documents the best order of those before is no ceiling.
    measured = [of_outcomes(name, outcomes, ceiling=same) for name in names] if outcomes else []
    recall = mean([o.recall for o in outcomes]) if outcomes and same else None
    depth = max((len(before[q.id]) for q in measured_questions), default=0)
    said = verdict(measured[0] if measured else None, recall, counts, depth, failed, ())
    if len(runs) == 1:
        sentence, to_do = msg("A single run says nothing about reranking."), msg("Name a second `--run`.")
        said = Verdict(kind="cannot tell", sentence=sentence, next=to_do)
    return Report(
        set=evalset.name,
        collection="",
        when=time.time(),
        system={"run before": name_before, "run after": name_after},
        n_candidates=depth,
        n_passages=0,
        verdict=said,
        counts=counts,
        measured=tuple(measured),
        recall=recall,
        failures=failed,
        skipped=(),
        lost=(),
        stages=(),
        at_once=0,
        outcomes=tuple(outcomes),
    )


def described(settings: Settings, recipe: Mapping[str, str]) -> dict[str, str]:
    """Return what was measured, for a person and for who compares; without keys. `recipe` is that of the collection."""
    embedding, rerank = settings.endpoint("EMBEDDING"), settings.endpoint("RERANK")
    found = {
        "embedding_model": embedding.model,
        "embedding_at": "built-in" if embedding.builtin else embedding.address,
        "first_stage": "hybrid" if settings.lexical else "dense",
        "dense_weight": str(settings.dense_weight) if settings.lexical else "",
        "rerank_model": rerank.model,
        "rerank_at": "built-in" if rerank.builtin else rerank.address,
        "rerank_dialect": settings.rerank_dialect,
        "rerank_max_tokens": str(settings.rerank_max_tokens),
        "rerank_parameters": ", ".join(sorted(settings.rerank_parameters)),
        "rerank_min_score": "" if settings.rerank_min_score is None else str(settings.rerank_min_score),
        "question_prefix": settings.question_prefix,
        "passage_prefix": settings.passage_prefix,
        # Records of a set in BEIR layout are not cut.
        **{name: recipe.get(name, "") for name in ("chunk_size", "chunk_overlap", "chunk_unit")},
    }
    return {name: value for name, value in found.items() if value not in ("", "0", "auto")}


def grouped(reasons: Iterable[tuple[str, str]]) -> tuple[Failure, ...]:
    """Return (question id, reason) pairs by reason, the most frequent first; "" is none."""
    by_reason: dict[str, list[str]] = {}
    for question, reason in reasons:
        if reason:
            by_reason.setdefault(reason, []).append(question)
    order = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    return tuple(Failure(reason=reason, questions=len(ids), ids=tuple(ids)) for reason, ids in order)


def warnings(asked: Sequence[Asked]) -> Iterator[tuple[str, str]]:
    """Yield (question id, what is to be known of its rerank): warnings, truncated documents, candidates without a score."""
    for a in asked:
        if a.search and a.search.rerank.status in ("applied", "partial"):
            receipt = a.search.rerank
            yield from ((a.question.id, warning) for warning in receipt.warnings)
            if receipt.truncated:
                yield a.question.id, msg("documents were truncated")
            if receipt.status == "partial":
                yield a.question.id, msg("partially reranked: candidates without a score follow in retrieval order")


def stages_of(asked: Sequence[Asked]) -> tuple[Stage, ...]:
    """Return the milliseconds and tokens of each stage; of reranking, where it was asked."""
    found = []
    for name in ("embed", "retrieve", "rerank"):
        searches = [a.search for a in asked if a.search and (name != "rerank" or a.search.rerank.attempts)]
        if searches:
            ms = [getattr(search.ms, name) for search in searches]
            found.append(stage(name, ms, [getattr(search.tokens, name, None) for search in searches]))
    return tuple(found)


def separations(asked: Sequence[Asked]) -> tuple[Separation, ...]:
    """Return how the top scores, of retrieval and of reranking, tell unanswerable questions from others."""
    found = []
    retrieval = next((str(a.search.retrieval_score.name) for a in asked if a.search), "")
    for score in (retrieval, "rerank"):
        tops: dict[bool, list[float]] = {True: [], False: []}
        for a in asked:
            if a.search and a.search.candidates and (a.question.answerable or a.question.unanswerable):
                first = a.search.candidates[0] if score == retrieval else a.search.reranked[0]
                if ranking := first.retrieval if score == retrieval else first.rerank:
                    tops[a.question.answerable].append(ranking.score)
        if separated := statistics.separation(score, tops[True], tops[False]):
            found.append(separated)
    return tuple(found)


def moved(report: Report, n: int) -> tuple[list[Outcome], list[Outcome]]:
    """Return the n questions that gained and that lost most by the first measure, the greatest first."""
    name = report.measured[0].name
    order = sorted(report.outcomes, key=lambda o: o.before[name] - o.after[name])
    gained = [o for o in order if o.after[name] - o.before[name] > statistics.TIE]
    lost = [o for o in reversed(order) if o.after[name] - o.before[name] < -statistics.TIE]
    return gained[:n], lost[:n]
