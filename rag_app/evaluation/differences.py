"""A measure over questions, of one system against another's on the same questions."""

from collections.abc import Sequence

import numpy as np

from rag_app.evaluation import statistics
from rag_app.types import Record


class Measured(Record):
    """A measure over n questions: means before and after, the difference with its 95% interval and p, and the ceiling if known.

    `wins`, `ties` and `losses` count questions; `needed` is how many it takes to find a difference of this size, `detectable`
    the size that this many questions find (both with 80% power at 5%).
    """

    name: str
    n: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float
    ceiling: float | None
    wins: int
    ties: int
    losses: int
    needed: int | None
    detectable: float | None


def compared(name: str, before: Sequence[float], after: Sequence[float], best: Sequence[float] = ()) -> Measured:
    """Return a measure of two systems from its values question by question, in the same order; there is one at least."""
    differences = [b - a for a, b in zip(before, after, strict=True)]
    low, high = statistics.interval(differences)
    wins, losses = sum(d > statistics.TIE for d in differences), sum(d < -statistics.TIE for d in differences)
    return Measured(
        name=name,
        n=len(differences),
        before=mean(before),
        after=mean(after),
        difference=mean(differences),
        low=low,
        high=high,
        p=statistics.p_value(differences),
        ceiling=mean(best) if best else None,
        wins=wins,
        ties=len(differences) - wins - losses,
        losses=losses,
        needed=statistics.needed(differences),
        detectable=statistics.detectable(differences),
    )


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
