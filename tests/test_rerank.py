"""The rerank wire: every dialect, every odd reply, and whatever else a server may send, through real HTTP."""

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from rag_app.endpoints import http as connection
from rag_app.endpoints.breaker import Breaker
from rag_app.endpoints.endpoint import Endpoint, rerank_url
from rag_app.endpoints.failures import EndpointError
from rag_app.endpoints.rerank import Reranker
from rag_app.endpoints.rerank_wire import DIALECTS
from rag_app.settings import RerankDialect, Settings, load_settings
from rag_app.types import Candidate, Ranking, Receipt
from tests.helpers import ROOT, candidates, run
from tests.wire import RESET, Reply, Wire, chat, rerank, serve

OPENED: list[Reranker] = []
SCORES = [0.1, 0.9, 0.5]
TEXTS = ("grey wall", "the blue sky", "blue sea")
QUESTION = "blue sky"
IN_CONTEXT = [f"Document {i} › Part\n{text}" for i, text in enumerate(TEXTS)]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """What `reranker` opened is closed."""
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff without a server's wish is cut to nothing: what is tested is whether, not how long."""
    monkeypatch.setattr(connection.random, "uniform", lambda low, high: 0.0)


def reranker(
    wire: Wire, path: str = "/v1/rerank", key: str = "sk-secret", breaker: Breaker | None = None, **options: Any
) -> Reranker:
    url = rerank_url(wire.url.removesuffix("/v1") + path)
    how = {name: options.pop(name) for name in ("auth", "parameters", "headers") if name in options}
    endpoint = Endpoint("RERANK", "rerank", url, "m", SecretStr(key), timeout=options.pop("timeout", 5), **how)
    settings = load_settings(**{f"rerank_{name}": value for name, value in options.items()})
    OPENED.append(Reranker(endpoint, settings, breaker or Breaker()))
    return OPENED[-1]


def ranks(found: list[Candidate]) -> list[int | None]:
    return [c.rerank.rank if c.rerank else None for c in found]


def rows(score: str = "relevance_score", **extra: Any) -> list[dict[str, Any]]:
    return [{"index": i, score: value, **extra} for i, value in enumerate(SCORES)]


FLAT = {"model": "m", "query": QUESTION, "documents": IN_CONTEXT, "top_n": 3}
PICTURE = "https://pictures.example/sky.png"


def item(i: int) -> dict[str, str]:
    return {"text": IN_CONTEXT[i]}


# Name, path, options, the request as it must be sent, the reply as that server writes it.
SERVERS: list[tuple[str, str, dict[str, Any], Any, Any]] = [
    (
        "DMXAPI bge-reranker-v2-m3, the full URL as base URL, a bare key, echoed documents, zero usage",
        "/v1/rerank",
        {"auth": "raw"},
        FLAT,
        {"results": [{"document": {"text": "…"}, **row} for row in rows()], "usage": {"total_tokens": 0, "details": {}}},
    ),
    (
        "DMXAPI qwen3-reranker-8b",
        "/v1/rerank",
        {},
        FLAT,
        {"results": rows(document={"text": "…"}), "usage": {"prompt_tokens": 0}},
    ),
    (
        "the /api/v1/rerank gateway with its envelope, return_documents and parameters",
        "/api/v1/rerank",
        {"parameters": {"return_documents": False, "parameters": {"instruct": "policies"}}},
        {**FLAT, "return_documents": False, "parameters": {"instruct": "policies"}},
        {"success": True, "code": "200", "message": "successful", "data": {"results": rows()}},
    ),
    ("QHAIGC", "/v1/rerank", {}, FLAT, {"results": rows(), "usage": {"prompt_tokens": 77, "total_tokens": 77}}),
    ("Cohere v2", "/v2/rerank", {}, FLAT, {"id": "x", "results": rows(), "meta": {"billed_units": {"search_units": 1}}}),
    ("Jina", "/v1/rerank", {}, FLAT, {"results": rows(document="text"), "usage": {"total_tokens": 815}}),
    (
        "Voyage",
        "/v1/rerank",
        {"dialect": "top_k"},
        {"model": "m", "query": QUESTION, "documents": IN_CONTEXT, "top_k": 3},
        {"object": "list", "data": rows(), "usage": {"total_tokens": 26}},
    ),
    ("SiliconFlow", "/v1/rerank", {}, FLAT, {"id": "x", "results": rows(), "meta": {"tokens": {"input_tokens": 31}}}),
    (
        "DashScope native",
        "/api/v1/services/rerank/text-rerank/text-rerank",
        {"parameters": {"parameters": {"instruct": "policies"}}},
        {
            "model": "m",
            "input": {"query": QUESTION, "documents": IN_CONTEXT},
            "parameters": {"top_n": 3, "return_documents": False, "instruct": "policies"},
        },
        {"output": {"results": rows()}, "usage": {"total_tokens": 79}, "request_id": "x"},
    ),
    ("DashScope compatible", "/compatible-api/v1/reranks", {}, FLAT, {"object": "list", "results": rows()}),
    (
        "TEI by setting",
        "/rerank",
        {"dialect": "tei", "parameters": {"raw_scores": True}},
        {"query": QUESTION, "texts": IN_CONTEXT, "truncate": True, "raw_scores": True},
        [{"index": 1, "score": 0.9}, {"index": 2, "score": 0.5}, {"index": 0, "score": 0.1}],
    ),
    ("Infinity", "/rerank", {}, FLAT, {"results": rows(), "usage": {"prompt_tokens": 1, "total_tokens": 1}}),
    (
        "vLLM",
        "/v2/rerank",
        {},
        FLAT,
        {"id": "x", "model": "m", "usage": {"total_tokens": 56}, "results": rows(document={"text": "…"})},
    ),
    (
        "llama.cpp with raw logits",
        "/reranking",
        {},
        FLAT,
        {"object": "list", "results": [{"index": i, "relevance_score": score} for i, score in enumerate((-11.2, 7.3, -1.0))]},
    ),
    ("LocalAI, unsorted and more than asked for", "/v1/rerank", {}, FLAT, {"results": rows()[::-1]}),
    (
        "Xinference with document null",
        "/v1/rerank",
        {},
        FLAT,
        {"id": "x", "results": rows(document=None), "meta": {"api_version": None}},
    ),
    (
        "SGLang with a bare list",
        "/v1/rerank",
        {},
        FLAT,
        [{"score": row["score"], "document": "…", "index": row["index"]} for row in rows("score")],
    ),
    ("LiteLLM, unsorted", "/rerank", {}, FLAT, {"id": "x", "results": rows(), "meta": {"billed_units": {"total_tokens": 5}}}),
    ("OpenRouter", "/api/v1/rerank", {}, FLAT, {"results": rows()}),
    ("Fireworks", "/inference/v1/rerank", {}, FLAT, {"object": "list", "data": rows()}),
    (
        "Mixedbread",
        "/v1/reranking",
        {},
        {"model": "m", "query": QUESTION, "input": IN_CONTEXT, "top_k": 3},
        {"data": rows("score", object="rank_result"), "usage": {"total_tokens": 9}},
    ),
    (
        "NVIDIA NIM with logits",
        "/v1/ranking",
        {},
        {"model": "m", "query": {"text": QUESTION}, "passages": [item(0), item(1), item(2)], "truncate": "END"},
        {"rankings": [{"index": 1, "logit": 3.1}, {"index": 2, "logit": -0.5}, {"index": 0, "logit": -9.0}]},
    ),
]


@pytest.mark.parametrize(("path", "options", "request_body", "reply"), [s[1:] for s in SERVERS], ids=[s[0] for s in SERVERS])
def test_each_server_gets_its_request_and_its_reply_is_read(
    wire: Wire, path: str, options: dict[str, Any], request_body: Any, reply: Any
) -> None:
    wire.on("/" + path.rpartition("/")[2], lambda body: Reply(reply))
    found, receipt = reranker(wire, path, **options).rerank(QUESTION, candidates(*TEXTS))
    assert receipt.status == "applied", receipt.reason
    assert ranks(found) == [3, 1, 2]
    assert wire.sent[-1].path == path and wire.sent[-1].body == request_body
    assert wire.sent[-1].headers["authorization"] == ("sk-secret" if options.get("auth") == "raw" else "Bearer sk-secret")
    assert (receipt.sent, receipt.scored, receipt.attempts, receipt.dropped, receipt.truncated) == (3, 3, 1, 0, 0)


def test_a_tei_behind_the_common_path_is_recognised_by_its_complaint(wire: Wire) -> None:
    def tei(body: Any) -> Reply:
        if "texts" not in body:
            return Reply(b"Failed to deserialize the JSON body: missing field `texts` at line 1", 422, "text/plain")
        if len(body["texts"]) > 32:
            return Reply({"error": "batch size 40 > maximum allowed batch size 32", "error_type": "Validation"}, 422)
        return Reply([{"index": i, "score": float(text[-2:])} for i, text in enumerate(body["texts"])])

    wire.on("/rerank", tei)
    client = reranker(wire, "/rerank")
    found, receipt = client.rerank(QUESTION, candidates(*(f"text {i}" for i in range(10, 50))))
    assert (receipt.status, receipt.dialect) == ("applied", "tei")
    assert ranks(found) == list(range(40, 0, -1))
    assert "scored in 2 batches" in receipt.warnings[0]
    before = len(wire.sent)
    client.rerank(QUESTION, candidates("text 10"))
    assert len(wire.sent) == before + 1


def test_pictures_go_as_pictures_where_the_setting_says_that_the_model_sees_them(wire: Wire) -> None:
    found = candidates(*TEXTS)
    found[1] = found[1].model_copy(update={"image": PICTURE})
    for ending in ("/rerank", "/text-rerank"):
        wire.on(ending, lambda body: Reply({"success": True, "code": "200", "data": {"results": rows()}}))
    documents = [item(0), {"image": PICTURE}, item(2)]
    reranker(wire, "/api/v1/rerank", images=True).rerank(QUESTION, found)
    assert wire.sent[-1].body == {"model": "m", "input": {"query": QUESTION, "documents": documents}, "top_n": 3}
    reranker(wire, "/api/v1/services/rerank/text-rerank/text-rerank", images=True).rerank(QUESTION, found)
    assert wire.sent[-1].body["input"] == {"query": QUESTION, "documents": documents}
    reranker(wire, "/api/v1/rerank").rerank(QUESTION, found)
    assert wire.sent[-1].body == FLAT


def test_the_dialects_of_the_setting_are_those_of_the_table() -> None:
    assert set(get_args(RerankDialect)) == {"auto", *DIALECTS}


def test_the_key_may_go_in_a_header_of_its_own_or_not_at_all(wire: Wire) -> None:
    reranker(wire, auth="X-Api-Key").rerank(QUESTION, candidates("a"))
    assert wire.sent[-1].headers["x-api-key"] == "sk-secret" and "authorization" not in wire.sent[-1].headers
    reranker(wire, key="").rerank(QUESTION, candidates("a"))
    assert "authorization" not in wire.sent[-1].headers


def test_usage_is_kept_as_reported_and_tokens_are_read_from_it(wire: Wire) -> None:
    wire.on(
        "/rerank",
        lambda body: Reply({"results": rows(), "meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 31}}}),
    )
    _, receipt = reranker(wire).rerank(QUESTION, candidates(*TEXTS))
    assert receipt.usage == {"meta.billed_units.search_units": 1, "meta.tokens.input_tokens": 31}
    assert receipt.tokens == 31


def results(*found: Any) -> Reply:
    return Reply({"results": list(found)})


def row(index: Any, score: Any = 0.9) -> dict[str, Any]:
    return {"index": index, "relevance_score": score}


FIRST = row(0, 0.5)
HTML = Reply(b"<!doctype html><title>Login</title>", kind="text/html")

# Sentence, reply for two candidates, rank of each candidate, and what the receipt says. No ranks: fallback.
ODD: list[tuple[str, Reply, list[int | None] | None, str]] = [
    ("an index beyond the last document is dropped", results(FIRST, row(2)), [1, None], "1 result without a valid index"),
    ("a negative index does not wrap around", results(FIRST, row(-1)), [1, None], "1 result without a valid index"),
    ("an index far beyond any number is dropped", results(FIRST, row(10**400)), [1, None], "1 result without a valid index"),
    ("an index written as text counts", results(FIRST, row("1")), [2, 1], ""),
    ("an index written as a float counts", results(FIRST, row(1.0)), [2, 1], ""),
    ("half an index is dropped", results(FIRST, row(0.5)), [1, None], "1 result without a valid index"),
    ("true is no index", results(FIRST, row(True)), [1, None], "1 result without a valid index"),
    ("a word is no index", results(FIRST, row("one")), [1, None], "1 result without a valid index"),
    ("a row without an index is dropped", results(FIRST, {"relevance_score": 1}), [1, None], "1 result without a valid index"),
    ("only rows without a valid index are a failure", results(row(7), row(-3)), None, "no result has a valid index"),
    ("of a document that comes back twice the better score counts", results(FIRST, row(1, 0.2), row(1, 0.7)), [2, 1], "came back twice"),
    ("fewer rows than asked leave the rest in retrieval order", results(row(1)), [None, 1], "1 of 2 candidates got no score"),
    ("more rows than documents are cut to those that are", results(FIRST, row(1), row(2), row(3)), [2, 1], "2 results without"),
    ("unsorted rows are sorted", results(row(0, 0.1), row(1, 0.9)), [2, 1], ""),
    ("NaN is no score", results(FIRST, row(1, float("nan"))), [1, None], "1 result without a valid index or score"),
    ("infinity is no score", results(FIRST, row(1, float("inf"))), [1, None], "1 result without a valid index or score"),
    ("null is no score", results(FIRST, row(1, None)), [1, None], "1 result without a valid index or score"),
    ("a word is no score", results(FIRST, row(1, "high")), [1, None], "1 result without a valid index or score"),
    ("a list is no score", results(FIRST, row(1, [1])), [1, None], "1 result without a valid index or score"),
    ("a score written as text counts", results(FIRST, row(1, "0.9")), [2, 1], ""),
    ("only unusable scores are a failure", results(row(0, None), row(1, "x")), None, "no result has a valid index and a numeric"),
    ("scores that are all the same leave retrieval order and are remarked on", results(row(1, 0), row(0, 0)), [1, 2], "every score is the same"),
    ("the mark of a failed text comes last", results(row(0, -1e6), row(1, -11.0)), [2, 1], ""),
    ("logits outside 0 to 1 are kept as they are", results(row(0, 6.83), row(1, 7.1)), [2, 1], ""),
    ("results null is a failure", Reply({"results": None}), None, "the reply has no results"),
    ("no results are a failure", Reply({"results": []}), None, "the reply has no results"),
    ("a body of null is a failure", Reply(b"null"), None, "the reply has no results"),
    ("an empty body is a failure", Reply(b""), None, "not JSON"),
    ("a number is a failure", Reply(b"3"), None, "the reply has no results"),
    ("rows that are no objects are a failure", Reply(["a", 1, None]), None, "no result has a valid index"),
    ("a web page is told as one, with the remedy", HTML, None, "not JSON but text/html: a web page instead of JSON; check RAG_RERANK_URL"),
    ("half a JSON is a failure", Reply(b'{"results": [{"ind'), None, "not JSON"),
    ("JSON nested without end is a failure", Reply(b"[" * 100_000), None, "not JSON"),
    ("bytes that are no text are a failure", Reply(b"\xff\xfe\x00"), None, "not JSON"),
    ("failure inside HTTP 200 is told with its message", Reply({"success": False, "code": "500", "message": "no quota"}), None, "results: no quota"),
    ("an error inside HTTP 200 is told with its message", Reply({"error": {"message": "bad"}}), None, "results: bad"),
    ("a code and null data are told with their message", Reply({"code": 20012, "message": "no model", "data": None}), None, "results: no model"),
    ("a wrong key names the setting", Reply({"error": {"message": "invalid"}}, 401), None, "invalid; check RAG_RERANK_API_KEY or RAG_API_KEY"),
    ("an unknown model names the setting", Reply({"error": {"message": "The model `m` does not exist."}}, 404), None, "check RAG_RERANK_MODEL"),
    ("a wrong path names the setting", Reply({"detail": "Not Found"}, 404), None, "no such address: Not Found; check RAG_RERANK_URL"),
    ("a missing feature names the setting", Reply({"error": "start with --reranking"}, 501), None, "--reranking; check RAG_RERANK_URL"),
    ("a redirect names where it goes", Reply(b"", 302, headers={"location": "https://b.example/v1"}), None, "(to https://b.example/v1); set RAG_RERANK_URL to the address that it redirects to"),
    ("an exhausted account is told", Reply({"message": "insufficient balance"}, 402), None, "top up the account"),
    ("a request that is not understood points at the dialect", Reply({"detail": [{"msg": "field required"}]}, 422), None, "check RAG_RERANK_DIALECT"),
    ("an unknown field is told", Reply({"message": "unknown field: parameter 'top_n' is not valid"}, 422), None, "RAG_RERANK_DIALECT"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "expected", "says"), [odd[1:] for odd in ODD], ids=[odd[0] for odd in ODD])
def test_an_odd_reply(wire: Wire, reply: Reply, expected: list[int | None] | None, says: str) -> None:
    wire.on("/rerank", lambda body: reply)
    found, receipt = reranker(wire).rerank(QUESTION, candidates("a", "b"))
    assert ranks(found) == (expected or [None, None])
    assert receipt.status == ("fallback" if expected is None else "partial" if None in expected else "applied")
    assert says in receipt.line and "sk-secret" not in receipt.line
    assert len(wire.sent) == 1


class TestTryingAgain:
    GOOD = Reply({"results": rows()})

    def after(self, wire: Wire, *replies: Reply, **options: Any) -> tuple[Receipt, int]:
        """Answer with the replies in turn, then well; return the receipt and the number of requests."""
        waiting = list(replies)
        wire.on("/rerank", lambda body: waiting.pop(0) if waiting else self.GOOD)
        _, receipt = reranker(wire, **options).rerank(QUESTION, candidates(*TEXTS))
        assert receipt.attempts == len(wire.sent)
        return receipt, len(wire.sent)

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_what_may_pass_is_tried_twice_more(self, wire: Wire, status: int) -> None:
        receipt, requests = self.after(wire, Reply(b"", status), Reply(b"", status))
        assert (receipt.status, requests) == ("applied", 3) and "3 requests" in receipt.line

    def test_what_stays_is_told_after_three_requests(self, wire: Wire) -> None:
        receipt, requests = self.after(wire, *[Reply({"message": "busy"}, 503)] * 5)
        assert requests == 3 and "503 Service Unavailable: busy" in receipt.reason

    @pytest.mark.parametrize(
        ("status", "message"),
        [
            (400, "bad"),
            (403, "no"),
            (422, "bad"),
            (503, "No available channel for model m under group default"),
            (429, "You exceeded your current quota (insufficient_quota)"),
            (501, "This server does not support reranking"),
            (409, "x"),
        ],
    )
    def test_what_will_not_pass_is_told_at_once(self, wire: Wire, status: int, message: str) -> None:
        receipt, requests = self.after(wire, Reply({"error": {"message": message}}, status))
        assert (receipt.status, requests) == ("fallback", 1)

    @pytest.mark.parametrize(
        ("headers", "at_least"),
        [
            ({"retry-after": "0.3"}, 0.3),
            ({"retry-after-ms": "300"}, 0.3),
            ({"retry-after": format_datetime(datetime.now(UTC) - timedelta(seconds=5), usegmt=True)}, 0),
            ({"retry-after": "soon"}, 0),
            ({"retry-after": "-5"}, 0),
        ],
        ids=["seconds", "milliseconds", "a date that has passed", "a word", "negative"],
    )
    def test_the_servers_wish_to_wait_is_followed(self, wire: Wire, headers: dict[str, str], at_least: float) -> None:
        start = time.monotonic()
        receipt, requests = self.after(wire, Reply(b"", 429, headers=headers))
        assert (receipt.status, requests) == ("applied", 2)
        assert time.monotonic() - start >= at_least

    def test_a_long_wait_is_told_at_once(self, wire: Wire) -> None:
        receipt, requests = self.after(wire, Reply(b"", 429, headers={"retry-after": "31"}))
        assert requests == 1 and "(retry after 31 s)" in receipt.reason

    def test_documents_that_are_too_long_are_cut_once(self, wire: Wire) -> None:
        # As llama.cpp says it.
        said = "input (900 tokens) is too large to process. increase the physical batch size (current batch size: 512)"

        def short_only(body: Any) -> Reply:
            too_long = max(len(text) for text in body["documents"]) > 1300
            return Reply({"error": {"code": 500, "message": said}}, 500) if too_long else self.GOOD

        wire.on("/rerank", short_only)
        found, receipt = reranker(wire).rerank(QUESTION, candidates("a", "b " * 2000, "c"))
        assert (receipt.status, receipt.truncated, receipt.attempts) == ("applied", 1, 2)
        assert "set RAG_RERANK_MAX_TOKENS=400" in receipt.line and found[1].text == "b " * 2000

    def test_a_list_that_is_too_long_is_halved_and_the_size_remembered(self, wire: Wire) -> None:
        def at_most_three(body: Any) -> Reply:
            if len(body["documents"]) > 3:
                return Reply({"message": "too many documents: at most 3"}, 400)
            return results(*[row(i, float(text[-2:])) for i, text in enumerate(body["documents"])])

        wire.on("/rerank", at_most_three)
        client = reranker(wire)
        texts = [f"text {i}" for i in range(10, 20)]
        found, receipt = client.rerank(QUESTION, candidates(*texts))
        assert receipt.status == "applied" and ranks(found) == list(range(10, 0, -1))
        assert client.limit.value == 3 and "takes fewer documents at once" in receipt.line
        wire.sent.clear()
        assert ranks(client.rerank(QUESTION, candidates(*texts))[0]) == list(range(10, 0, -1))
        assert len(wire.sent) == 4


class TestSettings:
    def test_batches_are_mapped_back_and_remarked_on(self, wire: Wire) -> None:
        wire.on("/rerank", lambda body: results(*[row(i, float(text[-2:])) for i, text in enumerate(body["documents"])]))
        found, receipt = reranker(wire, max_documents=3).rerank(QUESTION, candidates(*(f"text {i}" for i in range(10, 20))))
        assert ranks(found) == list(range(10, 0, -1))
        assert sorted(len(sent.body["documents"]) for sent in wire.sent) == [1, 3, 3, 3]
        assert [sent.body["top_n"] == len(sent.body["documents"]) for sent in wire.sent] == [True] * 4
        assert "scored in 4 batches: comparable only if" in receipt.line

    @pytest.mark.parametrize(("text", "kept"), [("a" * 100, 30), ("长" * 100, 3)], ids=["Latin", "Chinese"])
    def test_documents_are_cut_to_a_budget_of_tokens(self, wire: Wire, text: str, kept: int) -> None:
        reranker_, head = reranker(wire, max_tokens=10), "Document 0 › Part\n"
        # The title and headings take 18 characters, 6 of the 10 tokens.
        found, receipt = reranker_.rerank(QUESTION, candidates(text, "b"))
        sent = wire.sent[0].body["documents"]
        assert sent[0].startswith(head) and abs(len(sent[0]) - len(head) - (12 if kept == 30 else 4)) <= 1
        assert receipt.truncated == 1 and found[0].text == text

    def test_a_failure_is_an_error_where_the_setting_says_so(self, wire: Wire) -> None:
        wire.on("/rerank", lambda body: Reply({"error": "no"}, 400))
        with pytest.raises(EndpointError, match="400 Bad Request: no"):
            reranker(wire, on_failure="error").rerank(QUESTION, candidates("a"))

    def test_a_dead_endpoint_is_left_alone_for_a_while_and_the_receipt_says_so(self, wire: Wire) -> None:
        now = [1000.0]
        down = Reply({"message": "down"}, 503, headers={"retry-after": "31"})
        wire.on("/rerank", lambda body: down)
        client = reranker(wire, breaker=Breaker(clock=lambda: now[0]))
        receipts = [client.rerank(QUESTION, candidates(*TEXTS))[1] for _ in range(4)]
        assert len(wire.sent) == 2 and {receipt.status for receipt in receipts} == {"fallback"}
        assert "skipped after 2 failures in a row (503 Service Unavailable: down" in receipts[3].reason
        assert "next try in 10 s" in receipts[3].reason and receipts[3].attempts == 0
        now[0] += 10.1
        wire.on("/rerank", lambda body: Reply({"results": rows()}))
        assert client.rerank(QUESTION, candidates(*TEXTS))[1].status == "applied"
        wire.on("/rerank", lambda body: down)
        client.rerank(QUESTION, candidates(*TEXTS))
        client.rerank(QUESTION, candidates(*TEXTS))
        assert len(wire.sent) == 5

    def test_what_one_question_brings_about_opens_no_circuit(self, wire: Wire) -> None:
        wire.on("/rerank", lambda body: Reply({"message": "bad"}, 400))
        client = reranker(wire)
        for _ in range(4):
            client.rerank(QUESTION, candidates(*TEXTS))
        assert len(wire.sent) == 4 and client.breaker.failures == 0

    def test_a_hanging_server_costs_no_more_than_the_deadline(self, wire: Wire) -> None:
        def hang(body: Any) -> Reply:
            time.sleep(3)
            return Reply({"results": rows()})

        wire.on("/rerank", hang)
        start = time.monotonic()
        _, receipt = reranker(wire, timeout=0.4, deadline=1.0).rerank(QUESTION, candidates(*TEXTS))
        assert time.monotonic() - start < 2 and receipt.status == "fallback"
        assert "no answer within" in receipt.reason and receipt.attempts in (2, 3)

    def test_each_rerank_is_a_line_in_the_log(self, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "rag_app")
        client = reranker(wire)
        client.rerank(QUESTION, candidates(*TEXTS))
        wire.on("/rerank", lambda body: Reply(b"", 400))
        client.rerank(QUESTION, candidates(*TEXTS))
        assert [
            (record.levelname, record.message[:16]) for record in caplog.records if record.name == "rag_app.endpoints.rerank"
        ] == [
            ("INFO", "rerank applied ·"),
            ("WARNING", "RERANK FAILED, r"),
        ]
        assert "sk-secret" not in caplog.text


def test_a_blank_candidate_is_not_sent_and_comes_last(wire: Wire) -> None:
    found, receipt = reranker(wire).rerank(QUESTION, candidates(" ", "blue sky"))
    assert len(wire.sent[0].body["documents"]) == 1
    assert found[0].rerank is None and found[1].rerank == Ranking(rank=1, score=1.0)
    assert receipt.status == "partial"


def test_without_candidates_nothing_is_sent(wire: Wire) -> None:
    found, receipt = reranker(wire).rerank(QUESTION, [])
    assert (found, receipt.status, wire.sent) == ([], "skipped", [])


# Whatever a server may send: any JSON, and rows that are nearly right.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["results", "data", "output", "index", "score", "error"]), inner, max_size=4)
    ),
    max_leaves=12,
)
near_rows = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "index": st.integers(-2, 6) | st.floats(-1, 6) | st.sampled_from(["0", "1", "x", None, True]),
            "relevance_score": st.floats() | st.integers() | st.text(max_size=3) | st.none(),
            "document": json_values,
        },
    ),
    max_size=8,
)
bodies = st.one_of(
    st.binary(max_size=60),
    json_values.map(lambda value: json.dumps(value).encode()),
    near_rows.map(lambda found: json.dumps({"results": found}).encode()),
    near_rows.map(lambda found: json.dumps(found).encode()),
)


@pytest.fixture(scope="module")
def shared_wire() -> Any:
    with serve() as wire:
        yield wire


@pytest.fixture(scope="module")
def shared(shared_wire: Wire) -> Iterator[Reranker]:
    """One client for thousands of replies; its circuit is closed by hand after each."""
    endpoint = Endpoint("RERANK", "rerank", f"{shared_wire.url}/rerank", "m", SecretStr("sk-secret"), timeout=5)
    with closing(Reranker(endpoint, Settings(_env_file=None))) as reranker:  # type: ignore[call-arg]
        yield reranker


@given(
    body=bodies,
    status=st.sampled_from([200, 200, 200, 200, 201, 204, 400, 404, 422]),
    kind=st.sampled_from(["application/json", "text/html"]),
)
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_reply_breaks_anything_and_no_candidate_is_lost(
    shared_wire: Wire, shared: Reranker, body: bytes, status: int, kind: str
) -> None:
    shared_wire.on("/rerank", lambda request: Reply(b"" if status == 204 else body, status, kind))
    before = candidates("a", "b", "c", "d")
    found, receipt = shared.rerank(QUESTION, before)
    shared.breaker.reset()
    assert [c.model_copy(update={"rerank": None}) for c in found] == before
    scored = [c.rerank.rank for c in found if c.rerank]
    assert sorted(scored) == list(range(1, len(scored) + 1)) and receipt.scored == len(scored)
    by_rank = sorted((c.rerank for c in found if c.rerank), key=lambda ranking: ranking.rank)
    assert all(one.score >= two.score for one, two in pairwise(by_rank))
    assert {4: "applied", 0: "fallback"}.get(len(scored), "partial") == receipt.status
    assert Receipt.model_validate_json(receipt.model_dump_json()) == receipt
    assert (receipt.reason == "") == (receipt.status == "applied")


@given(found=near_rows, seed=st.integers(0, 1000))
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
def test_permuting_the_rows_of_a_reply_changes_nothing(
    shared_wire: Wire, shared: Reranker, found: list[Any], seed: int
) -> None:
    shuffled = list(found)
    random.Random(seed).shuffle(shuffled)
    outcomes = []
    for reply in (found, shuffled):
        shared_wire.on("/rerank", lambda request, reply=reply: Reply({"results": reply}))  # type: ignore[misc]
        outcomes.append(shared.rerank(QUESTION, candidates("a", "b", "c", "d")))
        shared.breaker.reset()
    assert ranks(outcomes[0][0]) == ranks(outcomes[1][0])
    assert outcomes[0][1].status == outcomes[1][1].status


def test_a_thousand_questions_with_a_reranker_that_fails_at_random(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(7)
    good = Reply({"results": [row(i, 1 - i / 10) for i in range(4)]})
    faults: list[tuple[float, Callable[[], Reply]]] = [
        (0.5, lambda: good),
        (0.1, lambda: Reply({"message": "oops"}, 500)),
        (0.08, lambda: Reply(b"", 429)),
        (0.08, lambda: Reply(b"", 429, headers={"retry-after": "0.01"})),
        (0.04, lambda: Reply(b"", 429, headers={"retry-after": "600"})),
        (0.05, lambda: HTML),
        (0.05, lambda: Reply(b"\x00garbage")),
        (0.05, lambda: RESET),
        (0.03, lambda: results(row(2, 0.4))),
        (0.02, lambda: (time.sleep(0.35), good)[1]),
    ]

    def answer(body: Any) -> Reply:
        return rng.choices([fault for _, fault in faults], [weight for weight, _ in faults])[0]()

    wire.on("/rerank", answer)
    client = reranker(wire, timeout=0.2, deadline=2.0)
    before = candidates("a", "b", "c", "d")
    counts: Counter[str] = Counter()
    slowest = 0.0
    attempts = 0
    for _ in range(1000):
        start = time.monotonic()
        found, receipt = client.rerank(QUESTION, before)
        slowest = max(slowest, time.monotonic() - start)
        counts[receipt.status] += 1
        attempts += receipt.attempts
        assert [c.model_copy(update={"rerank": None}) for c in found] == before
        assert receipt.scored == sum(c.rerank is not None for c in found)
        assert (receipt.reason == "") == (receipt.status == "applied")
    assert sum(counts.values()) == 1000 and min(counts["applied"], counts["fallback"], counts["partial"]) > 0
    assert attempts == len(wire.sent)
    assert slowest < 2.5


def profiles() -> list[dict[str, str]]:
    """Return the blocks of settings of docs/gateway.md under the heading "Rerank profiles"."""
    section = (ROOT / "docs" / "gateway.md").read_text("utf-8").partition("### Rerank profiles")[2].partition("\n###")[0]
    return [dict(line.split("=", 1) for line in block.split()[1:]) for block in section.split("```")[1::2]]


def envelope(body: Any) -> Reply:
    plain = json.loads(rerank(body).content)["results"]
    return Reply({"success": True, "code": "200", "message": "successful", "data": {"results": plain}})


def echoing(body: Any) -> Reply:
    plain = json.loads(rerank(body).content)["results"]
    found = [{"document": {"text": body["documents"][row["index"]]}, **row} for row in plain]
    usage = {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "prompt_tokens_details": {"cached_tokens_details": {}},
    }
    return Reply({"results": sorted(found, key=lambda row: -row["relevance_score"]), "usage": usage})


@pytest.mark.parametrize(
    ("number", "answer"),
    [(0, echoing), (1, echoing), (2, envelope), (3, rerank)],
    ids=["DMXAPI bge", "DMXAPI qwen3", "the /api/v1 gateway", "QHAIGC"],
)
def test_the_profile_of_each_seed_in_the_docs_works_from_a_dotenv_alone(
    wire: Wire, corpus: Path, number: int, answer: Callable[[Any], Reply]
) -> None:
    lines = []
    for name, value in profiles()[number].items():
        address = re.sub(r"^https://[^/]+", wire.url.removesuffix("/v1"), value)
        lines.append(f"{name}={address.replace('sk-…', 'sk-secret').replace('…', 'given')}")
    Path(".env").write_text("\n".join(lines))
    wire.on("/rerank", answer)
    wire.on("/chat/completions", lambda body: chat("It is kestrel [1]."))
    assert run("ingest", "docs").exit_code == 0
    asked = json.loads(run("ask", "What does dinner cost in France?", "--json").stdout)
    assert asked["rerank"]["status"] == "applied" and asked["rerank"]["scored"] == 5
    assert asked["answer"]["citations"]
    doctor = run("doctor", "--json")
    assert json.loads(doctor.stdout)["healthy"] is True, doctor.stdout
    assert all(sent.headers["authorization"] in ("Bearer sk-secret", "Bearer given") for sent in wire.sent)
    assert "sk-secret" not in doctor.stdout
