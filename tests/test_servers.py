"""Servers as people have them: what each kind of them refuses, leaves out or says, and what a person gets all the same."""

import gzip
import itertools
import json
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from rag_app import prompt
from rag_app.endpoints import network
from rag_app.endpoints.breaker import Breaker
from rag_app.endpoints.chat import Chat
from rag_app.endpoints.embeddings import Embeddings
from rag_app.endpoints.failures import EndpointError, Kind, status_kind
from rag_app.endpoints.http import Connection
from rag_app.endpoints.learned import Limit, Pace, seconds_until_more
from rag_app.endpoints.limits import FORGET_AFTER
from rag_app.endpoints.markers import Markers
from rag_app.endpoints.opening import open_chat, open_embeddings, open_reranker
from rag_app.endpoints.rerank import Reranker
from rag_app.errors import SettingsError
from rag_app.pipeline import Pipeline, asked
from rag_app.settings import Settings, load_settings
from tests.helpers import ROOT, candidates, endpoint
from tests.wire import Reply, Wire, chat, embeddings, events, serve, vector

MESSAGES = prompt.messages("q?", candidates("text"))


def refused(message: Any, status: int = 400, **error: Any) -> Reply:
    return Reply({"error": {"message": message, **error}}, status)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        # Whatever is said with them, these pass by themselves.
        (504, "context deadline exceeded", "server"),
        (503, "Too many concurrent requests", "server"),
        (503, "The model is loading", "server"),
        (408, "too many", "server"),
        (429, "exceeded call rate limit. Please go here: https://aka.ms/oai/quotaincrease", "rate"),
        (429, "Request was rejected due to rate limiting. Details: TPM limit reached.", "rate"),
        # But for what certain servers say.
        (429, "You exceeded your current quota. (insufficient_quota)", "quota"),
        (
            500,
            "input (681 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
            "too_long",
        ),
        (500, "failed to encode response: json: unsupported value: NaN", "text"),
        (503, "当前分组 default 下对于模型 m 无可用渠道", "model"),
        (501, "This server does not support reranking", "url"),
        # These are read.
        (400, "This model's maximum context length is 200 tokens. However, you requested 272 tokens", "too_long"),
        (400, "length of prompt_tokens (57535) must be less than max_seq_len (32768).", "too_long"),
        (400, "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it", "too_long"),
        (400, "batch size is invalid, it should not be larger than 10.: input.contents", "too_many"),
        (400, "input数组最大不得超过64条", "too_many"),
        (413, "batch size 64 > maximum allowed batch size 32", "too_many"),
        (413, "", "too_long"),
        # Of the length of one text, where the words speak of "input" too.
        (400, "the input length exceeds the context length", "too_long"),
        (400, "Range of input length should be [1, 30720]", "too_long"),
        (400, "maximum context length is 512 tokens. Please reduce the length of the input messages.", "too_long"),
        (400, "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000", "too_long"),
        (400, "too many tokens: size limit exceeded by 2043 tokens.", "too_long"),
        (400, "expected maxLength: 2048, actual: 2904, please reformat your input", "too_long"),
        (400, "inputs must have less than 512 tokens. Given: 600", "too_long"),
        (400, "Prompt 超长", "too_long"),
        # Neither of texts nor of their number.
        (400, "Budget has been exceeded! Current cost: 0.1, Max budget: 0.05", "quota"),
        (400, "Too many requests, please wait", "rate"),
        (400, "max_tokens is too large: 100000", "request"),
        (429, "Insufficient balance or no resource package. Please recharge.", "quota"),
        (429, "insufficient_quota, see https://help.aliyun.com/model-studio/error-code#token-limit", "rate"),
        (403, "openai requires moderation and your input was flagged", "filtered"),
        (400, "The response was filtered due to the prompt triggering Azure OpenAI's content management policy", "filtered"),
        (402, "Insufficient Balance", "quota"),
        (403, "Sorry, your account balance is insufficient", "quota"),
        (403, "no", "auth"),
        (400, "API key not valid. Please pass a valid API key.", "auth"),
        (400, "No connected db.", "auth"),
        (404, "The model `m` does not exist", "model"),
        (404, "404 page not found", "url"),
        (400, "bad", "request"),
        (307, "", "redirect"),
    ],
)
def test_the_status_comes_before_the_words(status: int, message: str, kind: Kind) -> None:
    assert status_kind(status, json.dumps({"error": {"message": message}}).encode()) == kind


class TestChat:
    @pytest.fixture(autouse=True)
    def _use(self, keep: Any, wire: Wire) -> None:
        self.keep, self.wire = keep, wire

    def client(self, **how: Any) -> Chat:
        client: Chat = self.keep(Chat(replace(endpoint(self.wire, "CHAT"), **how)))
        return client

    def ask(self, answer: Callable[[Any], Reply], **how: Any) -> Any:
        self.wire.on("/chat/completions", answer)
        answering = self.client(**how).answer(MESSAGES, candidates("text"))
        list(answering)
        return answering

    @pytest.mark.parametrize(
        ("field", "message", "param"),
        [
            ("temperature", "Unsupported value: 'temperature' does not support 0 with this model.", "temperature"),
            ("temperature", "`temperature` is not supported for this model", None),
            ("stream", "Your organization must be verified to stream this model.", "stream"),
            ("stream_options", "Extra inputs are not permitted: stream_options", None),
            ("stream_options", "Unknown parameter: 'stream_options.include_usage'.", "stream_options.include_usage"),
            (
                "stream_options",
                [{"type": "extra_forbidden", "loc": ["body", "stream_options", "x"], "msg": "Extra inputs"}],
                None,
            ),
        ],
        ids=["o-series", "gpt-5", "not verified", "stream_options", "a path", "pydantic"],
    )
    def test_what_is_refused_by_name_is_left_out_from_then_on(self, field: str, message: Any, param: str | None) -> None:
        def picky(body: Any) -> Reply:
            if field in body:
                return refused(message, param=param)
            whole = {"choices": [{"message": {"content": "So [1]."}, "finish_reason": "stop"}]}
            return chat("So [1].") if body.get("stream") else Reply(whole)

        self.wire.on("/chat/completions", picky)
        client = self.client()
        for _ in range(2):
            answering = client.answer(MESSAGES, candidates("text"))
            list(answering)
            assert answering.answer and answering.answer.text == "So [1]."
        assert len(self.wire.sent) == 3 and field not in self.wire.sent[-1].body
        # The others are still sent.
        assert {"temperature", "messages"} - {field} <= set(self.wire.sent[-1].body)

    def test_an_error_that_only_repeats_the_request_leaves_nothing_out(self) -> None:
        echo = "string too long in {'stream': True, 'temperature': 0, 'stream_options': {}}"
        client = self.client()
        self.wire.on("/chat/completions", lambda body: refused(echo))
        with pytest.raises(EndpointError, match="too long"):
            list(client.answer(MESSAGES, candidates("text")))
        self.wire.on("/chat/completions", lambda body: chat("So [1]."))
        list(client.answer(MESSAGES, candidates("text")))
        assert {"stream", "temperature", "stream_options"} <= set(self.wire.sent[-1].body)

    def test_a_server_that_refuses_for_another_reason_is_not_asked_again(self) -> None:
        with pytest.raises(EndpointError, match="bad"):
            self.ask(lambda body: refused("bad"))
        assert len(self.wire.sent) == 1

    @pytest.mark.parametrize(
        ("message", "status"),
        [
            ("System role not supported", 400),
            ("Developer instruction is not enabled for models/gemma-3", 400),
            ('Error rendering prompt with jinja template: "Only user and assistant roles are supported!"', 400),
            ("Conversation roles must alternate user/assistant/user/assistant/...", 400),
            ("Unsupported value: 'messages[0].role' does not support 'system' with this model.", 400),
            ("Error: Jinja Exception: System role not supported", 500),
        ],
    )
    def test_instructions_go_to_the_user_where_there_is_no_system_role(
        self, message: str, status: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rag_app.endpoints.openai_client.RETRIES", 0)

        def gemma(body: Any) -> Reply:
            return refused(message, status) if body["messages"][0]["role"] == "system" else chat("So [1].")

        assert self.ask(gemma).answer.text == "So [1]."
        (told,) = self.wire.sent[-1].body["messages"]
        assert told["role"] == "user" and told["content"].startswith(prompt.INSTRUCTIONS) and told["content"].endswith("q?")

    def test_tokens_come_where_they_are_asked_for(self) -> None:
        def counted(body: Any) -> Reply:
            usage = {"choices": [], "usage": {"prompt_tokens": 412, "completion_tokens": 11}}
            return chat("So [1].", *([usage] if body["stream_options"]["include_usage"] else []))

        assert self.ask(counted).tokens == (412, 11)

    def test_parameters_headers_and_query_are_those_of_the_settings(self) -> None:
        url = self.wire.url.replace("/v1", "/openai/deployments/m?api-version=2024-10-21")
        self.wire.on("/openai/deployments/m/chat/completions?api-version=2024-10-21", lambda body: chat("So [1]."))
        how = {"parameters": {"temperature": None, "max_tokens": 9}, "headers": {"X-Team": SecretStr("search")}, "url": url}
        assert self.ask(lambda body: Reply(b""), **how).answer.text == "So [1]."
        sent = self.wire.sent[-1]
        assert "temperature" not in sent.body and sent.body["max_tokens"] == 9
        # Azure's first interface takes its key under a name of its own, and no other beside it.
        assert (
            sent.headers["x-team"] == "search"
            and sent.headers["api-key"] == "sk-secret"
            and "authorization" not in sent.headers
        )

    @pytest.mark.parametrize(
        ("reply", "says"),
        [
            (chat(finish="content_filter"), "withheld by a content filter"),
            (chat({"choices": [{"delta": {"reasoning_content": "hm"}}]}, finish="length"), "limit was used up by thinking"),
            (chat(finish="length"), "its token limit was reached"),
            (Reply(b'{"error":{"message":"Insufficient credits"}}', kind="text/event-stream"), "Insufficient credits"),
            (Reply({"object": "error", "message": "no such thing", "code": 40301}), "no such thing"),
            (Reply(b"<html>Sign in</html>", kind="text/html"), "text/html instead of a stream"),
            (chat({"error": "Request failed during generation: CUDA out of memory"}), "CUDA out of memory"),
            (Reply({"code": 50505, "message": "Model service overloaded"}), "Model service overloaded"),
            (Reply({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "no balance"}}), "no balance"),
            (chat({"choices": [{"delta": {"refusal": "I cannot help."}}]}), "declined to answer: I cannot help."),
            (chat({"choices": [{"delta": {"tool_calls": [{}]}}]}, finish="tool_calls"), "came back: tool_calls"),
        ],
        ids=[
            "filtered",
            "thinking",
            "limit",
            "an error called a stream",
            "an error with status 200",
            "a login page",
            "TGI",
            "SiliconFlow",
            "MiniMax",
            "a refusal",
            "a tool",
        ],
    )
    def test_an_answer_without_text_says_why(self, reply: Reply, says: str) -> None:
        with pytest.raises(EndpointError, match=says):
            self.ask(lambda body: reply)

    def test_a_whole_answer_called_a_stream_and_content_in_parts_are_read(self) -> None:
        parts = [{"type": "text", "text": "So "}, {"type": "image"}, {"type": "text", "text": "[1]."}]
        whole = {"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]}
        reply = Reply(json.dumps(whole).encode(), kind="text/event-stream")
        assert self.ask(lambda body: reply).answer.text == "So [1]."

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(events("So [1]."), kind="application/json"),
            Reply(b"\xef\xbb\xbf" + events("So [1]."), kind="text/event-stream"),
            Reply(events("So [1]."), kind="text/event-stream", headers={"content-encoding": "utf-8"}),
            Reply(json.dumps({"choices": [{"message": {"content": [{"text": "So [1]."}]}}]}).encode(), kind="text/plain"),
            Reply(events("So [1].").replace(b"data: ", b"").replace(b"[DONE]", b""), kind="application/x-ndjson"),
            chat("So [1].", {"choices": [{"delta": {}, "message": {"content": "So [1]."}, "finish_reason": "stop"}]}),
            chat("<thinking>hm [2]</thinking>So [1]."),
            chat("<thought>hm</thought>", "So [1]."),
        ],
        ids=["JSON", "a mark before it", "an encoding that is none", "plain", "lines", "said twice", "thinking", "thought"],
    )
    def test_an_answer_in_another_wrapping_is_read(self, reply: Reply) -> None:
        assert self.ask(lambda body: reply).answer.text == "So [1]."

    def test_an_error_in_a_stream_has_the_kind_of_its_code(self) -> None:
        long = {"error": {"message": "This model's maximum context length is 200 tokens", "code": 400}}
        with pytest.raises(EndpointError) as caught:
            self.ask(lambda body: chat(long))
        assert caught.value.kind == "too_long"
        with pytest.raises(EndpointError) as caught:
            self.ask(lambda body: chat({"error": {"message": "\x1b[31m\n" + "x" * 100_000}}))
        assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)

    def test_an_answer_that_speaks_of_the_end_of_thinking_loses_nothing(self) -> None:
        said = "Models end it with </think> and then answer [1]."
        self.wire.on("/chat/completions", lambda body: chat(said))
        client = self.client()
        for _ in range(3):
            answering = client.answer(MESSAGES, candidates("text"))
            list(answering)
            assert answering.answer and answering.answer.text == said
        assert not client.thinks_aloud

    def test_a_model_that_stopped_thinking_aloud_streams_again(self) -> None:
        client = self.client()
        for said, aloud in (("hm</think>So [1].", False), ("hm</think>So [1].", True), ("So it is [1].", False)):
            self.wire.on("/chat/completions", lambda body, said=said: chat(said))
            list(client.answer(MESSAGES, candidates("text")))
            assert client.thinks_aloud is aloud

    def test_a_compressed_error_is_not_read(self) -> None:
        bomb = gzip.compress(b"x" * 10_000_000)
        with pytest.raises(EndpointError, match="400 Bad Request"):
            self.ask(lambda body: Reply(bomb, 400, headers={"content-encoding": "gzip"}))

    def test_nobody_waits_for_more_than_half_a_minute(self) -> None:
        self.wire.on("/chat/completions", lambda body: Reply(b"", 429, headers={"retry-after": "28"}))
        with pytest.raises(EndpointError, match="retry after 28 s"):
            list(self.client().answer(MESSAGES, candidates("text")))
        assert len(self.wire.sent) == 1

    def test_a_byte_that_is_no_text_costs_one_character(self) -> None:
        reply = chat("So it is [1].")
        reply.body = reply.body.replace(b"it is", b"it\xff is")
        assert self.ask(lambda body: reply).answer.text == "So it� is [1]."

    def test_a_quoted_end_of_thinking_is_part_of_the_answer(self) -> None:
        said = "Write `</think>` at the end [1].\n\n```\n</think>\n```"
        answering = self.ask(lambda body: chat(said))
        assert answering.answer.text == said and not answering.retracted

    def test_markers_of_retracted_thoughts_are_none_of_the_answer(self) -> None:
        answer = self.ask(lambda body: chat("I wonder [9][1] a lot.</think>\n\nIt is so [7].")).answer
        assert (answer.text, answer.dropped, answer.citations) == ("It is so.", (7,), ())

    def test_a_bomb_and_an_endless_answer_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sent = []

        def endless() -> Iterator[bytes]:
            yield events("So [1].", finish=None, done=False)
            while True:
                sent.append(1)
                yield b": " + b"x" * 1_000_000 + b"\n"

        answering = self.ask(lambda body: Reply(parts=endless(), kind="text/event-stream"))
        assert answering.answer.text == "So [1]." and answering.answer.finish == "cut_short"
        # 5 MB are read; the rest is on its way.
        assert len(sent) < 30
        monkeypatch.setattr("rag_app.endpoints.openai_client.ANSWER_TIMES", 0.1)

        def dripping() -> Iterator[bytes]:
            yield events("So [1].", finish=None, done=False)
            while True:
                time.sleep(0.1)
                yield b": wait\n"

        answering = self.ask(lambda body: Reply(parts=dripping(), kind="text/event-stream"))
        assert answering.answer.finish == "cut_short"
        with pytest.raises(EndpointError, match=r"compressed.*switch compression off"):
            self.ask(lambda body: Reply(b"x", kind="text/event-stream", headers={"content-encoding": "gzip"}))

    def test_a_redirect_is_followed_on_the_same_server_only(self, keep: Any) -> None:
        self.wire.on("/chat/completions", lambda body: Reply(b"", 307, headers={"location": "/v1/elsewhere"}))
        self.wire.on("/elsewhere", lambda body: chat("So [1]."))
        answering = self.client().answer(MESSAGES, candidates("text"))
        assert "".join(answering) == "So [1]." and self.wire.sent[-1].headers["authorization"] == "Bearer sk-secret"
        with serve() as other:
            there = Reply(b"", 307, headers={"location": f"{other.url}/chat/completions?key=s"})
            with pytest.raises(EndpointError) as caught:
                self.ask(lambda body: there)
            assert caught.value.kind == "redirect" and other.sent == []
            assert other.url in str(caught.value) and "key=s" not in str(caught.value)


class TestTooLongForTheChatModel:
    def test_fewer_passages_are_sent_and_the_answer_says_so(self, pipeline: Pipeline, wire: Wire) -> None:
        def short_only(body: Any) -> Reply:
            n = body["messages"][1]["content"].count("<passage ")
            return chat("So [1].") if n <= 2 else refused("maximum context length is 200 tokens")

        wire.on("/chat/completions", short_only)
        search = pipeline.search("dinner in Lyon")
        answering = pipeline.answer(search)
        list(answering)
        answer = asked(search, answering).answer
        assert (answer.left_out, answer.shortened) == (2, False)
        assert "the last 2 passages were not sent" in " ".join(answer.notes)

    def test_the_first_passage_is_cut_if_it_alone_does_not_fit(self, wire: Wire, keep: Any) -> None:
        passages = candidates("word " * 400)

        def short_only(body: Any) -> Reply:
            content = body["messages"][1]["content"]
            return chat("So [1].") if len(content) < 800 else refused("maximum context length is 200 tokens")

        wire.on("/chat/completions", short_only)
        answering = keep(Chat(endpoint(wire, "CHAT"))).answer(
            prompt.messages("q?", passages), passages, prompt.shorter("q?", passages)
        )
        list(answering)
        assert answering.answer and answering.answer.shortened and answering.answer.left_out == 0

    def test_a_passage_that_was_not_sent_is_not_cited(self, pipeline: Pipeline, wire: Wire) -> None:
        def short_only(body: Any) -> Reply:
            n = body["messages"][1]["content"].count("<passage ")
            return chat("So [1], and [3].") if n <= 2 else refused("maximum context length is 200 tokens")

        wire.on("/chat/completions", short_only)
        search = pipeline.search("dinner in Lyon")
        answering = pipeline.answer(search)
        list(answering)
        assert answering.answer and answering.answer.text == "So [1], and." and answering.answer.dropped == (3,)

    def test_where_nothing_fits_the_remedy_is_that_of_the_passages(self, pipeline: Pipeline, wire: Wire) -> None:
        wire.on("/chat/completions", lambda body: refused("exceeds the available context size (4096 tokens)"))
        with pytest.raises(EndpointError) as caught:
            list(pipeline.answer(pipeline.search("dinner in Lyon")))
        assert "RAG_N_PASSAGES" in caught.value.remedy and "question" not in caught.value.remedy


class TestEmbeddings:
    @pytest.fixture(autouse=True)
    def _use(self, keep: Any, wire: Wire) -> None:
        self.keep, self.wire = keep, wire

    def client(self, batch_size: int = 8) -> Embeddings:
        client: Embeddings = self.keep(Embeddings(endpoint(self.wire, "EMBEDDING"), "", "", batch_size, 1))
        return client

    @pytest.mark.parametrize(
        "message",
        [
            "Value 'float' supplied for argument 'encoding_format' is not valid -- accepted values are 'base64'",
            "litellm.UnsupportedParamsError: vertex_ai does not support parameters: {'encoding_format': 'float'}",
        ],
        ids=["Voyage", "LiteLLM"],
    )
    def test_a_format_that_is_refused_is_left_out(self, message: str) -> None:
        self.wire.on("/embeddings", lambda body: refused(message) if "encoding_format" in body else embeddings(body))
        client = self.client()
        assert client.question("a")[0].shape == client.question("b")[0].shape and len(self.wire.sent) == 3

    @pytest.mark.parametrize("empty", [None, [], "", "left out"])
    def test_a_text_without_numbers_is_found_among_the_others(self, empty: Any) -> None:
        def some(body: Any) -> Reply:
            reply = json.loads(embeddings(body).content)
            for row in list(reply["data"]):
                if body["input"][row["index"]] == "bad":
                    reply["data"].remove(row) if empty == "left out" else row.update(embedding=empty)
            return Reply(reply)

        self.wire.on("/embeddings", some)
        (batch,) = self.client().passages(["a", "bad", "c", "d"])
        assert list(batch.refused) == [1] and batch.vectors[[0, 2, 3]].any(axis=1).all()

    def test_vectors_of_several_lengths_are_one_error(self) -> None:
        lengths = itertools.count(3)
        self.wire.on(
            "/embeddings",
            lambda body: (
                refused("batch size is invalid, it should not be larger than 1")
                if len(body["input"]) > 1
                else Reply({"data": [{"index": None, "embedding": [1.0] * next(lengths)}]})
            ),
        )
        with pytest.raises(EndpointError, match="differ in length"):
            list(self.client(2).passages(["a", "b"]))

    def test_a_page_of_a_proxy_that_says_too_large_is_halved(self) -> None:
        page = Reply(b"<html><h1>413 Request Entity Too Large</h1></html>", 413, kind="text/html")
        self.wire.on("/embeddings", lambda body: page if len(body["input"]) > 2 else embeddings(body))
        assert sum(len(batch.vectors) for batch in self.client().passages(["a"] * 8)) == 8

    def test_a_refusal_without_end_ends_and_is_not_asked_without_pause(self) -> None:
        self.wire.on("/embeddings", lambda body: Reply(b"", 429, headers={"retry-after": "0"}))
        client, now = self.client(), [0.0]
        client.connection.pace.clock = lambda: now[0]
        client.connection.sleep = lambda seconds: now.__setitem__(0, now[0] + seconds)
        with pytest.raises(EndpointError, match="429"):
            list(client.passages(["a"], lambda seconds, reason: None))
        assert len(self.wire.sent) < 60

    def test_a_limit_of_a_day_ends_at_once_for_all_who_wait(self) -> None:
        self.wire.on("/embeddings", lambda body: Reply(b"", 429, headers={"retry-after": "3600"}))
        client, slept = self.client(1), []
        client.connection.sleep = slept.append
        with pytest.raises(EndpointError, match="retry after 3600 s"):
            list(client.passages(["a", "b", "c"], lambda seconds, reason: None))
        assert not slept

    def test_a_key_is_masked_before_a_message_is_cut(self) -> None:
        self.wire.on("/embeddings", lambda body: Reply(b"x" * 75 + b" sk-secret", kind="text/plain"))
        with pytest.raises(EndpointError) as caught:
            self.client().question("a")
        assert "sk-s" not in str(caught.value)
        at = replace(endpoint(self.wire, "EMBEDDING"), url=f"{self.wire.url}?api_key=hunter2hunter2")
        self.wire.on("hunter2hunter2", lambda body: refused("no POST:/v1/embeddings?api_key=hunter2hunter2"))
        with pytest.raises(EndpointError) as caught:
            self.keep(Embeddings(at, "", "", 1, 1)).question("a")
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("location", ["http://[bad/", "http://a b"])
    def test_a_redirect_to_nowhere_is_named(self, location: str) -> None:
        self.wire.on("/embeddings", lambda body: Reply(b"", 307, headers={"location": location}))
        with pytest.raises(EndpointError) as caught:
            self.client().question("a")
        assert caught.value.kind in ("redirect", "reply", "unreachable")

    def test_what_is_compressed_twice_is_not_read(self) -> None:
        bomb = gzip.compress(gzip.compress(b"x" * 1_000_000))
        self.wire.on("/embeddings", lambda body: Reply(bomb, headers={"content-encoding": "gzip, gzip"}))
        with pytest.raises(EndpointError, match="came compressed"):
            self.client().question("a")

    def test_requests_that_are_refused_at_once_are_all_sent_again(self, keep: Any) -> None:
        together = threading.Barrier(4)

        def picky(body: Any) -> Reply:
            if "encoding_format" not in body:
                return embeddings(body)
            # All four are under way before the first is answered.
            together.wait(10)
            return refused("Extra inputs are not permitted: encoding_format")

        self.wire.on("/embeddings", picky)
        client = keep(Embeddings(endpoint(self.wire, "EMBEDDING"), "", "", 1, 4))
        assert sum(len(batch.vectors) for batch in client.passages(["a", "b", "c", "d"])) == 4

    def test_a_text_that_is_refused_alone_stops_nothing_once_others_were_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rag_app.endpoints.http.RETRIES", 0)
        self.wire.on("/embeddings", lambda body: refused("odd", 500) if "bad" in body["input"] else embeddings(body))
        first, last = self.client(2).passages(["a", "b", "bad"])
        assert first.refused == {} and list(last.refused) == [0]
        with pytest.raises(EndpointError, match="odd"):
            list(self.client(2).passages(["bad"]))

    def test_a_batch_too_large_below_a_size_that_worked_is_halved_alone(self) -> None:
        self.wire.on(
            "/embeddings",
            lambda body: refused("too many tokens in batch") if body["input"].count("x") > 2 else embeddings(body),
        )
        client = self.client(4)
        assert [len(batch.vectors) for batch in client.passages(["a"] * 4 + ["x"] * 4)] == [4, 4] and not client.limit.learned

    def test_an_index_that_is_left_out_is_its_place(self) -> None:
        def gemini(body: Any) -> Reply:
            rows = sorted(embeddings(body).body["data"], key=lambda row: row["index"])
            return Reply({"data": [{k: v for k, v in row.items() if k != "index" or v} for row in rows]})

        (plain,) = self.client().passages(["a b", "c d", "e f"])
        self.wire.on("/embeddings", gemini)
        (found,) = self.client().passages(["a b", "c d", "e f"])
        assert (found.vectors == plain.vectors).all()

    @pytest.mark.parametrize(
        "reply",
        [
            refused("failed to encode response: json: unsupported value: NaN", 500),
            refused("is too large to process. increase the physical batch size (current batch size: 512)", 500),
            refused("something about this text", 500),
            refused("bad", 400),
        ],
        ids=["NaN", "llama.cpp", "500", "400"],
    )
    @pytest.mark.parametrize("bad", [0, 3, 6])
    def test_one_bad_text_stops_nothing(self, reply: Reply, bad: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rag_app.endpoints.http.RETRIES", 0)
        self.wire.on("/embeddings", lambda body: reply if "bad" in body["input"] else embeddings(body))
        texts = [f"text {i}" for i in range(7)]
        texts[bad] = "bad"
        (found,) = self.client().passages(texts)
        assert list(found.refused) == [bad] and found.vectors.shape[0] == 7
        assert found.vectors.any(axis=1).tolist() == [i != bad for i in range(7)]

    def test_a_text_that_comes_back_as_nan_is_refused_alone(self) -> None:
        def nan(body: Any) -> Reply:
            rows = embeddings(body).body["data"]
            for row in rows:
                if body["input"][row["index"]] == "bad":
                    row["embedding"][0] = float("nan")
            return Reply({"data": rows})

        self.wire.on("/embeddings", nan)
        (found,) = self.client().passages(["a", "bad", "c"])
        assert list(found.refused) == [1]

    def test_a_server_that_refuses_whatever_is_sent_is_told_after_a_few_requests(self) -> None:
        self.wire.on("/embeddings", lambda body: refused("bad"))
        with pytest.raises(EndpointError, match="bad"):
            list(self.client(32).passages([f"text {i}" for i in range(32)]))
        assert len(self.wire.sent) <= 11

    def test_an_overloaded_server_is_not_asked_in_smaller_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rag_app.endpoints.http.RETRIES", 0)
        self.wire.on("/embeddings", lambda body: refused("Too many concurrent requests", 503))
        client = self.client()
        with pytest.raises(EndpointError, match="Too many concurrent"):
            list(client.passages(["a"] * 8))
        assert len(self.wire.sent) == 1 and client.limit.value == 8

    def test_a_rate_limit_is_waited_out_where_nobody_waits(self) -> None:
        replies = iter([Reply(b"", 429, headers={"retry-after": "44"}), refused("TPM limit reached", 429)])
        self.wire.on("/embeddings", lambda body: next(replies, None) or embeddings(body))
        client, slept, told = self.client(), [], []
        client.connection.sleep = slept.append
        assert len(list(client.passages(["a"], lambda seconds, reason: told.append((seconds, reason))))) == 1
        assert round(told[0][0]) == 44 and "429" in told[0][1]
        assert len(self.wire.sent) == 3
        # A person at a question hears at once.
        self.wire.on("/embeddings", lambda body: Reply(b"", 429, headers={"retry-after": "44"}))
        with pytest.raises(EndpointError, match="retry after 44 s"):
            client.question("a")

    def test_a_redirect_on_the_same_server_is_followed_with_the_key(self) -> None:
        self.wire.on("/embeddings", lambda body: Reply(b"", 308, headers={"location": "/v2/embed"}))
        self.wire.on("/embed", embeddings)
        assert self.client().question("a")[0].any() and self.wire.sent[-1].headers["authorization"] == "Bearer sk-secret"


def numbers(texts: list[str]) -> list[list[float]]:
    return [vector(text) for text in texts]


class TestDialectsOfEmbeddings:
    """Each server's request and reply, as its documentation has them."""

    @pytest.mark.parametrize(
        ("path", "question", "passages", "answer"),
        [
            (
                "/v2/embed",
                {"model": "m", "texts": ["q"], "input_type": "search_query", "embedding_types": ["float"]},
                {"model": "m", "texts": ["a", "b"], "input_type": "search_document", "embedding_types": ["float"]},
                lambda body: {
                    "embeddings": {"float": numbers(body["texts"])},
                    "meta": {"billed_units": {"input_tokens": 5}},
                },
            ),
            (
                "/api/v1/services/embeddings/text-embedding/text-embedding",
                {"model": "m", "input": {"texts": ["q"]}, "parameters": {"text_type": "query"}},
                {"model": "m", "input": {"texts": ["a", "b"]}, "parameters": {"text_type": "document"}},
                lambda body: {
                    "output": {
                        "embeddings": [
                            {"text_index": i, "embedding": vector(text)} for i, text in enumerate(body["input"]["texts"])
                        ][::-1]
                    },
                    "usage": {"total_tokens": 5},
                },
            ),
            (
                "/embed",
                {"inputs": ["q"]},
                {"inputs": ["a", "b"]},
                lambda body: numbers(body["inputs"]),
            ),
            (
                "/api/embed",
                {"model": "m", "input": ["q"], "truncate": False},
                {"model": "m", "input": ["a", "b"], "truncate": False},
                lambda body: {"embeddings": numbers(body["input"]), "prompt_eval_count": 5},
            ),
            (
                "/v1beta/models/m:batchEmbedContents",
                {"requests": [{"model": "models/m", "content": {"parts": [{"text": "q"}]}, "taskType": "RETRIEVAL_QUERY"}]},
                {
                    "requests": [
                        {"model": "models/m", "content": {"parts": [{"text": text}]}, "taskType": "RETRIEVAL_DOCUMENT"}
                        for text in ("a", "b")
                    ]
                },
                lambda body: {
                    "embeddings": [{"values": vector(request["content"]["parts"][0]["text"])} for request in body["requests"]]
                },
            ),
        ],
        ids=["Cohere v2", "DashScope", "TEI", "Ollama", "Gemini"],
    )
    def test_its_request_is_sent_and_its_reply_is_read(
        self, wire: Wire, keep: Any, path: str, question: Any, passages: Any, answer: Callable[[Any], Any]
    ) -> None:
        wire.on(path, lambda body: Reply(answer(body)))
        settings = load_settings(
            embedding_url=wire.url.removesuffix("/v1") + path, embedding_model="m", embedding_api_key=SecretStr("sk-secret")
        )
        client = keep(open_embeddings(settings))
        asked_for, tokens = client.question("q")
        (found,) = client.passages(["a", "b"])
        assert [sent.body for sent in wire.sent] == [question, passages]
        assert (asked_for == np.array(vector("q"), dtype=np.float32)).all()
        assert (found.vectors == np.array(numbers(["a", "b"]), dtype=np.float32)).all()
        assert tokens == (None if path in ("/embed", "/v1beta/models/m:batchEmbedContents") else 5)
        key = "x-goog-api-key" if "Embed" in path else "authorization"
        assert wire.sent[0].headers[key].removeprefix("Bearer ") == "sk-secret"

    def test_questions_and_passages_are_called_what_the_setting_says(self, wire: Wire, keep: Any) -> None:
        settings = load_settings(base_url=wire.url, embedding_model="m", embedding_input_types="query, passage")
        client = keep(open_embeddings(settings))
        client.question("q")
        list(client.passages(["a"]))
        assert [sent.body["input_type"] for sent in wire.sent] == ["query", "passage"]
        assert client.recipe["passage_input_type"] == "passage"


class TestLearned:
    def test_a_limit_is_forgotten_and_never_below_what_worked(self) -> None:
        now = [0.0]
        limit = Limit(32, lambda: now[0])
        assert limit.refused(32) and limit.value == 16
        limit.worked(16)
        assert not limit.refused(16) and limit.value == 16
        now[0] += FORGET_AFTER + 1
        assert limit.value == 32 and not limit.learned

    def test_a_server_that_takes_less_than_before_is_learned_again(self) -> None:
        limit = Limit(32)
        limit.worked(30)
        assert not limit.refused(30)
        assert limit.refused(30) and limit.value == 15
        now = [0.0]
        limit = Limit(32, clock=lambda: now[0])
        limit.worked(30)
        now[0] += FORGET_AFTER + 1
        assert limit.refused(30) and limit.value == 15

    def test_one_item_is_never_too_many(self) -> None:
        assert not Limit(4).refused(1)

    def test_the_breaker_is_one_for_each_endpoint(self, wire: Wire, settings: Settings, keep: Any) -> None:
        first, second = (keep(Reranker(endpoint(wire, "RERANK", "/rerank"), settings)) for _ in range(2))
        assert first.breaker is second.breaker
        other = keep(Reranker(replace(endpoint(wire, "RERANK", "/rerank"), model="other"), settings))
        assert other.breaker is not first.breaker and isinstance(other.breaker, Breaker)


def test_an_overloaded_reranker_is_asked_again_and_nothing_is_learned(
    wire: Wire, settings: Settings, keep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag_app.endpoints.http.RETRIES", 1)
    wire.on("/rerank", lambda body: refused("Too many concurrent requests", 503))
    client = keep(Reranker(endpoint(wire, "RERANK", "/rerank"), settings, Breaker()))
    _, receipt = client.rerank("q", candidates(*(f"text {i}" for i in range(30))))
    assert receipt.status == "fallback" and wire.count("/rerank") == 2 and not client.limit.learned


def test_a_key_is_masked_before_a_message_is_cut(wire: Wire, keep: Any) -> None:
    wire.on("/embeddings", lambda body: refused("x" * 294 + " sk-secret and sk-proj-Abcdefghijklmnop", 400))
    with pytest.raises(EndpointError) as caught:
        keep(Embeddings(endpoint(wire, "EMBEDDING"), "", "", 1, 1)).question("a")
    assert "sk-" not in str(caught.value) and "…" in str(caught.value)
    # The name of a model looks like some keys.
    wire.on("/embeddings", lambda body: refused("no jina-embeddings-v3-base and no api_version_unsupported", 400))
    with pytest.raises(EndpointError, match="jina-embeddings-v3-base and no api_version_unsupported"):
        keep(Embeddings(endpoint(wire, "EMBEDDING"), "", "", 1, 1)).question("a")


class TestNetwork:
    @pytest.fixture(autouse=True)
    def _clean(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", *network.TRUST):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        self.set = monkeypatch.setenv

    @pytest.mark.parametrize(
        "proxy", ["socks5://127.0.0.1:7890", "socks5h://127.0.0.1:7890", "http://127.0.0.1:7890", "127.0.0.1:7890"]
    )
    def test_a_proxy_of_the_environment_is_taken_but_not_for_loopback(self, proxy: str) -> None:
        self.set("ALL_PROXY", proxy)
        found = network.proxy("https://api.example.com/v1")
        assert found is not None and found.endswith(proxy)
        httpx.Client(proxy=found).close()
        for url in ("http://127.0.0.1:80/v1", "http://[::1]/v1", "http://localhost:8000", "http://127.9.9.9"):
            assert network.proxy(url) is None

    def test_networks_of_no_proxy_are_understood(self) -> None:
        self.set("ALL_PROXY", "http://127.0.0.1:7890")
        self.set("NO_PROXY", "fd00::/8, 10.0.0.0/8,.corp.example")
        assert network.proxy("http://[fd00::1]/v1") is network.proxy("http://10.1.2.3/v1") is None
        assert network.proxy("http://llm.corp.example/v1") is None
        assert network.proxy("http://11.1.2.3/v1") == "http://127.0.0.1:7890"

    @pytest.mark.parametrize("proxy", ["foo://bob:secret@127.0.0.1:1", "socks5://:1", "http://h:99999"])
    def test_a_proxy_that_cannot_be_used_is_one_error(self, proxy: str) -> None:
        self.set("ALL_PROXY", proxy)
        with pytest.raises(SettingsError, match="ALL_PROXY") as caught:
            network.proxy("https://api.example.com/v1")
        assert "secret" not in str(caught.value)

    def test_a_certificate_file_that_is_missing_is_one_error(self, tmp_path: Path) -> None:
        self.set("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
        with pytest.raises(SettingsError, match=r"SSL_CERT_FILE=.*gone\.pem cannot be read"):
            network.options("https://api.example.com/v1")
        # Who has no certificates to look at, such as the built-in models, goes on.
        network.options("http://127.0.0.1:8000/v1")

    def test_several_folders_of_certificates_are_taken(self, tmp_path: Path) -> None:
        self.set("SSL_CERT_DIR", f"{tmp_path}{os.pathsep}{tmp_path}")
        network.options("https://api.example.com/v1")

    def test_a_private_authority_is_trusted_by_every_client_once_it_is_named(
        self, certificate: tuple[Path, Path], keep: Any
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                reply = chat("So [1].") if "messages" in body else embeddings(body)
                self.send_response(200)
                self.send_header("content-type", reply.kind)
                self.end_headers()
                self.wfile.write(reply.content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = load_settings(
            base_url=f"https://127.0.0.1:{server.server_port}/v1", embedding_model="m", rerank_model="m", chat_model="m"
        )
        try:
            with pytest.raises(EndpointError) as caught:
                keep(Embeddings(settings.endpoint("EMBEDDING"), "", "", 1, 1)).question("a")
            assert caught.value.kind == "trust" and "SSL_CERT_FILE" in caught.value.remedy
            self.set("REQUESTS_CA_BUNDLE", str(certificate[0]))
            assert keep(Embeddings(settings.endpoint("EMBEDDING"), "", "", 1, 1)).question("a")[0].any()
            assert "".join(keep(Chat(settings.endpoint("CHAT"))).answer(MESSAGES, candidates("text"))) == "So [1]."
        finally:
            server.shutdown()
            server.server_close()


CODE = (
    "Use `values[0]`, ``a[9]`` for [2]:\n\n```python\ny = matrix[1][2]\nz = [10, 20]\n```\nSo [1].\n~~~\n[7]\n~~~\n"
    "A lone ` tick [9].\n\nEnd."
)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 400])
def test_code_is_left_as_it_is_however_it_streams(size: int) -> None:
    markers = Markers(2)
    pieces = [CODE[i : i + size] for i in range(0, len(CODE), size)]
    assert "".join(markers.check(pieces)) == CODE.replace(" [9].", ".")
    assert (markers.cited, markers.dropped) == ([2, 1], [9])


@pytest.mark.parametrize(
    "said", ["[2]", "【2】", "【2†source】", "[citation:2]", "[^2]", "[Passage 2]", "[Document 2]", "[[2]]", "[ 2 ]"]
)
def test_the_ways_in_which_models_cite_are_read(said: str) -> None:
    for size in (1, 100):
        markers = Markers(2)
        text = f"So it is {said}."
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        assert "".join(markers.check(pieces)) == "So it is [2]." and markers.cited == [2]


def test_a_connection_waits_for_all_who_share_it(wire: Wire, keep: Any) -> None:
    slept: list[float] = []
    connection = keep(Connection(endpoint(wire, "EMBEDDING"), f"{wire.url}/embeddings", slept.append))
    replies = iter([Reply(b"", 429, headers={"retry-after": "5"})])
    wire.on("/embeddings", lambda body: next(replies, None) or embeddings(body))
    body = {"model": "m", "input": ["a"]}
    connection.post(body, time.monotonic() + 5, on_wait=lambda seconds, reason: None)
    connection.post(body, time.monotonic() + 5, on_wait=lambda seconds, reason: None)
    # What was not slept in truth is still to be waited for by the next.
    assert all(4 < seconds <= 5 for seconds in slept[:2]) and len(slept) == 2


class Limited:
    """A server, in its own time, that takes so many requests in a window of so many seconds."""

    def __init__(self, limit: int, window: float, says_when: bool) -> None:
        self.limit, self.window, self.says_when = limit, window, says_when
        self.taken: list[float] = []

    def ask(self, now: float) -> float | None:
        """Return None if it takes a request, and otherwise for how long it does not."""
        recent = [t for t in self.taken if t > now - self.window]
        if len(recent) < self.limit:
            self.taken.append(now)
            return None
        return recent[0] + self.window - now


@pytest.mark.parametrize("says_when", [True, False], ids=["with Retry-After", "without"])
@pytest.mark.parametrize(("limit", "window"), [(60, 60), (300, 60), (10, 60), (10, 1), (3, 1)])
def test_a_rate_limit_is_learned_and_kept_to(limit: int, window: float, says_when: bool) -> None:
    now = 0.0
    pace, server, last_refusals = Pace(lambda: now), Limited(limit, window, says_when), 0
    while now < 600:
        now = sent = pace.start(1000)
        wait = server.ask(now)
        now += 0.05
        if wait is None:
            pace.took(1000, sent, {})
        else:
            pace.refused(sent, wait if says_when else None)
            last_refusals += now > 120
    assert last_refusals <= 5
    # It uses what there is, or most of it: what a server does not say has to be found by waiting.
    assert len(server.taken) >= (0.75 if says_when else 0.45) * min(limit * 600 / window, 600 / 0.05)


def test_a_server_that_says_that_nothing_is_left_is_not_run_into(wire: Wire, keep: Any) -> None:
    slept: list[float] = []
    connection = keep(Connection(endpoint(wire, "EMBEDDING"), f"{wire.url}/embeddings", slept.append))
    left = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6.5s"}
    body, told = {"model": "m", "input": ["a"]}, []
    wire.on("/embeddings", lambda body: Reply(embeddings(body).body, headers=left))
    for _ in range(2):
        connection.post(body, time.monotonic() + 5, on_wait=lambda seconds, reason: told.append(reason))
    assert [round(seconds) for seconds in slept] == [6] and told == ["to stay below its rate limit"]
    # A person at a question is not held back by it.
    connection.post(body, time.monotonic() + 5)
    assert len(slept) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 60),
        ({"x-ratelimit-remaining-tokens": "300", "x-ratelimit-reset-tokens": "1m2.5s"}, 60),
        ({"x-ratelimit-remaining-tokens": "400", "x-ratelimit-reset-tokens": "1m"}, 0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "12"}, 12),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "soon"}, 0),
        ({"ratelimit-remaining": "none"}, 0),
        ({}, 0),
    ],
)
def test_what_headers_say_of_a_limit(headers: dict[str, str], seconds: float) -> None:
    assert seconds_until_more(headers, 1000) == seconds


def test_while_a_model_thinks_it_is_told_and_its_time_is_not_the_readers(wire: Wire, keep: Any) -> None:
    thought = {"choices": [{"delta": {"reasoning_content": "hm"}}]}
    for deltas in ([thought, thought, "So [1]."], ["<think>hm", " hm", "</think>So [1]."]):
        wire.on("/chat/completions", lambda body, deltas=deltas: chat(*deltas))
        answering = keep(Chat(endpoint(wire, "CHAT"))).answer(MESSAGES, candidates("text"))
        pieces = []
        for piece in answering:
            pieces.append(piece)
            time.sleep(0.2)
        assert pieces[:2] == ["", ""] and "".join(pieces) == "So [1]."
        assert answering.first_token_ms is not None and answering.first_token_ms <= answering.ms < 200 * len(pieces)


def test_a_rerank_that_is_skipped_took_no_time(pipeline: Pipeline) -> None:
    heard: dict[str, float] = {}
    search = pipeline.search("dinner", rerank=False, on_stage=heard.__setitem__)
    assert search.ms.rerank == heard["rerank"] == 0


def refuses(*fields: str) -> Callable[[Any], Reply | None]:
    """Return what refuses a request with one of these fields, by name."""
    return lambda body: next((refused(f"Extra inputs are not permitted: {field}") for field in fields if field in body), None)


def at_most(n: int, message: str) -> Callable[[Any], Reply | None]:
    return lambda body: refused(message) if isinstance(body.get("input"), list) and len(body["input"]) > n else None


def no_float(body: Any) -> Reply | None:
    message = "Value 'float' supplied for argument 'encoding_format' is not valid -- accepted values are 'base64'"
    return refused(message) if body.get("encoding_format") == "float" else None


# By provider: what its servers refuse, as their documentation or bug reports have it.
REFUSES: dict[str, Callable[[Any], Reply | None]] = {
    "DashScope, compatible mode": at_most(10, "batch size is invalid, it should not be larger than 10.: input.contents"),
    "Zhipu": at_most(64, "input数组最大不得超过64条"),
    "OpenAI": refuses("temperature"),
    "Voyage": no_float,
    "Mistral": refuses("stream_options", "encoding_format"),
    "Bedrock through LiteLLM": refuses("encoding_format"),
    "Databricks": refuses("stream_options"),
    "TEI": lambda body: refused("batch size > maximum allowed batch size 32", 413) if len(body.get("texts", ())) > 32 else None,
}
# By the end of the path of a call; other paths are not there.
CALLS = {
    "SiliconFlow": {"/v1/embeddings", "/v1/rerank", "/v1/chat/completions"},
    "DashScope, compatible mode": {
        "/compatible-mode/v1/embeddings",
        "/api/v1/services/rerank/text-rerank/text-rerank",
        "/compatible-mode/v1/chat/completions",
    },
    "DashScope, its own embeddings": {"/api/v1/services/embeddings/text-embedding/text-embedding"},
    "Zhipu": {"/api/paas/v4/embeddings", "/api/paas/v4/rerank", "/api/paas/v4/chat/completions"},
    "OpenAI": {"/v1/embeddings", "/v1/chat/completions"},
    "Azure OpenAI, v1": {"/openai/v1/embeddings", "/openai/v1/chat/completions"},
    "Azure OpenAI, classic": {
        "/openai/deployments/text-embedding-3-small/embeddings?api-version=2024-10-21",
        "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
    },
    "Gemini": {"/v1beta/openai/embeddings", "/v1beta/openai/chat/completions"},
    "Cohere": {"/v2/embed", "/v2/rerank"},
    "Databricks": {"/serving-endpoints/embeddings", "/serving-endpoints/chat/completions"},
    "OpenRouter": {"/api/v1/chat/completions"},
    "Ollama": {"/api/embed", "/v1/chat/completions"},
    "TEI": {"/embed", "/rerank"},
}


def providers() -> dict[str, str]:
    """Return the blocks of settings of docs/gateway.md under the heading "Providers", by provider."""
    section = (ROOT / "docs" / "gateway.md").read_text("utf-8").partition("## Providers")[2].partition("\n## ")[0]
    parts = section.split("```")
    return {
        parts[i - 1].strip().splitlines()[-1].partition(":")[0]: parts[i].partition("\n")[2] for i in range(1, len(parts), 2)
    }


@pytest.mark.parametrize("provider", providers())
def test_the_profile_of_each_provider_works(provider: str, wire: Wire, keep: Any) -> None:
    here = wire.url.removesuffix("/v1")
    Path(".env").write_text(re.sub(r"https?://[^/\s]+", here, providers()[provider]).replace("…", "secret"), "utf-8")
    settings = load_settings()
    refusal = REFUSES.get(provider, lambda body: None)

    def served(answer: Callable[[Any], Reply]) -> Callable[[Any], Reply]:
        return lambda body: refusal(body) or answer(body)

    def embedded(body: Any) -> Reply:
        texts = body.get("input") or body.get("texts") or body.get("inputs")
        rows = numbers(texts["texts"] if isinstance(texts, dict) else texts)
        if provider == "TEI":
            return Reply(rows)
        if provider == "Cohere":
            return Reply({"embeddings": {"float": rows}})
        if provider == "Ollama":
            return Reply({"embeddings": rows})
        # Gemini leaves an index of 0 out.
        return Reply({"data": [{"embedding": row, **({"index": i} if i else {})} for i, row in enumerate(rows)]})

    def reranked(body: Any) -> Reply:
        n = len(body.get("documents") or body.get("texts") or body["input"]["documents"])
        rows = [{"index": i, "relevance_score": float(i), "score": float(i)} for i in range(n)]
        return Reply(rows if provider == "TEI" else {"data": rows} if provider == "Voyage" else {"results": rows})

    # Nothing is served but what is named.
    wire.answers.clear()
    for ending in CALLS.get(provider, {"/v1/embeddings", "/v1/rerank", "/v1/chat/completions"}):
        answers = {"embed": embedded, "rerank": reranked, "chat": lambda body: chat("So [1].")}
        kind = "rerank" if "rerank" in ending else "chat" if "chat" in ending else "embed"
        wire.on(ending, served(answers[kind]))
    asked_of = {stage: not settings.endpoint(stage).builtin for stage in ("EMBEDDING", "RERANK", "CHAT")}
    assert any(asked_of.values())
    if asked_of["EMBEDDING"]:
        client = keep(open_embeddings(settings))
        client.question("q")
        assert sum(len(batch.vectors) for batch in client.passages([f"text {i}" for i in range(70)])) == 70
    if asked_of["RERANK"]:
        _, receipt = keep(open_reranker(settings)).rerank("q", candidates(*(f"text {i}" for i in range(40))))
        assert receipt.status == "applied" and receipt.scored == 40
    if asked_of["CHAT"]:
        assert "".join(keep(open_chat(settings)).answer(MESSAGES, candidates("text"))) == "So [1]."
    keys = {sent.headers.get("authorization") or sent.headers.get("api-key") for sent in wire.sent}
    assert all("secret" in key for key in keys if key) and (keys != {None} or "API_KEY" not in providers()[provider])
