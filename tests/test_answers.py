"""What is said of a run: answers against what is expected, the verdict, sweep, comparison and gate, and drafts of questions."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rag_app.errors import RagError
from rag_app.evaluation import drafts, measures
from rag_app.evaluation.answers import AnswerPair, Scored, exact_match, moved, normalised, scored, token_f1
from rag_app.evaluation.comparing import comparison, gate
from rag_app.evaluation.differences import Measured
from rag_app.evaluation.drafts import Draft, Drafts
from rag_app.evaluation.report import Report, report_of_runs
from rag_app.evaluation.running import Asked, Counts, Failure
from rag_app.evaluation.sets import EvalSet, Question
from rag_app.evaluation.sweep import Cell, Sweep, depths, sweep
from rag_app.evaluation.verdict import Verdict, kind_of, shown_p, verdict
from rag_app.evaluation.weights import Weights, learn
from rag_app.labels import jsonl
from rag_app.labels.labels import DRAFTED, Labels
from rag_app.settings import Settings, load_settings
from rag_app.types import Answer, Candidate, Chunk, Citation, Ranking, Receipt, Search, SearchMs
from rag_app.words import KEEP as WITH_VALUES
from rag_app.words import words
from tests.helpers import candidates


class TestWords:
    @pytest.mark.parametrize(
        ("text", "tokens"),
        [
            ("The  32 EUR, a day!", ["32", "eur", "day"]),
            # Letters are an article only as a word.
            ("An answer than Theirs", ["answer", "than", "theirs"]),
            # Punctuation goes without a space in its place, as in SQuAD.
            ("It's U.S. law: 3.5%", ["its", "us", "law", "35"]),
            # After punctuation, so that an article in quotes goes too.
            ("“The” 'a' (an)", []),
            ("So it is [1]. And [12][3] so", ["so", "it", "is", "and", "so"]),
            # No marker: it has four digits.
            ("In [2024]", ["in", "2024"]),
            ("光荣和ω-force。", ["光", "荣", "和", "ωforce"]),
            ("東京タワー、서울 2 号", ["東", "京", "タ", "ワ", "ー", "서", "울", "2", "号"]),
            ("  ", []),
        ],
        ids=["case", "articles", "punctuation", "quoted", "markers", "no marker", "Chinese", "Japanese, Korean", "nothing"],
    )
    def test_of_an_answer_these_words_count(self, text: str, tokens: list[str]) -> None:
        assert normalised(text) == tokens

    @pytest.mark.parametrize(
        ("answer", "expected", "exact", "f1"),
        [
            ("The 32 EUR [1].", ["32 eur"], 1, 1),
            # cat sat on mat, cat on mat: 3 shared of 4 and 3, 2 * 3 / (4 + 3)
            ("A cat sat on the mat.", ["cat on mat"], 0, 6 / 7),
            # Words count as often as both have them: it, it of 3 and 2.
            ("it it it", ["it it"], 0, 4 / 5),
            ("nine", ["32 EUR"], 0, 0),
            # The best of several: 1 of 1 and 2 against none.
            ("32", ["nine", "32 EUR", "x 32 EUR"], 0, 2 / 3),
            ("nine [2]", ["32 EUR", "Nine"], 1, 1),
            # Five characters and three, three shared: 2 * 3 / (5 + 3)
            ("任天堂游戏", ["任天堂"], 0, 6 / 8),
            ("任天堂。", ["《任天堂》"], 1, 1),
            ("", ["32"], 0, 0),
            # Nothing is left of both.
            ("A.", ["The"], 1, 1),
        ],
        ids=[
            "same",
            "part",
            "repeated",
            "other",
            "best F1",
            "best exact",
            "Chinese",
            "Chinese punctuation",
            "empty",
            "articles",
        ],
    )
    def test_an_answer_is_held_against_what_is_expected(
        self, answer: str, expected: list[str], exact: float, f1: float
    ) -> None:
        assert exact_match(answer, expected) == exact
        assert token_f1(answer, expected) == pytest.approx(f1)


def answer(text: str, *cited: str) -> Answer:
    citations = tuple(Citation(marker=i, id=chunk, document="a.md") for i, chunk in enumerate(cited, 1))
    return Answer(text=text, citations=citations, finish="stop", model="m")


class TestScored:
    def test_an_answer_with_citations(self) -> None:
        question = Question("q", "?", {"a": 2, "b": 1, "c": 0}, ("32 EUR",))
        # 32 of 32 and EUR: 2 * 1 / (1 + 2). Cited a, c and x, of which a is relevant: 1 of 3. Of a and b one is cited.
        found = scored(question, answer("32 [1][2][3]", "a", "c", "x"), judged=True)
        assert found == Scored(
            text="32 [1][2][3]",
            refused=False,
            exact=0,
            f1=2 / 3,
            answered=1,
            refused_rightly=None,
            citation_precision=1 / 3,
            citation_recall=1 / 2,
            judged=1,
        )

    def test_a_passage_cited_twice_counts_once(self) -> None:
        found = scored(Question("q", "?", {"a": 2, "b": 2}), answer("x", "a", "a", "x"))
        assert (found.citation_precision, found.citation_recall) == (1 / 2, 1 / 2)
        # Nothing is expected: nothing is held against it.
        assert (found.exact, found.f1, found.judged) == (None, None, None)

    def test_without_a_citation_it_declines_whatever_it_says(self) -> None:
        answerable = scored(Question("q", "?", {"a": 2}, ("32",)), answer("It is 32."))
        assert (answerable.refused, answerable.answered, answerable.refused_rightly) == (True, 0, None)
        # Of no citation no share is right, but nothing of what is relevant is cited.
        assert (answerable.citation_precision, answerable.citation_recall) == (None, 0)

    @pytest.mark.parametrize(("cited", "rightly"), [((), 1), (("x",), 0)], ids=["declined", "answered"])
    def test_what_nothing_answers_is_to_be_declined(self, cited: Sequence[str], rightly: float) -> None:
        found = scored(Question("q", "?", {"x": 0}, ()), answer("No.", *cited), judged=False)
        assert (found.refused_rightly, found.answered, found.judged) == (rightly, None, 0)
        assert (found.exact, found.f1, found.citation_precision, found.citation_recall) == (None, None, None, None)

    def test_the_answers_that_changed_most_come_first(self) -> None:
        def pair(name: str, before: tuple[float | None, bool], after: tuple[float | None, bool]) -> AnswerPair:
            both = [Scored(text="", f1=f1, refused=refused) for f1, refused in (before, after)]
            return AnswerPair(id=name, question="?", expected=(), before=both[0], after=both[1], ms=1, tokens=None)

        pairs = [
            pair("half up", (0.5, False), (1, False)),
            pair("same", (0.5, False), (0.5, True)),
            pair("more down", (0.9, False), (0.1, False)),
            pair("declined", (None, False), (None, True)),
            pair("both declined", (None, True), (None, True)),
        ]
        assert [p.id for p in moved(pairs, 9)] == ["declined", "more down", "half up"]
        assert [p.id for p in moved(pairs, 1)] == ["declined"]


def measured(**fields: Any) -> Measured:
    """Return a measure on 40 questions that reranking helps, near the best order."""
    given = {
        "name": "nDCG@10",
        "n": 40,
        "before": 0.6,
        "after": 0.7,
        "difference": 0.1,
        "low": 0.02,
        "high": 0.18,
        "p": 0.01,
        "ceiling": 0.75,
        "wins": 20,
        "ties": 15,
        "losses": 5,
        "needed": 30,
        "detectable": 0.09,
    }
    return Measured(**{**given, **fields})


def counted(**fields: int) -> Counts:
    given = {
        "questions": 40,
        "measured": 40,
        "failed": 0,
        "unanswerable": 0,
        "unjudged": 0,
        "partial": 0,
        "skipped": 0,
        "lost": 0,
    }
    return Counts(**{**given, **fields})


HURTS = {"after": 0.5, "difference": -0.1, "low": -0.18, "high": -0.02}
NOTHING = {"low": -0.02, "p": 0.2, "difference": 0.03, "after": 0.63, "needed": 100}
HELPS_SAID = "Reranking helps: nDCG@10 0.600 → 0.700, +0.100 (95% interval +0.020 to +0.180, p 0.010, 40 questions)."
HURTS_SAID = "Reranking hurts: nDCG@10 0.600 → 0.500, -0.100 (95% interval -0.180 to -0.020, p 0.010, 40 questions)."
NO_SAID = "No difference seen at this size: nDCG@10 0.600 → 0.6"
FAILED = "Fix this and rerun; finished questions are cached: out of order"
SKIPPED = "Use a reranker that supports these documents (`RAG_RERANK_MODEL`): no Chinese"
FEW = "Label at least 1 more question: on the page, or from drafts of `rag-app questions`."
SWITCH_OFF = "Turn reranking off (`--no-rerank`, or the switch on the page), or try another `RAG_RERANK_MODEL`."
MISSED = "Retrieval misses 10% of the relevant chunks at 30 candidates: before changing the reranker, increase"
FEW_SAID = "Cannot tell whether reranking helps: only 19 questions measured; at least 20 needed."
ROOM = "The best order of the same candidates scores 0.800: another"
KEEP = "Keep it: the best order of the same candidates is hardly better."
UNJUDGED = "Judge candidates on the page (Evaluate, Label), or ingest the documents that the judgements refer to."


class TestVerdict:
    @pytest.mark.parametrize(
        ("found", "counts", "recall", "kind", "sentence", "to_do"),
        [
            ({}, {}, 1.0, "helps", HELPS_SAID, KEEP),
            ({}, {"failed": 5}, 1.0, "cannot tell", "Cannot tell whether reranking helps: 5 of 40 questions failed.", FAILED),
            ({}, {"failed": 4, "measured": 36}, 1.0, "helps", "Reranking helps", KEEP),
            (None, {"failed": 5}, None, "cannot tell", "Cannot tell whether reranking helps: 5 of 40 questions", FAILED),
            (
                None,
                {"measured": 0, "unjudged": 40},
                None,
                "cannot tell",
                "Cannot tell whether reranking helps: no quest",
                UNJUDGED,
            ),
            (
                {},
                {"skipped": 21},
                1.0,
                "cannot tell",
                "Cannot tell whether reranking helps: the reranker was not called for 21 of 40",
                SKIPPED,
            ),
            ({}, {"skipped": 20}, 1.0, "helps", "Reranking helps", KEEP),
            (
                {},
                {"measured": 19},
                0.5,
                "cannot tell",
                FEW_SAID,
                FEW,
            ),
            ({}, {"measured": 20}, 1.0, "helps", "Reranking helps", KEEP),
            (HURTS, {}, 0.5, "hurts", HURTS_SAID, SWITCH_OFF),
            ({"p": 0.05}, {}, 1.0, "no difference", "No difference seen", "A difference of this size is borderline"),
            ({"p": 0.0499}, {}, 1.0, "helps", "Reranking helps", KEEP),
            ({"low": 0.0}, {}, 1.0, "no difference", "No difference seen", "A difference of this size is borderline"),
            ({**HURTS, "high": 0.0}, {}, 1.0, "no difference", "No difference seen", "A difference of this size is borderline"),
            ({**HURTS, "p": 0.06}, {}, 1.0, "no difference", "No difference seen", "A difference of this size is borderline"),
            ({}, {}, 0.9, "helps", "Reranking helps", MISSED),
            (NOTHING, {}, 0.9, "no difference", NO_SAID, MISSED),
            ({}, {}, 0.91, "helps", "Reranking helps", KEEP),
            (NOTHING, {}, 1.0, "no difference", NO_SAID + "30, +0.030 (95% interval -0.020", "Label about 60 more questions"),
            ({**NOTHING, "needed": 40}, {}, 1.0, "no difference", NO_SAID, "A difference of this size is borderline"),
            ({**NOTHING, "needed": None}, {}, 1.0, "no difference", NO_SAID, "Both orders score the same; skip reranking."),
            (
                {"ceiling": 0.8},
                {},
                1.0,
                "helps",
                "Reranking helps",
                ROOM,
            ),
            ({"ceiling": 0.79}, {}, 1.0, "helps", "Reranking helps", KEEP),
            ({"ceiling": None}, {}, None, "helps", "Reranking helps", KEEP),
        ],
        ids=[
            "helps, and is near the best order",
            "more than a tenth failed",
            "a tenth failed",
            "failures come before anything else",
            "nothing is judged",
            "more than half was skipped",
            "half was skipped",
            "19 are too few, whatever else there is",
            "20 are enough",
            "hurts, whatever retrieval misses",
            "p is 0.05",
            "p is just below 0.05",
            "the interval begins at 0",
            "the interval ends at 0",
            "hurts by the interval alone",
            "helps, but retrieval misses a tenth",
            "no difference, and retrieval misses a tenth",
            "retrieval misses less than a tenth",
            "no difference, and too few questions for this size",
            "no difference, though as many as it takes",
            "no difference at all in the mean",
            "helps, with room of 0.1",
            "helps, with less room",
            "helps, and no best order is known",
        ],
    )
    def test_each_rule_says_its_sentence_and_its_next_step(
        self,
        found: dict[str, Any] | None,
        counts: dict[str, int],
        recall: float | None,
        kind: str,
        sentence: str,
        to_do: str,
    ) -> None:
        of = None if found is None else measured(**{"n": counts.get("measured", 40), **found})
        failures, skipped = [Failure(reason="out of order", questions=1)], [Failure(reason="no Chinese", questions=1)]
        said = verdict(of, recall, counted(**counts), 30, failures, skipped)
        assert said.kind == kind
        assert said.sentence.startswith(sentence) and said.next.startswith(to_do)
        assert "{" not in said.sentence + said.next

    def test_no_difference_says_what_so_many_questions_would_have_shown(self) -> None:
        said = verdict(measured(**NOTHING), 1.0, counted(), 30, (), ())
        assert said.sentence == (
            "No difference seen at this size: nDCG@10 0.600 → 0.630, +0.030 (95% interval -0.020 to +0.180, p 0.200, "
            "40 questions); this many questions can detect 0.090."
        )

    def test_of_two_orders_alike_no_size_is_told(self) -> None:
        same = measured(after=0.6, difference=0, low=0, high=0, p=1, needed=None, detectable=None)
        said = verdict(same, 1.0, counted(), 30, (), ())
        assert said.sentence.endswith("+0.000 (95% interval +0.000 to +0.000, p 1.000, 40 questions).")
        assert said.next == "Both orders score the same; skip reranking."

    def test_the_reason_is_the_first_that_is_given(self) -> None:
        # With braces, as errors of endpoints have them.
        several = [Failure(reason='{"error": {0}}', questions=9), Failure(reason="other", questions=1)]
        assert verdict(None, None, counted(failed=40), 30, several, ()).next.endswith('are cached: {"error": {0}}')

    def test_a_verdict_that_is_kept_is_said_in_another_language_later(self) -> None:
        said = verdict(measured(), 1.0, counted(), 30, (), ())
        kept = Verdict.model_validate_json(said.model_dump_json(context=WITH_VALUES))
        change = "nDCG@10 0.600 → 0.700，+0.100（95% 区间 +0.020 至 +0.180，p 0.010，40 个问题）"
        assert words("zh")(kept.sentence) == f"重排有帮助：{change}。" and words("zh")(kept.next).startswith("保持现状")
        assert kept == said and Verdict.model_validate_json(said.model_dump_json()) == said

    @pytest.mark.parametrize(("p", "shown"), [(0.0002, "< 0.001"), (0.001, "0.001"), (0.0456, "0.046"), (1, "1.000")], ids=str)
    def test_a_p_is_shown_as_far_as_it_tells(self, p: float, shown: str) -> None:
        assert shown_p(p) == shown


def candidate(name: str, before: int, after: int | None) -> Candidate:
    return Candidate(
        id=name,
        document=name,
        title="",
        headings=(),
        page=None,
        position=0,
        start=0,
        end=6,
        language="en",
        # Two tokens, estimated at three characters each.
        text="xxxxxx",
        retrieval=Ranking(rank=before, score=1 / before),
        rerank=Ranking(rank=after, score=-after) if after else None,
    )


def searched(name: str, before: int, after: int, of: int = 20, **fields: Any) -> Asked:
    """Return a question whose one relevant candidate of several has these ranks; the others keep their order."""
    others = [f"{name}-{i}" for i in range(1, of)]
    retrieved, reranked = ([*others[: rank - 1], name, *others[rank - 1 :]] for rank in (before, after))
    candidates = tuple(candidate(c, rank, reranked.index(c) + 1) for rank, c in enumerate(retrieved, 1))
    ms = SearchMs(embed=1, retrieve=1, rerank=1, total=3)
    # One token.
    search = Search(question="who", candidates=candidates, rerank=Receipt(status="applied", model="rr"), ms=ms)
    return Asked(Question(name, "who", fields.pop("qrels", {name: 1})), search, **fields)


def cell(found: Sweep, candidates: int, passages: int) -> Cell:
    (cell,) = [c for c in found.cells if (c.candidates, c.passages) == (candidates, passages)]
    return cell


class TestSweep:
    def test_the_cheapest_that_is_within_noise_of_the_best(self) -> None:
        # The relevant one is retrieved on rank 7 and reranked to the first: ten candidates and one passage do.
        found = sweep("set", [searched(f"q{i}", 7, 1) for i in range(20)], load_settings(), [20, 5, 10], [2, 1])
        assert (found.set, found.measure, found.n, found.failed) == ("set", "R@passages", 20, 0)
        assert {(c.candidates, c.passages): c.quality for c in found.cells} == {
            **dict.fromkeys([(0, 1), (0, 2), (5, 1), (5, 2)], 0.0),
            **dict.fromkeys([(10, 1), (10, 2), (20, 1), (20, 2)], 1.0),
        }
        assert found.cheapest == found.best == cell(found, 10, 1)
        assert [c.within for c in found.cells] == [c.quality == 1 for c in found.cells]
        worse = cell(found, 5, 1)
        assert (worse.difference, worse.low, worse.high) == (-1, -1, -1)
        # The least p that 10,000 draws can give: 2 / 10,001.
        assert worse.p == pytest.approx(2 / 10_001)

    @pytest.mark.parametrize(
        ("n_moved", "p", "within"),
        # All differences go one way: p = 2 / 2^n.
        [(2, 1 / 2, True), (5, 2 / 32, True), (6, 2 / 64, False)],
        ids=["two of twenty", "five", "six: told apart"],
    )
    def test_what_noise_is_does_not_grow_with_the_settings_tried(self, n_moved: int, p: float, within: bool) -> None:
        asked = [searched(f"q{i}", 3 if i < n_moved else 1, 1) for i in range(20)]
        found = sweep("set", asked, load_settings(), [5], [1])
        assert found.best == cell(found, 5, 1) and found.best.quality == 1
        before = cell(found, 0, 1)
        assert before.quality == pytest.approx(1 - n_moved / 20) and before.p == pytest.approx(p)
        assert before.within is within and found.cheapest == (before if within else found.best)

    def test_with_few_questions_no_setting_is_told_to_be_as_good(self) -> None:
        found = sweep("set", [searched(f"q{i}", 7, 1) for i in range(19)], load_settings(), [5, 10], [1])
        assert found.cheapest is None and found.best == cell(found, 10, 1)

    def test_of_very_many_settings_bad_ones_are_still_told_apart(self) -> None:
        asked = [searched(f"q{i}", 25, 1) for i in range(20)]
        found = sweep("set", asked, load_settings(), list(range(1, 30)), list(range(1, 12)))
        assert len(found.cells) > 250 and [c.within for c in found.cells] == [c.quality == 1 for c in found.cells]

    def test_no_candidates_is_retrieval_order(self) -> None:
        found = sweep("set", [searched(f"q{i}", 1, 3) for i in range(20)], load_settings(), [5], [1, 3])
        assert [cell(found, k, n).quality for k, n in [(0, 1), (5, 1), (0, 3), (5, 3)]] == [1, 0, 1, 1]
        assert found.best == found.cheapest == cell(found, 0, 1)

    def test_of_settings_alike_the_cheapest_is_the_best(self) -> None:
        # Seven candidates are reranked for one passage: 7 * 3 + 2 tokens; or 20 passages sent: 40.
        found = sweep("set", [searched(f"q{i}", 7, 1) for i in range(20)], load_settings(), [7], [1, 20])
        assert cell(found, 0, 20).quality == cell(found, 7, 1).quality == 1
        assert found.best == found.cheapest == cell(found, 7, 1) and found.best.cost == 23

    def test_only_so_many_candidates_are_reranked(self) -> None:
        # With four candidates the relevant one, retrieved fourth, is reranked; with three it is not seen.
        found = sweep("set", [searched(f"q{i}", 4, 2) for i in range(20)], load_settings(), [3, 4], [1, 2, 3], "RR")
        assert [cell(found, k, n).quality for k, n in [(3, 1), (3, 3), (4, 1), (4, 2), (4, 3)]] == [0, 0, 0, 1 / 2, 1 / 2]

    def test_more_passages_than_candidates_are_left_out(self) -> None:
        found = sweep("set", [searched("q", 1, 1)], load_settings(), [2, 5], [1, 4])
        assert [(c.candidates, c.passages) for c in found.cells] == [(0, 1), (0, 4), (2, 1), (5, 1), (5, 4)]

    def test_a_setting_costs_what_its_tokens_cost(self) -> None:
        asked = [searched(f"q{i}", 7, 1) for i in range(3)]
        found = sweep("set", asked, load_settings(), [5], [1, 4])
        # Passages of 2 tokens each; reranking reads the question and the candidate, 1 + 2, for each of 5.
        assert [cell(found, k, n).cost for k, n in [(0, 1), (0, 4), (5, 1), (5, 4)]] == [2, 8, 5 * 3 + 2, 5 * 3 + 8]
        assert found.unit == "tokens"
        prices: dict[str, Any] = {"price_rerank": 2, "price_rerank_requests": 1, "price_prompt": 3, "price_currency": "EUR"}
        found = sweep("set", asked, load_settings(**prices), [5], [1])
        # 2 * 3 EUR a million; and 15 * 2 EUR a million, and a thousandth of 1 EUR.
        assert cell(found, 0, 1).cost == pytest.approx(6e-6)
        assert cell(found, 5, 1).cost == pytest.approx(6e-6 + 30e-6 + 0.001)
        assert found.unit == "EUR"

    def test_what_failed_or_has_no_answer_is_left_out(self, tmp_path: Path) -> None:
        settings: Settings = load_settings()
        failed = searched("f", 1, 1, failure="no connection")
        unanswerable = searched("u", 1, 1, qrels={})
        found = sweep("set", [searched("q", 1, 1), failed, unanswerable], settings, [5], [1])
        assert (found.n, found.failed) == (1, 1)
        with pytest.raises(RagError, match="no question was measured"):
            sweep("set", [failed, unanswerable, Asked(Question("n", "?", {"x": 1}), None, "no")], settings, [5], [1])

    @pytest.mark.parametrize(("most", "tried"), [(30, [5, 10, 20, 30]), (7, [5, 7]), (100, [5, 10, 20, 30, 50, 100]), (3, [3])])
    def test_depths_go_up_to_the_most(self, most: int, tried: list[int]) -> None:
        assert depths(most) == tried


QUESTIONS = EvalSet("set", tuple(Question(f"q{i}", f"{i}?", {"relevant": 1}) for i in range(20)))


def reported(n_first: int, n: int = 20, start: int = 0) -> Report:
    """Return the report on a run of n questions, of which the first so many have the relevant document first, others second."""
    run = {
        f"q{i}": measures.ranked(["relevant", "other"] if i < n_first else ["other", "relevant"])
        for i in range(start, start + n)
    }
    return report_of_runs(QUESTIONS, [("run", run)], ["RR@10"])


class TestComparison:
    def test_each_system_is_held_against_the_first_after_holm(self) -> None:
        # Against none first: RR@10 goes from 1/2 to 1 for six and for seven questions, all one way: p = 2/64 and 2/128.
        # Holm over three: 3 * 2/128 = 0.046875; 2 * 2/64 = 0.0625; the third is no other than the first: 1.
        found = comparison(["now", "six", "seven", "same"], [reported(n) for n in (0, 6, 7, 0)], "RR@10")
        assert (found.set, found.measure, found.n) == ("set", "RR@10", 20)
        now, six, seven, same = found.systems
        assert (now.name, now.difference, now.said) == ("now", None, "")
        assert [s.value for s in found.systems] == pytest.approx([0.5, 0.5 + 6 / 40, 0.5 + 7 / 40, 0.5])
        assert [s.difference.p for s in (six, seven, same) if s.difference] == pytest.approx([0.0625, 0.046875, 1])
        assert [s.said for s in (six, seven, same)] == ["no difference seen", "better", "no difference seen"]
        assert {(s.ceiling, s.recall, s.failed, s.rerank_p50) for s in found.systems} == {(1, 1, 0, None)}
        # Six alone are told apart.
        alone = comparison(["now", "six"], [reported(0), reported(6)], "RR@10").systems[1]
        assert alone.said == "better" and alone.difference and alone.difference.p == pytest.approx(2 / 64)

    def test_a_worse_system_is_called_so(self) -> None:
        found = comparison(["now", "none"], [reported(10), reported(0)], "RR@10").systems[1]
        assert found.said == "worse" and found.difference and found.difference.losses == 10

    def test_a_system_whose_reranker_was_not_called_is_not_judged(self) -> None:
        skipped = reported(10)
        skipped = skipped.model_copy(update={"counts": skipped.counts.model_copy(update={"skipped": 11})})
        assert comparison(["none", "now"], [reported(0), skipped], "RR@10").systems[1].said == "cannot tell"
        # Of `none` it is what was asked for.
        assert comparison(["now", "none"], [reported(0), skipped], "RR@10").systems[1].said == "better"

    def test_questions_count_that_all_systems_have(self) -> None:
        # q5 to q14 are in both: the first has the relevant document first in q5 to q7, the second in all of them.
        found = comparison(["a", "b"], [reported(8, n=15), reported(20, n=15, start=5)], "RR@10")
        assert found.n == 10 and [s.failed for s in found.systems] == [5, 5]
        assert [s.value for s in found.systems] == pytest.approx([(3 + 7 / 2) / 10, 1])
        assert found.systems[1].difference and found.systems[1].difference.wins == 7
        with pytest.raises(RagError, match="no question was measured in every system"):
            comparison(["a", "b"], [reported(0, n=5), reported(0, n=5, start=5)], "RR@10")


class TestGate:
    @pytest.mark.parametrize(
        ("at_least", "reasons"),
        [(None, ()), (0.75, ()), (0.76, ("RR@10 is 0.750, below the minimum of 0.760",))],
        ids=["nothing asked for", "reached", "below"],
    )
    def test_the_mean_is_to_reach_a_value(self, at_least: float | None, reasons: tuple[str, ...]) -> None:
        # Ten of twenty on rank 1, ten on rank 2: 0.75.
        found = gate(reported(10), None, at_least, 0.02)
        assert (found.passed, found.reasons) == (not reasons, reasons)
        assert found.value == 0.75 and found.difference is None

    def test_a_mean_that_is_asked_for_is_reached_though_it_was_rounded(self) -> None:
        # In floating point the mean of twenty times 1/3 is a little less than 1/3.
        run = {f"q{i}": measures.ranked(["x", "y", "relevant"]) for i in range(20)}
        found = gate(report_of_runs(QUESTIONS, [("run", run)], ["RR@10"]), None, 1 / 3, 0.02)
        assert found.value < 1 / 3 and found.passed

    @pytest.mark.parametrize(
        ("n_first", "max_drop", "passes"),
        [
            # Three of twenty fall from 1 to 1/2: by 0.075, but p = 2/8.
            (17, 0.02, True),
            # Eight: by 0.2, p = 2/256.
            (12, 0.02, False),
            (12, 0.19, False),
            (12, 0.21, True),
            (20, 0.0, True),
        ],
        ids=["within noise", "beyond noise", "beyond noise and by more than is allowed", "by less than is allowed", "no drop"],
    )
    def test_a_drop_counts_if_it_is_beyond_noise_and_beyond_what_is_allowed(
        self, n_first: int, max_drop: float, passes: bool
    ) -> None:
        found = gate(reported(n_first), reported(20), None, max_drop)
        assert found.passed is passes and found.difference
        assert found.difference.difference == pytest.approx(-(20 - n_first) / 40)
        if not passes:
            (reason,) = found.reasons
            assert reason.startswith("RR@10 fell from 1.000 to 0.800 on 20 questions, by more than ")
        assert (found.n_new, found.n_gone) == (0, 0)

    def test_a_gain_passes(self) -> None:
        found = gate(reported(20), reported(0), None, 0.02)
        assert found.passed and found.difference and kind_of(found.difference) == "helps"

    def test_more_than_a_tenth_of_failures_does_not_pass(self) -> None:
        assert gate(reported(18, n=18), None, 0.9, 0.02).passed
        found = gate(reported(17, n=17), None, 0.9, 0.02)
        assert found.reasons == ("3 of 20 questions failed: the question is not in the run",)

    def test_several_reasons_are_told_together(self) -> None:
        found = gate(reported(0, n=10), reported(20), 0.9, 0.02)
        # Half failed; below 0.9; of 10 shared questions; fallen from 1 to 1/2.
        assert len(found.reasons) == 4 and not found.passed

    def test_questions_of_both_are_compared(self) -> None:
        # q5 to q19 now, q0 to q17 then: 13 of both, q8 to q17 of them lower.
        now = reported(8, n=15, start=5)
        found = gate(now, reported(20, n=18), None, 0.02)
        assert found.difference and (found.difference.n, found.difference.losses) == (13, 10)
        # q0 to q4 have failed, which is another thing than to be gone.
        assert (found.n_new, found.n_gone) == (2, 0)
        counts = now.counts.model_copy(update={"failed": 0})
        assert gate(now.model_copy(update={"failures": (), "counts": counts}), reported(20, n=18), None, 0.02).n_gone == 5

    def test_a_baseline_by_other_judgements_is_refused(self) -> None:
        other = reported(20).model_copy(update={"system": {"judgements": "mine.tsv (1a2b3c4d)"}})
        with pytest.raises(RagError, match=r"other judgements: mine.tsv \(1a2b3c4d\), now those of the set"):
            gate(reported(20), other, None, 0.02)

    def test_few_shared_questions_and_another_set_are_no_pass(self) -> None:
        found = gate(reported(0, n=20), reported(3, n=3), None, 0.02)
        assert not found.passed and "only 3 questions are shared with the baseline; at least 20 needed" in found.reasons[0]
        with pytest.raises(RagError, match="the baseline is for the set other, not for set"):
            gate(reported(20), reported(20).model_copy(update={"set": "other"}), None, 0.02)

    def test_nothing_to_compare_is_no_pass(self) -> None:
        with pytest.raises(RagError, match="share no question measured by RR@10: store a new baseline"):
            gate(reported(5, n=5), reported(20, n=5, start=10), None, 0.02)
        with pytest.raises(RagError, match="nothing was measured: "):
            gate(reported(0, n=0), None, None, 0.02)


def chunk(name: str, text: str = "x" * 200) -> Chunk:
    return Chunk(
        id=name,
        document=name.partition("#")[0],
        title="",
        headings=(),
        page=None,
        position=0,
        start=0,
        end=len(text),
        language="en",
        text=text,
    )


TRAVEL = chunk("travel.md#0", "Dinner is paid\nup to 32 EUR in  France.")
WANTED = {"question": "What may dinner cost?", "answer": "32 EUR", "quote": "paid up to 32 EUR"}
DRAFT = Draft(document="travel.md", **WANTED)
NOT_JSON = "the reply was not the requested JSON"
LACKING = "the question, answer or quote was missing"


class TestDraftsRead:
    @pytest.mark.parametrize(
        "reply",
        [
            json.dumps(WANTED),
            f"Here it is:\n```json\n{json.dumps(WANTED, indent=1)}\n```\nGood luck!",
            json.dumps({name: f"\n{text} " for name, text in {**WANTED, "quote": "paid up\tto 32  EUR"}.items()} | {"why": 1}),
        ],
        ids=["JSON", "JSON in chatter", "white space, and more than asked for"],
    )
    def test_a_reply_is_a_draft(self, reply: str) -> None:
        found = drafts.read(reply, TRAVEL)
        assert isinstance(found, Draft) and found.model_copy(update={"quote": " ".join(found.quote.split())}) == DRAFT

    def test_a_number_is_an_answer(self) -> None:
        found = drafts.read(json.dumps({**WANTED, "answer": 32}), TRAVEL)
        assert isinstance(found, Draft) and found.answer == "32"

    @pytest.mark.parametrize(
        ("reply", "said"),
        [
            ("", NOT_JSON),
            ("I cannot do that.", NOT_JSON),
            ("}{", NOT_JSON),
            (json.dumps(WANTED)[:-1], NOT_JSON),
            (json.dumps(WANTED) * 2, NOT_JSON),
            ('{"question": "?", "answer": "32"}', NOT_JSON),
            ('["question", "answer", "quote"]', NOT_JSON),
            (json.dumps({**WANTED, "answer": ["32", "EUR"]}), NOT_JSON),
            (json.dumps({**WANTED, "answer": " "}), LACKING),
            (json.dumps({**WANTED, "question": ""}), LACKING),
            (json.dumps({**WANTED, "question": None}), LACKING),
            (json.dumps({**WANTED, "quote": ""}), LACKING),
            (json.dumps({**WANTED, "quote": "paid up to 33 EUR"}), "the quote is not in the passage"),
            (json.dumps({**WANTED, "quote": "Paid up to 32 EUR"}), "the quote is not in the passage"),
        ],
        ids=[
            "empty",
            "prose",
            "braces",
            "cut off",
            "two",
            "no quote",
            "a list",
            "a list as answer",
            "empty answer",
            "empty question",
            "question null",
            "empty quote",
            "other words",
            "other case",
        ],
    )
    def test_a_reply_that_is_none_says_why(self, reply: str, said: str) -> None:
        assert drafts.read(reply, TRAVEL) == said


class TestDraftsSpread:
    def test_every_document_gives_one_before_any_gives_two(self) -> None:
        documents = [[chunk(f"{name}#{i}") for i in range(n)] for name, n in (("a", 3), ("b", 1), ("c", 2))]
        assert [c.id for c in drafts.spread(documents, 4)] == ["a#0", "b#0", "c#0", "a#2"]
        # All of them, each once, if more are wanted.
        assert [c.id for c in drafts.spread(documents, 99)] == ["a#0", "b#0", "c#0", "a#2", "c#1", "a#1"]

    def test_the_chunks_of_a_document_are_chosen_evenly(self) -> None:
        # By the numbers with their bits turned: 000, 100, 010, 110, 001 …
        chosen = [int(c.id[2:]) for c in drafts.spread([[chunk(f"a#{i}") for i in range(8)]], 8)]
        assert chosen == [0, 4, 2, 6, 1, 5, 3, 7]
        # Of 100 the first ten are at most 16 apart.
        chosen = [int(c.id[2:]) for c in drafts.spread([[chunk(f"a#{i}") for i in range(100)]], 10)]
        assert len(set(chosen)) == 10 and max(b - a for a, b in zip(sorted(chosen), sorted(chosen)[1:], strict=False)) <= 16

    def test_short_chunks_are_passed_over(self) -> None:
        documents = [[chunk("a#0", "x" * 199), chunk("a#1", "x" * 200)], [chunk("b#0", "short")], []]
        assert [c.id for c in drafts.spread(documents, 5)] == ["a#1"]
        assert drafts.spread([], 5) == drafts.spread([[]], 5) == drafts.spread(documents, 0) == []


class TestDrafts:
    def test_a_draft_counts_only_once_it_is_accepted(self, tmp_path: Path) -> None:
        labels, kept = Labels(tmp_path / "eval"), Drafts(tmp_path / "eval")
        assert kept.waiting() == [] and kept.add(DRAFT) and not kept.add(DRAFT)
        assert kept.waiting() == [DRAFT] and labels.questions() == labels.judgements() == []
        kept.accept(DRAFT)
        (question,) = labels.questions()
        assert question == {"_id": question["_id"], "text": DRAFT.question, "answer": DRAFT.answer}
        assert question["_id"].startswith(DRAFTED)
        assert labels.judgements() == [
            {"query": question["_id"], "document": "travel.md", "quote": "paid up to 32 EUR", "grade": 2}
        ]
        assert kept.waiting() == [] == jsonl.read(kept.path)

    def test_words_that_a_person_mended_are_taken(self, tmp_path: Path) -> None:
        kept = Drafts(tmp_path)
        kept.add(DRAFT)
        kept.accept(DRAFT, " And dinner? ", "32 EUR\n")
        assert [(q["text"], q["answer"]) for q in Labels(tmp_path).questions()] == [("And dinner?", "32 EUR")]
        assert kept.waiting() == []

    def test_a_dropped_draft_is_not_offered_again_and_the_others_stay(self, tmp_path: Path) -> None:
        kept = Drafts(tmp_path)
        # Of one question there may be a draft from each document.
        other = DRAFT.model_copy(update={"document": "old.md"})
        assert kept.add(DRAFT) and kept.add(other)
        kept.drop(DRAFT)
        assert kept.waiting() == [other] and not kept.add(DRAFT)
        assert Labels(tmp_path).questions() == []
        kept.accept(other)
        assert kept.waiting() == [] and len(Labels(tmp_path).questions()) == 1

    def test_a_question_that_is_labelled_already_is_not_accepted_twice(self, tmp_path: Path) -> None:
        kept = Drafts(tmp_path)
        other = DRAFT.model_copy(update={"document": "old.md"})
        kept.add(DRAFT)
        kept.add(other)
        kept.accept(DRAFT)
        with pytest.raises(RagError, match="already has this question: drop the draft"):
            kept.accept(other)
        assert kept.waiting() == [other] and len(Labels(tmp_path).judgements()) == 1

    @pytest.mark.parametrize("row", [{"question": "?"}, {**DRAFT.model_dump(), "answer": None}], ids=["lacking", "null"])
    def test_a_line_that_is_no_draft_is_told(self, tmp_path: Path, row: dict[str, Any]) -> None:
        kept = Drafts(tmp_path)
        jsonl.append(kept.path, row)
        with pytest.raises(RagError, match=r"drafts\.jsonl has a line that is not a draft"):
            kept.waiting()


class _Found:
    """A first stage that gives each question the same ranking, by name of the question."""

    def __init__(self, rankings: dict[str, list[tuple[str, float]]]) -> None:
        self.rankings = rankings

    def retrieve(self, question: str, vector: Any, n: int) -> list[Candidate]:
        made = candidates(*(["x"] * len(self.rankings[question])))
        return [
            c.model_copy(update={"id": name, "retrieval": Ranking(rank=i, score=score)})
            for i, (c, (name, score)) in enumerate(zip(made, self.rankings[question], strict=True), 1)
        ]


class _Both:
    """What `learn` wants of a pipeline: the first stages, and vectors of questions."""

    embeddings = property(lambda self: self)

    def __init__(self, dense: Any, lexical: Any) -> None:
        self.retrievers = {"hybrid": None, "dense": _Found(dense), "lexical": _Found(lexical)}

    def question(self, text: str) -> tuple[Any, None]:
        return None, None


class TestWeights:
    RIGHT, WRONG = [("right", 0.9), ("wrong", 0.1)], [("wrong", 0.9), ("right", 0.1)]

    def learnt(self, n: int, dense: Any, lexical: Any, own: float = 0.7) -> Weights:
        """Return what is learnt of n questions; the stages are given the number of the question."""
        of = {f"q{i}": i for i in range(n)}
        pipeline: Any = _Both({q: dense(i) for q, i in of.items()}, {q: lexical(i) for q, i in of.items()})
        return learn(pipeline, EvalSet("set", tuple(Question(q, q, {"right": 1}) for q in of)), own)

    def test_words_that_are_always_right_get_the_weight(self) -> None:
        found = self.learnt(24, lambda i: self.WRONG, lambda i: self.RIGHT)
        # DCG of the second place: 1/log2(3) = 0.6309.
        assert [round(w.against.after, 4) for w in found.weights] == [1.0] * 5 + [0.6309] * 6
        assert found.kind == "helps" and found.advised == found.best == 0.2
        assert found.learnt.difference == pytest.approx(1 - 0.6309, abs=1e-4)

    def test_a_weight_that_is_best_by_chance_is_not_advised(self) -> None:
        # Which of both is right is a coin's toss, so that some weight is best on these questions and on no others.
        toss = random.Random(3)
        tosses = [toss.random() < 0.5 for _ in range(40)]
        ranking = {True: self.RIGHT, False: self.WRONG}
        found = self.learnt(40, lambda i: ranking[tosses[i]], lambda i: ranking[not tosses[i]])
        assert found.kind == "no difference" and found.advised is None

    def test_from_few_questions_nothing_is_learnt(self) -> None:
        found = self.learnt(19, lambda i: self.WRONG, lambda i: self.RIGHT)
        assert found.kind == "cannot tell" and found.advised is None and found.best == 0.2

    def test_the_weight_in_the_settings_is_tried_too(self) -> None:
        found = self.learnt(20, lambda i: self.RIGHT, lambda i: self.WRONG, own=0.75)
        assert [w.weight for w in found.weights][7:9] == [0.7, 0.75] and found.kind == "no difference"
        assert found.learnt.difference == 0
