"""One rendering of each surface, held against the small records that it shows: what is left, right, above and which colour."""

import re
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest
from bs4 import BeautifulSoup
from streamlit.testing.v1 import AppTest

from rag_app import export
from rag_app.cli import app, reports
from rag_app.endpoints.opening import open_chat, open_embeddings, open_reranker
from rag_app.evaluation import charts, html_report
from rag_app.evaluation.answers import Agreement, AnswerPair, AnswersReport, Scored
from rag_app.evaluation.comparing import Comparison, Gate, System
from rag_app.evaluation.differences import Measured
from rag_app.evaluation.report import Outcome, Place, Report
from rag_app.evaluation.report import report as report_of
from rag_app.evaluation.running import Asked, Counts, Failure, Stage
from rag_app.evaluation.sets import EvalSet, Question
from rag_app.evaluation.statistics import Separation
from rag_app.evaluation.sweep import Cell, Sweep
from rag_app.evaluation.verdict import Verdict
from rag_app.page import evidence, labelling, movement
from rag_app.pipeline import Pipeline
from rag_app.settings import Settings
from rag_app.store.opening import open_store
from rag_app.types import Answer, Ask, AskMs, Candidate, Citation, Ranking, Receipt, Score, Search, SearchMs
from rag_app.words import msg, words


def candidate(name: str, before: int, cosine: float, after: int = 0, score: float = 0.0, **fields: Any) -> Candidate:
    given: dict[str, Any] = {
        "id": name,
        "document": f"{name}.md",
        "title": f"Title {name}",
        "headings": (f"Part {name}",),
        "page": None,
        "position": 0,
        "start": 0,
        "end": 4,
        "language": "en",
        "text": f"text {name}",
        "retrieval": Ranking(rank=before, score=cosine),
        "rerank": Ranking(rank=after, score=score) if after else None,
    }
    return Candidate(**{**given, **fields})


# Two passages: a, b without reranking; c, a with it. d got no score, so it follows as the fifth.
ASK = Ask(
    question="How much is dinner?",
    candidates=(
        candidate("a", 1, 0.91, 2, 1.5, passage=True, passage_without_rerank=True),
        candidate("b", 2, 0.82, 4, -3.25, passage_without_rerank=True),
        candidate("c", 3, 0.73, 1, 4.125, passage=True, page=7),
        candidate("d", 4, 0.64),
        candidate("e", 5, 0.55, 3, -0.5),
    ),
    retrieval_score=Score(name=msg("cosine")),
    rerank=Receipt(
        status="partial", model="rr", endpoint="https://x.example/rerank", sent=5, scored=4, truncated=1, attempts=2, ms=250
    ),
    ms=AskMs(embed=10, retrieve=20, rerank=250, total=1480, first_token=400, chat=1200),
    answer=Answer(
        text="32 EUR [2].", citations=(Citation(marker=2, id="a", document="a.md"),), finish="stop", model="chat", dropped=(9,)
    ),
)
# after, before, moved (before - after), rerank score, cosine, fate.
RANKED = [
    ("c", "1", "3", "▲2", "4.125", "0.730", "added"),
    ("a", "2", "1", "▼1", "1.500", "0.910", "kept"),
    ("e", "3", "5", "▲2", "-0.500", "0.550", ""),
    ("b", "4", "2", "▼2", "-3.250", "0.820", "dropped"),
    ("d", "5", "4", "▼1", "–", "0.640", ""),
]


def measured(name: str, before: float, after: float, **fields: Any) -> Measured:
    given = {"n": 4, "difference": after - before, "detectable": 0.2, "ceiling": None, "needed": None}
    return Measured(**cast("Any", {**given, "name": name, "before": before, "after": after, **fields}))


def outcome(name: str, ndcg: tuple[float, float], rr: tuple[float, float], *places: Place) -> Outcome:
    before, after = ({"nDCG@10": ndcg[i], "RR": rr[i]} for i in (0, 1))
    best = {"nDCG@10": 0.9, "RR": 1.0}
    return Outcome(id=name, question=f"Question {name}?", before=before, after=after, best=best, recall=0.75, places=places)


def cell(candidates: int, passages: int, quality: float, cost: float, *, within: bool) -> Cell:
    given = {"difference": quality - 0.65, "low": -0.31, "high": 0.02, "p": 0.04}
    return Cell(candidates=candidates, passages=passages, quality=quality, within=within, cost=cost, **given)


CELLS = (
    cell(0, 2, 0.4, 100, within=False),
    cell(5, 2, 0.6, 300, within=True),
    cell(10, 2, 0.65, 500, within=True),
    cell(10, 4, 0.63, 700, within=True),
)
SWEEP = Sweep(set="golden", measure="R@passages", n=25, cells=CELLS, best=CELLS[2], cheapest=CELLS[1], unit="tokens", failed=0)
MEASURED = (
    # (0.2 + 0.1 + 0.9 + 0.4) / 4 = 0.4 and (0.8 + 0.3 + 0.5 + 0.4) / 4 = 0.5
    measured("nDCG@10", 0.4, 0.5, low=-0.2, high=0.45, p=0.012, ceiling=0.9, wins=2, ties=1, losses=1, needed=33),
    # (0.5 + 0.5 + 1 + 0.4) / 4 = 0.6 and (0.7 + 0.2 + 0.5 + 0.4) / 4 = 0.45
    measured("RR", 0.6, 0.45, low=-0.35, high=0.15, p=0.0004, wins=1, ties=1, losses=2, needed=1234),
)
PAIR = AnswerPair(
    id="q1",
    question="Question q1?",
    expected=("32 EUR",),
    before=Scored(text="said before", refused=False, f1=0.1),
    after=Scored(text="said after", refused=False, f1=0.9),
    ms=900,
    tokens=None,
)
REPORT = Report(
    set="golden",
    collection="handbook",
    when=0,
    system={"rerank_model": "rr", "rerank_at": "https://x.example"},
    n_candidates=5,
    n_passages=2,
    sample=4,
    verdict=Verdict(kind="cannot tell", sentence="It cannot be told.", next="Label more."),
    counts=Counts(questions=5, measured=4, failed=1, unanswerable=1, unjudged=0, partial=0, skipped=2, lost=1),
    measured=MEASURED,
    recall=0.75,
    failures=(Failure(reason="out of `order`", questions=1),),
    skipped=(Failure(reason="no Chinese", questions=2),),
    warnings=(Failure(reason="every score is the same", questions=3),),
    left_out=2,
    lost=("q9: gone.md: a quote",),
    stages=(Stage(name="embed", p50=20, p95=1500, tokens=None), Stage(name="rerank", p50=200, p95=950, tokens=1234)),
    at_once=1,
    currency="EUR",
    rerank_cost=0.002,
    # 0.1 / 200 ms · 100 = 0.05, and 0.1 / 0.002 = 50.
    gain_per_100_ms=0.05,
    gain_per_unit=50,
    answers=AnswersReport(
        model="chat",
        measured=(measured("token F1", 0.35, 0.65, low=0.05, high=0.55, p=0.03, wins=3, ties=1, losses=0),),
        failures={"cut short": 1},
        stages=(Stage(name="answer", p50=900, p95=1200, tokens=77),),
        agreement=Agreement(model="jj", n=8, share=0.75, kappa=0.5, unclear=1),
        pairs=(PAIR,),
    ),
    unanswerable=(
        Separation(score="rerank", n_answerable=4, n_unanswerable=2, auc=0.78, threshold=0.35, kept=0.9, refused=0.5),
    ),
    sweep=SWEEP,
    outcomes=(
        outcome("q1", (0.2, 0.8), (0.5, 0.7), Place(id="x", document="x.md", text="text x", grade=1, before=4, after=1)),
        outcome("q2", (0.1, 0.3), (0.5, 0.2)),
        outcome("q3", (0.9, 0.5), (1.0, 0.5), Place(id="y", document="y.md", text="text y", grade=None, before=1, after=3)),
        outcome("q4", (0.4, 0.4), (0.4, 0.4)),
    ),
)
AGAINST = measured("nDCG@10", 0.5, 0.7, low=0.05, high=0.3, p=0.02, wins=3, ties=0, losses=1)
COMPARISON = Comparison(
    set="golden",
    measure="nDCG@10",
    n=4,
    systems=(
        System(name="first", value=0.5, ceiling=0.9, recall=0.75, rerank_p50=200, failed=0, difference=None, said=""),
        System(
            name="second", value=0.7, ceiling=0.95, recall=0.85, rerank_p50=None, failed=1, difference=AGAINST, said="better"
        ),
    ),
    reports=(REPORT, REPORT),
)
# What each surface shows of these records, in the same words.
SCORE_HEADS = ("", "before", "after", "change", "95% interval", "p", "ceiling", "▲/=/▼")
SCORES = [
    ("nDCG@10", "0.400", "0.500", "+0.100", "-0.200…+0.450", "0.012", "0.900", "2/1/1"),
    ("RR", "0.600", "0.450", "-0.150", "-0.350…+0.150", "< 0.001", "–", "1/1/2"),
]
ANSWERED = ("token F1", "0.350", "0.650", "+0.300", "+0.050…+0.550", "0.030", "3/1/0")
SETTING_HEADS = ("candidates", "passages", "quality", "from the best", "95% interval", "p", "tokens per question")
SETTINGS = [
    ("not reranked", "2", "0.400", "-0.250", "-0.310…+0.020", "0.040", "100"),
    ("5", "2", "0.600", "-0.050", "-0.310…+0.020", "0.040", "300"),
    ("10", "2", "0.650", "+0.000", "-0.310…+0.020", "0.040", "500"),
    ("10", "4", "0.630", "-0.020", "-0.310…+0.020", "0.040", "700"),
]
SYSTEM_HEADS = ("", "value", "ceiling", "recall", "rerank", "failed", "change", "95% interval", "p")
SYSTEMS = [
    ("1", "0.500", "0.900", "0.750", "200 ms", "0", "", "", ""),
    ("2", "0.700", "0.950", "0.850", "–", "1", "+0.200", "+0.050…+0.300", "0.020"),
]
CHEAPEST = (
    "Cheapest setting not significantly worse than the best: 5 candidates reranked, 2 passages (0.600, 300 tokens per "
    "question).",
    "Best: 10 candidates reranked, 2 passages (0.650, 500 tokens per question).",
)
SAID = (
    "It cannot be told.",
    "→ Label more.",
    "1970-01-01 00:00:00 · golden · collection handbook · 5 candidates · a sample of 4 questions · rerank model rr · rerank "
    "endpoint https://x.example",
    "5 questions, 4 measured, 1 unanswerable, 1 failed",
    "Failed (excluded): 1 question: out of `order`",
    "Not reranked, retrieval order used: 2 questions: no Chinese",
    "Note: 3 questions: every score is the same",
    "2 records of the corpus are not stored: they are empty, or were rejected.",
    "1 judgement matches no chunk.",
    "q9: gone.md: a quote",
    "The ceiling is the best order of the same candidates; only better retrieval can exceed it. Recall of "
    "the 5 candidates: 0.750.",
    "Questions needed to detect a difference of this size: nDCG@10 33, RR 1,234.",
    "2 better, 1 the same, 1 worse by nDCG@10.",
    *CHEAPEST,
    "+0.0500 nDCG@10 for 100 ms of reranking.",
    "+50 nDCG@10 for 1 EUR a question; reranking costs 2 EUR for 1,000 questions.",
    "highest rerank score: AUC 0.78, the chance that an answerable question scores above an unanswerable one. At 0.35, 90% of "
    "4 answerable questions are kept and 50% of 2 unanswerable ones rejected.",
    "The judge jj agrees with the labels on 75% of 8 answers (kappa 0.50); 1 replies were neither yes nor no.",
    "An answer takes 900 ms (p50), 1.2 s (p95); 77 tokens with reranking.",
    "Failed (excluded): 1 answer: cut short",
)
GAIN, LOSS, GREY = ("#0072B2", "#56B4E9"), ("#D55E00", "#FF8A3D"), "#8A8F98"
Rows = list[dict[str, str]]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def columns(text: str, *headings: str) -> Rows:
    """Return the rows of the terminal table that has these headings: a cell begins or ends where its heading does."""
    lines = iter(text.splitlines())
    head = next(line for line in lines if set(headings) <= set(re.split(r" {2,}", line.strip())))
    spans = [(m.group(), m.start(), m.end()) for m in re.finditer(r"\S+(?: \S+)*", head)]
    rows = []
    for line in lines:
        cells = {}
        for m in re.finditer(r"\S+(?: \S+)*", line):
            # Behind a number there may be room for a mark.
            own = (name for name, start, end in spans if start == m.start() or 0 <= end - m.end() <= 1)
            cells[next(own, "")] = m.group()
        if len(cells) < 2:
            break
        rows.append(cells)
    return rows


def tables(page: str) -> list[Rows]:
    """Return the tables of a page, each row by the headings."""
    found = []
    for one in BeautifulSoup(page, "lxml").find_all("table"):
        head, *rows = [[c.get_text(" ", strip=True) for c in row.find_all(["th", "td"])] for row in one.find_all("tr")]
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def table(page: str, *headings: str) -> Rows:
    """Return the one table that has these headings."""
    (found,) = [rows for rows in tables(page) if set(headings) <= set(rows[0])]
    return found


def picked(rows: Rows, *headings: str) -> list[tuple[str, ...]]:
    return [tuple(row.get(heading, "") for heading in headings) for row in rows]


def layers(chart: Any) -> list[dict[str, Any]]:
    """Return the layers of a chart, each with its rows."""
    spec = chart.to_dict()
    found = []
    for layer in spec.get("layer", [spec]):
        data = layer.get("data", spec.get("data", {}))
        found.append({**layer, "rows": data.get("values") or spec.get("datasets", {}).get(data.get("name"), [])})
    return found


def drawn(chart: Any, mark: str) -> dict[str, Any]:
    return next(layer for layer in layers(chart) if layer["mark"]["type"] == mark)


def colours(layer: dict[str, Any]) -> dict[str, str]:
    scale = layer["encoding"]["color"]["scale"]
    return dict(zip(scale["domain"], scale["range"], strict=True))


def words_of(page: str) -> str:
    """Return what a page says, on one line."""
    text = BeautifulSoup(page, "lxml")
    for block in text.find_all(["p", "br", "summary", "h1", "h2", "h3", "td", "th"]):
        block.append(" ")
    return " ".join(text.get_text().split())


def shows_the_report(page: str) -> None:
    """Hold a page's tables and sentences against REPORT."""
    scored = [rows for rows in tables(page) if {"before", "after"} <= set(rows[0])]
    assert picked(scored[0], *SCORE_HEADS) == SCORES
    assert picked(scored[1], *(head for head in SCORE_HEADS if head != "ceiling")) == [ANSWERED]
    assert picked(table(page, "stage", "p50"), "stage", "p50", "p95", "tokens") == [
        ("embed", "20 ms", "1.5 s", "–"),
        ("rerank", "200 ms", "950 ms", "1,234"),
    ]
    assert picked(table(page, "quality"), *SETTING_HEADS) == SETTINGS
    text = words_of(page)
    assert [sentence for sentence in SAID if sentence not in text] == []
    assert "expected: 32 EUR before: said before after: said after" in text


def settings_of(**fields: Any) -> Settings:
    return Settings(_env_file=None, **fields)


class TestTerminal:
    def test_each_row_has_its_places_scores_and_fate(self, capsys: pytest.CaptureFixture[str]) -> None:
        app.show(ASK, show_all=False)
        text = capsys.readouterr().out
        rows = columns(text, "after", "before", "moved", "rerank score", "cosine", "document")
        where = [f"{name}.md › Part {name}" + (" › page 7" if name == "c" else "") for name, *_ in RANKED]
        expected = [(*row[1:], place) for row, place in zip(RANKED, where, strict=True)]
        assert picked(rows, "after", "before", "moved", "rerank score", "cosine", "", "document") == expected
        lines = text.splitlines()
        assert lines[0] == "Reranking put 1 of the 2 passages into this answer."
        line = "rerank partial · rr at https://x.example/rerank · 4 of 5 scored · 250 ms · 2 requests · 1 document truncated"
        assert lines[-1] == line

    def test_each_marker_names_its_source(self, capsys: pytest.CaptureFixture[str]) -> None:
        app.show_sources(ASK)
        lines = capsys.readouterr().out.splitlines()
        assert lines[:2] == ["[2] a.md › Part a", "Removed citation [9]: no such passage."]
        assert lines[-1] == "embed 10 ms ▸ retrieve 20 ms ▸ rerank 250 ms ▸ answer 1.2 s"

    def test_a_report_shows_each_number_under_its_heading(self, capsys: pytest.CaptureFixture[str]) -> None:
        reports.show_report(REPORT, 3)
        text = capsys.readouterr().out
        scores = columns(text, "before", "after", "change", "ceiling")
        assert picked(scores, *SCORE_HEADS) == SCORES
        assert picked(columns(text, "stage", "p50", "p95"), "stage", "p50", "p95", "tokens") == [
            ("embed", "20 ms", "1.5 s", "–"),
            ("rerank", "200 ms", "950 ms", "1,234"),
        ]
        answered = columns(text.partition("\nAnswers\n")[2], "before", "after")
        assert picked(answered, "", "before", "after", "change", "95% interval", "p", "▲/=/▼") == [ANSWERED]
        assert "    before: said before\n    after: said after\n" in text
        assert all(f"{sentence}\n" in text for sentence in SAID)
        assert re.search(r"^ +5 +0\.600★", text, re.M)

    def test_what_gained_and_what_lost_most_stand_under_their_titles(self, capsys: pytest.CaptureFixture[str]) -> None:
        reports.show_report(REPORT, 3)
        gained, lost = capsys.readouterr().out.partition("Gained most\n")[2].split("\nLost most\n")
        assert re.findall(r"^([+-]\S+) · .*\[(q\d)\]", gained, re.M) == [("+0.600", "q1"), ("+0.200", "q2")]
        assert re.findall(r"^([+-]\S+) · .*\[(q\d)\]", lost, re.M) == [("-0.400", "q3")]
        assert "4 → 1 ▲3 · grade 1 · x.md text x" in gained
        assert "1 → 3 ▼2 · not judged · y.md text y" in lost

    def test_the_gate_says_passed_only_where_it_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        told = "nDCG@10 0.500 on 4 questions; +0.100 from the baseline on 4 shared questions (95% interval -0.200 to +0.450)"
        told += "; questions since the baseline: 2 new, 3 gone"
        passed = Gate(passed=True, reasons=(), value=0.5, difference=MEASURED[0], n_new=2, n_gone=3)
        reports.show_gate(passed, REPORT)
        assert capsys.readouterr().out == f"Passed: {told}\n"
        reports.show_gate(passed.model_copy(update={"passed": False, "reasons": ("too low",)}), REPORT)
        assert capsys.readouterr().out == f"Failed: too low\n{told}\n"

    def test_a_sweep_has_candidates_down_and_passages_across(self, capsys: pytest.CaptureFixture[str]) -> None:
        reports.show_sweep(SWEEP)
        text = capsys.readouterr().out
        assert picked(columns(text, "2", "4"), "candidates ↓ passages →", "2", "4") == [
            ("not reranked", "0.400", ""),
            ("5", "0.600★", ""),
            ("10", "0.650≈", "0.630≈"),
        ]
        assert picked(columns(text, "quality", "from the best"), *SETTING_HEADS) == SETTINGS
        assert all(f"{sentence}\n" in text for sentence in CHEAPEST)

    def test_a_comparison_has_a_row_for_each_system(self, capsys: pytest.CaptureFixture[str]) -> None:
        reports.show_comparison(COMPARISON)
        text = capsys.readouterr().out
        assert "1  first\n2  second: better\n" in text
        text, _, notes = text.partition("1  Failed")
        assert "2  Failed (excluded): 1 question: out of `order`" in notes
        assert picked(columns(text, "value", "ceiling"), *SYSTEM_HEADS) == SYSTEMS


class TestPage:
    def test_the_lists_have_before_on_one_side_and_after_on_the_other(self) -> None:
        page = BeautifulSoup(str(movement.lists(ASK, {"a"})), "lxml")
        heads = [head.get_text() for head in page.select("thead th")]
        rows: list[Any] = [dict(zip(heads, row.find_all(["th", "td"]), strict=True)) for row in page.select("tbody tr")]
        before, after = "before reranking", "after reranking"
        assert [row["rank"].get_text() for row in rows] == ["1", "2", "3", "4", "5"]
        assert [row[before].select_one(".title").get_text() for row in rows] == [f"Title {c} › Part {c}" for c in "abcde"]
        assert [row[after].select_one(".title").get_text() for row in rows] == [f"Title {c} › Part {c}" for c in "caebd"]
        # What came to this rank after, from where.
        assert [row["▲▼"].get_text() for row in rows] == ["▲2", "▼1", "▲2", "▼2", "▼1"]
        assert [row[before]["class"][1] for row in rows] == ["kept", "lost", "promoted", "unused", "unused"]
        assert [row[after]["class"][1] for row in rows] == ["promoted", "kept", "unused", "lost", "unused"]
        cosines = [row["cosine"].select_one(".bar")["aria-label"] for row in rows]
        assert cosines == ["cosine 0.910", "cosine 0.820", "cosine 0.730", "cosine 0.640", "cosine 0.550"]
        scores = [bar["aria-label"] for row in rows for bar in row["rerank score"].select(".bar")]
        assert scores == ["rerank score 4.125", "rerank score 1.500", "rerank score -0.500", "rerank score -3.250"]
        assert rows[4]["rerank score"].get_text() == "–"
        badges = [[badge.get_text() for badge in row[after].select(".badge")] for row in rows]
        assert badges == [["added by reranking"], ["cited"], [], ["dropped by reranking"], []]
        assert ["cut" in (row.get("class") or []) for row in page.select("tbody tr")] == [False, True, False, False, False]

    def test_the_legend_counts_each_fate(self) -> None:
        items: list[Any] = BeautifulSoup(str(movement.legend(ASK)), "lxml").find_all("li")
        assert [(item.span["class"][-1], item.get_text(" ", strip=True)) for item in items[:4]] == [
            ("promoted", "added by reranking 1"),
            ("kept", "kept 1"),
            ("lost", "dropped by reranking 1"),
            ("unused", "unused 2"),
        ]

    def test_the_receipt_says_what_was_done(self) -> None:
        pipeline = cast("Pipeline", SimpleNamespace(settings=settings_of()))
        page: Any = BeautifulSoup(evidence.receipt(ASK, pipeline), "lxml")
        assert page.div["class"] == ["receipt", "partial"]
        assert page.h3.get_text() == "Reranking put 1 of the 2 passages into this answer."
        facts = ["rerank partial", "rr at https://x.example/rerank", "4 of 5 scored", "250 ms", "2 requests"]
        facts.append("1 document truncated")
        assert [item.get_text() for item in page.find_all("li")] == facts

    def test_a_whole_report_says_what_it_holds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # AppTest leaves its script as __main__, which the reader processes of later tests would run.
        monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
        page = AppTest.from_function(reported, default_timeout=30).run()
        assert not page.exception
        bodies = "\n".join(element.proto.body for element in page.get("html"))
        shows_the_report(bodies)
        text = words_of(bodies)
        assert [e.value for e in page.subheader][:2] == ["Question by question", "Before, after, and the ceiling"]
        titles = [
            (e.label.replace("\\", ""), words_of(" ".join(part.proto.body for part in e.get("html")))) for e in page.expander
        ]
        assert titles[1:4] == [
            ("+0.600 · Question q1?", "4 → 1 ▲3 · grade 1 · x.md text x"),
            ("+0.200 · Question q2?", ""),
            ("-0.400 · Question q3?", "1 → 3 ▼2 · not judged · y.md text y"),
        ]
        assert "out of `order`" in text and "<code>order" not in bodies


def reported() -> None:
    import streamlit as st

    from rag_app.page import report_view
    from tests.test_golden import REPORT

    report_view.show(REPORT, lambda question: st.caption(f"rankings of {question}"))


class TestFiles:
    def test_the_html_report_shows_each_number_under_its_heading(self) -> None:
        page = html_report.of_report(REPORT)
        shows_the_report(page)
        gained, lost = words_of(page).partition("Gained most")[2].split("Lost most")
        assert "+0.600 · Question q1? 4 → 1 ▲3 · grade 1 · x.md text x" in gained and "+0.200 · Question q2?" in gained
        assert "-0.400 · Question q3? 1 → 3 ▼2 · not judged · y.md text y" in lost

    def test_the_html_sweep_and_comparison_show_each_number_under_its_heading(self) -> None:
        page = html_report.of_sweep(SWEEP)
        assert picked(table(page, "quality"), *SETTING_HEADS) == SETTINGS
        assert all(sentence in words_of(page) for sentence in CHEAPEST)
        page = html_report.of_comparison(COMPARISON)
        assert picked(table(page, "value"), *SYSTEM_HEADS) == SYSTEMS
        assert "1 first 2 second: better" in words_of(page)

    def test_code_is_shown_as_code_and_backticks_of_others_as_they_are(self) -> None:
        page = html_report.of_report(REPORT)
        assert "set <code><bdi>RAG_RERANK_MIN_SCORE=0.35</bdi></code>" in page
        assert "out of `order`" in words_of(page)

    def test_a_report_is_said_in_another_language(self) -> None:
        page = html_report.of_report(REPORT, words("zh"))
        assert '<html lang="zh">' in page and "重排前" in words_of(page)

    def test_the_markdown_table_has_each_candidate_with_both_its_places(self) -> None:
        lines = [line for line in export.markdown(ASK, words("en")).splitlines() if line.startswith("|")]
        head, _, *cells = [[one.strip() for one in line.strip("|").split("|")] for line in lines]
        rows = [dict(zip(head, row, strict=True)) for row in cells]
        assert picked(rows, "after", "before", "moved", "rerank score", "cosine", "") == [
            ("1", "3", "▲2", "4.125", "0.730", "added"),
            ("2", "1", "▼1", "1.500", "0.910", "kept"),
            ("3", "5", "▲2", "-0.500", "0.550", ""),
            ("4", "2", "▼2", "-3.250", "0.820", "dropped"),
            ("5", "4", "▼1", "–", "0.640", ""),
        ]
        assert [row["document"][0] for row in rows] == list("caebd")


def test_the_ranks_of_both_first_stages_stand_on_every_surface(capsys: pytest.CaptureFixture[str]) -> None:
    ranks = {"a": (1, 4), "b": (None, 1), "c": (2, None), "d": (3, 3), "e": (4, 2)}

    def placed(c: Candidate) -> Candidate:
        dense, lexical = (Ranking(rank=rank, score=0.5) if rank else None for rank in ranks[c.id])
        return c.model_copy(update={"dense": dense, "lexical": lexical})

    hybrid = ASK.model_copy(update={"candidates": tuple(map(placed, ASK.candidates))})
    app.show(hybrid, show_all=False)
    terminal = capsys.readouterr().out.splitlines()
    markdown = export.markdown(hybrid, words("en"))
    page = BeautifulSoup(str(movement.lists(hybrid, set())), "lxml")
    assert [line.split()[5:8] for line in terminal if line.split()[:1] == ["2"]] == [["1", "/", "4"]]
    assert [line.split("|")[6].strip() for line in markdown.splitlines() if line.startswith("|")] == [
        "vector / words",
        "--:",
        *("2 / –", "1 / 4", "4 / 2", "– / 1", "3 / 3"),
    ]
    assert [cell.get_text() for cell in page.select("td.found")] == ["1 / 4", "– / 1", "2 / –", "3 / 3", "4 / 2"]
    assert [badge.find_parent("tr").th.get_text() for badge in page.select(".badge") if "words only" in badge.get_text()] == [
        "2"
    ]
    assert "vector / words" in str(movement.chart(hybrid, set(), dark=False).to_dict())
    assert "vector / words" not in export.markdown(ASK, words("en")) + str(movement.lists(ASK, set()))


def test_another_score_is_shown_under_its_own_name_and_format_everywhere(
    sample: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    class Keywords:
        score = Score(name=msg("BM25"), format=".1f")
        fingerprint = ("keywords",)

        def retrieve(self, question: str, vector: Any, n: int, only: Any = ()) -> list[Candidate]:
            return [candidate("a", 1, 12.34), candidate("b", 2, 5.67)]

        def close(self) -> None:
            pass

    parts = (open_store(sample), open_embeddings(sample), open_reranker(sample), lambda: open_chat(sample))
    with Pipeline(*parts, settings=sample, retrievers={"lexical": Keywords()}) as pipeline:
        search = pipeline.search("dinner?", rerank=False, n_candidates=2, n_passages=1)
    app.show(search, show_all=False)
    terminal = capsys.readouterr().out
    markdown = export.markdown(search, words("en"))
    page = BeautifulSoup(str(movement.lists(search, set())), "lxml")
    chart = str(movement.chart(search, set(), dark=False).to_dict())
    assert [row["BM25"] for row in columns(terminal, "after", "before", "BM25", "document")] == ["12.3", "5.7"]
    assert "| BM25 |" in markdown and "| 12.3 |" in markdown
    assert [bar["aria-label"] for bar in page.select(".bar")] == ["BM25 12.3", "BM25 5.7"]
    assert "'title': 'BM25'" in chart and "'format': '.1f'" in chart
    assert not [shown for shown in (terminal, markdown, str(page), chart) if "cosine" in shown]
    assert Search.model_validate_json(search.model_dump_json()).retrieval_score == Keywords.score


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
class TestCharts:
    def test_the_movement_has_both_ends_of_each_line_in_the_colour_of_its_fate(self, dark: bool) -> None:
        chart = movement.chart(ASK, {"a"}, dark=dark)
        line = drawn(chart, "line")
        ends = {(row["id"], row["side"]): (row["rank"], row["place"]) for row in line["rows"]}
        assert {name: (ends[name, "before"], ends[name, "after"]) for name in "abcde"} == {
            "a": ((1, "1"), (2, "2 ▼1")),
            "b": ((2, "2"), (4, "4 ▼2")),
            "c": ((3, "3"), (1, "1 ▲2")),
            "d": ((4, "4"), (5, "5 ▼1")),
            "e": ((5, "5"), (3, "3 ▲2")),
        }
        fates = {row["id"]: row["fate"] for row in line["rows"]}
        assert fates == {"a": "kept", "b": "lost", "c": "promoted", "d": "unused", "e": "unused"}
        assert {row["id"] for row in line["rows"] if row["cited"]} == {"a"}
        light = {"promoted": "#0072B2", "kept": "#009E73", "lost": "#D55E00", "unused": "#B8BCC4"}
        night = {"promoted": "#56B4E9", "kept": "#1FC79A", "lost": "#FF8A3D", "unused": "#5B616C"}
        assert colours(line) == (night if dark else light)
        assert line["encoding"]["x"]["sort"] == ["before", "after"]
        # Rank 1 is on top.
        assert line["encoding"]["y"]["scale"]["domain"] == [5.5, 0.5]
        assert drawn(chart, "rule")["rows"] == [{"cut": 2.5}]

    def test_gains_and_losses_have_their_colours_and_values(self, dark: bool) -> None:
        bars = drawn(charts.differences(REPORT, words("en"), dark=dark), "bar")
        assert colours(bars) == {"gain": GAIN[dark], "loss": LOSS[dark], "same": GREY}
        keys = ("id", "before", "after", "difference", "way")
        assert [tuple(row[key] for key in keys) for row in bars["rows"]] == [
            ("q3", 0.9, 0.5, -0.4, "loss"),
            ("q4", 0.4, 0.4, 0.0, "same"),
            ("q2", 0.1, 0.3, 0.2, "gain"),
            ("q1", 0.2, 0.8, 0.6, "gain"),
        ]
        assert bars["encoding"]["y"]["field"] == "difference"

    def test_the_ceilings_have_a_dot_before_a_dot_after_and_a_tick(self, dark: bool) -> None:
        chart = charts.ceilings(MEASURED, words("en"), dark=dark)
        dots, rule, tick = (drawn(chart, mark) for mark in ("point", "rule", "tick"))
        assert [(row["measure"], row["which"], row["value"]) for row in dots["rows"]] == [
            ("nDCG@10", "before", 0.4),
            ("nDCG@10", "after", 0.5),
            ("RR", "before", 0.6),
            ("RR", "after", 0.45),
        ]
        assert colours(dots) == {"before": GREY, "after": GAIN[dark]} and dots["encoding"]["x"]["field"] == "value"
        assert (rule["encoding"]["x"]["field"], rule["encoding"]["x2"]["field"]) == ("before", "after")
        assert tick["encoding"]["x"]["field"] == "ceiling"
        assert [(row["before"], row["after"], row["ceiling"]) for row in tick["rows"]] == [(0.4, 0.5, 0.9), (0.6, 0.45, None)]

    def test_the_heat_map_has_candidates_down_and_the_cheapest_starred(self, dark: bool) -> None:
        squares = drawn(charts.heat_map(SWEEP, words("en"), dark=dark), "rect")
        assert [(row["candidates"], row["passages"], row["said"], row["cost"]) for row in squares["rows"]] == [
            ("not reranked", 2, "0.400", 100),
            ("5", 2, "0.600★", 300),
            ("10", 2, "0.650 ≈", 500),
            ("10", 4, "0.630 ≈", 700),
        ]
        encoding = squares["encoding"]
        assert (encoding["x"]["field"], encoding["y"]["field"]) == ("passages", "candidates")
        # The worst is pale, the best in full colour.
        assert colours(squares) == ({0.4: "#23272F", 0.65: "#56B4E9"} if dark else {0.4: "#F0F2F5", 0.65: "#0072B2"})

    def test_each_other_system_has_a_dot_within_its_interval(self, dark: bool) -> None:
        chart = charts.systems(COMPARISON, words("en"), dark=dark)
        dot = drawn(chart, "point")
        line = next(layer for layer in layers(chart) if "x2" in layer["encoding"])
        found = [(row["system"], round(row["difference"], 6), row["low"], row["high"]) for row in dot["rows"]]
        assert found == [("second", 0.2, 0.05, 0.3)]
        assert (line["encoding"]["x"]["field"], line["encoding"]["x2"]["field"]) == ("low", "high")
        assert dot["encoding"]["x"]["field"] == "difference" and dot["mark"]["color"] == GAIN[dark]

    def test_runs_over_time_have_before_grey_and_after_in_colour(self, dark: bool) -> None:
        line = drawn(charts.over_time([REPORT], words("en"), dark=dark), "line")
        assert [(row["which"], row["value"]) for row in line["rows"]] == [("before", 0.4), ("after", 0.5)]
        assert colours(line) == {"before": GREY, "after": GAIN[dark]}


def test_charts_write_numbers_as_the_language_does() -> None:
    def texts(page: str) -> set[str]:
        return {text for svg in BeautifulSoup(page, "lxml").find_all("svg") for text in svg.stripped_strings}

    english, german = (texts(html_report.of_sweep(SWEEP, words(code))) for code in ("en", "de"))
    assert {"0.400", "0.600★"} <= english and {"0,400", "0,600★", "Kandidaten"} <= german
    english, german = (texts(html_report.of_report(REPORT, words(code))) for code in ("en", "de"))
    assert "0.2" in english and "0,2" in german and not {text for text in german if re.fullmatch(r"[−-]?\d\.\d+", text)}
    assert movement.chart(ASK, set(), dark=False).to_dict()["config"]["locale"]["number"]["decimal"] == "."


def test_the_pool_has_the_first_ten_of_both_orders() -> None:
    # Of 22, reversed by the reranker: 1–10 are first before, 22–13 first after; 11 and 12 are in neither ten.
    found = tuple(candidate(f"c{i}", i, 1 - i / 100, 23 - i, float(i)) for i in range(1, 23))
    pool = [c.retrieval.rank for c in labelling.pooled(Search(question="q", candidates=found, rerank=ASK.rerank, ms=ASK.ms))]
    assert sorted(pool) == [*range(1, 11), *range(13, 23)]
    # In an order that does not tell where they stood.
    assert pool not in (sorted(pool), sorted(pool, reverse=True))


def test_a_gain_is_told_by_time_and_by_money() -> None:
    # The relevant chunk goes from the second place to the first: RR 1/2 → 1 in each, a gain of 0.5.
    asked = []
    for i, ms in enumerate((100.0, 250.0, 900.0)):
        found = (candidate("a", 1, 0.9, 2, 1.0), candidate("b", 2, 0.8, 1, 2.0))
        receipt = Receipt(status="applied", model="rr", sent=2, scored=2, attempts=1, ms=ms)
        times = SearchMs(embed=1, retrieve=1, rerank=ms, total=ms + 2)
        search = Search(question="q", candidates=found, rerank=receipt, ms=times)
        asked.append(Asked(Question(f"q{i}", "q", {"b": 1}), search))
    evalset = EvalSet("golden", tuple(a.question for a in asked))
    # 2 for 1,000 requests: 0.002 a question.
    made = report_of(evalset, asked, settings_of(price_rerank_requests=2.0), ["RR"], 2, 1, made={})
    assert (made.measured[0].before, made.measured[0].after) == (0.5, 1.0)
    # The median is 250 ms: 0.5 / 250 · 100 = 0.2. By money 0.5 / 0.002 = 250.
    assert made.gain_per_100_ms == pytest.approx(0.2)
    assert made.rerank_cost == pytest.approx(0.002) and made.gain_per_unit == pytest.approx(250)
