"""What differences between two rankings of the same questions tell: intervals, tests, and how many questions it takes."""

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from scipy import stats

from rag_app.types import Record

SEED = 20070611
RESAMPLES = 10_000
CONFIDENCE = 0.95
# A smaller difference is one of rounding.
TIE = 1e-9
POWER = 0.8
# What an effect must exceed in standard errors to be found with POWER at CONFIDENCE, two-sided: 1.96 + 0.84.
_REACH = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) + NormalDist().inv_cdf(POWER)


def interval(differences: Sequence[float], seed: int = SEED) -> tuple[float, float]:
    """Return the 95% interval of the mean difference by the paired percentile bootstrap (Efron 1979), questions resampled."""
    values = np.asarray(differences, dtype=float)
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, batch=500, confidence_level=CONFIDENCE, method="percentile", rng=seed
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def p_value(differences: Sequence[float], seed: int = SEED) -> float:
    """Return the two-sided p of the paired randomisation test on the mean difference (Smucker, Allan & Carterette 2007).

    The sign of each question's difference is as likely one as the other if neither ranking is better. All assignments are tried
    where they are no more than 10,000, else so many are drawn.
    """
    values = np.asarray(differences, dtype=float)
    # Where there is no difference either sign is the same: only the others count.
    values = values[np.abs(values) > TIE]
    if len(values) < 2:
        # One question alone may as well have gone the other way.
        return 1.0
    found = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", vectorized=True, n_resamples=RESAMPLES, batch=500, rng=seed
    )
    return min(1.0, float(found.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being several, in the order given (Holm 1979)."""
    adjusted = [0.0] * len(p_values)
    before = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        before = adjusted[i] = max(before, min(1.0, (len(p_values) - rank) * p_values[i]))
    return adjusted


def needed(differences: Sequence[float]) -> int | None:
    """Return how many questions it takes to find a mean difference of this size with 80% power at 5%; None if there is none.

    By the normal approximation of the paired test: ((1.96 + 0.84) · standard deviation / mean)².
    """
    mean = float(np.mean(differences))
    if len(differences) < 2 or abs(mean) < 1e-12:
        return None
    return max(2, math.ceil((_REACH * float(np.std(differences, ddof=1)) / mean) ** 2))


def detectable(differences: Sequence[float]) -> float | None:
    """Return the smallest mean difference that so many questions find with 80% power at 5%; None if all are equal."""
    if len(differences) < 2 or (deviation := float(np.std(differences, ddof=1))) == 0:
        return None
    return _REACH * deviation / math.sqrt(len(differences))


class Separation(Record):
    """How a top score tells answerable questions from unanswerable ones.

    `auc`: how often an answerable question scores above an unanswerable one (Mann & Whitney 1947), 0.5 is chance; `threshold`:
    the score with the highest sum of the two shares (Youden 1950): `kept` of the answerable ones reach it, `refused` of the
    others do not. It is the best on these questions, so rather too good.
    """

    score: str
    n_answerable: int
    n_unanswerable: int
    auc: float
    threshold: float
    kept: float
    refused: float


def separation(score: str, answerable: Sequence[float], unanswerable: Sequence[float]) -> Separation | None:
    """Return how a top score separates the questions; None unless there are both kinds."""
    if not answerable or not unanswerable:
        return None
    auc = float(stats.mannwhitneyu(answerable, unanswerable).statistic) / (len(answerable) * len(unanswerable))
    known = sorted({*answerable, *unanswerable})
    between = [known[0], *((a + b) / 2 for a, b in itertools.pairwise(known))]

    def shares(threshold: float) -> tuple[float, float]:
        kept = sum(value >= threshold for value in answerable) / len(answerable)
        return kept, sum(value < threshold for value in unanswerable) / len(unanswerable)

    best = max(between, key=lambda threshold: (sum(shares(threshold)), shares(threshold)[0]))
    kept, refused = shares(best)
    # The fewest digits that do the same: rounded up, a threshold near the highest score would keep nothing.
    best = next(short for n in range(4, 18) if shares(short := float(f"{best:.{n}g}")) == (kept, refused))
    return Separation(
        score=score,
        n_answerable=len(answerable),
        n_unanswerable=len(unanswerable),
        auc=auc,
        threshold=best,
        kept=kept,
        refused=refused,
    )
