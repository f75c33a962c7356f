"""Measures: by hand, against trec_eval's definitions written out here, and the TREC files that they come from."""

import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_app.errors import RagError, SettingsError
from rag_app.evaluation import measures
from rag_app.evaluation.trec import read_qrels, read_run, write_qrels, write_run
from tests.helpers import SHARED, needs_shared

# One question: three relevant documents of four are found, on ranks 2, 4 and 6; x and y were not judged.
GRADES = {"a": 3, "b": 2, "c": 0, "d": 1, "e": 1}
RANKING = ["x", "a", "c", "b", "y", "d"]

NO_MEASURES = ["", "ndcg@10", "NDCG@10", "MAP", "MRR@10", "nDCG@", "nDCG@0", "nDCG@-1", "nDCG@10.5", "nDCG@010", "nDCG@10000"]
NO_MEASURES += ["R", "P", "Success", "AP ", " AP", "AP\n", "nDCG@10,R@4", "nDCG@1０", "nDCG @10"]


def value(name: str, grades: Mapping[str, int], scores: Mapping[str, float]) -> float:
    return measures.measure([name], {"q": grades}, {"q": scores})[name]["q"]


class TestByHand:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            # DCG@4 = 3/log2(3) + 2/log2(5) = 1.892789 + 0.861353 = 2.754142
            # ideal, of all that is judged: 3/log2(2) + 2/log2(3) + 1/log2(4) + 1/log2(5) = 3 + 1.261860 + 0.5 + 0.430677
            # = 5.192536; 2.754142 / 5.192536 = 0.530404
            ("nDCG@4", 0.530404),
            # DCG@1 = 0
            ("nDCG@1", 0.0),
            # DCG = 2.754142 + 1/log2(7) = 3.110349; the ideal has no more than those four: 3.110349 / 5.192536
            ("nDCG@10", 0.599004),
            ("nDCG", 0.599004),
            # The first relevant one is on rank 2.
            ("RR@10", 1 / 2),
            ("RR@2", 1 / 2),
            ("RR@1", 0.0),
            ("RR", 1 / 2),
            # a and b of a, b, d, e
            ("R@4", 2 / 4),
            ("R@3", 1 / 4),
            ("R@10", 3 / 4),
            # Ranks that nothing stands on count as not relevant: a, b and d of 10.
            ("P@4", 2 / 4),
            ("P@10", 3 / 10),
            ("Success@1", 0.0),
            ("Success@2", 1.0),
            # precision at each relevant one found, over all four: (1/2 + 2/4 + 3/6) / 4
            ("AP", 0.375),
            # (1/2 + 2/4) / 4
            ("AP@4", 0.25),
        ],
    )
    def test_a_measure_of_one_ranking(self, name: str, expected: float) -> None:
        assert measures.checked([name]) == (name,)
        assert value(name, GRADES, measures.ranked(RANKING)) == pytest.approx(expected, abs=1e-6)

    def test_of_equal_scores_the_document_whose_name_comes_last_is_first(self) -> None:
        assert value("RR", {"b": 1}, {"a": 0.5, "b": 0.5, "c": 0.4}) == 1
        assert value("RR", {"a": 1}, {"a": 0.5, "b": 0.5, "c": 0.4}) == 1 / 2

    def test_several_measures_of_one_kind_do_not_disturb_each_other(self) -> None:
        names = ["R@10", "R@3", "nDCG@1", "nDCG@4", "RR@1", "RR@10"]
        found = measures.measure(names, {"q": GRADES}, {"q": measures.ranked(RANKING)})
        assert list(found) == names
        assert [found[name]["q"] for name in names] == pytest.approx([3 / 4, 1 / 4, 0, 0.530404, 0, 1 / 2], abs=1e-6)

    def test_a_grade_below_0_is_worth_what_0_is(self) -> None:
        # DCG = 2/log2(3) of 2/log2(2)
        assert value("nDCG@10", {"a": -2, "b": 2}, {"a": 2, "b": 1}) == pytest.approx(1 / math.log2(3))
        assert value("RR", {"a": -2, "b": 2}, {"a": 2, "b": 1}) == 1 / 2

    def test_queries_that_both_have_are_measured_and_one_with_nothing_found_counts_as_0(self) -> None:
        qrels = {"found": {"a": 1}, "nothing": {"a": 1}, "not run": {"a": 1}, "nothing judged": {}}
        run = {"found": {"a": 1.0}, "nothing": {}, "not judged": {"a": 1.0}, "nothing judged": {"a": 1.0}}
        expected = {"found": 1.0, "nothing": 0.0, "nothing judged": 0.0}
        for name in ("nDCG@10", "RR@10", "AP", "R@4", "Success@4"):
            assert measures.measure([name], qrels, run)[name] == expected
        assert measures.measure(["P@4"], qrels, run)["P@4"] == {**expected, "found": 1 / 4}

    def test_the_best_order_is_by_grade_and_else_as_it_was(self) -> None:
        assert measures.ideal(GRADES, RANKING) == ["a", "b", "d", "x", "c", "y"]
        # DCG = 3 + 2/log2(3) + 1/log2(4) = 4.761860; / 5.192536, since e is not among them
        assert value("nDCG@10", GRADES, measures.ranked(measures.ideal(GRADES, RANKING))) == pytest.approx(0.917059, abs=1e-6)

    def test_an_order_given_as_scores_stays_that_order(self) -> None:
        scores = measures.ranked(["b", "a", "c"])
        assert sorted(scores, key=lambda d: -scores[d]) == ["b", "a", "c"] and len(set(scores.values())) == 3


class TestNames:
    def test_each_is_kept_once_in_the_order_given(self) -> None:
        assert measures.checked(["R@4", "nDCG@10", "R@4", "AP", "nDCG"]) == ("R@4", "nDCG@10", "AP", "nDCG")

    def test_the_usual_ones_can_all_be_measured(self) -> None:
        assert measures.checked(measures.usual(4)) == ("nDCG@10", "RR@10", "AP", "R@4", "Success@4", "P@4")

    @pytest.mark.parametrize("name", NO_MEASURES)
    def test_what_is_no_measure_is_refused(self, name: str) -> None:
        with pytest.raises(SettingsError, match="is not a measure: write nDCG@10, RR@10, R@10, P@10, Success@10 or AP"):
            measures.checked(["AP", name])

    def test_no_measure_at_all_is_refused(self) -> None:
        with pytest.raises(SettingsError, match="no measure is named"):
            measures.checked([])


def by_definition(name: str, grades: Mapping[str, int], scores: Mapping[str, float], last_first: bool = True) -> float:
    """Return a measure as trec_eval defines it: the independent reference, which knows nothing of pytrec_eval."""
    kind, _, cutoff = name.partition("@")
    by_name = sorted(scores, reverse=last_first)
    found = [max(0, grades.get(document, 0)) for document in sorted(by_name, key=lambda document: -scores[document])]
    best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    k = int(cutoff) if cutoff else max(len(found), len(best))
    hits = [rank for rank, grade in enumerate(found[:k], 1) if grade > 0]
    if kind == "RR":
        return 1 / hits[0] if hits else 0.0
    if kind == "P":
        return len(hits) / k
    if kind == "Success":
        return float(bool(hits))
    if not best:
        return 0.0
    if kind == "R":
        return len(hits) / len(best)
    if kind == "AP":
        return sum(n / rank for n, rank in enumerate(hits, 1)) / len(best)
    assert kind == "nDCG"
    gained, ideal = (sum(grade / math.log2(i + 2) for i, grade in enumerate(order[:k])) for order in (found, best))
    return gained / ideal


NAMES = ["nDCG@1", "nDCG@5", "nDCG@10", "nDCG", "RR@10", "RR@3", "RR", "R@4", "R@10", "R@100", "P@4", "P@10"]
NAMES += ["Success@1", "Success@4", "AP", "AP@10"]


def random_run(qrels: Mapping[str, Mapping[str, int]], seed: int) -> dict[str, dict[str, float]]:
    """Return a run of up to 120 documents a query: with ties for two queries in three, with queries that nobody judged."""
    draw = random.Random(seed)
    documents = sorted({document for judged in qrels.values() for document in judged})
    run = {}
    for i, query in enumerate([*qrels, "not judged 1", "not judged 2"]):
        if i % 11 == 5:
            continue
        found = {d for d in qrels.get(query, ()) if draw.random() < 0.8}
        found |= set(draw.sample(documents, min(len(documents), draw.choice([0, 3, 30, 120]))))
        found |= {f"unjudged {n}" for n in range(draw.choice([0, 2, 10]))}
        # Halves and quarters are exact in the single precision that trec_eval keeps scores in.
        steps = [draw.randint(-5, 5) / 4 for _ in found] if i % 3 else draw.sample(range(-500, 500), len(found))
        run[query] = dict(zip(sorted(found), map(float, steps), strict=True))
    return run


@needs_shared
class TestAgainstTrecEval:
    @pytest.mark.parametrize("graded", [False, True], ids=["as judged", "regraded 0 to 3"])
    @pytest.mark.parametrize("name", sorted(p.parent.name for p in (SHARED / "eval").glob("*/qrels.tsv")) or ["eval"])
    def test_every_measure_agrees_on_every_query(self, name: str, graded: bool) -> None:
        qrels = read_qrels(SHARED / "eval" / name / "qrels.tsv")
        assert len(qrels) > 50
        if graded:
            draw = random.Random(7)
            documents = sorted({d for judged in qrels.values() for d in judged})
            extra = {q: dict.fromkeys([*draw.sample(documents, 5), *judged]) for q, judged in qrels.items()}
            qrels = {q: {d: draw.randint(0, 3) for d in judged} for q, judged in extra.items()}
        run = random_run(qrels, seed=42)
        shared = [query for query in qrels if query in run]
        assert len(shared) < len(qrels) and not run.keys() <= qrels.keys()
        found = measures.measure(NAMES, qrels, run)
        for measure in NAMES:
            assert list(found[measure]) == shared
            expected = {q: by_definition(measure, qrels[q], run[q]) for q in shared}
            assert found[measure] == pytest.approx(expected, abs=1e-6)
            # The run can tell: there is something to find, and other rules for ties give other values.
            assert 0 < sum(expected.values()) < len(shared)
        assert found["AP"] != pytest.approx({q: by_definition("AP", qrels[q], run[q], last_first=False) for q in shared})


class TestTrecFiles:
    def test_a_run_that_names_a_document_twice_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.run"
        path.write_text("q1 Q0 d1 1 3 t\nq1 Q0 d2 2 2 t\nq2 Q0 d1 1 2 t\n\nq1 Q0 d1 3 1 t\n")
        with pytest.raises(RagError, match=r"a\.run, line 5 repeats document d1 for query q1: fix or remove"):
            read_run(path)

    def test_judgements_that_contradict_each_other_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "qrels.tsv"
        path.write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td1\t2\nq1\td1\t2\n")
        with pytest.raises(RagError, match=r"qrels\.tsv, line 4 gives document d1 another grade for query q1"):
            read_qrels(path)

    def test_the_same_judgement_twice_is_one(self, tmp_path: Path) -> None:
        path = tmp_path / "qrels.tsv"
        path.write_text("q1 0 d1 1\nq1 0 d1 1\nq1 0 d2 0\n")
        assert read_qrels(path) == {"q1": {"d1": 1, "d2": 0}}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("q1 Q0 d1 1 2 t\nq1 Q0 d2 1 t\n", "line 2 does not have the six fields query Q0 document rank score tag"),
            ("q1 Q0 d1 1 high t\n", "line 1 has 'high' where a number belongs"),
            ("q1 Q0 d1 1 nan t\n", "line 1 has 'nan' where a finite number belongs"),
            ("q1 Q0 d1 1 -inf t\n", "line 1 has '-inf' where a finite number belongs"),
            ("\n \n", "is an empty run"),
        ],
        ids=["five fields", "no number", "not a number", "infinite", "empty"],
    )
    def test_a_line_that_is_not_of_a_run_is_named(self, tmp_path: Path, text: str, said: str) -> None:
        path = tmp_path / "a.run"
        path.write_text(text)
        with pytest.raises(RagError, match=rf"a\.run,? {said}"):
            read_run(path)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("q1 d1 1\nq1 d1\n", "line 2 does not have the fields query, document and score"),
            ("q1 0 d1 0.5\n", "line 1 has the grade 0.5, which is not a whole number"),
            ("q1 0 d1 yes\n", "line 1 has 'yes' where a number belongs"),
        ],
        ids=["two fields", "half a grade", "no number"],
    )
    def test_a_line_that_is_no_judgement_is_named(self, tmp_path: Path, text: str, said: str) -> None:
        path = tmp_path / "qrels"
        path.write_text(text)
        with pytest.raises(RagError, match=f"qrels, {said}"):
            read_qrels(path)

    @pytest.mark.parametrize("read", [read_run, read_qrels])
    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path, read: Callable[[Path], object]) -> None:
        (tmp_path / "latin").write_bytes(b"q1 0 caf\xe9 1\n")
        for name in ("none", "latin"):
            with pytest.raises(RagError, match=f"{name} cannot be read"):
                read(tmp_path / name)

    @pytest.mark.parametrize(
        "written",
        [
            b"query-id\tcorpus-id\tscore\nq 1\td 1.md\t2\nq 1\td%20\t0\n",
            b"query-id\tcorpus-id\tscore\r\nq 1\td 1.md\t2\r\nq 1\td%20\t0\r\n",
            b"\xef\xbb\xbfquery-id\tcorpus-id\tscore\nq 1\td 1.md\t2\nq 1\td%20\t0\n",
            b"q 1\td 1.md\t2\nq 1\td%20\t0",
            b"q%201 0 d%201.md 2\nq%201 0 d%2520 0\n",
            b"q%201\t0\td%201.md\t2\nq%201\t0\td%2520\t0\n",
        ],
        ids=["BEIR", "CRLF", "BOM", "no heading, no end of the last line", "TREC", "TREC with tabs"],
    )
    def test_judgements_are_read_as_beir_and_trec_have_them(self, tmp_path: Path, written: bytes) -> None:
        (tmp_path / "qrels").write_bytes(written)
        assert read_qrels(tmp_path / "qrels") == {"q 1": {"d 1.md": 2, "d%20": 0}}

    def test_a_run_is_read_whatever_its_white_space_and_order(self, tmp_path: Path) -> None:
        (tmp_path / "a.run").write_bytes(b"\xef\xbb\xbfq1  Q0 d1 9 -1.5e0 t\r\nq2\tQ0\td1\t1\t2\tmy tag\r\nq1 Q0 d2 1 7 t\r\n")
        assert read_run(tmp_path / "a.run") == {"q1": {"d1": -1.5, "d2": 7.0}, "q2": {"d1": 2.0}}

    def test_a_percent_that_we_did_not_write_is_part_of_a_name(self, tmp_path: Path) -> None:
        (tmp_path / "a.run").write_text("q Q0 https://x/%E4%B8%AD#a%2fb 1 3 t\nq Q0 5%ff 2 2 t\nq Q0 %20 3 1 t\n")
        assert list(read_run(tmp_path / "a.run")["q"]) == ["https://x/%E4%B8%AD#a%2fb", "5%ff", " "]

    def test_a_written_ranking_is_read_in_its_order_whatever_the_names(self, tmp_path: Path) -> None:
        names = ["b 1.md", "a\t%20", "100%", "a/é\u3000中文.md#5", "z", "a\u2028b", "a%20b", "a b"]
        orders = {"q 1": names, "ü?": names[::-1], "q3": ["z"]}
        write_run(tmp_path / "deep" / "er" / "a.run", orders, "tag")
        assert all(len(line.split()) == 6 for line in (tmp_path / "deep" / "er" / "a.run").read_text().splitlines())
        run = read_run(tmp_path / "deep" / "er" / "a.run")
        assert list(run) == list(orders)
        for query, order in orders.items():
            for rank, document in enumerate(order, 1):
                assert value("RR", {document: 1}, run[query]) == pytest.approx(1 / rank)

    # No surrogates, which no file holds, and no mark of byte order, which may be taken for one at the start of a file.
    @given(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), min_size=1), min_size=1, unique=True
        )
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
    def test_any_names_come_back(self, tmp_path: Path, names: list[str]) -> None:
        write_run(tmp_path / "a.run", dict.fromkeys(names, names), "tag")
        scores = {name: float(len(names) - i) for i, name in enumerate(names)}
        assert read_run(tmp_path / "a.run") == dict.fromkeys(names, scores)
        qrels = {name: {other: i for i, other in enumerate(names)} for name in names}
        write_qrels(tmp_path / "qrels", qrels)
        assert read_qrels(tmp_path / "qrels") == qrels

    def test_a_run_that_cannot_be_written_leaves_what_was_there(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(RagError, match=r"a\.run cannot be written .*: choose a writable folder"):
            write_run(tmp_path / "file" / "a.run", {"q": ["d"]}, "t")
        write_run(tmp_path / "a.run", {"q": ["d"]}, "t")
        with pytest.raises(UnicodeEncodeError):
            write_run(tmp_path / "a.run", {"q": ["e", "no text: \udcff"]}, "t")
        assert read_run(tmp_path / "a.run") == {"q": {"d": 1.0}}
