"""Measuring through the command line: a real pipeline over a scripted gateway, and what a run leaves behind."""

import json
import os
import random
import re
import signal
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from ingest.corpus_records import store_records
from rag_app import builtin
from rag_app.endpoints.breaker import Breaker
from rag_app.errors import RagError
from rag_app.evaluation import runs
from rag_app.evaluation.bench import Bench
from rag_app.evaluation.drafts import Drafts
from rag_app.evaluation.memory import Memory, RememberingPipeline
from rag_app.evaluation.sets import name_of
from rag_app.labels.labels import Labels
from rag_app.settings import Settings
from rag_app.store.kept import KeptStore
from rag_app.store.opening import open_store
from tests.helpers import command, run
from tests.wire import Reply, Wire, chat, rerank

N = 30


@pytest.fixture
def beir(tmp_path: Path, settings: Settings) -> Path:
    """A set in BEIR layout: each question has four words of its record and two of another, and five have no answer."""
    drawn = random.Random(1)
    vocabulary = [f"word{i}" for i in range(60)]
    records = {f"doc {i}": drawn.sample(vocabulary, 12) for i in range(60)}
    folder = tmp_path / "set"
    folder.mkdir()
    with (folder / "corpus.jsonl").open("w") as corpus:
        for name, words in records.items():
            corpus.write(json.dumps({"_id": name, "title": f"Title of {name}", "text": " ".join(words)}) + "\n")
    names = list(records)
    with (folder / "queries.jsonl").open("w") as queries, (folder / "qrels.tsv").open("w") as qrels:
        qrels.write("query-id\tcorpus-id\tscore\n")
        for i in range(N):
            words = drawn.sample(records[names[i]], 4) + drawn.sample(records[names[-1 - i]], 2)
            queries.write(json.dumps({"_id": f"q{i}", "text": f"{' '.join(words)} n{i}?", "answers": [f"answer {i}"]}) + "\n")
            qrels.write(f"q{i}\t{names[i]}\t1\n")
        for i in range(5):
            queries.write(json.dumps({"_id": f"u{i}", "text": f"nothing {i} at all?", "answerable": False}) + "\n")
    return folder


def report(*args: str | Path) -> Any:
    result = run("eval", *map(str, args), "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def found(report: Any) -> Any:
    """What a report found: without the moment and what took how long."""
    return {name: report[name] for name in ("verdict", "counts", "measured", "recall", "failures", "outcomes", "unanswerable")}


def by_overlap_but_for(*numbers: int) -> Callable[[Any], Reply]:
    """Return a reranker that fails for questions of these numbers."""

    def answer(body: Any) -> Reply:
        if any(f" n{n}?" in body["query"] for n in numbers):
            return Reply({"error": {"message": "out of order"}}, 400)
        return rerank(body)

    return answer


class TestEval:
    def test_a_second_run_and_every_sweep_cost_no_call(self, beir: Path, wire: Wire) -> None:
        first = report(beir)
        assert first["counts"]["measured"] == N and first["counts"]["unanswerable"] == 5
        n = len(wire.sent)
        assert wire.count("/rerank") == N + 5
        assert found(report(beir)) == found(first)
        assert run("sweep", str(beir)).exit_code == 0
        assert run("compare", "now", "none", "--set", str(beir)).exit_code == 0
        assert len(wire.sent) == n
        report(beir, "--fresh")
        # The corpus is not embedded again: it is stored.
        assert wire.count("/rerank") == 2 * (N + 5) and len(wire.sent) == n + 2 * (N + 5)

    def test_a_plan_is_measured_like_any_system_and_remembered(self, beir: Path, wire: Wire) -> None:
        wire.on("/chat/completions", lambda body: chat("other words\nmore words"))
        result = run("compare", "now", "plan=phrasings", "--set", str(beir), "--json")
        assert result.exit_code == 0, result.output
        n = len(wire.sent)
        assert wire.count("/chat/completions") == N + 5
        again = run("compare", "now", "plan=phrasings", "--set", str(beir), "--json")
        assert len(wire.sent) == n
        first, second = (json.loads(each.stdout)["reports"][1]["measured"] for each in (result, again))
        assert first == second

    def test_the_weight_of_the_vectors_is_learnt_without_reranking(self, beir: Path, wire: Wire, tmp_path: Path) -> None:
        html = tmp_path / "weights.html"
        result = run("sweep", str(beir), "--weight", "--json", "--html", str(html))
        found = json.loads(result.stdout)
        assert [w["weight"] for w in found["weights"]] == [n / 10 for n in range(11)] and found["n"] == N
        own = next(w["against"] for w in found["weights"] if w["weight"] == 0.7)
        measured = report(beir)["measured"][0]
        # The order by the weight in the settings is the one that reranking starts from.
        assert (measured["name"], measured["before"]) == ("nDCG@10", pytest.approx(own["after"]))
        assert wire.count("/rerank") == N + 5 and "RAG_DENSE_WEIGHT" in html.read_text()
        assert "RAG_DENSE_WEIGHT" in run("sweep", str(beir), "--weight").stdout

    def test_another_reranker_takes_the_embeddings_and_candidates_that_are_kept(
        self, beir: Path, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        report(beir)
        embedded = wire.count("/embeddings")
        monkeypatch.setenv("RAG_RERANK_MODEL", "other")
        report(beir)
        assert wire.count("/embeddings") == embedded and wire.count("/rerank") == 2 * (N + 5)

    def test_the_corpus_is_one_chunk_a_record_in_a_collection_of_its_own(self, beir: Path, wire: Wire) -> None:
        collection = report(beir)["collection"]
        assert collection.startswith("eval-set-")
        listed = json.loads(run("documents", "--collection", collection, "--json").stdout)
        assert len(listed["documents"]) == 60 and {d["chunks"] for d in listed["documents"]} == {1}
        # Other content is another collection.
        with (beir / "corpus.jsonl").open("a") as corpus:
            corpus.write('{"_id": "more", "text": "more words"}\n')
        assert report(beir)["collection"] != collection

    def test_failures_are_a_row_of_their_own_and_no_zero(self, beir: Path, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = report(beir)
        wire.on("/rerank", by_overlap_but_for(3, 4))
        monkeypatch.setenv("RAG_RERANK_MODEL", "other")
        some = report(beir)
        assert some["counts"]["failed"] == 2 and some["counts"]["measured"] == N - 2
        assert [failure["questions"] for failure in some["failures"]] == [2] and "out of order" in some["failures"][0]["reason"]
        others = [o for o in whole["outcomes"] if o["id"] not in ("q3", "q4")]
        assert some["outcomes"] == others
        mean = sum(o["after"]["nDCG@10"] for o in others) / len(others)
        assert some["measured"][0]["after"] == pytest.approx(mean)
        shown = run("eval", str(beir)).stdout
        assert "Failed (excluded): 2 questions: " in shown
        # What failed is not kept: it is tried again.
        wire.on("/rerank", rerank)
        assert found(report(beir)) == found(whole)

    def test_a_question_without_words_fails_as_itself(self, beir: Path, wire: Wire) -> None:
        with (beir / "queries.jsonl").open("a") as queries, (beir / "qrels.tsv").open("a") as qrels:
            queries.write('{"_id": "blank", "text": " "}\n')
            qrels.write("blank\tdoc 1\t1\n")
        whole = report(beir)
        assert (whole["counts"]["failed"], whole["counts"]["measured"]) == (1, N)
        assert [(failure["reason"], failure["ids"]) for failure in whole["failures"]] == [
            ("the question is empty: type a question", ["blank"])
        ]

    def test_questions_that_fail_take_no_other_with_them(self, beir: Path, wire: Wire) -> None:
        # Two failures in a row would let the endpoint be left alone for ten seconds.
        # Those whom the pages serve meanwhile have another breaker, which is left as it is.
        served = Breaker.of(f"{wire.url}/rerank rr")
        served.failed("down")
        wire.on("/rerank", by_overlap_but_for(*range(0, 16, 2)))
        some = report(beir)
        assert served.failures == 1
        assert some["counts"]["failed"] == 8 and some["counts"]["measured"] == N - 8
        assert some["verdict"]["kind"] == "cannot tell" and "8 of 35 questions failed" in some["verdict"]["sentence"]

    def test_questions_that_are_not_reranked_have_not_failed(self, beir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = run("compare", "now", "none", "--set", str(beir)).stdout
        assert "Failed" not in shown
        monkeypatch.setenv("RAG_RERANK_URL", "builtin")
        monkeypatch.setenv("RAG_RERANK_MODEL", builtin.CROSS_ENCODER)
        lines = (
            (beir / "queries.jsonl")
            .read_text()
            .replace("n1?", "这是一个用中文写的问题吗?")
            .replace("n2?", "这又是一个中文的问题吗?")
        )
        lines = re.sub(r'"text": "[^"]*(?=这)', '"text": "', lines)
        (beir / "queries.jsonl").write_text(lines)
        some = report(beir)
        (chinese,) = [f for f in some["skipped"] if f["reason"].startswith("the question is in Chinese")]
        assert some["failures"] == [] and (chinese["questions"], chinese["ids"]) == (2, ["q1", "q2"])

    def test_ten_questions_that_are_at_fault_themselves_take_no_other_with_them(
        self, beir: Path, settings: Settings, keep: Any
    ) -> None:
        bench = keep(Bench(settings, beir, store_records, at_once=1))
        bench.evalset = replace(
            bench.evalset, questions=tuple(replace(q, text="") if i < 12 else q for i, q in enumerate(bench.evalset.questions))
        )
        assert sum(bool(asked.failure) for asked in bench.ask(30)) == 12

    def test_a_collection_that_changes_meanwhile_is_told(self, beir: Path, settings: Settings, keep: Any) -> None:
        bench = keep(Bench(settings, beir, store_records))
        with open_store(bench.settings) as store:
            store.forget(["doc 1"])
        with pytest.raises(RagError, match="changed during the run: run it again"):
            bench.ask(30)

    def test_the_measured_rankings_are_shown_from_what_is_kept(self, beir: Path, settings: Settings, wire: Wire) -> None:
        with Bench(settings, beir, store_records, at_once=1) as bench:
            asked = bench.ask(12)
            measured = bench.report(asked, ["nDCG@10"], 12)
            bench.keep(measured, asked)
            with open_store(bench.settings) as store:
                store.drop()
        (path,) = settings.runs_path.glob("*.json")
        n = len(wire.sent)
        for one in asked[:3]:
            search = runs.measured(settings.runs_path, runs.read(path), one.question.id)
            assert search == one.search and len(search.candidates) == 12 and search.rerank.status == "applied"
        assert len(wire.sent) == n
        with pytest.raises(RagError, match="rankings of question none are not kept with this run"):
            runs.measured(settings.runs_path, measured, "none")
        later = measured.model_copy(update={"when": measured.when + 1})
        with pytest.raises(RagError, match="run the evaluation again to see them"):
            runs.measured(settings.runs_path, later, asked[0].question.id)

    def test_what_is_kept_of_another_version_is_asked_for_again(self, beir: Path, wire: Wire) -> None:
        first = report(beir)
        with sqlite3.connect("data/runs/memory.sqlite3") as kept:
            kept.execute(
                "UPDATE kept SET value = CASE rowid % 2 WHEN 0 THEN CAST('{\"a\": 1}' AS BLOB) ELSE CAST('x' AS BLOB) END"
            )
        kept.close()
        n = wire.count("/rerank")
        assert found(report(beir)) == found(first) and wire.count("/rerank") == n + N + 5

    def test_warnings_of_the_reranker_are_told(self, beir: Path, wire: Wire) -> None:
        same = [{"index": i, "relevance_score": 0.5} for i in range(30)]
        wire.on("/rerank", lambda body: Reply({"results": same[: len(body["documents"])]}))
        assert "Note: 35 questions: every score is the same" in run("eval", str(beir)).stdout
        assert run("eval", str(beir), "--html", "r.html").exit_code == 0
        assert "Note: 35 questions: <bdi>every score is the same" in Path("r.html").read_text()

    def test_a_sample_is_named_only_if_it_is_one(self, beir: Path) -> None:
        assert report(beir, "--sample", "500")["sample"] is None and report(beir, "--sample", "5")["sample"] == 5

    def test_runs_of_other_documents_have_no_ceiling(self, beir: Path) -> None:
        for name, document in (("a.run", "doc%205"), ("b.run", "doc%200")):
            Path(name).write_text("".join(f"q{i} Q0 {document} 1 1 x\n" for i in range(N)))
        result = report(beir, "--run", "a.run", "--run", "b.run")
        assert result["measured"][0]["ceiling"] is None and result["recall"] is None
        assert "Retrieval misses" not in result["verdict"]["next"]
        assert run("eval", str(beir), "--run", "a.run", "--run", "b.run", "--html", "r.html").exit_code == 0
        assert run("eval", str(beir), "--run", "a.run", "--answers").exit_code == 2

    def test_an_endpoint_that_is_down_is_not_asked_for_every_question(self, beir: Path, wire: Wire) -> None:
        wire.on("/rerank", by_overlap_but_for(*range(N)))
        some = report(beir, "--at-once", "1")
        assert wire.count("/rerank") <= 10 + 5 and some["counts"]["failed"] >= N - 5
        assert some["verdict"]["next"].endswith(some["failures"][0]["reason"])

    def test_a_run_that_is_killed_goes_on_to_the_same_report(self, beir: Path, wire: Wire, tmp_path: Path) -> None:
        whole = report(beir)

        def slow(body: Any) -> Reply:
            time.sleep(0.1)
            return rerank(body)

        wire.on("/rerank", slow)
        before = wire.count("/rerank")
        env = {"RAG_RUNS_PATH": str(tmp_path / "other")}
        process = command("eval", beir, "--json", "--at-once", "2", **env)
        deadline = time.monotonic() + 60
        while wire.count("/rerank") < before + 12 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        asked = wire.count("/rerank") - before
        assert 12 <= asked < N
        wire.on("/rerank", rerank)
        os.environ.update(env)
        try:
            assert found(report(beir)) == found(whole)
        finally:
            del os.environ["RAG_RUNS_PATH"]
        # At most those that were under way are asked twice.
        assert wire.count("/rerank") - before <= N + 5 + 2

    def test_runs_and_qrels_go_out_and_come_in_with_the_same_result(self, beir: Path, tmp_path: Path) -> None:
        here = report(beir, "--save-run", tmp_path / "out")
        line = (tmp_path / "out" / "before.run").read_text().splitlines()[0]
        assert re.fullmatch(r"q0 Q0 doc%20\d+ 1 30 retrieved", line)
        runs_ = [str(tmp_path / "out" / f"{which}.run") for which in ("before", "after")]
        back = report(beir, "--run", runs_[0], "--run", runs_[1], "--qrels", tmp_path / "out" / "qrels.txt")
        for a, b in zip(back["measured"], here["measured"], strict=True):
            assert a == b
        # A question that a run lacks has failed.
        lines = Path(runs_[1]).read_text().splitlines()
        Path(runs_[1]).write_text("\n".join(line for line in lines if not line.startswith("q7 ")) + "\n")
        fewer = report(beir, "--run", runs_[0], "--run", runs_[1])
        assert fewer["counts"]["failed"] == 1 and fewer["counts"]["measured"] == N - 1

    def test_times_are_those_of_the_first_asking(self, beir: Path, wire: Wire) -> None:
        def slow(body: Any) -> Reply:
            time.sleep(0.05)
            return rerank(body)

        wire.on("/rerank", slow)
        first = report(beir)
        again = report(beir)
        assert again["stages"] == first["stages"]
        assert next(stage for stage in first["stages"] if stage["name"] == "rerank")["p50"] >= 50
        assert next(stage for stage in first["stages"] if stage["name"] == "rerank")["tokens"] == 42 * (N + 5)

    def test_what_it_costs_and_gains_is_told_if_prices_are_set(self, beir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert report(beir)["rerank_cost"] is None
        monkeypatch.setenv("RAG_PRICE_RERANK", "2")
        priced = report(beir)
        # 42 tokens a question at 2 a million.
        assert priced["rerank_cost"] == pytest.approx(42 * 2 / 1e6)
        assert priced["gain_per_unit"] == pytest.approx(priced["measured"][0]["difference"] / (84 / 1e6))

    def test_the_terminal_shows_the_verdict_first(self, beir: Path) -> None:
        lines = run("eval", str(beir)).stdout.splitlines()
        assert lines[0].startswith(("Reranking", "No difference")) and lines[1].startswith("→ ")

    @pytest.mark.parametrize(
        ("args", "code", "said"),
        [
            (("nowhere",), 1, "nowhere is not an evaluation set"),
            (("set", "--metrics", "nDCG@x"), 2, "'nDCG@x' is not a measure"),
            (("set", "--run", "a.run"), 1, "a.run cannot be read"),
            ((), 1, "data/eval is not an evaluation set"),
        ],
        ids=["no folder", "no measure", "no run", "no labels"],
    )
    def test_misuse_gets_one_line(self, beir: Path, args: tuple[str, ...], code: int, said: str) -> None:
        result = run("eval", *args)
        assert result.exit_code == code and said in result.stderr and "Traceback" not in result.output


class TestLabels:
    @pytest.fixture
    def labels(self, corpus: Path, settings: Settings) -> Labels:
        """Three labelled questions on the small corpus."""
        assert run("ingest", "docs").exit_code == 0
        labels = Labels(Path("data/eval"))
        labels.folder.mkdir(parents=True)
        rows = [
            {"_id": "a", "text": "What is paid for dinner?", "answer": "32 EUR"},
            {"_id": "b", "text": "When does the canteen open?"},
            {"_id": "c", "text": "Who is the king?", "answer": None},
            {"_id": "d", "text": "What does a hotel cost?"},
        ]
        labels.queries.write_text("".join(json.dumps(row) + "\n" for row in rows))
        judged = [
            {"query": "a", "document": "policies/travel.md", "quote": "up to 32 EUR", "grade": 2},
            {"query": "b", "document": "notes.txt", "quote": "canteen opens at\neleven", "grade": 2},
            {"query": "d", "document": "gone.md", "quote": "150 EUR", "grade": 2},
        ]
        labels.qrels.write_text("".join(json.dumps(row) + "\n" for row in judged))
        return labels

    def test_questions_are_asked_of_the_ingested_collection(self, labels: Labels) -> None:
        found = report()
        assert found["collection"] == "handbook" and found["counts"] == {
            "questions": 4,
            "measured": 2,
            "failed": 0,
            "unanswerable": 1,
            "unjudged": 1,
            "partial": 0,
            "skipped": 0,
            "lost": 1,
        }
        assert found["verdict"]["kind"] == "cannot tell" and found["lost"] == ["d: gone.md: 150 EUR"]
        assert "1 judgement matches no chunk" in run("eval").stdout

    def test_other_chunks_are_compared_in_a_collection_of_their_own(self, labels: Labels, wire: Wire) -> None:
        result = run("compare", "now", "chunk_size=50", "--json")
        assert result.exit_code == 0, result.output
        reports = json.loads(result.stdout)["reports"]
        assert reports[0]["collection"] == "handbook" and reports[1]["collection"].startswith("eval-handbook-")
        assert [r["system"]["chunk_size"] for r in reports] == ["1000", "50"]
        assert [[o["id"] for o in r["outcomes"]] for r in reports] == [["a", "b"], ["a", "b"]]
        n = len(wire.sent)
        assert run("compare", "now", "chunk_size=50").exit_code == 0 and len(wire.sent) == n

    def test_changing_one_judgement_changes_only_its_question(self, labels: Labels, wire: Wire) -> None:
        before = {o["id"]: o for o in report()["outcomes"]}
        n = len(wire.sent)
        text = (
            labels.qrels.read_text().replace("canteen opens at\\neleven", "closes at two").replace("notes.txt", "parking.html")
        )
        labels.qrels.write_text(text.replace("closes at two", "A space costs 20 EUR"))
        after = {o["id"]: o for o in report()["outcomes"]}
        assert after["a"] == before["a"] and after["b"] != before["b"] and len(wire.sent) == n

    def test_a_judgement_from_the_page_is_measured(self, labels: Labels, settings: Settings) -> None:
        from rag_app.pipeline import Pipeline

        with Pipeline.open(settings) as pipeline:
            search = pipeline.search("How many spaces in Jena?")
        labels.judge("How many spaces in Jena?", search.candidates[0], 2)
        assert report()["counts"]["measured"] == 3

    def test_answers_are_scored_with_and_without_reranking_and_by_a_judge(
        self, labels: Labels, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def answer(body: Any) -> Reply:
            if body["model"] == "judge":
                said = body["messages"][1]["content"]
                return chat("Yes." if "32 EUR" in said.partition("<answer>")[2] or "declin" in said else "no")
            return chat("It is 32 EUR [1]." if "dinner" in body["messages"][1]["content"] else "They do not say.")

        wire.on("/chat/completions", answer)
        monkeypatch.setenv("RAG_JUDGE_MODEL", "judge")
        answers = report("--answers")["answers"]
        measured = {m["name"]: (m["n"], m["before"], m["after"]) for m in answers["measured"]}
        # "it is 32 eur" against "32 eur": two of four tokens, both of two. F1 = 2·2 / (4 + 2).
        assert measured["token F1"] == (1, pytest.approx(2 / 3), pytest.approx(2 / 3))
        assert measured["exact match"] == (1, 0.0, 0.0) and measured["declined (unanswerable)"] == (1, 1.0, 1.0)
        # a cites, b declines.
        assert measured["answered (answerable)"] == (2, 0.5, 0.5)
        # Judged: a is right; the one that declines what nothing answers is called wrong: the labels say otherwise.
        assert answers["agreement"]["n"] == 4 and answers["agreement"]["share"] == 0.5
        n = len(wire.sent)
        assert report("--answers")["answers"] == answers and len(wire.sent) == n
        assert "agrees with the labels on 50% of 4 answers" in run("eval", "--answers").stdout

    def test_a_judge_needs_a_chat_endpoint(self, labels: Labels, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAG_JUDGE_MODEL", "judge")
        monkeypatch.setenv("RAG_CHAT_URL", "builtin")
        monkeypatch.setenv("RAG_CHAT_MODEL", "")
        result = run("eval", "--answers")
        assert result.exit_code == 2 and "RAG_JUDGE_MODEL=judge needs a chat endpoint" in result.stderr

    def test_an_answer_that_is_cut_short_has_failed(self, labels: Labels, wire: Wire) -> None:
        wire.on("/chat/completions", lambda body: chat("It is", finish=None, done=False))
        answers = report("--answers")["answers"]
        assert answers["measured"] == [] and sum(answers["failures"].values()) == 3
        assert "cut short" in next(iter(answers["failures"]))

    def test_kept_answers_are_of_their_own_chunks(self, labels: Labels, wire: Wire, corpus: Path) -> None:
        wire.on("/chat/completions", lambda body: chat("It is 32 EUR [1][2][3][4]."))
        first = {m["name"]: m["after"] for m in report("--answers")["answers"]["measured"]}
        (corpus / "policies" / "travel.md").rename(corpus / "policies" / "trips.md")
        assert run("ingest", "docs").exit_code == 0
        labels.qrels.write_text(labels.qrels.read_text().replace("travel.md", "trips.md"))
        assert {m["name"]: m["after"] for m in report("--answers")["answers"]["measured"]} == first

    def test_changed_files_are_ingested_before_other_chunks_are_compared(self, labels: Labels, corpus: Path) -> None:
        (corpus / "notes.txt").write_text("Other words.")
        result = run("compare", "now", "chunk_size=50")
        assert result.exit_code == 1 and "notes.txt changed since it was ingested: run `rag-app ingest` first" in result.stderr

    def test_drafts_count_only_when_accepted(self, labels: Labels, wire: Wire, corpus: Path) -> None:
        (corpus / "long.md").write_text("# Cars\n\n" + "A car of the pool is booked two days ahead. " * 6)
        assert run("ingest", "docs").exit_code == 0
        quote = "A car of the pool is booked two days ahead."
        reply = {"question": "How early is a car booked?", "answer": "two days ahead", "quote": quote}
        wire.on("/chat/completions", lambda body: chat(f"Here it is:\n{json.dumps(reply)}"))
        result = run("questions", "long.md")
        assert result.exit_code == 0 and "1 question drafted" in result.stderr and "1 draft is waiting" in result.stdout
        before = report()["counts"]
        assert before["questions"] == 4
        drafts = Drafts(labels.folder)
        drafts.accept(drafts.waiting()[0])
        after = report()["counts"]
        assert after["questions"] == 5 and after["measured"] == before["measured"] + 1 and drafts.waiting() == []
        # The same question again is no new draft that would count twice.
        reply["quote"] = "invented words"
        assert "the quote is not in the passage" in run("questions", "long.md").stderr

    def test_the_builtin_chat_model_cannot_draft(self, labels: Labels, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAG_CHAT_URL", "builtin")
        monkeypatch.setenv("RAG_CHAT_MODEL", "")
        result = run("questions", "notes.txt")
        assert result.exit_code == 1 and "cannot draft questions: set RAG_CHAT_URL" in result.stderr


class TestSweep:
    def test_fewer_candidates_than_eval_asked_for_cost_no_call(self, beir: Path, wire: Wire) -> None:
        report(beir)
        n = len(wire.sent)
        assert run("sweep", str(beir), "--candidates", "5,10").exit_code == 0 and len(wire.sent) == n

    def test_the_cheapest_within_noise_is_told(self, beir: Path) -> None:
        result = run("sweep", str(beir), "--candidates", "5,10", "--passages", "1,3,6", "--json")
        swept = json.loads(result.stdout)
        settings = {(cell["candidates"], cell["passages"]) for cell in swept["cells"]}
        # 0 is retrieval order; of 5 candidates no 6 passages are chosen.
        assert settings == {(k, n) for k in (0, 5, 10) for n in (1, 3, 6)} - {(5, 6)}
        within = [cell for cell in swept["cells"] if cell["within"]]
        assert swept["cheapest"]["cost"] == min(cell["cost"] for cell in within)
        assert swept["best"]["quality"] == max(cell["quality"] for cell in swept["cells"])

    def test_a_cell_is_what_a_run_with_these_settings_gives(self, beir: Path) -> None:
        swept = json.loads(run("sweep", str(beir), "--candidates", "8,20", "--passages", "3", "--json").stdout)
        cell = next(cell for cell in swept["cells"] if cell["candidates"] == 8)
        here = report(beir, "--candidates", "8", "--metrics", "R@3")
        assert cell["quality"] == pytest.approx(here["measured"][0]["after"])


class TestCompare:
    def test_systems_are_held_against_the_first_on_the_same_questions(self, beir: Path, wire: Wire) -> None:
        def by_model(body: Any) -> Reply:
            if body["model"] == "blind":
                return Reply({"results": [{"index": i, "relevance_score": -i % 7} for i in range(len(body["documents"]))]})
            return by_overlap_but_for(2)(body) if body["model"] == "weak" else rerank(body)

        wire.on("/rerank", by_model)
        Path("weak.env").write_text("RAG_RERANK_MODEL=weak\n")
        result = run("compare", "now", "none", "rerank_model=blind", "weak.env", "--set", str(beir), "--json")
        compared = json.loads(result.stdout)
        now, none, blind, weak = compared["systems"]
        # The question that one of them failed counts in none.
        assert compared["n"] == N - 1 and weak["failed"] == 1 and weak["difference"]["difference"] == 0
        assert now["difference"] is None and blind["said"] == "worse" and blind["difference"]["difference"] < 0
        # Holm: the smallest of three p-values is multiplied by three.
        single = json.loads(run("compare", "now", "rerank_model=blind", "--set", str(beir), "--json").stdout)
        assert blind["difference"]["p"] >= single["systems"][1]["difference"]["p"]
        assert none["value"] == pytest.approx(
            sum(o["before"]["nDCG@10"] for o in compared["reports"][0]["outcomes"] if o["id"] != "q2") / (N - 1)
        )

    def test_a_dialect_is_a_system_too(self, beir: Path, wire: Wire) -> None:
        assert run("compare", "now", "rerank_dialect=top_k", "--set", str(beir)).exit_code == 0
        asked = [sent.body for sent in wire.sent if sent.path.endswith("/rerank")]
        assert ["top_k" in body for body in asked] == [False] * (N + 5) + [True] * (N + 5)

    def test_none_asks_no_reranker(self, beir: Path, wire: Wire) -> None:
        wire.on("/rerank", lambda body: Reply({"error": {"message": "down"}}, 400))
        systems = json.loads(run("compare", "none", "none", "--set", str(beir), "--json").stdout)["systems"]
        assert wire.count("/rerank") == 0 and [s["failed"] for s in systems] == [0, 0]
        assert systems[1]["said"] == "no difference seen" and systems[1]["difference"]["p"] == 1

    def test_keys_of_a_system_are_shown_nowhere(self, beir: Path) -> None:
        spec = 'rerank_max_tokens=300,rerank_api_key=sk-SECRET123,rerank_parameters={"a": "sk-OTHER", "b": 1}'
        result = run("compare", "now", spec, "--set", str(beir), "--json", "--html", "c.html")
        shown = run("compare", "now", spec, "--set", str(beir))
        assert result.exit_code == 0 and shown.exit_code == 0
        everything = result.output + shown.output + Path("c.html").read_text()
        assert "sk-" not in everything and "rerank_max_tokens=300" in everything

    def test_a_system_file_may_hold_what_other_programs_need(self, beir: Path, wire: Wire) -> None:
        Path("a [b].env").write_text(
            'OPENAI_API_KEY=x\nRAG_RERANK_PARAMETERS={"return_documents": false}\nRAG_RERANK_MODEL=other\n'
        )
        assert run("compare", "now", "a [b].env", "--set", str(beir)).exit_code == 0
        assert [sent.body["return_documents"] for sent in wire.sent if sent.body.get("model") == "other"] == [False] * (N + 5)

    def test_eighty_columns_are_enough(self, beir: Path) -> None:
        long = beir.rename(beir.with_name("a-set-with-quite-a-long-name-of-its-own"))
        shown = run("eval", str(long), "--moved", "0").stdout
        table = shown[shown.index("         before") :].partition("Questions needed")[0].splitlines()
        assert len(table) == 7 and "…" not in re.sub(r"\d…[+-]", "", "".join(table)) and max(map(len, table)) <= 80
        long.rename(beir)
        shown = run("compare", "now", "none", "rerank_model=a-model-with-quite-a-long-name", "--set", str(beir)).stdout
        assert "…" not in re.sub(r"\d…[+-]", "", shown) and max(len(line) for line in shown.splitlines()) <= 80

    @pytest.mark.parametrize(
        ("systems", "said"),
        [
            (("now", "chunk_size=300"), "chunk_size has no effect on"),
            (("now", "x" * 300), "is not a system"),
            (("now",), "one system alone cannot be compared"),
            (("now", "rerank_modell=x"), "did you mean rerank_model?"),
            (("now", "what"), "'what' is not a system"),
            (("now", "n_passages=0"), "RAG_N_PASSAGES"),
        ],
        ids=["chunks of records", "long", "one", "misspelt", "no system", "impossible value"],
    )
    def test_misuse_gets_one_line(self, beir: Path, systems: tuple[str, ...], said: str) -> None:
        result = run("compare", *systems, "--set", str(beir))
        assert result.exit_code == 2 and said in result.stderr


class TestGate:
    def test_a_run_passes_or_fails_by_its_mean_and_by_a_baseline(self, beir: Path, wire: Wire) -> None:
        Path("baseline.json").write_text(run("eval", str(beir), "--json").stdout)
        assert run("gate", str(beir), "--baseline", "baseline.json", "--min-ndcg", "0.1").exit_code == 0
        result = run("gate", str(beir), "--min-ndcg", "0.999")
        assert result.exit_code == 1 and "below the minimum of 0.999" in result.stdout

        def reversed_order(body: Any) -> Reply:
            rows = rerank(body).body["results"]
            return Reply({"results": [{**row, "relevance_score": -row["relevance_score"]} for row in rows]})

        wire.on("/rerank", reversed_order)
        result = run("gate", str(beir), "--baseline", "baseline.json", "--fresh")
        assert result.exit_code == 1 and "beyond noise" in result.stdout
        assert run("gate", str(beir), "--baseline", "baseline.json", "--max-drop", "1").exit_code == 0

    @pytest.mark.parametrize(
        ("args", "code", "said"),
        [
            ((), 2, "nothing to compare the run with"),
            (("--baseline", "none.json"), 1, "write it with `rag-app eval --json > none.json`"),
            (("--baseline", "queries.json"), 1, "is not a report of this version"),
        ],
        ids=["nothing", "no file", "no report"],
    )
    def test_misuse_gets_one_line(self, beir: Path, args: tuple[str, ...], code: int, said: str) -> None:
        Path("queries.json").write_text("{}")
        result = run("gate", str(beir), *args)
        assert result.exit_code == code and said in result.stderr


class TestHtml:
    def test_the_report_is_one_file_that_asks_nothing_and_obeys_no_document(self, beir: Path) -> None:
        text = (beir / "queries.jsonl").read_text().replace(" n1?", " <script>alert(1)</script> n1?")
        (beir / "queries.jsonl").write_text(text)
        corpus = (beir / "corpus.jsonl").read_text()
        (beir / "corpus.jsonl").write_text(corpus.replace('"word', '"<img src=http://127.0.0.1:9/x.png> word'))
        assert run("eval", str(beir), "--html", "report.html").exit_code == 0
        assert run("sweep", str(beir), "--html", "sweep.html").exit_code == 0
        assert run("compare", "now", "none", "--set", str(beir), "--html", "compared.html").exit_code == 0
        for name in ("report.html", "sweep.html", "compared.html"):
            page = Path(name).read_text()
            # What a document says may be read, as text; what is asked stands in an attribute.
            attributes = re.findall(r"""(?:src|href|url\()[=\s"'(]*([^\s"'>)]+)""", page)
            assert not [value for value in attributes if ":" in value and "127.0.0.1:9" not in value and value != "data:"]
            assert "<script" not in page and "<img" not in page and "<svg" in page and "default-src 'none'" in page


def test_a_report_that_is_kept_comes_back_as_it_was(beir: Path, settings: Settings) -> None:
    first = report(beir)
    assert runs.kept(settings.runs_path, "another") == []
    (path,) = runs.kept(settings.runs_path, name_of(beir))
    assert json.loads(runs.read(path).model_dump_json()) == first


def test_a_memory_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "memory.sqlite3").write_text("not a database, and long enough to be looked at as one " * 40)
    with pytest.raises(RagError, match=r"memory\.sqlite3 cannot be used"):
        Memory(tmp_path)


def test_a_memory_is_made_by_one_at_a_time(tmp_path: Path) -> None:
    # Else some of those that open a new one at once are told that the database is locked.
    with FileLock(tmp_path / ".memory.sqlite3.lock") as lock, ThreadPoolExecutor(1) as pool:
        opened = pool.submit(Memory, tmp_path)
        with pytest.raises(TimeoutError):
            opened.result(1)
        lock.release()
        opened.result(30).close()


def test_a_search_that_is_kept_broken_is_told(tmp_path: Path) -> None:
    with Memory(tmp_path) as memory:
        memory.keep_searches(["set", 1.0], {})
        for broken in (b"[]", b"{", b'[{"q": 5}, 0]'):
            memory._run("UPDATE kept SET value = ?", (broken,))
            with pytest.raises(RagError, match="rankings of question q are not kept"):
                memory.search_of(["set", 1.0], "q")


def test_what_did_not_start_is_closed(beir: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    name = report(beir)["collection"]
    closed = []
    close = KeptStore.close
    monkeypatch.setattr(KeptStore, "close", lambda store: (closed.append(store.name), close(store)))
    other = settings.model_copy(update={"collection": name, "embedding_model": "another"})
    with Memory(settings.runs_path) as memory, pytest.raises(RagError, match="another"):
        RememberingPipeline(other, memory)
    assert closed == [name]


def test_records_are_not_cut_and_a_run_by_other_judgements_says_so(beir: Path, tmp_path: Path) -> None:
    whole = report(beir)
    assert "chunk_size" not in whole["system"] and "judgements" not in whole["system"]
    (tmp_path / "mine.tsv").write_text((beir / "qrels.tsv").read_text())
    assert report(beir, "--qrels", str(tmp_path / "mine.tsv"))["system"]["judgements"].startswith("mine.tsv (")


def test_ctrl_c_says_that_the_next_run_goes_on(beir: Path, wire: Wire) -> None:
    def slow(body: Any) -> Reply:
        time.sleep(0.2)
        return rerank(body)

    wire.on("/rerank", slow)
    process = command("eval", beir)
    deadline = time.monotonic() + 60
    while wire.count("/rerank") < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "run the same command again to finish" in err and "Traceback" not in err
