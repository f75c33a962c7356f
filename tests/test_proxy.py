"""A proxy in the environment: it stands between the program and others, never between a machine and itself."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rag_app import prompt
from rag_app.endpoints import openai_client
from rag_app.endpoints.opening import connect, open_chat, open_embeddings, open_reranker
from rag_app.settings import Settings
from rag_app.store.opening import collections, open_store
from tests.helpers import candidates
from tests.wire import Reply, Wire, serve


@pytest.fixture(autouse=True)
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """A proxy that every program on this machine is told to use for everything."""
    with serve() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
            monkeypatch.setenv(name.lower(), proxy.url.removesuffix("/v1"))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield proxy


def call_all(settings: Settings) -> None:
    """Make one call of each kind."""
    with (
        closing(open_embeddings(settings)) as embeddings,
        closing(open_reranker(settings)) as reranker,
        closing(open_chat(settings)) as chat,
    ):
        embeddings.question("where?")
        assert reranker.rerank("where?", candidates("here", "there"))[1].status == "applied"
        passages = candidates("here")
        assert "".join(chat.answer(prompt.messages("where?", passages), passages)) == "It is so [1]."
    openai_client.models(connect(settings, "CHAT"))


CALLS = ["/embeddings", "/rerank", "/chat/completions", "/models"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_endpoints_on_this_machine_are_called_without_it(settings: Settings, wire: Wire, proxy: Wire, host: str) -> None:
    wire.on("/models", lambda body: Reply({"data": [{"id": "emb"}]}))
    call_all(settings.model_copy(update={"base_url": wire.url.replace("127.0.0.1", host)}))
    assert [sent.path for sent in wire.sent] == [f"/v1{call}" for call in CALLS]
    assert proxy.sent == []


def test_endpoints_elsewhere_are_called_through_it(settings: Settings, proxy: Wire) -> None:
    proxy.on("/models", lambda body: Reply({"data": [{"id": "emb"}]}))
    call_all(settings.model_copy(update={"base_url": "http://gateway.example/v1"}))
    assert [sent.path for sent in proxy.sent] == [f"http://gateway.example/v1{call}" for call in CALLS]


def test_a_chroma_server_on_this_machine_is_called_without_it(settings: Settings, chroma_server: str, proxy: Wire) -> None:
    settings = settings.model_copy(update={"chroma_url": chroma_server, "collection": "behind-a-proxy"})
    store = open_store(settings, create=True)
    store.create({"embedding_model": "emb"}, dimension=64)
    store.close()
    assert "behind-a-proxy" in collections(settings)
    assert proxy.sent == []


def test_the_embedded_chroma_calls_nobody(settings: Settings, proxy: Wire, tmp_path: Path) -> None:
    store = open_store(settings.model_copy(update={"chroma_path": tmp_path / "chroma"}), create=True)
    store.create({"embedding_model": "emb"}, dimension=64)
    store.close()
    assert proxy.sent == []
