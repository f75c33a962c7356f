"""The weight of the vectors beside words, learnt from labelled questions, and whether that can be told at all."""

import random
from collections.abc import Iterator, Sequence

from rag_app.errors import RagError, SettingsError
from rag_app.evaluation import measures
from rag_app.evaluation.differences import Measured, compared, mean
from rag_app.evaluation.running import OnQuestion, silent
from rag_app.evaluation.sections import Section, Sentence, Table, change
from rag_app.evaluation.sets import EvalSet
from rag_app.evaluation.verdict import FEWEST, Kind, formatted, kind_of
from rag_app.pipeline import Pipeline
from rag_app.retrieval import POOL, fused
from rag_app.types import Record
from rag_app.words import msg, nmsg

WEIGHTS = tuple(n / 10 for n in range(11))
# Questions are dealt into so many parts: for each the weight is chosen on the others.
PARTS = 5
_SEED = 7


class Weighed(Record):
    """The order by one weight against that by the weight in the settings, over all questions."""

    weight: float
    against: Measured


class Weights(Record):
    """What weights are worth before reranking: 0 is words alone, 1 vectors alone.

    `learnt` is what choosing the best weight is worth on questions that it was not chosen by (cross-validation in five parts)
    against the weight in the settings. `advised` is the best weight, if that helps; else None.
    """

    set: str
    measure: str
    n: int
    own: float
    weights: tuple[Weighed, ...]
    best: float
    learnt: Measured
    kind: Kind
    advised: float | None


def learn(
    pipeline: Pipeline, evalset: EvalSet, own: float, measure: str = "nDCG@10", on_question: OnQuestion = silent
) -> Weights:
    """Return what each weight is worth on the answerable questions of a set. RagError if there are none."""
    if "lexical" not in pipeline.retrievers:
        raise SettingsError(msg("there are no words to weigh: RAG_LEXICAL is false"), msg("set RAG_LEXICAL=true"))
    questions = [question for question in evalset.questions if question.answerable and question.text.strip()]
    if not questions:
        raise RagError(msg("no question was measured"), msg("run `rag-app eval`, which says why"))
    tried = sorted({*WEIGHTS, own})
    runs: dict[float, dict[str, dict[str, float]]] = {weight: {} for weight in tried}
    for done, question in enumerate(questions):
        on_question(done, len(questions), 0)
        vector, _ = pipeline.embeddings.question(question.text)
        dense, lexical = (
            [(c.id, c.retrieval.score) for c in pipeline.retrievers[stage].retrieve(question.text, vector, POOL)]
            for stage in ("dense", "lexical")
        )
        for weight in tried:
            runs[weight][question.id] = measures.ranked([found.row for found in fused(dense, lexical, weight)])
    qrels = {question.id: question.qrels for question in questions}
    by_weight = {weight: measures.measure([measure], qrels, run)[measure] for weight, run in runs.items()}
    values = {weight: [found[question.id] for question in questions] for weight, found in by_weight.items()}
    best = _best(values, range(len(questions)))
    learnt = compared(measure, values[own], _held_out(values, len(questions)))
    kind: Kind = kind_of(learnt) if len(questions) >= FEWEST else "cannot tell"
    return Weights(
        set=evalset.name,
        measure=measure,
        n=len(questions),
        own=own,
        weights=tuple(
            Weighed(weight=weight, against=compared(measure, values[own], found)) for weight, found in values.items()
        ),
        best=best,
        learnt=learnt,
        kind=kind,
        advised=best if kind == "helps" and best != own else None,
    )


def _best(values: dict[float, list[float]], of: Sequence[int]) -> float:
    """Return the weight that is best on these questions; of equals the one in the middle of them."""
    means = {weight: mean([found[i] for i in of]) for weight, found in values.items()}
    equals = [weight for weight, value in means.items() if value > max(means.values()) - 1e-12]
    return equals[len(equals) // 2]


def _held_out(values: dict[float, list[float]], n: int) -> list[float]:
    """Return each question's value by the weight that is best on the parts that it is not in."""
    order = list(range(n))
    random.Random(_SEED).shuffle(order)
    held_out = [0.0] * n
    for part in range(PARTS):
        inside = order[part::PARTS]
        others = [i for i in order if i not in set(inside)] or order
        weight = _best(values, others)
        for i in inside:
            held_out[i] = values[weight][i]
    return held_out


def sections(found: Weights) -> Iterator[Section]:
    """Yield what the weights are worth, and what to do."""
    told = {"measure": found.measure, "set": found.set}
    yield Sentence(
        nmsg(
            "{measure} before reranking on {n:,} question of {set}",
            "{measure} before reranking on {n:,} questions of {set}",
            found.n,
            **told,
        ),
        "quiet",
    )
    change_of_learnt = msg(
        "{difference:+.3f} (95% interval {low:+.3f} to {high:+.3f}) on questions that it was not chosen by",
        difference=found.learnt.difference,
        low=found.learnt.low,
        high=found.learnt.high,
    )
    values = {"own": found.own, "best": found.best, "change": change_of_learnt}
    if found.advised is not None:
        yield Sentence(msg("Set RAG_DENSE_WEIGHT={best:g}: in place of {own:g} it gives {change}.", **values), "strong")
    elif found.kind == "cannot tell":
        too_few = msg("Cannot learn a weight from {n:,} questions; at least {fewest} needed.", n=found.n, fewest=FEWEST)
        yield Sentence(too_few, "strong")
    else:
        yield Sentence(
            msg("Keep RAG_DENSE_WEIGHT={own:g}: a weight chosen by these questions gives {change}.", **values), "strong"
        )
    yield Sentence(msg("Weight of the vectors: 0 is words alone, 1 vectors alone."), "quiet")
    rows = [
        (
            formatted(w.weight, "{x:g}"),
            formatted(w.against.after),
            *change(w.against.difference, w.against.low, w.against.high, w.against.p),
        )
        for w in found.weights
    ]
    heads = (msg("weight"), found.measure, msg("change"), msg("95% interval"), "p")
    yield Table(heads, tuple(rows), next(i for i, w in enumerate(found.weights) if w.weight == found.best))
