"""Sweep: how many candidates and passages it takes, from the scores of one run at the most candidates."""

from collections.abc import Sequence

from rag_app import language
from rag_app.errors import RagError
from rag_app.evaluation import measures
from rag_app.evaluation.differences import compared, mean
from rag_app.evaluation.running import Asked
from rag_app.evaluation.verdict import FEWEST, kind_of
from rag_app.settings import Settings
from rag_app.types import Candidate, Record, Search, after_rerank
from rag_app.words import msg

# What is measured at the number of passages: R@4 where 4 passages go to the chat model.
KINDS = ("R", "nDCG", "Success", "RR")


class Cell(Record):
    """One setting: 0 candidates is retrieval order. `cost` is what a question costs, estimated: money, else tokens.

    `within` is whether the quality is within the noise of the best: the randomisation test and the interval of the difference
    do not both tell them apart. For many settings no p is adjusted: that would take ever worse ones for as good.
    """

    candidates: int
    passages: int
    quality: float
    difference: float
    low: float
    high: float
    p: float
    within: bool
    cost: float


class Sweep(Record):
    """All settings over n questions, the best, and the cheapest that is within its noise. `unit` is that of the costs.

    With fewer than 20 questions there is no telling which are as good: `cheapest` is None.
    """

    set: str
    measure: str
    n: int
    cells: tuple[Cell, ...]
    best: Cell
    cheapest: Cell | None
    unit: str
    failed: int
    skipped: int = 0


def depths(most: int) -> list[int]:
    """Return numbers of candidates to try, up to the most."""
    return sorted({n for n in (5, 10, 20, 30, 50) if n < most} | {most})


def sweep(
    name: str, asked: Sequence[Asked], settings: Settings, candidates: Sequence[int], passages: Sequence[int], kind: str = "R"
) -> Sweep:
    """Return the quality of each setting, by R@passages or another kind. RagError if no question was measured.

    The scores of the deepest run are used for all: right for models that score each candidate by itself.
    """
    fine = [(a, a.search) for a in asked if a.search and not a.failure and a.question.answerable]
    if not fine:
        raise RagError(msg("no question was measured"), msg("run `rag-app eval`, which says why"))
    values: dict[tuple[int, int], list[float]] = {}
    costs: dict[tuple[int, int], float] = {}
    for k in (0, *sorted(set(candidates))):
        for n in sorted(set(passages)):
            if k and n > k:
                continue
            measure = f"{kind}@{n}"
            orders = {a.question.id: _order(search, k) for a, search in fine}
            run = {question: measures.ranked([c.id for c in order]) for question, order in orders.items()}
            found = measures.measure([measure], {a.question.id: a.question.qrels for a, _ in fine}, run)[measure]
            values[k, n] = [found[a.question.id] for a, _ in fine]
            costs[k, n] = mean([_cost(settings, search, k, orders[a.question.id][:n]) for a, search in fine])
    best = max(values, key=lambda setting: (mean(values[setting]), -costs[setting]))
    found_all = {setting: compared(kind, values[best], values[setting]) for setting in values}
    cells = {
        (k, n): Cell(
            candidates=k,
            passages=n,
            quality=m.after,
            difference=m.difference,
            low=m.low,
            high=m.high,
            p=m.p,
            within=kind_of(m) == "no difference",
            cost=costs[k, n],
        )
        for (k, n), m in found_all.items()
    }
    within = [cell for cell in cells.values() if cell.within]
    return Sweep(
        set=name,
        measure=f"{kind}@passages",
        n=len(fine),
        cells=tuple(cells.values()),
        best=cells[best],
        cheapest=min(within, key=lambda cell: (cell.cost, cell.candidates)) if len(fine) >= FEWEST else None,
        unit=settings.price_currency if _priced(settings) else "tokens",
        failed=sum(bool(a.failure) for a in asked),
        skipped=sum(search.rerank.status == "skipped" for _, search in fine),
    )


def _order(search: Search, k: int) -> list[Candidate]:
    """Return the candidates as they would be ordered if only the first k had been reranked; 0: as retrieved."""
    return sorted(search.candidates[:k], key=after_rerank) if k else list(search.candidates)


def _priced(settings: Settings) -> bool:
    return any(price is not None for price in (settings.price_rerank, settings.price_rerank_requests, settings.price_prompt))


def _cost(settings: Settings, search: Search, k: int, passages: Sequence[Candidate]) -> float:
    """Return what reranking k candidates and sending passages costs, by prices if set, else in tokens; estimated from text."""
    question = language.tokens(search.question)
    reranked = sum(question + language.tokens(c.text_in_context) for c in search.candidates[:k])
    sent = sum(language.tokens(c.text) for c in passages)
    if not _priced(settings):
        return reranked + sent
    of_tokens = (reranked * (settings.price_rerank or 0.0) + sent * (settings.price_prompt or 0.0)) / 1e6
    return of_tokens + (settings.price_rerank_requests or 0.0) / 1000 * bool(k)
