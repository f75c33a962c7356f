"""The doctor: asks each endpoint something with a known answer, and says what to do where it does not come."""

import difflib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from rag_app import prompt
from rag_app.endpoints import openai_client
from rag_app.endpoints.breaker import Breaker
from rag_app.endpoints.chat import SYSTEM, Chat
from rag_app.endpoints.embeddings import Embeddings
from rag_app.endpoints.endpoint import Endpoint, Stage, setting_name
from rag_app.endpoints.failures import EndpointError
from rag_app.endpoints.limits import TRY_TIMEOUT
from rag_app.endpoints.opening import connect, open_embeddings
from rag_app.endpoints.rerank import Reranker
from rag_app.errors import RagError
from rag_app.settings import Settings
from rag_app.store.opening import open_store
from rag_app.store.stored import EmptyCollectionError
from rag_app.types import Candidate, Ranking, Record, seconds
from rag_app.words import Said, joined, msg

QUESTION = "What is the capital of France?"
# Most to least relevant.
KNOWN = (
    "Paris is the capital of France.",
    "France has many cities, Lyon among them.",
    "Bananas are yellow when they are ripe.",
)
CODE_QUESTION, CODE_PASSAGE, CODE_WORD = "What is the code word of the day?", "The code word of the day is kestrel.", "kestrel"


class Finding(Record):
    """One thing looked at; `remedy` says what to do unless it is ok."""

    part: Literal["embeddings", "rerank", "chat", "chroma"]
    check: str
    status: Literal["ok", "warn", "fail"]
    detail: Said
    remedy: Said = ""


class Diagnosis(Record):
    """All findings; healthy if none failed."""

    healthy: bool
    findings: tuple[Finding, ...]


# What a kind of failure says about the endpoint.
_CHECKS = {
    "unreachable": "reachable",
    "timeout": "reachable",
    "auth": "key",
    "quota": "key",
    "rate": "key",
    "model": "model",
    "url": "address",
    "redirect": "address",
    "too_many": "limits",
    "too_long": "limits",
    "trust": "reachable",
    "filtered": "answers",
    "text": "answers",
    "request": "shape",
    "reply": "shape",
    "server": "reachable",
}


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield what is found, part by part, as it is found; never raises for what an endpoint or the store does."""
    dimension: list[int] = []
    with ExitStack() as opened:
        yield from _part("embeddings", lambda: _embeddings(settings, opened, dimension))
        yield from _part("rerank", lambda: _rerank(settings, opened))
        yield from _part("chat", lambda: _chat(settings, opened))
        yield from _part("chroma", lambda: _chroma(settings, opened, dimension[0] if dimension else None))


def _part(
    part: Literal["embeddings", "rerank", "chat", "chroma"], look: Callable[[], Iterator[tuple[str, ...]]]
) -> Iterator[Finding]:
    """Turn a part's (check, status, detail, remedy) into findings, and an error that ends it into the last of them."""
    try:
        for check, status, detail, *remedy in look():
            found = {"part": part, "check": check, "status": status, "detail": detail, "remedy": remedy[0] if remedy else ""}
            yield Finding.model_validate(found)
    except EndpointError as error:
        yield Finding(part=part, check=_CHECKS[error.kind], status="fail", detail=error.reason, remedy=error.remedy)
    except RagError as error:
        check = "collection" if part == "chroma" else "settings"
        yield Finding(part=part, check=check, status="fail", detail=error.happened, remedy=error.remedy)


def _embeddings(settings: Settings, opened: ExitStack, dimension: list[int]) -> Iterator[tuple[str, ...]]:
    yield from _address(settings, "EMBEDDING")
    client = opened.enter_context(closing(open_embeddings(settings)))
    with _explained(client.endpoint, settings):
        start = time.perf_counter()
        asked, _ = client.question(QUESTION)
        ms = (time.perf_counter() - start) * 1000
    dimension.append(len(asked))
    found = msg(
        "{model} at {address}, {n} dimensions, {time}",
        model=client.endpoint.model,
        address=client.endpoint.address,
        n=len(asked),
        time=seconds(ms),
    )
    yield "answers", "ok", found
    vectors = np.concatenate([batch.vectors for batch in client.passages(KNOWN)])
    cosines = (vectors @ asked) / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(asked))
    if int(np.argmax(cosines)) == 0 and float(np.ptp(cosines)) > 1e-6:
        yield "order", "ok", msg("a known question finds its answer")
    else:
        shown = joined(", ", [f"{cosine:.3f}" for cosine in cosines])
        yield (
            "order",
            "fail",
            msg("a known question does not find its answer (cosines {cosines})", cosines=shown),
            msg("check RAG_EMBEDDING_MODEL and its prefixes RAG_EMBEDDING_QUESTION_PREFIX, RAG_EMBEDDING_PASSAGE_PREFIX"),
        )
    yield from _left_out(client.optional.left_out, "EMBEDDING")
    size = settings.embedding_batch_size
    list(client.passages(["A short text."] * size))
    if client.limit.learned:
        remedy = msg("set RAG_EMBEDDING_BATCH_SIZE={n}", n=client.limit.value)
        yield "limits", "warn", msg("takes fewer than {n} texts at once", n=size), remedy
    else:
        yield "limits", "ok", msg("takes {n} texts at once", n=size)


def _rerank(settings: Settings, opened: ExitStack) -> Iterator[tuple[str, ...]]:
    yield from _address(settings, "RERANK")
    settings = settings.model_copy(update={"rerank_on_failure": "error"})
    endpoint = connect(settings, "RERANK")
    client = opened.enter_context(closing(Reranker(endpoint, settings, Breaker())))
    try:
        with _explained(endpoint, settings):
            # The best comes last, so that a server that only keeps the order is found out.
            reranked, receipt = client.rerank(QUESTION, _candidates(KNOWN[::-1]))
    except EndpointError as error:
        if error.kind in ("url", "request", "reply", "redirect") and (found := _elsewhere(endpoint, settings)):
            yield _CHECKS[error.kind], "fail", error.reason, found
            return
        raise
    answered = msg("{model} at {address}, {time}", model=endpoint.model, address=endpoint.address, time=seconds(receipt.ms))
    yield "answers", "ok", answered
    if client.dialect != settings.rerank_dialect and client.dialect == "tei":
        yield "shape", "ok", msg("detected as TEI; RAG_RERANK_DIALECT=tei skips the detection")
    else:
        yield "shape", "ok", client.dialect
    scores = [c.rerank.score for c in reranked if c.rerank]
    shown = joined(", ", [f"{score:.4g}" for score in scores[::-1]])
    if len(scores) < len(KNOWN):
        remedy = msg("check RAG_RERANK_PARAMETERS for a limit: the reply leaves documents out")
        yield "order", "fail", msg("{n} of {of} documents got a score", n=len(scores), of=len(KNOWN)), remedy
    elif len(set(scores)) == 1:
        remedy = msg("check that RAG_RERANK_MODEL is a reranker, and the gateway's mapping of its scores")
        yield "order", "fail", msg("every document gets the same score ({scores})", scores=shown), remedy
    elif reranked[-1].rerank and reranked[-1].rerank.rank == 1:
        yield "order", "ok", msg("a known answer comes first (scores {scores})", scores=shown)
    else:
        remedy = msg("set RAG_RERANK_MODEL to a reranker for this language: this one makes ranking worse")
        yield "order", "fail", msg("a known answer does not come first (scores {scores})", scores=shown), remedy
    n = settings.n_candidates
    client.rerank(QUESTION, _candidates(KNOWN[i % len(KNOWN)] for i in range(n)))
    size = client.limit.value
    if client.limit.learned and size < n:
        yield (
            "limits",
            "warn",
            msg("takes fewer than {n} documents at once", n=n),
            msg("set RAG_RERANK_MAX_DOCUMENTS={n}", n=size),
        )
    elif size < n:
        yield "limits", "ok", msg("takes {n} documents in batches of {size}", n=n, size=size)
    else:
        yield "limits", "ok", msg("takes {n} documents at once", n=n)


def _chat(settings: Settings, opened: ExitStack) -> Iterator[tuple[str, ...]]:
    yield from _address(settings, "CHAT")
    client = opened.enter_context(closing(Chat(connect(settings, "CHAT"))))
    passages = list(_candidates((CODE_PASSAGE, KNOWN[-1])))
    answering = client.answer(prompt.messages(CODE_QUESTION, passages), passages)
    with _explained(client.endpoint, settings):
        list(answering)
    answer = answering.answer
    if answer is None:
        raise client.endpoint.error("reply", msg("the answer did not finish"))
    answered = msg(
        "{model} at {address}, time to first token {time}",
        model=answer.model,
        address=client.endpoint.address,
        time=seconds(answering.first_token_ms or answering.ms),
    )
    yield "answers", "ok", answered
    said, another = repr(answer.text[:80]), msg("try another RAG_CHAT_MODEL")
    if CODE_WORD not in answer.text.lower():
        yield "order", "fail", msg("misses an answer that is in its passages: {said}", said=said), another
    elif [citation.marker for citation in answer.citations] != [1]:
        yield "citations", "warn", msg("answers without citing [1]: {said}", said=said), another
    else:
        yield "citations", "ok", msg("answers from its passage and cites it")
    yield from _left_out(client.optional.left_out, "CHAT")
    if answer.finish != "stop":
        yield (
            "shape",
            "warn",
            msg("the stream ends with {finish}", finish=repr(answer.finish)),
            msg("check the server's token limit: answers may be cut short"),
        )


def _left_out(fields: Iterable[str], stage: Stage) -> Iterator[tuple[str, ...]]:
    """Yield what an endpoint refuses by name and is asked without, with the setting that spares the first refusal."""
    if named := sorted(fields):
        refused = msg("refuses {fields}, and is asked without", fields=joined(", ", named))
        extra = {name: None for name in named if name != SYSTEM}
        setting = f"{setting_name(stage, 'PARAMETERS')}={json.dumps(extra)}"
        yield (
            "shape",
            "ok",
            msg("{refused}; {setting} spares the first refusal", refused=refused, setting=setting) if extra else refused,
        )


def _chroma(settings: Settings, opened: ExitStack, dimension: int | None) -> Iterator[tuple[str, ...]]:
    start = time.perf_counter()
    try:
        store = opened.enter_context(open_store(settings))
    except EmptyCollectionError:
        place = settings.chroma_url or settings.chroma_path
        yield (
            "collection",
            "warn",
            msg("{name} in {place} is empty", name=settings.collection, place=place),
            msg("run `rag-app ingest PATH`"),
        )
        return
    n = store.count()
    ms = (time.perf_counter() - start) * 1000
    found = msg("{name} in {place}, {n} chunks, {time}", name=settings.collection, place=store.place, n=n, time=seconds(ms))
    yield "collection", "ok", found
    model = settings.endpoint("EMBEDDING").model
    reindex = msg("set the old model again, or run `rag-app reindex`")
    if (made := store.recipe.get("embedding_model")) != model:
        differs = msg("the collection was made with embedding model {made}, not {model}", made=repr(made), model=repr(model))
        yield "model", "fail", differs, reindex
    elif dimension is not None and store.dimension != dimension:
        differs = msg(
            "the collection has {stored} dimensions, {model} returns {n}", stored=store.dimension, model=model, n=dimension
        )
        yield "dimension", "fail", differs, reindex
    else:
        yield "dimension", "ok", msg("{n} dimensions, by {model}", n=store.dimension, model=model)


def _address(settings: Settings, stage: Stage) -> Iterator[tuple[str, ...]]:
    """Yield a warning where a URL was put right before it was used."""
    name, given = _given(settings, stage)
    path = urlsplit(given).path
    if any(f"/v{n}/v{n}" in path for n in (1, 2)):
        yield (
            "address",
            "warn",
            msg("{name} repeats the version in its path", name=name),
            msg("change it to {address}, the address that is used", address=settings.endpoint(stage).address),
        )


def _given(settings: Settings, stage: Stage) -> tuple[str, str]:
    """Return the setting that a stage has its address from, and its value."""
    own: str = getattr(settings, f"{stage.lower()}_url")
    return (setting_name(stage, "URL"), own) if own else ("RAG_BASE_URL", settings.base_url)


@contextmanager
def _explained(endpoint: Endpoint, settings: Settings) -> Iterator[None]:
    """Add to an error what can be found out: that no key is set, which models there are, where the endpoint answers."""
    try:
        yield
    except EndpointError as error:
        if error.kind == "auth" and not endpoint.key.get_secret_value():
            remedy = msg("set RAG_API_KEY or {key}: no key is set", key=setting_name(endpoint.stage, "API_KEY"))
            raise endpoint.error("auth", error.reason, remedy) from error
        if error.kind == "model" and (listed := _models(endpoint)):
            near = difflib.get_close_matches(endpoint.model, listed, 3, 0.3) or listed[:5]
            remedy = msg("{remedy}: it has {models}", remedy=error.remedy, models=joined(", ", near))
            raise endpoint.error("model", error.reason, remedy) from error
        if error.kind == "url" and endpoint.stage != "RERANK" and (base := _other_base(endpoint)):
            remedy = msg("set {setting}={value}", setting=_given(settings, endpoint.stage)[0], value=base)
            raise endpoint.error("url", error.reason, remedy) from error
        raise


def _models(endpoint: Endpoint) -> list[str]:
    """Return the models that an endpoint lists, or nothing if it lists none."""
    parts = urlsplit(endpoint.url)
    path = parts.path.rpartition("/")[0] if endpoint.stage == "RERANK" else parts.path
    base = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
    return openai_client.models(replace(endpoint, url=base, timeout=TRY_TIMEOUT))


def _other_base(endpoint: Endpoint) -> str:
    """Return the base URL at which the same host embeds or chats, or ""."""
    parts = urlsplit(endpoint.url)
    for path in dict.fromkeys(f"{start.rstrip('/')}/v1" for start in (parts.path, "", "/api", "/openai", "/compatible-mode")):
        base = urlunsplit(parts._replace(path=path))
        there = replace(endpoint, url=base, timeout=TRY_TIMEOUT)
        client = Embeddings(there, "", "", 1, 1) if endpoint.stage == "EMBEDDING" else Chat(there)
        with closing(client), suppress(EndpointError):
            if isinstance(client, Embeddings):
                client.question(QUESTION)
            else:
                client.reply([{"role": "user", "content": QUESTION}])
            return base
    return ""


def _elsewhere(endpoint: Endpoint, settings: Settings) -> str:
    """Return the settings with which the same host does rerank, or ""."""
    parts = urlsplit(endpoint.url)
    below = f"{parts.path.removesuffix('/rerank').rstrip('/')}/v1/rerank"
    for path in dict.fromkeys(("/v1/rerank", "/rerank", "/api/v1/rerank", below)):
        for dialect in ("auto", "tei"):
            if (path, dialect) == (parts.path, settings.rerank_dialect):
                continue
            url = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
            changed = settings.model_copy(update={"rerank_dialect": dialect, "rerank_deadline": TRY_TIMEOUT})
            client = Reranker(replace(endpoint, url=url), changed, Breaker())
            try:
                client.rerank(QUESTION, _candidates(KNOWN))
            except EndpointError:
                continue
            finally:
                client.close()
            if client.dialect == "tei":
                return msg("set RAG_RERANK_URL={url} and RAG_RERANK_DIALECT=tei: it is a TEI", url=url)
            return msg("set RAG_RERANK_URL={url}", url=url)
    return ""


def _candidates(texts: Iterable[str]) -> list[Candidate]:
    return [
        Candidate(
            id=str(i),
            document="doctor",
            title="",
            headings=(),
            page=None,
            position=i,
            start=0,
            end=len(text),
            language="en",
            text=text,
            retrieval=Ranking(rank=i + 1, score=0.0),
        )
        for i, text in enumerate(texts)
    ]
