"""What the pages write down and hand out: labels, feedback, prices, exports."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from rag_app import export
from rag_app.errors import RagError
from rag_app.labels import feedback, jsonl
from rag_app.labels.labels import Labels
from rag_app.price import cost
from rag_app.settings import Settings
from rag_app.types import Answer, Ask, AskMs, Candidate, Citation, Ranking, Receipt, Side, Tokens
from rag_app.words import words


def candidate(n: int, text: str = "", **fields: Any) -> Candidate:
    return Candidate(
        id=str(n),
        document=f"{n}.md",
        title=f"Title {n}",
        headings=(),
        page=None,
        position=0,
        start=0,
        end=len(text),
        language="en",
        text=text or f"text {n}",
        retrieval=Ranking(rank=n, score=1 / n),
        **fields,
    )


def answered(**fields: Any) -> Ask:
    """An answer from candidate 2, which reranking put before candidate 1."""
    candidates = (
        candidate(1, rerank=Ranking(rank=2, score=-1.0), passage_without_rerank=True),
        candidate(2, rerank=Ranking(rank=1, score=3.0), passage=True, **fields.pop("second", {})),
    )
    given = {
        "question": "What?",
        "candidates": candidates,
        "rerank": Receipt(status="applied", model="rr", endpoint="http://x/v1/rerank", sent=2, scored=2, attempts=1),
        "ms": AskMs(embed=1, retrieve=2, rerank=3, chat=4, first_token=5, total=10),
        "answer": Answer(text="So [1].", citations=(Citation(marker=1, id="2", document="2.md"),), finish="stop", model="chat"),
        "tokens": Tokens(embed=1000, rerank=2000, chat_prompt=3000, chat_answer=4000),
    }
    return Ask(**{**given, **fields})


class TestJsonLines:
    def test_many_threads_lose_no_row(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl"
        threads = [threading.Thread(target=lambda: [jsonl.append(path, {"n": i}) for i in range(25)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(jsonl.read(path)) == 200

    def test_a_row_goes_on_a_line_of_its_own_after_one_without_an_end(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl"
        path.write_text('{"a": 1}')
        jsonl.append(path, {"b": "中文"})
        # Ends of lines to Python, none to JSON.
        jsonl.append(path, {"c": "x\u2028y\u2029z\u0085"})
        assert jsonl.read(path) == [{"a": 1}, {"b": "中文"}, {"c": "x\u2028y\u2029z\u0085"}]

    @pytest.mark.parametrize("line", ["{", "[1]", "\udcff"], ids=["not JSON", "no object", "no UTF-8"])
    def test_a_broken_line_is_named(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "rows.jsonl"
        path.write_bytes(f'{{"a": 1}}\n{line}\n'.encode("utf-8", "surrogateescape"))
        with pytest.raises(RagError, match=r"rows.jsonl.*fix or remove"):
            jsonl.read(path)

    def test_a_change_that_fails_leaves_the_file_as_it_was(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl"
        path.write_text('{"a": 1}\n')

        def broken(rows: list[jsonl.Row]) -> list[jsonl.Row]:
            raise KeyError("x")

        with pytest.raises(KeyError):
            jsonl.change(path, broken)
        assert jsonl.read(path) == [{"a": 1}]


class TestLabels:
    def test_a_judgement_adds_the_question_once_and_can_be_taken_back(self, tmp_path: Path) -> None:
        labels = Labels(tmp_path / "eval")
        labels.judge("How much?", candidate(1), 2)
        labels.judge("How  much?", candidate(2), 2)
        labels.judge("How much?", candidate(1), 2)
        queries, qrels = jsonl.read(labels.queries), jsonl.read(labels.qrels)
        assert [query["text"] for query in queries] == ["How much?"] and "answer" not in queries[0]
        assert {(row["query"], row["document"], row["quote"], row["grade"]) for row in qrels} == {
            (queries[0]["_id"], "1.md", "text 1", 2),
            (queries[0]["_id"], "2.md", "text 2", 2),
        }
        assert len(qrels) == 2 and labels.grade("How much?", candidate(1)) and not labels.grade("Why?", candidate(1))
        labels.judge("How much?", candidate(1), None)
        assert not labels.grade("How much?", candidate(1)) and labels.grade("How much?", candidate(2))
        # A question that was added goes with its last judgement: none is left that would look unanswerable.
        labels.judge("How much?", candidate(2), None)
        assert jsonl.read(labels.queries) == jsonl.read(labels.qrels) == []

    def test_words_that_a_person_quoted_speak_for_the_chunk_and_stay(self, tmp_path: Path) -> None:
        labels = Labels(tmp_path)
        labels.queries.write_text('{"_id": "a01", "text": "How much?", "answer": "32"}\n')
        labels.qrels.write_text('{"query": "a01", "document": "1.md", "quote": "is  32 EUR", "grade": 1}\n')
        chunk = candidate(1, "Dinner is 32 EUR in France.")
        assert labels.grade("How much?", chunk)
        labels.judge("How much?", chunk, 2)
        assert [row["quote"] for row in jsonl.read(labels.qrels)] == ["is  32 EUR"]
        labels.judge("How much?", chunk, None)
        assert jsonl.read(labels.qrels) == [] and len(jsonl.read(labels.queries)) == 1

    def test_ten_people_who_judge_a_new_question_at_once_add_it_once(self, tmp_path: Path) -> None:
        labels = Labels(tmp_path)
        threads = [threading.Thread(target=labels.judge, args=("How much?", candidate(n), 2)) for n in range(1, 11)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(jsonl.read(labels.queries)) == 1 and len(jsonl.read(labels.qrels)) == 10

    def test_a_question_that_was_reworded_keeps_its_judgements_for_itself(self, tmp_path: Path) -> None:
        labels = Labels(tmp_path)
        labels.judge("How much?", candidate(1), 2)
        (first,) = labels.questions()
        jsonl.change(labels.queries, lambda rows: [{**first, "text": "How much is dinner?"}])
        labels.judge("How much?", candidate(1), 1)
        assert [labels.grade(q, candidate(1)) for q in ("How much is dinner?", "How much?")] == [2, 1]
        assert len({q["_id"] for q in labels.questions()}) == 2

    def test_two_people_who_accept_one_draft_add_its_question_once(self, tmp_path: Path) -> None:
        for n in range(10):
            labels, told = Labels(tmp_path / str(n)), []

            def add(labels: Labels = labels, told: list[str] = told) -> None:
                try:
                    labels.add("How much?", "32", "1.md", "32 EUR")
                except RagError as error:
                    told.append(error.happened)

            threads = [threading.Thread(target=add) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(told) == 3 and len(labels.questions()) == len(labels.judgements()) == 1

    @pytest.mark.parametrize("change", [{"grade": 1001}, {"grade": 1.5}, {"quote": " "}, {"document": None}])
    def test_a_judgement_that_cannot_be_meant_is_named(self, tmp_path: Path, change: dict[str, Any]) -> None:
        labels = Labels(tmp_path)
        jsonl.append(labels.qrels, {"query": "a", "document": "1.md", "quote": "q", "grade": 1000})
        assert len(labels.judgements()) == 1
        jsonl.append(labels.qrels, {"query": "a", "document": "1.md", "quote": "q", "grade": 1, **change})
        with pytest.raises(RagError, match="judgement 2 needs query, document, quote and a whole grade of at most 1000"):
            labels.judgements()

    def test_a_link_to_a_shared_file_stays_one(self, tmp_path: Path) -> None:
        shared = tmp_path / "shared.jsonl"
        shared.write_text("")
        (tmp_path / "queries.jsonl").symlink_to(shared)
        Labels(tmp_path).judge("How much?", candidate(1), 2)
        assert (tmp_path / "queries.jsonl").is_symlink() and len(jsonl.read(shared)) == 1

    def test_a_labelled_question_keeps_its_id(self, tmp_path: Path) -> None:
        labels = Labels(tmp_path)
        labels.queries.write_text('{"_id": "a01", "text": "How much?", "answer": "32"}\n')
        labels.judge("How much?", candidate(1), 2)
        assert jsonl.read(labels.qrels)[0]["query"] == "a01" and len(jsonl.read(labels.queries)) == 1

    def test_a_question_that_nothing_answers_takes_no_judgement(self, tmp_path: Path) -> None:
        labels = Labels(tmp_path)
        labels.queries.write_text('{"_id": "a01", "text": "How much?", "answer": null}\n')
        with pytest.raises(RagError, match="no document answers this question"):
            labels.judge("How much?", candidate(1), 2)
        assert not labels.qrels.exists()

    def test_examples_are_those_that_the_documents_answer_the_marked_ones_first(self, tmp_path: Path) -> None:
        labels = Labels(tmp_path)
        for identity, marked in (("a", {}), ("b", {"example": True}), ("c", {}), ("d", {})):
            jsonl.append(labels.queries, {"_id": identity, "text": f"{identity}?", **marked})
            if identity != "c":
                jsonl.append(labels.qrels, {"query": identity, "document": "x.md", "quote": "q", "grade": 2})
        assert labels.examples({"x.md"}.intersection) == ["b?", "a?", "d?"] and labels.examples({"y.md"}.intersection) == []


class TestFeedback:
    def test_ratings_and_votes_are_lines_with_what_they_were_about(self, tmp_path: Path) -> None:
        side = Side(answer=Answer(text="Not so.", citations=(), finish="stop", model="chat"), ms=1)
        feedback.rate(tmp_path, "id1", answered(), "up", "good")
        feedback.vote(tmp_path, "id1", answered(without_rerank=side), "without", "with")
        rating, vote = jsonl.read(tmp_path / "feedback.jsonl")
        assert (rating["kind"], rating["rating"], rating["comment"], rating["answer"]) == ("rating", "up", "good", "So [1].")
        assert rating["passages"] == [{"id": "2", "document": "2.md"}]
        assert (vote["better"], vote["left"], vote["answer_without"]) == ("without", "with", "Not so.")
        assert vote["passages_without"] == [{"id": "1", "document": "1.md"}]

    def test_a_folder_that_cannot_be_written_is_one_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(RagError, match="cannot be written"):
            feedback.rate(tmp_path / "file", "id", answered(), "up")


class TestPrice:
    def settings(self, **fields: Any) -> Settings:
        return Settings(_env_file=None, **fields)  # type: ignore[call-arg]

    def test_nothing_is_said_without_prices(self) -> None:
        assert cost(answered(), self.settings()) is None

    def test_the_price_is_the_sum_over_the_stages(self) -> None:
        found = cost(answered(), self.settings(price_embedding=1, price_rerank=2, price_prompt=3, price_answer=4))
        # (1000 x 1 + 2000 x 2 + 3000 x 3 + 4000 x 4) / 1,000,000 = 30,000 / 1,000,000
        assert found is not None and found.amount == pytest.approx(0.03) and str(found) == "0.03 USD" and not found.unknown

    def test_a_rerank_may_be_paid_by_request(self) -> None:
        found = cost(answered(), self.settings(price_rerank_requests=2, price_currency="EUR"))
        # One request of a thousand.
        assert found is not None and str(found) == "0.002 EUR"

    def test_tokens_that_were_not_reported_are_said_not_counted_as_none(self) -> None:
        found = cost(answered(tokens=Tokens(embed=1000)), self.settings(price_embedding=1, price_rerank=2, price_prompt=3))
        assert found is not None and found.amount == pytest.approx(0.001) and found.unknown == ("rerank", "answer")

    def test_a_skipped_rerank_costs_nothing_and_a_second_answer_does(self) -> None:
        side = Side(answer=answered().answer, ms=1, prompt_tokens=1000, answer_tokens=0)
        ask = answered(rerank=Receipt(status="skipped", model="rr"), tokens=Tokens(chat_prompt=1000), without_rerank=side)
        found = cost(ask, self.settings(price_rerank=2, price_prompt=3))
        # Twice 1000 tokens of prompt.
        assert found is not None and found.amount == pytest.approx(0.006) and not found.unknown


class TestExport:
    def test_it_holds_everything(self) -> None:
        text = export.markdown(answered(only=("travel/",)), words("en"))
        for part in (
            "# What\\?",
            "So [1].",
            "Reranking put the only passage",
            "| 1 | 2 | ▲1 | 3.000 |",
            "text 2",
            "<passage n=",
        ):
            assert part in text
        assert "travel\\/" in text and "embed 1 ms ▸ retrieve 2 ms" in text

    def test_what_is_hostile_stays_text(self) -> None:
        evil = "```\n![x](http://evil.example/x.png)\n```` <script>"
        ask = answered(
            question="![q](http://evil.example) <b>",
            second={"text": evil},
            answer=Answer(text="[a](javascript:alert(1)) ```", citations=(), finish="stop", model="<img>"),
        )
        text = export.markdown(ask, words("en"))
        # Outside of the fences every mark is escaped; a fence is longer than any run of backticks within.
        outside, fence = [], ""
        for line in text.splitlines():
            if fence:
                fence = "" if line == fence else fence
            elif line.startswith("```"):
                fence = line.removesuffix("text")
            else:
                outside.append(line)
        assert not fence
        assert not any("](" in line or "<" in line.replace("\\<", "") for line in outside)

    def test_json_goes_there_and_back(self) -> None:
        side = Side(answer=answered().answer, ms=1)
        ask = answered(without_rerank=side)
        assert Ask.model_validate_json(ask.model_dump_json()) == ask
        assert json.loads(ask.model_dump_json())["without_rerank"]["ms"] == 1
