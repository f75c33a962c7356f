"""What a sweep says, as sections."""

from collections.abc import Iterator

from rag_app.evaluation.sections import Chart, Fold, Section, Sentence, Table, change, count, text
from rag_app.evaluation.sweep import Cell, Sweep
from rag_app.evaluation.verdict import formatted
from rag_app.words import Message, msg, nmsg


def of_sweep(sweep: Sweep) -> Iterator[Section]:
    """Yield what a sweep says: the cheapest setting, the best, and all."""
    told = {"measure": sweep.measure, "set": sweep.set}
    yield Sentence(
        nmsg("{measure} on {n:,} question of {set}", "{measure} on {n:,} questions of {set}", sweep.n, **told), "quiet"
    )
    if sweep.failed:
        yield Sentence(
            nmsg(
                "Failed (excluded): {n:,} question; `rag-app eval` says why",
                "Failed (excluded): {n:,} questions; `rag-app eval` says why",
                sweep.failed,
            ),
            "failed",
        )
    if sweep.skipped:
        yield Sentence(
            nmsg(
                "Not reranked, retrieval order used: {n:,} question; `rag-app eval` says why",
                "Not reranked, retrieval order used: {n:,} questions; `rag-app eval` says why",
                sweep.skipped,
            ),
            "failed",
        )
    if sweep.cheapest:
        cheapest = _setting(sweep.cheapest, sweep)
        yield Sentence(msg("Cheapest setting not significantly worse than the best: {setting}.", setting=cheapest), "strong")
    else:
        yield Sentence(msg("Too few questions to tell which settings are as good as the best."), "strong")
    yield Sentence(msg("Best: {setting}.", setting=_setting(sweep.best, sweep)))
    yield Chart("heat_map", sweep, msg("{measure}, by candidates and passages", measure=sweep.measure))
    yield Sentence(
        msg("≈ not significantly worse than the best, ★ the cheapest of those. Costs are estimated from text length."),
        "quiet",
    )
    heads = (msg("candidates"), msg("passages"), msg("quality"), msg("from the best"), msg("95% interval"), "p")
    rows = [
        (
            count(c.candidates) if c.candidates else msg("not reranked"),
            count(c.passages),
            formatted(c.quality),
            *change(c.difference, c.low, c.high, c.p),
            _cost(c, sweep),
        )
        for c in sweep.cells
    ]
    marked = sweep.cells.index(sweep.cheapest) if sweep.cheapest else None
    table = Table((*heads, msg("{unit} per question", unit=unit(sweep))), tuple(rows), marked)
    yield Fold(msg("All settings"), (table,))


def unit(sweep: Sweep) -> Message:
    """Return what the costs of a sweep are in: a currency, or tokens."""
    return msg("tokens") if sweep.unit == "tokens" else text(sweep.unit)


def _setting(c: Cell, sweep: Sweep) -> Message:
    n, k = c.passages, c.candidates
    if k:
        setting = nmsg("{k:,} candidates reranked, {n:,} passage", "{k:,} candidates reranked, {n:,} passages", n, k=k)
    else:
        setting = nmsg("no reranking, {n:,} passage", "no reranking, {n:,} passages", n)
    values = {"setting": setting, "quality": c.quality, "cost": _cost(c, sweep), "unit": unit(sweep)}
    return msg("{setting} ({quality:.3f}, {cost} {unit} per question)", **values)


def _cost(c: Cell, sweep: Sweep) -> Message:
    return Message("{x:,.0f}" if sweep.unit == "tokens" else "{x:.4g}", {"x": c.cost})
