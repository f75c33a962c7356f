"""The built-in models behind the three endpoints of a gateway: /v1/embeddings, /v1/rerank, /v1/chat/completions."""

import json
import logging
import threading
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rag_app import prompt
from rag_app.builtin import CHAT_MODEL, E5, EMBEDDING_MODELS, LATE_INTERACTION, RERANK_MODEL, RERANK_MODELS, extractive
from rag_app.builtin.late import KeptTokens
from rag_app.builtin.models import CrossEncoder, Embedder, EnglishEmbedder, LateInteraction
from rag_app.errors import RagError

log = logging.getLogger(__name__)
Model = TypeVar("Model")
_loading = threading.Lock()
_models: dict[type, Any] = {}
Serve = Callable[["Models", dict[str, Any]], Response]


class BadRequestError(Exception):
    """A request that the gateway cannot serve; becomes an OpenAI-shaped error."""

    def __init__(self, message: str, status: int = 400, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Models:
    """The models: each loaded when it is first asked for, once in a process."""

    def __init__(self, kept: KeptTokens) -> None:
        """`kept` has the token vectors of passages, for late interaction."""
        self.kept = kept
        self.names = [*EMBEDDING_MODELS, *RERANK_MODELS, CHAT_MODEL]

    def embed(self, name: str, texts: list[str]) -> tuple[np.ndarray, int]:
        """Return the vectors of texts, and the number of tokens read."""
        return _loaded(Embedder).embed(texts, self.kept) if name == E5 else _loaded(EnglishEmbedder).embed(texts)

    def reranker(self, name: str, keep: bool = True) -> LateInteraction | CrossEncoder:
        """Return a reranker; `keep`: whether the passages may be met again."""
        return LateInteraction(_loaded(Embedder), self.kept, keep) if name == LATE_INTERACTION else _loaded(CrossEncoder)


def _loaded(kind: type[Model]) -> Model:
    # Two first requests at once must not load it twice.
    with _loading:
        if kind not in _models:
            _models[kind] = kind()
        model: Model = _models[kind]
        return model


def _named(body: dict[str, Any], served: tuple[str, ...]) -> str:
    """Return the model that a request names; BadRequestError if it is none of those served."""
    name = body.get("model")
    if name not in served:
        raise BadRequestError(f"model {name!r} is not served here, but {' and '.join(served)}", 404, "model_not_found")
    return str(name)


def _texts(value: Any, field: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadRequestError(f"{field} must be a text or a list of texts, not empty")
    return texts


def embeddings(models: Models, body: dict[str, Any]) -> Response:
    """Embed `input`, a text or a list of texts, as numbers or in base64."""
    name = _named(body, EMBEDDING_MODELS)
    if _are_token_ids(body.get("input")):
        raise BadRequestError("input must be text: token ids are of another model's tokenizer")
    if (form := body.get("encoding_format") or "float") not in ("float", "base64"):
        raise BadRequestError("encoding_format must be float or base64")
    texts = _texts(body.get("input"), "input")
    vectors, tokens = models.embed(name, texts)
    if body.get("dimensions") not in (None, vectors.shape[1]):
        raise BadRequestError(f"dimensions must be {vectors.shape[1]}: the model has no others")
    shown = vectors.tolist() if form == "float" else [b64encode(v.astype("<f4").tobytes()).decode() for v in vectors]
    rows = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(shown)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "model": name, "data": rows, "usage": usage})


def rerank(models: Models, body: dict[str, Any]) -> Response:
    """Score `documents` against `query`; scores are as the model gives them, results sorted, at most `top_n` of them."""
    reranker = models.reranker(_named(body, RERANK_MODELS))
    query = body.get("query")
    if not isinstance(query, str) or not query.strip():
        raise BadRequestError("query must be a text, not empty")
    given = body.get("documents")
    documents = _texts([_text_of(one) for one in given] if isinstance(given, list) else given, "documents")
    top_n = body.get("top_n")
    if top_n is not None and (not isinstance(top_n, int) or top_n < 1):
        raise BadRequestError("top_n must be a whole number from 1")
    try:
        scores, tokens = reranker.scores(query, documents)
    except ValueError as error:
        raise BadRequestError(str(error)) from None
    rows: list[dict[str, Any]] = [{"index": i, "relevance_score": score} for i, score in enumerate(scores)]
    rows.sort(key=lambda row: -row["relevance_score"])
    if body.get("return_documents"):
        rows = [{**row, "document": {"text": documents[row["index"]]}} for row in rows]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    # What Cohere's own client wants to find.
    cohere = {"id": "rerank-builtin", "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}}
    return JSONResponse({**cohere, "model": reranker.name, "results": rows[:top_n], "usage": usage})


def chat(models: Models, body: dict[str, Any]) -> Response:
    """Answer the last user message from the passages in it by quoting; streamed word by word if asked."""
    _named(body, (CHAT_MODEL,))
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BadRequestError("messages must be a list of objects")
    user = _content(next((m.get("content") for m in reversed(messages) if m.get("role") == "user"), None))
    if not user:
        raise BadRequestError("messages hold no user message with text")
    question, passages = prompt.read_back(user)
    try:
        judge = models.reranker(RERANK_MODEL, keep=False)
        text = extractive.answer(judge, question, passages)
    except ValueError as error:
        raise BadRequestError(str(error)) from None
    base = {"id": "chatcmpl-builtin", "created": int(time.time()), "model": CHAT_MODEL}
    n_prompt, n_answer = (judge.count(part) for part in (user, text))
    usage = {"prompt_tokens": n_prompt, "completion_tokens": n_answer, "total_tokens": n_prompt + n_answer}
    if body.get("stream"):
        options = body.get("stream_options")
        wanted = isinstance(options, dict) and options.get("include_usage")
        return StreamingResponse(_stream(base, text, usage if wanted else None), media_type="text/event-stream")
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return JSONResponse({**base, "object": "chat.completion", "choices": [choice], "usage": usage})


def _stream(base: dict[str, Any], text: str, usage: dict[str, int] | None) -> Iterator[str]:
    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        return f"data: {json.dumps({**base, 'object': 'chat.completion.chunk', 'choices': choices, **more})}\n\n"

    yield event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
    for word in text.split(" "):
        yield event([{"index": 0, "delta": {"content": word + " "}, "finish_reason": None}])
    yield event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    if usage:
        yield event([], usage=usage)
    yield "data: [DONE]\n\n"


def _content(content: Any) -> str:
    """Return the text of a message's content: text, or a list of parts of which some are text."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict) and part.get("type") == "text")
    return content if isinstance(content, str) else ""


def _text_of(document: Any) -> Any:
    """Return the text of a document that is an object, as Cohere's first interface allows."""
    return document.get("text") if isinstance(document, dict) else document


def _are_token_ids(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, int) or (isinstance(first, list) and bool(first) and isinstance(first[0], int))


def _listed(models: Models) -> Callable[[Request], Awaitable[Response]]:
    """Return what lists the models served, or tells of one."""
    listed = {name: {"id": name, "object": "model", "created": 0, "owned_by": "builtin"} for name in models.names}

    async def endpoint(request: Request) -> Response:
        if (name := request.path_params.get("name")) is None:
            return JSONResponse({"object": "list", "data": list(listed.values())})
        if name not in listed:
            return _error(404, f"model {name!r} is not served here", "model_not_found")
        return JSONResponse(listed[name])

    return endpoint


def _post(models: Models, serve: Serve) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            try:
                body = json.loads(await request.body())
            except ValueError:
                raise BadRequestError("the request body is not JSON") from None
            if not isinstance(body, dict):
                raise BadRequestError("the request body is not a JSON object")
            return await run_in_threadpool(serve, models, body)
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


class OnlyThisMachine:
    """Turns away what reached the port by another name, or from a page of another origin: a browser can be led here."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        host, origin = f"//{headers.get('host', '')}", headers.get("origin")
        names = [urlsplit(host).hostname, *([urlsplit(origin).hostname] if origin else [])]
        if scope["type"] == "http" and not set(names) <= {"127.0.0.1", "localhost", "::1"}:
            await _error(403, "only programs of this machine are served", "forbidden")(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def application(kept: KeptTokens) -> Starlette:
    """Return the gateway; `kept` holds token vectors from one run to the next."""
    models = Models(kept)
    paths: dict[str, Serve] = {
        "/v1/embeddings": embeddings,
        "/v1/rerank": rerank,
        # Where Cohere's own client looks.
        "/v2/rerank": rerank,
        "/v1/chat/completions": chat,
    }
    return Starlette(
        middleware=[Middleware(OnlyThisMachine)],
        routes=[
            *(Route(path, _listed(models)) for path in ("/v1/models", "/v1/models/{name:path}")),
            *(Route(path, _post(models, serve), methods=["POST"]) for path, serve in paths.items()),
        ],
    )
