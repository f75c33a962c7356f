"""Servers and gateways that people run, as they are: each is skipped where its package is missing.

`pip install xllamacpp gguf` brings llama.cpp's server, `litellm` on the path (for instance `uv tool install 'litellm[proxy]'`)
LiteLLM's proxy.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_app import builtin, doctor, prompt
from rag_app.builtin import server
from rag_app.endpoints.chat import Chat
from rag_app.endpoints.embeddings import Embeddings
from rag_app.endpoints.failures import EndpointError
from rag_app.endpoints.opening import open_reranker
from rag_app.pipeline import Pipeline
from rag_app.settings import Settings, load_settings
from tests.helpers import ROOT, candidates, ingest_into
from tests.listening import free_port, listening

KEY = "sk-of-the-proxy"


class TestLlamaCpp:
    """llama.cpp's server, by xllamacpp, with tiny models of random weights."""

    pytestmark = pytest.mark.skipif(
        not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("gguf")),
        reason="the packages xllamacpp and gguf are not here",
    )

    @pytest.fixture
    def settings(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
        kind, port = request.param, free_port()
        command = [sys.executable, "-m", "tests.llama_cpp", kind, str(tmp_path), str(port)]
        monkeypatch.setenv(f"RAG_{kind.upper()}_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv(f"RAG_{kind.upper()}_MODEL", "tiny")
        with listening(command, port, cwd=ROOT, stdin=subprocess.PIPE):
            yield load_settings()

    @pytest.mark.parametrize("settings", ["embedding"], indirect=True)
    def test_a_text_beyond_its_batch_is_named_and_the_others_are_embedded(self, settings: Settings, keep: Any) -> None:
        client = keep(Embeddings(settings.endpoint("EMBEDDING"), "", "", 8, 1))
        (batch,) = client.passages(["hotel", "dinner", "long " * 200, "train"])
        assert list(batch.refused) == [2] and "too large to process" in batch.refused[2]
        assert batch.vectors[[0, 1, 3]].any(axis=1).all() and client.limit.value == 8
        with pytest.raises(EndpointError) as caught:
            client.question("long " * 200)
        assert caught.value.kind == "too_long" and caught.value.remedy == "shorten the question"

    @pytest.mark.parametrize("settings", ["rerank"], indirect=True)
    def test_documents_beyond_its_batch_are_cut_until_they_fit(self, settings: Settings, keep: Any) -> None:
        ranked, receipt = keep(open_reranker(settings)).rerank("dinner", candidates("dinner", "long " * 200, "hotel"))
        assert (receipt.status, receipt.scored, receipt.truncated) == ("applied", 3, 1)
        assert all(candidate.rerank for candidate in ranked)
        checked = {finding.check: finding.status for finding in doctor.examine(settings) if finding.part == "rerank"}
        assert checked["answers"] == checked["shape"] == checked["limits"] == "ok"

    @pytest.mark.parametrize("settings", ["chat"], indirect=True)
    def test_an_answer_streams_with_its_tokens_from_as_many_passages_as_fit(
        self, settings: Settings, keep: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAG_CHAT_PARAMETERS", '{"max_tokens": 40, "ignore_eos": true}')
        chat = keep(Chat(load_settings().endpoint("CHAT")))
        passages = candidates(*["word " * 30] * 4)
        answering = chat.answer(prompt.messages("dinner?", passages), passages, prompt.shorter("dinner?", passages))
        # Random weights write random bytes: what comes is text all the same.
        assert "".join(answering).encode()
        assert answering.finish == "length" and answering.answer and answering.answer.notes
        assert 0 < answering.sent < 4 and all(answering.tokens)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port, gateway = tmp_path_factory.mktemp("litellm"), free_port(), server.start(Path("data/builtin"))
    behind = {
        "emb": f"openai/{builtin.EMBEDDING_MODEL}, api_base: '{gateway}'",
        "rr": f"hosted_vllm/{builtin.RERANK_MODEL}, api_base: '{gateway}'",
        "rr-cohere": f"cohere/{builtin.RERANK_MODEL}, api_base: '{gateway.removesuffix('/v1')}'",
        "chat": f"openai/{builtin.CHAT_MODEL}, api_base: '{gateway}'",
    }
    models = "".join(
        f"  - {{model_name: {name}, litellm_params: {{model: {model}, api_key: none}}}}\n" for name, model in behind.items()
    )
    config = folder / "config.yaml"
    config.write_text(f"model_list:\n{models}general_settings: {{master_key: {KEY}}}\n")
    command = ["litellm", "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
    with listening(command, port, cwd=folder, env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}):
        yield f"http://127.0.0.1:{port}/v1"


@pytest.mark.skipif(not shutil.which("litellm"), reason="LiteLLM's proxy is not here: no command litellm")
class TestLiteLLM:
    """LiteLLM's proxy before the built-in gateway."""

    @pytest.fixture
    def proxied(self, url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
        names = {"BASE_URL": url, "API_KEY": KEY, "EMBEDDING_MODEL": "emb", "RERANK_MODEL": "rr", "CHAT_MODEL": "chat"}
        for name, value in names.items():
            monkeypatch.setenv(f"RAG_{name}", value)
        return load_settings()

    @pytest.mark.parametrize("reranker", ["rr", "rr-cohere"])
    def test_a_question_goes_all_the_way(self, proxied: Settings, corpus: Path, reranker: str, monkeypatch: Any) -> None:
        monkeypatch.setenv("RAG_RERANK_MODEL", reranker)
        settings = load_settings()
        ingest_into(settings, corpus)
        with Pipeline.open(settings) as pipeline:
            ask = pipeline.ask("What does dinner in France cost?")
        assert ask.rerank.status == "applied" and ask.reranked[0].document == "policies/travel.md"
        assert "32 EUR" in ask.answer.text and ask.answer.citations and ask.tokens.chat_prompt and ask.tokens.embed

    def test_the_doctor_finds_it_healthy_and_a_wrong_key_or_model_by_name(
        self, proxied: Settings, corpus: Path, monkeypatch: Any
    ) -> None:
        ingest_into(proxied, corpus)
        assert {finding.status for finding in doctor.examine(proxied)} == {"ok"}
        monkeypatch.setenv("RAG_API_KEY", "sk-wrong")
        failed = [finding for finding in doctor.examine(load_settings()) if finding.status == "fail"]
        assert {finding.check for finding in failed} == {"key"} and all("API_KEY" in f.remedy for f in failed)
        monkeypatch.setenv("RAG_API_KEY", KEY)
        monkeypatch.setenv("RAG_CHAT_MODEL", "nobody")
        failed = [finding for finding in doctor.examine(load_settings()) if finding.status == "fail"]
        assert [(finding.part, finding.check) for finding in failed] == [("chat", "model")] and "emb, rr" in failed[0].remedy
