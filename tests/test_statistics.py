"""What differences tell: each statistic by hand, then the proof that the verdict is wrong as often as it says, no more."""

import math
import random
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest

from rag_app.evaluation import statistics
from rag_app.evaluation.answers import AnswerPair, Scored, agreement
from rag_app.evaluation.differences import Measured, compared
from rag_app.evaluation.verdict import kind_of


class TestRandomisation:
    @pytest.mark.parametrize(
        ("differences", "p"),
        [
            # Of 16 assignments of signs only ++++ and ---- are as far from 0.
            ([1, 1, 1, 1], 2 / 16),
            ([-0.2, -0.2, -0.2, -0.2], 2 / 16),
            # The sum is 5. As far up: 3+1+1+2 = 7, and 5 with one of the two 1s turned: 3 of 16; and as many down.
            ([3, 1, -1, 2], 6 / 16),
            # The sum is 4. As far up: 3+2+1 = 6 and 3+2-1 = 4: 2 of 8; and as many down.
            ([3, 2, -1], 4 / 8),
            # The sum is 0: every assignment is as far from 0 or further.
            ([1, -1, 2, -2], 1),
            # A question without a difference says nothing either way.
            ([1, 0, 1, 0, 0, 1, 1], 2 / 16),
            # So all signs of few differences are tried among however many questions.
            ([1, 1, 1, 1] + [0] * 46, 2 / 16),
            # One question may as well have gone the other way.
            ([0.9], 1),
            ([0, 0.9, 0], 1),
            ([0, 0, 0], 1),
        ],
    )
    def test_all_signs_of_a_few_differences_are_tried(self, differences: list[float], p: float) -> None:
        assert statistics.p_value(differences) == pytest.approx(p)

    def test_of_many_differences_signs_are_drawn_and_tell_the_same(self) -> None:
        # 40 differences of 0.1, 26 up and 14 down: the sign test. P(26 or more of 40) = sum C(40, k) / 2^40 = 0.040345, twice
        # that is 0.08069; of 10,000 draws the standard error is 2 * sqrt(0.0403 * 0.9597 / 10,000) = 0.0039.
        exact = 2 * sum(math.comb(40, k) for k in range(26, 41)) / 2**40
        assert exact == pytest.approx(0.08069, abs=1e-5)
        assert statistics.p_value([0.1] * 26 + [-0.1] * 14) == pytest.approx(exact, abs=4 * 0.0039)

    def test_no_p_is_0(self) -> None:
        # None of 10,000 draws is as far from 0: 2 * (0 + 1) / (10,000 + 1)
        assert statistics.p_value([0.1] * 60) == pytest.approx(2 / 10_001)

    def test_the_other_way_round_is_as_likely(self) -> None:
        values = [0.3, -0.1, 0.2, 0.25, -0.05, 0.4]
        assert statistics.p_value(values) == pytest.approx(statistics.p_value([-v for v in values]))


class TestHolm:
    @pytest.mark.parametrize(
        ("given", "adjusted"),
        [
            # 3 * 0.01; 2 * 0.03; 1 * 0.04, but no less than the one before
            ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
            ([0.01, 0.02, 0.03], [0.03, 0.04, 0.04]),
            # 2 * 0.6 is more than all there is.
            ([0.7, 0.6], [1, 1]),
            ([0.04], [0.04]),
            ([0.02, 0.02], [0.04, 0.04]),
            ([], []),
        ],
    )
    def test_p_values_are_adjusted_in_the_order_given(self, given: list[float], adjusted: list[float]) -> None:
        assert statistics.holm(given) == pytest.approx(adjusted)


class TestSizes:
    def test_the_questions_that_an_effect_needs(self) -> None:
        # 1.959964 + 0.841621 = 2.801585. Mean 0.1, deviation sqrt((0.1² + 0.1²) / (2 - 1)) = 0.141421:
        # (2.801585 * 0.141421 / 0.1)² = 15.6978
        assert statistics.needed([0.0, 0.2]) == 16
        # The same downwards.
        assert statistics.needed([0.0, -0.2]) == 16
        # Mean 0.05, deviation sqrt((2 * 0.05² + 2 * 0.15²) / 3) = 0.129099: (2.801585 * 0.129099 / 0.05)² = 52.33
        assert statistics.needed([0.2, -0.1, 0.1, 0.0]) == 53
        # Without deviation a question would do; two are the least that a deviation can be known from.
        assert statistics.needed([0.1, 0.1, 0.1]) == 2

    def test_the_effect_that_questions_find(self) -> None:
        # 2.801585 * 0.141421 / sqrt(2) = 0.280159
        assert statistics.detectable([0.0, 0.2]) == pytest.approx(0.280159, abs=1e-6)
        # 2.801585 * 0.129099 / sqrt(4) = 0.180841
        assert statistics.detectable([0.2, -0.1, 0.1, 0.0]) == pytest.approx(0.180841, abs=1e-6)

    def test_as_many_questions_as_are_needed_find_the_effect(self) -> None:
        values = [0.2, -0.1, 0.1, 0.0] * 13
        needed, detectable = statistics.needed(values), statistics.detectable(values)
        assert needed and detectable and detectable * math.sqrt(len(values) / needed) <= 0.05

    @pytest.mark.parametrize("values", [[0.1], [0.0, 0.0, 0.0]], ids=["one question", "no difference"])
    def test_what_cannot_be_said_is_none(self, values: list[float]) -> None:
        assert statistics.needed(values) is None and statistics.detectable(values) is None

    def test_a_mean_of_0_needs_no_number_though_an_effect_could_be_found(self) -> None:
        assert statistics.needed([0.1, -0.1]) is None and statistics.detectable([0.1, -0.1])


class TestInterval:
    @pytest.mark.parametrize("values", [[0.3, 0.3, 0.3], [0.0] * 50, [0.3]], ids=["constant", "no difference", "one"])
    def test_of_equal_differences_it_is_a_point(self, values: list[float]) -> None:
        assert statistics.interval(values) == (values[0], values[0])

    def test_of_many_questions_it_is_that_of_the_normal_approximation(self) -> None:
        values = np.random.default_rng(3).exponential(0.2, 2000) - 0.15
        reach = NormalDist().inv_cdf(0.975) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
        low, high = statistics.interval(list(values))
        # An end of 10,000 resamples is off by some 3% of the reach.
        assert low == pytest.approx(float(np.mean(values)) - reach, abs=0.06 * reach)
        assert high == pytest.approx(float(np.mean(values)) + reach, abs=0.06 * reach)

    def test_it_holds_the_mean_and_lies_within_the_values(self) -> None:
        low, high = statistics.interval([0.0, 0.0, 0.0, 0.0, 0.5, 1.0])
        assert 0 <= low < 0.25 < high <= 1

    @pytest.mark.parametrize("statistic", [statistics.interval, statistics.p_value])
    def test_a_seed_gives_the_same_twice_and_another_seed_hardly_another(self, statistic: Callable[..., object]) -> None:
        draw = random.Random(1)
        values = [draw.gauss(0.05, 0.2) for _ in range(60)]
        assert statistic(values) == statistic(values) == statistic(values, statistics.SEED)
        assert statistic(values, 1) != statistic(values)
        assert statistic(values, 1) == pytest.approx(statistic(values), abs=0.02)


class TestSeparation:
    def test_how_a_score_tells_questions_apart(self) -> None:
        found = statistics.separation("rerank", [5, 4, 2, 1], [3, 1, 0])
        assert found is not None and (found.score, found.n_answerable, found.n_unanswerable) == ("rerank", 4, 3)
        # Of 4 * 3 pairs 5 and 4 are above in 3 each, 2 in 2, 1 in one, and its equal counts half.
        assert found.auc == pytest.approx(9.5 / 12)
        # Kept and refused, by threshold: 0: 1 + 0; 0.5: 1 + 1/3; 1.5: 3/4 + 2/3; 2.5: 2/4 + 2/3; 3.5: 2/4 + 1; 4.5: 1/4 + 1.
        # The highest are 3.5 with 1.5 and 1.5 with 1.4167.
        assert (found.threshold, found.kept, found.refused) == (3.5, 0.5, 1.0)

    def test_of_two_thresholds_alike_the_one_that_keeps_more_is_taken(self) -> None:
        # 0.5: 1 + 1/2; 1.5: 1/2 + 1/2; 2.5: 1/2 + 1
        found = statistics.separation("cosine", [3, 1], [2, 0])
        assert found and (found.auc, found.threshold, found.kept, found.refused) == (3 / 4, 0.5, 1.0, 0.5)

    def test_a_score_that_tells_nothing_keeps_all(self) -> None:
        found = statistics.separation("cosine", [1, 1], [1])
        assert found and (found.auc, found.threshold, found.kept, found.refused) == (0.5, 1, 1.0, 0.0)

    def test_a_score_that_tells_everything_does_so_halfway(self) -> None:
        found = statistics.separation("cosine", [0.9], [0.2, 0.4])
        assert found and (found.auc, found.kept, found.refused) == (1, 1, 1) and found.threshold == pytest.approx(0.65)

    def test_it_takes_both_kinds(self) -> None:
        # Rounded to four digits it would be 1, which nothing reaches.
        near = statistics.separation("rerank", [0.99999, 0.99998], [0.99994])
        assert near and (near.threshold, near.kept, near.refused) == (0.99996, 1, 1)
        assert statistics.separation("x", [1], []) is None and statistics.separation("x", [], [1]) is None


def answer(judged: float | None, f1: float | None = None, refused: bool = False) -> Scored:
    return Scored(text="", refused=refused, f1=f1, judged=judged)


def pairs(*answers: Scored) -> list[AnswerPair]:
    return [
        AnswerPair(id=str(i), question="?", expected=(), before=before, after=after, ms=1, tokens=None)
        for i, (before, after) in enumerate(zip(answers[::2], answers[1::2], strict=True))
    ]


class TestAgreement:
    def test_cohens_kappa_of_a_judge_and_the_labels(self) -> None:
        # Judge and labels: 4 yes and yes, 2 yes and no, 1 no and yes, 3 no and no: they agree on 0.7. The judge says yes to
        # 0.6, the labels to 0.5: by chance they agree on 0.6 * 0.5 + 0.4 * 0.5 = 0.5. (0.7 - 0.5) / (1 - 0.5) = 0.4
        yes_yes = [answer(1, 0.5), answer(1, 1.0), answer(1, 0.7), answer(1, refused=True)]
        yes_no = [answer(1, 0.49), answer(1, refused=False)]
        no_yes = [answer(0, 0.8)]
        # Where an answer is expected it is its words that count, not whether it declines.
        no_no = [answer(0, 0.0), answer(0, 0.2, refused=True), answer(0)]
        found = agreement("judge", pairs(*yes_yes, *yes_no, *no_yes, *no_no), unclear=3)
        assert found and (found.model, found.n, found.unclear) == ("judge", 10, 3)
        assert found.share == pytest.approx(0.7) and found.kappa == pytest.approx(0.4)

    def test_answers_that_were_not_judged_do_not_count(self) -> None:
        # 2 of 4, as by chance: 0.5 * 0.5 + 0.5 * 0.5
        found = agreement(
            "judge", pairs(answer(1, 1.0), answer(1, 0.0), answer(0, 1.0), answer(0, 0.0), answer(None), answer(None)), 0
        )
        assert found and (found.n, found.share, found.kappa) == (4, 0.5, 0)

    def test_nothing_judged_is_no_agreement_and_one_voice_is_full_agreement(self) -> None:
        assert agreement("judge", pairs(answer(None), answer(None, 0.5)), 2) is None
        found = agreement("judge", pairs(answer(1, 1.0), answer(1, 0.9)), 0)
        assert found and (found.share, found.kappa) == (1, 1)

    def test_opposites_are_worse_than_chance(self) -> None:
        # 0 of 2; chance 0.5: (0 - 0.5) / 0.5
        found = agreement("judge", pairs(answer(1, 0.0), answer(0, 1.0)), 0)
        assert found and (found.share, found.kappa) == (0, -1)


def test_a_measure_of_two_systems_question_by_question() -> None:
    found = compared("nDCG@10", [0.5, 0.5, 1.0, 0.2], [1.0, 0.5, 0.5, 0.9], [1.0, 1.0, 1.0, 0.9])
    # Differences: 0.5, 0, -0.5, 0.7. Means: 2.2 / 4, 2.9 / 4, 3.9 / 4.
    assert (found.name, found.n, found.wins, found.ties, found.losses) == ("nDCG@10", 4, 2, 1, 1)
    assert [found.before, found.after, found.difference] == pytest.approx([0.55, 0.725, 0.175])
    assert found.ceiling == pytest.approx(0.975)
    # The sum is 0.7: of the signs of 0.5, 0.5, 0.7 the sums 1.7, 0.7 (twice) are that far, and as many downwards.
    assert found.p == pytest.approx(6 / 8)
    assert found.low < 0.175 < found.high and found.needed and found.detectable


def test_the_same_ranking_twice_is_ties_only() -> None:
    values = [0.1, 0.63, 1.0, 0.0] * 10
    found = compared("nDCG@10", values, values)
    assert (found.p, found.low, found.high, found.difference) == (1, 0, 0, 0)
    assert (found.wins, found.ties, found.losses) == (0, 40, 0)
    assert found.needed is None and found.detectable is None and found.ceiling is None
    assert kind_of(found) == "no difference"


def test_systems_with_other_questions_are_not_compared() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compared("AP", [0.1, 0.2], [0.1])


def questions(draw: random.Random, n: int, better: float) -> tuple[list[float], list[float]]:
    """Return nDCG@10 of n questions with one relevant document each, by two rankings of the same candidates.

    Half of the questions keep the rank that they have; the others draw it anew from the same ranks, so that the rankings are
    alike; `better` is the share of these that are put first instead.
    """

    def ndcg() -> float:
        rank = min(int(draw.expovariate(0.25)) + 1, 30)
        return 1 / math.log2(rank + 1) if rank <= 10 else 0.0

    before = [ndcg() for _ in range(n)]
    after = [value if draw.random() < 0.5 else 1.0 if draw.random() < better else ndcg() for value in before]
    return before, after


def kinds(n_sets: int, n: int, better: float, seed: int) -> list[str]:
    draw = random.Random(seed)
    found: list[Measured] = [compared("nDCG@10", *questions(draw, n, better)) for _ in range(n_sets)]
    return [kind_of(measured) for measured in found]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the resamples: each verdict is a little coarser, a thousand of them still tell."""
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)


def test_of_two_rankings_alike_one_in_twenty_is_told_apart(quick: None) -> None:
    # 1,000 sets of 50 questions. At 5% 950 show no difference, with a standard error of sqrt(1,000 * 0.95 * 0.05) = 6.9; within
    # four of them, 922 to 978. What is told apart is told to help about as often as to hurt.
    found = kinds(1000, 50, 0.0, seed=11)
    assert 922 <= found.count("no difference") <= 978
    assert min(found.count("helps"), found.count("hurts")) >= 5


def test_an_effect_is_found_in_four_of_five_sets_of_the_size_that_it_needs(quick: None) -> None:
    before, after = questions(random.Random(5), 20_000, 0.3)
    n = statistics.needed([b - a for a, b in zip(before, after, strict=True)])
    assert n is not None and 40 <= n <= 200
    # 400 sets of n questions. At a power of 80% 320 find it, with a standard error of sqrt(400 * 0.8 * 0.2) = 8; four of them
    # are 32. A quarter of the questions finds it in far fewer: 2.80 / 2 - 1.96 = -0.56 standard errors, 29%.
    found = kinds(400, n, 0.3, seed=12)
    assert 288 <= found.count("helps") <= 352 and not found.count("hurts")
    assert kinds(100, n // 4, 0.3, seed=13).count("helps") <= 50
