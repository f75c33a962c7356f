"""The built-in models behind the three endpoints of a gateway: /v1/embeddings, /v1/rerank, /v1/chat/completions."""

import functools
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rag_app import prompt
from rag_app.builtin import CHAT_MODEL, EMBEDDING_MODEL, RERANK_MODEL, extractive
from rag_app.builtin.models import CrossEncoder, Embedder
from rag_app.errors import RagError

log = logging.getLogger(__name__)
Model = TypeVar("Model")
_loading = threading.Lock()


class BadRequestError(Exception):
    """A request that the gateway cannot serve; becomes an OpenAI-shaped error."""

    def __init__(self, message: str, status: int = 400, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@functools.cache
def _embedder() -> Embedder:
    return Embedder()


@functools.cache
def _cross_encoder() -> CrossEncoder:
    return CrossEncoder()


def _loaded(load: Callable[[], Model]) -> Model:
    # Two first requests at once must not load it twice.
    with _loading:
        return load()


def _check_model(body: dict[str, Any], served: str) -> None:
    if body.get("model") != served:
        raise BadRequestError(f"model {body.get('model')!r} is not served here, {served} is", 404, "model_not_found")


def _texts(value: Any, field: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadRequestError(f"{field} must be a text or a list of texts, not empty")
    return texts


def embeddings(body: dict[str, Any]) -> Response:
    """Embed `input`, a text or a list of texts."""
    _check_model(body, EMBEDDING_MODEL)
    texts = _texts(body.get("input"), "input")
    vectors, tokens = _loaded(_embedder).embed(texts)
    rows = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors.tolist())]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "model": EMBEDDING_MODEL, "data": rows, "usage": usage})


def rerank(body: dict[str, Any]) -> Response:
    """Score `documents` against `query`; scores are raw logits, results sorted, at most `top_n` of them."""
    _check_model(body, RERANK_MODEL)
    query = body.get("query")
    if not isinstance(query, str) or not query.strip():
        raise BadRequestError("query must be a text, not empty")
    documents = _texts(body.get("documents"), "documents")
    top_n = body.get("top_n")
    if top_n is not None and (not isinstance(top_n, int) or top_n < 1):
        raise BadRequestError("top_n must be a whole number from 1")
    try:
        scores, tokens = _loaded(_cross_encoder).scores(query, documents)
    except ValueError as error:
        raise BadRequestError(str(error)) from None
    rows = [{"index": i, "relevance_score": score} for i, score in enumerate(scores)]
    rows.sort(key=lambda row: -row["relevance_score"])
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"model": RERANK_MODEL, "results": rows[:top_n], "usage": usage})


def chat(body: dict[str, Any]) -> Response:
    """Answer the last user message from the passages in it by quoting; streamed word by word if asked."""
    _check_model(body, CHAT_MODEL)
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BadRequestError("messages must be a list of objects")
    user = next((m.get("content") for m in reversed(messages) if m.get("role") == "user"), None)
    if not isinstance(user, str):
        raise BadRequestError("messages hold no user message with text")
    question, passages = prompt.read_back(user)
    try:
        text = extractive.answer(_loaded(_cross_encoder), question, passages)
    except ValueError as error:
        raise BadRequestError(str(error)) from None
    base = {"id": "chatcmpl-builtin", "created": int(time.time()), "model": CHAT_MODEL}
    if body.get("stream"):
        return StreamingResponse(_stream(base, text), media_type="text/event-stream")
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return JSONResponse({**base, "object": "chat.completion", "choices": [choice]})


def _stream(base: dict[str, Any], text: str) -> Iterator[str]:
    def event(delta: dict[str, str], finish: str | None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return f"data: {json.dumps({**base, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"

    yield event({"role": "assistant", "content": ""}, None)
    for word in text.split(" "):
        yield event({"content": word + " "}, None)
    yield event({}, "stop")
    yield "data: [DONE]\n\n"


async def models(request: Request) -> Response:
    """List the models served."""
    rows = [{"id": name, "object": "model", "owned_by": "builtin"} for name in (EMBEDDING_MODEL, RERANK_MODEL, CHAT_MODEL)]
    return JSONResponse({"object": "list", "data": rows})


def _post(serve: Callable[[dict[str, Any]], Response]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            try:
                body = json.loads(await request.body())
            except ValueError:
                raise BadRequestError("the request body is not JSON") from None
            if not isinstance(body, dict):
                raise BadRequestError("the request body is not a JSON object")
            return await run_in_threadpool(serve, body)
        except BadRequestError as error:
            return _error(error.status, str(error), error.code)
        except RagError as error:
            return _error(500, str(error), "model_unavailable")
        except Exception as error:
            log.exception("the built-in gateway failed")
            return _error(500, f"{type(error).__name__}: {error}", "internal_error")

    return endpoint


def _error(status: int, message: str, code: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error", "code": code}}, status)


app = Starlette(
    routes=[
        Route("/v1/models", models),
        Route("/v1/embeddings", _post(embeddings), methods=["POST"]),
        Route("/v1/rerank", _post(rerank), methods=["POST"]),
        Route("/v1/chat/completions", _post(chat), methods=["POST"]),
    ]
)
