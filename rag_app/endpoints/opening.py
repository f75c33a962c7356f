"""The clients that the settings mean, each connected to its endpoint."""

from dataclasses import replace

from rag_app.builtin import require_builtin
from rag_app.endpoints.breaker import Breaker
from rag_app.endpoints.chat import Chat
from rag_app.endpoints.embeddings import Embeddings
from rag_app.endpoints.endpoint import Endpoint, Stage
from rag_app.endpoints.rerank import Reranker
from rag_app.settings import Settings


def open_embeddings(settings: Settings) -> Embeddings:
    """Return the client of the embeddings endpoint."""
    return Embeddings(
        connect(settings, "EMBEDDING"),
        settings.question_prefix,
        settings.passage_prefix,
        settings.embedding_batch_size,
        settings.embedding_concurrency,
        settings.input_types,
    )


def open_reranker(settings: Settings, breaker: Breaker | None = None) -> Reranker:
    """Return the client of the rerank endpoint, with the process's breaker of it, or one of its own."""
    return Reranker(connect(settings, "RERANK"), settings, breaker)


def open_chat(settings: Settings) -> Chat:
    """Return the client of the chat endpoint."""
    return Chat(connect(settings, "CHAT"))


def connect(settings: Settings, stage: Stage) -> Endpoint:
    """Return the endpoint of a stage; a built-in one gets the address of this process's own gateway, started if need be."""
    endpoint = settings.endpoint(stage)
    if not endpoint.builtin:
        return endpoint
    # Only here, so that nobody with endpoints of their own loads or needs the local models.
    require_builtin()
    from rag_app.builtin import server

    base = server.start(settings.builtin_path)
    return replace(endpoint, url=f"{base}/rerank" if stage == "RERANK" else base)
