"""The doctor: healthy where all is well, and each fault found by name with its remedy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rag_app.doctor import Finding, examine
from rag_app.settings import Settings, load_settings
from tests.helpers import run
from tests.wire import Reply, Wire, chat, embeddings, rerank, vector


@pytest.fixture(autouse=True)
def _healthy(settings: Settings, wire: Wire, corpus: Path) -> None:
    """A gateway and a collection at which nothing is wrong."""
    wire.on("/chat/completions", lambda body: chat("It is kestrel [1]."))
    wire.on("/models", lambda body: Reply({"data": [{"id": "rr-large"}, {"id": "emb"}, {"id": "other"}]}))
    assert run("ingest", "docs").exit_code == 0


def findings(**options: Any) -> list[Finding]:
    return list(examine(load_settings(**options)))


def trouble(**options: Any) -> list[tuple[str, str, str, str]]:
    """Return part, status, detail and remedy of all that is not ok."""
    return [(f.part, f.status, f.detail, f.remedy) for f in findings(**options) if f.status != "ok"]


def test_a_healthy_gateway_is_green_and_every_part_is_looked_at() -> None:
    found = findings()
    assert {f.part for f in found} == {"embeddings", "rerank", "chat", "chroma"}
    assert [f for f in found if f.status != "ok"] == []
    result = run("doctor", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["healthy"] is True
    assert "FAIL" not in run("doctor").stdout


def refuse_key(body: Any) -> Reply:
    return Reply({"error": {"message": "Invalid token"}}, 401)


def unknown_model(body: Any) -> Reply:
    return Reply({"error": {"message": "The model `rr` does not exist"}}, 404)


def tei(body: Any) -> Reply:
    if "texts" not in body:
        return Reply(b"missing field `texts` at line 1 column 2", 422, "text/plain")
    query = set(body["query"].lower().split())
    return Reply([{"index": i, "score": len(query & set(text.lower().split())) / 9} for i, text in enumerate(body["texts"])])


def constant(body: Any) -> Reply:
    return Reply({"results": [{"index": i, "relevance_score": 0.0} for i in range(len(body["documents"]))]})


def backwards(body: Any) -> Reply:
    rows = json.loads(rerank(body).content)["results"]
    return Reply({"results": [{**row, "relevance_score": -row["relevance_score"]} for row in rows]})


def at_most_eight(body: Any) -> Reply:
    return rerank(body) if len(body["documents"]) <= 8 else Reply({"message": "too many documents"}, 400)


FAULTS: list[tuple[str, dict[str, Callable[[Any], Reply]], dict[str, Any], tuple[str, str, str, str]]] = [
    ("a wrong key", {"/rerank": refuse_key}, {}, ("rerank", "fail", "401 Unauthorized: Invalid token", "check RAG_RERANK_API_KEY")),
    ("no key", {"/embeddings": refuse_key}, {"api_key": ""}, ("embeddings", "fail", "Invalid token", "set RAG_API_KEY or RAG_EMBEDDING_API_KEY: no key is set")),
    ("an unknown model", {"/rerank": unknown_model}, {}, ("rerank", "fail", "does not exist", "check RAG_RERANK_MODEL: it has rr-large")),
    ("the same score for all", {"/rerank": constant}, {}, ("rerank", "fail", "every document gets the same score", "is a reranker")),
    ("an order that is wrong", {"/rerank": backwards}, {}, ("rerank", "fail", "a known answer does not come first", "makes ranking worse")),
    ("a limit of documents", {"/rerank": at_most_eight}, {}, ("rerank", "warn", "fewer than 30", "set RAG_RERANK_MAX_DOCUMENTS=8")),
    (
        "embeddings without meaning",
        {"/embeddings": lambda body: Reply({"data": [{"index": i, "embedding": [1.0] * 64} for i in range(len(body["input"]))]})},
        {},
        ("embeddings", "fail", "does not find its answer", "RAG_EMBEDDING_QUESTION_PREFIX"),
    ),
    (
        "a limit of texts",
        {"/embeddings": lambda body: embeddings(body) if len(body["input"]) <= 8 else Reply({"detail": "batch size above 8"}, 422)},
        {},
        ("embeddings", "warn", "takes fewer than 32 texts", "set RAG_EMBEDDING_BATCH_SIZE=8"),
    ),
    (
        "another dimension than the collection's",
        {
            "/embeddings": lambda body: Reply(
                {"data": [{"index": i, "embedding": [*vector(text), 0.0]} for i, text in enumerate(body["input"])]}
            )
        },
        {},
        ("chroma", "fail", "the collection has 64 dimensions, emb returns 65", "rag-app reindex"),
    ),
    ("another model than the collection's", {}, {"embedding_model": "new"}, ("chroma", "fail", "embedding model 'emb', not 'new'", "rag-app reindex")),
    ("an empty collection", {}, {"collection": "none"}, ("chroma", "warn", "none in data/chroma is empty", "run `rag-app ingest PATH`")),
    ("a chat model that does not read", {"/chat/completions": lambda body: chat("No idea [1].")}, {}, ("chat", "fail", "'No idea [1].'", "another")),
    ("a chat model that does not cite", {"/chat/completions": lambda body: chat("It is kestrel.")}, {}, ("chat", "warn", "without citing [1]", "")),
    ("a model without a name", {}, {"chat_model": ""}, ("chat", "fail", "RAG_CHAT_MODEL is not set", "")),
    ("an endpoint that is down", {}, {"chat_url": "http://127.0.0.1:9/v1"}, ("chat", "fail", "cannot be reached", "is it running? check RAG_CHAT_URL")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("replies", "options", "expected"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_each_fault_is_found_with_its_remedy(
    wire: Wire, replies: dict[str, Callable[[Any], Reply]], options: dict[str, Any], expected: tuple[str, str, str, str]
) -> None:
    for ending, answer in replies.items():
        wire.on(ending, answer)
    found = trouble(**options)
    part, status, detail, remedy = expected
    assert any(f[:2] == (part, status) and detail in f[2] and remedy in f[3] for f in found), found
    assert {f[0] for f in found} == {part}


def only(path: str, answer: Callable[[Any], Reply]) -> Callable[[Wire], None]:
    """Serve rerank at one path alone, 404 elsewhere."""

    def prepare(wire: Wire) -> None:
        wire.answers.pop("/rerank")
        wire.on(path, answer)

    return prepare


@pytest.mark.parametrize(
    ("path", "answer", "given", "remedy"),
    [
        ("/v1/rerank", rerank, "/rerank", "set RAG_RERANK_URL={root}/v1/rerank"),
        ("1/rerank", tei, "/v9", "set RAG_RERANK_URL={root}/v1/rerank and RAG_RERANK_DIALECT=tei: it is a TEI"),
        ("/api/v1/rerank", rerank, "/v1/rerank", "set RAG_RERANK_URL={root}/api/v1/rerank"),
    ],
    ids=["/v1 missing", "a TEI elsewhere", "/api missing"],
)
def test_the_right_address_on_the_same_host_is_found(wire: Wire, path: str, answer: Any, given: str, remedy: str) -> None:
    only(path, answer)(wire)
    root = wire.url.removesuffix("/v1")
    found = trouble(rerank_url=root + given)
    assert [f[0] for f in found] == ["rerank"] and found[0][3] == remedy.format(root=root)


def test_a_gateway_below_a_path_is_found_with_the_version_that_was_missing(wire: Wire) -> None:
    root = wire.url.removesuffix("/v1")
    for ending in ("/embeddings", "/rerank", "/chat/completions"):
        wire.on(f"/gateway/v1{ending}", wire.answers.pop(ending))
    found = {f[0]: f[3] for f in trouble(base_url=f"{root}/gateway") if f[1] == "fail"}
    assert found["embeddings"] == found["chat"] == f"set RAG_BASE_URL={root}/gateway/v1"
    assert found["rerank"] == f"set RAG_RERANK_URL={root}/gateway/v1/rerank"
    # What is advised works.
    assert trouble(base_url=f"{root}/gateway/v1") == []


def test_a_tei_behind_its_own_path_is_recognised(wire: Wire) -> None:
    wire.on("/rerank", tei)
    found = findings(rerank_url=wire.url.removesuffix("/v1") + "/rerank")
    assert any(f.check == "shape" and f.detail.startswith("detected as TEI") for f in found)
    assert [f for f in found if f.status != "ok"] == []


def test_a_doubled_version_is_put_right_and_remarked_on(wire: Wire) -> None:
    found = trouble(base_url=wire.url + "/v1")
    assert {f[:3] for f in found} >= {("rerank", "warn", "RAG_BASE_URL repeats the version in its path")}
    assert {f[1] for f in found} == {"warn"} and f"change it to {wire.url}, the address that is used" == found[0][3]


def test_a_failure_is_exit_code_1_with_the_remedy_beside_it(wire: Wire) -> None:
    wire.on("/rerank", refuse_key)
    result = run("doctor")
    assert result.exit_code == 1 and "FAIL" in result.stdout
    assert "check RAG_RERANK_API_KEY" in " ".join(result.stdout.split()) and "sk-secret" not in result.output
    assert json.loads(run("doctor", "--json").stdout)["healthy"] is False
