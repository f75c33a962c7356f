"""The query path: one question from embedding to answer, and what the records say of it."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest.chunk import Cutting, chunks
from ingest.readers.document import Block, Document
from rag_app import builtin
from rag_app.errors import RagError
from rag_app.pipeline import Pipeline, asked, choose, unsuited
from rag_app.settings import Settings, load_settings
from rag_app.types import Ask, Ranking, Search, joined_text
from tests.helpers import candidates, endpoint, ingest_into, needs_shared
from tests.wire import Reply, Wire, events


def test_a_question_goes_through_all_stages_and_every_rank_is_kept(pipeline: Pipeline, wire: Wire) -> None:
    heard: list[str] = []
    search = pipeline.search("What does dinner cost in France?", on_stage=lambda stage, ms: heard.append(stage))
    assert heard == ["embed", "retrieve", "rerank"]
    assert [c.retrieval.rank for c in search.candidates] == [1, 2, 3, 4, 5]
    assert [c.rerank.rank for c in search.reranked if c.rerank] == [1, 2, 3, 4, 5]
    assert search.passages[0].text == "Dinner is paid up to 32 EUR in France."
    assert [c.retrieval.rank for c in search.passages_without_rerank] == [1, 2, 3, 4]
    assert search.rerank.status == "applied" and search.tokens.rerank == 42
    assert search.ms.embed + search.ms.retrieve + search.ms.rerank <= search.ms.total
    answering = pipeline.answer(search)
    assert "".join(answering) == "It is so [1]."
    result = asked(search, answering)
    assert result.answer.citations[0].id == search.passages[0].id
    assert result.ms.first_token and search.ms.total < result.ms.first_token <= result.ms.total
    sent = wire.sent[-1].body["messages"][1]["content"]
    assert sent.index("Dinner is paid") < sent.index("Question: What does dinner cost in France?")


def test_records_go_to_json_and_back(pipeline: Pipeline) -> None:
    search = pipeline.search("dinner?")
    assert Search.model_validate_json(search.model_dump_json()) == search
    answering = pipeline.answer(search)
    list(answering)
    result = asked(search, answering)
    assert Ask.model_validate_json(result.model_dump_json()) == result
    with pytest.raises(ValueError, match="frozen"):
        search.question = "other"  # type: ignore[misc]


def test_without_reranking_the_passages_are_those_of_retrieval(pipeline: Pipeline, wire: Wire) -> None:
    search = pipeline.search("dinner in France", rerank=False)
    assert search.passages == search.passages_without_rerank == search.candidates[:4]
    assert (search.rerank.status, search.rerank.reason) == ("skipped", "switched off for this question")
    assert wire.count("/rerank") == 0


@pytest.mark.usefixtures("pipeline")
def test_neighbours_of_a_passage_go_to_the_chat_model_with_it(keep: Any, settings: Settings, wire: Wire) -> None:
    wide = keep(Pipeline.open(Settings(**{**settings.model_dump(), "n_neighbours": 1, "n_passages": 1})))
    search = wide.search("dinner in France")
    passage = search.passages[0]
    assert passage.text == "Dinner is paid up to 32 EUR in France."
    assert passage.sent == (
        "Every trip is approved by the manager.\n\nDinner\nDinner is paid up to 32 EUR in France.\n\n"
        "Hotels\nA hotel may cost 150 EUR a night."
    )
    list(wide.answer(search))
    assert passage.sent in wire.sent[-1].body["messages"][1]["content"]


def test_chunks_that_overlap_are_joined_without_repetition() -> None:
    text = "One sentence. Two sentences. Three sentences. Four sentences. Five sentences."
    cut = chunks("a.md", Document("A", (Block("paragraph", text),)), Cutting(50, 20))
    assert len(cut) == 2 and joined_text(cut) == text


def test_a_dead_reranker_costs_the_order_not_the_answer(pipeline: Pipeline, wire: Wire) -> None:
    wire.on("/rerank", lambda body: Reply({"error": "no"}, 400))
    search = pipeline.search("dinner in France")
    assert search.passages == search.passages_without_rerank
    assert search.rerank.status == "fallback" and "FAILED" in search.rerank.line
    assert search.effect == "Reranking failed: the passages are in retrieval order."
    assert "".join(pipeline.answer(search)) == "It is so [1]."


def test_the_counts_are_those_asked_for(pipeline: Pipeline) -> None:
    search = pipeline.search("dinner", n_candidates=3, n_passages=2)
    assert (len(search.candidates), len(search.passages)) == (3, 2)


def test_an_empty_question_and_an_empty_collection_say_what_to_do(pipeline: Pipeline, settings: Settings) -> None:
    with pytest.raises(RagError, match="the question is empty"):
        pipeline.search("  ")
    with pytest.raises(RagError, match=r"collection none in .*data/chroma is empty: run `rag-app ingest PATH` first"):
        Pipeline.open(load_settings(collection="none"))


def test_asking_with_another_embedding_model_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(RagError, match="made with embedding model 'emb', not 'other'"):
        Pipeline.open(load_settings(embedding_model="other"))


@pytest.mark.parametrize(
    ("scores", "n", "chosen", "effect"),
    [
        ((1, 2, 3), 2, ["c2", "c1"], "Reranking put 1 of the 2 passages into this answer."),
        ((3, 2, 1), 2, ["c0", "c1"], "Reranking changed nothing: the same passages in the same order."),
        ((2, 3, 1), 2, ["c1", "c0"], "Reranking kept the same passages and changed their order."),
    ],
    ids=["promoted", "nothing", "order only"],
)
def test_the_effect_of_reranking_is_said_in_one_sentence(scores: Any, n: int, chosen: list[str], effect: str) -> None:
    found = candidates("a", "b", "c")
    order = sorted(range(3), key=lambda i: -scores[i])
    reranked = [c.model_copy(update={"rerank": Ranking(rank=order.index(i) + 1, score=scores[i])}) for i, c in enumerate(found)]
    receipt = {"status": "applied", "model": "m", "endpoint": "e"}
    ms = {"embed": 1, "retrieve": 1, "rerank": 1, "total": 3}
    search = Search.model_validate({"question": "q", "candidates": choose(reranked, n), "rerank": receipt, "ms": ms})
    assert [c.id for c in search.passages] == chosen
    assert search.effect == effect


CHINESE = "员工出差的住宿标准由财务部门规定。"


@pytest.mark.parametrize(
    ("question", "texts", "says"),
    [
        ("住宿标准是多少？", ["Hotels cost 150 EUR."], "the question is in Chinese"),
        ("What is the hotel limit?", [CHINESE, CHINESE, "one English text"], "most candidates are in Chinese"),
        ("What is the hotel limit?", [CHINESE, "English text", "another one"], ""),
        ("Wie hoch ist das Tagegeld bei einer Reise nach Frankreich?", ["Text."], "the question is in German"),
        ("RMA 2025?", ["Text."], ""),
    ],
    ids=["Chinese question", "Chinese documents", "mostly English", "German", "a code"],
)
def test_the_cross_encoder_is_skipped_where_it_does_harm(wire: Wire, question: str, texts: list[str], says: str) -> None:
    found = [c.model_copy(update={"language": "zh" if c.text == CHINESE else "en"}) for c in candidates(*texts)]
    english_only = replace(endpoint(wire, "RERANK"), model=builtin.CROSS_ENCODER)
    reason = unsuited(english_only, question, found)
    assert (reason or "").startswith(says) and bool(reason) == bool(says)
    assert unsuited(endpoint(wire, "RERANK"), question, found) is None


def test_the_sample_corpus_is_answered_by_the_built_in_models_and_reranking_moves_it(sample: Settings, keep: Any) -> None:
    pipeline = keep(Pipeline.open(sample))
    search = pipeline.search("How often should a Callisto C5 be recalibrated?")
    best = search.passages[0]
    assert best.document == "products/calibration-intervals.pdf" and search.passages != search.passages_without_rerank
    assert search.rerank.scored == len(search.candidates) == 30
    answering = pipeline.answer(search)
    list(answering)
    assert answering.answer and "Callisto C5 | Interval: 9 months" in answering.answer.text
    assert answering.answer.citations[0].document == best.document


def test_a_chinese_question_is_answered_from_english_documents(sample: Settings, keep: Any) -> None:
    pipeline = keep(Pipeline.open(sample))
    search = pipeline.search("Callisto C5 多久需要重新校准一次？")
    assert search.rerank.status == "applied" and search.passages[0].document == "products/calibration-intervals.pdf"
    answering = pipeline.answer(search)
    list(answering)
    assert answering.answer and "Callisto C5 | Interval: 9 months" in answering.answer.text


def test_the_cross_encoder_leaves_a_chinese_question_with_its_reason(sample: Settings, keep: Any) -> None:
    named = sample.model_copy(update={"rerank_model": builtin.CROSS_ENCODER})
    search = keep(Pipeline.open(named)).search("出差住宿标准是多少？")
    assert search.rerank.status == "skipped" and "the question is in Chinese" in search.rerank.reason


@needs_shared
def test_the_four_seed_urls_are_used_as_published() -> None:
    from tests.helpers import SHARED

    seeds = "".join(path.read_text("utf-8") for path in (SHARED / "seeds").glob("*.txt"))
    for url in ("https://www.dmxapi.cn/v1/rerank", "https://api.qhaigc.net/v1/rerank"):
        assert url in seeds
        settings = load_settings(base_url=url.removesuffix("/rerank"), rerank_model="m")
        assert settings.endpoint("RERANK").url == url
        assert load_settings(rerank_url=url, rerank_model="m").endpoint("RERANK").url == url


def test_a_real_chroma_server_serves_as_well(settings: Settings, corpus: Path, tmp_path: Path, chroma_server: str) -> None:
    remote = load_settings(chroma_url=chroma_server, collection="remote")
    assert ingest_into(remote, corpus).chunks.stored == 5
    assert ingest_into(remote, corpus).chunks.embedded == 0
    with Pipeline.open(remote) as pipeline:
        search = pipeline.search("dinner in France")
    assert search.passages[0].text == "Dinner is paid up to 32 EUR in France."


def test_a_chroma_server_that_is_down_is_one_clear_error(settings: Settings) -> None:
    with pytest.raises(RagError, match=r"Chroma at http://127.0.0.1:9: .*check RAG_CHROMA_URL"):
        Pipeline.open(load_settings(chroma_url="http://127.0.0.1:9"))


def test_the_answer_streams_while_the_endpoint_still_speaks(pipeline: Pipeline, wire: Wire) -> None:
    shown = threading.Event()
    waited: list[bool] = []

    def speak() -> Iterator[bytes]:
        yield events("first ", finish=None, done=False)
        waited.append(shown.wait(10))
        yield events("second")

    wire.on("/chat/completions", lambda body: Reply(parts=speak(), kind="text/event-stream"))
    for piece in pipeline.answer(pipeline.search("dinner")):
        assert piece in ("first", " second")
        shown.set()
    assert waited == [True]


def test_a_minimum_score_that_nothing_reaches_is_a_plain_answer_and_asks_nobody(
    pipeline: Pipeline, keep: Any, wire: Wire
) -> None:
    strict = keep(Pipeline.open(load_settings(rerank_min_score=0.99)))
    search = strict.search("dinner in Lyon")
    assert search.passages == () and len(search.passages_without_rerank) == 4
    answering = strict.answer(search)
    assert "".join(answering).startswith("Nothing relevant enough was found: the best of 5 candidates scored 0.")
    assert asked(search, answering).answer.finish == "stop" and wire.count("/chat/completions") == 0


def test_a_minimum_score_keeps_out_what_is_below_it_and_does_not_judge_a_fallback(
    pipeline: Pipeline, keep: Any, wire: Wire
) -> None:
    lenient = keep(Pipeline.open(load_settings(rerank_min_score=0.5)))
    search = lenient.search("dinner in France")
    assert 0 < len(search.passages) < 4 and all(c.rerank and c.rerank.score >= 0.5 for c in search.passages)
    wire.on("/rerank", lambda body: Reply(b"", 400))
    assert len(lenient.search("dinner in France").passages) == 4


def test_without_reranking_no_rerank_model_is_needed(pipeline: Pipeline, keep: Any) -> None:
    assert keep(Pipeline.open(load_settings(rerank_model=""))).search("dinner", rerank=False).rerank.status == "skipped"


def test_a_question_that_is_no_text_is_asked_as_text(pipeline: Pipeline) -> None:
    assert pipeline.search("dinner \udcff").question == "dinner ?"
